"""What stored values may mean: the operator's configuration of that as one record, and how a value is shown. Pure."""

from datetime import UTC, datetime, tzinfo

import msgspec

from autorelease.identity import References
from autorelease.model import RawValue

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
LATEST = datetime(2201, 1, 1, tzinfo=UTC)
UNITS_PER_SECOND = {"epoch": 1, "epoch_ms": 1000}


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


class Unreadable(Exception):  # noqa: N818 - a verdict on a value, which nobody takes for an error
    """A stored value does not say for certain what it means; the message is the reason."""


def shown(value: RawValue, limit: int = 200) -> str:
    """A raw value as text for a report: never raises, never longer than about `limit` characters."""
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"x'{value[: limit // 2].hex()}'"
    text = str(value).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return text if len(text) <= limit else text[: limit - 1] + "…"
