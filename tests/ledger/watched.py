"""A ledger that is watched: how many steps of the database's virtual machine each of its transactions takes.

No load of the machine changes these numbers.
"""

from collections.abc import Callable
from pathlib import Path

from autorelease.ledger.rows import StoredRow
from autorelease.ledger.sqlite import SQLiteLedger
from autorelease.ledger.values import Vocabulary

COLUMNS = {role: role for role in StoredRow.__struct_fields__}
WORDS = Vocabulary()


class Watched:
    """The steps of each transaction.

    at_once: after so many steps the database is looked at. before: is called with each statement.
    """

    def __init__(
        self,
        path: Path,
        table: str = "vm_allocations",
        at_once: int = 1000,
        before: Callable[[str], None] = lambda _: None,
        words: Vocabulary = WORDS,
        *,
        is_stamped: bool = True,
    ) -> None:
        self.ledger = SQLiteLedger(path, table, COLUMNS, words=words, is_stamped=is_stamped, read_only=True)
        self.slices = [0]
        self._at_once = at_once
        self._before = before
        self.ledger.connection.set_progress_handler(self._step, at_once)
        self.ledger.connection.set_trace_callback(self._statement)

    def _step(self) -> None:
        self.slices[-1] += self._at_once

    def _statement(self, statement: str) -> None:
        self._before(statement)
        # Outside of a transaction each statement is one of its own.
        if statement == "BEGIN" or not self.ledger.connection.in_transaction:
            self.slices.append(0)
