"""Opening SQLite files without ever making one by mistake, and their errors in the operator's words.

Shared by ledger and journal; knows neither's tables.
"""

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from operator import methodcaller
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from autorelease.errors import StopReadingError, UnusableError
from autorelease.sqliteadvice import check_version, names_what_is_missing, primary_code, remedy

BUSY_SECONDS = 10
HEADER = b"SQLite format 3\x00"
WAL_VERSION = 2
# Called for every text that is read; a function of ours would take twice as long.
DECODED = methodcaller("decode", "utf-8", "surrogateescape")
Found = TypeVar("Found")
# SQLite's own steps: some milliseconds of work.
STEPS_BETWEEN_LOOKS = 100_000
# A CHECK, a trigger's RAISE, a value that a STRICT column does not take.
OF_ONE_ROW = (sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG)


class StampRefusedError(UnusableError):
    """The table's own rules refuse the change of one row, while the database as a whole works."""


def connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    """Open an existing SQLite file; transactions are written out by the caller.

    Text that is not UTF-8 arrives with lone surrogates instead of ending the whole cursor. Raises UnusableError.
    """
    check_version()
    with speaking_of(path):
        mode = "ro" if read_only and not _can_only_be_read_by_a_writer(path) else "rw"
        connection = sqlite3.connect(
            # As the bytes that it is on the disk, which need not be UTF-8.
            f"file:{quote(os.fsencode(path))}?mode={mode}",
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
        )
        with _closed_unless_usable(connection):
            connection.text_factory = DECODED
            if read_only:
                connection.execute("PRAGMA query_only = ON")
            # Of our own connection alone, and not stored in the file: what we count as done survives a power cut.
            connection.execute("PRAGMA synchronous = FULL")
    return connection


def connect_private(place: str, tables: Iterable[str]) -> sqlite3.Connection:
    """Open a temporary database without a name, with these tables; it is gone as soon as it is closed.

    SQLite keeps it in memory while it is small and in an unlinked temporary file after that. place: what an error says.
    """
    with speaking_of(place):
        connection = sqlite3.connect("", isolation_level=None)
        with _closed_unless_usable(connection):
            connection.execute("PRAGMA journal_mode = OFF")
            # One transaction from here on: nobody else looks, and nothing of it is to last.
            for statement in ("BEGIN", *tables):
                connection.execute(statement)
    return connection


@contextmanager
def _closed_unless_usable(connection: sqlite3.Connection) -> Iterator[None]:
    """Close it where this block breaks off; else whoever asked for it does."""
    with ExitStack() as unless_usable:
        unless_usable.callback(connection.close)
        yield
        unless_usable.pop_all()


def read_decoded(connection: sqlite3.Connection, read: Callable[[], Found]) -> Found:
    """What this reads, by a connection of `connect`, which may be called twice.

    Python's own decoder takes half as long as ours, which has its turn where some text is no UTF-8.
    """
    connection.text_factory = str
    try:
        return read()
    except sqlite3.OperationalError as error:
        # Of what Python could not decode SQLite knows nothing.
        if primary_code(error):
            raise
    finally:
        connection.text_factory = DECODED
    return read()


class OpenFile:
    """The file that is in use. SQLite itself goes on, without a word, with one that was removed or replaced meanwhile.

    Where a backup is moved to its place, all that is read is of yesterday, and all that is written is lost.
    """

    def __init__(self, path: Path, what: str) -> None:
        self._path = path
        self._what = what
        self._identity = self._found()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Turn SQLite's errors into ours, and raise UnusableError where, before or after, it is not that file."""
        self._check()
        with speaking_of(self._path):
            yield
        self._check()

    def _check(self) -> None:
        if self._identity is None or self._found() != self._identity:
            raise UnusableError(
                f"{self._path}: the {self._what} was removed or replaced while it was in use. Put it back; replace it "
                "only while no tick runs (systemctl stop autorelease.service)"
            )

    def _found(self) -> tuple[int, int] | None:
        try:
            state = self._path.stat()
        except OSError:
            return None
        return state.st_dev, state.st_ino


def check_file(path: Path, what: str, remedy: str, *, absent: str | None = None) -> None:
    """Raise UnusableError unless `path` is a readable SQLite database (an empty file is one, of no tables).

    absent: the remedy where there is no such file, if it is another one.
    """
    check_version()
    try:
        if path.is_dir():
            raise UnusableError(f"{path}: the {what} is a folder, not a database file. {remedy}")
        with path.open("rb") as file:
            header = file.read(len(HEADER))
    except FileNotFoundError as error:
        raise UnusableError(f"{path}: there is no such {what}. {absent or remedy}") from error
    except OSError as error:
        raise UnusableError(
            f"{path}: the {what} cannot be read ({error.strerror}): give this user the right to, or run as its owner"
        ) from error
    if header not in (b"", HEADER):
        raise UnusableError(f"{path}: the {what} is not an SQLite database. {remedy}")


