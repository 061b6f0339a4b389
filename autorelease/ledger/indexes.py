"""What the table's own indexes show of its rows. A damaged one lacks entries: whoever goes by it never sees those rows.

So it is left by a disk that lost a page, or by a copy of a file that was being written. Each look-up here is one that a
tick makes, for a row that is known to be there.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence, Set
from datetime import datetime
from functools import partial

import msgspec

from autorelease.ledger.binding import bindable, parameter
from autorelease.ledger.due import Due
from autorelease.ledger.holding import is_plain
from autorelease.ledger.narrowing import (
    certainly_unexpired_from,
    folded_if_plain,
    perhaps_not_plain,
    reference_of,
)
from autorelease.ledger.rows import StoredRow
from autorelease.ledger.slices import Key, Position, Slice, bindables, places
from autorelease.ledger.values import shown
from autorelease.model import Allocation, RawValue
from autorelease.sqlitefile import quoted
from autorelease.text import folded

NAMED = 5
# What SQLite says where an index that is named cannot serve.
NO_SOLUTION = "no query solution"


class Page(msgspec.Struct, frozen=True):
    """The live rows of a page of the key, and those of them that are due. moment: what is due had expired before it."""

    slice: Slice
    moment: datetime
    rows: Sequence[tuple[StoredRow, Position]]
    due: Sequence[tuple[Allocation, Position]]

    @property
    def key(self) -> Key:
        """What it is a page of."""
        return self.slice.key


class Hidden(msgspec.Struct, frozen=True):
    """Rows that an index does not show. what: which look-up of a tick misses them."""

    index: str
    what: str
    sids: Sequence[str]

    def __str__(self) -> str:
        first = ", ".join(self.sids[:NAMED]) + (", …" if len(self.sids) > NAMED else "")
        rows = "1 row" if len(self.sids) == 1 else f"{len(self.sids)} rows"
        return (
            f"the index {self.index} does not show {rows} ({first}) to a tick that looks {self.what}: it is damaged. "
            f"Make it anew, in the ledger's own shell: REINDEX {quoted(self.index)}; and look into the disk's health"
        )


class _Look(msgspec.Struct, frozen=True):
    """One look-up for one row: the sid it is told by, the condition with its values, and the row's own key."""

    sid: str
    condition: str
    values: Sequence[RawValue]
    at: Position


