"""Bringing an older journal up to date: first a copy of it, then the steps; both while nobody else can write in it.

Whoever calls this holds the lock of the tick. Until the steps are committed nothing is changed but a file more.
"""

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from itertools import count
from pathlib import Path

from autorelease.errors import UnusableError
from autorelease.journal.schema import VERSION, bring_up_to_date, version_of
from autorelease.sqlitefile import connect

logger = logging.getLogger(__name__)

MODE = 0o640


def upgrade(connection: sqlite3.Connection, path: Path) -> Path | None:
    """Take the steps that this journal lacks; returns the copy that was made before, None where it lacks none.

    Raises UnusableError, with the journal as it was and no copy left behind, where it cannot be copied; an error of
    SQLite's own where a step cannot be taken.
    """
    if version_of(connection) == VERSION:
        return None
    copies: list[Path] = []
    # Opened before the transaction: whoever closes a file gives back all locks that this process has on it (POSIX).
    with closing(connect(path, read_only=True)) as reader:
        try:
            bring_up_to_date(connection, first=lambda version: copies.append(_copy(reader, path, version)))
        except BaseException:
            _remove(copies, connection)
            raise
    for copy in copies:
        logger.warning("the journal was of an older version, and is up to date now. As it was before: %s", copy)
    return copies[0] if copies else None


def _copy(reader: sqlite3.Connection, path: Path, version: int) -> Path:
    """A durable copy of the journal as it is; an earlier copy keeps its name."""
    # No copy has its name before it is whole: the process may be killed here.
    unfinished = path.with_name(f"{path.name}.v{version}.unfinished")
    try:
        with _speaking_of_the_copy(unfinished):
            unfinished.unlink(missing_ok=True)
            os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, MODE))
            _fill(unfinished, reader)
            _make_durable(unfinished)
            copy = _free_name(path, version)
            unfinished.rename(copy)
            _make_durable(path.parent)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise
    return copy


def _fill(target: Path, reader: sqlite3.Connection) -> None:
    # Another connection than the one whose transaction keeps others from writing: SQLite copies from no other.
    with closing(sqlite3.connect(target, isolation_level=None)) as connection:
        # It leaves no second file behind; a copy that breaks off is removed as a whole.
        connection.execute("PRAGMA journal_mode = OFF")
        reader.backup(connection)


def _free_name(path: Path, version: int) -> Path:
    name = f"{path.name}.v{version}"
    candidates = (path.with_name(f"{name}.{number}" if number else name) for number in count())
    return next(candidate for candidate in candidates if not os.path.lexists(candidate))


def _make_durable(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(copies: list[Path], connection: sqlite3.Connection) -> None:
    """Remove the copy of a journal that is as it was: each further try would leave another."""
    with suppress(sqlite3.Error, OSError):
        if version_of(connection) < VERSION:
            for copy in copies:
                copy.unlink()


@contextmanager
def _speaking_of_the_copy(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise UnusableError(
            f"{path}: the journal is of an older version, and is copied before it is brought up to date, which failed: "
            f"{error.strerror if isinstance(error, OSError) else error}. Make room on its disk, or look into the "
            "kernel's log. The journal is as it was, and nothing was released"
        ) from error
