"""What an SQLite table's own rules have to say about a stamp: triggers, checks, unique indexes, foreign keys.

Knows the schema alone: no configuration, no allocation. Foreign keys are looked up here besides the database's own
look, because a deferred one says nothing before COMMIT, and because one can carry a change into another table.
"""

import re
import sqlite3
from collections.abc import Iterator, Sequence

import msgspec

from autorelease.model import RawValue
from autorelease.sqlitefile import quoted

# A name that no table has by chance: our second look at a table must not be taken for the first.
OTHER = quoted("autorelease: the other side")
CARRIED = ("CASCADE", "SET NULL", "SET DEFAULT")
CHECKS = re.compile(r"\bCHECK\b", re.IGNORECASE)
REPLACES = re.compile(r"\bON\s+CONFLICT\s+REPLACE\b", re.IGNORECASE)
STRICT = re.compile(r"\bSTRICT\b", re.IGNORECASE)


class ForeignKey(msgspec.Struct, frozen=True):
    """One foreign key. columns: pairs of a column of the child and one of the parent."""

    child: str
    parent: str
    columns: Sequence[tuple[str, str]]
    on_update: str

    def __str__(self) -> str:
        names = ", ".join(name for name, _ in self.columns)
        return f"the foreign key ({names}) of table {self.child!r} to table {self.parent!r}"


class Row(msgspec.Struct, frozen=True):
    """How a statement finds the row that is stamped. condition: SQL over the table's full name; values: its `?`s."""

    condition: str
    values: Sequence[RawValue]


class Rules(msgspec.Struct, frozen=True):
    """The rules that a stamp of these columns meets.

    refuses: whether they could refuse the stamp of one row and take that of another; in doubt they could. joins_rows:
    whether the stamp of one row could be refused because of that of another; in doubt it could. replaces: whether one
    of them would, left to itself, remove another row to make room for the stamped one. has_triggers: whether more may
    happen with a stamp than the stamp.
    """

    table: str
    version: int
    refuses: bool
    joins_rows: bool
    replaces: bool
    to_parents: Sequence[ForeignKey]
    to_us: Sequence[ForeignKey]
    has_triggers: bool = True

    @property
    def keys(self) -> str:
        """The foreign keys that a stamp can break, as text; empty: none."""
        return "; ".join(str(key) for key in (*self.to_parents, *self.to_us))

    def check_carries_nothing(self, connection: sqlite3.Connection, row: Row) -> None:
        """Raise IntegrityError where the stamp of this row would change a row of another table, too."""
        for key in self.to_us:
            if key.on_update in CARRIED and self._has_children(connection, key, row):
                raise sqlite3.IntegrityError(
                    f"{key} is ON UPDATE {key.on_update}, and would change rows of {key.child!r}; nothing is changed "
                    "but the status and released_at of the allocation"
                )

    def children(self, connection: sqlite3.Connection, row: Row) -> Sequence[tuple[ForeignKey, tuple[RawValue, ...]]]:
        """The keys by which other rows point at this one as it is now, with the values that they point at."""
        found = []
        for key in self.to_us:
            if self._has_children(connection, key, row):
                names = ", ".join(f"{_main(self.table)}.{quoted(parent)}" for _, parent in key.columns)
                statement = f"SELECT {names} FROM {_main(self.table)} WHERE {row.condition}"
                found.append((key, connection.execute(statement, row.values).fetchone()))
        return found

    def check_parents(self, connection: sqlite3.Connection, row: Row) -> None:
        """Raise IntegrityError where the stamped row points at nobody."""
        for key in self.to_parents:
            present = " AND ".join(f"{_main(self.table)}.{quoted(child)} IS NOT NULL" for child, _ in key.columns)
            statement = (
                f"SELECT 1 FROM {_main(self.table)} WHERE {row.condition} AND {present} "
                f"AND NOT EXISTS ({_parent_of(key, _main(self.table))})"
            )
            if connection.execute(statement, row.values).fetchone():
                raise sqlite3.IntegrityError(f"{key} finds no such row there")

    def check_children(
        self, connection: sqlite3.Connection, children: Sequence[tuple[ForeignKey, tuple[RawValue, ...]]]
    ) -> None:
        """Raise IntegrityError where rows that pointed at the row before its stamp point at nobody now."""
        for key, values in children:
            child = _main(key.child)
            pairs = zip(key.columns, values, strict=True)
            pointing = " AND ".join(f"{child}.{quoted(name)} = {_parameter(value)}" for (name, _), value in pairs)
            statement = f"SELECT 1 FROM {child} WHERE {pointing} AND NOT EXISTS ({_parent_of(key, child)}) LIMIT 1"
            if connection.execute(statement, [_bindable(value) for value in values]).fetchone():
                raise sqlite3.IntegrityError(f"{key} would be left without its row here")

    def _has_children(self, connection: sqlite3.Connection, key: ForeignKey, row: Row) -> bool:
        table = _main(self.table)
        pairs = " AND ".join(f"{table}.{quoted(parent)} = {OTHER}.{quoted(child)}" for child, parent in key.columns)
        statement = f"SELECT 1 FROM {table}, {_main(key.child)} AS {OTHER} WHERE {row.condition} AND {pairs} LIMIT 1"
        return connection.execute(statement, row.values).fetchone() is not None


NO_RULES = Rules("", version=-1, refuses=False, joins_rows=False, replaces=False, to_parents=(), to_us=())


