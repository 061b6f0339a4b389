"""What expires next, and the first tick that the guard will refuse if nothing changes until then.

The plan is read from its spool, row by row, as often as needed: nothing here grows with the table. Pure, but for that.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from heapq import merge

import msgspec
from msgspec.structs import replace

from autorelease.deciding.decide import Decision
from autorelease.inspect import HOUR
from autorelease.model import Allocation, Planned, PlanSummary, Refusal, SkipReason
from autorelease.rules import guard
from autorelease.rules.expiry import find_expired
from autorelease.rules.plan import is_held

# Whatever the time.
NEVER_TRIED = (SkipReason.RESURRECTED, SkipReason.NO_PROVISIONER)


class Window(msgspec.Struct, frozen=True):
    """From when to when, and what delays a release beyond its expiry."""

    now: datetime
    until: datetime
    grace: timedelta
    hold_grace: timedelta

    @property
    def last_tick(self) -> datetime:
        """The hour that closes the window, and a moment: at the very instant of its expiry nothing has expired."""
        return full_hour(self.until) + timedelta(microseconds=1)


class Upcoming(msgspec.Struct, frozen=True):
    """One allocation whose time ends within the window.

    note: why the tick after that will leave it alone. doubt: why it is invalid then, and reported.
    """

    allocation: Allocation
    ends_at: datetime
    note: SkipReason | None
    doubt: str | None = None


class Outlook(msgspec.Struct, frozen=True):
    """The window in numbers.

    days: by the UTC day of the end. refuses_at: the first hourly tick that is refused. plans: those that its first
    tries are of, and how many of each; the largest first.
    """

    expiring: int
    held: int
    invalid: int
    days: Mapping[date, int]
    refuses_at: datetime | None
    refusals: Sequence[Refusal]
    plans: Sequence[tuple[str | None, int]] = ()


def full_hour(instant: datetime) -> datetime:
    """The instant itself where it is a full hour, else the next one."""
    hour = instant.replace(minute=0, second=0, microsecond=0)
    return hour if hour == instant else hour + HOUR


def upcoming(decision: Decision, window: Window) -> Iterator[Upcoming]:
    """What ends within the window, in that order; decision: as of `window.last_tick`."""
    spool = decision.spool
    sound = ((planned, None) for planned in spool.by_expiry())
    both: Iterator[tuple[Planned, str | None]] = merge(sound, spool.doubtful(), key=_by_expiry)
    for planned, doubt in both:
        ends_at = _ends_at(planned, window)
        has_expired = any(find_expired([planned.allocation], window.now, grace=window.grace))
        if not has_expired and ends_at <= window.until:
            note = _note(planned, ends_at, window)
            yield Upcoming(planned.allocation, ends_at, note, None if note else doubt)


def _by_expiry(item: tuple[Planned, str | None]) -> tuple[datetime | None, str]:
    return item[0].allocation.expires_at, item[0].allocation.sid


def look_ahead(decision: Decision, window: Window, moment: guard.Moment, limits: guard.Limits) -> Outlook:
    """Count what ends, and put every hour's plan before the guard. moment: that of `window.now`."""
    days: Counter[date] = Counter()
    held = invalid = 0
    for row in upcoming(decision, window):
        days[row.ends_at.date()] += 1
        held += row.note is SkipReason.HELD
        invalid += row.doubt is not None
    refuses_at, refusals = _first_refusal(decision, window, moment, limits)
    plans = _plans(decision, window, refuses_at) if refuses_at else ()
    return Outlook(days.total(), held, invalid, days, refuses_at, refusals, plans)


def _plans(decision: Decision, window: Window, hour: datetime) -> Sequence[tuple[str | None, int]]:
    """What plans the first tries of that hour are of."""
    found = Counter(
        planned.allocation.plan for planned in decision.spool.by_expiry() if _swept_at(planned, window) == hour
    )
    return found.most_common()


def _ends_at(planned: Planned, window: Window) -> datetime:
    expires_at = planned.allocation.expires_at
    assert expires_at is not None  # noqa: S101 - what never expires is in no plan
    return expires_at + window.grace


def _note(planned: Planned, ends_at: datetime, window: Window) -> SkipReason | None:
    if is_held(planned.known.hold, ends_at, window.hold_grace):
        return SkipReason.HELD
    return planned.skip if planned.skip is not SkipReason.HELD else None


def _first_refusal(
    decision: Decision, window: Window, moment: guard.Moment, limits: guard.Limits
) -> tuple[datetime | None, Sequence[Refusal]]:
    """Sweep every full hour, as the timer does, in numbers alone; what is released is not live any more."""
    first = full_hour(window.now)
    tries = Counter({first: 0})
    tries.update(hour for planned in decision.spool.by_expiry() if (hour := _swept_at(planned, window)) is not None)
    live = decision.census.rows_examined
    for hour in sorted(tries):
        if hour > window.last_tick:
            break
        # The next tick continues from the last real one; each later one from the tick of the hour before.
        facts = replace(decision.facts, is_hypothetical=False)
        if hour > first:
            facts = guard.Facts(moment, anchor=_then(moment, hour - HOUR))
        plan = PlanSummary(
            first_tries=tries[hour],
            repeats=decision.summary.repeats,
            skipped={},
            live_rows=live,
        )
        refusals = guard.judge(plan, limits, replace(facts, moment=_then(moment, hour)))
        if refusals:
            return hour, refusals
        live -= tries[hour]
    return None, ()


def _swept_at(planned: Planned, window: Window) -> datetime | None:
    """The hour of the tick that will try it for the first time; None: none will."""
    if not planned.first_try or planned.skip in NEVER_TRIED:
        return None
    begins = max(_ends_at(planned, window), window.now)
    hold = planned.known.hold
    if hold is not None:
        if hold.ends_at is None:
            return None
        begins = max(begins, hold.ends_at + window.hold_grace)
    return full_hour(begins)


def _then(moment: guard.Moment, instant: datetime) -> guard.Moment:
    """The same boot of the same machine at another time."""
    seconds = moment.boot_seconds
    if seconds is not None:
        seconds += (instant - moment.now).total_seconds()
    return replace(moment, now=instant, boot_seconds=seconds)
