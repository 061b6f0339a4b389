"""Values as people read them."""

from datetime import timedelta

import pytest

from autorelease.inspect import in_words
from autorelease.render.people import for_people, heading, style, style_of


@pytest.mark.parametrize(
    ("duration", "words"),
    [
        (timedelta(0), "0 s"),
        (timedelta(microseconds=1), "0 s"),
        (timedelta(milliseconds=312), "312 ms"),
        (timedelta(seconds=45), "45 s"),
        (timedelta(seconds=-45), "45 s"),
        (timedelta(minutes=12), "12 min"),
        (timedelta(hours=2.9), "2.9 h"),
        (timedelta(days=4.5), "4.5 d"),
        (timedelta(seconds=18748804), "217 d"),
    ],
)
def test_durations_in_the_unit_that_fits(duration: timedelta, words: str) -> None:
    assert in_words(duration) == words


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("overdue_seconds", 18748804, "217 d"),
        ("duration_ms", 312, "312 ms"),
        ("duration_ms", 45_000, "45 s"),
        ("started_at", "2026-12-01T12:00:00.123456Z", "2026-12-01T12:00:00Z"),
        ("at", "2026-12-01T12:00:00.123456Z", "2026-12-01T12:00:00Z"),
        ("expires_at", "2026-12-01T12:00:00Z", "2026-12-01T12:00:00Z"),
        ("expires_at", None, ""),
        # What is data stays as it is, whatever it looks like.
        ("sid", "2026-12-01T12:00:00.123456Z", "2026-12-01T12:00:00.123456Z"),
        ("sid", "a\x1bb", "a\\x1bb"),
        ("started_at", "2026-12-01T12:00:00.123456Z\n", "2026-12-01T12:00:00.123456Z\\n"),
        ("rows_expired", 7, "7"),
    ],
)
def test_values_by_the_name_of_their_column(name: str, value: object, shown: str) -> None:
    assert for_people(name, value) == shown


def test_headings_have_no_unit_that_stands_with_the_value() -> None:
    assert [heading(name) for name in ("overdue_seconds", "duration_ms", "rows_expired", "sid")] == [
        "overdue",
        "duration",
        "expired",
        "sid",
    ]


def test_words_without_a_style_have_none() -> None:
    assert style("ok") == style_of("release it, for the first time") == "green"
    assert style("[red]") == style(None) == style_of("[red]") == ""
