"""Whether anybody has written to an SQLite file, to be asked in any thread.

Shared by ledger and journal; knows neither's tables.
"""

import threading
from pathlib import Path

from autorelease.sqlitefile import OpenFile, connect, speaking_of

BUSY_MILLISECONDS = 200


class Watch:
    """Tells every thread whether anybody has written to a file, this process included. Reads nothing else of it."""

    def __init__(self, path: Path, what: str) -> None:
        self._path = path
        self._file = OpenFile(path, what)
        # A connection is used by one thread at a time.
        self._lock = threading.Lock()
        # Not read-only: to see how such a one has to be opened, the file would be opened and closed, and with that this
        # process gives back all locks that its other connections have on it (POSIX). One of a WAL database must keep
        # its lock for as long as it is open.
        self._connection = connect(path, read_only=False, is_of_one_thread=False)
        self._connection.execute("PRAGMA query_only = ON")
        # Who waits behind a long lock has seen nothing: that is an answer, too, and one that others wait for.
        self._connection.execute(f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}")

    def version(self) -> int:
        """A number that changes with every commit of any other connection (SQLite's PRAGMA data_version)."""
        with self._lock, speaking_of(self._path):
            [number] = self._connection.execute("PRAGMA data_version").fetchone()
        self._file.check()
        return int(number)

    def close(self) -> None:
        """End all use of the file."""
        with self._lock:
            self._connection.close()
