"""What an operator asks about: one allocation, the days ahead, the sweep's health, the installation.

Everything here only reads. It knows neither the command line nor how things are drawn.
"""

from datetime import timedelta
from enum import StrEnum

import msgspec

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


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


def in_words(duration: timedelta) -> str:
    """A duration for people, in the unit that fits it: 40 s, 12 min, 3.5 h, 4.5 d; its sign is left out."""
    length = abs(duration)
    if length < timedelta(minutes=2):
        return f"{length.total_seconds():.0f} s"
    if length < 2 * HOUR:
        return f"{length / timedelta(minutes=1):.0f} min"
    return f"{length / HOUR:.1f} h" if length < 2 * DAY else f"{length / DAY:.1f} d"


def page(heading: str) -> str:
    """Where to read on."""
    return f'runbook.md, "{heading}"'
