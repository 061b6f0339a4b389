"""What a row of the ledger says: raw values become an `Allocation` or an `InvalidRow`. Pure, no database.

Everything ambiguous is invalid: not released, and reported with its reason.
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from fractions import Fraction
from functools import lru_cache

import msgspec

from autorelease.identity import References
from autorelease.model import DEFAULT_PROVISIONER, Allocation, InvalidRow, RawRow, RawValue
from autorelease.text import folded

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
LATEST = datetime(2201, 1, 1, tzinfo=UTC)
UNITS_PER_SECOND = {"epoch": 1, "epoch_ms": 1000}
# RFC 3339 with the liberties that SQLite, PostgreSQL and Python take when they print: a space for the T, no seconds,
# a short offset. [0-9] and not \d, which also takes the digits of other scripts.
INSTANT = re.compile(
    r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})(?P<separator>[T ])(?P<minutes>[0-9]{2}:[0-9]{2})"
    r"(?::(?P<seconds>[0-9]{2})(?:\.(?P<fraction>[0-9]+))?)?(?P<space> ?)(?P<offset>Z|[+-][0-9]{2}(?::[0-9]{2})?)?"
)
MICROSECONDS = 6


class Vocabulary(msgspec.Struct, frozen=True):
    """What the operator's configuration says about the meaning of stored values.

    timezone: for naive text only; None: naive text is invalid. is_vm_ref_named: the file names the column of vm_ref, so
    that a row without a value there has no VM.
    """

    released: str = "Released"
    inactive: frozenset[str] = frozenset()
    never: tuple[int | float | str, ...] = ()
    timestamps: str = "epoch"
    timezone: tzinfo | None = None
    references: References = References.FOLDED
    is_vm_ref_named: bool = False


class StoredRow(msgspec.Struct, frozen=True):
    """One row as the database holds it; columns that the table lacks are None."""

    sid: RawValue
    status: RawValue
    expires_at: RawValue
    released_at: RawValue = None
    owner: RawValue = None
    plan: RawValue = None
    vm_ref: RawValue = None
    vm_uid: RawValue = None
    provisioner: RawValue = None


class Unreadable(Exception):  # noqa: N818 - a verdict on a value, which nobody takes for an error
    """A stored value does not say for certain what it means; the message is the reason."""


def read_row(row: StoredRow, words: Vocabulary) -> Allocation | InvalidRow:
    """Judge one row; an InvalidRow carries the reason in words."""
    raw = RawRow(row.sid, row.status, row.expires_at)
    try:
        sid = _sid(row.sid)
    except Unreadable as reason:
        return InvalidRow(shown(row.sid), str(reason), raw, has_sid=False)
    try:
        return _allocation(row, sid, raw, words)
    except Unreadable as reason:
        return InvalidRow(sid, str(reason), raw)


def shown(value: RawValue, limit: int = 200) -> str:
    """A raw value as text for a report: never raises, never longer than about `limit` characters."""
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"x'{value[: limit // 2].hex()}'"
    text = str(value).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return text if len(text) <= limit else text[: limit - 1] + "…"


def readable(value: RawValue) -> str | None:
    """A sid, or the name of something, as the text that it is judged by; None: nobody can say what it is."""
    try:
        return _decodable("it", str(value)) if isinstance(value, int | str) else None
    except Unreadable:
        return None


def _allocation(row: StoredRow, sid: str, raw: RawRow, words: Vocabulary) -> Allocation:
    status = _status(row.status, words)
    settled = status == words.released or status in words.inactive
    if not settled and row.released_at is not None:
        raise Unreadable(f"released_at is set ({shown(row.released_at, 40)}) while the status is {shown(status, 40)!r}")
    # Of a settled row nothing else matters: its expiry is not even looked at.
    expires_at = None if settled else read_instant(row.expires_at, words)
    return Allocation(
        sid=sid,
        status=status,
        expires_at=expires_at,
        settled=settled,
        vm_ref=_vm_ref(row.vm_ref, sid, words),
        raw=raw,
        released=status == words.released,
        provisioner=_reference("provisioner", row.provisioner) or DEFAULT_PROVISIONER,
        vm_uid=_reference("vm_uid", row.vm_uid),
        owner=_note(row.owner),
        plan=_note(row.plan),
    )


def _sid(value: RawValue) -> str:
    if value is None:
        raise Unreadable("sid is NULL")
    if not isinstance(value, int | str):
        raise Unreadable(f"sid is neither text nor an integer but {type(value).__name__}")
    text = _decodable("sid", str(value))
    if not text:
        raise Unreadable("sid is empty")
    return text


def _status(value: RawValue, words: Vocabulary) -> str:
    if value is None:
        raise Unreadable("status is NULL")
    if not isinstance(value, str):
        raise Unreadable(f"status is not text but {type(value).__name__}")
    if value == words.released or value in words.inactive:
        return value
    meant = _settled(words.released, words.inactive).get(folded(value))
    if meant is not None:
        raise Unreadable(_nearly(value, meant))
    return _decodable("status", value)


@lru_cache(maxsize=8)
def _settled(released: str, inactive: frozenset[str]) -> Mapping[str, str]:
    """The words for "settled", by what all their spellings have in common."""
    return {folded(word): word for word in (*sorted(inactive), released)}


def _nearly(status: str, meant: str) -> str:
    if status.strip().casefold() == meant.strip().casefold():
        return f"status {status!r} is {meant!r} but for case or space"
    # Both would look the same as they are.
    return f"status {status!a} is {meant!a} but for the form of its characters"


def _vm_ref(value: RawValue, sid: str, words: Vocabulary) -> str:
    """The name of the VM; '': it has none."""
    reference = _reference("vm_ref", value)
    if words.is_vm_ref_named:
        return reference if reference and reference.strip() else ""
    return reference or sid


def _decodable(name: str, value: str) -> str:
    # The ledger hands bytes that are no UTF-8 on as lone surrogates.
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise Unreadable(f"{name} is not valid UTF-8") from None
    return value


def _reference(name: str, value: RawValue) -> str | None:
    """An identity that decides which VM goes: as strict as the sid; NULL and '' mean that there is none."""
    if value is None or value == "":
        return None
    if not isinstance(value, int | str):
        raise Unreadable(f"{name} is neither text nor an integer but {type(value).__name__}")
    return _decodable(name, str(value))


def _note(value: RawValue) -> str | None:
    """A value that decides nothing and is only shown or passed on."""
    return None if value is None else shown(value, limit=2**31) if isinstance(value, bytes) else _replaced(value)


def _replaced(value: float | str) -> str:
    return str(value).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


# --- instants ---------------------------------------------------------------------------------------------------------


def read_instant(value: RawValue, words: Vocabulary) -> datetime | None:
    """The instant that a stored `expires_at` names, rounded up to a microsecond; None: it never comes.

    Raises Unreadable for anything that is not certain.
    """
    if value is None or _is_never(value, words.never):
        return None
    instant = _from_text(value, words) if words.timestamps == "iso8601" else _from_number(value, words)
    if not EARLIEST <= instant < LATEST:
        raise Unreadable(f"expires_at {shown(value, 60)} is in the year {instant.year}, outside of 2000 to 2200")
    return instant


def _is_never(value: RawValue, never: tuple[int | float | str, ...]) -> bool:
    return any(value == word and isinstance(value, str) == isinstance(word, str) for word in never)


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
    match = INSTANT.fullmatch(value)
    if match is None:
        raise Unreadable(f"expires_at {shown(value, 60)!r} is not YYYY-MM-DD HH:MM[:SS[.digits]][Z|±HH:MM]")
    fraction = match["fraction"] or ""
    try:
        naive = datetime.fromisoformat(f"{match['date']}T{match['minutes']}:{match['seconds'] or '00'}")
        # Clocks change at whole seconds: what is rounded up must not come out of an hour that is skipped or read twice.
        return _placed(naive, match["offset"], words, value) + timedelta(microseconds=_rounded_up(fraction))
    except (ValueError, OverflowError):
        raise Unreadable(f"expires_at {shown(value, 60)!r} is no instant that exists") from None


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
    if offset == "Z":
        return UTC
    hours, minutes = int(offset[1:3]), int(offset[4:6] or 0)
    if minutes >= 60:  # noqa: PLR2004 - minutes of an hour
        raise ValueError(offset)
    ahead = timedelta(hours=hours, minutes=minutes)
    return timezone(-ahead if offset[0] == "-" else ahead)


def written_like(pattern: RawValue, instant: datetime, words: Vocabulary) -> RawValue:
    """`instant` in the spelling of `pattern`, this row's own `expires_at`; rounded down to its precision.

    A pattern that is no instant (NULL, a word for "never") gives the plainest spelling of the configured kind.
    """
    if words.timestamps == "iso8601":
        return _text_like(INSTANT.fullmatch(pattern) if isinstance(pattern, str) else None, instant, words)
    exact = Fraction((instant - EPOCH) // timedelta(microseconds=1), 10**MICROSECONDS)
    units = exact * UNITS_PER_SECOND[words.timestamps]
    if not isinstance(pattern, float):
        return math.floor(units)
    nearest = float(units)
    return nearest if Fraction(nearest) <= units else math.nextafter(nearest, -math.inf)


def _text_like(match: re.Match[str] | None, instant: datetime, words: Vocabulary) -> str:
    if match is None:
        return f"{instant:%Y-%m-%d %H:%M:%S}Z"
    zone = _fixed(match["offset"]) if match["offset"] else words.timezone or UTC
    local = instant.astimezone(zone)
    text = f"{local:%Y-%m-%d}{match['separator']}{local:%H:%M}"
    if match["seconds"]:
        text += f":{local:%S}"
    if match["fraction"]:
        digits = len(match["fraction"])
        text += "." + f"{local:%f}".ljust(digits, "0")[:digits]
    return text + match["space"] + (match["offset"] or "")