class Indexes(Due):
    """Every row is looked up by itself and its own key, so that a look never passes others, however many are alike."""

    def _hidden(self, page: Page) -> list[Hidden]:
        """What the indexes that a tick goes by do not show of this page."""
        looks = (self._by_due, self._by_sid, self._by_plain_vm, self._by_odd_vm)
        return [found for look in looks if (found := look(page)) is not None]

    def _by_due(self, page: Page) -> Hidden | None:
        """What none of the statements shows by which a tick looks for what is due."""
        bound = certainly_unexpired_from(page.moment, self._words)
        # By their keys: rows may share a sid, and one of the statements may be about each of them.
        indexes, missing = [], {tuple(at) for _, at in page.due}
        for unreleased in self._unreleased if page.key.columns and not self._is_view else ():
            indexes.append(self._index_used_by(self._due_statement(unreleased, None), (bound,)))
            found = self._not_found(page, indexes[-1], partial(self._due_looks, page, unreleased, bound))
            missing &= {tuple(look.at) for look in found}
        used = [index for index in indexes if index is not None]
        sids = [row.sid for row, at in page.due if tuple(at) in missing]
        return Hidden(used[0], "for what is due", sids) if used and sids else None

    def _due_looks(self, page: Page, unreleased: str, bound: int | str) -> Iterator[_Look]:
        expires_at, sid = self._column("expires_at"), self._column("sid")
        condition = f"{self._due_conditions} AND {unreleased} AND {expires_at} < ? AND {expires_at} = ? AND {sid} = ?"
        for row, at in page.due:
            yield _Look(row.sid, condition, (bound, row.raw.expires_at, row.raw.sid), at)

    def _by_sid(self, page: Page) -> Hidden | None:
        sid = self._column("sid")
        statement = f"SELECT {self._select} FROM {self._table} WHERE {sid} = ?"

        def looks() -> Iterator[_Look]:
            for row, at in page.due:
                yield _Look(row.sid, f"{sid} = ?", (row.raw.sid,), at)

        return self._missing(page, "by the sid", statement, ("",), looks)

    def _by_plain_vm(self, page: Page) -> Hidden | None:
        reference = folded_if_plain(self._reference_of_vm)
        condition = f"{self._live} AND {reference}"
        statement = f"SELECT 1 FROM {self._table} WHERE {condition} IN (SELECT value FROM json_each(?))"

        def looks() -> Iterator[_Look]:
            missed = self._missed_by_a_join(page, condition, reference, statement)
            for row, at in page.rows if missed is None else (each for each in page.rows if tuple(each[1]) in missed):
                if is_plain(name := _reference(row)):
                    yield _Look(shown(row.sid), f"{condition} = ?", (folded(str(name)),), at)

        return self._missing(page, "for who else holds a VM", statement, ("[]",), looks)

    def _by_odd_vm(self, page: Page) -> Hidden | None:
        sid = self._column("sid")
        condition = f"{self._live} AND ({perhaps_not_plain(self._reference_of_vm)})"
        statement = f"SELECT 1 FROM {self._table} WHERE {condition}"

        def looks() -> Iterator[_Look]:
            for row, at in page.rows:
                if row.sid is not None and (name := _reference(row)) is not None and not is_plain(name):
                    values = (bindable(row.sid),)
                    yield _Look(shown(row.sid), f"{condition} AND {sid} = {parameter(row.sid)}", values, at)

        return self._missing(page, "for who else holds a VM", statement, (), looks)

    def _missed_by_a_join(
        self, page: Page, condition: str, reference: str, statement: str
    ) -> Set[tuple[RawValue, ...]] | None:
        """The keys of the rows that one statement for the whole page does not find through the index; None: it cannot.

        So that few are left to be looked up by themselves. It finds no row that such a look would not find.
        """
        index = self._index_used_by(statement, ("[]",))
        if index is None:
            return None
        key, columns = page.key.columns, (*page.key.columns, *self._columns_of(index))
        of_row = [f"{column} AS of_row_{number}" for number, column in enumerate((reference, *columns))]
        same = [f"{column} IS page.of_row_{number}" for number, column in enumerate(columns, start=1)]
        join = (
            f"SELECT {', '.join(f'of_row_{number}' for number in range(1, 1 + len(key)))} "
            f"FROM (SELECT {', '.join(of_row)} FROM {self._table} {page.key.hint} WHERE {page.slice.condition} "
            f"AND {self._live}) AS page WHERE NOT EXISTS (SELECT 1 FROM {self._table} INDEXED BY {quoted(index)} "
            f"WHERE {condition} = page.of_row_0 AND {' AND '.join(same)})"
        )
        if not self._looks_up(join, page.slice.values, index):
            return None
        return set(self.connection.execute(join, page.slice.values))

    def _looks_up(self, join: str, values: Sequence[RawValue], index: str) -> bool:
        """Whether it goes to the entry of each row in this index, and does not read through it."""
        steps = self._steps_if_any(join, values)
        return any(step.startswith("SEARCH") and f" INDEX {index} (" in step for step in steps)

    @property
    def _reference_of_vm(self) -> str:
        return reference_of(self._column("sid"), self._column("vm_ref") if self._has("vm_ref") else None)

    def _missing(
        self, page: Page, what: str, statement: str, values: Sequence[RawValue], looks: Callable[[], Iterator[_Look]]
    ) -> Hidden | None:
        """Those that are not found through the index that the statement goes by; None: all are, or it goes by none."""
        if not page.key.columns or (index := self._index_used_by(statement, values)) is None:
            return None
        sids = [look.sid for look in self._not_found(page, index, looks)]
        return Hidden(index, what, sids) if sids else None

    def _not_found(self, page: Page, index: str | None, looks: Callable[[], Iterator[_Look]]) -> list[_Look]:
        """Those that find nothing by this index; None: in the table itself."""
        by = page.key.hint if index is None else f"INDEXED BY {quoted(index)}"
        columns, missed = self._columns_of(index), list[_Look]()
        for number, look in enumerate(looks()):
            at = f"{page.key.row} = {places(look.at)}"
            # Where all that is asked for stands in the index it may be read from end to end. Not for each row: what the
            # row itself says leads to its entry.
            same = [f"{name} IS (SELECT {name} FROM {self._table} {page.key.hint} WHERE {at})" for name in columns]
            statement = f"SELECT 1 FROM {self._table} {by} WHERE {' AND '.join((look.condition, at, *same))}"
            values = [*look.values, *[value for _ in (at, *same) for value in bindables(look.at)]]
            if number == 0 and self._is_scan(statement, values):
                # It begins with an expression: only PRAGMA integrity_check finds what such an index lacks.
                break
            if not self._has_any(statement, values):
                missed.append(look)
        return missed

    def _has_any(self, statement: str, values: Sequence[RawValue]) -> bool:
        try:
            return self.connection.execute(statement, values).fetchone() is not None
        except sqlite3.OperationalError as error:
            if str(error) != NO_SOLUTION:
                raise
            # A partial index that has nothing to do with this row: a tick does not go by it, either.
            return True

    def _is_scan(self, statement: str, values: Sequence[RawValue]) -> bool:
        """Whether it reads more than the entries of a few rows."""
        steps = self._steps_if_any(statement, values)
        return any(step.startswith("SCAN") and not step.startswith("SCAN CONSTANT") for step in steps)

    def _steps_if_any(self, statement: str, values: Sequence[RawValue]) -> list[str]:
        """How it would be found; empty where the index that it names has nothing to do with these rows."""
        try:
            return self._steps(statement, values)
        except sqlite3.OperationalError as error:
            if str(error) != NO_SOLUTION:
                raise
            return []

    def _columns_of(self, index: str | None) -> list[str]:
        """SQL for the columns of an index; an expression is none."""
        rows = self.connection.execute("SELECT name FROM pragma_index_info(?) WHERE name IS NOT NULL", (index,))
        return [self._named(name) for (name,) in rows]

    def _index_used_by(self, statement: str, values: Sequence[RawValue]) -> str | None:
        """The index that a statement goes by; None: it reads the table itself."""
        steps = self._steps(statement, values)
        indexes = self.connection.execute("SELECT name FROM pragma_index_list(?)", (self._name,)).fetchall()
        used = [name for (name,) in indexes if any(f" INDEX {name} (" in f"{step} (" for step in steps)]
        return max(used, key=len, default=None)


def _reference(row: StoredRow) -> RawValue:
    """What a row names its VM by, as `reference_of` has it."""
    return row.sid if row.vm_ref in (None, "") else row.vm_ref
