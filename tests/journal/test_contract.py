"""What every journal does, whatever it is kept in: one suite for all of them."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from autorelease.journal import (
    Begun,
    Event,
    GivenAnswer,
    IntentChange,
    Journal,
    JournalReader,
    OpenIntent,
    PastTick,
    Step,
    TickKind,
    TickStart,
)
from autorelease.journal.empty import EmptyJournal
from autorelease.journal.sqlite import SQLiteJournal
from autorelease.model import Allocation, Answer, Attempts, ErrorCode, Hold, Known, MadeFor, Outcome
from tests.support.engine import NOW, made_allocation
from tests.support.journals import copy_journal

EXPIRY = datetime(2026, 12, 1, 11, tzinfo=UTC)
WEEK = timedelta(days=7)
HOUR = timedelta(hours=1)
MICROSECOND = timedelta(microseconds=1)


def sqlite_journal(folder: Path) -> Journal:
    """A new journal in an SQLite file."""
    copy_journal(folder / "journal.db")
    return SQLiteJournal(folder / "journal.db", read_only=False)


KINDS: list[Callable[[Path], Journal]] = [sqlite_journal]


@pytest.fixture(params=KINDS, ids=lambda make: make.__name__)
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Journal]:
    """A new, empty journal of each kind."""
    made: Journal = request.param(tmp_path)
    yield made
    made.close()


def start(tick: str = "t1", at: datetime = NOW, **fields: Any) -> TickStart:
    """The start of a tick."""
    made = TickStart(
        tick=tick,
        now=at,
        started_at=at,
        ends_by=at + timedelta(minutes=45),
        pid=4711,
        host="here",
        version="1.0",
        actor="root (uid 0)",
        boot_id=None,
    )
    return replace(made, **fields)


def event(step: Step, sid: str = "a", **fields: Any) -> Event:
    """One event of an allocation that expired at EXPIRY."""
    made = Event(step=step, at=NOW, sid=sid, expires_at=EXPIRY, provisioner="default", vm_ref=f"ref-of-{sid}")
    return replace(made, **fields)


def opened(sid: str = "a", **fields: Any) -> Event:
    """Its release is about to begin."""
    return event(Step.INTENT, sid, **{"intent": IntentChange.OPENED, **fields})


def outcome(what: Outcome, sid: str = "a", **fields: Any) -> Event:
    """The end of an allocation in a tick."""
    return event(Step.OUTCOME, sid, outcome=what, **{"intent": IntentChange.CLOSED, **fields})


def allocation(sid: str = "a", expires_at: datetime | None = EXPIRY) -> Allocation:
    """One that the journal is asked about."""
    return made_allocation(sid, expires_at=expires_at, vm_ref=f"ref-of-{sid}")


def known(journal: JournalReader, sid: str = "a", expires_at: datetime | None = EXPIRY) -> Known | None:
    """What is remembered of one (sid, expires_at)."""
    return journal.known([allocation(sid, expires_at)]).get((sid, expires_at))


def intents(journal: JournalReader) -> list[str]:
    """The sids of the open intents, in the order they come."""
    return [intent.sid for intent in journal.open_intents()]


def held(sid: str = "a", at: datetime = NOW, until: datetime | None = None, reason: str = "because") -> Hold:
    """An operator's hold."""
    return Hold(sid, at, until, reason, "root (uid 0)")


def nobody_is_held(_: Hold) -> bool:
    """A judgement under which every hold has ended."""
    return False


def everybody_is_held(_: Hold) -> bool:
    """One under which every hold is in force."""
    return True


# --- ticks ------------------------------------------------------------------------------------------------------------


def test_a_new_journal_knows_nothing(journal: Journal) -> None:
    assert journal.newest_tick() is None
    assert journal.last_admitted_tick() is None
    assert (list(journal.ticks()), list(journal.events()), list(journal.open_intents())) == ([], [], [])
    assert journal.known([allocation()]) == {}
    assert (list(journal.recent_answers("print", 50)), journal.has_credit("print")) == ([], False)
    assert (journal.kinds_of_answers("print", "t1"), journal.has_missed("t1", ["a"])) == (frozenset(), frozenset())
    assert list(journal.unfinished_runs()) == []


def test_a_tick_from_its_start_to_its_end(journal: Journal) -> None:
    begun = start(boot_id="0123", at=NOW + timedelta(microseconds=7))
    journal.open_tick(begun)
    past = journal.newest_tick()
    assert past is not None
    assert past.start == begun
    assert (past.finished_at, past.status, past.exit_code, past.admitted, past.report) == (
        None,
        None,
        None,
        False,
        None,
    )
    journal.note_plan("t1", b"", is_admitted=True)
    report = {"status": "partial", "exit_code": 3, "text": "ä\u202e\n", "errors": [{"sid": "a"}]}
    journal.close_tick("t1", NOW + WEEK, report, confirmable=12)
    past = journal.newest_tick()
    assert past is not None
    assert (past.finished_at, past.status, past.exit_code) == (NOW + WEEK, "partial", 3)
    assert (past.admitted, past.report, past.confirmable) == (True, report, 12)


def test_a_tick_that_could_not_go_on_is_closed_with_its_error(journal: Journal) -> None:
    journal.open_tick(start())
    journal.close_tick("t1", NOW, {"exit_code": 5, "error": "unusable", "message": "locked"})
    past = journal.newest_tick()
    assert past is not None
    assert (past.status, past.exit_code, past.confirmable) == ("unusable", 5, None)


def test_the_newest_tick_is_the_last_that_was_begun_whatever_its_clock_said(journal: Journal) -> None:
    journal.open_tick(start("first", NOW))
    journal.open_tick(start("second", NOW - WEEK))
    past = journal.newest_tick()
    assert past is not None
    assert past.start.tick == "second"


def test_a_tick_that_never_ended_is_marked_by_the_next(journal: Journal) -> None:
    journal.open_tick(start("dead"))
    journal.open_tick(start("closed"))
    journal.close_tick("closed", NOW, {"status": "success", "exit_code": 0})
    journal.open_tick(start("running"))
    assert [(past.start.tick, past.status) for past in journal.ticks()] == [
        ("running", None),
        ("closed", "success"),
        ("dead", "crashed"),
    ]


def test_one_tick_by_its_name(journal: Journal) -> None:
    for name in ("t1", "t2"):
        journal.open_tick(start(name))
    assert [past.start.tick for past in journal.ticks("t1")] == ["t1"]
    assert list(journal.ticks("t3")) == []


def test_whether_a_tick_was_ever_admitted(journal: Journal) -> None:
    journal.open_tick(start("refused"))
    assert journal.last_admitted_tick() is None
    journal.open_tick(start("admitted"))
    journal.note_plan("admitted", b"", is_admitted=True)
    journal.open_tick(start("refused-again"))
    assert journal.last_admitted_tick() is not None


def test_the_last_admitted_tick_is_the_last_by_its_number_whatever_its_clock_said(journal: Journal) -> None:
    for tick, at in (("early", NOW + WEEK), ("late", NOW)):
        journal.open_tick(start(tick, at))
        journal.note_plan(tick, b"", is_admitted=True)
    journal.open_tick(start("refused", NOW + 2 * WEEK))
    past = journal.last_admitted_tick()
    assert past is not None
    assert (past.start.tick, past.start.now, past.admitted) == ("late", NOW, True)


