"""Whether "not found" may be taken for "released"."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autorelease.model import Answer
from autorelease.rules.belief import JUDGED_FROM, WINDOW, disbelief

RELEASED, MISS = Answer.RELEASED, Answer.MISS

CASES = {
    "never released anything, no answer": ([], False, 50, False),
    "never released anything": ([MISS], False, 50, False),
    "never released anything, and no limit": ([MISS] * 3, False, 100, False),
    "only misses, but few answers": ([MISS] * 9, True, 50, True),
    "only misses, from the tenth answer on": ([MISS] * 10, True, 50, False),
    "exactly the limit": ([MISS] * 5 + [RELEASED] * 5, True, 50, True),
    "one more than the limit": ([MISS] * 6 + [RELEASED] * 5, True, 50, False),
    "one less than the limit": ([MISS] * 5 + [RELEASED] * 6, True, 50, True),
    "misses that were expected do not count": ([Answer.EXPECTED_MISS] * 50, True, 50, True),
    "proofs do not count": ([Answer.GONE] * 49 + [MISS], True, 50, True),
    "a limit of nothing, few answers": ([MISS] * 9, True, 0, True),
    "a limit of nothing": ([MISS] + [RELEASED] * 9, True, 0, False),
    "a limit of everything": ([MISS] * 50, True, 100, True),
}


@pytest.mark.parametrize(("answers", "has_released", "max_gone_percent", "believed"), CASES.values(), ids=CASES.keys())
def test_disbelief(answers: Sequence[Answer], max_gone_percent: int, *, has_released: bool, believed: bool) -> None:
    reason = disbelief(answers, has_released=has_released, max_gone_percent=max_gone_percent)
    assert (reason is None) is believed


def test_the_reason_names_the_numbers() -> None:
    reason = disbelief([MISS] * 26 + [RELEASED] * 24, has_released=True, max_gone_percent=50)
    assert reason is not None
    assert "26 of its last 50" in reason
    assert "50 %" in reason


def test_the_window_is_that_of_the_contract() -> None:
    assert (WINDOW, JUDGED_FROM) == (50, 10)


@given(st.lists(st.sampled_from(Answer), max_size=WINDOW), st.integers(0, 100))
def test_one_more_release_never_makes_it_less_believable(answers: list[Answer], percent: int) -> None:
    if len(answers) >= JUDGED_FROM and not disbelief(answers, has_released=True, max_gone_percent=percent):
        assert not disbelief([*answers, RELEASED], has_released=True, max_gone_percent=percent)
