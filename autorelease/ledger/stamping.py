"""The stamp: a compare-and-set of one row, and many of them in one durable transaction."""

import sqlite3
from collections.abc import Sequence
from functools import cached_property

from autorelease.errors import UnusableError
from autorelease.ledger import Stamp, StampResult
from autorelease.ledger.base import kind_of
from autorelease.ledger.binding import storage_class
from autorelease.ledger.conditions import is_not_set
from autorelease.ledger.instants import written_like
from autorelease.ledger.rules import Row, read_rules, schema_version
from autorelease.ledger.values import is_word, shown
from autorelease.ledger.views import Through
from autorelease.model import DEFAULT_PROVISIONER, Allocation, RawValue
from autorelease.sqlitefile import quoted

STAMPED = StampResult.STAMPED


class Stamping(Through):
    """Rows change only as long as they hold the very values that were judged."""

    def has_rules(self) -> bool:
        """Whether the table's own rules could refuse one row's stamp and take another's; in doubt they could."""
        with self._file.in_use():
            self._look_at_rules()
        # What becomes of a row in a view is different for each of them.
        return self._rules.refuses or self._is_view

    def joins_rows(self) -> bool:
        """Whether they could refuse the stamp of one row because of another row's; in doubt they could."""
        with self._file.in_use():
            self._look_at_rules()
        return self._rules.joins_rows or self._is_view

    def stamp(self, stamps: Sequence[Stamp]) -> Sequence[StampResult]:
        """Mark all as Released in one durable transaction; raises, with nothing changed, where one of them fails."""
        with self._file.in_use():
            try:
                self._begin()
                before = self._count_live()
                results = self._stamp_together(stamps) or [self._stamp_one(stamp) for stamp in stamps]
                self._check_stamped([stamp for stamp, result in zip(stamps, results, strict=True) if result is STAMPED])
                self._check_gone(before, stamps, results.count(STAMPED))
                self.connection.execute("COMMIT")
            finally:
                self._roll_back()
        return results

    def _look_at_rules(self) -> None:
        """Read the rules again where the schema is another one; within a transaction it stays what it is."""
        if self._rules.version != schema_version(self.connection):
            if (kind_of(self.connection, self._name) == "view") != self._is_view:
                # An UPDATE of ours must never meet a view.
                raise UnusableError(f"{self._path}: {self._name!r} was made anew while it was in use: start again")
            table = self._base.table if self._base else self._name
            self._rules = read_rules(self.connection, table, [*self._changes(None)])

    def _stamp_together(self, stamps: Sequence[Stamp]) -> Sequence[StampResult] | None:
        """All of them by one statement, where a stamp does nothing else; None: none, because not every row changed."""
        if self._base is not None or self._rules.has_triggers or self._rules.to_us or not stamps:
            return None
        values = [
            (*self._changes(self._released_at(stamp)).values(), *self._judged_values(stamp.allocation))
            for stamp in stamps
        ]
        # Where one changes two rows in place of another, they share a sid, which is seen when they are read back.
        if self._update(self._stamping(self._as_judged), values) == len(stamps):
            return [STAMPED] * len(stamps)
        self._roll_back()
        self._begin()
        return None

    def _stamp_one(self, stamp: Stamp) -> StampResult:
        row, sid = self._judged_row(stamp), stamp.allocation.raw.sid
        if self._base is not None:
            if not self._is_as_judged(row, stamp.allocation):
                return StampResult.UNCHANGED
            self._base.check_row(self.connection, sid)
            row = self._row_before(stamp)
        self._rules.check_carries_nothing(self.connection, row)
        changes = self._changes(self._released_at(stamp))
        changed = self._update(self._stamping(row.condition), [(*changes.values(), *row.values)])
        # A trigger can end the transaction behind our back.
        if not self.connection.in_transaction:
            raise sqlite3.IntegrityError(f"a trigger ended the transaction of the stamp of sid {shown(sid)}")
        if changed == 0 and self._base is None:
            return StampResult.UNCHANGED
        if changed != 1:
            raise self._not_stamped(sid)
        return STAMPED

    def _stamping(self, condition: str) -> str:
        """The statement of a stamp: first the values of `_changes` are bound, then those of the row."""
        assignments = ", ".join(f"{quoted(column)} = ?" for column in self._changes(None))
        # Said only where it is needed: it holds for the statements of the table's own triggers, too.
        conflict = "OR ABORT " if self._rules.replaces else ""
        table = self._base.source if self._base else self._table
        return f"UPDATE {conflict}{table} SET {assignments} WHERE {condition}"

    def _changes(self, released_at: RawValue) -> dict[str, RawValue]:
        """What a stamp writes, by column."""
        if self._base is not None:
            return self._base.changes(released_at)
        values = {"status": self._words.released, "released_at": released_at}
        return {self._columns[role]: value for role, value in values.items() if self._has(role)}

    def _row_before(self, stamp: Stamp) -> Row:
        """The row that a stamp would change."""
        return self._base.row(stamp.allocation.raw.sid) if self._base else self._judged_row(stamp)

    def _row_after(self, stamp: Stamp) -> Row:
        """The same row when it was stamped."""
        return self._base.row(stamp.allocation.raw.sid) if self._base else self._row(stamp)

    def _row(self, stamp: Stamp) -> Row:
        return Row(self._of_this_sid, _sid_values(stamp.allocation))

    @cached_property
    def _of_this_sid(self) -> str:
        sid = self._column("sid")
        return f"{sid} = ? AND {sid} COLLATE BINARY IS ? AND typeof({sid}) = ? AND {self._ours}"

    def _judged_row(self, stamp: Stamp) -> Row:
        """The row as long as it holds the very values that were judged, and names the VM that was released."""
        return Row(self._as_judged, self._judged_values(stamp.allocation))

    def _judged_values(self, allocation: Allocation) -> Sequence[RawValue]:
        status, expires_at = allocation.raw.status, allocation.raw.expires_at
        stored = (status, storage_class(status), expires_at, storage_class(expires_at))
        # Absent names are read as they were when the row was judged.
        named = {
            "vm_ref": ("" if self._words.is_vm_ref_named else allocation.sid, allocation.vm_ref),
            "vm_uid": ("", allocation.vm_uid or ""),
            "provisioner": (DEFAULT_PROVISIONER, allocation.provisioner),
        }
        names = [name for role in self._roles_of_vm for name in named[role]]
        return (*_sid_values(allocation), *stored, *names)

    @cached_property
    def _as_judged(self) -> str:
        conditions = [self._of_this_sid]
        for role in ("status", "expires_at"):
            column = self._column(role)
            conditions.append(f"{column} COLLATE BINARY IS ? AND typeof({column}) = ?")
        for role in self._roles_of_vm:
            text = f"CAST({self._column(role)} AS TEXT) COLLATE BINARY"
            conditions.append(f"coalesce(nullif({text}, ''), ?) = ?")
        if self._has("deleted_at"):
            conditions.append(is_not_set(self._column("deleted_at"), self._words))
        return " AND ".join(conditions)

    @cached_property
    def _roles_of_vm(self) -> Sequence[str]:
        return [role for role in ("vm_ref", "vm_uid", "provisioner") if self._has(role)]

    def _update(self, statement: str, values: Sequence[Sequence[RawValue]]) -> int:
        """Run the stamp's UPDATE with each of these; returns the number of changed rows."""
        try:
            return self.connection.executemany(statement, values).rowcount
        except sqlite3.OperationalError as error:
            # The general error code: of a trigger that broke on this row, or of a table that has changed altogether.
            if error.sqlite_errorcode == sqlite3.SQLITE_ERROR and self._can_be_read():
                raise sqlite3.IntegrityError(str(error)) from error
            raise
        except sqlite3.IntegrityError as error:
            # SQLite does not say which one.
            if error.sqlite_errorcode == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY and (keys := self._rules.keys):
                raise sqlite3.IntegrityError(f"{error} ({keys})") from error
            raise

    def _can_be_read(self) -> bool:
        try:
            self.connection.execute(f"SELECT {self._select} FROM {self._table} LIMIT 1").fetchall()
        except sqlite3.Error:
            return False
        return True

    def _released_at(self, stamp: Stamp) -> RawValue:
        return written_like(stamp.allocation.raw.expires_at, stamp.at, self._words)

    def _check_stamped(self, stamps: Sequence[Stamp]) -> None:
        """Raise IntegrityError unless their rows say so: a trigger can undo a change that was counted."""
        if self._base is not None:
            for stamp in stamps:
                if not self._base.is_released(self.connection, stamp.allocation.raw.sid):
                    raise self._not_stamped(stamp.allocation.raw.sid)
                self._check_shown_settled(stamp.allocation.raw.sid)
            return
        statuses = self._statuses_of([stamp.allocation.sid for stamp in stamps])
        for stamp in stamps:
            found = statuses.get(stamp.allocation.sid, ())
            if len(found) != 1 or not is_word(found[0], (self._words.released,)):
                raise self._not_stamped(stamp.allocation.raw.sid)

    def _not_stamped(self, sid: RawValue) -> sqlite3.IntegrityError:
        return sqlite3.IntegrityError(
            f"after the stamp of sid {shown(sid)} its row is not {self._stamped_word}; a trigger can do that"
        )

    @property
    def _stamped_word(self) -> str:
        if self._base:
            return f"{self._base.released!r} in {self._base}"
        outside = ", or not one that [ledger] where admits" if self._words.where else ""
        return f"{self._words.released!r}{outside}"

    def _begin(self) -> None:
        if self._is_view and self._base is None:
            raise UnusableError(f"{self._path}: the view {self._name!r} has no [ledger.stamp], and cannot be stamped")
        self.connection.execute("BEGIN IMMEDIATE")
        self._look_at_rules()

    def _roll_back(self) -> None:
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")


def _sid_values(allocation: Allocation) -> Sequence[RawValue]:
    sid = allocation.raw.sid
    return sid, sid, storage_class(sid)
