"""The limits that refuse a tick, and the operator's answer to a refusal."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autorelease.model import PlanSummary, Refusal, SkipReason
from autorelease.rules.guard import Facts, LastRefusal, Limits, Moment, Rewound, advice, judge, judge_confirmed

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
TOO_LARGE_A_PART = Refusal("max_percent", "too large a part")
RELEASES = frozenset({"max_releases"})
UNPROVEN: frozenset[str] = frozenset()


def refused(ago: timedelta, count: int = 1200, codes: frozenset[str] = RELEASES) -> LastRefusal:
    """The last tick, refused so long ago."""
    return LastRefusal(NOW - ago, count, codes)


CONFIRMED = {
    "answered": (plan(1200, 9000), [TOO_MANY], 1200, refused(HOUR), []),
    "answered at once": (plan(1200, 9000), [TOO_MANY], 1200, refused(timedelta(0)), []),
    "answered, the plan has shrunk": (plan(1199, 9000), [TOO_MANY], 1200, refused(HOUR), []),
    "answered, the reason has gone": (plan(900, 9000), [], 1200, refused(HOUR), []),
    "after exactly 24 h": (plan(1200, 9000), [TOO_MANY], 1200, refused(24 * HOUR), []),
    "after more than 24 h": (
        plan(1200, 9000),
        [TOO_MANY],
        1200,
        refused(24 * HOUR + timedelta(microseconds=1)),
        ["max_releases", "confirm"],
    ),
    "a refusal of the future": (
        plan(1200, 9000),
        [TOO_MANY],
        1200,
        refused(-timedelta(microseconds=1)),
        ["max_releases", "confirm"],
    ),
    "no refusal to answer": (plan(1200, 9000), [TOO_MANY], 1200, None, ["max_releases", "confirm"]),
    "nothing to refuse and no refusal to answer": (plan(3, 9000), [], 3, None, ["confirm"]),
    "one less than it named": (plan(1199, 9000), [TOO_MANY], 1199, refused(HOUR), ["max_releases", "confirm"]),
    "one more than it named": (plan(1200, 9000), [TOO_MANY], 1201, refused(HOUR), ["max_releases", "confirm"]),
    "a wrong number where the guard would admit": (plan(3, 9000), [], 3, refused(HOUR), ["confirm"]),
    "the plan has grown by one": (plan(1201, 9000), [TOO_MANY], 1200, refused(HOUR), ["max_releases", "confirm"]),
    "a new reason": (
        plan(1200, 1300),
        [TOO_MANY, TOO_LARGE_A_PART],
        1200,
        refused(HOUR),
        ["max_percent"],
    ),
    "another reason": (plan(1200, 1300), [TOO_LARGE_A_PART], 1200, refused(HOUR), ["max_percent"]),
    "both reasons answered": (
        plan(1200, 1300),
        [TOO_MANY, TOO_LARGE_A_PART],
        1200,
        refused(HOUR, codes=frozenset({"max_releases", "max_percent"})),
        [],
    ),
    "misses confirmed": (plan(7, 9000), [], 7, refused(HOUR, 7, UNPROVEN), []),
    "misses confirmed beside more to release": (plan(30, 9000), [], 7, refused(HOUR, 7, UNPROVEN), []),
    "misses confirmed, but the guard refuses the plan": (
        plan(1200, 9000),
        [TOO_MANY],
        7,
        refused(HOUR, 7, UNPROVEN),
        ["max_releases"],
    ),
    "another number of misses": (plan(7, 9000), [], 6, refused(HOUR, 7, UNPROVEN), ["confirm"]),
}


@pytest.mark.parametrize(
    ("summary", "refusals", "confirmed", "last", "codes"), CONFIRMED.values(), ids=CONFIRMED.keys()
)
def test_the_answer_to_a_refusal(
    summary: PlanSummary, refusals: Sequence[Refusal], confirmed: int, last: LastRefusal | None, codes: list[str]
) -> None:
    left = judge_confirmed(summary, refusals, confirmed, last, NOW)
    assert [refusal.code for refusal in left] == codes


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50), st.sampled_from([RELEASES, UNPROVEN]))
def test_a_confirmed_tick_begins_no_more_than_was_confirmed(
    first_tries: int, count: int, confirmed: int, codes: frozenset[str]
) -> None:
    refusals = [TOO_MANY] if first_tries > 10 else []
    if not judge_confirmed(plan(first_tries, 1000), refusals, confirmed, refused(HOUR, count, codes), NOW):
        assert confirmed == count
        assert not refusals or first_tries <= count


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