def test_a_tick_keeps_what_the_guard_compares(journal: Journal) -> None:
    begun = start(boot_id="b" * 32, boot_seconds=12.25, ledger="/srv/ä b.db table vms")
    journal.open_tick(begun)
    journal.note_plan("t1", b"", is_admitted=True)
    past = journal.last_admitted_tick()
    assert past is not None
    assert past.start == begun


# --- plans -----------------------------------------------------------------------------------------------------------


def past(journal: Journal, tick: str) -> PastTick:
    """One tick, as it is asked for."""
    [found] = journal.ticks(tick)
    return found


def test_a_plan_is_noted_admitted_or_refused(journal: Journal) -> None:
    journal.open_tick(start("refused"))
    journal.note_plan("refused", b"r" * 16, is_admitted=False)
    newest = journal.newest_tick()
    assert newest is not None
    assert (newest.admitted, newest.admission, journal.last_admitted_tick()) == (False, b"r" * 16, None)
    journal.open_tick(start("admitted"))
    journal.note_plan("admitted", b"a" * 16, is_admitted=True)
    for found in (journal.newest_tick(), journal.last_admitted_tick()):
        assert found is not None
        assert (found.start.tick, found.admitted, found.admission) == ("admitted", True, b"a" * 16)


def test_an_empty_plan_is_a_plan(journal: Journal) -> None:
    """Nothing was planned, which is not the same as nobody wrote it down."""
    journal.open_tick(start())
    newest = journal.newest_tick()
    assert newest is not None
    assert newest.admission is None
    journal.note_plan("t1", b"", is_admitted=False)
    newest = journal.newest_tick()
    assert newest is not None
    assert newest.admission == b""


def test_the_admitted_plan_outlives_refusals_and_ends_with_the_next_one(journal: Journal) -> None:
    plans: dict[str, bool] = {"a1": True, "r1": False, "r2": False}
    for tick, is_admitted in plans.items():
        journal.open_tick(start(tick))
        journal.note_plan(tick, tick.encode() * 8, is_admitted=is_admitted)
    admitted, newest = journal.last_admitted_tick(), journal.newest_tick()
    assert admitted is not None
    assert newest is not None
    assert (admitted.admission, newest.admission) == (b"a1" * 8, b"r2" * 8)
    journal.open_tick(start("a2"))
    journal.note_plan("a2", b"a2" * 8, is_admitted=True)
    admitted = journal.last_admitted_tick()
    assert admitted is not None
    assert admitted.admission == b"a2" * 8


def test_what_was_unproven_is_kept_until_the_next_plan(journal: Journal) -> None:
    journal.open_tick(start("t1"))
    journal.note_plan("t1", b"p" * 16, is_admitted=True)
    journal.close_tick("t1", NOW, {"status": "partial", "exit_code": 8}, confirmable=1, unproven=b"u" * 16)
    newest = journal.newest_tick()
    assert newest is not None
    assert (newest.confirmable, newest.unproven) == (1, b"u" * 16)
    journal.open_tick(start("t2"))
    newest = journal.newest_tick()
    assert newest is not None
    assert (newest.confirmable, newest.unproven, newest.admission) == (None, None, None)


def test_who_only_shows_ticks_reads_no_plans(journal: Journal) -> None:
    journal.open_tick(start())
    journal.note_plan("t1", b"p" * 16, is_admitted=True)
    journal.close_tick("t1", NOW, {"status": "success", "exit_code": 0}, unproven=b"u" * 16)
    shown = [*journal.ticks(), *journal.ticks("t1"), journal.last_swept_tick(), journal.last_counted_tick()]
    assert len(shown) == 4
    assert [each and (each.admission, each.unproven) for each in shown] == [(None, None)] * 4


# --- what runs --------------------------------------------------------------------------------------------------------


def test_the_runs_that_never_ended(journal: Journal) -> None:
    journal.open_tick(start("killed"))
    order = start("order", kind=TickKind.RELEASE, reason="fraud", pid_started=12_345, pid_namespace="pid:[4026531836]")
    journal.open_tick(order)
    journal.open_tick(start("ended", kind=TickKind.RELEASE))
    journal.close_tick("ended", NOW, {"status": "success", "exit_code": 0})
    assert [run.tick for run in journal.unfinished_runs()] == ["killed", "order"]
    assert journal.unfinished_runs()[1] == order
    journal.open_tick(start("tick"), ["order"])
    assert [run.tick for run in journal.unfinished_runs()] == ["order", "tick"]


def test_a_tick_marks_as_crashed_whatever_does_not_run(journal: Journal) -> None:
    """A release runs without the tick's lock: that a tick begins does not mean that it has died."""
    for name in ("order-1", "order-2"):
        journal.open_tick(start(name, kind=TickKind.RELEASE))
    journal.open_tick(start("t1", NOW + WEEK), ["order-2", "nobody"])
    assert [past(journal, name).status for name in ("order-1", "order-2", "t1")] == ["crashed", None, None]
    journal.open_tick(start("t2"))
    assert [past(journal, name).status for name in ("order-2", "t1", "t2")] == ["crashed", "crashed", None]


def test_a_run_that_was_given_up_too_early_still_ends(journal: Journal) -> None:
    journal.open_tick(start("order", kind=TickKind.RELEASE))
    journal.open_tick(start("t1"))
    journal.close_tick("order", NOW, {"status": "success", "exit_code": 0})
    assert past(journal, "order").status == "success"


# --- an operator's release beside the ticks ---------------------------------------------------------------------------


def test_a_release_is_no_tick_to_compare_with_or_to_answer(journal: Journal) -> None:
    journal.open_tick(start("tick"))
    journal.close_tick("tick", NOW, {"status": "refused", "exit_code": 7}, confirmable=3)
    journal.open_tick(start("order", kind=TickKind.RELEASE, reason="fraud"))
    journal.note_plan("order", b"", is_admitted=True)
    newest = journal.newest_tick()
    assert newest is not None
    assert (newest.start.tick, newest.confirmable) == ("tick", 3)
    assert journal.last_admitted_tick() is None
    # It is in the history like a tick, with its reason.
    [order, _] = journal.ticks()
    assert (order.start.kind, order.start.reason) == (TickKind.RELEASE, "fraud")


def test_a_release_marks_nobody_as_crashed(journal: Journal) -> None:
    journal.open_tick(start("running"))
    journal.open_tick(start("order", NOW + WEEK, kind=TickKind.RELEASE))
    assert [past.status for past in journal.ticks()] == [None, None]


def test_pruning_keeps_the_last_admitted_tick_and_not_a_release_in_its_place(journal: Journal) -> None:
    for tick, kind in (("admitted", TickKind.TICK), ("order", TickKind.RELEASE), ("refused", TickKind.TICK)):
        journal.open_tick(start(tick, kind=kind))
        if tick != "refused":
            journal.note_plan(tick, b"", is_admitted=True)
    journal.prune(NOW + WEEK)
    past = journal.last_admitted_tick()
    assert past is not None
    assert past.start.tick == "admitted"
    assert "order" not in [each.start.tick for each in journal.ticks()]


# --- what is known ----------------------------------------------------------------------------------------------------


