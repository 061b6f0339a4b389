"""What stored values may mean: the operator's configuration of that as one record, and how a value is shown. Pure."""

from collections.abc import Collection
from datetime import UTC, datetime, tzinfo

import msgspec

from autorelease.identity import References
from autorelease.model import RawValue

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
LATEST = datetime(2201, 1, 1, tzinfo=UTC)
UNITS_PER_SECOND = {"epoch": 1, "epoch_ms": 1000}
# What programs write where there is nothing, besides NULL: nought, a word, the first instant that they can write (that
# of Go and .NET is in the year 1). In SQL: `conditions.is_blank`.
BLANK_NUMBERS = (0, -62_135_596_800, -62_135_596_800_000)
BLANK_WORDS = ("", "0", "0.0", "-", "f", "false", "n", "never", "nil", "no", "none", "null")
BLANK_BYTES = (b"", b"\0", b"0")
BLANK_TIMES = ("0000-00-00", "0001-01-01", "1970-01-01", "00:00:00")
# As SQL trims.
SPACES = " \t\n\v\f\r\x1c\x1d\x1e\x1f"

Word = int | str


class Vocabulary(msgspec.Struct, frozen=True):
    """What the operator's configuration says about the meaning of stored values.

    released, inactive, live: statuses, all of one type; live empty: every other status is live. never: of an expiry;
    of released_at and deleted_at: not set. timezone: for naive text only; None: naive text is invalid. dates: what a
    date without a time means, "end" or "start" of that day in the timezone; None: it is invalid.
    is_vm_ref_named: the file names the column of vm_ref, so that a row without a value there has no VM. where: columns,
    by their own names, and the value that a row of ours has there.
    """

    released: Word = "Released"
    inactive: frozenset[Word] = frozenset()
    live: frozenset[Word] = frozenset()
    never: tuple[int | float | str, ...] = ()
    timestamps: str = "epoch"
    timezone: tzinfo | None = None
    dates: str | None = None
    references: References = References.FOLDED
    is_vm_ref_named: bool = False
    where: tuple[tuple[str, Word], ...] = ()

    @property
    def settled(self) -> frozenset[Word]:
        """The statuses of which nothing is left to release."""
        return self.inactive | {self.released}

    @property
    def has_numbers(self) -> bool:
        """Whether statuses are integers."""
        return isinstance(self.released, int)

    def is_not_set(self, value: RawValue) -> bool:
        """Whether a stored instant, of whatever column, stands for none."""
        return value is None or any(
            value == word and isinstance(value, str) == isinstance(word, str) for word in self.never
        )


class Unreadable(Exception):  # noqa: N818 - a verdict on a value, which nobody takes for an error
    """A stored value does not say for certain what it means; the message is the reason."""


def is_word(value: RawValue, words: Collection[Word]) -> bool:
    """Whether a stored value is exactly one of these, which 3.0 is not of 3."""
    return isinstance(value, int | str) and value in words


def is_blank(value: RawValue) -> bool:
    """Whether it looks like nothing, although it is something: zero, no text, a zero date, a word such as no."""
    if isinstance(value, str):
        text = value.strip(SPACES)
        return text.lower() in BLANK_WORDS or text.startswith(BLANK_TIMES)
    return value in (BLANK_BYTES if isinstance(value, bytes) else BLANK_NUMBERS)


def shown(value: RawValue, limit: int = 200) -> str:
    """A raw value as text for a report: never raises, never longer than about `limit` characters."""
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"x'{value[: limit // 2].hex()}'"
    text = str(value).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return text if len(text) <= limit else text[: limit - 1] + "…"
