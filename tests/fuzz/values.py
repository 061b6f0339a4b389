"""Stored values of every storage class of SQLite, ordinary ones and such as mean harm; and rows of them.

Pools are small on purpose: values meet in one ledger, so that a sid is shared and a VM is held twice.
"""

import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

ROLES = (
    *("sid", "owner", "plan", "provisioner", "vm_ref", "vm_uid", "status", "expires_at", "released_at", "deleted_at"),
    "kind",
)
DAY = 86_400
LONG = 3_000
HUGE = 200_000
SPECIAL_NUMBERS = (0, 1, -1, 10, 2**31, 2**53, 2**53 + 1, 2**63 - 1, -(2**63), 946_684_800, 946_684_799, 7_289_654_400)
SPECIAL_REALS = (
    *(0.0, -0.0, 1.0, 1.5, 10.0, float(2**53), float(2**63), float("inf"), float("-inf"), 5e-324, -5e-324, 1.8e308 / 2),
    *(946_684_799.999_999_9, 946_684_800.0, 7_289_654_399.999_999, 7_289_654_400.0, 1e16, 1e300, -1e300),
)
SPECIAL_TEXTS = (
    *("", " ", "0", "1", "1.0", "1.5", "10", "01", "-1", "NULL", "None", "none", "b'x'", "x'78'", "inf", "nan", "true"),
    *(
        "-rf",
        "--help",
        "--",
        "{sid}",
        "{vm_ref}",
        "%s %n",
        "$(id)",
        "`id`",
        "; id #",
        "a\nb\r\nc",
        "\t",
        "a\x00b",
        "\x00",
    ),
    *(
        "'",
        '"',
        "''; DROP TABLE vm_allocations; --",
        "[bold]x[/]",
        "\x1b[31mred\x1b[0m",
        "\x1b]0;t\x07",
        "\x9b2J",
        "\x7f",
    ),
    *(
        "\u202egnp\u202c",
        "\u200b\ufeff",
        "\u2028\u2029\x85",
        "ünï",
        "漢字",
        "🜂",
        "e\u0301",
        "\ufffd",
        "\uffff",
        "\U0010ffff",
    ),
    *("../../etc/passwd", "=1+1", "a,b", "a=b", "null", "default", "9223372036854775807", "9223372036854775808"),
)
BROKEN = (
    b"\xff",
    b"\x80",
    b"a\xc3",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\xf5\x80\x80\x80",
    b"ok\xffok",
    b"\x00\xff",
    b"vm\xfe",
)
SPACES = ("", " ", "\t", "\n", "\u2003", "\xa0", "\x1f", "\x85", "  ")


@dataclass(frozen=True, slots=True)
class Stored:
    """A value as SQLite stores it. kind: what typeof says; a text as its bytes, which need be no UTF-8."""

    kind: str
    value: int | float | bytes | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stored) and self.exact() == other.exact()

    def __hash__(self) -> int:
        return hash(self.exact())

    def exact(self) -> tuple[str, object]:
        """Byte for byte: -0.0 is not 0.0."""
        return (self.kind, struct.pack("<d", self.value) if isinstance(self.value, float) else self.value)


NULL = Stored("null")
Row = tuple[Stored, ...]


def integer(value: int) -> Stored:
    """An INTEGER."""
    return Stored("integer", value)


def real(value: float) -> Stored:
    """A REAL."""
    return Stored("real", value)


def text(value: str | bytes) -> Stored:
    """A TEXT, of bytes where they are no UTF-8."""
    return Stored("text", value if isinstance(value, bytes) else value.encode())


def blob(value: bytes) -> Stored:
    """A BLOB."""
    return Stored("blob", value)


@dataclass(frozen=True, slots=True)
class Meaning:
    """What the configuration of a ledger says. zone: of text without an offset. grace: in seconds.

    where: the value that rows of ours have as their kind; None: all are ours. has_deleted: whether soft deletes count.
    """

    timestamps: str
    zone: str | None = None
    released: str | int = "Released"
    inactive: tuple[str | int, ...] = ()
    live: tuple[str | int, ...] = ()
    dates: str | None = None
    where: str | int | None = None
    has_deleted: bool = False
    never: tuple[int | float | str, ...] = ()
    grace: int = 0


def any_text(chance: random.Random) -> Stored:
    """Text of all sorts: known to be nasty, of any characters, of any bytes, huge."""
    choice = chance.random()
    if choice < 0.5:
        return text(chance.choice(SPECIAL_TEXTS))
    if choice < 0.65:
        return text(chance.choice(BROKEN))
    if choice < 0.8:
        return text("".join(chr(_character(chance)) for _ in range(chance.randrange(12))))
    if choice < 0.98:
        return text(chance.randbytes(chance.randrange(8)))
    return text(chance.choice(["x", "é", "\n", "-", "0"]) * (HUGE if chance.random() < 0.05 else LONG))


