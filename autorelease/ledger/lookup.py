"""Rows by their sid, a page of sids at a time: as they are now, and whether several rows share one."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import starmap

from autorelease.ledger import NOT_ADMITTED, Look
from autorelease.ledger.binding import is_undecodable, twin
from autorelease.ledger.rows import StoredRow
from autorelease.ledger.sids import Sids
from autorelease.ledger.slices import Slice
from autorelease.model import Allocation, InvalidRow, RawValue

SIDS_AT_ONCE = 500
SHARED_SID = "sid is shared by several rows"
TWO = 2


class Lookup(Sids):
    """A sid as somebody could mean it: 7 and '7' are one."""

    def read(self, sid: str) -> Allocation | InvalidRow | None:
        """The allocation with this sid as it is now; None: no such row. One that is not ours is NOT_ADMITTED."""
        return self.read_many([sid]).get(sid)

    def read_many(self, sids: Sequence[str]) -> Mapping[str, Allocation | InvalidRow]:
        """The rows with these sids as they are now; absent: no such row. Up to 500 of them are one look."""
        rows: dict[str, Allocation | InvalidRow] = {}
        wanted = list(dict.fromkeys(sids))
        for start in range(0, len(wanted), SIDS_AT_ONCE):
            page = wanted[start : start + SIDS_AT_ONCE]
            with self._file.in_use():
                found = self._found(page)
                judged = {sid: row for sid, meant in found.items() if (row := self._meant(sid, meant))}
                outside = self._outside([sid for sid in page if sid not in judged])
            rows |= judged | {sid: InvalidRow(sid, NOT_ADMITTED) for sid in outside}
        return rows

    def stored(self, sid: str) -> Sequence[StoredRow]:
        """The rows that somebody could mean by this sid, as they are stored; two stand for any number above one."""
        with self._file.in_use():
            return self._matching(sid)

    def _meant(self, sid: str, rows: Sequence[StoredRow]) -> Allocation | InvalidRow | None:
        """rows: those that somebody could mean by this sid; two stand for any number above one."""
        if len(rows) > 1:
            return InvalidRow(sid, SHARED_SID)
        return self._reader.read(rows[0]) if rows and str(rows[0].sid) == sid else None

    def _outside(self, sids: Sequence[str]) -> Iterator[str]:
        """Those of these sids, of which no row is ours, that a row has which is not ours."""
        wanted = [sid for sid in sids if not is_undecodable(sid)]
        if not wanted or not self._words.where:
            return iter(())
        stored = self._scanned(self._column("sid"), wanted, among="1")
        return iter({str(sid) for (sid,) in stored if isinstance(sid, int | str)}.intersection(wanted))

    def _found(self, sids: Sequence[str]) -> Mapping[str, Sequence[StoredRow]]:
        """For each of these sids the rows that somebody could mean by it; two stand for any number above one."""
        wanted = [sid for sid in sids if not is_undecodable(sid)]
        if not wanted:
            return {}
        if self._is_sid_indexed:
            return self._by_index(wanted)
        if self._is_collated:
            # What the column takes for equal is for SQLite alone to say.
            return {sid: self._matching(sid) for sid in wanted}
        return self._by_scan(wanted)

    @property
    def _is_keyed(self) -> bool:
        """Whether a sid alone is a key. Where others belong to that key, a list of sids would be a scan."""
        return self._sid_is_unique and not self._words.where

    def _by_key(self, sids: Sequence[str]) -> Mapping[str, Sequence[StoredRow]]:
        """The same where no two rows have the same one."""
        rows = self._of_key(self._select, sids)
        # As the column compares it, 007 finds the row 7.
        wanted = set(sids)
        return {sid: [row] for row in starmap(StoredRow, rows) if (sid := str(row.sid)) in wanted}

    def _of_key(self, columns: str, sids: Sequence[str]) -> Iterator[tuple[RawValue, ...]]:
        places = ", ".join("?" * len(sids))
        return self.connection.execute(
            f"SELECT {columns} FROM {self._table} WHERE {self._column('sid')} IN ({places}) AND {self._ours}", sids
        )

    def _statuses_of(self, sids: Sequence[str]) -> Mapping[str, Sequence[RawValue]]:
        """Those of the rows that somebody could mean by these sids."""
        if not self._is_keyed:
            return {sid: [row.status for row in rows] for sid, rows in self._found(sids).items()}
        columns = f"{self._column('sid')}, {self._column('status')}"
        return {str(sid): [status] for sid, status in self._of_key(columns, sids)}

    def _by_index(self, sids: Sequence[str]) -> Mapping[str, Sequence[StoredRow]]:
        """A look-up for each, in one statement; no more than one row comes of a sid that a million rows share."""
        if self._is_keyed:
            return self._by_key(sids)
        cursor = self.connection.execute(
            f"WITH {self._counted(sids)}, single AS (SELECT place, rows, CASE rows WHEN 1 THEN sid END AS sid, "
            f"CASE rows WHEN 1 THEN twin END AS twin FROM counted) SELECT place, rows, {self._select} FROM single "
            f"LEFT JOIN {self._table} ON {self._is_meant('single')}",
            _values(sids),
        )
        found = {}
        for place, count, *values in cursor:
            found[sids[place]] = [StoredRow(*values)] * count
        return found

    def _by_scan(self, sids: Sequence[str]) -> Mapping[str, Sequence[StoredRow]]:
        """One walk through the table for all of them."""
        found: dict[str, list[StoredRow]] = {sid: [] for sid in sids}
        for values in self._scanned(self._select, sids):
            row = StoredRow(*values)
            rows = found.get(str(row.sid), [])
            if len(rows) < TWO and isinstance(row.sid, int | str):
                rows.append(row)
        return found

    def _scanned(
        self, columns: str, sids: Sequence[RawValue], *, among: str | None = None
    ) -> Iterator[tuple[RawValue, ...]]:
        """among: SQL; None: the rows of ours."""
        values = [value for sid in sids for value in (sid, twin(sid)) if value is not None]
        places = ", ".join("(?)" for _ in values)
        condition = f"{self._column('sid')} IN (VALUES {places}) AND {among or self._admitted}"
        is_served = self._is_served(Look.SID, f"SELECT {columns} FROM {self._table} WHERE {condition}", values)
        return iter(self._rows_where(condition, values, columns=columns, is_served=is_served))

    def _counted(self, sids: Sequence[RawValue]) -> str:
        """SQL: for each sid that is wanted, whether no row, one row, or two and more could be meant by it."""
        places = ", ".join("(?, ?, ?)" for _ in sids)
        rows = f"SELECT 1 FROM {self._table} WHERE {self._is_meant('wanted')} LIMIT {TWO}"
        # With a LIMIT of its own it is counted once, and not for every row that is joined to it.
        return (
            f"wanted (place, sid, twin) AS (VALUES {places}), counted AS "
            f"(SELECT place, sid, twin, (SELECT count(*) FROM ({rows})) AS rows FROM wanted LIMIT -1)"
        )

    def _is_meant(self, wanted: str) -> str:
        sid = self._column("sid")
        if self._sid_is_unique:
            return f"{sid} = {wanted}.sid AND {self._ours}"
        is_meant = f"{sid} = {wanted}.sid OR ({sid} = {wanted}.twin AND typeof({sid}) IN ('integer', 'text'))"
        return f"({is_meant}) AND {self._ours}"

    def _matching(self, sid: RawValue) -> list[StoredRow]:
        """At most two rows that somebody could mean by this sid."""
        column = self._column("sid")
        condition = f"({column} = ? OR ({column} = ? AND typeof({column}) IN ('integer', 'text'))) AND {self._ours}"
        values = (sid, twin(sid))
        found = self._rows_where(condition, values, TWO, is_served=self._is_sid_indexed)
        return [StoredRow(*row) for row in found[:TWO]]

    def _rows_where(
        self,
        condition: str,
        values: Sequence[RawValue],
        limit: int = -1,
        *,
        is_served: bool,
        columns: str | None = None,
    ) -> list[tuple[RawValue, ...]]:
        """The rows of which this is so; where no index serves, in slices, of each at most so many."""
        statement = f"SELECT {columns or self._select} FROM {self._table}"
        # Not every view has a key to be walked by; and whoever stamps holds the lock anyhow.
        if is_served or self.connection.in_transaction or not self._key().columns:
            return self.connection.execute(f"{statement} WHERE {condition} LIMIT {limit}", values).fetchall()

        def read(page: Slice) -> list[tuple[RawValue, ...]]:
            of_page = f"{statement} {page.key.hint} WHERE {page.condition} AND {condition} LIMIT {limit}"
            return self.connection.execute(of_page, (*page.values, *values)).fetchall()

        return self._every(read)

    def _shared_among(self, sids: Sequence[RawValue]) -> set[RawValue]:
        """Those of these stored sids that somebody could mean another row by, too."""
        if self._sid_is_unique:
            return set()
        # Every other kind of sid is invalid anyhow. Left out first: 7.0 would stand for 7 in a dictionary.
        usable = (sid for sid in sids if isinstance(sid, int | str) and not is_undecodable(sid))
        wanted = list(dict.fromkeys(usable))
        pages = (wanted[start : start + SIDS_AT_ONCE] for start in range(0, len(wanted), SIDS_AT_ONCE))
        return {sid for page in pages for sid in self._shared(page)}

    def _shared(self, sids: Sequence[int | str]) -> Iterator[int | str]:
        if self._is_sid_indexed:
            cursor = self.connection.execute(
                f"WITH {self._counted(sids)} SELECT place FROM counted WHERE rows > 1", _values(sids)
            )
            return (sids[place] for (place,) in cursor)
        if self._is_collated:
            return (sid for sid in sids if len(self._matching(sid)) > 1)
        rows = Counter(map(_as_compared, self._scanned(self._column("sid"), sids)))
        return (sid for sid in sids if rows[str(sid)] + (rows[float(sid)] if isinstance(sid, int) else 0) > 1)

    def _judged(self, row: StoredRow, *, shared: bool) -> Allocation | InvalidRow:
        judged = self._reader.read(row)
        if shared and isinstance(judged, Allocation):
            return InvalidRow(judged.sid, SHARED_SID, judged.raw)
        return judged


def _values(sids: Sequence[RawValue]) -> Sequence[RawValue]:
    return [value for place, sid in enumerate(sids) for value in (place, sid, twin(sid))]


def _as_compared(row: Sequence[RawValue]) -> str | float:
    """A sid as others are compared with it: 7 and '7' are one; 7.0 is one with 7, and not with '7'."""
    [sid] = row
    return sid if isinstance(sid, float) else str(sid)
