"""The table itself in slices of its own key: short reads, between which a writer has its turn.

Owns the key and how a slice of it is bounded; must not say what is read of a slice, nor what a row means.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import msgspec

from autorelease.errors import StopReadingError
from autorelease.ledger.binding import bindable, parameter
from autorelease.ledger.pace import EVERYTHING, Pace
from autorelease.ledger.plans import Plans
from autorelease.ledger.rules import schema_version
from autorelease.model import RawValue
from autorelease.sqlitefile import quoted

ROWID_NAMES = ("rowid", "_rowid_", "oid")
BY_ROW_ID = "NOT INDEXED"
# What SQLite says in its plans of a step that reads all of a table, or of a view, whatever is wanted of it.
SORTED = "USE TEMP B-TREE FOR ORDER BY"
SLOW_STEPS = ("SCAN", "USE TEMP", "MATERIALIZE", "CO-ROUTINE", "COMPOUND", "MERGE")
AUTOMATIC = "AUTOMATIC"
# A row that an index points at costs about three times what it costs in the table's own order.
WORTH = 3
# So often a table is begun anew whose rows have got other keys meanwhile; then it is read in one piece.
SLICED_ATTEMPTS = 3
Position = Sequence[RawValue]
Found = TypeVar("Found")


class Key(msgspec.Struct, frozen=True):
    """What a table is kept in the order of. columns: SQL for each; none: the table goes in one page.

    hint: keeps the database from going by an index instead, which may be a damaged one. among: SQL, which rows alone
    are wanted; begin, end: where the first of them are, and the last. is_lasting: a change of the schema gives no row
    another key. is_rest: of an index, the rows that have nothing in its first column. is_unique: no two rows have the
    same key, and each has one; else those without one come first, and those with the same one come together.
    """

    columns: Sequence[str] = ()
    hint: str = ""
    among: str = "1"
    begin: str = "1"
    end: str = "1"
    is_lasting: bool = False
    is_rest: bool = False
    is_unique: bool = True

    @property
    def row(self) -> str:
        """SQL for all of it as one value."""
        return self.row_of(len(self.columns))

    def row_of(self, columns: int) -> str:
        """SQL for so many of its columns as one value."""
        return f"({', '.join(self.columns[:columns])})"


class Slice(msgspec.Struct, frozen=True):
    """One page: the rows behind `after` up to `last`. after None: from the beginning; last None: to the end.

    condition: SQL for that, with its values. An empty position is the one before all rows that have a key. One of the
    first columns alone is behind all rows that have these values there.
    """

    key: Key
    rows: int
    last: Position | None
    condition: str
    values: Position


class MovedError(Exception):
    """The rows may have got other keys while they were read: what was read before is not the half of what is there."""


# What was read of a slice, and where the next one begins; None: there is none.
Read = Callable[[Slice], tuple[Found, Position | None]]


def places(position: Position) -> str:
    """SQL for a value of a key that is bound."""
    return f"({', '.join(map(parameter, position))})"


def bindables(position: Position) -> Position:
    """The same value, as it is bound there."""
    return tuple(map(bindable, position))


class Slices(Plans):
    """Each slice is a read transaction of its own, and a short one."""

    def _every(self, read: Callable[[Slice], Sequence[Found]]) -> list[Found]:
        """What all slices of the table have, begun anew where the rows got other keys meanwhile."""

        def work(pace: Pace) -> list[Found]:
            pages = self._sliced(lambda page: (read(page), page.last), pace)
            return [found for page in pages for found in page]

        return self._on_firm_ground(work)

    def _on_firm_ground(self, work: Callable[[Pace], Found]) -> Found:
        """What this comes to by one and the same schema. work: is given the pace to go by."""
        for _ in range(SLICED_ATTEMPTS):
            try:
                return work(Pace())
            except MovedError:
                continue
        return work(Pace(rows=EVERYTHING))

    def _sliced(
        self, read: Read[Found], pace: Pace, key: Key | None = None, ground: int | None = None
    ) -> Iterator[Found]:
        """What is read of each slice; the caller has it when the slice's lock is gone.

        key: None: the table's own. ground: the schema's version that the key was read of.

        What somebody writes between two slices is seen in the one that comes, or not at all: as if it had been written
        after a read of the whole. Whoever acts upon it asks for `version` before and after, which shows that somebody
        wrote. Raises MovedError where the rows may have got other keys (VACUUM).
        """
        after: Position | None = None
        while True:
            with self._file.in_use(), pace.measured(), self._reading():
                used = self._key() if key is None else key
                ground = self._firm(used, ground)
                found, after = read(self._slice(used, after, pace.rows))
            yield found
            if after is None:
                return
            # A small slice takes fewer of the database's own steps than it makes between two looks.
            if self._is_stopped():
                raise StopReadingError

    def _firm(self, key: Key, before: int | None) -> int:
        version = schema_version(self.connection)
        if before not in (None, version) and not key.is_lasting:
            raise MovedError
        return version

    def _slice(self, key: Key, after: Position | None, rows: int) -> Slice:
        """The next page. Both statements of a page are bounded by its number of rows."""
        if not key.columns:
            return Slice(key, rows, None, key.among, ())
        if after is None and not key.is_unique:
            return Slice(key, rows, (), f"{key.among} AND {key.row} IS NULL", ())
        # One bound on either side: of two the database might go by the wider one, and pass all rows between them.
        start, values = (f"{key.row_of(len(after))} > {places(after)}", after) if after else (key.begin, ())
        behind = f"{key.among} AND {start}"
        last = self.connection.execute(
            f"SELECT {', '.join(key.columns)} FROM {self._table} {key.hint} WHERE {behind} AND {key.end} "
            f"ORDER BY {', '.join(key.columns)} LIMIT 1 OFFSET ?",
            (*bindables(values), rows - 1),
        ).fetchone()
        if last is None:
            return Slice(key, rows, None, f"{behind} AND {key.end}", bindables(values))
        condition = f"{behind} AND {key.row} <= {places(last)}"
        return Slice(key, rows, last, condition, (*bindables(values), *bindables(last)))

    @contextmanager
    def _reading(self) -> Iterator[None]:
        self.connection.execute("BEGIN")
        try:
            yield
        finally:
            self.connection.execute("ROLLBACK")

    def _key(self) -> Key:
        """Of a table with row ids, these: its primary key is an index like any other."""
        if self._is_view:
            return self._key_of_view()
        primary = self.connection.execute(
            "SELECT name, coll FROM pragma_index_xinfo(?) WHERE key ORDER BY seqno", (self._name,)
        ).fetchall()
        if primary:
            # SQLite answers so for a table WITHOUT ROWID, which is kept in the order of its primary key.
            columns = [f"{self._table}.{quoted(name)} COLLATE {quoted(coll)}" for name, coll in primary]
            return Key(columns, self._by_primary_key(), is_lasting=True)
        info = self.connection.execute(
            "SELECT lower(name), upper(type), pk FROM pragma_table_xinfo(?)", (self._name,)
        ).fetchall()
        free = [name for name in ROWID_NAMES if name not in {name for name, _, _ in info}]
        if not free:
            return Key(hint=BY_ROW_ID)
        # Row ids that no column is are given anew by a VACUUM. A key beside them has an index of its own.
        is_column = [(kind, pk) for _, kind, pk in info if pk] == [("INTEGER", 1)] and not self._has_index_of_key()
        return Key([f"{self._table}.{free[0]}"], BY_ROW_ID, is_lasting=is_column)

    def _span(self) -> int:
        """How many rows the table has at most; 0: nobody can say without counting them."""
        key = self._key()
        if key.hint != BY_ROW_ID or not key.columns:
            return 0
        [row] = key.columns
        # Two statements' worth: together they would be a walk.
        [span] = self.connection.execute(
            f"SELECT coalesce((SELECT max({row}) FROM {self._table}) + 1 - (SELECT min({row}) FROM {self._table}), 0)"
        ).fetchone()
        return int(span)

    def _key_of_view(self) -> Key:
        """Its sids, where an index behind it gives these in order, and each of the other tables is looked up by one."""
        sid = self._column("sid")
        behind, page = f"{sid} > ?", f"SELECT {sid} FROM {self._table} WHERE"
        first = f"{page} {sid} IS NOT NULL ORDER BY {sid} LIMIT 1"
        next_one, rows = f"{page} {behind} ORDER BY {sid} LIMIT 1", f"{page} {behind} AND {sid} <= ?"
        is_walked = not any(
            step.startswith(SLOW_STEPS) or AUTOMATIC in step
            for statement, values in ((next_one, ("",)), (rows, ("", "")))
            for step in self._steps(statement, values)
        )
        # Without a bound SQLite calls it a scan that it goes along the index until it has enough.
        if is_walked and SORTED not in self._steps(first, ()):
            return Key([sid], begin=f"{sid} IS NOT NULL", is_unique=False)
        return Key()

    def _by_primary_key(self) -> str:
        """The hint for a table WITHOUT ROWID, where NOT INDEXED still lets it go by an index that has all columns."""
        [index] = self.connection.execute(
            "SELECT name FROM pragma_index_list(?) WHERE origin = 'pk'", (self._name,)
        ).fetchone()
        return f"INDEXED BY {quoted(index)}"

    def _has_index_of_key(self) -> bool:
        rows = self.connection.execute("SELECT 1 FROM pragma_index_list(?) WHERE origin = 'pk'", (self._name,))
        return rows.fetchone() is not None