def test_an_intent_is_open_until_its_outcome(journal: Journal) -> None:
    journal.record("t1", [opened("a"), opened("b")])
    assert known(journal) == Known(intent=True, intent_run="t1")
    journal.record("t1", [outcome(Outcome.RELEASED, "a", attempts=Attempts())])
    assert intents(journal) == ["b"]
    assert known(journal) == Known(released=True)


def test_an_open_intent_tells_where_to_look(journal: Journal) -> None:
    begun_at = NOW - timedelta(minutes=7, microseconds=1)
    journal.record("t1", [opened(at=begun_at, provisioner="second")])
    [intent] = journal.open_intents()
    assert (intent.sid, intent.expires_at, intent.begun_at) == ("a", EXPIRY, begun_at)
    assert (intent.provisioner, intent.vm_ref) == ("second", "ref-of-a")
    assert not intent.is_known_conflict


@pytest.mark.parametrize(
    "end", [outcome(Outcome.PENDING, intent=IntentChange.KEPT), outcome(Outcome.FAILED, intent=IntentChange.KEPT)]
)
def test_an_end_that_is_none_keeps_the_intent(journal: Journal, end: Event) -> None:
    journal.record("t1", [opened(), end])
    assert intents(journal) == ["a"]


def test_a_miss_closes_the_intent_at_once(journal: Journal) -> None:
    journal.record("t1", [opened()])
    journal.record("t1", [event(Step.MISS, intent=IntentChange.CLOSED)])
    assert intents(journal) == []
    remembered = known(journal)
    assert remembered is not None
    assert (remembered.intent, remembered.released, remembered.attempts) == (False, False, None)


def test_a_skip_after_a_call_closes_the_intent_or_keeps_it(journal: Journal) -> None:
    journal.record("t1", [opened("a"), opened("b")])
    journal.record(
        "t1",
        [
            event(Step.SKIP, "a", reason="deferred", intent=IntentChange.CLOSED),
            event(Step.SKIP, "b", reason="deferred"),
        ],
    )
    assert intents(journal) == ["b"]


def test_open_intents_come_oldest_first(journal: Journal) -> None:
    for sid, minutes in (("late", 1), ("early", 9), ("middle", 5)):
        journal.record("t1", [opened(sid, at=NOW - timedelta(minutes=minutes))])
    assert intents(journal) == ["early", "middle", "late"]


@pytest.mark.parametrize(
    "later",
    [
        [opened("a")],
        [event(Step.SKIP, reason="held", intent=IntentChange.CLOSED)],
        [opened(), outcome(Outcome.FAILED)],
        [opened(), outcome(Outcome.RELEASED, attempts=Attempts())],
    ],
    ids=["begun again", "left alone", "failed", "released"],
)
def test_a_conflict_stays_until_somebody_has_looked_at_it(journal: Journal, later: list[Event]) -> None:
    """Whatever becomes of the release: nobody has said yet what became of the VM of somebody who pays."""
    found_at = NOW - HOUR
    journal.record("t1", [opened(at=NOW - 2 * HOUR)])
    journal.record("t1", [outcome(Outcome.FAILED, reason=ErrorCode.CONFLICT, intent=IntentChange.KEPT, at=found_at)])
    assert [intent.is_known_conflict for intent in journal.open_intents()] == [True]
    journal.record("t2", later)
    [intent] = journal.open_intents()
    assert (intent.sid, intent.expires_at, intent.is_known_conflict) == ("a", EXPIRY, True)
    assert intent.begun_at in (NOW - 2 * HOUR, found_at)
    journal.acknowledge([intent], NOW, "somebody")
    assert list(journal.open_intents()) == []


def test_conflicts_that_stand_alone_come_after_the_open_intents(journal: Journal) -> None:
    journal.record("t1", [outcome(Outcome.FAILED, "alone", reason=ErrorCode.CONFLICT, at=NOW - 9 * HOUR)])
    journal.record("t1", [opened("begun")])
    found = [(intent.sid, intent.is_known_conflict) for intent in journal.open_intents()]
    assert found == [("begun", False), ("alone", True)]


def test_attempts_are_remembered_and_forgotten(journal: Journal) -> None:
    tried = Attempts(
        failed_ticks=3, pending_ticks=1, next_attempt_at=NOW + WEEK, quarantined=True, last_error="no\nroute ä"
    )
    journal.record("t1", [opened(), outcome(Outcome.FAILED, attempts=tried)])
    remembered = known(journal)
    assert remembered is not None
    assert remembered.attempts == tried
    # What says nothing about attempts changes nothing about them.
    journal.record("t2", [event(Step.SKIP, reason="backoff")])
    assert known(journal) == replace(remembered, skipped="backoff")
    journal.record("t3", [outcome(Outcome.RELEASED, attempts=Attempts())])
    assert known(journal) == Known(released=True)


@pytest.mark.parametrize(
    ("what", "ended"),
    [
        (Outcome.RELEASED, True),
        (Outcome.ALREADY_RELEASED, True),
        (Outcome.PENDING, False),
        (Outcome.FAILED, False),
    ],
)
def test_which_outcomes_are_the_end(journal: Journal, what: Outcome, ended: bool) -> None:  # noqa: FBT001
    journal.record("t1", [outcome(what)])
    remembered = known(journal)
    assert remembered is not None
    assert remembered.released is ended


def test_the_reason_of_the_last_skip_is_remembered(journal: Journal) -> None:
    journal.record("t1", [event(Step.SKIP, reason="backoff")])
    assert known(journal) == Known(skipped="backoff")
    journal.record("t2", [event(Step.SKIP, reason="renewed")])
    assert known(journal) == Known(skipped="renewed")
    journal.record("t3", [opened()])
    assert known(journal) == Known(intent=True, intent_run="t3")


def test_another_expiry_is_another_allocation(journal: Journal) -> None:
    journal.record("t1", [outcome(Outcome.RELEASED)])
    renewed = EXPIRY + timedelta(microseconds=1)
    assert known(journal, expires_at=renewed) is None
    journal.record("t1", [opened(expires_at=None)])
    asked = [allocation(expires_at=each) for each in (EXPIRY, renewed, None)]
    assert journal.known(asked) == {
        ("a", EXPIRY): Known(released=True),
        ("a", None): Known(intent=True, intent_run="t1"),
    }


def test_what_is_known_of_an_expiry_is_known_of_its_own_sid_alone(journal: Journal) -> None:
    later = EXPIRY + WEEK
    journal.record("t1", [opened("a", expires_at=later), opened("b"), opened("c", expires_at=EXPIRY + WEEK / 2)])
    asked = [allocation("a"), allocation("b", later), allocation("c"), allocation("c", later)]
    assert journal.known(asked) == {}


def test_many_are_asked_about_at_once(journal: Journal) -> None:
    sids = [f"vm-{number:04}" for number in range(2_003)]
    journal.record("t1", [opened(sid) for sid in sids[::2]])
    found = journal.known([allocation(sid) for sid in sids])
    assert {sid for sid, _ in found} == set(sids[::2])
    assert set(found.values()) == {Known(intent=True, intent_run="t1")}
    assert journal.known([]) == {}


