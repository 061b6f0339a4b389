"""What judges: one ledger, one journal, one instant, and what delays a release beyond an expiry."""

from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from typing import Generic, TypeVar

import msgspec

from autorelease.journal import JournalReader
from autorelease.ledger import Ledger
from autorelease.model import Allocation, Hold
from autorelease.rules.expiry import find_expired
from autorelease.rules.plan import is_held

NO_GRACE = timedelta(0)
# Of ledger and journal, a number each that changes whenever somebody else has written there; None: not known.
Versions = tuple[int | None, int | None]
UNKNOWN: Versions = (None, None)
Records = TypeVar("Records", bound=JournalReader)
Records_co = TypeVar("Records_co", bound=JournalReader, covariant=True)


class Judge(msgspec.Struct, Generic[Records_co], frozen=True):
    """Has the last word on every row, as often as it is asked: before the plan, and again before every call.

    hold_grace: how long a hold goes on after its end. is_named: for an operator's order, which rows it names: these
    are due whatever their expiry says, and due to each other. None: the rule decides. provisioners: the names that the
    configuration has a section for; None: not known.
    """

    ledger: Ledger
    journal: Records_co
    now: datetime
    grace: timedelta
    hold_grace: timedelta
    is_named: Callable[[str], bool] | None = None
    provisioners: Collection[str] | None = None

    def is_due(self, row: Allocation) -> bool:
        """Whether this row is to be released, as far as the row itself can say."""
        if self.is_named is not None:
            return not row.settled and self.is_named(row.sid)
        return any(find_expired([row], self.now, grace=self.grace))

    def versions(self) -> Versions:
        """What stays the same for as long as nobody else has written to ledger or journal."""
        return versions_of(self.ledger, self.journal)

    def is_held(self, hold: Hold | None) -> bool:
        """Whether this hold is in force."""
        return is_held(hold, self.now, self.hold_grace)


def versions_of(ledger: Ledger, journal: JournalReader) -> Versions:
    """The same, before there is anything to judge."""
    return ledger.version(), journal.version()
