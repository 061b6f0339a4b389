"""The limits that refuse a tick, and the operator's answer to a refusal."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from autorelease.model import PlanSummary, Refusal, SkipReason
from autorelease.rules.guard import (
    Facts,
    LastRefusal,
    Limits,
    Moment,
    Rewound,
    advice,
    advice_on_misses,
    is_confirmable,
    judge,
    judge_confirmed,
    reason_not_to_confirm,
)
from autorelease.rules.identities import Identities

NOW = datetime(2026, 12, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
LIMITS = Limits(max_releases=1000, max_percent=50, min_fleet=20)
NOT_REWOUND = Rewound(0, 0)


def plan(first_tries: int, live_rows: int, repeats: int = 0, skipped: int = 0) -> PlanSummary:
    """A plan in the numbers that the guard looks at."""
    return PlanSummary(
        first_tries=first_tries, repeats=repeats, skipped={SkipReason.BACKOFF: skipped}, live_rows=live_rows
    )


def facts(
    *,
    first_tick: bool = False,
    now: datetime = NOW,
    anchor: Moment | None = None,
    rewound: Rewound = NOT_REWOUND,
    **moment: Any,
) -> Facts:
    """A tick an hour after the last admitted one, or the first of its journal."""
    last = None if first_tick else anchor or Moment(NOW - HOUR)
    return Facts(Moment(now, **moment), last, rewound)


JUDGED = {
    "nothing to do": (plan(0, 100), LIMITS, False, []),
    "nothing to do, no rows": (plan(0, 0), LIMITS, False, []),
    "nothing to do, a first tick": (plan(0, 0), LIMITS, True, []),
    "a normal hour": (plan(10, 10_000), LIMITS, False, []),
    "exactly max_releases": (plan(1000, 10_000), LIMITS, False, []),
    "one more than max_releases": (plan(1001, 10_000), LIMITS, False, ["max_releases"]),
    "exactly max_percent": (plan(20, 40), LIMITS, False, []),
    "one row more than max_percent": (plan(21, 41), LIMITS, False, ["max_percent"]),
    "half a percent more": (plan(101, 201), LIMITS, False, ["max_percent"]),
    "one less than min_fleet": (plan(19, 19), LIMITS, False, []),
    "exactly min_fleet": (plan(20, 20), LIMITS, False, ["max_percent"]),
    "a small plan in a first tick": (plan(2, 3), LIMITS, True, ["max_percent"]),
    "half in a first tick": (plan(1, 2), LIMITS, True, []),
    "all of one row in a first tick": (plan(1, 1), LIMITS, True, ["max_percent"]),
    "both limits": (plan(1500, 2000), LIMITS, False, ["max_releases", "max_percent"]),
    "repeats were admitted once": (plan(0, 2000, repeats=2000), LIMITS, False, []),
    "repeats beside as many first tries as there may be": (plan(20, 40, repeats=20), LIMITS, False, []),
    "skipped ones are not released": (plan(1, 2000, skipped=1999), LIMITS, False, []),
    "max_releases of nothing": (plan(1, 2000), Limits(0, 50, 20), False, ["max_releases"]),
    "max_percent of nothing": (plan(20, 2000), Limits(1000, 0, 20), False, ["max_percent"]),
    "max_percent of everything": (plan(2000, 2000), Limits(2000, 100, 20), True, []),
    "min_fleet of nothing": (plan(1, 1), Limits(1000, 50, 0), False, ["max_percent"]),
    "more planned than there are live rows": (plan(30, 20), Limits(1000, 100, 20), False, ["max_percent"]),
}


@pytest.mark.parametrize(("summary", "limits", "first_tick", "codes"), JUDGED.values(), ids=JUDGED.keys())
def test_the_limits(summary: PlanSummary, limits: Limits, codes: list[str], *, first_tick: bool) -> None:
    refusals = judge(summary, limits, facts(first_tick=first_tick))
    assert [refusal.code for refusal in refusals] == codes
    assert all(str(summary.first_tries) in refusal.message for refusal in refusals)


@given(st.integers(0, 3000), st.integers(0, 3000), st.integers(0, 3000), st.booleans())
def test_a_smaller_plan_is_never_refused_where_a_larger_one_is_admitted(
    one: int,
    other: int,
    live_rows: int,
    first_tick: bool,  # noqa: FBT001
) -> None:
    smaller, larger = sorted([one, other])
    around = facts(first_tick=first_tick)
    refused = {refusal.code for refusal in judge(plan(smaller, live_rows), LIMITS, around)}
    assert refused <= {refusal.code for refusal in judge(plan(larger, live_rows), LIMITS, around)}


# --- the clock and the ledger -----------------------------------------------------------------------------------------

BOOT: dict[str, Any] = {"boot_id": "b" * 32, "boot_seconds": 10_000.0}
WORK, REPEATS, NOTHING = plan(1, 1000), plan(0, 1000, repeats=1), plan(0, 1000)
MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)


def booted(since: timedelta, boot_seconds_since: float, **fields: Any) -> Facts:
    """A tick so long after the anchor by the wall clock, and so many seconds by the boot clock."""
    anchor = Moment(NOW - since, **BOOT)
    now = {**BOOT, "boot_seconds": BOOT["boot_seconds"] + boot_seconds_since, **fields}
    return facts(anchor=anchor, **now)


CLOCKS: dict[str, tuple[PlanSummary, Facts, list[str]]] = {
    "an hour later": (WORK, facts(), []),
    "five minutes back": (WORK, facts(anchor=Moment(NOW + 5 * MINUTE)), []),
    "more than five minutes back": (WORK, facts(anchor=Moment(NOW + 5 * MINUTE + SECOND)), ["clock_backwards"]),
    "back, with nothing to do": (NOTHING, facts(anchor=Moment(NOW + HOUR)), ["clock_backwards"]),
    "a week later": (WORK, facts(anchor=Moment(NOW - 168 * HOUR)), []),
    "more than a week later": (WORK, facts(anchor=Moment(NOW - 168 * HOUR - SECOND)), ["clock_gap"]),
    "more than a week later, repeats": (REPEATS, facts(anchor=Moment(NOW - 169 * HOUR)), ["clock_gap"]),
    "more than a week later, with nothing to do": (NOTHING, facts(anchor=Moment(NOW - 169 * HOUR)), []),
    "both clocks went on": (WORK, booted(HOUR, 3600), []),
    "ten minutes further": (WORK, booted(HOUR, 3000), []),
    "more than ten minutes further": (WORK, booted(HOUR, 2999), ["clock_stepped"]),
    "further, with nothing to do": (NOTHING, booted(HOUR, 0), ["clock_stepped"]),
    "further, after a reboot": (WORK, booted(HOUR, 0, boot_id="c" * 32), []),
    "further, boot not known": (WORK, booted(HOUR, 0, boot_id=None), []),
    "further, boot clock not known": (WORK, booted(HOUR, 0, boot_seconds=None), []),
    "a little back, the boot clock went on": (WORK, booted(timedelta(0), 3600), []),
    "a week's jump in the same boot": (WORK, booted(200 * HOUR, 3600), ["clock_gap", "clock_stepped"]),
    "first tick, whatever the clock says": (WORK, facts(first_tick=True, **BOOT), []),
}


@pytest.mark.parametrize(("summary", "around", "codes"), CLOCKS.values(), ids=CLOCKS.keys())
def test_the_clock(summary: PlanSummary, around: Facts, codes: list[str]) -> None:
    assert [refusal.code for refusal in judge(summary, LIMITS, around)] == codes


def test_a_question_about_another_time_says_nothing_about_the_clock() -> None:
    for _, around, _ in CLOCKS.values():
        assert not judge(WORK, LIMITS, replace(around, is_hypothetical=True))


REWOUND: dict[str, tuple[Rewound, list[str]]] = {
    "none": (Rewound(100, 0), []),
    "two of two": (Rewound(2, 2), []),
    "three of three": (Rewound(3, 3), ["ledger_rewound"]),
    "a tenth": (Rewound(100, 10), []),
    "more than a tenth": (Rewound(100, 11), ["ledger_rewound"]),
    "three of thirty": (Rewound(30, 3), []),
    "three of twenty-nine": (Rewound(29, 3), ["ledger_rewound"]),
}


@pytest.mark.parametrize(("rewound", "codes"), REWOUND.values(), ids=REWOUND.keys())
def test_a_ledger_that_was_rewound(rewound: Rewound, codes: list[str]) -> None:
    around = facts(rewound=rewound)
    assert [refusal.code for refusal in judge(NOTHING, LIMITS, around)] == codes
    # That somebody asks about another time makes the ledger no newer.
    assert [refusal.code for refusal in judge(NOTHING, LIMITS, replace(around, is_hypothetical=True))] == codes


def test_another_ledger() -> None:
    anchor = Moment(NOW - HOUR, ledger="/srv/a.db table vms")
    [refusal] = judge(WORK, LIMITS, facts(anchor=anchor, ledger="/srv/b.db table vms"))
    assert refusal.code == "other_ledger"
    assert "/srv/a.db" in refusal.message
    assert "/srv/b.db" in refusal.message
    assert not judge(WORK, LIMITS, facts(anchor=anchor, ledger=anchor.ledger))
    # A journal of an older version did not write it down.
    assert not judge(WORK, LIMITS, facts(ledger="/srv/b.db table vms"))


# --- --confirm N ------------------------------------------------------------------------------------------------------

TOO_MANY = Refusal("max_releases", "too many")
RELEASES = frozenset({"max_releases"})
BOTH = frozenset({"max_releases", "max_percent"})
ROWS = Identities(b"")
MICROSECOND = timedelta(microseconds=1)


def refused(
    ago: timedelta, count: int = 1200, codes: frozenset[str] = RELEASES, rows: Identities | None = ROWS
) -> LastRefusal:
    """The last tick, refused so long ago."""
    return LastRefusal(NOW - ago, count, codes, rows)


# What is typed, the refusal that it answers, and a word of why it does not apply.
ANSWERS: dict[str, tuple[int, LastRefusal | None, str | None]] = {
    "answered": (1200, refused(HOUR), None),
    "answered at once": (1200, refused(timedelta(0)), None),
    "after exactly 24 h": (1200, refused(24 * HOUR), None),
    "misses are answered in the same way": (7, refused(HOUR, 7, frozenset()), None),
    "after more than 24 h": (1200, refused(24 * HOUR + MICROSECOND), "older than 24 h"),
    "a refusal of the future": (1200, refused(-MICROSECOND), "older than 24 h"),
    "no refusal to answer": (1200, None, "not a refusal"),
    "no refusal to answer, and nothing": (0, None, "not a refusal"),
    "one less than it named": (1199, refused(HOUR), "named 1200, not 1199"),
    "one more than it named": (1201, refused(HOUR), "named 1200, not 1201"),
    "another number of misses": (6, refused(HOUR, 7, frozenset()), "named 7, not 6"),
    "rows that nobody wrote down": (1200, refused(HOUR, rows=None), "look again"),
}


@pytest.mark.parametrize(("confirmed", "last", "why"), ANSWERS.values(), ids=ANSWERS.keys())
def test_which_answer_applies(confirmed: int, last: LastRefusal | None, why: str | None) -> None:
    reason = reason_not_to_confirm(confirmed, last, NOW)
    if why is None:
        assert reason is None
    else:
        assert reason is not None
        assert reason.code == "confirm"
        assert why in reason.message


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_to_nothing_makes_no_refusal_that_can_be_answered(name: str) -> None:
    """A --confirm that sits in a crontab would answer itself an hour later."""
    confirmed, last, why = ANSWERS[name]
    reason = reason_not_to_confirm(confirmed, last, NOW)
    is_blind = why in ("older than 24 h", "not a refusal")
    assert is_confirmable([TOO_MANY, *([reason] if reason else [])]) is not is_blind


# The rows that the refusal was about, of so many first tries in all, its codes, and what is left.
CONFIRMED = {
    "all of them": (plan(1200, 9000), 1200, RELEASES, []),
    "some have gone": (plan(1100, 9000), 1100, RELEASES, []),
    "some have gone and others have come": (plan(20, 9000), 60, RELEASES, []),
    "only one is left": (plan(1, 9000), 1200, RELEASES, []),
    "none of them is planned": (plan(0, 9000), 40, RELEASES, ["confirm"]),
    "nothing is planned at all": (plan(0, 9000), 0, RELEASES, []),
    "only repeats are": (plan(0, 9000, repeats=3), 0, RELEASES, []),
    "a new reason": (plan(1200, 1300), 1200, RELEASES, ["max_percent"]),
    "another reason": (plan(900, 1300), 900, RELEASES, ["max_percent"]),
    "both reasons answered": (plan(1200, 1300), 1200, BOTH, []),
    "a reason that is gone": (plan(3, 9000), 3, BOTH, []),
}


@pytest.mark.parametrize(("covered", "planned", "codes", "left"), CONFIRMED.values(), ids=CONFIRMED.keys())
def test_what_an_answer_leaves(covered: PlanSummary, planned: int, codes: frozenset[str], left: list[str]) -> None:
    refusals = judge_confirmed(covered, planned, LIMITS, facts(), refused(HOUR, codes=codes))
    assert [refusal.code for refusal in refusals] == left


def test_the_answer_to_a_size_is_none_to_a_clock() -> None:
    last = refused(HOUR)
    around = facts(anchor=Moment(NOW + HOUR))
    assert [each.code for each in judge_confirmed(plan(1200, 9000), 1200, LIMITS, around, last)] == ["clock_backwards"]


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 100))
def test_what_is_not_covered_never_counts(covered: int, others: int, live_rows: int) -> None:
    """An answer is judged by what it covers: more that expires meanwhile makes it neither better nor worse."""
    last, limits = refused(HOUR, codes=frozenset({"clock_gap"})), Limits(20, 50, 20)
    left = judge_confirmed(plan(covered, live_rows), covered + others, limits, facts(), last)
    if covered:
        assert left == judge(plan(covered, live_rows), limits, facts())
    else:
        assert [each.code for each in left] == (["confirm"] if others else [])


def test_the_message_of_a_refusal_says_what_was_planned_and_what_to_type() -> None:
    summary = PlanSummary(
        first_tries=1200,
        repeats=3,
        skipped={},
        live_rows=9000,
        first_sids=("a", "b", "c", "d", "e"),
        newest_expires_at=NOW,
    )
    text = advice(summary, [TOO_MANY])
    assert "1200 first releases (a, b, c, d, e, …)" in text
    assert "2026-12-01T12:00:00Z" in text
    assert "autorelease tick --once --confirm 1200" in text
    assert "(none). Nothing was touched" in advice(plan(0, 0), [TOO_MANY])


def test_where_nothing_but_the_answer_was_wrong_the_message_asks_for_no_other() -> None:
    misplaced = Refusal("confirm", "no")
    assert "--confirm" not in advice(plan(3, 9000), [misplaced])
    assert "--confirm 3" in advice(plan(3, 9000), [TOO_MANY, misplaced])


def test_the_message_of_an_answer_to_nothing_offers_no_further_answer() -> None:
    misplaced = reason_not_to_confirm(3, None, NOW)
    assert misplaced is not None
    text = advice(plan(3, 9000), [TOO_MANY, misplaced])
    assert "--confirm" not in text
    assert "autorelease tick --once" in text


def test_the_message_about_misses_says_what_to_type() -> None:
    text = advice_on_misses(7)
    assert "7 were not found" in text
    assert text.endswith("autorelease tick --once --confirm 7")
