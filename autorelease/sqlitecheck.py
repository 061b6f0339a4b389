"""The long look for damage in an SQLite file. Only reads; it can be broken off at any time.

Shared by ledger and journal; knows neither's tables.
"""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from autorelease.errors import UnusableError
from autorelease.sqlitefile import check_file, connect, speaking_of

if TYPE_CHECKING:
    import sqlite3

WAIT_SECONDS = 0.1
LONGEST_STOP_SECONDS = 5
INTACT = ["ok"]


def find_damage(path: Path, table: str | None = None) -> Sequence[str]:
    """What SQLite finds wrong, in its own words; at most a hundred things.

    table: this one and its indexes alone; of a view, whose tables nobody names, all of the file is looked at.

    Raises UnusableError where it cannot look.
    """
    check_file(path, "database", "Look whether the configuration names the right file")
    look = _Look(path, table)
    thread = threading.Thread(target=look.run, name="integrity", daemon=True)
    thread.start()
    try:
        # SQLite's own code hears no signal: it runs beside the thread that does.
        while thread.is_alive():
            thread.join(WAIT_SECONDS)
    except BaseException:
        look.stop()
        thread.join(LONGEST_STOP_SECONDS)
        raise
    if look.error is not None:
        raise look.error
    if look.found is None:
        raise UnusableError(f"{path}: the look for damage did not come to its end")
    return look.found


class _Look:
    """One look, with a connection of its own. found None: it has not come to its end. error: why it never will."""

    def __init__(self, path: Path, table: str | None) -> None:
        self.found: Sequence[str] | None = None
        self.error: Exception | None = None
        self._path = path
        self._table = table
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._is_stopped = False

    def run(self) -> None:
        """Look, and keep what is found."""
        try:
            with speaking_of(self._path):
                self._run()
        except Exception as error:  # noqa: BLE001 - handed to the thread that waits
            self.error = error

    def _run(self) -> None:
        connection = connect(self._path, read_only=True)
        with self._lock:
            self._connection = connection
        try:
            if not self._is_stopped:
                lines = [str(line) for (line,) in connection.execute(self._statement(connection))]
                self.found = [] if lines == INTACT else lines
        finally:
            with self._lock:
                self._connection = None
            connection.close()

    def _statement(self, connection: "sqlite3.Connection") -> str:
        tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND lower(name) = lower(?)"
        found = connection.execute(tables, (self._table,)).fetchone()
        return "PRAGMA integrity_check" + (f"({_quoted(found[0])})" if found else "")

    def stop(self) -> None:
        """Break it off."""
        with self._lock:
            self._is_stopped = True
            if self._connection is not None:
                self._connection.interrupt()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
