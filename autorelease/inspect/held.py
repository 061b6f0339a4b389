"""What keeps one allocation from being released, in words. Of the holds that apply the one that ends last decides."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import msgspec

from autorelease.identity import References
from autorelease.inspect import in_words
from autorelease.inspect.holds import GONE, difference, how_to_end, subject
from autorelease.journal import JournalReader
from autorelease.ledger import Ledger
from autorelease.model import Allocation, Hold, InvalidRow
from autorelease.rules.plan import is_held

Spelling = Callable[[datetime], str]


class Holding(msgspec.Struct, frozen=True):
    """The holds of one sid. last: of those that apply to its row, the one that ends last. own: that of the sid itself.

    references: how VMs are compared.
    """

    row: Allocation | InvalidRow | None
    last: Hold | None
    own: Hold | None
    references: References

    @property
    def is_shown(self) -> bool:
        """Whether the hold of the sid itself is the one that decides."""
        return self.own == self.last and isinstance(self.row, Allocation)


def look_up_holding(sid: str, row: Allocation | InvalidRow | None, ledger: Ledger, journal: JournalReader) -> Holding:
    """All that is known of them."""
    own = journal.hold_of(sid)
    last = journal.holds_of([row]).get(sid) if isinstance(row, Allocation) else own
    return Holding(row, last, own, ledger.references)


def not_held(holding: Holding, now: datetime, hold_grace: timedelta, spelled: Spelling) -> str:
    """The verdict on a row that can be read. spelled: an instant, as it is to be shown."""
    hold = holding.last
    if hold is None:
        return "yes: it was never held"
    if not is_held(hold, now, hold_grace):
        return f"yes: {_in_a_sentence(hold, now, spelled)}"
    more = f"; and {in_words(hold_grace)} of grace after that" if hold.ends_at is not None else ""
    return f"no: {_in_a_sentence(hold, now, spelled)}{more}"


def own_hold(holding: Holding, now: datetime, hold_grace: timedelta, spelled: Spelling) -> Iterator[tuple[str, str]]:
    """The hold of the sid itself, where the verdict does not show it; and whether it was made for this row at all."""
    hold, row = holding.own, holding.row
    if hold is None:
        return
    if not holding.is_shown:
        yield "its own hold", _in_a_sentence(hold, now, spelled)
    other = GONE if row is None else difference(hold, row, holding.references)
    if other is not None and is_held(hold, now, hold_grace):
        yield "held for whom", f"is this hold still meant? {other}. To end it: {how_to_end(hold)}"


def _in_a_sentence(hold: Hold, now: datetime, spelled: Spelling) -> str:
    if hold.ends_at is None:
        ends = "without an end"
    else:
        ends = f"{'which ended' if hold.ends_at <= now else 'until'} {spelled(hold.ends_at)}"
    of_many = "" if hold.scope == "sid" else f"{subject(hold)} was "
    return f"{of_many}held at {spelled(hold.held_at)} by {hold.actor}, {ends}: {hold.reason}"
