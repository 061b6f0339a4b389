"""How many rows one read takes, so that it holds no lock for longer than a writer would notice. Knows no database."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# A reader of a ledger with a rollback journal keeps every writer from committing: never for longer than this.
LONGEST_SECONDS = 0.1
FIRST_ROWS = 100
LEAST_ROWS = 20
MOST_ROWS = 10_000
# More than any table has.
EVERYTHING = 2**62


class Pace:
    """The number of rows of the next read, by how long the one before it took. It aims at half of what is allowed.

    most: rows at once, however quick it is.
    """

    def __init__(
        self, monotonic: Callable[[], float] = time.monotonic, rows: int | None = None, most: int = MOST_ROWS
    ) -> None:
        self.rows = FIRST_ROWS if rows is None else rows
        self._most = most
        self._monotonic = monotonic

    @contextmanager
    def measured(self) -> Iterator[None]:
        """One read of `rows` rows, from its first lock to its last."""
        began = self._monotonic()
        yield
        self._adapt(self._monotonic() - began)

    def _adapt(self, seconds: float) -> None:
        if seconds > LONGEST_SECONDS / 2:
            self.rows = max(LEAST_ROWS, int(self.rows * LONGEST_SECONDS / 2 / seconds))
        elif seconds < LONGEST_SECONDS / 4:
            self.rows = min(self._most, self.rows * 2)
