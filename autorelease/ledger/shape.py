"""What the table is like: for who looks before a tick."""

from collections.abc import Sequence

from autorelease.ledger import Column, Shape
from autorelease.ledger.binding import lowered
from autorelease.ledger.slices import Slices
from autorelease.model import RawValue


class Shaped(Slices):
    """Nothing of this is needed by a tick."""

    def statuses(self, limit: int) -> Sequence[tuple[RawValue, int]]:
        """The statuses of the rows of ours, with how many rows have each; the most frequent ones, at most `limit`."""
        status = self._column("status")
        with self._file.in_use():
            return self.connection.execute(
                f"SELECT {status}, count(*) FROM {self._table} WHERE {self._admitted} "
                f"GROUP BY typeof({status}), {status} COLLATE BINARY ORDER BY count(*) DESC, 1 LIMIT ?",
                (limit,),
            ).fetchall()

    def shape(self) -> Shape:
        """What the table is like."""
        expires_at = self._column("expires_at")
        with self._file.in_use():
            declared = dict(
                self.connection.execute("SELECT lower(name), type FROM pragma_table_xinfo(?)", (self._name,)).fetchall()
            )
            expiries = self.connection.execute(
                f"SELECT typeof({expires_at}), count(*) FROM {self._table} WHERE {self._live} GROUP BY 1"
            ).fetchall()
            is_base_key_unique = self._base is None or self._is_unique(self._base.table, self._base.sid)
        return Shape(
            columns=[Column(role, name, declared[lowered(name)]) for role, name in self._columns.items()],
            absent=self._absent,
            is_sid_unique=self._sid_is_unique,
            expiries=dict(expiries),
            is_view=self._is_view,
            base=self._base.described if self._base else "",
            is_base_key_unique=is_base_key_unique,
        )
