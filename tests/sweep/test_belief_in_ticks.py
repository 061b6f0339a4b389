"""What a tick does with "not found": who is believed, what a killed run may expect, what an operator vouches for."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from autorelease.errors import ExitCode, ProvisionerDown, ProvisionerError
from autorelease.journal import Event, GivenAnswer, IntentChange, Step, TickKind
from autorelease.model import Allocation, Answer, Outcome, Release, Result
from autorelease.provisioners.ledger import LedgerProvisioner
from autorelease.provisioners.memory import MemoryProvisioner, ProbingMemory
from autorelease.rules.guard import Limits
from tests.support.engine import EXPIRED, RENEWED, Engine, Ticked
from tests.support.engine import Answer as Scripted

PENDING = Release(Result.PENDING, evidence="202")
RELEASED = Release(Result.RELEASED, evidence="204")
MISS = Release(Result.ALREADY_RELEASED, evidence="404", proof=False)
PRINT = "print"
NOTHING: Mapping[str, Scripted] = {}


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """An empty ledger and an empty journal; every call is made once."""
    made = Engine(tmp_path)
    made.configure(attempts=1)
    return made


class Peer:
    """Says of each sid what the test wants, MISS where it wants nothing; known by its fingerprint."""

    def __init__(self, answers: Mapping[str, Scripted | Sequence[Scripted]] = NOTHING, fingerprint: str | None = PRINT):
        self.calls: list[str] = []
        self._answers = {sid: list(each) if isinstance(each, Sequence) else [each] for sid, each in answers.items()}
        self._fingerprint = fingerprint

    def preflight(self) -> None:
        """Always reachable."""

    def fingerprint(self) -> str | None:
        """What it is known by."""
        return self._fingerprint

    def release(self, allocation: Allocation) -> Release:
        """The next answer for this sid."""
        self.calls.append(allocation.sid)
        waiting = self._answers.get(allocation.sid)
        answer = waiting.pop(0) if waiting else MISS
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def close(self) -> None:
        """Nothing to give back."""


class Watched(ProbingMemory):
    """Writes down whom it is asked for. before: called with each of them; it may raise, or take its time."""

    def __init__(
        self, vms: Iterable[str], before: Callable[[Allocation], object] = lambda _: None, fingerprint: str = PRINT
    ) -> None:
        super().__init__(vms, fingerprint=fingerprint)
        self.asked: list[str] = []
        self._before_exists = before

    def exists(self, allocation: Allocation) -> bool:
        """Whether this VM is in the set."""
        self.asked.append(allocation.sid)
        self._before_exists(allocation)
        return super().exists(allocation)


def timed_out() -> ProvisionerError:
    """A call that came to no end within its time."""
    return ProvisionerError("took too long", timed_out=True)


def killed_by_signal() -> ProvisionerError:
    """A program that was killed: nobody knows how far it came."""
    return ProvisionerError("killed by SIGKILL", end_unknown=True)


def all_released(*sids: str) -> Peer:
    """An honest provisioner."""
    return Peer(dict.fromkeys(sids, RELEASED))


def earn_credit(engine: Engine, fingerprint: str = PRINT) -> None:
    """A release under this fingerprint, which is known for one from then on."""
    engine.add(f"credit-{fingerprint}")
    ticked = engine.tick(Peer({f"credit-{fingerprint}": RELEASED}, fingerprint))
    assert ticked.ends()[f"credit-{fingerprint}"] == "released"
    engine.later()


def is_disbelieved(engine: Engine, ticked: Ticked, *sids: str, charged_before: int = 0) -> None:
    """None of these was believed, nor charged again, nor stamped; the tick says so."""
    assert ticked.code == ExitCode.PROVISIONER_DOWN
    assert {sid: ticked.ends()[sid] for sid in sids} == dict.fromkeys(sids, "unproven")
    assert not engine.place.released() & set(sids)
    assert {engine.failed_ticks()[sid] for sid in sids} <= {charged_before}
    assert ticked.report.unproven == engine.past_ticks()[-1]["confirmable"] == len(sids)


def named(number: int, word: str = "vm") -> list[str]:
    """So many sids."""
    return [f"{word}-{each}" for each in range(number)]


# --- belief belongs to a fingerprint (F2) -----------------------------------------------------------------------------


def test_what_a_stamp_says_of_vms_earns_nothing(engine: Engine) -> None:
    engine.add(*named(30, "stamped"))
    assert engine.tick(LedgerProvisioner(), immediate=["default"]).code == ExitCode.OK
    engine.later()
    living = named(25)
    engine.add(*living)
    is_disbelieved(engine, engine.tick(Peer()), *living)


@pytest.mark.parametrize("fingerprint", ["another", "print ", None])
def test_what_was_earned_under_one_fingerprint_is_nothing_under_another(
    engine: Engine, fingerprint: str | None
) -> None:
    earn_credit(engine)
    engine.add("accepted", "a", "b")
    ticked = engine.tick(Peer({"accepted": PENDING}, fingerprint))
    assert ticked.ends()["accepted"] == "pending"
    is_disbelieved(engine, ticked, "a", "b")


def test_a_section_that_was_renamed_keeps_what_it_has_earned(engine: Engine) -> None:
    earn_credit(engine)
    engine.add("accepted", "a", provisioner="renamed")
    ticked = engine.tick({"renamed": Peer({"accepted": PENDING})})
    assert (ticked.code, ticked.ends()) == (ExitCode.OK, {"accepted": "pending", "a": "already_released"})


def test_another_section_of_the_same_name_has_earned_nothing(engine: Engine) -> None:
    earn_credit(engine)
    engine.add("accepted", "a")
    is_disbelieved(engine, engine.tick({"default": Peer({"accepted": PENDING}, "of another file")}), "a")


# --- what a time-out makes plausible, and does not prove (F3) ---------------------------------------------------------


@pytest.mark.parametrize("lost", [timed_out, killed_by_signal])
def test_a_call_that_was_lost_makes_a_miss_no_proof(engine: Engine, lost: Callable[[], ProvisionerError]) -> None:
    sids = named(60)
    engine.add(*sids)
    first = engine.tick(Peer({sid: lost() for sid in sids}))
    assert set(first.ends().values()) <= {"failed", "deferred"}
    begun = engine.open_intents()
    assert begun
    for _ in range(3):
        engine.later(timedelta(hours=25))
        ticked = engine.tick(Peer())
        assert (ticked.code, engine.place.released()) == (ExitCode.PROVISIONER_DOWN, set())
        assert set(ticked.ends().values()) == {"unproven"}
    # What was begun stays begun: a row that is renewed now is a conflict.
    assert begun <= engine.open_intents()


@pytest.mark.parametrize("lost", [timed_out, killed_by_signal])
def test_with_credit_such_a_miss_is_judged_like_any_other(engine: Engine, lost: Callable[[], ProvisionerError]) -> None:
    earn_credit(engine)
    engine.add("a")
    assert engine.tick(Peer({"a": lost()})).ends() == {"a": "failed"}
    engine.later(timedelta(hours=2))
    is_disbelieved(engine, engine.tick(Peer()), "a", charged_before=1)
    engine.later()
    engine.add("there")
    assert engine.tick(all_released("there")).ends() == {"there": "released", "a": "already_released"}


def test_a_time_out_and_a_miss_within_one_tick(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autorelease.rules.retry.FIRST_PAUSE_SECONDS", 0.001)
    engine.configure(attempts=3)
    engine.add("a")
    lost = ProvisionerError("took too long", retryable=True, timed_out=True)
    is_disbelieved(engine, engine.tick(Peer({"a": [lost, MISS]})), "a")
    assert engine.open_intents() == {"a"}
    # And where the very next run is killed: it repeated what was lost, and left nothing new behind.
    killed_run(engine, "a")
    is_disbelieved(engine, engine.tick(Peer()), "a")


# --- a wrong token after fifty honest releases (F4) -------------------------------------------------------------------


def test_a_token_that_goes_wrong_is_found_out_at_once_and_every_hour(engine: Engine) -> None:
    honest = named(50, "honest")
    engine.add(*honest)
    assert engine.tick(all_released(*honest)).code == ExitCode.OK
    living: list[str] = []
    for hour in range(8):
        engine.later()
        living += (due := named(3, f"due-{hour}"))
        engine.add(*due)
        is_disbelieved(engine, engine.tick(Peer()), *living)
    assert engine.place.released() == set(honest)


def test_five_misses_in_a_row_end_belief_whatever_the_tick_began_with(engine: Engine) -> None:
    engine.configure(concurrency=1)
    honest, missing = named(50, "honest"), named(5)
    engine.add(*honest, *missing)
    is_disbelieved(engine, engine.tick(all_released(*honest)), *missing)


def test_four_in_a_row_do_not(engine: Engine) -> None:
    engine.configure(concurrency=1)
    honest, missing = named(50, "honest"), named(4)
    engine.add(*honest, *missing)
    assert engine.tick(all_released(*honest)).code == ExitCode.OK


# --- the control: VMs that are paid for must be there -----------------------------------------------------------------


def paying(engine: Engine, *sids: str) -> None:
    """Rows whose owners have paid."""
    engine.add(*sids, expires_at=RENEWED)


def test_who_finds_those_that_must_be_there_is_believed(engine: Engine) -> None:
    earn_credit(engine)
    paying(engine, "p1", "p2", "p3", "p4")
    engine.add(*named(6))
    peer = Watched(["p1", "p2", "p3", "p4"])
    ticked = engine.tick(peer)
    assert (ticked.code, set(ticked.ends().values())) == (ExitCode.OK, {"already_released"})
    assert len(peer.asked) == len(set(peer.asked)) == 3


def test_who_does_not_find_one_of_them_is_not_and_the_message_names_it(engine: Engine) -> None:
    earn_credit(engine)
    paying(engine, "p1", "p2", "p3")
    engine.add("there", "a", "b")
    ticked = engine.tick(Watched(["there", "p1", "p3"]))
    is_disbelieved(engine, ticked, "a", "b")
    assert ticked.ends()["there"] == "released"
    for error in ticked.report.errors:
        assert "VM of p2" in error.message
        assert "no such VM" in error.message


@pytest.mark.parametrize("error", [ProvisionerError("a broken tool"), ProvisionerDown("no route"), ValueError("bug")])
def test_who_cannot_tell_has_found_nobody(engine: Engine, error: Exception) -> None:
    earn_credit(engine)
    paying(engine, "p1")
    engine.add("a")

    def fail(_: Allocation) -> None:
        raise error

    ticked = engine.tick(Watched(["p1"], fail))
    is_disbelieved(engine, ticked, "a")
    assert "p1" in ticked.report.errors[0].message


def test_who_takes_too_long_has_found_nobody(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autorelease.limits.ABANDONED_AFTER", timedelta(0))
    engine.configure(timeout=timedelta(seconds=0.2))
    earn_credit(engine)
    paying(engine, "p1")
    engine.add("a")
    is_disbelieved(engine, engine.tick(Watched(["p1"], lambda _: time.sleep(1))), "a")


def test_all_are_asked_at_the_same_time(engine: Engine) -> None:
    """Nobody comes back before all are there: of many that hang none waits for another."""
    earn_credit(engine)
    names = ("one", "two", "three")
    together = threading.Barrier(len(names), timeout=10)
    for name in names:
        engine.add(f"p-{name}", expires_at=RENEWED, provisioner=name)
        engine.add(f"a-{name}", provisioner=name)
    ticked = engine.tick({name: Watched([f"p-{name}"], lambda _: together.wait()) for name in names})
    assert (ticked.code, ticked.ends()) == (ExitCode.OK, {f"a-{name}": "already_released" for name in names})


def test_one_that_finds_nothing_discredits_no_other(engine: Engine) -> None:
    earn_credit(engine)
    for name in ("blind", "seeing"):
        engine.add(f"p-{name}", expires_at=RENEWED, provisioner=name)
        engine.add(f"a-{name}", provisioner=name)
    ticked = engine.tick({"blind": Watched([]), "seeing": Watched(["p-seeing"])})
    assert ticked.ends() == {"a-blind": "unproven", "a-seeing": "already_released"}


def test_an_answer_that_is_no_answer_finds_nobody(engine: Engine) -> None:
    class Vague(Watched):
        def exists(self, allocation: Allocation) -> bool:
            super().exists(allocation)
            return "perhaps"  # type: ignore[return-value]

    earn_credit(engine)
    paying(engine, "p1")
    engine.add("a")
    is_disbelieved(engine, engine.tick(Vague(["p1"])), "a")


def test_whose_vm_must_be_there(engine: Engine) -> None:
    """Neither what has expired nor what is held; the first dozen are, and another one pays further on."""
    earn_credit(engine)
    held = named(12, "held")
    engine.add(*held, expires_at=RENEWED + 1000)
    for sid in held:
        engine.hold(sid)
    engine.add("other", expires_at=RENEWED + 500, provisioner="other")
    engine.add("settled", expires_at=RENEWED + 500)
    engine.mark_released("settled")
    engine.place.execute("UPDATE vm_allocations SET expires_at = ? WHERE sid = 'settled'", RENEWED + 500)
    engine.add("not understood", expires_at=RENEWED + 500, released_at=5)
    paying(engine, "p1")
    engine.add("a", "b")
    peer = Watched(["p1"])
    assert engine.tick(peer).code in (ExitCode.OK, ExitCode.NOT_ALL_WELL)
    assert peer.asked == ["p1"]
    assert engine.place.released() >= {"a", "b"}


@pytest.mark.parametrize("is_found_already", [False, True])
def test_a_vm_in_conflict_need_not_be_there(engine: Engine, *, is_found_already: bool) -> None:
    """Its row was renewed while it was released: by our own hand it may be gone."""
    earn_credit(engine)
    paying(engine, "p1")
    engine.add("renewed", expires_at=RENEWED + 1000)
    engine.begin_and_lose("renewed")
    if is_found_already:
        assert engine.tick(Watched(["p1"])).ends() == {"renewed": "conflict"}
    engine.add("a", "b")
    peer = Watched(["p1", "b"])
    assert engine.tick(peer).ends() == {"renewed": "conflict", "a": "already_released", "b": "released"}
    assert peer.asked == ["p1"]


def test_who_never_expires_must_be_there_too(engine: Engine) -> None:
    earn_credit(engine)
    engine.place.insert([{"sid": "for ever", "status": "Active", "expires_at": None}])
    engine.add("a")
    peer = Watched([])
    is_disbelieved(engine, engine.tick(peer), "a")
    assert peer.asked == ["for ever"]


def test_where_there_is_nobody_to_ask_for_the_rule_without_a_question_holds(engine: Engine) -> None:
    earn_credit(engine)
    engine.add("held", expires_at=RENEWED)
    engine.hold("held")
    engine.add("a")
    peer = Watched([])
    is_disbelieved(engine, engine.tick(peer), "a")
    assert peer.asked == []
    engine.later()
    engine.add("there")
    assert engine.tick(Watched(["there"])).ends() == {"there": "released", "a": "already_released"}


def test_credit_is_needed_all_the_same(engine: Engine) -> None:
    paying(engine, "p1", "p2", "p3")
    engine.add("a")
    peer = Watched(["p1", "p2", "p3"])
    is_disbelieved(engine, engine.tick(peer), "a")
    # Nobody is asked for what cannot change anything.
    assert peer.asked == []


def test_the_ratio_holds_all_the_same(engine: Engine) -> None:
    earn_credit(engine)
    paying(engine, "p1", "p2", "p3")
    missing = named(10)
    engine.add(*missing)
    ticked = engine.tick(Watched(["p1", "p2", "p3"]))
    is_disbelieved(engine, ticked, *missing)
    assert "of its last" in ticked.report.errors[0].message


def test_the_ledger_is_not_held_while_they_are_asked_for(engine: Engine) -> None:
    earn_credit(engine)
    paying(engine, "p1", "p2", "p3")
    engine.add("a")
    peer = Watched(["p1", "p2", "p3"], lambda _: engine.place.execute("UPDATE vm_allocations SET owner = 'somebody'"))
    assert engine.tick(peer).ends() == {"a": "already_released"}
    assert len(peer.asked) == 3


def test_an_order_asks_for_others_than_those_that_it_names(engine: Engine) -> None:
    earn_credit(engine)
    paying(engine, "p1", "p2")
    peer = Watched(["p2"])
    assert engine.release(peer, "p1").ends() == {"p1": "already_released"}
    assert peer.asked == ["p2"]


# --- what a killed run may expect -------------------------------------------------------------------------------------


def killed_run(
    engine: Engine,
    *sids: str,
    answers: Sequence[Answer] = (),
    misses: Sequence[str] = (),
    fingerprint: str | None = PRINT,
    kind: TickKind = TickKind.TICK,
) -> None:
    """A run that has begun these releases, has written down so much, and was killed."""
    journal = engine.open_journal()
    start = replace(engine.start(), kind=kind)
    journal.open_tick(start)
    intents = [event_of(engine, Step.INTENT, sid, IntentChange.OPENED, fingerprint or "") for sid in sids]
    journal.begin(start.tick, [], intents, is_held=lambda _: False)
    written = [event_of(engine, Step.MISS, sid, IntentChange.KEPT) for sid in misses]
    journal.record(start.tick, written, [GivenAnswer(fingerprint or "", answer) for answer in answers])
    journal.close()
    engine.later()


def event_of(engine: Engine, step: Step, sid: str, change: IntentChange, fingerprint: str | None = None) -> Event:
    """As the loop writes it of a row that was added first."""
    [(expires_at, provisioner)] = engine.place.query(
        "SELECT expires_at, coalesce(provisioner, 'default') FROM vm_allocations WHERE sid = ?", sid
    )
    expiry = datetime.fromtimestamp(expires_at, UTC)
    return Event(step, engine.now, sid, expiry, provisioner, sid, intent=change, fingerprint=fingerprint)


def test_what_a_killed_run_began_is_expected_to_be_gone(engine: Engine) -> None:
    earn_credit(engine)
    sids = named(20)
    engine.add(*sids)
    killed_run(engine, *sids)
    ticked = engine.tick(Peer())
    assert (ticked.code, set(ticked.ends().values())) == (ExitCode.OK, {"already_released"})
    assert engine.open_intents() == set()


def test_an_order_that_was_killed_is_like_a_tick_that_was(engine: Engine) -> None:
    earn_credit(engine)
    engine.add("a")
    killed_run(engine, "a", kind=TickKind.RELEASE)
    assert engine.tick(Peer()).ends() == {"a": "already_released"}


def test_expected_misses_count_in_no_limit(engine: Engine) -> None:
    """And do not make others believable, which are judged beside them."""
    earn_credit(engine)
    engine.add(*named(20), "other")
    killed_run(engine, *named(20))
    ticked = engine.tick(Peer())
    assert {sid for sid, end in ticked.ends().items() if end == "already_released"} == set(named(20))
    assert ticked.ends()["other"] == "unproven"
    journal = engine.open_journal()
    assert list(journal.recent_answers(PRINT, 50)) == [Answer.MISS, Answer.RELEASED]
    journal.close()


def test_without_credit_it_is_unproven_and_can_be_confirmed_and_nothing_else_is(engine: Engine) -> None:
    engine.add("a", "b")
    killed_run(engine, "a", "b")
    is_disbelieved(engine, engine.tick(Peer()), "a", "b")
    # What a killed run began stays so.
    assert engine.open_intents() == {"a", "b"}
    engine.later()
    engine.add("c", "d")
    ticked = engine.tick(Peer(), confirm=2)
    assert ticked.ends() == {"a": "already_released", "b": "already_released", "c": "unproven", "d": "unproven"}
    assert engine.place.released() == {"a", "b"}
    assert ticked.code == ExitCode.PROVISIONER_DOWN


def test_who_can_be_asked_is_asked_for_expected_ones_too(engine: Engine) -> None:
    earn_credit(engine)
    paying(engine, "p1")
    engine.add("a")
    killed_run(engine, "a")
    is_disbelieved(engine, engine.tick(Watched([])), "a")
    engine.later()
    assert engine.tick(Watched(["p1"])).ends() == {"a": "already_released"}


def test_a_run_that_had_written_down_a_miss_for_it_makes_nothing_expected(engine: Engine) -> None:
    earn_credit(engine)
    engine.add("missed", "called")
    killed_run(engine, "missed", "called", misses=["missed"], answers=[Answer.MISS])
    ticked = engine.tick(Peer())
    assert ticked.ends() == {"missed": "unproven", "called": "already_released"}


@pytest.mark.parametrize(
    ("answers", "is_expected"),
    [
        ([Answer.MISS] * 5, False),
        ([Answer.RELEASED] + [Answer.MISS] * 5, False),
        ([Answer.MISS] * 4, True),
        ([Answer.MISS] * 5 + [Answer.RELEASED], True),
        ([Answer.MISS] * 5 + [Answer.PENDING], True),
    ],
)
def test_a_run_whose_answers_end_in_five_misses_makes_nothing_expected(
    engine: Engine, answers: list[Answer], *, is_expected: bool
) -> None:
    earn_credit(engine)
    engine.add("a")
    killed_run(engine, "a", answers=answers)
    assert engine.tick(Peer()).ends() == {"a": "already_released" if is_expected else "unproven"}


def test_such_a_run_is_remembered_however_long_its_row_was_held(engine: Engine) -> None:
    earn_credit(engine)
    engine.add("a")
    killed_run(engine, "a", answers=[Answer.MISS] * 5)
    engine.hold("a")
    for hour in range(3):
        sids = named(100, f"hour-{hour}")
        engine.add(*sids)
        assert engine.tick(all_released(*sids)).report.outcomes[Outcome.RELEASED] == 100
        engine.later()
    engine.unhold("a")
    is_disbelieved(engine, engine.tick(Peer()), "a")


def test_repeats_by_later_runs_that_are_killed_change_nothing(engine: Engine) -> None:
    earn_credit(engine)
    engine.add("a")
    killed_run(engine, "a")
    for _ in range(2):
        killed_run(engine, "a", answers=[Answer.MISS] * 5)
    assert engine.tick(Peer()).ends() == {"a": "already_released"}
    # And the other way round: what the first one left undecided, no later one decides.
    engine.add("b")
    engine.later()
    killed_run(engine, "b", answers=[Answer.MISS] * 5)
    for _ in range(2):
        killed_run(engine, "b")
    is_disbelieved(engine, engine.tick(Peer()), "b")


def test_a_time_out_is_not_made_expected_by_a_run_that_was_killed_after_it(engine: Engine) -> None:
    earn_credit(engine)
    engine.add("lost")
    assert engine.tick(Peer({"lost": timed_out()})).ends() == {"lost": "failed"}
    engine.later(timedelta(hours=2))
    killed_run(engine, "lost")
    is_disbelieved(engine, engine.tick(Peer()), "lost", charged_before=1)


def test_a_run_that_ended_with_an_error_in_place_of_its_report_was_not_killed(engine: Engine) -> None:
    earn_credit(engine)
    engine.add("a")
    killed_run(engine, "a")
    journal = engine.open_journal()
    [run] = journal.unfinished_runs()
    journal.close_tick(run.tick, engine.now, {"exit_code": 5, "error": "unusable", "message": "locked"})
    journal.close()
    is_disbelieved(engine, engine.tick(Peer()), "a")


@pytest.mark.parametrize("fingerprint", ["another", None])
def test_what_was_begun_under_another_fingerprint_is_not_expected(engine: Engine, fingerprint: str | None) -> None:
    """As by a stamp of the ledger: the new provisioner has credit, and has never been called for this VM."""
    earn_credit(engine)
    engine.add("a")
    killed_run(engine, "a", fingerprint=fingerprint)
    is_disbelieved(engine, engine.tick(Peer()), "a")


def test_the_fingerprint_of_an_intent_is_the_one_of_its_call(engine: Engine) -> None:
    engine.add("a", "b", provisioner="other")
    engine.add("c")
    engine.tick(
        {"other": Peer({"a": timed_out(), "b": timed_out()}, "other"), "default": Peer({"c": timed_out()}, None)}
    )
    statement = "SELECT sid, intent_under FROM attempts ORDER BY sid"
    found = engine.place.query(statement, database=engine.place.journal)
    assert found == [("a", "other"), ("b", "other"), ("c", "")]


def test_a_renewed_row_is_another_allocation_and_expects_nothing(engine: Engine) -> None:
    earn_credit(engine)
    engine.add("a")
    killed_run(engine, "a")
    engine.renew("a", EXPIRED + 60)
    assert engine.tick(Peer()).ends() == {"a": "conflict"}
    assert engine.statuses()["a"] == "Active"


# --- proof ------------------------------------------------------------------------------------------------------------


def test_not_found_after_an_acceptance_under_the_same_fingerprint_is_proof(engine: Engine) -> None:
    engine.add("a")
    assert engine.tick(Peer({"a": PENDING})).ends() == {"a": "pending"}
    engine.later()
    assert engine.tick(Peer({"a": ProvisionerError("busy")})).ends() == {"a": "failed"}
    engine.later(timedelta(hours=2))
    ticked = engine.tick(Peer())
    assert (ticked.code, ticked.ends()) == (ExitCode.OK, {"a": "already_released"})
    # It has given proof, which earns credit.
    journal = engine.open_journal()
    assert journal.has_credit(PRINT)
    journal.close()


def test_not_found_after_an_acceptance_under_another_fingerprint_is_none(engine: Engine) -> None:
    engine.add("a")
    assert engine.tick(Peer({"a": PENDING}, "another")).ends() == {"a": "pending"}
    engine.later()
    is_disbelieved(engine, engine.tick(Peer()), "a")


@pytest.mark.parametrize("fingerprint", [None, ""])
def test_without_a_fingerprint_nothing_is_proof(engine: Engine, fingerprint: str | None) -> None:
    engine.add("a")
    assert engine.tick(Peer({"a": PENDING}, None)).ends() == {"a": "pending"}
    engine.later()
    assert engine.tick(Peer({}, fingerprint)).code == ExitCode.PROVISIONER_DOWN
    assert engine.place.released() == set()


def test_not_found_after_released_that_nobody_stamped_is_proof(engine: Engine) -> None:
    engine.configure(stamps=False)
    engine.add("a")
    assert engine.tick(Peer({"a": RELEASED})).ends() == {"a": "pending"}
    engine.later()
    engine.configure(stamps=True)
    assert engine.tick(Peer()).ends() == {"a": "already_released"}


def test_an_acceptance_of_another_period_proves_nothing(engine: Engine) -> None:
    engine.add("a")
    assert engine.tick(Peer({"a": PENDING})).ends() == {"a": "pending"}
    engine.renew("a", EXPIRED + 60)
    engine.later()
    assert engine.tick(Peer()).ends() == {"a": "conflict"}
    engine.retry("a")
    is_disbelieved(engine, engine.tick(Peer()), "a")


# --- what an operator vouches for -------------------------------------------------------------------------------------


def test_a_word_for_misses_is_no_word_for_what_was_renewed_since(engine: Engine) -> None:
    engine.add("a", "b")
    engine.tick(Peer())
    engine.renew("b", EXPIRED + 60)
    ticked = engine.tick(Peer(), confirm=2)
    assert ticked.ends() == {"a": "already_released", "b": "unproven"}


def test_a_word_for_misses_is_none_for_another_fingerprint(engine: Engine) -> None:
    engine.add("a", "b")
    engine.tick(Peer())
    is_disbelieved(engine, engine.tick(Peer(fingerprint="another"), confirm=2), "a", "b")


def test_a_word_for_misses_is_none_for_the_size_of_a_plan(engine: Engine) -> None:
    engine.add("a", "b")
    engine.tick(Peer())
    engine.add(*named(30))
    engine.limits = Limits(max_releases=10, max_percent=100, min_fleet=20)
    ticked = engine.tick(Peer(), confirm=2)
    assert (ticked.code, [each.code for each in ticked.report.refused]) == (ExitCode.REFUSED, ["max_releases"])
    assert engine.place.released() == set()


def test_a_word_for_misses_holds_once_for_a_day_and_for_its_number(engine: Engine) -> None:
    engine.add("a", "b")
    engine.tick(Peer())
    engine.later(timedelta(hours=24, seconds=1))
    assert engine.tick(Peer(), confirm=2).code == ExitCode.REFUSED
    engine.tick(Peer())
    assert engine.tick(Peer(), confirm=3).code == ExitCode.REFUSED
    engine.tick(Peer())
    assert engine.tick(Peer(), confirm=2).code == ExitCode.OK
    assert engine.tick(Peer(), confirm=2).code == ExitCode.REFUSED


def test_who_answers_otherwise_now_needs_no_word(engine: Engine) -> None:
    engine.add("a", "b")
    engine.tick(Peer())
    ticked = engine.tick(Peer({"a": RELEASED}), confirm=2)
    assert ticked.ends() == {"a": "released", "b": "already_released"}


def test_a_memory_that_has_no_such_vm_is_no_better(engine: Engine) -> None:
    """The reference implementation, for comparison."""
    engine.add("a")
    is_disbelieved(engine, engine.tick(MemoryProvisioner()), "a")
