"""A really damaged index: rows are in the table, and their entries are not in the index."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path


def write_behind_the_index(path: Path, index: str, write: Callable[[sqlite3.Connection], object]) -> None:
    """Write while the database does not know of the index, and then tell it of the same index again.

    So it is left by a file system that lost a page, or by a copy of a file that was being written.
    """
    with closing(sqlite3.connect(path)) as connection:
        row = connection.execute("SELECT * FROM sqlite_master WHERE name = ?", (index,)).fetchone()
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("DELETE FROM sqlite_master WHERE name = ?", (index,))
        connection.commit()
    # Another connection reads the schema anew.
    with closing(sqlite3.connect(path)) as connection:
        write(connection)
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", row)
        connection.commit()


def missing_entries(path: Path) -> list[str]:
    """What SQLite itself says of the file."""
    with closing(sqlite3.connect(path)) as connection:
        return [line for (line,) in connection.execute("PRAGMA integrity_check")]
