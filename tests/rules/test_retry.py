"""When to try again, and when to stop asking."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autorelease.model import Attempts
from autorelease.rules.retry import Breaker, after_failure, after_pending, in_backoff, pause_seconds

NOW = datetime(2026, 12, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
MICROSECOND = timedelta(microseconds=1)
NEVER = 1_000_000


def failed(times: int, *, quarantine_after: int = NEVER, jitter: float = 0.0) -> Attempts:
    """What is remembered after so many failed ticks in a row."""
    attempts: Attempts | None = None
    for _ in range(times):
        attempts = after_failure(attempts, NOW, "no", quarantine_after=quarantine_after, jitter=jitter)
    assert attempts is not None
    return attempts


def pause(attempts: Attempts) -> timedelta:
    """How long the next try is forbidden."""
    assert attempts.next_attempt_at is not None
    return attempts.next_attempt_at - NOW


@pytest.mark.parametrize(("times", "hours"), [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 24), (7, 24), (500, 24)])
def test_the_pause_begins_with_an_hour_and_doubles_up_to_a_day(times: int, hours: int) -> None:
    assert pause(failed(times)) == hours * HOUR
    assert failed(times).failed_ticks == times


@pytest.mark.parametrize(("times", "hours", "quarantined"), [(4, 8, False), (5, 24, True), (6, 24, True)])
def test_a_quarantined_allocation_is_tried_once_a_day(times: int, hours: int, *, quarantined: bool) -> None:
    attempts = failed(times, quarantine_after=5)
    assert pause(attempts) == hours * HOUR
    assert attempts.quarantined is quarantined


def test_quarantine_after_the_first_failure() -> None:
    attempts = failed(1, quarantine_after=1)
    assert attempts.quarantined
    assert pause(attempts) == 24 * HOUR


@given(st.integers(1, 40), st.integers(1, 10), st.floats(0, 1))
def test_jitter_only_ever_shortens_and_by_a_tenth_at_most(times: int, quarantine_after: int, jitter: float) -> None:
    plain = pause(failed(times, quarantine_after=quarantine_after))
    jittered = pause(failed(times, quarantine_after=quarantine_after, jitter=jitter))
    assert plain * 0.9 - MICROSECOND <= jittered <= plain


def test_the_first_pause_does_not_sleep_through_the_next_hourly_tick() -> None:
    """With any jitter at all the next tick, an hour later, may try again."""
    attempts = failed(1, jitter=0.01)
    assert not in_backoff(attempts, NOW + HOUR)


@given(st.integers(1, 40), st.floats(0, 1))
def test_what_a_failure_writes_is_a_backoff_that_holds_and_ends(times: int, jitter: float) -> None:
    attempts = failed(times, jitter=jitter)
    assert in_backoff(attempts, NOW)
    assert not in_backoff(attempts, NOW + 24 * HOUR)


def test_a_failure_keeps_its_message_and_the_pending_ticks() -> None:
    before = after_pending(after_pending(None))
    attempts = after_failure(before, NOW, "no such host", quarantine_after=5, jitter=0)
    assert (attempts.pending_ticks, attempts.failed_ticks, attempts.last_error) == (2, 1, "no such host")


BACKOFFS = {
    "never tried": (None, False),
    "no next attempt": (Attempts(failed_ticks=3), False),
    "an hour ago": (Attempts(next_attempt_at=NOW - HOUR), False),
    "this very instant": (Attempts(next_attempt_at=NOW), False),
    "a microsecond ahead": (Attempts(next_attempt_at=NOW + MICROSECOND), True),
    "a day ahead": (Attempts(next_attempt_at=NOW + 24 * HOUR), True),
    "two days ahead": (Attempts(next_attempt_at=NOW + 48 * HOUR), True),
    "absurdly far ahead": (Attempts(next_attempt_at=NOW + 48 * HOUR + MICROSECOND), False),
    "years ahead": (Attempts(next_attempt_at=NOW + timedelta(days=3650)), False),
}


@pytest.mark.parametrize(("attempts", "expected"), BACKOFFS.values(), ids=BACKOFFS.keys())
def test_in_backoff(attempts: Attempts | None, *, expected: bool) -> None:
    assert in_backoff(attempts, NOW) is expected


def test_a_pending_tick_is_counted_and_asked_again_at_once() -> None:
    assert after_pending(None) == Attempts(pending_ticks=1)
    before = Attempts(failed_ticks=2, pending_ticks=3, next_attempt_at=NOW + HOUR, last_error="no")
    after = after_pending(before)
    assert (after.failed_ticks, after.pending_ticks, after.next_attempt_at) == (2, 4, None)


@pytest.mark.parametrize(
    ("attempt", "seconds"), [(1, 0.5), (2, 1.0), (3, 2.0), (4, 4.0), (5, 8.0), (6, 10.0), (100, 10.0)]
)
def test_the_pause_within_a_tick(attempt: int, seconds: float) -> None:
    assert pause_seconds(attempt, 0.0, None) == seconds
    assert pause_seconds(attempt, 1.0, None) == seconds / 2


@pytest.mark.parametrize("asked", [0.0, 3.0, 600.0])
def test_what_the_provisioner_asks_for_is_honoured(asked: float) -> None:
    assert pause_seconds(1, 1.0, asked) == asked


def test_the_breaker_opens_after_five_downs_in_a_row() -> None:
    breaker = Breaker()
    for _ in range(4):
        breaker.said_down()
    assert not breaker.open
    breaker.said_down()
    assert breaker.open


def test_the_breaker_opens_after_five_rows_in_a_row_that_end_in_a_timeout() -> None:
    breaker = Breaker()
    for _ in range(4):
        breaker.row_timed_out()
    assert not breaker.open
    breaker.row_timed_out()
    assert breaker.open


def test_an_answer_begins_the_count_anew() -> None:
    breaker = Breaker()
    for _ in range(20):
        breaker.said_down()
        breaker.row_timed_out()
        breaker.said_down()
        breaker.answered()
    assert not breaker.open


def test_an_open_breaker_stays_open() -> None:
    breaker = Breaker(downs=4)
    breaker.said_down()
    breaker.answered()
    assert breaker.open
