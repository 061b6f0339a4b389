"""What is paid for: rows whose VMs must stand, by which a provisioner is tried."""

from collections.abc import Sequence
from datetime import datetime

from autorelease.ledger.lookup import Lookup
from autorelease.ledger.narrowing import certainly_unexpired_from
from autorelease.ledger.plans import Values
from autorelease.ledger.rows import StoredRow
from autorelease.ledger.slices import Slice
from autorelease.model import DEFAULT_PROVISIONER, Allocation, RawValue

EXPIRES_AT = StoredRow.__struct_fields__.index("expires_at")
# SQLite compares no two kinds of values by what they are.
ORDER_OF_KINDS = (int | float, str, bytes)
Rows = list[tuple[RawValue, ...]]


class Paid(Lookup):
    """SQL finds a superset; `rows` says what each row is."""

    def paid_for(self, provisioner: str, now: datetime, limit: int) -> Sequence[Allocation]:
        """Some readable live rows of this provisioner whose expiry is ahead, or never comes; the latest first."""
        ahead, never = self._paid_conditions(provisioner, now)
        with self._file.in_use():
            rows = self._latest(*ahead, limit)
            rows += self._any_of(*never, limit - len(rows))
            shared = self._shared_among([sid for sid, *_ in rows])
        judged = [self._judged(row, shared=row.sid in shared) for row in (StoredRow(*values) for values in rows)]
        # One provisioner alone serves a table that names none.
        return [row for row in judged if isinstance(row, Allocation) and row.provisioner == provisioner and row.vm_ref]

    def _paid_conditions(self, provisioner: str, now: datetime) -> tuple[tuple[str, Values], tuple[str, Values]]:
        """SQL with its values: of a row whose expiry is ahead, and of one that has none."""
        expires_at = self._column("expires_at")
        served, values = self._live, list[RawValue]()
        if self._has("provisioner"):
            name, values = self._column("provisioner"), [provisioner]
            is_named = f"coalesce({name}, '') IN ('', ?)" if provisioner == DEFAULT_PROVISIONER else f"{name} = ?"
            served += f" AND {is_named}"
        bound = certainly_unexpired_from(now, self._words)
        return (f"{served} AND {expires_at} > ?", [*values, bound]), (f"{served} AND {expires_at} IS NULL", values)

    def _latest(self, condition: str, values: Values, limit: int) -> Rows:
        """Of all rows of which this is so, those of the last expiries."""
        order = f"ORDER BY {self._column('expires_at')} DESC"
        whole = f"SELECT {self._select} FROM {self._table} WHERE {condition} {order} LIMIT {limit}"
        if not self._key().columns or "USE TEMP B-TREE FOR ORDER BY" not in self._steps(whole, values):
            return self.connection.execute(whole, values).fetchall()

        def read(page: Slice) -> Rows:
            of_page = f"SELECT {self._select} FROM {self._table} {page.key.hint} WHERE {page.condition} AND {condition}"
            return self.connection.execute(f"{of_page} {order} LIMIT {limit}", (*page.values, *values)).fetchall()

        return sorted(self._every(read), key=_by_expiry, reverse=True)[:limit]

    def _any_of(self, condition: str, values: Values, limit: int) -> Rows:
        """Some rows of which this is so."""
        statement = f"SELECT 1 FROM {self._table} WHERE {condition}"
        is_served = not any(step.startswith("SCAN") for step in self._steps(statement, values))
        return self._rows_where(condition, values, limit, is_served=is_served)[:limit]


def _by_expiry(row: tuple[RawValue, ...]) -> tuple[int, RawValue]:
    value = row[EXPIRES_AT]
    return next(place for place, kind in enumerate(ORDER_OF_KINDS) if isinstance(value, kind)), value