def read_rules(connection: sqlite3.Connection, table: str, stamped: Sequence[str]) -> Rules:
    """Read the rules of a table for a stamp of these columns, as the schema is now."""
    columns = connection.execute("SELECT name, pk, hidden FROM pragma_table_xinfo(?)", (table,)).fetchall()
    # A generated column may be made of a stamped one.
    touched = {_lowered(name) for name in stamped} | {_lowered(name) for name, _, hidden in columns if hidden}
    [sql] = connection.execute(
        "SELECT sql FROM sqlite_master WHERE type = 'table' AND lower(name) = lower(?)", (table,)
    ).fetchone() or ("",)
    to_parents = [key for key in _keys_of(connection, table) if _touches(touched, (child for child, _ in key.columns))]
    to_us = [key for key in _keys_to(connection, table) if _touches(touched, (parent for _, parent in key.columns))]
    unique = _has_touched_index(connection, table, touched) or _touches(
        touched, (name for name, pk, _ in columns if pk)
    )
    has_triggers = _has_triggers(connection, table)
    joins_rows = any((unique, to_parents, to_us, has_triggers))
    return Rules(
        table=table,
        version=schema_version(connection),
        # A check, a type and a term of an index see the row that is written, and no other.
        refuses=joins_rows
        or CHECKS.search(sql) is not None
        or _is_strict(sql)
        or any(hidden for _, _, hidden in columns)
        or _has_touched_expression(connection, table, touched),
        joins_rows=joins_rows,
        replaces=unique and REPLACES.search(sql) is not None,
        to_parents=to_parents,
        to_us=to_us,
        has_triggers=has_triggers,
    )


def schema_version(connection: sqlite3.Connection) -> int:
    """A number that is another one after every change of the schema."""
    [version] = connection.execute("PRAGMA schema_version").fetchone()
    return int(version)


def _keys_to(connection: sqlite3.Connection, table: str) -> Iterator[ForeignKey]:
    names = connection.execute(
        "SELECT DISTINCT m.name FROM sqlite_master m, pragma_foreign_key_list(m.name) k "
        "WHERE m.type = 'table' AND lower(k.\"table\") = lower(?)",
        (table,),
    ).fetchall()
    for (name,) in names:
        yield from (key for key in _keys_of(connection, name) if _lowered(key.parent) == _lowered(table))


def _keys_of(connection: sqlite3.Connection, child: str) -> Iterator[ForeignKey]:
    rows = connection.execute(
        'SELECT id, "table", "from", "to", on_update FROM pragma_foreign_key_list(?) ORDER BY id, seq', (child,)
    ).fetchall()
    for number in sorted({row[0] for row in rows}):
        own = [row for row in rows if row[0] == number]
        _, parent, _, _, on_update = own[0]
        names = _primary_key(connection, parent) if own[0][3] is None else [row[3] for row in own]
        # A key that does not fit its parent is an error of the statement itself.
        if len(names) == len(own):
            yield ForeignKey(child, parent, list(zip((row[2] for row in own), names, strict=True)), on_update.upper())


def _primary_key(connection: sqlite3.Connection, table: str) -> list[str]:
    rows = connection.execute("SELECT name FROM pragma_table_xinfo(?) WHERE pk ORDER BY pk", (table,))
    return [name for (name,) in rows]


def _has_touched_index(connection: sqlite3.Connection, table: str, touched: set[str]) -> bool:
    """Whether a stamp may find its place in a unique index taken. A partial one may ask for the status in its WHERE."""
    indexes = connection.execute('SELECT name, partial FROM pragma_index_list(?) WHERE "unique"', (table,)).fetchall()
    for name, is_partial in indexes:
        names = [found for (found,) in connection.execute("SELECT name FROM pragma_index_info(?)", (name,))]
        # An expression has no name.
        if is_partial or None in names or _touches(touched, names):
            return True
    return False


def _has_touched_expression(connection: sqlite3.Connection, table: str, touched: set[str]) -> bool:
    """Whether an index holds a term that is made of a stamped column, and may break on it, as json() does."""
    indexes = connection.execute(
        "SELECT l.name, s.sql FROM pragma_index_list(?) l JOIN sqlite_master s ON s.name = l.name", (table,)
    ).fetchall()
    return any(
        connection.execute("SELECT 1 FROM pragma_index_info(?) WHERE name IS NULL", (name,)).fetchone()
        and any(column in _lowered(sql or "") for column in touched)
        for name, sql in indexes
    )


def _has_triggers(connection: sqlite3.Connection, table: str) -> bool:
    statement = "SELECT 1 FROM sqlite_master WHERE type = 'trigger' AND lower(tbl_name) = lower(?)"
    return connection.execute(statement, (table,)).fetchone() is not None


def _is_strict(sql: str) -> bool:
    return STRICT.search(sql.rpartition(")")[2]) is not None


def _parent_of(key: ForeignKey, child: str) -> str:
    """SQL for the parent of a row of `child`, compared as a key compares: by the parent's own type and collation."""
    pairs = " AND ".join(f"{OTHER}.{quoted(parent)} = +{child}.{quoted(name)}" for name, parent in key.columns)
    return f"SELECT 1 FROM {_main(key.parent)} AS {OTHER} WHERE {pairs}"


def _touches(touched: set[str], names: Iterator[str] | Sequence[str]) -> bool:
    return any(_lowered(name) in touched for name in names)


def _main(table: str) -> str:
    return f"main.{quoted(table)}"


def _lowered(name: str) -> str:
    """A name as SQLite compares it: only ASCII letters have no case."""
    return "".join(character.lower() if character.isascii() else character for character in name)


def _is_undecodable(value: RawValue) -> bool:
    return isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value)


def _parameter(value: RawValue) -> str:
    # Text that is no UTF-8 came with lone surrogates, and can be bound as bytes alone. The + keeps the type to itself.
    return "+CAST(? AS TEXT)" if _is_undecodable(value) else "?"


def _bindable(value: RawValue) -> RawValue:
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) and _is_undecodable(value) else value
