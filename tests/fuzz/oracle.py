"""What must become of each row, in plain words and without a line of the product: an opinion of its own.

Reads values character by character; knows no regular expression, no SQL, and no parser of dates.
"""

import calendar
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from tests.fuzz.values import ROLES, Meaning, Row, Stored

FIRST = calendar.timegm((2000, 1, 1, 0, 0, 0))
END = calendar.timegm((2201, 1, 1, 0, 0, 0))
ANY_DIGIT = set("0123456789")
HOUR = 3600


NOTHING = (b"", b"-", b"0", b"0.0", b"f", b"false", b"n", b"never", b"nil", b"no", b"none", b"null")
ASCII_SPACES = b" \t\n\v\f\r\x1c\x1d\x1e\x1f"


class Fate(StrEnum):
    """What a sweep may do with a row. UNSERVED: nobody is configured to release it."""

    RELEASED = "released"
    UNSERVED = "no_provisioner"
    SETTLED = "settled"
    ELSEWHERE = "not ours"
    NOT_DUE = "not due"
    INVALID = "invalid"


class Doubt(Exception):  # noqa: N818 - a verdict
    """The row does not say for certain what it means."""


@dataclass(frozen=True, slots=True)
class Known:
    """A row by our words."""

    sid: Stored
    status: Stored
    expires_at: Stored
    released_at: Stored
    vm_ref: Stored
    vm_uid: Stored
    provisioner: Stored
    deleted_at: Stored
    kind: Stored


def fates(rows: Sequence[Row], meaning: Meaning, now: Fraction, configured: Sequence[str]) -> list[Fate]:
    """The fate of each row, in their order."""
    known = [_known(row) for row in rows]
    shared = _shared(known, meaning)
    found = [_alone(row, meaning, now, is_shared=number in shared) for number, row in enumerate(known)]
    # A VM that a live row holds which is not to be released: nobody's allocation of it is.
    found = [
        Fate.UNSERVED if fate is Fate.RELEASED and not _is_served(row, configured) else fate
        for row, fate in zip(known, found, strict=True)
    ]
    staying = (Fate.NOT_DUE, Fate.INVALID, Fate.UNSERVED)
    kept = _Kept(row for row, fate in zip(known, found, strict=True) if fate in staying)
    return [
        Fate.INVALID if fate is Fate.RELEASED and kept.has(row) else fate
        for row, fate in zip(known, found, strict=True)
    ]


def named(row: Row) -> str:
    """How a report speaks of a row, at least at the beginning."""
    sid = _known(row).sid
    if sid.kind == "null":
        return "NULL"
    if isinstance(sid.value, bytes):
        return f"x'{sid.value.hex()}'" if sid.kind == "blob" else sid.value.decode("utf-8", "replace")
    return str(sid.value)


def ends(rows: Sequence[Row], meaning: Meaning) -> list[Fraction]:
    """The instants at whose very moment something has not yet expired."""
    found = []
    for row in map(_known, rows):
        with suppress(Doubt):
            is_live = _is_ours(row, meaning) and not _is_settled(row, meaning)
            expires = _expiry(row.expires_at, meaning) if is_live else None
            found += [expires + meaning.grace] if expires is not None else []
    return found


def stamped_at(row: Row, meaning: Meaning) -> float:
    """The instant of a released_at, which is written as an expiry is."""
    instant = _expiry(_known(row).released_at, meaning)
    assert instant is not None
    return float(instant)


class _Kept:
    """The VMs that are somebody's still: by their names, where each is and its second identity, as far as is known."""

    def __init__(self, rows: Iterable[Known]) -> None:
        self._by_name: dict[str, set[tuple[str | None, str | None]]] = defaultdict(set)
        for row in rows:
            if not _is_absent(row.sid) or not _is_absent(row.vm_ref):
                self._by_name[_named_vm(row)].add((_where(row), _second(row)))

    def has(self, row: Known) -> bool:
        where, second = _where(row), _second(row)
        return any(
            # Of whom nobody can say where its VM is, it may be here; and so with what it is.
            (other is None or other == where) and (known is None or second is None or known == second)
            for other, known in self._by_name[_named_vm(row)]
        )


def _is_served(row: Known, configured: Sequence[str]) -> bool:
    return ("default" if _is_absent(row.provisioner) else _said(row.provisioner)) in configured


def _known(row: Row) -> Known:
    named = dict(zip(ROLES, row, strict=True))
    return Known(**{role: named[role] for role in Known.__dataclass_fields__})


def _alone(row: Known, meaning: Meaning, now: Fraction, *, is_shared: bool) -> Fate:
    if not _is_ours(row, meaning):
        return Fate.ELSEWHERE
    if _is_settled(row, meaning):
        return Fate.SETTLED
    try:
        _check_sid(row.sid)
        _check_nothing_of(row, meaning, is_shared=is_shared)
        _check_status(row.status, meaning)
        for name in (row.vm_ref, row.vm_uid, row.provisioner):
            _check_name(name)
        expires = _expiry(row.expires_at, meaning)
    except Doubt:
        return Fate.INVALID
    if expires is None or expires + meaning.grace >= now:
        return Fate.NOT_DUE
    return Fate.RELEASED


