"""Tables of a configuration become frozen structs; what is wrong in one is said by its key, in the file's own words.

Owns the conversion and its messages. Knows no section and no key by its name. The way to a message may be slow: it is
gone only where something is wrong.
"""

from collections.abc import Iterator, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Protocol, Self, TypeVar, Union, cast, get_args, get_origin

import msgspec

S = TypeVar("S", bound=msgspec.Struct)
SHOWN = 80
WANTED = {bool: "true or false", int: "an integer", float: "a number", str: "text", tuple: "a list", list: "a list"}


class Readable(Protocol):
    """A type of our own, which reads itself from what a file says."""

    @classmethod
    def read(cls, value: object) -> Self:
        """The value; raises ValueError, saying how it is written."""


class TableError(ValueError):
    """What is wrong in a table. keys: the way to it; message: what is wrong there."""

    def __init__(self, keys: tuple[str, ...], message: str) -> None:
        super().__init__(message)
        self.keys = keys
        self.message = message

    def __str__(self) -> str:
        return f"{'.'.join(self.keys)!r}: {self.message}" if self.keys else self.message


class UnknownKeyError(TableError):
    """A key that the table does not have, with the nearest one that it has."""

    def __init__(self, keys: tuple[str, ...], known: tuple[str, ...]) -> None:
        super().__init__(keys, f"The nearest known key there is {nearest(keys[-1], known)!r}")

    def __str__(self) -> str:
        return f"unknown key {'.'.join(self.keys)!r}. {self.message}"


def read_struct(table: Mapping[str, object], kind: type[S]) -> S:
    """Make a struct of a table; raises TableError for the first thing that is wrong in it."""
    try:
        return _converted(table, kind)
    except msgspec.ValidationError as error:
        raise next(_problems(table, kind, ()), TableError((), str(error))) from error


def nearest(key: str, known: tuple[str, ...]) -> str:
    """The known key that looks most like this one."""
    import difflib

    return difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]


def _converted(value: object, kind: type[S]) -> S:
    return msgspec.convert(value, kind, dec_hook=_read)


def _read(kind: type, value: object) -> object:
    return cast("type[Readable]", kind).read(value)


def _problems(value: object, kind: Any, keys: tuple[str, ...]) -> Iterator[TableError]:
    """What is wrong in a value, the innermost first."""
    bare = _bare(kind, value)
    if isinstance(value, dict) and _is_table(bare):
        yield from _problems_of_table(value, bare, keys)
    elif isinstance(value, dict) and get_origin(bare) is dict:
        name, inner = get_args(bare)
        for key, each in value.items():
            yield from _problems(key, name, (*keys, key))
            yield from _problems(each, inner, (*keys, key))
    elif isinstance(value, list) and get_origin(bare) in (tuple, list):
        for index, each in enumerate(value):
            yield from _problems(each, get_args(bare)[0], (*keys, str(index)))
    yield from _problem(value, kind, keys)


def _problems_of_table(
    table: dict[str, object], kind: type[msgspec.Struct], keys: tuple[str, ...]
) -> Iterator[TableError]:
    for key in table:
        if key not in kind.__struct_fields__:
            yield UnknownKeyError((*keys, key), kind.__struct_fields__)
    for field in msgspec.structs.fields(kind):
        if field.name in table:
            yield from _problems(table[field.name], field.type, (*keys, field.name))
        elif field.required:
            yield TableError((*keys, field.name), f"is missing: must be {_wanted(field.type)}")


def _problem(value: object, kind: Any, keys: tuple[str, ...]) -> Iterator[TableError]:
    try:
        _converted(value, kind)
    except msgspec.ValidationError as error:
        # A cause is a check of ours, which says itself what it wants.
        message = str(error.__cause__) if error.__cause__ is not None else f"must be {_wanted(kind)}"
        shown = repr(value)
        yield TableError(keys, f"{message} (it says {shown if len(shown) < SHOWN else shown[: SHOWN - 3] + '...'})")


def _bare(kind: Any, value: object) -> Any:
    """The type itself, without its limits and without what this value cannot be meant as: None, or no table."""
    if get_origin(kind) is Annotated:
        return _bare(get_args(kind)[0], value)
    if get_origin(kind) in (Union, UnionType):
        others = [each for each in get_args(kind) if each is not NoneType]
        tables = [each for each in others if isinstance(value, dict) and _is_table(each)]
        meant = tables or others
        return _bare(meant[0], value) if len(meant) == 1 else kind
    return kind


def _is_table(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _wanted(kind: Any) -> str:
    """What a value of this type is, to whoever writes the file."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return inner[1].description or _within(_wanted(inner[0]), inner[1])
    if origin is Literal:
        return f"one of {', '.join(map(repr, inner))}"
    if origin in (Union, UnionType):
        return " or ".join(_wanted(each) for each in inner if each is not NoneType)
    return WANTED.get(origin or kind, "a table")


def _within(wanted: str, limits: msgspec.Meta) -> str:
    if limits.ge is not None and limits.le is not None:
        return f"{wanted} from {limits.ge} to {limits.le}"
    if limits.ge is not None:
        return f"{wanted}, {limits.ge} or more"
    if limits.min_length is not None:
        return f"{wanted} that is not empty"
    return wanted
