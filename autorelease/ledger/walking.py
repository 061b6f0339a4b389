"""The table itself, page by page of its own key and by no index: what an audit and a census stand on.

Each page is a read transaction of its own, and a short one. What a row means is decided in `rows`.
"""

import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

import msgspec

from autorelease.ledger import Walked
from autorelease.ledger.binding import twin
from autorelease.ledger.indexes import Indexes, Key, Page, Position, bindables, places
from autorelease.ledger.narrowing import quoted
from autorelease.ledger.rows import StoredRow, read_row
from autorelease.ledger.rules import schema_version
from autorelease.model import Allocation, InvalidRow

SIDS_AT_ONCE = 500
ROWID_NAMES = ("rowid", "_rowid_", "oid")


class Slice(msgspec.Struct, frozen=True):
    """One page: the rows behind `after` up to `last`. after None: from the beginning; last None: to the end.

    condition: SQL for that, with its values.
    """

    rows: int
    last: Position | None
    condition: str
    values: Position


class Walking(Indexes):
    """Pages of the key."""

    def ground(self) -> str:
        """What a position rests on: rows may have other numbers once the schema is another one (VACUUM changes it)."""
        with self._file.in_use():
            return self._ground(self._key())

    def meaning(self) -> str:
        """What the words of the configuration make of a row, in short: under others, another row is invalid."""
        words = [
            sorted(value) if isinstance(value, frozenset) else value for value in msgspec.structs.astuple(self._words)
        ]
        text = repr((sorted(self._columns.items()), words))
        return f"{zlib.crc32(text.encode('utf-8', 'surrogateescape')):08x}"

    def walk(
        self, position: str | None, now: datetime, grace: timedelta, is_due: Callable[[Allocation], bool]
    ) -> Walked:
        """Judge the live rows of the next page, and look each that is due up by the index that `due` goes by."""
        with self._file.in_use(), self._pace.measured(), self._reading():
            key = self._key()
            page = self._slice(key, _read(position), self._pace.rows)
            # Settled rows alone are left to SQL: of those nothing is to be judged.
            rows = self._rows_of(key, page)
            judged = [(row, read_row(row, self._words), at) for row, at in rows]
            due = [(verdict, at) for _, verdict, at in judged if isinstance(verdict, Allocation) and is_due(verdict)]
            hidden = self._hidden(Page(key, now - grace, rows, due))
            return Walked(
                ground=self._ground(key),
                rows=page.rows,
                live=len(judged),
                due=len(due),
                invalid=[verdict for _, verdict, _ in judged if isinstance(verdict, InvalidRow)],
                hidden=[sid for each in hidden for sid in each.sids],
                problem="; ".join(f"{self._path}: {each}" for each in hidden) or None,
                position=_written(page.last) if page.last is not None else None,
            )

    # --- pages ------------------------------------------------------------------------------------------------------

    def _slice(self, key: Key, after: Position | None, rows: int) -> Slice:
        """The next page. Both statements of a page are bounded by its number of rows."""
        if not key.columns:
            return Slice(self._count(key, "1", ()), None, "1", ())
        behind, values = (f"{key.row} > {places(after)}", bindables(after)) if after is not None else ("1", ())
        last = self.connection.execute(
            f"SELECT {', '.join(key.columns)} FROM {self._table} {key.hint} WHERE {behind} "
            f"ORDER BY {', '.join(key.columns)} LIMIT 1 OFFSET ?",
            (*values, rows - 1),
        ).fetchone()
        if last is None:
            return Slice(self._count(key, behind, values), None, behind, values)
        condition = f"{behind} AND {key.row} <= {places(last)}"
        return Slice(rows, last, condition, (*values, *bindables(last)))

    def _count(self, key: Key, condition: str, values: Position) -> int:
        statement = f"SELECT count(*) FROM {self._table} {key.hint} WHERE {condition}"
        return int(self.connection.execute(statement, values).fetchone()[0])

    def _rows_of(self, key: Key, page: Slice) -> list[tuple[StoredRow, Position]]:
        """The live rows of a page, each with its own key behind it."""
        columns = ", ".join((self._select, *key.columns))
        cursor = self.connection.execute(
            f"SELECT {columns} FROM {self._table} {key.hint} WHERE {page.condition} AND {self._live}", page.values
        )
        width = len(StoredRow.__struct_fields__)
        return [(StoredRow(*row[:width]), row[width:]) for row in cursor]

    @contextmanager
    def _reading(self) -> Iterator[None]:
        self.connection.execute("BEGIN")
        try:
            yield
        finally:
            self.connection.execute("ROLLBACK")

    # --- the key ----------------------------------------------------------------------------------------------------

    def _ground(self, key: Key) -> str:
        return f"{schema_version(self.connection)} {', '.join(key.columns)}"

    def _key(self) -> Key:
        """Of a table with row ids, these: its primary key is an index like any other. A view has none."""
        primary = self.connection.execute(
            "SELECT name, coll FROM pragma_index_xinfo(?) WHERE key ORDER BY seqno", (self._name,)
        ).fetchall()
        if primary:
            # SQLite answers so for a table WITHOUT ROWID, which is kept in the order of its primary key.
            columns = [f"{self._table}.{quoted(name)} COLLATE {quoted(coll)}" for name, coll in primary]
            return Key(columns, self._by_primary_key())
        taken = self.connection.execute("SELECT lower(name) FROM pragma_table_xinfo(?)", (self._name,)).fetchall()
        free = [name for name in ROWID_NAMES if (name,) not in taken]
        if self._is_view:
            return Key()
        return Key([f"{self._table}.{free[0]}"] if free else [], "NOT INDEXED")

    def _by_primary_key(self) -> str:
        """The hint for a table WITHOUT ROWID, where NOT INDEXED still lets it go by an index that has all columns."""
        [index] = self.connection.execute(
            "SELECT name FROM pragma_index_list(?) WHERE origin = 'pk'", (self._name,)
        ).fetchone()
        return f"INDEXED BY {quoted(index)}"

    # --- single rows ------------------------------------------------------------------------------------------------

    def invalid_among(self, sids: Sequence[str]) -> Mapping[str, str]:
        """Of the live rows with these sids, those that are invalid by themselves: their reasons by sid."""
        found: dict[str, str] = {}
        for start in range(0, len(sids), SIDS_AT_ONCE):
            with self._file.in_use():
                for row in self._live_rows_of(frozenset(sids[start : start + SIDS_AT_ONCE])):
                    judged = read_row(row, self._words)
                    if isinstance(judged, InvalidRow):
                        found[judged.sid] = judged.reason
        return {sid: found[sid] for sid in sids if sid in found}

    def _live_rows_of(self, sids: frozenset[str]) -> Sequence[StoredRow]:
        # JSON in SQLite ends a text at a NUL: such a sid is looked for by itself.
        plain = [value for sid in sids if "\0" not in sid for value in (sid, twin(sid)) if value is not None]
        look = f"SELECT {self._select} FROM {self._table} WHERE {self._live} AND {self._column('sid')}"
        rows = self.connection.execute(f"{look} IN (SELECT value FROM json_each(?))", (json.dumps(plain),)).fetchall()
        for sid in sids:
            if "\0" in sid:
                rows += self.connection.execute(f"{look} = ?", (sid,)).fetchall()
        return [StoredRow(*values) for values in rows]


def _written(position: Position) -> str:
    """A position as text; bytes are no JSON."""
    return json.dumps([{"hex": value.hex()} if isinstance(value, bytes) else value for value in position])


def _read(position: str | None) -> Position | None:
    if position is None:
        return None
    return [bytes.fromhex(value["hex"]) if isinstance(value, dict) else value for value in json.loads(position)]