def _is_settled(row: Known, meaning: Meaning) -> bool:
    if row.status in [_stored(word) for word in (meaning.released, *meaning.inactive)]:
        return True
    return meaning.has_deleted and not _is_unset(row.deleted_at, meaning) and not _looks_unset(row.deleted_at)


def _is_ours(row: Known, meaning: Meaning) -> bool:
    return meaning.where is None or row.kind == _stored(meaning.where)


def _stored(word: str | int) -> Stored:
    return Stored("text", word.encode()) if isinstance(word, str) else Stored("integer", word)


def _is_unset(value: Stored, meaning: Meaning) -> bool:
    return value.kind == "null" or any(_is_word(value, word) for word in meaning.never)


def _looks_unset(value: Stored) -> bool:
    if value.kind == "text":
        assert isinstance(value.value, bytes)
        text = value.value.strip(ASCII_SPACES).lower()
        return text in NOTHING or text.startswith((b"0000-00-00", b"0001-01-01", b"1970-01-01", b"00:00:00"))
    if value.kind == "blob":
        return value.value in (b"", b"\0", b"0")
    return value.kind in ("integer", "real") and value.value == 0


# --- who is who -------------------------------------------------------------------------------------------------------


def _decoded(value: Stored) -> str:
    assert isinstance(value.value, bytes)
    try:
        return value.value.decode()
    except UnicodeDecodeError:
        raise Doubt from None


def _check_nothing_of(row: Known, meaning: Meaning, *, is_shared: bool) -> None:
    """Neither another row of its sid, nor a mark that it was released, nor one that only looks like a deletion."""
    if is_shared or not _is_unset(row.released_at, meaning):
        raise Doubt
    if meaning.has_deleted and not _is_unset(row.deleted_at, meaning):
        raise Doubt


def _check_sid(value: Stored) -> None:
    if value.kind not in ("integer", "text") or value == Stored("text", b""):
        raise Doubt
    _check_name(value)


def _check_name(value: Stored) -> None:
    if value.kind in ("real", "blob"):
        raise Doubt
    if value.kind == "text":
        _decoded(value)


def _check_status(value: Stored, meaning: Meaning) -> None:
    if value.kind != _stored(meaning.released).kind:
        raise Doubt
    if meaning.live:
        if value not in [_stored(word) for word in meaning.live]:
            raise Doubt
        return
    # That it is none of them exactly was seen before.
    words = [str(word) for word in (meaning.released, *meaning.inactive)]
    if value.kind == "text" and _simple(_decoded(value)) in map(_simple, words):
        raise Doubt


def _shared(rows: Sequence[Known], meaning: Meaning) -> set[int]:
    """The rows whose sid is that of another row: the same text, the same number, or a number and its digits."""
    same: dict[object, list[int]] = defaultdict(list)
    for number, row in [pair for pair in enumerate(rows) if _is_ours(pair[1], meaning)]:
        sid = row.sid
        if sid.kind in ("integer", "text"):
            same[("said", str(sid.value).encode() if sid.kind == "integer" else sid.value)].append(number)
        if sid.kind in ("integer", "real"):
            same[("number", sid.value)].append(number)
    return {number for numbers in same.values() if len(numbers) > 1 for number in numbers}


def _simple(word: str) -> str:
    """What all spellings of it have in common."""
    for _ in range(4):
        word = unicodedata.normalize("NFKC", word).casefold().strip()
    return word


def _named_vm(row: Known) -> str:
    """Which VM it holds, in whatever class that is stored."""
    reference = row.sid if _is_absent(row.vm_ref) else row.vm_ref
    value = reference.value
    if isinstance(value, bytes):
        return _simple(value.decode("utf-8", "surrogateescape"))
    # What is stored as a real may be the whole number of another row.
    return _simple(str(int(value) if isinstance(value, float) and value.is_integer() else value))


def _where(row: Known) -> str | None:
    """At which provisioner; None: nobody can say."""
    said = "default" if _is_absent(row.provisioner) else _said(row.provisioner)
    return None if said is None else _simple(said) or "default"


def _second(row: Known) -> str | None:
    """Its second identity, where one is known."""
    return _simple(_said(row.vm_uid) or "") or None


def _is_absent(value: Stored) -> bool:
    return value.kind == "null" or value == Stored("text", b"")


def _said(value: Stored) -> str | None:
    try:
        _check_name(value)
    except Doubt:
        return None
    return str(value.value) if value.kind == "integer" else _decoded(value) if value.kind == "text" else None


# --- when -------------------------------------------------------------------------------------------------------------