@pytest.mark.parametrize("sid", ["", "ä\u202e\n", "a' OR 1=1 --", "x" * 100_000, "nul\x00byte"])
def test_any_sid_is_remembered_as_it_is(journal: Journal, sid: str) -> None:
    journal.record("t1", [opened(sid), opened("another")])
    assert known(journal, sid) == Known(intent=True, intent_run="t1")
    assert sorted(intents(journal)) == sorted([sid, "another"])
    assert [each["sid"] for each in journal.events(sid=sid)] == [sid]


# --- belief -----------------------------------------------------------------------------------------------------------


def answers(*given: Answer, fingerprint: str = "print") -> list[GivenAnswer]:
    """What a provisioner answered, one after the other."""
    return [GivenAnswer(fingerprint, answer) for answer in given]


def test_recent_answers_come_newest_first_under_one_fingerprint(journal: Journal) -> None:
    given = [Answer.RELEASED, Answer.MISS, Answer.PROOF, Answer.PENDING]
    for answer in given:
        journal.record("t1", [opened()], answers(answer))
        journal.record("t2", [], answers(Answer.MISS, fingerprint="another"))
    assert list(journal.recent_answers("print", 50)) == given[::-1]
    assert list(journal.recent_answers("print", 2)) == given[:1:-1]
    assert list(journal.recent_answers("another", 50)) == [Answer.MISS] * 4
    assert list(journal.recent_answers("prin", 50)) == []
    # The section may have any name: it is not looked at.
    assert list(journal.recent_answers("default", 50)) == []


def test_answers_that_are_written_together_keep_their_order(journal: Journal) -> None:
    given = [Answer.MISS, Answer.RELEASED, Answer.RELEASED, Answer.PENDING, Answer.MISS]
    journal.begin("t1", [], [opened()], is_held=nobody_is_held, answers=answers(*given[:3]))
    journal.record("t1", [], answers(*given[3:]))
    assert list(journal.recent_answers("print", 50)) == given[::-1]


def test_the_answers_of_one_run(journal: Journal) -> None:
    journal.record("t1", [], answers(Answer.RELEASED, Answer.MISS))
    journal.record("t2", [], answers(Answer.MISS, Answer.MISS) + answers(Answer.PENDING, fingerprint="another"))
    assert list(journal.recent_answers("print", 50, "t1")) == [Answer.MISS, Answer.RELEASED]
    assert list(journal.recent_answers("print", 50, "t2")) == [Answer.MISS, Answer.MISS]
    assert list(journal.recent_answers("print", 50, "t3")) == []
    assert journal.kinds_of_answers("print", "t1") == {Answer.RELEASED, Answer.MISS}
    assert journal.kinds_of_answers("print", "t2") == {Answer.MISS}
    assert journal.kinds_of_answers("another", "t1") == frozenset()


@pytest.mark.parametrize("answer", Answer)
def test_what_earns_credit(journal: Journal, answer: Answer) -> None:
    journal.open_tick(start())
    journal.record("t1", [outcome(Outcome.RELEASED)], answers(answer))
    assert journal.has_credit("print") is (answer in (Answer.RELEASED, Answer.PROOF))
    assert not journal.has_credit("another")
    assert not journal.has_credit("default")


def test_who_has_credit_since_when(journal: Journal) -> None:
    assert list(journal.credits()) == []
    for number, fingerprint in enumerate(("print", "another", "print")):
        at = NOW + number * HOUR
        journal.open_tick(start(f"t{number}", at))
        journal.record(f"t{number}", [], answers(Answer.PROOF, fingerprint=fingerprint))
    assert list(journal.credits()) == [("another", NOW + HOUR), ("print", NOW)]


def test_credit_is_for_ever(journal: Journal) -> None:
    journal.open_tick(start())
    journal.record("t1", [], answers(Answer.RELEASED))
    for number in range(2):
        journal.open_tick(start(f"later-{number}", NOW + WEEK))
        journal.record(f"later-{number}", [], answers(*[Answer.MISS] * 150))
        journal.prune(NOW + 9 * WEEK)
    assert journal.has_credit("print")
    assert Answer.RELEASED not in journal.recent_answers("print", 1000)


def test_pruning_keeps_as_many_answers_as_belief_looks_back_on(journal: Journal) -> None:
    for fingerprint in ("print", "another"):
        journal.record("t1", [], answers(*[Answer.RELEASED] * 30, *[Answer.MISS] * 300, fingerprint=fingerprint))
    journal.record("t1", [], answers(Answer.PENDING, fingerprint="seldom"))
    journal.prune(NOW - WEEK)
    assert set(journal.recent_answers("print", 1000)) == {Answer.MISS}
    assert 50 <= len(journal.recent_answers("another", 1000)) <= 300
    assert list(journal.recent_answers("seldom", 50)) == [Answer.PENDING]


def test_the_answers_of_a_run_that_left_something_open_are_kept(journal: Journal) -> None:
    """Whether a miss may be expected there is judged by them, however long its row was held."""
    journal.record("killed", [opened()], answers(*[Answer.MISS] * 5))
    journal.record("t2", [], answers(*[Answer.RELEASED] * 500))
    journal.prune(NOW - WEEK)
    assert list(journal.recent_answers("print", 50, "killed")) == [Answer.MISS] * 5
    journal.record("t2", [outcome(Outcome.RELEASED)])
    journal.prune(NOW - WEEK)
    assert list(journal.recent_answers("print", 50, "killed")) == []


def test_which_misses_a_run_has_written_down(journal: Journal) -> None:
    sids = [f"vm-{number:04}" for number in range(1_203)]
    journal.record("t1", [event(Step.MISS, sid) for sid in sids[::400]] + [opened("a"), outcome(Outcome.FAILED, "b")])
    journal.record("t2", [event(Step.MISS, "a")])
    assert journal.has_missed("t1", [*sids, "a", "b"]) == set(sids[::400])
    assert journal.has_missed("t2", ["a", "b"]) == {"a"}
    assert journal.has_missed("t3", ["a", "b"]) == frozenset()
    assert journal.has_missed("t1", []) == frozenset()


@pytest.mark.parametrize("answer", [Answer.RELEASED, Answer.PENDING])
def test_what_was_accepted_is_remembered_with_the_fingerprint_of_then(journal: Journal, answer: Answer) -> None:
    accepted = outcome(Outcome.PENDING, intent=IntentChange.KEPT, accepted=answer, fingerprint="print")
    journal.record("t1", [opened(), accepted])
    remembered = known(journal)
    assert remembered is not None
    assert (remembered.accepted, remembered.accepted_under) == (answer, "print")
    [intent] = journal.open_intents()
    assert intent.accepted is answer
    # What says nothing about it leaves it as it was; a further call, too.
    journal.record("t2", [opened(fingerprint="another"), outcome(Outcome.FAILED, intent=IntentChange.KEPT)])
    remembered = known(journal)
    assert remembered is not None
    assert (remembered.accepted, remembered.accepted_under) == (answer, "print")
    # With another expiry it is another allocation.
    assert known(journal, expires_at=EXPIRY + WEEK) is None


