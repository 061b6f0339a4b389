"""Tables that become structs: what is wrong in one is said by its key, and in words that are no Python."""

from datetime import timedelta
from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta, Struct, field

from autorelease.structs import TableError, UnknownKeyError, nearest, read_struct


class Inner(Struct, frozen=True, forbid_unknown_fields=True):
    """A table within a table, which wants something of two keys together."""

    first: int = 0
    last: Annotated[int, Meta(ge=0, le=9)] = 9

    def __post_init__(self) -> None:
        if self.first > self.last:
            raise ValueError("first must not be after last")


class Length(timedelta):
    """A value that reads itself."""

    @classmethod
    def read(cls, value: object) -> "Length":
        """Of a number of seconds."""
        if not isinstance(value, int):
            raise ValueError(f"write seconds, not {value!r}")  # noqa: TRY004 - the type of a file's value is its value
        return cls(seconds=value)


class Outer(Struct, frozen=True, forbid_unknown_fields=True):
    """One of everything."""

    needed: Annotated[tuple[str, ...], Meta(min_length=1)]
    inner: Inner = Inner()
    length: Length | None = None
    choice: Literal["a", "b"] = "a"
    tables: dict[Annotated[str, Meta(min_length=1)], dict[str, Any]] = field(default_factory=dict)
    several: tuple[int | Annotated[str, Meta(min_length=1)], ...] = ()
    share: Annotated[float, Meta(ge=0)] = 0.5


HOSTILE = "x - at `$.inner.first`"


def test_a_table_becomes_a_struct() -> None:
    found = read_struct({"needed": ["a"], "inner": {"first": 3}, "length": 5, "several": [1, "b"], "share": 1}, Outer)
    assert found == Outer(("a",), Inner(3), Length(seconds=5), several=(1, "b"), share=1.0)
    assert isinstance(found.length, Length)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({}, "'needed': is missing: must be a list that is not empty"),
        ({"needed": []}, "'needed': must be a list that is not empty (it says [])"),
        ({"needed": "abc"}, "'needed': must be a list that is not empty (it says 'abc')"),
        ({"needed": ["a", 1]}, "'needed.1': must be text (it says 1)"),
        ({"inner": 3}, "'inner': must be a table (it says 3)"),
        ({"inner": {"first": True}}, "'inner.first': must be an integer (it says True)"),
        ({"inner": {"first": 1.0}}, "'inner.first': must be an integer (it says 1.0)"),
        ({"inner": {"last": 10}}, "'inner.last': must be an integer from 0 to 9 (it says 10)"),
        ({"inner": {"last": HOSTILE}}, f"'inner.last': must be an integer from 0 to 9 (it says {HOSTILE!r})"),
        (
            {"inner": {"first": 5, "last": 4}},
            "'inner': first must not be after last (it says {'first': 5, 'last': 4})",
        ),
        ({"length": "5"}, "'length': write seconds, not '5' (it says '5')"),
        ({"choice": HOSTILE}, f"'choice': must be one of 'a', 'b' (it says {HOSTILE!r})"),
        ({"tables": {"a": 1}}, "'tables.a': must be a table (it says 1)"),
        ({"tables": {"": {}}}, "'tables.': must be text that is not empty (it says '')"),
        ({"several": [1, ""]}, "'several.1': must be an integer or text that is not empty (it says '')"),
        ({"share": -1}, "'share': must be a number, 0 or more (it says -1)"),
        ({"chioce": "a"}, "unknown key 'chioce'. The nearest known key there is 'choice'"),
        ({"inner": {HOSTILE: 1}}, f"unknown key {'inner.' + HOSTILE!r}. The nearest known key there is 'first'"),
    ],
    ids=str,
)
def test_what_is_wrong_is_named_with_its_key(table: dict[str, Any], expected: str) -> None:
    with pytest.raises(TableError) as caught:
        read_struct({"needed": ["a"], **table} if table else table, Outer)
    assert str(caught.value) == expected


def test_what_is_long_is_cut() -> None:
    with pytest.raises(TableError) as caught:
        read_struct({"needed": "x" * 1000}, Outer)
    assert len(str(caught.value)) < 150
    assert str(caught.value).endswith("...)")


def test_the_way_to_the_key_is_kept_apart_from_what_is_said() -> None:
    with pytest.raises(UnknownKeyError) as caught:
        read_struct({"needed": ["a"], "inner": {"fist": 1}}, Outer)
    assert caught.value.keys == ("inner", "fist")
    with pytest.raises(TableError) as missing:
        read_struct({}, Outer)
    assert missing.value.keys == ("needed",)


def test_the_nearest_key_is_one_however_far_it_is() -> None:
    assert nearest("zzz", ("a", "b")) in {"a", "b"}
