"""The column of the sid: by what its values are compared, and whether an index serves one that is looked for.

Looks at the schema alone.
"""

import sqlite3
from contextlib import closing
from functools import cached_property

from autorelease.ledger.binding import is_undecodable, lowered
from autorelease.ledger.slices import Slices
from autorelease.sqlitefile import quoted


class Sids(Slices):
    """What no other column of the table has."""

    @property
    def _is_collated(self) -> bool:
        """Whether sids that differ may be equal to the database."""
        return self._collation_of_sid != "BINARY"

    @cached_property
    def _collation_of_sid(self) -> str | None:
        """By what its sids are compared; None: nobody can say.

        Read off an index, in an empty table that is declared as this one is.
        """
        if not self._mentions_collations(self._name):
            return "BINARY"
        if self._is_view:
            return None
        [(declared,)] = self.connection.execute(
            "SELECT sql FROM sqlite_master WHERE type = 'table' AND lower(name) = lower(?)", (self._name,)
        ).fetchall()
        if is_undecodable(declared):
            return None
        with closing(sqlite3.connect(":memory:")) as empty:
            try:
                empty.execute(declared)
                empty.execute(f"CREATE INDEX of_sids ON {quoted(self._name)} ({quoted(self._columns['sid'])})")
            except sqlite3.Error:
                # It needs what the application alone has.
                return None
            [(collation,)] = empty.execute("SELECT coll FROM pragma_index_xinfo('of_sids') WHERE key")
            return str(collation)

    @cached_property
    def _is_sid_indexed(self) -> bool:
        steps = self._steps(f"SELECT 1 FROM {self._table} WHERE {self._column('sid')} = ? AND {self._ours}", ("",))
        # By the sid, and not by what where names alone.
        terms = tuple(f"{before}{name}=?" for before in "( " for name in ("rowid", lowered(self._columns["sid"])))
        return all(any(term in lowered(step) for term in terms) for step in steps)