def test_an_intent_keeps_the_run_that_first_left_it_open(journal: Journal) -> None:
    for tick, minutes in (("t1", 9), ("t2", 5), ("t3", 1)):
        journal.open_tick(start(tick))
        journal.record(tick, [opened(at=NOW - timedelta(minutes=minutes), fingerprint=f"of-{tick}")])
    remembered = known(journal)
    assert remembered is not None
    assert (remembered.intent_run, remembered.intent_under, remembered.is_orphaned) == ("t1", "of-t1", True)
    # Who called last is known besides.
    [intent] = journal.open_intents()
    assert (intent.run, intent.begun_at) == ("t3", NOW - timedelta(minutes=9))
    journal.record("t3", [outcome(Outcome.FAILED)])
    remembered = known(journal)
    assert remembered is not None
    assert (remembered.intent, remembered.intent_run, remembered.intent_under) == (False, None, None)
    # One that was closed is begun anew.
    journal.record("t3", [opened()])
    remembered = known(journal)
    assert remembered is not None
    assert (remembered.intent_run, remembered.is_orphaned) == ("t3", False)


@pytest.mark.parametrize(
    ("report", "is_orphaned"),
    [
        (None, True),
        ({"status": "partial", "exit_code": 3}, False),
        ({"status": "stopped", "exit_code": 143}, False),
        ({"error": "unusable", "exit_code": 5, "message": "locked"}, False),
    ],
)
def test_only_a_run_that_was_killed_leaves_orphans(
    journal: Journal, report: dict[str, Any] | None, *, is_orphaned: bool
) -> None:
    journal.open_tick(start("first"))
    journal.record("first", [opened()])
    if report is not None:
        journal.close_tick("first", NOW, report)
    journal.open_tick(start("second"))
    remembered = known(journal)
    assert remembered is not None
    assert (remembered.intent, remembered.is_orphaned) == (True, is_orphaned)
    # A later run that is killed at the same row changes nothing.
    journal.record("second", [opened()])
    journal.open_tick(start("third"))
    remembered = known(journal)
    assert remembered is not None
    assert remembered.is_orphaned is is_orphaned


# --- what was released ------------------------------------------------------------------------------------------------


def test_recent_releases_come_newest_first_and_each_sid_once(journal: Journal) -> None:
    renewed = EXPIRY + WEEK
    journal.record("t1", [outcome(Outcome.RELEASED, "a"), outcome(Outcome.ALREADY_RELEASED, "b")])
    journal.record("t2", [outcome(Outcome.FAILED, "c"), outcome(Outcome.PENDING, "d"), opened("e")])
    journal.record("t3", [event(Step.SKIP, "f", outcome=Outcome.SKIPPED)])
    journal.record("t4", [outcome(Outcome.RELEASED, "a", expires_at=renewed)])
    journal.record("t5", [outcome(Outcome.RELEASED, "g", expires_at=None)])
    assert list(journal.recent_releases(100)) == [("g", None), ("a", renewed), ("b", EXPIRY)]
    # The limit counts releases.
    assert list(journal.recent_releases(2)) == [("g", None), ("a", renewed)]


# --- holds ------------------------------------------------------------------------------------------------------------


def test_a_hold_is_found_by_its_sid(journal: Journal) -> None:
    made = held("ä\u202e\n", at=NOW + MICROSECOND, until=NOW + WEEK + MICROSECOND, reason="why ' not\n")
    assert not journal.hold(made)
    assert journal.hold_of("ä\u202e\n") == made
    assert journal.hold_of("a") is None
    assert list(journal.holds(NOW)) == [made]


def test_a_hold_is_known_with_every_expiry_of_its_sid(journal: Journal) -> None:
    made = held()
    journal.hold(made)
    journal.record("t1", [opened()])
    asked = [allocation("a", each) for each in (EXPIRY, EXPIRY + WEEK, None)] + [allocation("b")]
    assert journal.known(asked) == {
        ("a", EXPIRY): Known(intent=True, intent_run="t1", hold=made),
        ("a", EXPIRY + WEEK): Known(hold=made),
        ("a", None): Known(hold=made),
    }


def test_the_newest_hold_counts_whatever_its_clock_said(journal: Journal) -> None:
    journal.hold(held(at=NOW, reason="first"))
    journal.hold(held(at=NOW - HOUR, reason="second", until=NOW + HOUR))
    found = journal.hold_of("a")
    assert found == held(at=NOW - HOUR, reason="second", until=NOW + HOUR)
    remembered = known(journal)
    assert remembered is not None
    assert remembered.hold == found
    assert list(journal.holds(NOW)) == [found]


def test_ending_a_hold(journal: Journal) -> None:
    made = held(until=NOW + WEEK)
    journal.hold(made)
    assert not journal.end_holds(["a"], NOW + HOUR, "somebody")
    ended = replace(made, ended_at=NOW + HOUR)
    assert journal.hold_of("a") == ended
    assert ended.ends_at == NOW + HOUR
    remembered = known(journal)
    assert remembered is not None
    assert remembered.hold == ended
    # There is none to be ended any more.
    assert list(journal.end_holds(["a"], NOW + 2 * HOUR, "somebody")) == ["a"]
    assert journal.hold_of("a") == ended


@pytest.mark.parametrize(
    ("at", "is_ended"), [(NOW + WEEK - MICROSECOND, True), (NOW + WEEK, False), (NOW + 2 * WEEK, False)]
)
def test_a_hold_that_has_ended_by_itself_cannot_be_ended(
    journal: Journal,
    at: datetime,
    is_ended: bool,  # noqa: FBT001
) -> None:
    journal.hold(held(until=NOW + WEEK))
    assert (not journal.end_holds(["a"], at, "somebody")) is is_ended


def test_ending_a_hold_that_never_was(journal: Journal) -> None:
    journal.hold(held("b"))
    assert list(journal.end_holds(["a"], NOW, "somebody")) == ["a"]
    assert list(journal.events(sid="a")) == []
    assert journal.hold_of("b") == held("b")


def test_which_holds_had_not_ended_by_then(journal: Journal) -> None:
    journal.hold(held("open"))
    journal.hold(held("until", until=NOW + WEEK))
    journal.hold(held("far", until=datetime(9999, 12, 31, tzinfo=UTC)))
    journal.hold(held("ended", until=NOW + WEEK))
    journal.end_holds(["ended"], NOW + HOUR, "somebody")
    journal.hold(held("again"))
    journal.end_holds(["again"], NOW, "somebody")
    journal.hold(held("again", at=NOW + MICROSECOND))

    def sids(ended_after: datetime) -> set[str]:
        return {hold.sid for hold in journal.holds(ended_after)}

    assert sids(NOW) == {"open", "until", "far", "ended", "again"}
    assert sids(NOW + HOUR - MICROSECOND) == {"open", "until", "far", "ended", "again"}
    assert sids(NOW + HOUR) == {"open", "until", "far", "again"}
    assert sids(NOW + WEEK - MICROSECOND) == {"open", "until", "far", "again"}
    assert sids(NOW + WEEK) == {"open", "far", "again"}


def test_what_an_operator_did_is_in_the_history_and_belongs_to_no_tick(journal: Journal) -> None:
    journal.hold(held(until=NOW + WEEK, reason="fraud?"))
    journal.hold(held(at=NOW + HOUR, reason="fraud!"))
    journal.end_holds(["a"], NOW + 2 * HOUR, "somebody")
    shown = [(each["event"], each["reason"], each["evidence"], each["tick"]) for each in journal.events(sid="a")]
    assert shown == [
        ("hold", "fraud?", "by root (uid 0), until 2026-12-08T12:00:00Z", None),
        ("hold", "fraud!", "by root (uid 0)", None),
        ("unhold", None, "by somebody", None),
    ]


