"""The rule: which allocations have expired. Pure; the one authority, which SQL may only approximate from above."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from autorelease.model import Allocation


def find_expired(rows: Iterable[Allocation], now: datetime, *, grace: timedelta = timedelta(0)) -> Iterator[Allocation]:
    """Yield the allocations that have expired at `now`, lazily, in the order they come in.

    Expired means: not settled, `expires_at` is known, and `expires_at + grace < now`. The comparison is strict:
    at the very instant of expiry the owner still has the VM.

    Raises ValueError where `now` is naive: a local time is no instant.
    """
    if now.utcoffset() is None:
        raise ValueError(f"now must be an aware datetime, not the naive {now.isoformat()}")
    return _find_expired(rows, now, grace)


def _find_expired(rows: Iterable[Allocation], now: datetime, grace: timedelta) -> Iterator[Allocation]:
    # Compared as a difference: expires_at + grace could leave the range of datetime, which ends in the year 9999.
    for row in rows:
        if not row.settled and row.expires_at is not None and now - row.expires_at > grace:
            yield row


def overdue(expires_at: datetime | None, now: datetime, grace: timedelta) -> timedelta:
    """How long ago the grace of an allocation ended that has expired. None: it is not known when that was."""
    return now - (expires_at + grace) if expires_at else timedelta(0)
