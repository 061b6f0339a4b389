"""The values that a configuration is written in: durations, time zones, names."""

import re
import sys
from datetime import timedelta
from typing import Annotated, Self

from msgspec import Meta

UNITS = {"ms": "milliseconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
# Beyond this a duration is a slip of the keyboard, and now - grace would leave the calendar.
LONGEST = timedelta(days=36_500)


def parse_duration(text: object) -> timedelta:
    """Read an integer with a unit (`30s`, `45m`, `72h`, `400d`, `250ms`); ValueError for anything else."""
    match = re.fullmatch(r"([0-9]{1,15})(ms|s|m|h|d)", text) if isinstance(text, str) else None
    if match is None:
        raise ValueError('a duration is an integer and a unit of ms, s, m, h or d, in quotes: "30s"')
    amount, unit = int(match[1]), UNITS[match[2]]
    if amount > LONGEST / timedelta(**{unit: 1}):
        raise ValueError("a duration is at most 36500d")
    return timedelta(**{unit: amount})


class Duration(timedelta):
    """A duration that a file says."""

    @classmethod
    def read(cls, value: object) -> Self:
        """The duration; raises ValueError."""
        found = parse_duration(value)
        return cls(found.days, found.seconds, found.microseconds)


class PositiveDuration(Duration):
    """A duration that is longer than nothing."""

    @classmethod
    def read(cls, value: object) -> Self:
        """The duration; raises ValueError."""
        found = super().read(value)
        if not found:
            raise ValueError("must be longer than 0s")
        return found


class Zone(str):
    """The name of a time zone of the IANA's database."""

    __slots__ = ()

    @classmethod
    def read(cls, value: object) -> Self:
        """The name; raises ValueError where there is no such zone."""
        if not isinstance(value, str) or not _is_zone(value):
            raise ValueError(f'no such time zone: {value!r} (an IANA name: "Europe/Berlin")')
        return cls(value)


def _is_zone(name: str) -> bool:
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        return False
    return True


Word = Annotated[str, Meta(pattern=r"\A[^\x00]*\Z", description="text without NUL")]
Name = Annotated[str, Meta(min_length=1, pattern=r"\A[^\x00]*\Z", description="text that is not empty, without NUL")]
Finite = Annotated[
    float, Meta(ge=-sys.float_info.max, le=sys.float_info.max, description="a number that is neither inf nor nan")
]
Count = Annotated[int, Meta(ge=0)]
Percent = Annotated[int, Meta(ge=0, le=100)]
