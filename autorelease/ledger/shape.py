"""What the table is like, and how the database finds what is due in it: for who looks before a tick."""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta

from autorelease.ledger import Access, Column, Shape
from autorelease.ledger.binding import lowered
from autorelease.ledger.conditions import constant
from autorelease.ledger.due import Due
from autorelease.ledger.narrowing import certainly_unexpired_from, quoted
from autorelease.model import RawValue


class Shaped(Due):
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

    def due_access(self, now: datetime, grace: timedelta) -> Access:
        """How `due` finds its rows; nothing is read of them. Of several ways, the one that is not by an index."""
        bound = certainly_unexpired_from(now - grace, self._words)
        with self._file.in_use():
            ways = [self._access(self._due_statement(unreleased, None), bound) for unreleased in self._unreleased]
        return next((way for way in ways if not way.is_indexed), ways[0])

    def _access(self, statement: str, bound: int | str) -> Access:
        rows = self.connection.execute(f"EXPLAIN QUERY PLAN {statement}", (bound,)).fetchall()
        steps = [detail for *_, detail in rows]
        if self._is_view:
            return self._access_through(steps)
        found = re.fullmatch(r"SEARCH .* USING (?:INDEX (?P<index>.*)|.*) \((?P<terms>.*)\)", steps[0])
        # An index on the expiry alone leaves only rows of the very same expiry to be sorted ("RIGHT PART OF").
        is_sorted = "USE TEMP B-TREE FOR ORDER BY" not in steps
        by_expiry = f"{lowered(self._columns['expires_at'])}<?"
        is_indexed = found is not None and by_expiry in lowered(found["terms"]) and is_sorted
        is_partial = found is not None and self._is_partial(found["index"])
        return Access(
            how="; ".join(steps),
            is_indexed=is_indexed,
            has_settled=is_indexed and not is_partial,
            remedy=self._index_statement(),
        )

    def _access_through(self, steps: Sequence[str]) -> Access:
        """Of a view, whose columns have other names in the tables that it is made of."""
        is_sorted = "USE TEMP B-TREE FOR ORDER BY" not in steps
        expires_at, status = self._columns["expires_at"], self._columns["status"]
        return Access(
            how="; ".join(steps),
            is_indexed=is_sorted and "<?)" in steps[0] and not any(step.startswith("SCAN") for step in steps),
            has_settled=False,
            remedy=f"an index in the table that the view {self._name!r} takes {expires_at!r} from, on that column, and "
            f"one on each column that it joins the table of {status!r} by; a view itself can have none",
        )

    def _is_partial(self, index: str | None) -> bool:
        rows = self.connection.execute("SELECT partial FROM pragma_index_list(?) WHERE name = ?", (self._name, index))
        return (1,) in rows

    def _index_statement(self) -> str:
        expires_at, sid, status = (quoted(self._columns[role]) for role in ("expires_at", "sid", "status"))
        return (
            f"CREATE INDEX {quoted(f'{self._name}_due')} ON {quoted(self._name)} ({expires_at}, {sid}) "
            f"WHERE {status} <> {constant(self._words.released)};"
        )
