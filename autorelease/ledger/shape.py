"""What the table is like: for who looks before a tick."""

from collections import Counter
from collections.abc import Sequence

from autorelease.ledger import Column, Shape
from autorelease.ledger.binding import lowered, storage_class
from autorelease.ledger.slices import Slice, Slices
from autorelease.model import RawValue


class Shaped(Slices):
    """Nothing of this is needed by a tick."""

    def statuses(self, limit: int) -> Sequence[tuple[RawValue, int]]:
        """The statuses of the rows of ours, with how many rows have each; the most frequent ones, at most `limit`."""
        status = self._column("status")
        found = self._counts(status, self._admitted, f"typeof({status}), {status} COLLATE BINARY")
        most = sorted(found.items(), key=lambda item: (-item[1], storage_class(item[0][1]), str(item[0][1])))
        return [(value, rows) for (_, value), rows in most[:limit]]

    def _counts(self, value: str, condition: str, group: str) -> "Counter[tuple[type, RawValue]]":
        """How many rows have each value, in slices of the table; 1 is not 1.0."""

        def read(page: Slice) -> list[tuple[RawValue, int]]:
            statement = f"SELECT {value}, count(*) FROM {self._table} {page.key.hint} WHERE {page.condition}"
            return self.connection.execute(f"{statement} AND {condition} GROUP BY {group}", page.values).fetchall()

        found: Counter[tuple[type, RawValue]] = Counter()
        for stored, rows in self._every(read):
            found[type(stored), stored] += rows
        return found

    def shape(self) -> Shape:
        """What the table is like."""
        expiries = self._counts(f"typeof({self._column('expires_at')})", self._live, "1")
        with self._file.in_use():
            declared = dict(
                self.connection.execute("SELECT lower(name), type FROM pragma_table_xinfo(?)", (self._name,)).fetchall()
            )
            is_base_key_unique = self._base is None or self._is_unique(self._base.table, self._base.sid)
        return Shape(
            columns=[Column(role, name, declared[lowered(name)]) for role, name in self._columns.items()],
            absent=self._absent,
            is_sid_unique=self._sid_is_unique,
            expiries={
                str(kind): rows for (_, kind), rows in sorted(expiries.items(), key=lambda item: str(item[0][1]))
            },
            is_view=self._is_view,
            base=self._base.described if self._base else "",
            is_base_key_unique=is_base_key_unique,
        )
