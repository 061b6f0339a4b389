"""Which SQLite we work with, and what an operator can do about its errors. Opens nothing."""

import sqlite3

from autorelease.errors import UnusableError

# Statements of ours need it. It is also what Enterprise Linux 9 has.
OLDEST = (3, 34, 0)
# How SQLite says that it does not understand the schema, or the form, of a file.
NOT_UNDERSTOOD = ("malformed database schema", "unsupported file format")
# What a schema can name and a connection lack.
NO_COLLATION = "no such collation sequence"
MISSING = ("no such function", "unknown function", "no such window function", "no such module", NO_COLLATION)
LOOK_FIRST = (
    "Only if the newest sqlite3 shell, too, finds it damaged (PRAGMA integrity_check), restore it from a backup: that "
    "has lost all that was written since"
)


def check_version() -> None:
    """Raise UnusableError where the SQLite of this Python is older than any that we work with."""
    if sqlite3.sqlite_version_info < OLDEST:
        raise UnusableError(
            f"the SQLite of this Python is {version_in_use()}, and {_dotted(OLDEST)} or newer is needed. Nothing was "
            "done. Install a newer libsqlite3, or use a Python that has one: "
            "python3 -c 'import sqlite3; print(sqlite3.sqlite_version)'"
        )


def version_in_use() -> str:
    """The version of the SQLite that this Python has."""
    return _dotted(sqlite3.sqlite_version_info)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def primary_code(error: sqlite3.Error) -> int:
    """The primary result code; 0 for an error that Python made itself."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def names_what_is_missing(error: sqlite3.Error) -> bool:
    """Whether the schema uses what this connection has not (a function, say): then no row at all can be changed."""
    return str(error).startswith(MISSING)


def remedy(error: sqlite3.Error, busy_seconds: float) -> str:
    """What to do about it, without the last full stop. busy_seconds: how long a lock was waited for."""
    if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_READONLY_ROLLBACK:
        return (
            "Whoever wrote it last was killed, and what was half written must be taken back first, which takes the "
            "right to write: look as the owner, or wait for the next tick"
        )
    if str(error).startswith(NO_COLLATION):
        return _remedy_of_a_collation()
    if str(error).startswith(NOT_UNDERSTOOD):
        return _remedy_of_a_newer_file()
    if names_what_is_missing(error):
        return _remedy_of_what_is_missing()
    return {
        sqlite3.SQLITE_BUSY: f"Another program has held it for {busy_seconds} s: find it with fuser, or wait",
        sqlite3.SQLITE_LOCKED: "Another connection has locked the table: wait and try again",
        sqlite3.SQLITE_CORRUPT: _remedy_of_damage(),
        sqlite3.SQLITE_NOTADB: _remedy_of_no_database(),
        sqlite3.SQLITE_FULL: "The disk is full: make room on it",
        sqlite3.SQLITE_READONLY: "It cannot be written: check the rights of the file and its folder, and the mount",
        sqlite3.SQLITE_CANTOPEN: "It cannot be opened: check the rights of the file and its folder",
        sqlite3.SQLITE_IOERR: "The disk reported an error: check the room on it, and the kernel's log",
    }.get(primary_code(error), "Check the database with the sqlite3 shell")


def _remedy_of_damage() -> str:
    return (
        "The file is damaged: restore it from a backup only if that has all that was written since. How far it is "
        "damaged: autorelease doctor --deep"
    )


def _remedy_of_a_newer_file() -> str:
    # All of a schema is read before anything else. What in it is not understood, down to a view that nobody asks, has
    # the code of a page that is damaged (SQLITE_CORRUPT).
    return (
        f"Usually the file is good, and this Python's SQLite ({version_in_use()}) too old for it: a newer one has put "
        f"something into it that this one does not know. Use a Python with that newer SQLite. {LOOK_FIRST}"
    )


def _remedy_of_no_database() -> str:
    # Whoever opened it has seen that it begins as a database does.
    return (
        f"It is encrypted, this Python's SQLite ({version_in_use()}) is too old for it, or its first page is damaged. "
        f"{LOOK_FIRST}"
    )


def _remedy_of_what_is_missing() -> str:
    return (
        "An index, a CHECK, a generated column, a view or a trigger uses it, and nothing is wrong with the file: this "
        f"Python's SQLite ({version_in_use()}) has none. If a newer SQLite has it, use a Python with that one. If the "
        "application brings it along, either the schema does without it, or the application alone stamps: "
        "[ledger] stamp = false"
    )


def _remedy_of_a_collation() -> str:
    return (
        "The application brings this collation along, and no other program has it; nothing is wrong with the file. "
        "Where columns have it: make a view that shows each of them without it (sid COLLATE BINARY AS sid, and so on), "
        "and name the table behind it in [ledger.stamp]. Where an index, a CHECK or a trigger over the status has it: "
        "make that anew without it, or the application alone stamps: [ledger] stamp = false"
    )