def _character(chance: random.Random) -> int:
    found = chance.randrange(chance.choice([0x80, 0x300, 0x3000, 0x110000]))
    return found if not 0xD800 <= found < 0xE000 else 0xE000


def any_value(chance: random.Random) -> Stored:
    """A value of any storage class."""
    choice = chance.random()
    if choice < 0.1:
        return NULL
    if choice < 0.25:
        return integer(chance.choice([chance.choice(SPECIAL_NUMBERS), chance.randrange(-(2**63), 2**63)]))
    if choice < 0.4:
        drawn: float = struct.unpack("<d", chance.randbytes(8))[0]
        drawn = 0.5 if drawn != drawn else drawn  # noqa: PLR0124 - what is no number is stored as NULL
        return real(chance.choice([chance.choice(SPECIAL_REALS), drawn]))
    if choice < 0.5:
        return blob(chance.choice([b"", b"x", b"1", b"Released", b"default", chance.randbytes(chance.randrange(10))]))
    return any_text(chance)


def any_row(chance: random.Random, number: int, meaning: Meaning, now: float) -> Row:
    """A row: mostly ordinary with something odd in it, sometimes anything everywhere."""
    oddness = chance.choice([0.0, 0.0, 0.08, 0.08, 0.25, 1.0])
    ordinary = {
        "sid": lambda: text(f"vm-{number}") if chance.random() < 0.9 else _small(chance),
        "owner": lambda: chance.choice([NULL, text("alma"), text("bruno")]),
        "plan": lambda: chance.choice([NULL, text("small")]),
        "provisioner": lambda: chance.choice(
            [NULL, NULL, NULL, text(""), text("default"), text("second"), _zero(chance)]
        ),
        "vm_ref": lambda: chance.choice(
            [NULL, NULL, text(""), text(f"ref-{number}"), text(f"ref-{number}"), _small(chance)]
        ),
        "vm_uid": lambda: chance.choice([NULL, text(f"uid-{number}"), integer(number)]),
        "status": lambda: _status(chance, meaning),
        "expires_at": lambda: expiry(chance, meaning, now),
        "released_at": lambda: _nothing(chance, meaning),
        "deleted_at": lambda: _nothing(chance, meaning) if chance.random() < 0.9 else _mark(chance),
        "kind": lambda: _kind(chance, meaning),
    }
    return tuple(any_value(chance) if chance.random() < oddness else ordinary[role]() for role in ROLES)


def _small(chance: random.Random) -> Stored:
    """One of few values, so that they meet, in every class that could be taken for the same."""
    name = chance.choice(["7", "8", "9", "None", "b'x'", "1.5"])
    others = {"None": NULL, "b'x'": blob(b"x"), "1.5": real(1.5)}
    if chance.random() < 0.2:
        return text(chance.choice([" 7", "7\u00a0", "\uff17", "NONE", "None\x1f", "\u212a", "k", "07", "7.0"]))
    if chance.random() < 0.5 or name not in "789":
        return chance.choice([text(name), others.get(name, integer(7))])
    return chance.choice([integer(int(name)), real(float(name))])


def _zero(chance: random.Random) -> Stored:
    return chance.choice([integer(0), text("0"), text("default")])


def _nothing(chance: random.Random, meaning: Meaning) -> Stored:
    """What stands for nothing: NULL, or a word that is listed."""
    return _constant(chance.choice(meaning.never)) if meaning.never and chance.random() < 0.3 else NULL


def _mark(chance: random.Random) -> Stored:
    """What says that a row is deleted, or only looks like it."""
    return chance.choice(
        [
            *(integer(1), real(1.5), text("2026-01-01"), text("yes"), integer(0), text(""), text("0")),
            *(text("0000-00-00 00"), text(" "), text("NULL"), text("no "), text("0001-01-01T00:00:00Z")),
            *(text("noon"), Stored("blob", b"\0")),
        ]
    )


def _kind(chance: random.Random, meaning: Meaning) -> Stored:
    """Mostly that of our rows; or something that is nearly it."""
    if meaning.where is None or chance.random() < 0.8:
        return NULL if meaning.where is None else _constant(meaning.where)
    word = f"{meaning.where}"
    return chance.choice([NULL, text(word.upper()), text(f"{word} "), text(word), integer(1), real(1.0), blob(b"vps")])


def _numbered(chance: random.Random, meaning: Meaning) -> Stored:
    choice = chance.random()
    if choice < 0.75:
        return word_of(chance.choice([*meaning.live, 1]))
    if choice < 0.85:
        return word_of(chance.choice([meaning.released, *meaning.inactive]))
    return chance.choice([integer(2), real(3.0), text("3"), text("1"), text("Released"), blob(b"3"), integer(2**62)])


