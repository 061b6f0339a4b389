"""Instants as ledgers write them: a stored expiry is read, and an instant is written as the expiry of its row is. Pure.

Everything ambiguous is refused with its reason.
"""

import math
import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from fractions import Fraction

from autorelease.ledger.values import EARLIEST, EPOCH, LATEST, UNITS_PER_SECOND, Unreadable, Vocabulary, shown
from autorelease.model import RawValue

# RFC 3339 with the liberties that databases and programs take when they print: a space for the T, no seconds, a comma,
# a short offset, letters in either case; Go writes the name of the zone behind the offset. 24:00, which newer Pythons
# alone can read, is none of them. [0-9] and not \d, which also takes the digits of other scripts.
INSTANT = re.compile(
    r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})(?P<separator>[Tt ])(?P<minutes>(?!24)[0-9]{2}:[0-9]{2})"
    r"(?::(?P<seconds>[0-9]{2})(?:(?P<mark>[.,])(?P<fraction>[0-9]+))?)?(?P<space> ?)"
    r"(?P<offset>[Zz]|[Uu][Tt][Cc]|[+-][0-9]{2}(?::?[0-9]{2})?(?: [Uu][Tt][Cc])?)?"
)
DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
FORM = "YYYY-MM-DD HH:MM[:SS[.digits]][Z|UTC|±HH:MM]"
OFFSET = re.compile(r"(?P<sign>[+-])(?P<hours>[0-9]{2}):?(?P<minutes>[0-9]{2})?(?P<zone> [Uu][Tt][Cc])?")
MICROSECONDS = 6
MILLION = 10**MICROSECONDS
MICROSECOND = timedelta(microseconds=1)


def read_instant(value: RawValue, words: Vocabulary) -> datetime | None:
    """The instant that a stored `expires_at` names, rounded up to a microsecond; None: it never comes.

    Raises Unreadable for anything that is not certain.
    """
    if words.is_not_set(value):
        return None
    instant = _from_text(value, words) if words.timestamps == "iso8601" else _from_number(value, words)
    if not EARLIEST <= instant < LATEST:
        raise Unreadable(f"expires_at {shown(value, 60)} is in the year {instant.year}, outside of 2000 to 2200")
    return instant


def _from_number(value: RawValue, words: Vocabulary) -> datetime:
    if isinstance(value, str | bytes) or value is None:
        kind = "blob" if isinstance(value, bytes) else "text"
        raise Unreadable(f"expires_at is {kind} ({shown(value, 40)!r}) where {words.timestamps} takes numbers")
    if not math.isfinite(value):
        raise Unreadable("expires_at is not a finite number")
    per_unit = 10**MICROSECONDS // UNITS_PER_SECOND[words.timestamps]
    microseconds = value * per_unit if isinstance(value, int) else math.ceil(Fraction(value) * per_unit)
    try:
        return EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        raise Unreadable(f"expires_at {shown(value, 60)} is outside of 2000 to 2200") from None


def _from_text(value: RawValue, words: Vocabulary) -> datetime:
    if not isinstance(value, str):
        kind = "blob" if isinstance(value, bytes) else "a number"
        raise Unreadable(f"expires_at is {kind} ({shown(value, 40)}) where iso8601 takes text")
    is_date = DATE.fullmatch(value) is not None
    match = INSTANT.fullmatch(value)
    if is_date and words.dates is None:
        raise Unreadable(f"expires_at {value!r} has no time and ledger.dates is not set")
    if not is_date and match is None:
        raise Unreadable(f"expires_at {shown(value, 60)!r} is not {FORM}")
    try:
        return _exactly(match, words, value) if match else _of_day(value, words)
    except (ValueError, OverflowError):
        raise Unreadable(f"expires_at {shown(value, 60)!r} is no instant that exists") from None


def _of_day(date: str, words: Vocabulary) -> datetime:
    """Where a day begins or ends; where clocks are changed at midnight, the later of two readings."""
    midnight = datetime.fromisoformat(f"{date}T00:00")
    return _placed(midnight + timedelta(days=1 if words.dates == "end" else 0), None, words, date)


def _exactly(match: re.Match[str], words: Vocabulary, value: str) -> datetime:
    naive = datetime.fromisoformat(f"{match['date']}T{match['minutes']}:{match['seconds'] or '00'}")
    # Clocks change at whole seconds: what is rounded up must not come out of an hour that is skipped or read twice.
    return _placed(naive, match["offset"], words, value) + timedelta(microseconds=_rounded_up(match["fraction"] or ""))


def _rounded_up(fraction: str) -> int:
    whole = int(fraction[:MICROSECONDS].ljust(MICROSECONDS, "0") or 0)
    return whole + bool(fraction[MICROSECONDS:].strip("0"))


def _placed(naive: datetime, offset: str | None, words: Vocabulary, value: str) -> datetime:
    if offset is not None:
        return naive.replace(tzinfo=_fixed(offset)).astimezone(UTC)
    if words.timezone is None:
        raise Unreadable(f"expires_at {value!r} has no offset and ledger.timezone is not set")
    # When clocks are put back a local time is read twice, when they are put forward it is skipped: the later
    # of the two readings holds, so that nobody loses a VM an hour early.
    return max(naive.replace(tzinfo=words.timezone, fold=fold).astimezone(UTC) for fold in (0, 1))


def _fixed(offset: str) -> tzinfo:
    match = OFFSET.fullmatch(offset)
    if match is None:
        return UTC
    hours, minutes = int(match["hours"]), int(match["minutes"] or 0)
    # UTC behind an offset of two hours is a contradiction: nobody can say which of them is meant.
    if minutes >= 60 or (match["zone"] and (hours or minutes)):  # noqa: PLR2004 - minutes of an hour
        raise ValueError(offset)
    ahead = timedelta(hours=hours, minutes=minutes)
    return timezone(-ahead if match["sign"] == "-" else ahead)


def written_like(pattern: RawValue, instant: datetime, words: Vocabulary) -> RawValue:
    """`instant` in the spelling of `pattern`, this row's own `expires_at`; rounded down to its precision.

    A pattern that is no instant (NULL, a word for "never") gives the plainest spelling of the configured kind.
    """
    if words.timestamps == "iso8601":
        return _text_like(pattern if isinstance(pattern, str) else "", instant, words)
    millionths = (instant - EPOCH) // MICROSECOND * UNITS_PER_SECOND[words.timestamps]
    if not isinstance(pattern, float):
        return int(millionths // MILLION)
    units = Fraction(millionths, MILLION)
    nearest = float(units)
    return nearest if Fraction(nearest) <= units else math.nextafter(nearest, -math.inf)


def _text_like(pattern: str, instant: datetime, words: Vocabulary) -> str:
    if words.dates and DATE.fullmatch(pattern):
        return f"{instant.astimezone(words.timezone):%Y-%m-%d}"
    match = INSTANT.fullmatch(pattern)
    if match is None:
        return f"{instant:%Y-%m-%d %H:%M:%S}Z"
    zone = _fixed(match["offset"]) if match["offset"] else words.timezone or UTC
    local = instant.astimezone(zone)
    text = f"{local:%Y-%m-%d}{match['separator']}{local:%H:%M}"
    if match["seconds"]:
        text += f":{local:%S}"
    if match["fraction"]:
        digits = len(match["fraction"])
        text += match["mark"] + f"{local:%f}".ljust(digits, "0")[:digits]
    return text + match["space"] + (match["offset"] or "")