def check_writable(path: Path, what: str) -> None:
    """Raise UnusableError unless both the file and its folder can be written: SQLite puts its journal beside it."""
    for target, kind in ((path, "file"), (path.parent, "folder")):
        if os.access(target, os.W_OK, effective_ids=True):
            continue
        _refuse_read_only(target, f"the {kind} of the {what}")
        raise UnusableError(
            f"{target}: the {kind} of the {what} cannot be written by this user (uid {os.geteuid()}): "
            f"give its group the right to (chmod g+w), or run as its owner"
        )


def _refuse_read_only(target: Path, what: str) -> None:
    """Raise UnusableError where no rights would help. A service is shown a read-only mount of all but its folders."""
    if os.statvfs(target).f_flag & os.ST_RDONLY:
        raise UnusableError(
            f"{target}: {what} is on a file system that is mounted read-only. If for the service alone, name the "
            "folder in ReadWritePaths= (systemctl edit autorelease.service); else look into the kernel's log for the "
            "reason, and mount it for writing"
        )


def check_reading_is_harmless(path: Path) -> None:
    """Raise UnusableError where our mere reading would lock out the database's own program.

    Opening a WAL database creates -wal and -shm beside it. Made by us in a folder that its owner shares with our group
    but in files that its owner cannot write, they stop the owner's next write.
    """
    if not is_wal(path) or all(_sidecar(path, end).exists() for end in ("-wal", "-shm")):
        return
    state = path.stat()
    if os.geteuid() in (0, state.st_uid):
        return
    shared = all(os.access(place, os.W_OK, effective_ids=True) for place in (path, path.parent))
    if not shared or not state.st_mode & 0o020:
        _refuse_read_only(path, "it is in WAL mode, which takes the right to write, and")
        raise UnusableError(
            f"{path}: is in WAL mode, and reading it as uid {os.geteuid()} would leave files that its owner cannot "
            f"write. Let the group write: chmod g+w {path} && chmod 2770 {path.parent}; or run as the owner"
        )


def is_wal(path: Path) -> bool:
    """Whether the file's header says that it is in WAL mode (bytes 18 and 19: the read and write version).

    Not to be asked while this process has a connection to it: whoever closes a file gives back all locks on it (POSIX).
    """
    with path.open("rb") as file:
        return WAL_VERSION in file.read(20)[18:]


def quoted(name: str) -> str:
    """An SQL identifier, for every name that SQLite allows."""
    return '"' + name.replace('"', '""') + '"'


@contextmanager
def speaking_of(path: Path | str) -> Iterator[None]:
    """Turn SQLite's errors into UnusableError with the file and what to do."""
    try:
        yield
    except sqlite3.Error as error:
        if primary_code(error) == sqlite3.SQLITE_INTERRUPT:
            raise StopReadingError from error
        is_of_one_row = isinstance(error, sqlite3.IntegrityError) or primary_code(error) in OF_ONE_ROW
        if is_of_one_row and not names_what_is_missing(error):
            raise StampRefusedError(f"{path}: the table's own rules refuse the change: {error}") from error
        raise UnusableError(f"{path}: {error}. {remedy(error, BUSY_SECONDS)}") from error


@contextmanager
def interrupted_when(connection: sqlite3.Connection, is_stopped: Callable[[], bool]) -> Iterator[None]:
    """Let what this connection executes end with StopReadingError as soon as this is so, however long it would take.

    Between the steps Python hears signals, too, for which it has no ear while one statement runs.
    """
    connection.set_progress_handler(lambda: int(is_stopped()), STEPS_BETWEEN_LOOKS)
    try:
        yield
    finally:
        connection.set_progress_handler(None, 0)


def _sidecar(path: Path, end: str) -> Path:
    return path.with_name(path.name + end)


def _can_only_be_read_by_a_writer(path: Path) -> bool:
    """Whether a connection that must not write could not read it, and we may open another (query_only keeps it quiet).

    A reader of a WAL database creates -wal and -shm where they are absent, and only a connection that may write removes
    them again. And where whoever wrote it was killed, the half-written is taken back by the next one who may write.
    """
    needed = not _sidecar(path, "-wal").exists() if is_wal(path) else _is_half_written(path)
    return needed and all(os.access(place, os.W_OK, effective_ids=True) for place in (path, path.parent))


def _is_half_written(path: Path) -> bool:
    """Whether its rollback journal holds something: a transaction is under way, or was when its writer died."""
    try:
        return _sidecar(path, "-journal").stat().st_size > 0
    except FileNotFoundError:
        return False
