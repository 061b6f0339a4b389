"""The index that has the live rows and hardly any others, where the table has one: what a census goes by.

Whether it has them all is proven by the schema, or it is not used. A damaged one is for the audit to find.
"""

import re
import sqlite3
from collections.abc import Iterator, Sequence

import msgspec

from autorelease.ledger.binding import lowered, parameter
from autorelease.ledger.narrowing import constant
from autorelease.ledger.pace import Pace
from autorelease.ledger.rules import schema_version
from autorelease.ledger.slices import BY_ROW_ID, WORTH, Key, Position, Slice, bindables, places
from autorelease.ledger.walking import Walking
from autorelease.sqliteadvice import primary_code
from autorelease.sqlitefile import quoted

# What a declared type must mention for text, or for integers, to be kept as such, and by others to be told from it.
KINDS = {True: ("INT",), False: ("CHAR", "CLOB", "TEXT")}

# Of entries with the same first value so many are worth a look of their own.
FEW = 100


class Living(msgspec.Struct, frozen=True):
    """The keys that have each live row once, as of this schema; none: there is no such index, or it is not worth it.

    rows: how many these have; span: how many the table has at most, 0 where nobody can say. by_expiry: the one of them
    that has all live rows with an expiry, in its order; None where there is none, or where other rows are among them.
    """

    version: int
    keys: Sequence[Key] = ()
    rows: int = 0
    span: int = 0
    by_expiry: Key | None = None


class LivingRows(Walking):
    """Looks at the schema alone, and at how long the index is."""

    def _living(self, pace: Pace) -> Living:
        with self._file.in_use(), self._reading():
            version, span, keys = schema_version(self.connection), self._span(), list(self._keys_of_living())
        rows = sum(found for key in keys for found in self._sliced(self._entries, pace, key, version))
        by_expiry = self._by_expiry(keys)
        if by_expiry is None and rows * WORTH > span:
            return Living(version, span=span)
        return Living(version, keys, rows, span, by_expiry)

    def _entries(self, page: Slice) -> tuple[int, Position | None]:
        """How many entries of the index a slice has, with those that have the last one's first value, if they are few.

        A bound of one column the database takes as the place to begin at; one of several it looks at once more with
        each entry, which takes half as long again.
        """
        rows = self._count(page)
        if page.last is None:
            return rows, None
        first, *rest = page.key.columns
        value, *others = page.last
        if not rest:
            return rows, page.last
        same = self.connection.execute(
            f"SELECT 1 FROM {self._table} {page.key.hint} WHERE {page.key.among} AND {page.key.end} "
            f"AND {first} = {parameter(value)} AND ({', '.join(rest)}) > {places(others)} LIMIT {FEW}",
            bindables(page.last),
        ).fetchall()
        return (rows, page.last) if len(same) == FEW else (rows + len(same), (value,))

    def _by_expiry(self, keys: Sequence[Key]) -> Key | None:
        is_exact = self._words.settled == {self._words.released} and not self._words.where
        if not is_exact or self._has("deleted_at") or self._compares_numbers_as_text():
            return None
        expires_at = lowered(self._column("expires_at"))
        return next((key for key in keys if not key.is_rest and lowered(key.columns[0]) == expires_at), None)

    def _compares_numbers_as_text(self) -> bool:
        """Whether the column's type makes text of every number, which is then in another order."""
        [kind] = self.connection.execute(
            "SELECT upper(type) FROM pragma_table_xinfo(?) WHERE lower(name) = ?",
            (self._name, lowered(self._columns["expires_at"])),
        ).fetchone()
        is_text = "INT" not in kind and any(word in kind for word in KINDS[False])
        return is_text and self._words.timestamps != "iso8601"

    def _keys_of_living(self) -> Iterator[Key]:
        key = self._key()
        # Row ids that are a column are never NULL, whatever its declaration says.
        info = self.connection.execute(
            'SELECT lower(name), upper(type), "notnull" OR (pk AND ?) FROM pragma_table_xinfo(?)',
            (key.is_lasting, self._name),
        ).fetchall()
        kind = next(kind for name, kind, _ in info if name == lowered(self._columns["status"]))
        filled = {name for name, _, is_filled in info if is_filled}
        # A table in the order of its primary key is walked by that.
        is_by_row_id = key.hint == BY_ROW_ID and bool(key.columns)
        if not self._tells_released(kind, filled) or not is_by_row_id:
            return
        indexes = self.connection.execute("SELECT name FROM pragma_index_list(?) ORDER BY partial DESC", (self._name,))
        for (index,) in indexes.fetchall():
            keys = list(self._keys_of(index, filled))
            if keys:
                yield from keys
                return

    def _tells_released(self, kind: str, filled: set[str]) -> bool:
        """Whether `<>` leaves out the rows that are Released, and no others: no NULL, and nothing that is equal."""
        is_integer = "INT" in kind
        is_of_kind = any(word in kind for word in KINDS[self._words.has_numbers])
        is_exact = is_integer == self._words.has_numbers and is_of_kind and not self._mentions_collations(self._name)
        return is_exact and lowered(self._columns["status"]) in filled

    def _keys_of(self, index: str, filled: set[str]) -> Iterator[Key]:
        """Those of this index; none: it does not have all live rows, has others as well, or is in another order."""
        columns = self.connection.execute(
            "SELECT lower(name), desc, coll FROM pragma_index_xinfo(?) WHERE key ORDER BY seqno", (index,)
        ).fetchall()
        is_plain = all(name is not None and not desc and coll == "BINARY" for name, desc, coll in columns)
        [(sql,)] = self.connection.execute("SELECT coalesce(max(sql), '') FROM sqlite_master WHERE name = ?", (index,))
        [*_, condition] = ["", *re.split(r"\bWHERE\b", sql, flags=re.IGNORECASE)[1:]]
        names = [name for name, *_ in columns]
        # Behind the first one a NULL would be no place to go on from.
        if not is_plain or not filled.issuperset(names[1:]) or not self._has_all_living(index):
            return
        released, hint = constant(self._words.released), f"INDEXED BY {quoted(index)}"
        status = self._column("status")
        first, *rest = [*(f"{self._table}.{quoted(name)}" for name in names), self._key().columns[0]]
        # A partial index is used where the very words of its condition stand.
        is_live = f"{status} <> {released}"
        if names[0] == lowered(self._columns["status"]):
            yield Key((first, *rest), hint, is_live, end=f"{status} < {released}")
            yield Key((first, *rest), hint, is_live, begin=f"{status} > {released}")
        elif released in condition:
            if names[0] not in filled:
                yield Key(rest, hint, f"{is_live} AND {first} IS NULL", is_rest=True)
            # What comes behind a row that has one has one, too: it need not be looked at for each.
            yield Key((first, *rest), hint, is_live, begin=f"{first} IS NOT NULL")

    def _has_all_living(self, index: str) -> bool:
        """Whether it has all rows that are not Released: the database itself says so of a partial one."""
        condition = f"{self._column('status')} <> {constant(self._words.released)}"
        statement = f"EXPLAIN SELECT 1 FROM {self._table} INDEXED BY {quoted(index)} WHERE {condition}"
        try:
            self.connection.execute(statement).close()
        except sqlite3.OperationalError as error:
            # "no query solution"
            if primary_code(error) != sqlite3.SQLITE_ERROR:
                raise
            return False
        return True
