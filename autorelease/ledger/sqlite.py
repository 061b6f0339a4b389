"""The ledger in SQLite: the operator's own table, read in pages and stamped by compare-and-set.

Adds nothing to the operator's database. SQL narrows what is fetched, always to a superset of what the rule picks;
what a row says is decided in `rows`. One thread alone uses it.
"""

import sqlite3
from collections.abc import Sequence

from autorelease.errors import UnusableError
from autorelease.ledger import Stamp, StampResult
from autorelease.ledger.binding import storage_class
from autorelease.ledger.census import Counting
from autorelease.ledger.narrowing import quoted
from autorelease.ledger.rows import shown, written_like
from autorelease.ledger.rules import Row, read_rules, schema_version
from autorelease.ledger.shape import Shaped
from autorelease.ledger.vms import Holders
from autorelease.model import RawValue
from autorelease.sqlitefile import StampRefusedError, speaking_of


class SQLiteLedger(Counting, Shaped, Holders):
    """See `autorelease.ledger.Ledger`."""

    # --- writing ----------------------------------------------------------------------------------------------------

    def has_rules(self) -> bool:
        """Whether the table's own rules could refuse one row's stamp and take another's; in doubt they could."""
        with self._file.in_use():
            self._look_at_rules()
        return self._rules.refuses

    def rehearse(self, stamps: Sequence[Stamp]) -> Sequence[UnusableError | None]:
        """Do these stamps, one upon the other, inside a transaction that is rolled back; returns who refuses which."""
        with self._file.in_use():
            try:
                self._begin()
                return self._rehearse_all(stamps)
            finally:
                self._roll_back()

    def _rehearse_all(self, stamps: Sequence[Stamp]) -> list[UnusableError | None]:
        refusals: list[UnusableError | None] = []
        for stamp in stamps:
            if not self.connection.in_transaction:
                # A trigger ended it: what was taken before it is there to be met again.
                self._begin()
                before = zip(stamps, refusals, strict=False)
                for taken in [earlier for earlier, refusal in before if refusal is None]:
                    self._stamp_one(taken)
            self.connection.execute("SAVEPOINT one_stamp")
            refusals.append(self._refusal(stamp))
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK TO one_stamp" if refusals[-1] else "RELEASE one_stamp")
        return refusals

    def _refusal(self, stamp: Stamp) -> StampRefusedError | None:
        try:
            with speaking_of(self._path):
                self._rehearse_one(stamp)
        except StampRefusedError as error:
            return error
        return None

    def _rehearse_one(self, stamp: Stamp) -> None:
        children = self._rules.children(self.connection, self._judged_row(stamp))
        if self._stamp_one(stamp) is StampResult.STAMPED:
            # A deferred key says nothing before the COMMIT that never comes here.
            self._rules.check_parents(self.connection, self._row(stamp))
            self._rules.check_children(self.connection, children)
        elif self._holds_judged_values(stamp):
            raise sqlite3.IntegrityError("the stamp is ignored without an error (a trigger's RAISE(IGNORE)?)")

    def _look_at_rules(self) -> None:
        """Read the rules again where the schema is another one; within a transaction it stays what it is."""
        if self._rules.version != schema_version(self.connection):
            stamped = [self._columns[role] for role in ("status", "released_at") if self._has(role)]
            self._rules = read_rules(self.connection, self._name, stamped)

    def stamp(self, stamps: Sequence[Stamp]) -> Sequence[StampResult]:
        """Mark all as Released in one durable transaction; raises, with nothing changed, where one of them fails."""
        with self._file.in_use():
            try:
                self._begin()
                results = [self._stamp_one(stamp) for stamp in stamps]
                self.connection.execute("COMMIT")
            finally:
                self._roll_back()
        return results

    def _row(self, stamp: Stamp) -> Row:
        sid, raw = self._column("sid"), stamp.allocation.raw
        condition = f"{sid} = ? AND {sid} COLLATE BINARY IS ? AND typeof({sid}) = ?"
        return Row(condition, (raw.sid, raw.sid, storage_class(raw.sid)))

    def _judged_row(self, stamp: Stamp) -> Row:
        """The row as long as it holds the very values that were judged."""
        raw, row = stamp.allocation.raw, self._row(stamp)
        status, expires_at = self._column("status"), self._column("expires_at")
        judged = f"{status} COLLATE BINARY IS ? AND {expires_at} COLLATE BINARY IS ? AND typeof({expires_at}) = ?"
        values = (*row.values, raw.status, raw.expires_at, storage_class(raw.expires_at))
        return Row(f"{row.condition} AND {judged}", values)

    def _stamp_one(self, stamp: Stamp) -> StampResult:
        row = self._judged_row(stamp)
        changes = {"status": self._words.released, **self._released_at(stamp)}
        assignments = ", ".join(f"{quoted(self._columns[role])} = ?" for role in changes)
        self._rules.check_carries_nothing(self.connection, row)
        # Said only where it is needed: it holds for the statements of the table's own triggers, too.
        conflict = "OR ABORT " if self._rules.replaces else ""
        changed = self._update(
            f"UPDATE {conflict}{self._table} SET {assignments} WHERE {row.condition}",
            (*changes.values(), *row.values),
        )
        if changed == 0:
            return StampResult.UNCHANGED
        self._check_stamped(stamp.allocation.raw.sid, changed)
        return StampResult.STAMPED

    def _update(self, statement: str, values: Sequence[RawValue]) -> int:
        """Run the stamp's UPDATE; returns the number of changed rows."""
        try:
            return self.connection.execute(statement, values).rowcount
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

    def _holds_judged_values(self, stamp: Stamp) -> bool:
        raw = stamp.allocation.raw
        rows = self._matching(raw.sid)
        return [(row.sid, row.status, row.expires_at) for row in rows] == [(raw.sid, raw.status, raw.expires_at)]

    def _released_at(self, stamp: Stamp) -> dict[str, RawValue]:
        if not self._has("released_at"):
            return {}
        return {"released_at": written_like(stamp.allocation.raw.expires_at, stamp.at, self._words)}

    def _check_stamped(self, sid: RawValue, changed: int) -> None:
        # A trigger can undo a change that was counted, or end the transaction behind our back.
        if not self.connection.in_transaction:
            raise sqlite3.IntegrityError(f"a trigger ended the transaction of the stamp of sid {shown(sid)}")
        rows = self._matching(sid)
        if changed != 1 or len(rows) != 1 or rows[0].status != self._words.released:
            raise sqlite3.IntegrityError(f"after the stamp of sid {shown(sid)} its row is not {self._words.released!r}")

    def _begin(self) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        self._look_at_rules()

    def _roll_back(self) -> None:
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")
