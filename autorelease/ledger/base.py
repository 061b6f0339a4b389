"""The base table of a view: the table that is stamped where the ledger is a view. Knows its names and keys alone.

Its rows are found by their key. Whether one may be stamped is judged by what the view shows, and not here.
"""

import sqlite3

import msgspec
from msgspec.structs import replace

from autorelease.errors import UnusableError
from autorelease.ledger.binding import lowered, twin
from autorelease.ledger.rules import Row
from autorelease.ledger.values import shown
from autorelease.model import RawValue
from autorelease.sqliteadvice import NO_COLLATION
from autorelease.sqlitefile import quoted


class Base(msgspec.Struct, frozen=True):
    """Its names. released: what it says of a row that the view shows as released.

    released_at "": it has none. may_lack_released_at: nobody has named that column. has_own_collation: its key is
    compared by a rule that its application alone has.
    """

    table: str
    sid: str
    status: str
    released_at: str
    released: str | int
    may_lack_released_at: bool = False
    has_own_collation: bool = False

    def __str__(self) -> str:
        return f"table {self.table!r}"

    @property
    def described(self) -> str:
        """All of it, in the configuration's words."""
        keys = {"sid": self.sid, "status": self.status, "released_at": self.released_at or "none"}
        return f"{self} ({', '.join(f'{key} = {name}' for key, name in keys.items())}, released = {self.released!r})"

    @property
    def source(self) -> str:
        """Its name in a statement."""
        return f"main.{quoted(self.table)}"

    def row(self, sid: RawValue) -> Row:
        """The row of this key. Compared as text, too, because a view may show a number as text."""
        key = f"{self.source}.{quoted(self.sid)}"
        # Said only where it is needed: no index of another collation serves it.
        found = f"{key} COLLATE BINARY" if self.has_own_collation else key
        condition = f"({found} = ? OR {found} = ?) AND CAST({key} AS TEXT) COLLATE BINARY = CAST(? AS TEXT)"
        return Row(condition, (sid, twin(sid), sid))

    def changes(self, released_at: RawValue) -> dict[str, RawValue]:
        """What a stamp writes."""
        return {self.status: self.released, **({self.released_at: released_at} if self.released_at else {})}

    def check_row(self, connection: sqlite3.Connection, sid: RawValue) -> None:
        """Raise IntegrityError unless it has exactly one row of this key."""
        row = self.row(sid)
        statement = f"SELECT count(*) FROM {self.source} WHERE {row.condition}"
        [rows] = connection.execute(statement, row.values).fetchone()
        if rows != 1:
            raise sqlite3.IntegrityError(
                f"{self} has {rows or 'no'} rows with {self.sid} = {shown(sid)}, and needs one: [ledger.stamp] sid "
                "must name the column that the view shows as sid"
            )

    def is_released(self, connection: sqlite3.Connection, sid: RawValue) -> bool:
        """Whether its one row of this key is Released."""
        row, status = self.row(sid), f"{self.source}.{quoted(self.status)}"
        statement = f"SELECT {status} COLLATE BINARY IS ? FROM {self.source} WHERE {row.condition}"
        return connection.execute(statement, (self.released, *row.values)).fetchall() == [(1,)]


def check_base(connection: sqlite3.Connection, base: Base, place: str) -> Base:
    """The base as the database has it; raises UnusableError where it lacks the table or a column of it."""
    kind = kind_of(connection, base.table)
    if kind != "table":
        what = "is a view itself: name a table" if kind else "is not in this database"
        raise UnusableError(f"{place}: [ledger.stamp] table = {base.table!r} {what}")
    rows = connection.execute("SELECT name FROM pragma_table_xinfo(?)", (base.table,)).fetchall()
    present = {lowered(name): name for (name,) in rows}
    if base.may_lack_released_at and lowered(base.released_at) not in present:
        base = replace(base, released_at="")
    for key, name in (("sid", base.sid), ("status", base.status), ("released_at", base.released_at)):
        if name and lowered(name) not in present:
            raise UnusableError(
                f'{place}: {base} has no column {name!r} for {key}. Name it in [ledger.stamp]: {key} = "…". '
                f"Columns there: {', '.join(present.values())}"
            )
    return replace(base, has_own_collation=_has_own_collation(connection, base))


def _has_own_collation(connection: sqlite3.Connection, base: Base) -> bool:
    row = base.row(None)
    try:
        connection.execute(f"SELECT 1 FROM {base.source} WHERE {row.condition} LIMIT 0", row.values)
    except sqlite3.OperationalError as error:
        if not str(error).startswith(NO_COLLATION):
            raise
        return True
    return False


def kind_of(connection: sqlite3.Connection, table: str) -> str | None:
    """'table' or 'view'; None: there is nothing of that name."""
    found = connection.execute(
        "SELECT type FROM sqlite_master WHERE lower(name) = lower(?) AND type IN ('table', 'view')", (table,)
    ).fetchone()
    return found[0] if found else None
