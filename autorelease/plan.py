"""What a tick will do with each expired allocation, decided before anything is done. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from autorelease.model import NOTHING_KNOWN, Allocation, Known, Planned, SkipReason
from autorelease.retry import in_backoff


def make_plan(
    expired: Iterable[Allocation], known: Mapping[tuple[str, datetime | None], Known], now: datetime
) -> Iterator[Planned]:
    """Decide for each expired allocation, in the order they come: release it, or the reason why not.

    known: what the journal remembers, by (sid, expires_at); what is absent was never tried.
    """
    for allocation in expired:
        memory = known.get((allocation.sid, allocation.expires_at), NOTHING_KNOWN)
        yield Planned(allocation, memory, _reason_to_skip(memory, now))


def _reason_to_skip(known: Known, now: datetime) -> SkipReason | None:
    if known.released:
        return SkipReason.RESURRECTED
    if in_backoff(known.attempts, now):
        return SkipReason.BACKOFF
    return None
