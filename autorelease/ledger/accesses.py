"""How the database finds what a tick looks for, and how long it takes: measured on the table itself, by real values.

Reads, and never for longer than a moment: who writes to a ledger without WAL has to wait for its readers.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from autorelease.errors import StopReadingError
from autorelease.ledger import Access, Look
from autorelease.ledger.base import Base
from autorelease.ledger.due import Due
from autorelease.ledger.narrowing import certainly_unexpired_from, constant, indexes_of_holders
from autorelease.ledger.plans import Values, index_of
from autorelease.ledger.vms import Holders
from autorelease.sqlitefile import quoted
from autorelease.text import folded

# The first run may have to wait for the disk: the median is what a tick meets.
RUNS = 3
LONGEST_RUN_SECONDS = 0.1
# After so many steps of SQLite's own machine it is asked whether the time is up.
STEPS_AT_ONCE = 1000
SOME_ROWS = 5


class Accesses(Due, Holders):
    """Nothing of this is needed by a tick."""

    def accesses(self, now: datetime, grace: timedelta) -> Sequence[Access]:
        """How each look of a tick is done, and how long it takes; in the order of `Look`."""
        of_plain, of_others = self.holder_statements()
        with self._file.in_use():
            sids, references = self._some_rows()
            return [
                self._due_access(now, grace),
                self._sid_access(sids),
                self._access(Look.VM, of_plain, [json.dumps(references)]),
                self._access(Look.ODD_VM, of_others, []),
                *([self._stamp_access(self._base, sids)] if self._base else []),
                *([self._whole_access()] if self._keeps_writers_waiting() else []),
            ]

    def _some_rows(self) -> tuple[list[str], list[str]]:
        """Sids and references that are in the table, as a tick looks for them."""
        rows = self.connection.execute(
            f"SELECT {self._column('sid')}, {self._reference} FROM {self._table} LIMIT {SOME_ROWS}"
        ).fetchall()
        sids, references = (
            ([str(value) for value in values] for values in zip(*rows, strict=True)) if rows else ([], [])
        )
        return sids, [folded(reference) for reference in references]

    def _due_access(self, now: datetime, grace: timedelta) -> Access:
        """Of several ways, the one that is not by an index."""
        bound = certainly_unexpired_from(now - grace, self._words)
        ways = [self._due_way(self._due_statement(unreleased, None), [bound]) for unreleased in self._unreleased]
        return next((way for way in ways if not way.is_indexed), ways[0])

    def _due_way(self, statement: str, values: Values) -> Access:
        steps = self._steps(statement, values)
        is_indexed = self._is_in_order_of_expiry(steps)
        index = index_of(steps[0])
        is_partial = index is not None and self._is_partial(index)
        return Access(
            look=Look.DUE,
            how="; ".join(steps),
            is_indexed=is_indexed,
            has_settled=is_indexed and not is_partial and not self._is_view,
            remedy=self._index_of_due(),
            milliseconds=self._measured(statement, values),
        )

    def _sid_access(self, sids: Sequence[str]) -> Access:
        steps = self._steps(f"SELECT 1 FROM {self._table} WHERE {self._column('sid')} = ?", [""])
        return Access(
            look=Look.SID,
            how="; ".join(steps),
            is_indexed=any(self._serves(Look.SID, step) for step in steps),
            has_settled=False,
            remedy=self._index_of(Look.SID),
            milliseconds=self._typical(lambda: self._found(sids)),
        )

    def _stamp_access(self, base: Base, sids: Sequence[str]) -> Access:
        row = base.row(next(iter(sids), ""))
        statement = f"SELECT 1 FROM {base.source} WHERE {row.condition}"
        steps = self._steps(statement, row.values)
        return Access(
            look=Look.STAMP,
            how="; ".join(steps),
            is_indexed=not any(step.startswith("SCAN") for step in steps),
            has_settled=False,
            remedy=f"CREATE INDEX {quoted(f'{base.table}_sids')} ON {quoted(base.table)} ({quoted(base.sid)});",
            milliseconds=self._measured(statement, row.values),
        )

    def _keeps_writers_waiting(self) -> bool:
        """Whether it is a view that goes in one piece, in a file whose writers wait for its readers."""
        [mode] = self.connection.execute("PRAGMA journal_mode").fetchone()
        return self._is_view and not self._key().columns and mode != "wal"

    def _whole_access(self) -> Access:
        statement = f"SELECT count(*) FROM {self._table} WHERE {self._live}"
        return Access(
            look=Look.WHOLE,
            how="; ".join(self._steps(statement, ())),
            is_indexed=False,
            has_settled=False,
            remedy=(
                f"In the view {self._name!r} let {self._columns['sid']!r} be a column of a table, by itself, that an "
                "index begins with, and give each column that the view joins by an index; or, in the ledger's own "
                "shell: PRAGMA journal_mode = WAL;"
            ),
            milliseconds=self._measured(statement, ()),
        )

    def _access(self, look: Look, statement: str, values: Values) -> Access:
        steps = self._steps(statement, values)
        return Access(
            look=look,
            how="; ".join(step for step in steps if "json_each" not in step and not step.startswith("LIST SUBQUERY")),
            is_indexed=any(self._serves(look, step) for step in steps),
            has_settled=False,
            remedy=self._index_of(look),
            milliseconds=self._measured(statement, values),
        )

    # --- measuring --------------------------------------------------------------------------------------------------

    def _measured(self, statement: str, values: Values) -> float:
        return self._typical(lambda: self.connection.execute(statement, values).fetchall())

    def _typical(self, look: Callable[[], object]) -> float:
        return sorted(self._runs(look))[RUNS // 2]

    def _runs(self, look: Callable[[], object]) -> Iterator[float]:
        """How many milliseconds each run took; one that takes too long is broken off."""
        for _ in range(RUNS):
            began = time.monotonic()
            self.connection.set_progress_handler(_until(began + LONGEST_RUN_SECONDS), STEPS_AT_ONCE)
            try:
                # It is broken off in the name of the file, as every other look is.
                with suppress(StopReadingError), self._file.in_use():
                    look()
            finally:
                self.connection.set_progress_handler(None, 0)
            yield (time.monotonic() - began) * 1000

    # --- what would help --------------------------------------------------------------------------------------------

    def _index_of(self, look: Look) -> str:
        sid = self._columns["sid"]
        if self._is_view:
            return self._index_behind(sid if look is Look.SID else self._columns.get("vm_ref", sid))
        if look is Look.SID:
            return f"CREATE INDEX {quoted(f'{self._name}_sids')} ON {quoted(self._name)} ({quoted(sid)});"
        of_plain, of_others = indexes_of_holders(self._name, sid, self._columns.get("vm_ref"))
        return of_plain if look is Look.VM else of_others

    def _index_behind(self, column: str) -> str:
        return (
            f"an index in the table that the view {self._name!r} takes {column!r} from, and one on each column that "
            "the view joins by; a view itself can have none"
        )

    def _index_of_due(self) -> str:
        if self._is_view:
            return self._index_behind(self._columns["expires_at"])
        expires_at, sid, status = (quoted(self._columns[role]) for role in ("expires_at", "sid", "status"))
        return (
            f"CREATE INDEX {quoted(f'{self._name}_due')} ON {quoted(self._name)} ({expires_at}, {sid}) "
            f"WHERE {status} <> {constant(self._words.released)};"
        )


def _until(ends: float) -> Callable[[], bool]:
    return lambda: time.monotonic() > ends
