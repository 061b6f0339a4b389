"""What is due, in pages, and what is paid for: supersets of what the rule picks."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from autorelease.ledger.binding import bindable, parameter
from autorelease.ledger.conditions import constant, constants, is_not_set
from autorelease.ledger.lookup import Lookup
from autorelease.ledger.narrowing import any_of, certainly_invalid_below, certainly_unexpired_from
from autorelease.ledger.rows import StoredRow
from autorelease.model import DEFAULT_PROVISIONER, Allocation, RawValue

PAGE_ROWS = 2000
PAGE_BYTES = 8 * 2**20


class Due(Lookup):
    """Each statement is written so that an index on the expiry can serve it."""

    def due(self, now: datetime, grace: timedelta) -> Iterator[Sequence[Allocation]]:
        """Pages of readable live allocations: a superset of what has expired, oldest first as stored.

        Those whose released_at is not NULL, and stands for nothing, come behind all others.
        """
        for unreleased in self._unreleased:
            last: tuple[RawValue, RawValue] | None = None
            while True:
                with self._file.in_use():
                    rows = self._page(unreleased, now - grace, last)
                    shared = self._shared_among([row.sid for row in rows])
                if not rows:
                    break
                last = (rows[-1].expires_at, rows[-1].sid)
                judged = [self._judged(row, shared=row.sid in shared) for row in rows]
                yield [row for row in judged if isinstance(row, Allocation)]

    def _page(self, unreleased: str, moment: datetime, last: tuple[RawValue, RawValue] | None) -> list[StoredRow]:
        cursor = self.connection.execute(
            self._due_statement(unreleased, last),
            (certainly_unexpired_from(moment, self._words), *(bindable(value) for value in last or ())),
        )
        rows, size = [], 0
        for values in cursor:
            rows.append(StoredRow(*values))
            size += sum(len(value) for value in values if isinstance(value, str | bytes))
            if size > PAGE_BYTES:
                break
        # The read transaction ends here: nothing of ours stands in a writer's way while the page is worked on.
        cursor.close()
        return rows

    def _due_statement(self, unreleased: str, last: tuple[RawValue, RawValue] | None) -> str:
        expires_at, sid = self._column("expires_at"), self._column("sid")
        # No row before the first bound can be read, but for those that never expire; there may be many.
        after = f"{expires_at} >= {constant(certainly_invalid_below(self._words))}"
        if last is not None:
            after = f"({expires_at}, {sid}) > ({', '.join(parameter(value) for value in last)})"
        return (
            f"SELECT {self._select} FROM {self._table} WHERE {self._due_conditions} AND {unreleased} "
            f"AND {expires_at} < ? AND {after} ORDER BY {expires_at}, {sid} LIMIT {PAGE_ROWS}"
        )

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

    def paid_for(self, provisioner: str, now: datetime, limit: int) -> Sequence[Allocation]:
        """Some readable live rows of this provisioner whose expiry is ahead, or never comes; the latest first."""
        expires_at = self._column("expires_at")
        served = f"AND {self._column('provisioner')} = ?2" if self._has("provisioner") else ""
        if self._has("provisioner") and provisioner == DEFAULT_PROVISIONER:
            served = f"AND coalesce({self._column('provisioner')}, '') IN ('', ?2)"
        rows_of = f"SELECT {self._select} FROM {self._table} WHERE {self._live} {served} AND {expires_at}"
        values = (certainly_unexpired_from(now, self._words), provisioner)[: 2 if served else 1]
        with self._file.in_use():
            rows = self.connection.execute(
                f"{rows_of} > ?1 ORDER BY {expires_at} DESC LIMIT {limit}", values
            ).fetchall()
            if len(rows) < limit:
                # Of ?1 nothing is wanted here, but SQLite wants every value to have its place.
                more = f"{rows_of} IS NULL AND ?1 IS NOT NULL LIMIT {limit - len(rows)}"
                rows += self.connection.execute(more, values).fetchall()
            shared = self._shared_among([sid for sid, *_ in rows])
        judged = [self._judged(row, shared=row.sid in shared) for row in (StoredRow(*values) for values in rows)]
        # One provisioner alone serves a table that names none.
        return [row for row in judged if isinstance(row, Allocation) and row.provisioner == provisioner and row.vm_ref]