def test_a_hold_says_when_a_running_tick_has_begun_the_release(journal: Journal) -> None:
    journal.open_tick(start())
    assert not journal.hold(held("b"))
    journal.record("t1", [opened(at=NOW + HOUR)])
    assert list(journal.hold(held(at=NOW + 2 * HOUR))) == [Begun("a", NOW + HOUR, "t1")]
    # It is made all the same.
    assert journal.hold_of("a") == held(at=NOW + 2 * HOUR)


def test_a_hold_says_when_a_running_release_has_begun(journal: Journal) -> None:
    journal.open_tick(start(kind=TickKind.RELEASE))
    journal.record("t1", [opened(expires_at=None, at=NOW + HOUR)])
    assert list(journal.hold(held())) == [Begun("a", NOW + HOUR, "t1")]


def test_a_hold_is_not_too_late_for_what_has_its_end(journal: Journal) -> None:
    journal.open_tick(start())
    journal.record("t1", [opened(), outcome(Outcome.FAILED)])
    assert not journal.hold(held())


def test_a_hold_is_not_too_late_for_what_an_earlier_tick_began(journal: Journal) -> None:
    journal.open_tick(start("dead"))
    journal.record("dead", [opened()])
    journal.open_tick(start("running", NOW + HOUR))
    assert not journal.hold(held())
    journal.close_tick("running", NOW + HOUR, {"status": "success", "exit_code": 0})
    assert not journal.hold(held())


def test_holds_are_kept_for_ever(journal: Journal) -> None:
    journal.hold(held())
    journal.prune(NOW + 99 * WEEK)
    assert journal.hold_of("a") == held()
    assert list(journal.events(sid="a")) == []


