"""Whether "not found" may be taken for "released"."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from autorelease.model import Answer
from autorelease.rules.belief import (
    CONTROLS,
    IN_A_ROW,
    JUDGED_FROM,
    WINDOW,
    Control,
    Standing,
    disbelief,
    disbelief_of_expected,
    ends_in_misses,
)

RELEASED, MISS, PENDING, PROOF = Answer.RELEASED, Answer.MISS, Answer.PENDING, Answer.PROOF
HONEST = [RELEASED] * WINDOW
ALL_THERE, NOBODY_TO_ASK = Control(CONTROLS), Control(0)
LOST = Control(2, lost="paying", why="exit 3: no such VM")


def standing(
    answers: Sequence[Answer], *, has_credit: bool = True, of_this_tick: int = 1, control: Control | None = None
) -> Standing:
    """A provisioner with these answers, newest first, of which the newest came in this tick."""
    return Standing(has_credit, answers, answers[:of_this_tick], control)


# Answers newest first, how many of them are of this tick, and whether what was missed is believed.
WITHOUT_A_QUESTION = {
    "a miss beside a release": ([MISS, RELEASED], 2, 50, True),
    "a miss beside a pending": ([MISS, PENDING], 2, 50, True),
    "a miss beside a proof": ([PROOF, MISS], 2, 50, True),
    "nothing but a miss in this tick": ([MISS, *HONEST[1:]], 1, 50, False),
    "nothing but misses in this tick": ([MISS] * 3 + HONEST[3:], 3, 50, False),
    "four misses in a row": ([MISS] * 4 + [RELEASED] * 6, 5, 50, True),
    "five misses in a row": ([MISS] * 5 + [RELEASED] * 6, 6, 50, False),
    "five misses in a row, and no limit": ([MISS] * 5 + [RELEASED] * 6, 6, 100, False),
    "five misses, but a release between": ([MISS, RELEASED, MISS, MISS, MISS, MISS], 6, 100, True),
    "nine answers are not judged by their part": ([RELEASED, *[MISS] * 8], 9, 50, True),
    "ten are": ([RELEASED, *[MISS] * 9], 10, 50, False),
    "exactly the limit": ([RELEASED, MISS] * 5, 10, 50, True),
    "one more than the limit": ([RELEASED, *[MISS] * 4, RELEASED, MISS, MISS, RELEASED, RELEASED], 10, 50, False),
    "a limit of nothing, few answers": ([RELEASED, MISS], 2, 0, True),
    "a limit of nothing": ([MISS] + [RELEASED] * 9, 10, 0, False),
    "pending and proof are answers, too": ([MISS, PENDING, MISS, PROOF] * 5, 20, 50, True),
}


@pytest.mark.parametrize(
    ("answers", "of_this_tick", "max_gone_percent", "is_believed"), WITHOUT_A_QUESTION.values(), ids=WITHOUT_A_QUESTION
)
def test_who_cannot_be_asked(
    answers: Sequence[Answer], of_this_tick: int, max_gone_percent: int, *, is_believed: bool
) -> None:
    judged = standing(answers, of_this_tick=of_this_tick)
    assert (disbelief(judged, max_gone_percent) is None) is is_believed
    # Where there was nobody to ask for, it is as if it could not be asked.
    assert (disbelief(replace(judged, control=NOBODY_TO_ASK), max_gone_percent) is None) is is_believed
    # Without credit nothing is believed, whatever else there is.
    assert disbelief(replace(judged, has_credit=False), max_gone_percent) is not None


CONTROLLED = {
    "all there, and nothing but misses": ([MISS] * 9, ALL_THERE, True, True),
    "one of one is there": ([MISS] * 9, Control(1), True, True),
    "one is lost": ([MISS, RELEASED], LOST, True, False),
    "all there, but it never released": ([MISS, PENDING], ALL_THERE, False, False),
    "all there, but too many misses": ([MISS] * 10, ALL_THERE, True, False),
}


@pytest.mark.parametrize(("answers", "control", "has_credit", "is_believed"), CONTROLLED.values(), ids=CONTROLLED)
def test_who_can_be_asked(answers: Sequence[Answer], control: Control, *, has_credit: bool, is_believed: bool) -> None:
    judged = standing(answers, of_this_tick=len(answers), has_credit=has_credit, control=control)
    assert (disbelief(judged, 50) is None) is is_believed


def test_a_miss_that_was_expected_needs_credit_and_the_control_and_counts_in_no_other_limit() -> None:
    only_misses = standing([MISS] * WINDOW, of_this_tick=WINDOW)
    for control in (None, NOBODY_TO_ASK, ALL_THERE):
        assert disbelief_of_expected(replace(only_misses, control=control)) is None
    assert disbelief_of_expected(replace(only_misses, control=LOST)) is not None
    assert disbelief_of_expected(replace(only_misses, has_credit=False)) is not None


def test_the_reasons_name_what_there_is_to_look_at() -> None:
    reason = disbelief(standing([MISS, RELEASED] * 24 + [MISS, MISS], of_this_tick=WINDOW), 50)
    assert reason is not None
    assert "26 of its last 50" in reason
    assert "50 %" in reason
    lost = disbelief(standing([MISS, RELEASED], control=LOST), 50)
    assert lost is not None
    assert "the VM of paying" in lost
    assert "exit 3: no such VM" in lost


def test_the_numbers_are_those_of_the_contract() -> None:
    assert (WINDOW, JUDGED_FROM, IN_A_ROW, CONTROLS) == (50, 10, 5, 3)


@pytest.mark.parametrize(
    ("answers", "do_end"),
    [
        ([], False),
        ([MISS] * 4, False),
        ([MISS] * 5, True),
        ([MISS] * 5 + [RELEASED], True),
        ([MISS] * 4 + [RELEASED] + [MISS] * 9, False),
        ([PENDING, *[MISS] * 9], False),
    ],
)
def test_whether_answers_end_in_misses(answers: list[Answer], *, do_end: bool) -> None:
    assert ends_in_misses(answers) is do_end


standings = st.builds(
    standing,
    st.lists(st.sampled_from(Answer), max_size=WINDOW),
    has_credit=st.booleans(),
    of_this_tick=st.integers(0, WINDOW),
    control=st.sampled_from([None, NOBODY_TO_ASK, ALL_THERE, LOST]),
)


@given(standings, st.integers(0, 100))
def test_what_is_believed_unexpected_would_be_believed_expected(judged: Standing, percent: int) -> None:
    if disbelief(judged, percent) is None:
        assert judged.has_credit
        assert disbelief_of_expected(judged) is None


@given(standings, st.integers(0, 100))
def test_one_more_release_never_makes_it_less_believable(judged: Standing, percent: int) -> None:
    if len(judged.answers) >= JUDGED_FROM and disbelief(judged, percent) is None:
        more = replace(
            judged, answers=[RELEASED, *judged.answers][:WINDOW], of_this_tick=[RELEASED, *judged.of_this_tick]
        )
        assert disbelief(more, percent) is None
