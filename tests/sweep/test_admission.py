"""What the guard remembers of a plan: whom a confirmation covers (F13), and what stays admitted (F12)."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from autorelease.errors import ExitCode, ProvisionerDown, ProvisionerError, UnusableError
from autorelease.journal import TickKind
from autorelease.model import Allocation
from autorelease.rules.guard import Limits
from autorelease.sweep.closing import note_failed_start
from autorelease.sweep.edge.stop import DEADLINE
from tests.support.engine import EXPIRED, RENEWED, Engine, Scripted, Ticked

LIMIT = 10
MINUTE = timedelta(minutes=1)


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """Nothing yet, and a guard that lets ten go at once."""
    made = Engine(tmp_path)
    made.limits = Limits(max_releases=LIMIT, max_percent=100, min_fleet=20)
    return made


def named(number: int, word: str = "due") -> list[str]:
    """So many sids, in their order."""
    return [f"{word}-{each:03}" for each in range(number)]


def is_refused(engine: Engine, ticked: Ticked, *codes: str) -> None:
    """Nothing was touched, for these reasons."""
    assert ticked.code == ExitCode.REFUSED
    assert [refusal.code for refusal in ticked.report.refused] == list(codes)
    assert set(ticked.ends().values()) <= {"refused"}


def count(ticked: Ticked) -> Mapping[str, int]:
    """How many came to which end."""
    ends = list(ticked.ends().values())
    return {end: ends.count(end) for end in sorted(set(ends))}


# --- whom an answer covers (F13) --------------------------------------------------------------------------------------


def test_the_answer_covers_the_rows_that_were_refused_and_no_others(engine: Engine) -> None:
    seen, new = named(60), named(40, "new")
    engine.add(*seen)
    is_refused(engine, engine.tick(Scripted()), "max_releases")
    for sid in seen[:40]:
        engine.renew(sid)
    engine.add(*new)
    provisioner = Scripted()
    ticked = engine.tick(provisioner, confirm=60)
    assert (ticked.code, count(ticked)) == (ExitCode.NOT_ALL_WELL, {"refused": 40, "released": 20})
    assert set(provisioner.calls) == engine.place.released() == set(seen[40:])
    assert {sid for sid, end in ticked.ends().items() if end == "refused"} == set(new)
    # They are nobody's admitted plan: the next tick asks for them.
    is_refused(engine, engine.tick(provisioner), "max_releases")
    assert engine.tick(provisioner, confirm=40).code == ExitCode.OK
    assert engine.place.released() == {*seen[40:], *new}


def test_a_row_that_was_renewed_for_a_moment_is_another_one(engine: Engine) -> None:
    """It has expired again since, and has the same sid: whoever looked at it saw another period."""
    engine.add(*named(20))
    engine.tick(Scripted())
    engine.renew("due-000", EXPIRED + 600)
    ticked = engine.tick(Scripted(), confirm=20)
    assert (count(ticked), ticked.ends()["due-000"]) == ({"refused": 1, "released": 19}, "refused")


def test_an_answer_of_which_nothing_is_left_is_refused(engine: Engine) -> None:
    engine.add(*named(20))
    engine.tick(Scripted())
    for sid in named(20):
        engine.renew(sid)
    engine.add("one")
    provisioner = Scripted()
    is_refused(engine, engine.tick(provisioner, confirm=20), "confirm")
    assert provisioner.calls == []


def test_an_answer_of_which_nothing_is_left_names_the_guards_reasons_too_and_can_be_answered(engine: Engine) -> None:
    engine.add(*named(20))
    engine.tick(Scripted())
    for sid in named(20):
        engine.renew(sid)
    engine.add(*named(15, "new"))
    is_refused(engine, engine.tick(Scripted(), confirm=20), "max_releases", "confirm")
    ticked = engine.tick(Scripted(), confirm=15)
    assert (ticked.code, count(ticked)) == (ExitCode.OK, {"released": 15})


def test_what_is_covered_is_judged_by_the_guard_like_a_plan(engine: Engine) -> None:
    """Half of the fleet was never asked about; the reason is a new one, and the answer is none to it."""
    engine.add(*named(20))
    engine.add(*named(100, "paid"), expires_at=RENEWED)
    engine.tick(Scripted())
    engine.limits = Limits(max_releases=LIMIT, max_percent=10, min_fleet=20)
    is_refused(engine, engine.tick(Scripted(), confirm=20), "max_releases", "max_percent")


def test_repeats_need_no_answer(engine: Engine) -> None:
    engine.add("tried")
    assert engine.tick(Scripted({"tried": [ValueError("broken")]})).ends() == {"tried": "failed"}
    engine.later(timedelta(hours=2))
    engine.add(*named(20))
    is_refused(engine, engine.tick(Scripted()), "max_releases")
    engine.add("new")
    ticked = engine.tick(Scripted(), confirm=20)
    assert (ticked.ends()["tried"], ticked.ends()["new"]) == ("released", "refused")


def test_an_answer_is_for_one_tick(engine: Engine) -> None:
    engine.add(*named(20))
    engine.tick(Scripted())
    assert engine.tick(Scripted(), confirm=20).code == ExitCode.OK
    is_refused(engine, engine.tick(Scripted(), confirm=20), "confirm")


@pytest.mark.parametrize("due", [3, 20])
def test_an_answer_in_a_crontab_releases_nothing(engine: Engine, due: int) -> None:
    """Neither where the guard would have let it through, nor where it is the very number, hour after hour."""
    provisioner = Scripted()
    engine.add(*named(due))
    for _ in range(5):
        ticked = engine.tick(provisioner, confirm=due)
        is_refused(engine, ticked, *(["max_releases"] if due > LIMIT else []), "confirm")
        assert engine.past_ticks()[-1]["confirmable"] is None
        engine.later()
    # It stops no more than the tick that it was typed for.
    if due > LIMIT:
        is_refused(engine, engine.tick(provisioner), "max_releases")
    assert engine.tick(provisioner, confirm=due if due > LIMIT else None).code == ExitCode.OK
    assert len(provisioner.calls) == due


def test_an_answer_in_a_crontab_beside_the_timer_releases_what_was_refused_before(engine: Engine) -> None:
    """That is what an answer is for; what nobody was refused stays."""
    provisioner = Scripted()
    refused: set[str] = set()
    for hour in range(6):
        engine.add(*named(12, f"hour-{hour}"))
        ticked = engine.tick(provisioner)
        refused |= {sid for sid, end in ticked.ends().items() if end == "refused"}
        engine.later(MINUTE)
        engine.tick(provisioner, confirm=12)
        assert set(provisioner.calls) <= refused
        engine.later()


def test_a_slip_of_the_finger_is_answered_at_once(engine: Engine) -> None:
    engine.add(*named(20))
    engine.tick(Scripted())
    is_refused(engine, engine.tick(Scripted(), confirm=21), "max_releases", "confirm")
    assert engine.tick(Scripted(), confirm=20).code == ExitCode.OK


def test_a_refusal_that_did_not_write_down_its_rows_says_to_look_again(engine: Engine) -> None:
    """As one of an older version; its number may be that of others."""
    engine.add(*named(20))
    engine.tick(Scripted())
    journal = engine.open_journal()
    journal.connection.execute("UPDATE ticks SET admission = NULL")
    journal.close()
    ticked = engine.tick(Scripted(), confirm=20)
    is_refused(engine, ticked, "max_releases", "confirm")
    assert "look again" in ticked.report.refused[-1].message


# --- what stays admitted (F12) ----------------------------------------------------------------------------------------


class Ending:
    """Comes to its deadline once so many calls were made."""

    def __init__(self, engine: Engine, after: int) -> None:
        self._engine = engine
        self._left = after

    def __call__(self, _: Allocation) -> None:
        """One call more."""
        self._left -= 1
        if self._left == 0:
            self._engine.stop.wish(DEADLINE)


def confirmed_and_stopped(engine: Engine, sids: Sequence[str], *, after: int = 6) -> Ticked:
    """A plan that is too large, confirmed, and not carried out to its end."""
    engine.configure(concurrency=1)
    engine.add(*sids)
    is_refused(engine, engine.tick(Scripted()), "max_releases")
    engine.later(MINUTE)
    ticked = engine.tick(Scripted(before=Ending(engine, after)), confirm=len(sids))
    engine.later(MINUTE)
    return ticked


def test_a_confirmed_plan_survives_the_deadline(engine: Engine) -> None:
    sids = named(40)
    ticked = confirmed_and_stopped(engine, sids)
    assert count(ticked) == {"deferred": 34, "released": 6}
    ticked = engine.tick(Scripted())
    assert (ticked.code, count(ticked)) == (ExitCode.OK, {"released": 34})
    assert ticked.summary is not None
    assert (ticked.summary.first_tries, ticked.summary.repeats) == (0, 34)


def test_it_survives_one_deadline_after_the_other(engine: Engine) -> None:
    sids = named(40)
    confirmed_and_stopped(engine, sids)
    for _ in range(4):
        assert count(engine.tick(Scripted(before=Ending(engine, 6))))["released"] == 6
        engine.later()
    assert engine.tick(Scripted()).code == ExitCode.OK
    assert engine.place.released() == set(sids)


def test_an_admitted_plan_survives_a_tighter_guard(engine: Engine) -> None:
    """What was let through once is let through, as it was planned."""
    engine.configure(concurrency=1)
    engine.add(*named(10))
    assert count(engine.tick(Scripted(before=Ending(engine, 2)))) == {"deferred": 8, "released": 2}
    engine.later()
    engine.limits = Limits(max_releases=1, max_percent=100, min_fleet=20)
    assert engine.tick(Scripted()).code == ExitCode.OK


def test_what_joins_an_admitted_plan_is_a_first_try(engine: Engine) -> None:
    confirmed_and_stopped(engine, named(40))
    engine.add(*named(10, "new"))
    ticked = engine.tick(Scripted(before=Ending(engine, 1)))
    assert ticked.summary is not None
    assert (ticked.summary.first_tries, ticked.summary.repeats) == (10, 34)
    assert ticked.report.refused == ()
    engine.later()
    engine.add(*named(11, "newer"))
    is_refused(engine, engine.tick(Scripted()), "max_releases")
    # And a refusal in between has taken nothing from what was admitted.
    engine.later()
    for sid in named(11, "newer"):
        engine.renew(sid)
    assert engine.tick(Scripted()).code == ExitCode.OK


def test_what_was_renewed_is_a_first_try_again(engine: Engine) -> None:
    confirmed_and_stopped(engine, named(40))
    for sid in named(40)[20:]:
        engine.renew(sid, EXPIRED + 600)
    ticked = engine.tick(Scripted())
    is_refused(engine, ticked, "max_releases")
    assert ticked.summary is not None
    assert (ticked.summary.first_tries, ticked.summary.repeats) == (20, 14)


def test_a_plan_survives_a_provisioner_that_is_down(engine: Engine) -> None:
    engine.add(*named(40))
    engine.tick(Scripted())
    engine.later(MINUTE)
    for confirm in (40, None):
        ticked = engine.tick(Scripted(preflight_error=ProvisionerDown("no route")), confirm=confirm)
        assert (ticked.code, count(ticked)) == (ExitCode.PROVISIONER_DOWN, {"deferred": 40})
        engine.later()
    ticked = engine.tick(Scripted())
    assert (ticked.code, count(ticked)) == (ExitCode.OK, {"released": 40})


def test_a_plan_survives_a_breaker_in_its_midst(engine: Engine) -> None:
    engine.configure(concurrency=1, attempts=1)
    engine.add(*named(40))
    engine.tick(Scripted())
    engine.later(MINUTE)
    down = Scripted({sid: [ProvisionerDown("no route")] for sid in named(40)})
    assert count(engine.tick(down, confirm=40)) == {"deferred": 40}
    engine.later()
    assert count(engine.tick(Scripted())) == {"released": 40}


def test_a_plan_survives_a_death_in_its_midst(engine: Engine) -> None:
    """As the journal of a process that was killed is: its tick has no end, and one intent is open."""
    engine.add(*named(40))
    engine.tick(Scripted())
    engine.later(MINUTE)
    journal = engine.open_journal()
    [refused] = journal.ticks()
    newest = journal.newest_tick()
    assert newest is not None
    start = engine.start()
    journal.open_tick(start)
    journal.note_plan(start.tick, newest.admission or b"", is_admitted=True)
    journal.close()
    assert refused.admission is None
    engine.later()
    ticked = engine.tick(Scripted())
    assert (ticked.code, count(ticked)) == (ExitCode.OK, {"released": 40})


def test_what_was_held_in_an_admitted_plan_is_a_first_try_once_it_is_not(engine: Engine) -> None:
    """It was in no plan: nobody has let it through."""
    engine.add(*named(12))
    for sid in named(12):
        engine.hold(sid)
    assert engine.tick(Scripted()).code == ExitCode.OK
    for sid in named(12):
        engine.unhold(sid)
    is_refused(engine, engine.tick(Scripted()), "max_releases")


def test_a_plan_of_another_ledger_admits_nothing_in_this_one(engine: Engine) -> None:
    engine.ledger_name = "/srv/a.db table vms"
    confirmed_and_stopped(engine, named(40))
    engine.ledger_name = "/srv/b.db table vms"
    ticked = engine.tick(Scripted())
    is_refused(engine, ticked, "max_releases", "other_ledger")
    assert ticked.summary is not None
    assert ticked.summary.first_tries == 34


def test_what_a_dry_run_shows_is_what_a_tick_would_do(engine: Engine) -> None:
    confirmed_and_stopped(engine, named(40))
    ledger, journal = engine.open_ledger(read_only=True), engine.open_journal()
    decision = engine.decide(ledger, journal)
    assert (decision.refusals, decision.summary.first_tries, decision.summary.repeats) == ([], 0, 34)
    for opened in (decision.spool, ledger, journal):
        opened.close()


# --- releases that run beside a tick ----------------------------------------------------------------------------------


def test_a_tick_that_cannot_begin_leaves_a_release_running(engine: Engine) -> None:
    """Marked as crashed, its calls would be taken for those of a run that was killed."""
    journal = engine.open_journal()
    order, gone = (replace(engine.start(), kind=TickKind.RELEASE) for _ in range(2))
    for run in (order, gone):
        journal.open_tick(run)
    tick = engine.start()
    error = UnusableError("no ledger")
    note_failed_start(journal, tick, lambda: engine.now, error, lambda run: run.tick == order.tick)
    assert {past.start.tick: past.status for past in journal.ticks()} == {
        order.tick: None,
        gone.tick: "crashed",
        tick.tick: "unusable",
    }
    journal.close()


def test_two_reasons_do_not_take_turns(engine: Engine) -> None:
    """One was answered, another came: who answers that one has answered both."""
    engine.boot_id, engine.boot_seconds = "boot", 0.0
    engine.tick(Scripted())
    engine.later(timedelta(days=10))
    is_refused(engine, engine.tick(Scripted()), "clock_stepped")
    engine.add("a")
    is_refused(engine, engine.tick(Scripted(), confirm=0), "clock_gap", "clock_stepped", "confirm")
    is_refused(engine, engine.tick(Scripted()), "clock_gap", "clock_stepped")
    assert engine.tick(Scripted(), confirm=1).ends() == {"a": "released"}


def test_a_repeat_that_makes_a_new_reason_is_answered_with_the_old_one(engine: Engine) -> None:
    engine.boot_id, engine.boot_seconds = "boot", 0.0
    engine.add("a")
    assert engine.tick(Scripted({"a": [ProvisionerError("no")]})).ends() == {"a": "failed"}
    engine.hold("a")
    engine.later(timedelta(days=10))
    assert engine.tick(Scripted()).code == ExitCode.REFUSED
    engine.unhold("a")
    is_refused(engine, engine.tick(Scripted(), confirm=0), "clock_gap", "clock_stepped")
    assert engine.tick(Scripted(), confirm=0).ends() == {"a": "released"}
