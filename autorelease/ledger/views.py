"""A view as a ledger: what it shows is judged, and its base table is stamped.

Never an UPDATE of the view: where a trigger carries it out its count of rows means nothing, and a row that was renewed
meanwhile is stamped. Everything here is asked within the transaction of the stamp.
"""

import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence

from autorelease.ledger import Stamp
from autorelease.ledger.lookup import Lookup
from autorelease.ledger.rows import StoredRow, read_row
from autorelease.ledger.rules import Row
from autorelease.ledger.values import shown
from autorelease.model import Allocation, InvalidRow, RawValue

# Where a count of the view takes longer it is made once, and not with every group of stamps.
CHEAP_SECONDS = 0.01
NAMED = 5


class Through(Lookup):
    """What a view shows before a stamp and after it. Of a table there is nothing to ask."""

    _count_took = 0.0
    _is_counted = False

    def read_many(self, sids: Sequence[str]) -> Mapping[str, Allocation | InvalidRow]:
        """The rows with these sids as they are now, those that the view leaves out as Released among them.

        Without these nobody would know what became of a release whose run was killed right after its stamp.
        """
        rows = dict(super().read_many(sids))
        for sid in sids:
            if sid not in rows and (row := self._left_out(sid)) is not None:
                rows[sid] = row
        return rows

    def _by_index(self, sids: Sequence[str]) -> Mapping[str, Sequence[StoredRow]]:
        # SQLite makes the whole of a view of several tables before it joins it to what is wanted.
        return {sid: self._matching(sid) for sid in sids} if self._is_view else super()._by_index(sids)

    def _shared(self, sids: Sequence[int | str]) -> Iterator[int | str]:
        if self._is_view and self._is_sid_indexed:
            return (sid for sid in sids if len(self._matching(sid)) > 1)
        return super()._shared(sids)

    def _left_out(self, sid: str) -> Allocation | InvalidRow | None:
        if self._base is None:
            return None
        with self._file.in_use():
            is_released = self._base.is_released(self.connection, sid)
        return read_row(StoredRow(sid, self._words.released, None), self._words) if is_released else None

    def _is_as_judged(self, row: Row, allocation: Allocation) -> bool:
        """Whether the view shows one row of these judged values, reads as it was read, and no other has its sid."""
        found = self.connection.execute(f"SELECT count(*) FROM {self._table} WHERE {row.condition}", row.values)
        if found.fetchone() != (1,):
            return False
        now = [read_row(stored, self._words) for stored in self._matching(allocation.raw.sid)]
        return [isinstance(each, Allocation) and each.judged() == allocation.judged() for each in now] == [True]

    def _check_shown_settled(self, sid: RawValue) -> None:
        """Raise IntegrityError where the view still shows as live what was stamped."""
        rows = self._matching(sid)
        if len(rows) > 1 or any(not self._is_settled(row) for row in rows):
            raise sqlite3.IntegrityError(
                f"after the stamp of {self._base} the view {self._name!r} still shows sid {shown(sid)} as live. "
                "[ledger.stamp] must name the table and the column that the view makes its status of, and as released "
                f"the value that it shows as {self._words.released!r}"
            )

    def _is_settled(self, row: StoredRow) -> bool:
        judged = read_row(row, self._words)
        return isinstance(judged, Allocation) and judged.settled

    def _count_live(self) -> int | None:
        """How many live rows the view shows. None: it is a table; or once was enough, because a count takes long."""
        if self._base is None or (self._is_counted and self._count_took > CHEAP_SECONDS):
            return None
        return self._number_live()

    def _number_live(self) -> int:
        began = time.monotonic()
        [rows] = self.connection.execute(f"SELECT count(*) FROM {self._table} WHERE {self._live}").fetchone()
        self._count_took = time.monotonic() - began
        return int(rows)

    def _check_gone(self, before: int | None, stamps: Sequence[Stamp], stamped: int) -> None:
        """Raise IntegrityError where more live rows than were stamped are gone from the view.

        Were they several VMs of one base row, all of them would be taken for released, and all but one left behind.
        before: how many there were.
        """
        if before is None or not stamped:
            return
        gone, self._is_counted = before - self._number_live(), True
        if gone <= stamped:
            return
        sids = ", ".join(shown(stamp.allocation.raw.sid) for stamp in stamps[:NAMED])
        raise sqlite3.IntegrityError(
            f"the stamp of sid {sids} takes {gone} live rows from the view {self._name!r}, where {stamped} "
            f"would be right: several of its rows stand for one row of {self._base}. Each VM needs a status of its own"
        )
