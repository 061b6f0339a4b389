"""The rehearsal: stamps that are done and rolled back, to see whom the table's own rules refuse."""

import sqlite3
from collections.abc import Sequence

from autorelease.errors import UnusableError
from autorelease.ledger import Stamp, StampResult
from autorelease.ledger.stamping import Stamping
from autorelease.sqlitefile import StampRefusedError, speaking_of


class Rehearsal(Stamping):
    """Done upon one another, as the stamps of a tick are."""

    def rehearse(self, stamps: Sequence[Stamp]) -> Sequence[UnusableError | None]:
        """Do these stamps, one upon the other, inside a transaction that is rolled back; returns who refuses which."""
        with self._file.in_use():
            try:
                self._begin()
                return [None] * len(stamps) if self._takes_all(stamps) else self._rehearse_all(stamps)
            finally:
                self._roll_back()

    def _takes_all(self, stamps: Sequence[Stamp]) -> bool:
        """Whether all of them are taken at once, where no row's stamp is met by another's: then nobody is at fault."""
        if self._rules.joins_rows or self._is_view:
            return False
        try:
            with speaking_of(self._path):
                if self._stamp_together(stamps) is None:
                    return False
                self._check_stamped(stamps)
        except StampRefusedError:
            self._roll_back()
            self._begin()
            return False
        return True

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
        before = self._count_live()
        children = self._rules.children(self.connection, self._row_before(stamp))
        if self._stamp_one(stamp) is StampResult.STAMPED:
            self._check_stamped([stamp])
            # A deferred key says nothing before the COMMIT that never comes here.
            self._rules.check_parents(self.connection, self._row_after(stamp))
            self._rules.check_children(self.connection, children)
            self._check_gone(before, [stamp], 1)
        elif self._base is None and self._holds_judged_values(stamp):
            raise sqlite3.IntegrityError("the stamp is ignored without an error (a trigger's RAISE(IGNORE)?)")

    def _holds_judged_values(self, stamp: Stamp) -> bool:
        row = self._judged_row(stamp)
        found = self.connection.execute(f"SELECT count(*) FROM {self._table} WHERE {row.condition}", row.values)
        return bool(found.fetchone() == (1,))
