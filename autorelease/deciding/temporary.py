"""A private temporary database without a name: its connection, and how it is asked. What is in it is for others to say.

SQLite keeps it in memory while it is small and in an unlinked temporary file after that.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from autorelease.deciding.tables import INDEXES
from autorelease.model import RawValue
from autorelease.sqlitefile import connect_private, interrupted_when, speaking_of

CHUNK = 10_000
PLACE = "the plan's temporary file (in SQLITE_TMPDIR, TMPDIR or /var/tmp)"


class Temporary:
    """Gone as soon as it is closed. tables: the statements that make them."""

    def __init__(self, tables: Iterable[str]) -> None:
        self._connection = connect_private(PLACE, tables)

    def interrupted_when(self, is_stopped: Callable[[], bool]) -> AbstractContextManager[None]:
        """Let what is asked of it end with StopReadingError as soon as this is so."""
        return interrupted_when(self._connection, is_stopped)

    def close(self) -> None:
        """Let it go."""
        self._connection.close()

    def _index(self, *names: str) -> None:
        with speaking_of(PLACE):
            for name in names:
                self._connection.execute(f"CREATE INDEX IF NOT EXISTS {name} ON {INDEXES[name]}")

    def _read(self, statement: str, *values: RawValue) -> Generator[tuple[Any, ...], None, None]:
        # Not the statement alone: it sorts, and reads from the disk, with each row that it is asked for.
        with speaking_of(PLACE):
            # Row by row: whoever leaves off would have `yield from` close the cursor of a spool that is closed already.
            for row in self._connection.execute(statement, values):  # noqa: UP028
                yield row

    def _pages(self, statement: str, beginning: RawValue) -> Iterator[Sequence[tuple[Any, ...]]]:
        """What a statement finds, in pieces, between which the table may change. Its first column rises."""
        after = beginning
        while page := list(self._read(f"{statement} LIMIT ?", after, CHUNK)):
            yield page
            after = page[-1][0]
