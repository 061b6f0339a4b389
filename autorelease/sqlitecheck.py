"""The long look for damage in an SQLite file. Only reads; it can be broken off at any time.

Shared by ledger and journal; knows neither's tables.
"""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

from autorelease.errors import StopReadingError
from autorelease.sqliteadvice import primary_code
from autorelease.sqlitefile import check_file, connect, quoted, speaking_of

INTACT = ["ok"]


def find_damage(path: Path, table: str | None = None) -> Sequence[str]:
    """What SQLite finds wrong, in its own words; at most a hundred things.

    table: this one and its indexes alone; of a view, whose tables nobody names, all of the file is looked at.

    Raises UnusableError where it cannot look.
    """
    check_file(path, "database", "Look whether the configuration names the right file")
    look = _Look(path, table)
    # SQLite's own code hears no signal: it runs beside the thread that does.
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="integrity") as beside:
        try:
            return beside.submit(look.find).result()
        finally:
            look.stop()


def _lines(connection: sqlite3.Connection, statement: str) -> Iterator[str]:
    """What is found, until the damage itself ends the look: that is the last line then."""
    try:
        for (line,) in connection.execute(statement):
            yield str(line)
    except sqlite3.DatabaseError as error:
        if primary_code(error) != sqlite3.SQLITE_CORRUPT:
            raise
        yield f"{error}: the look itself ended there"


class _Look:
    """One look, with a connection of its own."""

    def __init__(self, path: Path, table: str | None) -> None:
        self._path = path
        self._table = table
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._is_stopped = False

    def find(self) -> Sequence[str]:
        """What is found. Raises StopReadingError where it is broken off."""
        with (
            speaking_of(self._path),
            closing(connect(self._path, read_only=True)) as connection,
            self._in_reach(connection),
        ):
            lines = list(_lines(connection, self._statement(connection)))
        return [] if lines == INTACT else lines

    @contextmanager
    def _in_reach(self, connection: sqlite3.Connection) -> Iterator[None]:
        """Let `stop` break off what this connection does."""
        with self._lock:
            if self._is_stopped:
                raise StopReadingError
            self._connection = connection
        try:
            yield
        finally:
            with self._lock:
                self._connection = None

    def _statement(self, connection: sqlite3.Connection) -> str:
        tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND lower(name) = lower(?)"
        found = connection.execute(tables, (self._table,)).fetchone()
        return "PRAGMA integrity_check" + (f"({quoted(found[0])})" if found else "")

    def stop(self) -> None:
        """Break it off."""
        with self._lock:
            self._is_stopped = True
            if self._connection is not None:
                self._connection.interrupt()
