"""The census: all live rows counted, and those that look wrong judged."""

from autorelease.ledger.conditions import constants, is_blank, is_not_set, is_one_of
from autorelease.ledger.lookup import Lookup
from autorelease.ledger.narrowing import certainly_readable, folded_if_plain, perhaps_not_plain
from autorelease.ledger.rows import StoredRow
from autorelease.model import Census, InvalidRow
from autorelease.text import folded

LISTED_INVALID = 1000


class Counting(Lookup):
    """SQL finds a superset of the invalid rows; `rows` says which are."""

    def census(self, acknowledged: frozenset[str] = frozenset()) -> Census:
        """Count the live rows and judge those that look wrong; at most 1,000 of the invalid are listed."""
        suspicious = self._suspicious
        with self._file.in_use():
            live, doubtful = self.connection.execute(
                f"SELECT count(*), coalesce(sum({suspicious}), 0) FROM {self._table} WHERE {self._live}"
            ).fetchone()
            count, known, listed = self._invalid(suspicious, acknowledged) if doubtful else (0, 0, [])
        return Census(live, count, tuple(listed), known, truncated=count > len(listed))

    def _invalid(self, suspicious: str, acknowledged: frozenset[str]) -> tuple[int, int, list[InvalidRow]]:
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
        sid = self._column("sid")
        readable = certainly_readable(self._column("expires_at"), self._words)
        doubts = [
            f"{sid} IS NULL OR {sid} = ''",
            self._doubtful_status,
            *(self._undecodable(role) for role in ("sid", "status", "vm_ref", "vm_uid", "provisioner")),
            f"{self._column('expires_at')} IS NOT NULL AND NOT ({readable})",
        ]
        if self._has("released_at"):
            doubts.append(f"NOT {is_not_set(self._column('released_at'), self._words)}")
        if self._has("deleted_at"):
            doubts.append(is_blank(self._column("deleted_at")))
        if not self._sid_is_unique:
            doubts.append(f"{sid} IN ({self._shared_sids})")
        return f"coalesce({' OR '.join(f'({doubt})' for doubt in doubts if doubt)}, 0)"

    @property
    def _doubtful_status(self) -> str:
        """SQL: a status that is not certainly live."""
        status = self._column("status")
        if self._words.live:
            return f"NOT {is_one_of(status, self._words.live)}"
        if self._words.has_numbers:
            return f"typeof({status}) <> 'integer'"
        settled = constants({folded(str(word)) for word in self._words.settled})
        return f"typeof({status}) <> 'text' OR {folded_if_plain(status)} IN ({settled})"

    def _undecodable(self, role: str) -> str:
        return perhaps_not_plain(self._column(role)) if self._has(role) else ""
