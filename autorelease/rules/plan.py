"""What a tick will do with each expired allocation, decided before anything is done. Pure."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime, timedelta

from autorelease.model import NOTHING_KNOWN, Allocation, Hold, Known, Planned, SkipReason
from autorelease.rules.retry import in_backoff

# Somebody's decision, or a race that was won: nothing is wrong with these.
HARMLESS = frozenset({SkipReason.HELD, SkipReason.RENEWED, SkipReason.CHANGED, SkipReason.DRY_RUN})


def make_plan(
    expired: Iterable[Allocation],
    known: Mapping[tuple[str, datetime | None], Known],
    now: datetime,
    *,
    hold_grace: timedelta = timedelta(0),
    provisioners: Collection[str] | None = None,
) -> Iterator[Planned]:
    """Decide for each expired allocation, in the order they come: release it, or the reason why not.

    known: what the journal remembers, by (sid, expires_at); what is absent was never tried and is not held.
    hold_grace: how long a hold goes on after its end. provisioners: those that there are; None: any that is named.
    """
    for allocation in expired:
        memory = known.get((allocation.sid, allocation.expires_at), NOTHING_KNOWN)
        is_served = provisioners is None or allocation.provisioner in provisioners
        yield Planned(allocation, memory, _reason_to_skip(memory, now, hold_grace, is_served=is_served))


def is_held(hold: Hold | None, now: datetime, hold_grace: timedelta) -> bool:
    """Whether this hold forbids a release at `now`. Its grace gives its owner time to act, once it has ended."""
    if hold is None:
        return False
    # Compared as a difference: an end in the year 9999 has no later instant.
    return hold.ends_at is None or now - hold.ends_at < hold_grace


def earliest_end_in_force(now: datetime, hold_grace: timedelta) -> datetime:
    """A hold that had ended by then is over at `now`, with its grace."""
    # The configuration allows durations that reach back before the calendar.
    return now - min(hold_grace, now - datetime.min.replace(tzinfo=now.tzinfo))


def _reason_to_skip(known: Known, now: datetime, hold_grace: timedelta, *, is_served: bool) -> SkipReason | None:
    if is_held(known.hold, now, hold_grace):
        return SkipReason.HELD
    if known.released:
        return SkipReason.RESURRECTED
    if not is_served:
        return SkipReason.NO_PROVISIONER
    if in_backoff(known.attempts, now):
        return SkipReason.BACKOFF
    return None
