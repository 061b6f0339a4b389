"""One allocation as ledger and journal have it, looked up for `explain`, and how its values are to be read."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from autorelease.identity import Holders
from autorelease.inspect.held import Holding, look_up_holding
from autorelease.journal import JournalReader, OpenIntent, PastTick
from autorelease.ledger import Ledger
from autorelease.ledger.holding import read_holder
from autorelease.ledger.rows import StoredRow
from autorelease.ledger.values import Vocabulary
from autorelease.model import Allocation, InvalidRow, Known, rfc3339
from autorelease.rules.expiry import find_expired

Fact = tuple[str, str]


class Terms(msgspec.Struct, frozen=True):
    """How the configuration reads a row. columns: our word = the table's. spelled: an instant, as it is to be shown."""

    words: Vocabulary
    columns: Mapping[str, str]
    grace: timedelta
    hold_grace: timedelta
    spelled: Callable[[datetime], str] = rfc3339


class Subject(msgspec.Struct, frozen=True):
    """What ledger and journal hold of one sid.

    intents: its releases whose end is unknown. others: who else holds its VM, with their rows as they are now; a sid of
    None is one that nobody can read. newest: the last tick that was begun.
    """

    sid: str
    stored: Sequence[StoredRow]
    row: Allocation | InvalidRow | None
    holding: Holding
    remembered: Sequence[tuple[datetime | None, Known]]
    intents: Sequence[OpenIntent]
    has_events: bool
    others: Sequence[tuple[str | None, Allocation | InvalidRow | None]] = ()
    newest: PastTick | None = None

    @property
    def rows(self) -> Sequence[Allocation | InvalidRow | None]:
        """Its own row, and those that hold its VM as well."""
        return [self.row, *(row for _, row in self.others)]

    @property
    def is_known(self) -> bool:
        """Whether ledger or journal have ever heard of it."""
        return bool(self.stored or self.holding.own or self.remembered or self.has_events)


def look_up(sid: str, ledger: Ledger, journal: JournalReader, words: Vocabulary) -> Subject:
    """All that is stored of one sid, in one look at each."""
    stored, row = ledger.stored(sid), ledger.read(sid)
    return Subject(
        sid=sid,
        stored=stored,
        row=row,
        holding=look_up_holding(sid, row, ledger, journal),
        remembered=journal.remembered(sid),
        intents=[intent for intent in journal.open_intents() if intent.sid == sid],
        has_events=next(iter(journal.events(sid=sid)), None) is not None,
        others=_others(sid, stored, ledger, words),
        newest=journal.newest_tick(),
    )


def _others(
    sid: str, stored: Sequence[StoredRow], ledger: Ledger, words: Vocabulary
) -> Sequence[tuple[str | None, Allocation | InvalidRow | None]]:
    read = (read_holder(row.sid, row.provisioner, row.vm_ref, row.vm_uid, words) for row in stored)
    vms = [holder.vm for holder in read if holder is not None]
    found = [holder for holder in ledger.holders([vm.reference for vm in vms]) if holder.sid != sid]
    named = dict.fromkeys(holder.sid for holder in found if any(Holders([holder]).of(vm) for vm in vms))
    return [(other, None if other is None else ledger.read(other)) for other in named]


def has_expired(row: Allocation, now: datetime, terms: Terms) -> bool:
    """What the rule says of it."""
    return any(find_expired([row], now, grace=terms.grace))
