"""The operator's file and table: opened, checked, and its columns by their roles. One thread alone uses it."""

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from autorelease.errors import UnusableError
from autorelease.identity import References
from autorelease.ledger.base import Base, check_base, kind_of
from autorelease.ledger.binding import lowered
from autorelease.ledger.conditions import is_admitted, is_live, may_be_admitted
from autorelease.ledger.reading import Reader
from autorelease.ledger.rows import StoredRow
from autorelease.ledger.rules import NO_RULES
from autorelease.ledger.values import Vocabulary
from autorelease.sqliteadvice import names_what_is_missing, primary_code
from autorelease.sqlitefile import (
    OpenFile,
    check_file,
    check_reading_is_harmless,
    check_writable,
    connect,
    interrupted_when,
    quoted,
)

REQUIRED = ("sid", "status", "expires_at")
ROLES = tuple(StoredRow.__struct_fields__)
# At most; a small ledger takes as much as it is.
CACHE_KIB = 4096
REMEDY = "Check [ledger] url and table in the configuration"


class LedgerConnection:
    """What every part of the ledger stands on. Raises UnusableError where the table is none that can be used.

    base: the table that is stamped where the ledger is a view. is_stamped: whether anything is stamped at all.
    """

    def __init__(
        self,
        path: Path,
        table: str,
        columns: Mapping[str, str],
        *,
        words: Vocabulary,
        named: frozenset[str] = frozenset(),
        base: Base | None = None,
        is_stamped: bool = True,
        read_only: bool = False,
    ) -> None:
        check_file(path, "ledger", REMEDY)
        check_reading_is_harmless(path)
        if not read_only:
            check_writable(path, "ledger")
        self._path = path
        self._file = OpenFile(path, "ledger")
        self._words = words
        self._reader = Reader(words)
        self._name = table
        self._rules = NO_RULES
        self._is_stopped: Callable[[], bool] = lambda: False
        with ExitStack() as unless_usable:
            self.connection = connect(path, read_only=read_only)
            unless_usable.callback(self.connection.close)
            with self._file.in_use():
                if not read_only:
                    # Of our own connection alone. Without it a stamp would break the operator's keys without a word.
                    self.connection.execute("PRAGMA foreign_keys = ON")
                # The rows that are due lie anywhere in a large table, and the way to them is the same again and again.
                self.connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
                self._is_view = self._checked_kind(table, base, is_stamped=is_stamped)
                self._base = base and check_base(self.connection, base, str(path))
                self._columns = self._checked_columns(table, columns, named)
                self._sid_is_unique = self._is_unique(table, self._columns["sid"])
            unless_usable.pop_all()
        self._table = f"main.{quoted(table)}"
        self._select = ", ".join(self._column(role) if role in self._columns else "NULL" for role in ROLES)

    def _checked_kind(self, table: str, base: Base | None, *, is_stamped: bool) -> bool:
        """Whether it is a view. Raises UnusableError where it is nothing, or nobody knows what is to be stamped."""
        kind = kind_of(self.connection, table)
        if kind is None:
            raise UnusableError(self._no_such_table(table))
        if kind == "table" and base is not None:
            raise UnusableError(
                f"{self._path}: {table!r} is a table, and is stamped itself: [ledger.stamp] is for a view. Remove "
                "[ledger.stamp], or name in [ledger] table the view that shows what is in both tables"
            )
        if kind == "view" and base is None and is_stamped:
            raise UnusableError(
                f"{self._path}: {table!r} is a view, and a view cannot be stamped. Name the table behind it, with its "
                "own columns, in [ledger.stamp]: table, sid, status; or, where the provisioner's own application "
                "stamps: [ledger] stamp = false"
            )
        return kind == "view"

    def _checked_columns(self, table: str, columns: Mapping[str, str], named: frozenset[str]) -> dict[str, str]:
        rows = self._column_names(table)
        present = {lowered(name): name for (name,) in rows}
        needed = {*REQUIRED, *named}
        for role in sorted(needed):
            if lowered(columns[role]) not in present:
                kind = "view" if self._is_view else "table"
                raise UnusableError(
                    f"{self._path}: {kind} {table!r} has no column {columns[role]!r} for {role}. Name it in "
                    f'[ledger.columns]: {role} = "…". Columns there: {", ".join(present.values())}'
                )
        for name, _ in self._words.where:
            if lowered(name) not in present:
                raise UnusableError(
                    f"{self._path}: table {table!r} has no column {name!r}, which [ledger] where names. "
                    f"Columns there: {', '.join(present.values())}"
                )
        self._absent = [role for role, name in columns.items() if lowered(name) not in present]
        return {role: columns[role] for role in ROLES if role in columns and role not in self._absent}

    def _column_names(self, table: str) -> list[tuple[str]]:
        try:
            return self.connection.execute("SELECT name FROM pragma_table_xinfo(?)", (table,)).fetchall()
        except sqlite3.OperationalError as error:
            if not self._is_view or primary_code(error) != sqlite3.SQLITE_ERROR or names_what_is_missing(error):
                raise
            raise UnusableError(
                f"{self._path}: the view {table!r} cannot be read: {error}. What it is made of has changed: make it "
                "anew (DROP VIEW, CREATE VIEW), or put back what is missing"
            ) from error

    def _no_such_table(self, table: str) -> str:
        # Imported for the bad news alone: it costs a tick a fifth of its start.
        from sqlite_utils import Database

        # Left to itself the library would turn recursive triggers on, for the operator's own triggers too.
        database = Database(self.connection, execute_plugins=False, recursive_triggers=False)
        tables = ", ".join(sorted(database.table_names())[:10]) or "none"
        views = ", ".join(sorted(database.view_names())[:10])
        more = f"; views: {views}" if views else ""
        return f"{self._path}: table {table!r} is not in this database. {REMEDY}. Tables there: {tables}{more}"

    def _is_unique(self, table: str, sid: str) -> bool:
        """Whether the schema itself lets no two rows of ours have the same sid, however it is compared."""
        info = self.connection.execute(
            "SELECT lower(name), upper(type), pk FROM pragma_table_xinfo(?)", (table,)
        ).fetchall()
        keys = [name for name, _, pk in info if pk]
        kind = next(kind for name, kind, _ in info if name == lowered(sid))
        if keys == [lowered(sid)] and kind == "INTEGER":
            return True
        # Two comparisons, the column's and the key's, need not agree on what is the same.
        if self._mentions_collations(table):
            return False
        # Without a type, 1 and '1' are two values and one sid.
        typed = any(word in kind for word in ("INT", "CHAR", "CLOB", "TEXT"))
        return typed and any(self._covers(sid, *index) for index in self._unique_indexes(table))

    def _unique_indexes(self, table: str) -> list[tuple[str, str | None]]:
        return self.connection.execute(
            "SELECT l.name, s.sql FROM pragma_index_list(?) l LEFT JOIN sqlite_master s ON s.name = l.name "
            'WHERE l."unique" AND NOT l.partial',
            (table,),
        ).fetchall()

    def _covers(self, sid: str, index: str, sql: str | None) -> bool:
        names = [name for (name,) in self.connection.execute("SELECT name FROM pragma_index_info(?)", (index,))]
        # In a column that where names all rows of ours are the same.
        same = {lowered(name) for name, _ in self._words.where} - {lowered(sid)}
        is_of_sid = {lowered(name or "") for name in names} - same == {lowered(sid)}
        return is_of_sid and "COLLATE" not in (sql or "").upper()

    def _mentions_collations(self, table: str) -> bool:
        # A column of a view may come from any table, or be made by the view.
        is_the_view = self._is_view and table == self._name
        rows = self.connection.execute(
            "SELECT 1 FROM sqlite_master WHERE sql LIKE '%COLLATE%' AND "
            "(type = 'table' AND lower(name) = lower(?1) OR ?2 AND type IN ('table', 'view'))",
            (table, is_the_view),
        )
        return rows.fetchone() is not None

    def _column(self, role: str) -> str:
        return f"{self._table}.{quoted(self._columns[role])}"

    def _has(self, role: str) -> bool:
        return role in self._columns

    @property
    def _live(self) -> str:
        deleted_at = self._column("deleted_at") if self._has("deleted_at") else None
        return f"({self._admitted} AND {is_live(self._column('status'), deleted_at, self._words)})"

    @property
    def _admitted(self) -> str:
        return f"({is_admitted(self._named, self._words)})"

    @property
    def _ours(self) -> str:
        """The same, in a form by which an index can be chosen."""
        return " AND ".join([*may_be_admitted(self._named, self._words), self._admitted])

    def _named(self, name: str) -> str:
        """A column by its own name."""
        return f"{self._table}.{quoted(name)}"

    @property
    def references(self) -> References:
        """How the ids of its VMs are compared."""
        return self._words.references

    def version(self) -> int | None:
        """A number that changes whenever another connection has committed (SQLite's PRAGMA data_version)."""
        with self._file.in_use():
            return int(self.connection.execute("PRAGMA data_version").fetchone()[0])

    @contextmanager
    def interrupted_when(self, is_stopped: Callable[[], bool]) -> Iterator[None]:
        """Let a look that is under way, or comes, end with StopReadingError as soon as this is so."""
        before, self._is_stopped = self._is_stopped, is_stopped
        try:
            with interrupted_when(self.connection, is_stopped):
                yield
        finally:
            self._is_stopped = before

    def close(self) -> None:
        """End all use of the database."""
        self.connection.close()
