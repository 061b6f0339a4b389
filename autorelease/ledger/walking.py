"""The table itself, page by page of its own key and by no index: what an audit and a census stand on.

Each page is a read transaction of its own, and a short one. What a row means is decided in `rows`.
"""

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property

import msgspec

from autorelease.ledger import Look, Walked
from autorelease.ledger.binding import twin
from autorelease.ledger.indexes import Indexes, Page
from autorelease.ledger.lookup import SIDS_AT_ONCE
from autorelease.ledger.pace import Pace
from autorelease.ledger.rows import StoredRow
from autorelease.ledger.rules import schema_version
from autorelease.ledger.slices import Key, Position, Slice
from autorelease.model import Allocation, InvalidRow
from autorelease.sqlitefile import read_decoded

# Each row of a page is kept, and judged, until all of the page is.
WALKED_AT_ONCE = 2000


class Walking(Indexes):
    """Pages of the key."""

    @cached_property
    def _pace(self) -> Pace:
        return Pace(most=WALKED_AT_ONCE)

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
            page = self._slice(key, None if position is None else read_position(position), self._pace.rows)
            # Settled rows alone are left to SQL: of those nothing is to be judged.
            rows = read_decoded(self.connection, lambda: self._rows_of(page))
            judged = [(row, self._reader.read(row), at) for row, at in rows]
            due = [(verdict, at) for _, verdict, at in judged if isinstance(verdict, Allocation) and is_due(verdict)]
            hidden = self._hidden(Page(page, now - grace, rows, due))
            return Walked(
                ground=self._ground(key),
                rows=self._count(page),
                live=len(judged),
                due=len(due),
                invalid=[verdict for _, verdict, _ in judged if isinstance(verdict, InvalidRow)],
                hidden=[sid for each in hidden for sid in each.sids],
                problem="; ".join(f"{self._path}: {each}" for each in hidden) or None,
                position=written_position(page.last) if page.last is not None else None,
            )

    def _count(self, page: Slice) -> int:
        """How many rows a page has."""
        if page.last is not None and page.key.is_unique:
            return page.rows
        statement = f"SELECT count(*) FROM {self._table} {page.key.hint} WHERE {page.condition}"
        return int(self.connection.execute(statement, page.values).fetchone()[0])

    def _rows_of(self, page: Slice) -> list[tuple[StoredRow, Position]]:
        """The live rows of a page, each with its own key behind it."""
        columns = ", ".join((self._select, *page.key.columns))
        cursor = self.connection.execute(
            f"SELECT {columns} FROM {self._table} {page.key.hint} WHERE {page.condition} AND {self._live}", page.values
        )
        width = len(StoredRow.__struct_fields__)
        return [(StoredRow(*row[:width]), row[width:]) for row in cursor]

    def _ground(self, key: Key) -> str:
        return f"{schema_version(self.connection)} {', '.join(key.columns)}"

    # --- single rows ------------------------------------------------------------------------------------------------

    def invalid_among(self, sids: Sequence[str]) -> Mapping[str, str]:
        """Of the live rows with these sids, those that are invalid: their reasons by sid."""
        found: dict[str, str] = {}
        for start in range(0, len(sids), SIDS_AT_ONCE):
            with self._file.in_use():
                rows = self._live_rows_of(frozenset(sids[start : start + SIDS_AT_ONCE]))
                shared = self._shared_among([row.sid for row in rows])
                for row in rows:
                    judged = self._judged(row, shared=row.sid in shared)
                    if isinstance(judged, InvalidRow):
                        found[judged.sid] = judged.reason
        return {sid: found[sid] for sid in sids if sid in found}

    def _live_rows_of(self, sids: frozenset[str]) -> Sequence[StoredRow]:
        # JSON in SQLite ends a text at a NUL: such a sid is looked for by itself.
        plain = [value for sid in sids if "\0" not in sid for value in (sid, twin(sid)) if value is not None]
        look, of_one = f"{self._live} AND {self._column('sid')}", f"SELECT 1 FROM {self._table} WHERE"
        is_served = self._is_served(Look.SID, f"{of_one} {look} = ?", ("",))
        listed = f"{look} IN (SELECT value FROM json_each(?))"
        rows = self._rows_where(listed, (json.dumps(plain),), is_served=is_served)
        for sid in sids:
            if "\0" in sid:
                rows += self._rows_where(f"{look} = ?", (sid,), is_served=is_served)
        return [StoredRow(*values) for values in rows]


def written_position(position: Position) -> str:
    """A position as text; bytes are no JSON."""
    return json.dumps([{"hex": value.hex()} if isinstance(value, bytes) else value for value in position])


def read_position(position: str) -> Position:
    """The same position again."""
    return [bytes.fromhex(value["hex"]) if isinstance(value, dict) else value for value in json.loads(position)]