def test_holds_of_many_are_known_at_once(journal: Journal) -> None:
    sids = [f"vm-{number:04}" for number in range(1_203)]
    for sid in sids[:: len(sids) // 3]:
        journal.hold(held(sid))
    found = journal.known([allocation(sid) for sid in sids])
    assert {sid for sid, _ in found} == set(sids[:: len(sids) // 3])


# --- holds of many ----------------------------------------------------------------------------------------------------


def of_many(provisioner: str | None = None, until: datetime | None = NOW + WEEK, at: datetime = NOW) -> Hold:
    """A hold of all that a provisioner serves, or of everything."""
    return Hold("", at, until, "because", "root (uid 0)", provisioner=provisioner)


def at_second(sid: str) -> Allocation:
    """One that another provisioner serves."""
    return made_allocation(sid, provisioner="second", vm_ref=f"ref-of-{sid}")


def test_a_hold_of_many_is_known_with_all_that_it_is_of(journal: Journal) -> None:
    journal.hold(of_many("second"))
    rows = [allocation("a"), at_second("b")]
    assert journal.holds_of(rows) == {"b": of_many("second")}
    assert {sid: found.hold for (sid, _), found in journal.known(rows).items()} == {"b": of_many("second")}
    journal.hold(of_many(until=NOW + HOUR))
    assert journal.holds_of(rows) == {"a": of_many(until=NOW + HOUR), "b": of_many("second")}
    # None of them is one of the sid itself.
    assert journal.hold_of("a") is None
    assert set(journal.holds(NOW)) == {of_many("second"), of_many(until=NOW + HOUR)}


@pytest.mark.parametrize("order", list(permutations(("own", "second", "all"))))
@pytest.mark.parametrize("last", ["own", "second", "all", "own, without an end"])
def test_of_those_that_apply_the_one_that_ends_last_counts(journal: Journal, order: tuple[str, ...], last: str) -> None:
    holds = {
        "own": held("b", until=NOW + HOUR),
        "second": of_many("second", NOW + HOUR),
        "all": of_many(None, NOW + HOUR),
    }
    name, _, is_endless = last.partition(", ")
    holds[name] = replace(holds[name], until=None if is_endless else NOW + 2 * HOUR)
    for each in order:
        journal.hold(holds[each])
    assert journal.holds_of([at_second("b")]) == {"b": holds[name]}
    assert journal.begin("t1", [], [opened("b", provisioner="second")], is_held=lambda hold: hold == holds[name]) == {
        "b"
    }


def test_a_provisioner_may_have_the_name_of_a_sid(journal: Journal) -> None:
    journal.hold(held("second"))
    assert journal.holds_of([at_second("b")]) == {}
    journal.hold(of_many("second"))
    assert not journal.end_holds([""], NOW, "somebody", provisioner="second")
    assert journal.hold_of("second") == held("second")


def test_what_is_held_by_a_hold_of_many_is_not_begun(journal: Journal) -> None:
    journal.hold(of_many("second"))
    intents_of_two = [opened("a"), opened("b", provisioner="second")]
    assert journal.begin("t1", [], intents_of_two, is_held=everybody_is_held) == {"b"}
    journal.hold(of_many())
    assert journal.begin("t1", [], intents_of_two, is_held=everybody_is_held) == {"a", "b"}


def test_a_hold_of_many_names_all_that_it_is_too_late_for(journal: Journal) -> None:
    journal.open_tick(start())
    journal.record("t1", [opened("a"), opened("b", provisioner="second", at=NOW + HOUR), opened("done")])
    journal.record("t1", [outcome(Outcome.RELEASED, "done")])
    assert [begun.sid for begun in journal.hold(of_many())] == ["a", "b"]
    assert list(journal.hold(of_many("second"))) == [Begun("b", NOW + HOUR, "t1")]
    assert list(journal.hold(of_many("third"))) == []


def test_many_sids_are_held_and_unheld_together_or_not_at_all(journal: Journal) -> None:
    made_for = MadeFor("default", "ref", None, "ann")
    holds = [replace(held(sid), made_for=made_for) for sid in "abc"]
    journal.hold(*holds)
    assert list(journal.holds(NOW)) == holds
    assert list(journal.end_holds(["a", "x", "b", "y"], NOW + HOUR, "somebody")) == ["x", "y"]
    assert list(journal.holds(NOW + HOUR)) == holds
    assert list(journal.end_holds(["a", "c"], NOW + HOUR, "somebody")) == []
    assert [hold.sid for hold in journal.holds(NOW + HOUR)] == ["b"]


def test_a_hold_that_cannot_be_written_leaves_none_of_them(journal: Journal) -> None:
    with pytest.raises(UnicodeEncodeError):
        journal.hold(held("a"), held("b", reason="\ud800"))
    assert list(journal.holds(NOW)) == []


def test_ending_the_hold_of_everything_leaves_the_others(journal: Journal) -> None:
    journal.hold(held("a"), of_many("second"), of_many())
    assert not journal.end_holds([""], NOW, "somebody")
    assert [hold.scope for hold in journal.holds(NOW)] == ["sid", "provisioner"]
    assert list(journal.end_holds([""], NOW, "somebody")) == [""]
    assert list(journal.end_holds([""], NOW, "somebody", provisioner="third")) == [""]


def test_a_hold_of_many_is_in_the_history_of_no_sid(journal: Journal) -> None:
    journal.hold(of_many())
    journal.hold(of_many("second", None))
    journal.end_holds([""], NOW, "somebody", provisioner="second")
    assert [(each["sid"], each["event"], each["evidence"]) for each in journal.events()] == [
        (None, "hold", "everything, by root (uid 0), until 2026-12-08T12:00:00Z"),
        (None, "hold", "everything of second, by root (uid 0)"),
        (None, "unhold", "everything of second, by somebody"),
    ]


# --- beginning --------------------------------------------------------------------------------------------------------


def test_beginning_writes_events_and_intents(journal: Journal) -> None:
    journal.record("t1", [opened("z")])
    begun = journal.begin(
        "t1",
        [outcome(Outcome.RELEASED, "z")],
        [opened("a"), opened("b")],
        is_held=everybody_is_held,
    )
    assert begun == frozenset()
    assert intents(journal) == ["a", "b"]
    assert known(journal, "z") == Known(released=True)
    assert [each["event"] for each in journal.events()] == ["intent", "outcome", "intent", "intent"]


def test_what_is_held_is_not_begun(journal: Journal) -> None:
    journal.hold(held("a"))
    journal.hold(held("c"))
    begun = journal.begin("t1", [], [opened(sid) for sid in "abcd"], is_held=lambda hold: hold.sid in ("a", "d"))
    assert begun == {"a"}
    assert intents(journal) == ["b", "c", "d"]
    assert [each["event"] for each in journal.events(sid="a")] == ["hold"]


def test_beginning_asks_about_the_newest_hold_alone(journal: Journal) -> None:
    journal.hold(held(reason="first"))
    journal.end_holds(["a"], NOW, "somebody")
    journal.hold(held(reason="second", until=NOW + HOUR))
    asked: list[Hold] = []

    def is_held(hold: Hold) -> bool:
        asked.append(hold)
        return False

    assert journal.begin("t1", [], [opened()], is_held=is_held) == frozenset()
    assert asked == [held(reason="second", until=NOW + HOUR)]


def test_a_beginning_that_breaks_writes_nothing(journal: Journal) -> None:
    def is_held(_: Hold) -> bool:
        raise ZeroDivisionError

    journal.hold(held("b"))
    with pytest.raises(ZeroDivisionError):
        journal.begin("t1", [outcome(Outcome.FAILED, "z")], [opened("b")], is_held=is_held)
    assert (intents(journal), known(journal, "z")) == ([], None)
    assert journal.begin("t1", [], [opened("b")], is_held=nobody_is_held) == frozenset()
    assert intents(journal) == ["b"]


# --- an operator's word -----------------------------------------------------------------------------------------------


def failed(sid: str, **fields: Any) -> Event:
    """One that failed again and again, and waits."""
    tried = Attempts(
        failed_ticks=5, pending_ticks=2, next_attempt_at=NOW + WEEK, quarantined=True, last_error="no route"
    )
    return outcome(Outcome.FAILED, sid, **{"attempts": tried, **fields})


def test_failures_of_one_sid_are_forgotten_and_that_it_was_tried_is_not(journal: Journal) -> None:
    journal.record("t1", [failed("a"), failed("a", expires_at=EXPIRY + WEEK), failed("b")])
    assert list(journal.forget_failures(NOW, "somebody", sid="a", provisioner=None)) == ["a"]
    for expires_at in (EXPIRY, EXPIRY + WEEK):
        assert known(journal, "a", expires_at) == Known(attempts=Attempts())
    other = known(journal, "b")
    assert other is not None
    assert other.attempts is not None
    assert other.attempts.quarantined
    [shown] = [each for each in journal.events(sid="a") if each["event"] == "retry"]
    assert (shown["evidence"], shown["reason"], shown["tick"]) == ("by somebody", "failures forgotten", None)


def test_failures_of_one_provisioner_are_forgotten(journal: Journal) -> None:
    journal.record("t1", [failed("a"), failed("b", provisioner="second"), failed("c", provisioner="second")])
    assert list(journal.forget_failures(NOW, "somebody", sid=None, provisioner="second")) == ["b", "c"]
    remembered = known(journal, "a")
    assert remembered is not None
    assert remembered.attempts is not None
    assert remembered.attempts.failed_ticks == 5


def test_all_failures_are_forgotten_and_only_they(journal: Journal) -> None:
    journal.record("t1", [failed("b"), failed("a"), outcome(Outcome.RELEASED, "c", attempts=Attempts())])
    journal.record("t1", [outcome(Outcome.PENDING, "d", attempts=Attempts(pending_ticks=1))])
    assert list(journal.forget_failures(NOW, "somebody", sid=None, provisioner=None)) == ["a", "b", "d"]
    assert list(journal.forget_failures(NOW, "somebody", sid=None, provisioner=None)) == []
    assert known(journal, "c") == Known(released=True)
    assert [each["event"] for each in journal.events(sid="c")] == ["outcome"]


def test_forgetting_failures_leaves_open_what_is_open(journal: Journal) -> None:
    journal.record("t1", [opened(), failed("a", intent=IntentChange.KEPT)])
    journal.forget_failures(NOW, "somebody", sid="a", provisioner=None)
    assert intents(journal) == ["a"]


def conflict(journal: Journal, sid: str = "a", expires_at: datetime = EXPIRY) -> OpenIntent:
    """An open intent that a tick has found to be in conflict."""
    fields: dict[str, Any] = {"expires_at": expires_at}
    journal.record(
        "t1",
        [
            opened(sid, **fields),
            outcome(Outcome.FAILED, sid, reason=ErrorCode.CONFLICT, intent=IntentChange.KEPT, **fields),
        ],
    )
    return next(each for each in journal.open_intents() if (each.sid, each.expires_at) == (sid, expires_at))


def test_a_conflict_that_is_acknowledged_is_closed(journal: Journal) -> None:
    seen = conflict(journal)
    conflict(journal, expires_at=EXPIRY + WEEK)
    conflict(journal, "b")
    journal.acknowledge([seen], NOW + HOUR, "somebody")
    assert [(each.sid, each.expires_at) for each in journal.open_intents()] == [("a", EXPIRY + WEEK), ("b", EXPIRY)]
    [shown] = [each for each in journal.events(sid="a") if each["event"] == "retry"]
    assert (shown["reason"], shown["expires_at"]) == ("conflict acknowledged", "2026-12-01T11:00:00.000000Z")
    remembered = known(journal)
    assert remembered is not None
    assert (remembered.intent, remembered.skipped) == (False, None)


@pytest.mark.parametrize(
    "later", [HOUR, timedelta(0), -HOUR], ids=["later", "at once", "with a clock that was put back"]
)
def test_what_was_begun_after_the_conflict_is_not_closed_with_it(journal: Journal, later: timedelta) -> None:
    """A call is under way whose end nobody can have looked at: by the order of things, whatever the clock says."""
    seen = conflict(journal)
    journal.open_tick(start("order", kind=TickKind.RELEASE))
    journal.record("order", [opened(at=NOW + later)])
    journal.acknowledge([replace(seen, run="order")], NOW, "somebody")
    [left] = journal.open_intents()
    assert (left.sid, left.is_known_conflict, left.run) == ("a", False, "order")


@pytest.mark.parametrize("later", [HOUR, timedelta(0), -HOUR])
def test_what_was_begun_before_the_conflict_is_closed_with_it(journal: Journal, later: timedelta) -> None:
    journal.open_tick(start("order", kind=TickKind.RELEASE))
    journal.record("order", [opened(at=NOW)])
    journal.record(
        "order", [outcome(Outcome.FAILED, reason=ErrorCode.CONFLICT, intent=IntentChange.KEPT, at=NOW + later)]
    )
    [seen] = journal.open_intents()
    journal.acknowledge([seen], NOW, "somebody")
    assert list(journal.open_intents()) == []


def test_what_is_begun_for_another_vm_is_not_closed_with_the_conflict_of_the_first(journal: Journal) -> None:
    """The conflict is found by the very event that begins the new release, at the same instant."""
    journal.record("t1", [opened()])
    journal.open_tick(start("order", kind=TickKind.RELEASE))
    journal.record("order", [opened(vm_ref="another")])
    [seen] = journal.open_intents()
    assert seen.is_known_conflict
    journal.acknowledge([seen], NOW, "somebody")
    [left] = journal.open_intents()
    assert (left.vm_ref, left.is_known_conflict, left.run) == ("another", False, "order")


# --- history ----------------------------------------------------------------------------------------------------------


def test_an_event_as_history_shows_it(journal: Journal) -> None:
    journal.open_tick(start())
    written = outcome(
        Outcome.FAILED,
        reason=ErrorCode.FAILED,
        evidence="e",
        error="boom",
        duration_ms=12,
        accepted=Answer.RELEASED,
        fingerprint="print",
    )
    journal.record("t1", [written])
    [shown] = journal.events()
    assert dict(shown) == {
        "at": "2026-12-01T12:00:00.000000Z",
        "tick": "t1",
        "sid": "a",
        "event": "outcome",
        "outcome": "failed",
        "reason": "failed",
        "evidence": "e",
        "expires_at": "2026-12-01T11:00:00.000000Z",
        "error": "boom",
        "duration_ms": 12,
        "now": "2026-12-01T12:00:00.000000Z",
    }


def test_events_by_sid_and_by_tick_oldest_first(journal: Journal) -> None:
    for tick in ("t1", "t2"):
        journal.open_tick(start(tick))
        journal.record(tick, [opened(sid) for sid in ("a", "b")])

    def found(**which: str) -> list[tuple[str, str]]:
        return [(each["tick"], each["sid"]) for each in journal.events(**which)]

    assert found() == [("t1", "a"), ("t1", "b"), ("t2", "a"), ("t2", "b")]
    assert found(sid="a") == [("t1", "a"), ("t2", "a")]
    assert found(tick="t2") == [("t2", "a"), ("t2", "b")]
    assert found(sid="b", tick="t1") == [("t1", "b")]
    assert found(sid="c") == []


def test_events_of_a_tick_that_is_forgotten_are_shown_without_its_now(journal: Journal) -> None:
    journal.record("forgotten", [opened()])
    assert [each["now"] for each in journal.events()] == [None]


def test_what_is_recorded_together_is_recorded_in_order(journal: Journal) -> None:
    journal.record("t1", [outcome(Outcome.FAILED), opened(), outcome(Outcome.RELEASED)])
    assert [each["event"] for each in journal.events()] == ["outcome", "intent", "outcome"]
    assert known(journal) == Known(released=True)


# --- forgetting -------------------------------------------------------------------------------------------------------


def test_pruning_forgets_old_ticks_and_events_and_nothing_that_decides(journal: Journal) -> None:
    tried = Attempts(failed_ticks=2, next_attempt_at=NOW, last_error="boom")
    for number in range(6):
        journal.open_tick(start(f"t{number}", NOW + number * WEEK))
        journal.record(f"t{number}", [opened(f"vm-{number}", at=NOW + number * WEEK)])
    journal.note_plan("t1", b"", is_admitted=True)
    journal.record("t0", [outcome(Outcome.RELEASED, "released"), outcome(Outcome.FAILED, "failed", attempts=tried)])
    journal.prune(NOW + 3 * WEEK)
    # The last admitted one stays, because the guard compares with it.
    assert [past.start.tick for past in journal.ticks()] == ["t5", "t4", "t3", "t1"]
    assert [each["sid"] for each in journal.events()] == ["vm-3", "vm-4", "vm-5"]
    assert len(intents(journal)) == 6
    assert known(journal, "released") == Known(released=True)
    assert known(journal, "failed") == Known(attempts=tried)


def test_pruning_never_forgets_the_newest_tick(journal: Journal) -> None:
    journal.open_tick(start())
    journal.prune(NOW + 99 * WEEK)
    past = journal.newest_tick()
    assert past is not None
    assert past.start.tick == "t1"


def closed(journal: Journal, tick: str, status: str, exit_code: int, **fields: Any) -> None:
    """A tick from its start to this end."""
    journal.open_tick(start(tick, **fields))
    journal.close_tick(tick, NOW, {"status": status, "exit_code": exit_code})


def test_the_last_tick_that_ran_through_and_the_last_that_counted(journal: Journal) -> None:
    assert (journal.last_swept_tick(), journal.last_counted_tick()) == (None, None)
    closed(journal, "well", "success", 0)
    closed(journal, "nearly", "partial", 3)
    closed(journal, "down", "partial", 8)
    closed(journal, "refused", "refused", 7)
    closed(journal, "an order", "success", 0, kind=TickKind.RELEASE)
    journal.open_tick(start("unusable"))
    journal.close_tick("unusable", NOW, {"exit_code": 5, "error": "unusable", "message": "locked"})
    journal.open_tick(start("running"))
    swept, counted = journal.last_swept_tick(), journal.last_counted_tick()
    assert swept is not None
    assert counted is not None
    assert (swept.start.tick, counted.start.tick) == ("nearly", "refused")


def test_a_stopped_tick_counted(journal: Journal) -> None:
    closed(journal, "stopped", "stopped", 143)
    counted = journal.last_counted_tick()
    assert counted is not None
    assert counted.start.tick == "stopped"
    assert journal.last_swept_tick() is None


def test_all_that_is_remembered_of_a_sid_whatever_its_expiry(journal: Journal) -> None:
    failed = Attempts(2, 0, NOW, quarantined=True, last_error="broken")
    later = EXPIRY + WEEK
    journal.record("t1", [outcome(Outcome.RELEASED, expires_at=None), outcome(Outcome.RELEASED, "b")])
    journal.record("t2", [outcome(Outcome.FAILED, expires_at=later, attempts=failed), opened()])
    assert journal.remembered("a") == [
        (EXPIRY, Known(intent=True, intent_run="t2")),
        (later, Known(attempts=failed)),
        (None, Known(released=True)),
    ]
    assert list(journal.remembered("nobody")) == []


# --- one that is not there --------------------------------------------------------------------------------------------


def test_the_empty_journal_answers_like_a_new_one() -> None:
    journal: JournalReader = EmptyJournal()
    assert (journal.newest_tick(), journal.last_admitted_tick(), journal.known([allocation()])) == (None, None, {})
    assert (list(journal.ticks()), list(journal.ticks("t1")), list(journal.open_intents())) == ([], [], [])
    assert (list(journal.events()), list(journal.events(sid="a", tick="t1"))) == ([], [])
    assert (journal.last_swept_tick(), journal.last_counted_tick(), journal.remembered("a")) == (None, None, ())
    journal.close()
