"""Rows by their sid: as they are now, and whether several share one."""

import json
from collections.abc import Mapping, Sequence

from autorelease.ledger.binding import is_undecodable, twin
from autorelease.ledger.connection import LedgerConnection
from autorelease.ledger.rows import StoredRow, read_row
from autorelease.model import Allocation, InvalidRow, RawValue

SHARED_AT_ONCE = 500
SHARED_SID = "sid is shared by several rows"


class Lookup(LedgerConnection):
    """A sid as somebody could mean it: 7 and '7' are one."""

    def read(self, sid: str) -> Allocation | InvalidRow | None:
        """The allocation with this sid as it is now; None: no such row."""
        with self._file.in_use():
            rows = self._matching(sid)
        if len(rows) > 1:
            return InvalidRow(sid, SHARED_SID)
        exact = [row for row in rows if str(row.sid) == sid]
        return read_row(exact[0], self._words) if exact else None

    def read_many(self, sids: Sequence[str]) -> Mapping[str, Allocation | InvalidRow]:
        """The rows with these sids as they are now, in one look; one that is shared by several is any of them."""
        # JSON in SQLite ends a text at a NUL: no such sid is looked for.
        wanted = {sid for sid in sids if "\0" not in sid}
        values = [value for sid in wanted for value in (sid, twin(sid)) if value is not None]
        with self._file.in_use():
            rows = self.connection.execute(
                f"SELECT {self._select} FROM {self._table} "
                f"WHERE {self._column('sid')} IN (SELECT value FROM json_each(?))",
                (json.dumps(values),),
            ).fetchall()
        stored = [StoredRow(*values) for values in rows]
        return {str(row.sid): read_row(row, self._words) for row in stored if str(row.sid) in wanted}

    def stored(self, sid: str) -> Sequence[StoredRow]:
        """The rows that somebody could mean by this sid, as they are stored; two stand for any number above one."""
        with self._file.in_use():
            return self._matching(sid)

    def _matching(self, sid: RawValue) -> list[StoredRow]:
        """At most two rows that somebody could mean by this sid."""
        column = self._column("sid")
        cursor = self.connection.execute(
            f"SELECT {self._select} FROM {self._table} WHERE {column} = ?1 OR "
            f"({column} = ?2 AND typeof({column}) IN ('integer', 'text')) LIMIT 2",
            (sid, twin(sid)),
        )
        return [StoredRow(*values) for values in cursor.fetchall()]

    def _shared_among(self, sids: Sequence[RawValue]) -> set[RawValue]:
        if self._sid_is_unique:
            return set()
        found: set[RawValue] = set()
        for start in range(0, len(sids), SHARED_AT_ONCE):
            chunk = [sid for sid in sids[start : start + SHARED_AT_ONCE] if not is_undecodable(sid)]
            found.update(sid for sid in chunk if len(self._matching(sid)) > 1)
        return found

    @property
    def _shared_sids(self) -> str:
        """SQL for the sids that `_matching` finds more than one row for."""
        sid = self._column("sid")
        is_one = f"typeof({sid}) IN ('integer', 'text')"
        return (
            f"SELECT {sid} FROM {self._table} WHERE {sid} IN "
            f"(SELECT {sid} FROM {self._table} GROUP BY {sid} HAVING count(*) > 1) "
            f"OR {is_one} AND CAST({sid} AS TEXT) IN "
            f"(SELECT CAST({sid} AS TEXT) FROM {self._table} WHERE {is_one} GROUP BY 1 HAVING count(*) > 1)"
        )

    def _judged(self, row: StoredRow, *, shared: bool) -> Allocation | InvalidRow:
        judged = read_row(row, self._words)
        if shared and isinstance(judged, Allocation):
            return InvalidRow(judged.sid, SHARED_SID, judged.raw)
        return judged
