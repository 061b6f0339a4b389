"""What an operator asks about: one allocation, the days ahead, the sweep's health, the installation.

Everything here only reads. It knows neither the command line nor how things are drawn.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from autorelease.model import rfc3339

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
# Of so many nobody counts the hours.
MANY_DAYS = 10 * DAY


class State(StrEnum):
    """What a check comes to. WARN: somebody should look; FAIL: the sweep cannot do its work, or nobody starts it."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Check(msgspec.Struct, frozen=True):
    """One line of the doctor. remedy: what to type or where to read; empty where nothing is to be done."""

    name: str
    state: State
    message: str
    remedy: str = ""


def has_failed(checks: Iterable[Check]) -> bool:
    """Whether one of them is a fail."""
    return any(check.state is State.FAIL for check in checks)


def worst_first(checks: Sequence[Check]) -> Sequence[Check]:
    """What fails, then what somebody should look at; else in the order in which one thing rests on another."""
    order = (State.FAIL, State.WARN, State.OK)
    return sorted(checks, key=lambda check: order.index(check.state))


def in_words(duration: timedelta) -> str:
    """A duration for people, in the unit that fits it: 312 ms, 40 s, 12 min, 3.5 h, 4.5 d, 217 d; without its sign."""
    length = abs(duration)
    if timedelta(milliseconds=1) <= length < timedelta(seconds=1):
        return f"{length / timedelta(milliseconds=1):.0f} ms"
    if length < timedelta(minutes=2):
        return f"{length.total_seconds():.0f} s"
    if length < 2 * HOUR:
        return f"{length / timedelta(minutes=1):.0f} min"
    if length < 2 * DAY:
        return f"{length / HOUR:.1f} h"
    return f"{length / DAY:.1f} d" if length < MANY_DAYS else f"{length / DAY:.0f} d"


def page(heading: str) -> str:
    """Where to read on."""
    return f'runbook.md, "{heading}"'


def at_second(instant: datetime) -> str:
    """An instant for people, who have no use for a fraction of a second; what begins later than it says is left out."""
    return rfc3339(instant.replace(microsecond=0))
