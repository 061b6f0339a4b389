"""Values and names as SQLite compares them, and how a value of a row is bound to be met again."""

import re

from autorelease.model import RawValue


def lowered(name: str) -> str:
    """A name as SQLite compares it: only ASCII letters have no case."""
    return "".join(character.lower() if character.isascii() else character for character in name)


def twin(sid: RawValue) -> RawValue:
    """The same sid in the other storage class, which an untyped column can hold beside it; NULL: none."""
    if isinstance(sid, int):
        return str(sid)
    if isinstance(sid, str) and re.fullmatch(r"-?[0-9]{1,19}", sid):
        number = int(sid)
        return number if str(number) == sid and -(2**63) <= number < 2**63 else None
    return None


STORAGE_CLASSES: dict[type, str] = {int: "integer", float: "real", str: "text", bytes: "blob"}


def storage_class(value: RawValue) -> str:
    """What SQLite calls the class of a value."""
    if value is None:
        return "null"
    return STORAGE_CLASSES[type(value)]


def is_undecodable(value: RawValue) -> bool:
    """Whether it stands for bytes that are no text."""
    # Most texts are ASCII, of which Python knows at once that they are.
    return (
        isinstance(value, str) and not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value)
    )


def parameter(value: RawValue) -> str:
    """SQL for the place of a value that is bound."""
    # The + keeps the CAST from lending its TEXT affinity to the column that it is compared with.
    return "+CAST(? AS TEXT)" if is_undecodable(value) else "?"


def bindable(value: RawValue) -> RawValue:
    """The value as it is bound in that place."""
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) and is_undecodable(value) else value
