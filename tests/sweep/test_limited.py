"""`tick --limit N`: the first few of a plan, before the many."""

from collections.abc import Iterable

import pytest

from autorelease.errors import ExitCode, UnusableError
from autorelease.model import Planned, SkipReason
from autorelease.rules.guard import Limits
from autorelease.sweep.edge.stop import Stop
from autorelease.sweep.limited import Limited
from autorelease.sweep.report import exit_code
from tests.support.engine import EXPIRED, Engine, Scripted

REFUSES_EACH = """
CREATE TRIGGER no_stamp BEFORE UPDATE ON vm_allocations BEGIN SELECT RAISE(ABORT, 'not this one'); END
"""


def test_the_oldest_go_and_the_rest_is_left_for_the_next_tick(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    engine.add(*"abcdef")
    provisioner = Scripted()
    ticked = engine.tick(provisioner, at_most=2)
    assert (ticked.code, ticked.report.stopped_by) == (ExitCode.NOT_ALL_WELL, None)
    assert ticked.ends() == {**dict.fromkeys("ab", "released"), **dict.fromkeys("cdef", "deferred")}
    assert sorted(provisioner.calls) == ["a", "b"]
    assert [record.getMessage() for record in caplog.records] == [
        "limited to 2. Rows left for the next tick: 4, the oldest is c"
    ]
    assert engine.events("f") == [("skip", "skipped", "deferred")]
    assert set(engine.failed_ticks().values()) <= {0}


def test_the_first_few_do_not_wait_until_the_rest_is_written_down(engine: Engine) -> None:
    engine.add(*"abcdef")
    seen: list[object] = []
    provisioner = Scripted(before=lambda _: seen.append(engine.events("f")))
    engine.tick(provisioner, at_most=1)
    assert (seen, engine.events("f")) == ([[]], [("skip", "skipped", "deferred")])


@pytest.mark.parametrize("at_most", [6, 7, 1_000_000])
def test_a_limit_that_is_not_reached_leaves_nothing(engine: Engine, at_most: int) -> None:
    engine.add(*"abcdef")
    ticked = engine.tick(Scripted(), at_most=at_most)
    assert (ticked.code, set(ticked.ends().values())) == (ExitCode.OK, {"released"})


def test_nothing_to_do_is_nothing_to_limit(engine: Engine) -> None:
    assert engine.tick(Scripted(), at_most=1).code == ExitCode.OK


def test_the_guard_judges_the_whole_plan(engine: Engine) -> None:
    """A limit is no way round it."""
    engine.limits = Limits(max_releases=5, max_percent=100, min_fleet=20)
    engine.add(*"abcdef")
    provisioner = Scripted()
    ticked = engine.tick(provisioner, at_most=1)
    assert (ticked.code, set(ticked.ends().values()), provisioner.calls) == (ExitCode.REFUSED, {"refused"}, [])


def test_what_the_limit_left_was_admitted_and_needs_no_second_answer(engine: Engine) -> None:
    engine.limits = Limits(max_releases=3, max_percent=100, min_fleet=20)
    engine.add(*"abcdefgh")
    assert engine.tick(Scripted()).code == ExitCode.REFUSED
    confirmed = engine.tick(Scripted(), confirm=8, at_most=2)
    assert (confirmed.code, sorted(confirmed.ends().values())) == (3, [*["deferred"] * 6, *["released"] * 2])
    engine.later()
    # Still more than the limit of the guard, and nothing of it is new.
    again = engine.tick(Scripted(), at_most=3)
    assert sorted(again.ends().values()) == [*["deferred"] * 3, *["released"] * 3]
    engine.later()
    last = engine.tick(Scripted())
    assert (last.code, set(last.ends().values())) == (ExitCode.OK, {"released"})


def test_what_an_answer_did_not_cover_is_not_among_the_first(engine: Engine) -> None:
    engine.limits = Limits(max_releases=3, max_percent=100, min_fleet=20)
    engine.add(*"bcdef")
    assert engine.tick(Scripted()).code == ExitCode.REFUSED
    engine.add("a", expires_at=EXPIRED - 60)
    ticked = engine.tick(Scripted(), confirm=5, at_most=2)
    assert ticked.ends() == {"a": "refused", **dict.fromkeys("bc", "released"), **dict.fromkeys("def", "deferred")}


def test_first_tries_come_before_repeats_here_too(engine: Engine) -> None:
    """A row that fails each time cannot use the limit up for ever."""
    engine.add("begun", expires_at=EXPIRED - 60)
    engine.begin_and_lose("begun", expires_at=EXPIRED - 60)
    engine.add("new-1", "new-2")
    ticked = engine.tick(Scripted(), at_most=2)
    assert ticked.ends() == {"begun": "deferred", "new-1": "released", "new-2": "released"}


def test_the_first_of_all_provisioners_together(engine: Engine) -> None:
    for number in range(6):
        engine.add(f"vm-{number}", provisioner=("one", "two", "three")[number % 3], expires_at=EXPIRED + number // 2)
    one, two, three = Scripted(), Scripted(), Scripted()
    ticked = engine.tick({"one": one, "two": two, "three": three}, at_most=2)
    assert [sid for sid, end in sorted(ticked.ends().items()) if end == "released"] == ["vm-0", "vm-1"]
    # Whoever has nothing to do is not asked.
    assert (one.preflights, two.preflights, three.preflights) == (1, 1, 0)


@pytest.mark.parametrize(("at_most", "number"), [(1, 30), (3, 4), (7, 30)])
def test_the_first_few_that_the_table_refuses_are_not_the_whole_table(
    engine: Engine, at_most: int, number: int
) -> None:
    sids = [f"vm-{place:02}" for place in range(number)]
    engine.add(*sids)
    refused = sids[:at_most]
    when = f"WHEN new.sid IN ({', '.join(map(repr, refused))})"
    engine.place.execute(REFUSES_EACH.replace(" BEGIN", f" {when} BEGIN"))
    provisioner = Scripted()
    ticked = engine.tick(provisioner, at_most=at_most)
    assert (ticked.code, provisioner.calls) == (ExitCode.NOT_ALL_WELL, [])
    assert ticked.ends() == {sid: "failed" if sid in refused else "deferred" for sid in sids}
    assert {sid for sid, failed in engine.failed_ticks().items() if failed} == set(refused)


def test_what_is_beyond_the_limit_is_not_charged(engine: Engine) -> None:
    engine.place.execute(REFUSES_EACH)
    engine.add(*"abcdef")
    with pytest.raises(UnusableError, match="all 2 rows whose stamp was tried"):
        engine.tick(Scripted(), at_most=2)
    assert {sid for sid, failed in engine.failed_ticks().items() if failed} == {"a", "b"}


@pytest.mark.parametrize(("at_most", "by"), [(2, None), (3, "deadline")])
def test_a_deadline_that_passed_when_all_was_done_has_stopped_nothing(
    engine: Engine, at_most: int, by: str | None
) -> None:
    engine.configure(concurrency=1)
    engine.add(*"abcd")
    provisioner = Scripted()
    engine.stop = Stop(lambda: len(provisioner.calls) >= 2)
    assert engine.tick(provisioner, at_most=at_most).report.stopped_by == by


@pytest.mark.parametrize(("at_most", "code"), [(2, 3), (6, 0), (None, 0)])
def test_a_dry_run_shows_what_the_limited_tick_would_do(engine: Engine, at_most: int | None, code: int) -> None:
    engine.add(*"abcdef")
    report = engine.preview(at_most)
    left = 6 - (at_most or 6)
    assert (exit_code(report), report.skipped.get(SkipReason.DEFERRED, 0)) == (code, left)
    assert report.skipped[SkipReason.DRY_RUN] == 6 - left


def test_a_dry_run_that_is_refused_is_refused_whatever_the_limit(engine: Engine) -> None:
    engine.limits = Limits(max_releases=5, max_percent=100, min_fleet=20)
    engine.add(*"abcdef")
    report = engine.preview(1)
    assert (exit_code(report), report.skipped) == (ExitCode.REFUSED, {SkipReason.REFUSED: 6})


def sids(rows: Iterable[Planned]) -> list[str]:
    """Their names, in order."""
    return [planned.allocation.sid for planned in rows]


def test_its_streams_are_parts_of_the_whole(engine: Engine) -> None:
    """Whatever the number: each provisioner's rows together are the first ones, and nothing is there twice."""
    names = ("one", "two", "three")
    for number in range(12):
        engine.add(f"vm-{number:02}", provisioner=names[number * number % 3], expires_at=EXPIRED + number // 4)
    ledger, journal = engine.open_ledger(), engine.open_journal()
    decision = engine.decide(ledger, journal)
    try:
        whole = sids(decision.spool.to_release())
        for at_most in range(1, 14):
            limited = Limited(decision.spool, at_most)
            assert sids(limited.to_release()) == whole[:at_most]
            assert sids(limited.rest()) == whole[at_most:]
            streams = [sids(limited.to_release(name)) for name in limited.provisioners()]
            assert sorted(sid for stream in streams for sid in stream) == sorted(whole[:at_most])
            assert all(streams)
    finally:
        for opened in (decision.spool, ledger, journal):
            opened.close()
