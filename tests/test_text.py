"""Text from outside is shown on one line, and steers no terminal."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from autorelease.model import SkipReason, rfc3339
from autorelease.text import as_json, as_json_row, escaped, plain

CASES = {
    "plain": ("vm-17", "vm-17"),
    "letters of any script": ("Müller 日本", "Müller 日本"),
    "emoji": ("vm-🚀", "vm-🚀"),
    "empty": ("", ""),
    "markup stays as it is": ("[bold]vm[/bold]", "[bold]vm[/bold]"),
    "a newline": ("a\nb", "a\\nb"),
    "a tab": ("a\tb", "a\\tb"),
    "a carriage return": ("a\rb", "a\\rb"),
    "a terminal's escape": ("\x1b[2J", "\\x1b[2J"),
    "a one-byte control sequence": ("\x9b2J", "\\x9b2J"),
    "NUL": ("a\x00b", "a\\x00b"),
    "delete": ("\x7f", "\\x7f"),
    "a line separator": ("a\u2028b", "a\\u2028b"),
    "text turned round": ("\u202emv", "\\u202emv"),
    "a space without width": ("a\u200bb", "a\\u200bb"),
    "half a character": ("\udcff", "\\udcff"),
}


@pytest.mark.parametrize(("text", "expected"), CASES.values(), ids=CASES.keys())
def test_escaped(text: str, expected: str) -> None:
    assert escaped(text) == expected


@given(st.text(st.characters()))
def test_what_is_shown_is_printable_and_can_be_encoded(text: str) -> None:
    shown = escaped(text)
    assert shown.isprintable()
    assert shown.encode("utf-8").decode("utf-8") == shown
    assert len(shown.splitlines()) <= 1


@given(st.text(st.characters()))
def test_what_is_printable_already_stays(text: str) -> None:
    printable = "".join(character for character in text if character.isprintable())
    assert escaped(printable) == printable
    assert escaped(escaped(text)) == escaped(text)


class Mute:
    """Something whose text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_anything_becomes_text_that_can_be_stored() -> None:
    assert plain(OSError("no such file: 'caf\udce9'")) == "no such file: 'caf\\udce9'"
    assert (plain(204), plain(None), plain(Mute())) == ("204", "None", "(its text cannot be read)")
    assert (plain("x" * 9, longest=9), plain("x" * 10, longest=9)) == ("x" * 9, "x" * 9 + "…")


@given(st.text(st.characters()))
def test_text_that_can_be_stored_stays_as_it_is(text: str) -> None:
    stored = plain(text)
    assert stored.encode("utf-8").decode("utf-8") == stored
    assert plain(stored) == stored


@pytest.mark.parametrize(
    "text", ["vm-1", "", 'a "quoted" \\ one', "a\nb\0c", "M\u00fcller", "\U0001f680", "\u2028", "\udcff", "a\x7fb"]
)
def test_a_row_of_many_is_the_same_json_for_every_reader(text: str) -> None:
    row = {"sid": text, "owner": None, "overdue_seconds": 7, "is_held": True, "reason": SkipReason.HELD, "rate": 0.5}
    written = as_json_row(row)
    assert written.isascii()
    assert written.isprintable()
    assert json.loads(written) == json.loads(as_json(row))


class Row(Struct):
    """As a row of many may be one: its instant is written where all of it is."""

    sid: str
    expires_at: datetime


@pytest.mark.parametrize("sid", ["vm-17", "Müller", "\x7f", "\udcff"])
@pytest.mark.parametrize("microsecond", [0, 1, 500_000])
def test_an_instant_is_the_same_text_wherever_it_is_written(sid: str, microsecond: int) -> None:
    instant = datetime(2026, 2, 3, 4, 5, 6, microsecond, tzinfo=UTC)
    written = json.loads(as_json_row(Row(sid, instant)))
    assert written == json.loads(as_json({"sid": sid, "expires_at": rfc3339(instant)}))
