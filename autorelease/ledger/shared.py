"""The live rows whose sid another row has, too, where the table does not exclude that.

The sids are read in slices and compared in a private temporary database: no writer waits while they are.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from itertools import islice, starmap

from autorelease.ledger.binding import is_undecodable
from autorelease.ledger.lookup import SIDS_AT_ONCE
from autorelease.ledger.pace import Pace
from autorelease.ledger.rows import StoredRow
from autorelease.ledger.slices import Position, Slice, bindables, places
from autorelease.ledger.walking import Walking, read_position, written_position
from autorelease.model import RawValue
from autorelease.sqlitefile import connect_private, quoted, speaking_of

PLACE = "the temporary file of a census (in SQLITE_TMPDIR, TMPDIR or /var/tmp)"
# place: of a live row, where it is found again; an integer, or the whole key as text.
TABLE = "CREATE TABLE sids (sid COLLATE {collation}, place)"
Row = tuple[RawValue, RawValue]


def shared_sids(sid: str, table: str, admitted: str = "1") -> str:
    """SQL for the sids that `_matching` finds more than one row for."""
    is_one = f"typeof({sid}) IN ('integer', 'text')"
    return (
        f"SELECT {sid} FROM {table} WHERE {admitted} AND ({sid} IN "
        f"(SELECT {sid} FROM {table} WHERE {admitted} GROUP BY {sid} HAVING count(*) > 1) "
        f"OR {is_one} AND CAST({sid} AS TEXT) IN (SELECT CAST({sid} AS TEXT) FROM {table} "
        f"WHERE {admitted} AND {is_one} GROUP BY 1 HAVING count(*) > 1))"
    )


class Sharing(Walking):
    """What shares a sid is invalid, whichever of the rows is meant."""

    def _rows_of_shared_sids(self) -> Iterator[StoredRow]:
        """The live rows with such a sid; those that are invalid by their sid alone may be left out."""
        collation = self._collation_of_sid if self._key().columns else None
        # Not every view has a key; and what an application's own collation takes for equal is for that alone to say.
        if collation is None:
            yield from self._in_one_read()
            return
        with closing(self._on_firm_ground(lambda pace: self._sids(pace, collation))) as sids:
            rows = _read_shared(sids)
            while group := list(islice(rows, SIDS_AT_ONCE)):
                yield from self._found_again(group)

    def _in_one_read(self) -> Iterator[StoredRow]:
        with self._file.in_use():
            cursor = self.connection.execute(
                f"SELECT {self._select} FROM {self._table} WHERE {self._live} "
                f"AND {self._column('sid')} IN ({shared_sids(self._column('sid'), self._table, self._admitted)})"
            )
            for values in cursor:
                yield StoredRow(*values)

    def _sids(self, pace: Pace, collation: str) -> sqlite3.Connection:
        """All sids of ours."""
        with ExitStack() as unless_whole:
            sids = connect_private(PLACE, [TABLE.format(collation=quoted(collation))])
            unless_whole.callback(sids.close)
            for rows in self._sliced(lambda page: (self._sids_of(page), page.last), pace):
                with speaking_of(PLACE):
                    sids.executemany("INSERT INTO sids VALUES (?, ?)", rows)
            unless_whole.pop_all()
        return sids

    def _sids_of(self, page: Slice) -> list[Row]:
        sid = self._column("sid")
        rows = self.connection.execute(
            f"SELECT {sid}, {self._live}, {', '.join(page.key.columns)} FROM {self._table} {page.key.hint} "
            f"WHERE {page.condition} AND {self._admitted} AND typeof({sid}) IN ('integer', 'text', 'real')",
            page.values,
        )
        return [(sid, _place(at) if is_live else None) for sid, is_live, *at in rows if not is_undecodable(sid)]

    def _found_again(self, rows: Iterable[Row]) -> list[StoredRow]:
        """Those that have still the same sid, and are live."""
        found = []
        with self._file.in_use(), self._reading():
            key = self._key()
            for sid, place in rows:
                at = read_position(place) if isinstance(place, str) else [place]
                there = self.connection.execute(
                    f"SELECT {self._select} FROM {self._table} {key.hint} WHERE {self._live} "
                    f"AND {key.row} = {places(at)}",
                    bindables(at),
                )
                # As stored: to Python, too, 7 and 7.0 are one.
                found += [row for row in starmap(StoredRow, there) if (type(row.sid), row.sid) == (type(sid), sid)]
        return found


def _place(at: Position) -> RawValue:
    return at[0] if len(at) == 1 and isinstance(at[0], int) else written_position(at)


def _read_shared(sids: sqlite3.Connection) -> Iterator[Row]:
    with speaking_of(PLACE):
        # Rows of a view have the same place if they have the same sid.
        statement = (
            f"SELECT DISTINCT sid, place FROM sids WHERE place IS NOT NULL AND sid IN ({shared_sids('sid', 'sids')})"
        )
        # Row by row: there may be as many as the table has.
        for row in sids.execute(statement):  # noqa: UP028
            yield row
