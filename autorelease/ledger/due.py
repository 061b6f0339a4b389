"""What is due, in pages: a superset of what the rule picks."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from marshal import dumps

import msgspec

from autorelease.ledger.binding import bindable, parameter
from autorelease.ledger.conditions import constants, is_not_set
from autorelease.ledger.lookup import Lookup
from autorelease.ledger.narrowing import any_of, certainly_invalid_below, certainly_unexpired_from, constant
from autorelease.ledger.pace import Pace
from autorelease.ledger.plans import index_of
from autorelease.ledger.rows import StoredRow
from autorelease.ledger.slices import SLICED_ATTEMPTS, WORTH, MovedError, Position, Slice
from autorelease.model import Allocation, RawValue
from autorelease.sqlitefile import quoted, read_decoded

PAGE_ROWS = 2000
PAGE_BYTES = 8 * 2**20
# Of a table of so many rows nobody minds a few settled ones; and so many entries of an index are counted in no time.
FEW_ROWS = 20_000
MOST_PASSED = 1_000_000
# A version of marshal that does not look whether a value was there before.
UNSHARED = 2
WIDTH = len(StoredRow.__struct_fields__)


class HandedOn(msgspec.Struct, frozen=True):
    """What `due` has handed on: so many live rows whose stored expiry is below this value, each once, all readable.

    state: of the ledger when it began.
    """

    below: int | str
    rows: int
    state: tuple[int | None, int]


class Due(Lookup):
    """Each statement is written so that an index on the expiry can serve it."""

    # By the last look that came to its end; None: by none of which anybody can say how often each row came.
    _handed_on: HandedOn | None = None

    def due(self, now: datetime, grace: timedelta) -> Iterator[Sequence[Allocation]]:
        """Pages of readable live allocations: a superset of what has expired.

        Where an index serves, oldest first as stored. Where none does, in the order of the key, by one walk in slices.
        Of a view that has no key either, each page is a look at all of it.
        """
        moment = now - grace
        state, rows = self._state(), 0
        with self._file.in_use():
            walked = [unreleased for unreleased in self._unreleased if self._is_walked(unreleased, moment)]
        for unreleased in self._unreleased:
            for page in self._in_order(unreleased, moment) if unreleased not in walked else ():
                rows += len(page)
                yield page
        if walked:
            yield from self._in_slices(walked, moment)
        else:
            self._handed_on = HandedOn(certainly_unexpired_from(moment, self._words), rows, state)

    def _state(self) -> tuple[int | None, int]:
        """What is the same for as long as nobody has written, neither somebody else nor this connection."""
        return self.version(), self.connection.total_changes

    def _is_walked(self, unreleased: str, moment: datetime) -> bool:
        """Whether no index has these rows in order: each page would be a look at the whole table, and a sort of it.

        Or the index that has them points at so many settled rows, too, that to pass those by would take longer.
        """
        bound = certainly_unexpired_from(moment, self._words)
        steps = self._steps(self._due_statement(unreleased, None), [bound])
        if not self._is_in_order_of_expiry(steps):
            return bool(self._key().columns)
        return self._passes_many(steps[0], bound)

    def _passes_many(self, step: str, bound: RawValue) -> bool:
        index = index_of(step)
        if index is None or self._is_partial(index) or (span := self._span()) < FEW_ROWS:
            return False
        if "=?" in step:
            # It leads with another column (released_at, say), and is narrowed by that before the expiry is.
            return False
        expired = f"SELECT 1 FROM {self._table} INDEXED BY {quoted(index)} WHERE {self._column('expires_at')} < ?"
        most = min(span // WORTH, MOST_PASSED)
        return self.connection.execute(f"{expired} LIMIT 1 OFFSET ?", (bound, most)).fetchone() is not None

    def _in_order(self, unreleased: str, moment: datetime) -> Iterator[Sequence[Allocation]]:
        last: tuple[RawValue, RawValue] | None = None
        while True:
            with self._file.in_use():
                rows = self._page(unreleased, moment, last)
            if not rows:
                break
            last = (rows[-1].expires_at, rows[-1].sid)
            yield self._readable(rows)

    def _readable(self, rows: Sequence[StoredRow]) -> Sequence[Allocation]:
        with self._file.in_use():
            shared = self._shared_among([row.sid for row in rows])
        # What shares its sid is invalid, and nothing that is invalid is handed on.
        judged = map(self._reader.read, (row for row in rows if row.sid not in shared) if shared else rows)
        return [row for row in judged if isinstance(row, Allocation)]

    def _in_slices(self, unreleased: Sequence[str], moment: datetime) -> Iterator[Sequence[Allocation]]:
        """One walk through the table. Rows that get other keys meanwhile come once more, rather than not at all."""
        for _ in range(SLICED_ATTEMPTS):
            try:
                yield from map(self._readable, in_pages(self._due_of_slices(unreleased, moment)))
            except MovedError:
                continue
            return
        for each in unreleased:
            yield from self._in_order(each, moment)

    def _due_of_slices(self, unreleased: Sequence[str], moment: datetime) -> Iterator[Sequence[StoredRow]]:
        condition = f"{self._due_conditions} AND ({' OR '.join(unreleased)}) AND {self._due_range}"
        values = (certainly_unexpired_from(moment, self._words),)
        return self._sliced(lambda page: self._due_of_slice(page, condition, values), Pace())

    def _due_of_slice(
        self, page: Slice, condition: str, values: Sequence[RawValue]
    ) -> tuple[list[StoredRow], Position | None]:
        """Until there is enough of it: the next slice begins behind the last row."""
        cursor = self.connection.execute(
            f"SELECT {self._select}, {', '.join(page.key.columns)} FROM {self._table} {page.key.hint} "
            f"WHERE {page.condition} AND {condition} ORDER BY {', '.join(page.key.columns)}",
            (*page.values, *values),
        )
        rows, size = [], 0
        for values_of_row in cursor:
            row, position = StoredRow(*values_of_row[:WIDTH]), values_of_row[WIDTH:]
            rows.append(row)
            size += _size(values_of_row)
            if size > PAGE_BYTES:
                cursor.close()
                return rows, position
        return rows, page.last

    def _page(self, unreleased: str, moment: datetime, last: tuple[RawValue, RawValue] | None) -> list[StoredRow]:
        values = (certainly_unexpired_from(moment, self._words), *(bindable(value) for value in last or ()))
        statement = self._due_statement(unreleased, last)
        return read_decoded(self.connection, lambda: self._rows_of_page(statement, values))

    def _rows_of_page(self, statement: str, bound: Sequence[RawValue]) -> list[StoredRow]:
        cursor = self.connection.execute(statement, bound)
        rows, size = [], 0
        for values in cursor:
            rows.append(StoredRow(*values))
            size += _size(values)
            if size > PAGE_BYTES:
                break
        # The read transaction ends here: nothing of ours stands in a writer's way while the page is worked on.
        cursor.close()
        return rows

    def _due_statement(self, unreleased: str, last: tuple[RawValue, RawValue] | None) -> str:
        expires_at, sid = self._column("expires_at"), self._column("sid")
        within = self._due_range
        if last is not None:
            within = f"{expires_at} < ? AND ({expires_at}, {sid}) > ({', '.join(parameter(value) for value in last)})"
        return (
            f"SELECT {self._select} FROM {self._table} WHERE {self._due_conditions} AND {unreleased} "
            f"AND {within} ORDER BY {expires_at}, {sid} LIMIT {PAGE_ROWS}"
        )

    @property
    def _due_range(self) -> str:
        # No row before the first bound can be read, but for those that never expire; there may be many.
        expires_at = self._column("expires_at")
        return f"{expires_at} < ? AND {expires_at} >= {constant(certainly_invalid_below(self._words))}"

    @property
    def _due_conditions(self) -> str:
        # Each condition stands alone between ANDs, with its constant written out, so that a partial index on
        # status <> 'Released' or released_at IS NULL is used. A row that the column's own type or collation takes for
        # Released, or that has a released_at, is Released or invalid, never due. The + keeps the planner from walking
        # the key of sid instead.
        status, sid = self._column("status"), self._column("sid")
        conditions = [f"{status} <> {constant(self._words.released)}", f"+{sid} IS NOT NULL"]
        conditions.append(self._ours)
        if self._words.inactive:
            conditions.append(f"{status} COLLATE BINARY NOT IN ({constants(self._words.inactive)})")
        if self._has("deleted_at"):
            conditions.append(is_not_set(self._column("deleted_at"), self._words))
        return " AND ".join(conditions)

    @property
    def _unreleased(self) -> list[str]:
        """SQL: was not released before. One statement for each, because an OR between them would use no index."""
        if not self._has("released_at"):
            return ["1"]
        released_at = self._column("released_at")
        never = any_of(released_at, self._words.never)
        return [f"{released_at} IS NULL", *([f"({never})"] if never else [])]


def _size(values: tuple[RawValue, ...]) -> int:
    """About as many bytes as these take; a look at each of them would cost more than to read them."""
    return len(dumps(values, UNSHARED))


def in_pages(slices: Iterator[Sequence[StoredRow]]) -> Iterator[Sequence[StoredRow]]:
    """The same rows in pages of their own: of many slices little is due, and each page costs a look by its sids."""
    page: list[StoredRow] = []
    size = 0
    for rows in slices:
        for row in rows:
            page.append(row)
            size += _size(msgspec.structs.astuple(row))
            if len(page) >= PAGE_ROWS or size > PAGE_BYTES:
                yield page
                page, size = [], 0
    if page:
        yield page
