"""The index that has the live rows and hardly any others, where the table has one: what a census goes by.

Whether it has them all is proven by the schema, or it is not used. A damaged one is for the audit to find.
"""

import sqlite3
from collections.abc import Iterator, Sequence

import msgspec

from autorelease.ledger.binding import lowered
from autorelease.ledger.conditions import constant
from autorelease.ledger.pace import Pace
from autorelease.ledger.rules import schema_version
from autorelease.ledger.slices import Key
from autorelease.ledger.walking import Walking
from autorelease.sqliteadvice import primary_code
from autorelease.sqlitefile import quoted

# A row that an index points at costs about three times what it costs in the table's own order.
WORTH = 3
# What a declared type must mention for text, or for integers, to be kept as such, and by others to be told from it.
KINDS = {True: ("INT",), False: ("CHAR", "CLOB", "TEXT")}


class Living(msgspec.Struct, frozen=True):
    """The keys that have each live row once, as of this schema; none: there is no such index, or it is not worth it."""

    version: int
    keys: Sequence[Key]


class LivingRows(Walking):
    """Looks at the schema alone, and at how long the index is."""

    def _living(self, pace: Pace) -> Living:
        with self._file.in_use(), self._reading():
            living = Living(schema_version(self.connection), list(self._keys_of_living()))
            if not living.keys:
                return living
            [row] = self._key().columns
            # Two statements' worth: together they would be a walk.
            [span] = self.connection.execute(
                f"SELECT coalesce((SELECT max({row}) FROM {self._table}) - (SELECT min({row}) FROM {self._table}), 0)"
            ).fetchone()
        long = sum(
            rows
            for key in living.keys
            for rows in self._sliced(lambda page: (self._count(page), page.last), pace, key, living.version)
        )
        return living if long * WORTH <= span else Living(living.version, ())

    def _keys_of_living(self) -> Iterator[Key]:
        key = self._key()
        # Row ids that are a column are never NULL, whatever its declaration says.
        info = self.connection.execute(
            'SELECT lower(name), upper(type), "notnull" OR (pk AND ?) FROM pragma_table_xinfo(?)',
            (key.is_lasting, self._name),
        ).fetchall()
        kind = next(kind for name, kind, _ in info if name == lowered(self._columns["status"]))
        filled = {name for name, _, is_filled in info if is_filled}
        if not self._tells_released(kind, filled) or key.hint == "":
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
        is_exact = is_integer == self._words.has_numbers and is_of_kind and not self._is_collated
        return is_exact and lowered(self._columns["status"]) in filled

    def _keys_of(self, index: str, filled: set[str]) -> Iterator[Key]:
        """Those of this index; none: it does not have all live rows, has others as well, or is in another order."""
        columns = self.connection.execute(
            "SELECT lower(name), desc, coll FROM pragma_index_xinfo(?) WHERE key ORDER BY seqno", (index,)
        ).fetchall()
        is_plain = all(name is not None and not desc and coll == "BINARY" for name, desc, coll in columns)
        [(sql,)] = self.connection.execute("SELECT coalesce(max(sql), '') FROM sqlite_master WHERE name = ?", (index,))
        names = [name for name, *_ in columns]
        # Behind the first one a NULL would be no place to go on from.
        if not is_plain or not filled.issuperset(names[1:]) or not self._has_all_living(index):
            return
        released, hint = constant(self._words.released), f"INDEXED BY {quoted(index)}"
        status = self._column("status")
        first, *rest = [*(f"{self._table}.{quoted(name)}" for name in names), self._key().columns[0]]
        if names[0] == lowered(self._columns["status"]):
            yield Key((first, *rest), hint, end=f"{status} < {released}")
            yield Key((first, *rest), hint, begin=f"{status} > {released}")
        elif released in sql:
            if names[0] not in filled:
                yield Key(rest, hint, among=f"{status} <> {released} AND {first} IS NULL")
            yield Key((first, *rest), hint, f"{status} <> {released} AND {first} IS NOT NULL")

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