def _status(chance: random.Random, meaning: Meaning) -> Stored:
    if isinstance(meaning.released, int):
        return _numbered(chance, meaning)
    choice = chance.random()
    if choice < 0.75 and meaning.live:
        return text(str(chance.choice([*meaning.live, *meaning.live, "fraud", "ACTIVE"])))
    if choice < 0.75:
        return text(chance.choice(["Active", "Active", "suspended"]))
    if choice < 0.85:
        return _constant(chance.choice([meaning.released, *meaning.inactive]))
    word = str(chance.choice([meaning.released, *meaning.inactive, "Relea\u017fed"]))
    word = chance.choice([word, word.lower(), word.upper(), word.swapcase()])
    return text(chance.choice(SPACES) + word + chance.choice(SPACES))


# --- expiries ---------------------------------------------------------------------------------------------------------


def expiry(chance: random.Random, meaning: Meaning, now: float) -> Stored:
    """An expiry in the ledger's own kind, past or to come; or a word for never; or one that is slightly wrong."""
    if meaning.never and chance.random() < 0.1:
        return _constant(chance.choice(meaning.never))
    distance = chance.choice([0, 1, 3600, DAY, 30 * DAY, 3000 * DAY]) * chance.random() + 600
    seconds = now - meaning.grace + chance.choice([-1, -1, 1]) * distance
    if meaning.dates and chance.random() < 0.4:
        day = datetime.fromtimestamp(seconds, UTC)
        return text(f"{day:%Y-%m-%d}{chance.choice(['', '', '', '', 'Z', ' ', 'T'])}")
    if meaning.timestamps == "iso8601":
        return _read_twice(chance) if meaning.zone and chance.random() < 0.25 else _written(chance, seconds)
    if chance.random() < 0.1:
        return chance.choice([integer, real])(chance.choice(SPECIAL_NUMBERS))
    units = 1000 if (meaning.timestamps == "epoch_ms") != (chance.random() < 0.03) else 1
    return chance.choice([integer(int(seconds * units)), real(seconds * units), integer(int(seconds * units))])


def word_of(word: str | int) -> Stored:
    """A status as it is stored."""
    return text(word) if isinstance(word, str) else integer(word)


def _constant(word: float | str) -> Stored:
    if isinstance(word, str):
        return text(word)
    return integer(word) if isinstance(word, int) else real(word)


OFFSETS = (
    *("Z", "+00:00", "+02:00", "-11:30", "+05:45", "-07", "+14", "+23:59", "", "", "z", "UTC", "utc", "+0000"),
    *("-1130", "+0545", "+0000 UTC", "-00:00 utc", "+0200 UTC"),
)


def _written(chance: random.Random, seconds: float) -> Stored:
    offset = chance.choice(OFFSETS)
    moment = datetime.fromtimestamp(seconds, UTC).astimezone(_zone(offset))
    said = f"{moment:%Y-%m-%d}{chance.choice('TT  t')}{moment:%H:%M}"
    if chance.random() < 0.85:
        said += f":{moment:%S}"
        said += chance.choice(["", "", ".5", ",25", ".123456", ".1234567", ".9999999", ".000000000", "." + "9" * 30])
    said += chance.choice(["", "", "", " "]) + offset
    return text(_misspelt(chance, said) if chance.random() < 0.25 else said)


def _read_twice(chance: random.Random) -> Stored:
    """A local time around the changes of the clock, which comes twice or never."""
    day = chance.choice(["2025-10-26", "2026-03-29", "2026-10-25"])
    return text(f"{day}{chance.choice('T ')}0{chance.choice('1223')}:{chance.choice(['00', '30', '59:59.9999999'])}")


def _zone(offset: str) -> timezone:
    if offset[:1] not in ("+", "-"):
        return UTC
    digits = "".join(character for character in offset if character.isdigit())
    minutes = int(digits[:2]) * 60 + int(digits[2:] or 0)
    return timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes))


STRAY = "0123456789-:+.TtZzUC ,\x00\n\u0663\xb2\xbd\u2013"


def _misspelt(chance: random.Random, said: str) -> str:
    place = chance.randrange(len(said) + 1)
    cut = chance.choice([0, 1, 1])
    return said[:place] + chance.choice(["", chance.choice(STRAY), chance.choice(STRAY)]) + said[place + cut :]


def statement(rows: Sequence[Row]) -> tuple[str, list[tuple[int | float | bytes | None, ...]]]:
    """An INSERT for these rows, and what is bound to it: text by way of a blob, so that any bytes will do."""
    place = "CASE WHEN ? THEN CAST(? AS TEXT) ELSE ? END"
    # A table may lack the last of them.
    roles = ROLES[: len(rows[0])]
    names = ", ".join(roles)
    bound = [tuple(part for value in row for part in _parts(value)) for row in rows]
    return f"INSERT INTO vm_allocations ({names}) VALUES ({', '.join([place] * len(roles))})", bound


def _parts(value: Stored) -> tuple[int | float | bytes | None, ...]:
    return (1, value.value, None) if value.kind == "text" else (0, None, value.value)
