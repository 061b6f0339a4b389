"""The size of a page follows the time that the one before it took."""

import pytest

from autorelease.ledger.pace import FIRST_ROWS, LEAST_ROWS, LONGEST_SECONDS, MOST_ROWS, Pace


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def read(pace: Pace, clock: Clock, seconds_per_row: float) -> float:
    """One read; returns how long it took."""
    with pace.measured():
        clock.now += (took := pace.rows * seconds_per_row)
    return took


@pytest.mark.parametrize("seconds_per_row", [1e-7, 1e-6, 1e-5, 1e-4, 1e-3])
def test_no_read_is_long_once_the_first_was_measured(seconds_per_row: float) -> None:
    clock = Clock()
    pace = Pace(clock)
    assert pace.rows == FIRST_ROWS
    took = [read(pace, clock, seconds_per_row) for _ in range(30)]
    assert max(took[1:]) <= LONGEST_SECONDS
    # And none is needlessly short.
    assert took[-1] >= LONGEST_SECONDS / 8 or pace.rows == MOST_ROWS


def test_however_slow_it_is_it_goes_on() -> None:
    clock = Clock()
    pace = Pace(clock)
    for _ in range(5):
        read(pace, clock, 10)
    assert pace.rows == LEAST_ROWS