def _expiry(value: Stored, meaning: Meaning) -> Fraction | None:
    """In seconds since 1970; None: never."""
    if value.kind == "null" or any(_is_word(value, word) for word in meaning.never):
        return None
    seconds = _from_text(value, meaning) if meaning.timestamps == "iso8601" else _from_number(value, meaning)
    rounded_up = Fraction(-(-seconds * 10**6 // 1), 10**6)
    if not FIRST <= rounded_up < END:
        raise Doubt
    return rounded_up


def _is_word(value: Stored, word: float | str) -> bool:
    if isinstance(word, str):
        return value == Stored("text", word.encode())
    return value.kind in ("integer", "real") and value.value == word


def _from_number(value: Stored, meaning: Meaning) -> Fraction:
    if value.kind not in ("integer", "real") or value.value in (float("inf"), float("-inf")):
        raise Doubt
    assert isinstance(value.value, int | float)
    return Fraction(value.value) / (1000 if meaning.timestamps == "epoch_ms" else 1)


class _Reader:
    """Takes a text from its beginning, piece by piece."""

    def __init__(self, said: str) -> None:
        self.left = said

    def digits(self, count: int) -> int:
        taken, self.left = self.left[:count], self.left[count:]
        if len(taken) != count or set(taken) - ANY_DIGIT:
            raise Doubt
        return int(taken)

    def one_of(self, characters: str) -> str:
        taken, self.left = self.left[:1], self.left[1:]
        if not taken or taken not in characters:
            raise Doubt
        return taken

    def has(self, characters: str) -> bool:
        return self.left[:1] != "" and self.left[:1] in characters

    def fraction(self) -> Fraction:
        length = len(self.left) - len(self.left.lstrip("0123456789"))
        if not length:
            raise Doubt
        taken, self.left = self.left[:length], self.left[length:]
        # A millionth is the least that counts, and what is beyond it is rounded up.
        beyond = 1 if taken[6:].strip("0") else 0
        return Fraction(int(taken[:6].ljust(6, "0")) + beyond, 10**6)


def _from_text(value: Stored, meaning: Meaning) -> Fraction:
    if value.kind != "text":
        raise Doubt
    reader = _Reader(_decoded(value))
    year = reader.digits(4)
    reader.one_of("-")
    month = reader.digits(2)
    reader.one_of("-")
    day = reader.digits(2)
    if not reader.left and meaning.dates is not None:
        return _of_day(year, month, day, meaning)
    reader.one_of("Tt ")
    hour = reader.digits(2)
    reader.one_of(":")
    minute, second, part = reader.digits(2), 0, Fraction(0)
    if reader.has(":"):
        reader.one_of(":")
        second = reader.digits(2)
        if reader.has(".,"):
            reader.one_of(".,")
            part = reader.fraction()
    if reader.has(" "):
        reader.one_of(" ")
    is_real = year >= 1 and 1 <= month <= 12 and hour < 24 and minute < 60 and second < 60
    if not is_real or not 1 <= day <= calendar.monthrange(year, month)[1]:
        raise Doubt
    local = calendar.timegm((year, month, day, hour, minute, second))
    return local - _ahead(reader, local, year, meaning) + part


def _of_day(year: int, month: int, day: int, meaning: Meaning) -> Fraction:
    if year < 1 or not 1 <= month <= 12 or not 1 <= day <= calendar.monthrange(year, month)[1]:
        raise Doubt
    local = calendar.timegm((year, month, day, 0, 0, 0)) + (24 * HOUR if meaning.dates == "end" else 0)
    return Fraction(local - _ahead_in_berlin(local, calendar_year(local)))


def calendar_year(local: int) -> int:
    """Of a count of seconds."""
    year = 1970 + local // (366 * 24 * HOUR)
    while calendar.timegm((year + 1, 1, 1, 0, 0, 0)) <= local:
        year += 1
    return year


def _ahead(reader: _Reader, local: int, year: int, meaning: Meaning) -> int:
    """By how many seconds this clock is ahead of UTC."""
    if not reader.left:
        if meaning.zone is None:
            raise Doubt
        return _ahead_in_berlin(local, year)
    if reader.left.lower() in ("z", "utc"):
        return 0
    sign, hours, minutes = reader.one_of("+-"), reader.digits(2), 0
    if reader.has(":0123456789"):
        if reader.has(":"):
            reader.one_of(":")
        minutes = reader.digits(2)
    # Go says the name of the zone, too.
    has_name = reader.left.lower() == " utc"
    if (reader.left and not has_name) or hours > 23 or minutes > 59 or (has_name and hours + minutes > 0):
        raise Doubt
    ahead = hours * HOUR + minutes * 60
    return -ahead if sign == "-" else ahead


def _ahead_in_berlin(local: int, year: int) -> int:
    """Summer time from the last Sunday of March to that of October; of two readings the one that is later."""
    begins = _last_sunday(year, 3) + 3 * HOUR
    ends = _last_sunday(year, 10) + 2 * HOUR
    return 2 * HOUR if begins <= local < ends else HOUR


def _last_sunday(year: int, month: int) -> int:
    last = calendar.monthrange(year, month)[1]
    day = last - (calendar.weekday(year, month, last) + 1) % 7
    return calendar.timegm((year, month, day, 0, 0, 0))
