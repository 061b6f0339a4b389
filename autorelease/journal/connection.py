"""The journal's file: opened, checked, read from and written to in transactions. One thread alone uses it."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from autorelease.errors import ConfigurationError, UnusableError
from autorelease.journal.schema import VERSION, is_journal, version_of
from autorelease.journal.upgrade import upgrade
from autorelease.sqlitefile import OpenFile, check_file, check_writable, connect
from autorelease.text import user_name

REMEDY = (
    "Check [journal] url in the configuration. If that file was overwritten, put its newest copy back "
    '(runbook.md, "The journal is lost")'
)
ABSENT = (
    "If there never was one: autorelease init. If it is lost, put its newest copy back: a new one knows no hold "
    '(runbook.md, "The journal is lost")'
)
PAGE_ROWS = 500
SIDS_AT_ONCE = 500


class JournalConnection:
    """What every part of the journal stands on. Raises UnusableError where the file is none that can be used."""

    def __init__(self, path: Path, *, read_only: bool, may_be_older: bool = False) -> None:
        check_file(path, "journal", REMEDY, absent=ABSENT)
        if not read_only:
            _refuse_foreign_root(path)
            check_writable(path, "journal")
        self._path = path
        self._file = OpenFile(path, "journal")
        with ExitStack() as unless_usable:
            self.connection = connect(path, read_only=read_only)
            unless_usable.callback(self.connection.close)
            with self._file.in_use():
                self._check(may_be_older=may_be_older)
                if not read_only:
                    self.connection.execute("PRAGMA journal_mode = TRUNCATE")
            unless_usable.pop_all()

    def _check(self, *, may_be_older: bool) -> None:
        if not is_journal(self.connection):
            raise UnusableError(
                f"{self._path}: is not a journal of autorelease. Check [journal] url in the configuration, or make "
                "one at another path with: autorelease init"
            )
        version = version_of(self.connection)
        if version > VERSION:
            raise UnusableError(
                f"{self._path}: was written by a newer autorelease (its tables are of version {version}, and "
                f"{VERSION} is the newest that this one knows): install that autorelease again"
            )
        if version < VERSION and not may_be_older:
            raise UnusableError(
                f"{self._path}: is of an older version: the next tick brings it up to date. Not to wait for that, and "
                "to release nothing: autorelease init"
            )

    def version(self) -> int | None:
        """A number that changes whenever another connection has committed (SQLite's PRAGMA data_version)."""
        with self._file.in_use():
            return int(self.connection.execute("PRAGMA data_version").fetchone()[0])

    def is_older(self) -> bool:
        """Whether its tables are those of an older version, in which nothing but `bring_up_to_date` is of use."""
        with self._file.in_use():
            return version_of(self.connection) < VERSION

    def bring_up_to_date(self) -> Path | None:
        """Give an older journal the tables of the present version; returns the copy that was made of it before."""
        with self._file.in_use():
            return upgrade(self.connection, self._path)

    def close(self) -> None:
        """End all use of the database."""
        self.connection.close()

    def _rows(self, statement: str, *values: str | int | None) -> list[sqlite3.Row]:
        with self._file.in_use():
            cursor = self.connection.cursor()
            cursor.row_factory = sqlite3.Row
            return cursor.execute(statement, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._file.in_use():
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.connection.execute("COMMIT")
            finally:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")


def _refuse_foreign_root(path: Path) -> None:
    """Raise ConfigurationError for root in another user's folder: what root writes there the service cannot."""
    owner = path.parent.stat().st_uid
    if os.geteuid() == 0 and owner != 0:
        name = user_name(owner)
        raise ConfigurationError(
            f"{path}: its folder belongs to {name}, and what root writes there the service could not: "
            f"run as that user: runuser -u {name} -- autorelease …"
        )
