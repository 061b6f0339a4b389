"""The census: all live rows counted, and those that look wrong judged."""

from collections.abc import Container

from autorelease.ledger.lookup import Lookup
from autorelease.ledger.narrowing import certainly_readable, folded_if_plain, literal, perhaps_not_plain
from autorelease.ledger.rows import StoredRow
from autorelease.model import Census, InvalidRow
from autorelease.text import folded

LISTED_INVALID = 1000


class Counting(Lookup):
    """SQL finds a superset of the invalid rows; `rows` says which are."""

    def census(self, acknowledged: Container[str] = frozenset()) -> Census:
        """Count the live rows and judge those that look wrong; at most 1,000 of the invalid are listed."""
        suspicious = self._suspicious
        with self._file.in_use():
            live, doubtful = self.connection.execute(
                f"SELECT count(*), coalesce(sum({suspicious}), 0) FROM {self._table} WHERE {self._live}"
            ).fetchone()
            count, known, listed = self._invalid(suspicious, acknowledged) if doubtful else (0, 0, [])
        return Census(live, count, tuple(listed), known, truncated=count > len(listed))

    def _invalid(self, suspicious: str, acknowledged: Container[str]) -> tuple[int, int, list[InvalidRow]]:
        shared = f"{self._column('sid')} IN ({self._shared_sids})" if not self._sid_is_unique else "0"
        cursor = self.connection.execute(
            f"SELECT {shared}, {self._select} FROM {self._table} WHERE {self._live} AND {suspicious}"
        )
        count = known = 0
        listed: list[InvalidRow] = []
        for is_shared, *values in cursor:
            row = self._judged(StoredRow(*values), shared=bool(is_shared))
            if isinstance(row, InvalidRow):
                count += 1
                known += row.sid in acknowledged
                if len(listed) < LISTED_INVALID:
                    listed.append(row)
        return count, known, listed

    @property
    def _suspicious(self) -> str:
        """SQL for a superset of the invalid rows among the live ones (1, 0, never NULL)."""
        sid, status = self._column("sid"), self._column("status")
        readable = certainly_readable(self._column("expires_at"), self._words)
        settled = ", ".join(
            literal(word) for word in sorted(map(folded, (self._words.released, *self._words.inactive)))
        )
        doubts = [
            f"{sid} IS NULL OR {sid} = ''",
            f"typeof({status}) <> 'text' OR {folded_if_plain(status)} IN ({settled})",
            *(self._undecodable(role) for role in ("sid", "status", "vm_ref", "vm_uid", "provisioner")),
            f"{self._column('expires_at')} IS NOT NULL AND NOT ({readable})",
        ]
        if self._has("released_at"):
            doubts.append(f"{self._column('released_at')} IS NOT NULL")
        if not self._sid_is_unique:
            doubts.append(f"{sid} IN ({self._shared_sids})")
        return f"coalesce({' OR '.join(f'({doubt})' for doubt in doubts if doubt)}, 0)"

    def _undecodable(self, role: str) -> str:
        return perhaps_not_plain(self._column(role)) if self._has(role) else ""
