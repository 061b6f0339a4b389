""" "Not found": what is believed, and of whom."""

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from autorelease.errors import ExitCode, ProvisionerDown, ProvisionerError
from autorelease.journal import Event, GivenAnswer, Step
from autorelease.model import Allocation, Answer, Outcome
from autorelease.provisioners.ledger import LedgerProvisioner
from autorelease.provisioners.memory import MemoryProvisioner, ProbingMemory
from tests.support.engine import EXPIRED, RENEWED, Engine, Scripted, Wrapper
from tests.support.sweeping import MISS, lock_on, retryable, timed_out, when


def test_the_first_miss_ever_is_not_believed_until_it_is_confirmed(engine: Engine) -> None:
    engine.add("a", "b")
    provisioner = MemoryProvisioner()
    ticked = engine.tick(provisioner)
    assert (ticked.code, ticked.ends()) == (ExitCode.PROVISIONER_DOWN, {"a": "unproven", "b": "unproven"})
    assert engine.statuses() == {"a": "Active", "b": "Active"}
    assert (engine.open_intents(), engine.past_ticks()[-1]["confirmable"]) == (set(), 2)
    assert engine.events("a") == [
        ("intent", None, None),
        ("miss", None, None),
        ("outcome", "failed", "unproven"),
    ]
    engine.later()
    ticked = engine.tick(provisioner, confirm=2)
    assert (ticked.code, set(ticked.ends().values())) == (ExitCode.OK, {"already_released"})
    assert set(engine.statuses().values()) == {"Released"}


def test_a_wrong_number_of_misses_confirms_nothing(engine: Engine) -> None:
    engine.add("a", "b")
    engine.tick(MemoryProvisioner())
    assert engine.tick(MemoryProvisioner(), confirm=1).code == ExitCode.REFUSED
    assert set(engine.statuses().values()) == {"Active"}


def test_a_confirmation_vouches_for_so_many_misses_in_all(engine: Engine) -> None:
    """The operator looked at two VMs of one provisioner: two more of another are not what was confirmed."""
    engine.add("a", "b")
    provisioners = {"default": MemoryProvisioner(), "second": MemoryProvisioner()}
    assert engine.tick(provisioners).code == ExitCode.PROVISIONER_DOWN
    engine.add("c", "d", provisioner="second")
    ticked = engine.tick(provisioners, confirm=2)
    assert ticked.report.outcomes.get(Outcome.ALREADY_RELEASED, 0) <= 2
    assert len(engine.place.released()) <= 2


def test_a_miss_is_believed_once_the_provisioner_has_released(engine: Engine) -> None:
    engine.add("there", "missing")
    ticked = engine.tick(MemoryProvisioner(["there"]))
    assert (ticked.code, ticked.ends()) == (ExitCode.OK, {"there": "released", "missing": "already_released"})
    engine.add("there-too", "later")
    engine.later()
    assert engine.tick(MemoryProvisioner(["there-too"])).ends()["later"] == "already_released"
    assert engine.open_intents() == set()


def test_what_one_provisioner_released_says_nothing_of_another(engine: Engine) -> None:
    engine.add("there")
    engine.add("missing", provisioner="second")
    provisioners = {"default": MemoryProvisioner(["there"]), "second": MemoryProvisioner(fingerprint="another token")}
    ticked = engine.tick(provisioners)
    assert (ticked.code, ticked.ends()) == (ExitCode.PROVISIONER_DOWN, {"there": "released", "missing": "unproven"})


def test_what_it_released_under_another_fingerprint_is_no_credit(engine: Engine) -> None:
    engine.add("there")
    engine.tick(MemoryProvisioner(["there"], fingerprint="one project"))
    engine.add("there-too", "missing")
    ticked = engine.tick(MemoryProvisioner(["there-too"], fingerprint="another project"))
    # What it releases in this very tick is.
    assert ticked.ends() == {"there-too": "released", "missing": "already_released"}
    engine.add("lost")
    assert engine.tick(MemoryProvisioner(fingerprint="a third one")).ends() == {"lost": "unproven"}


@pytest.mark.parametrize("fingerprint", [None, "memory"])
def test_who_is_known_by_nothing_is_not_believed(engine: Engine, fingerprint: str | None) -> None:
    engine.add("there", "missing")
    ticked = engine.tick(MemoryProvisioner(["there"], fingerprint=fingerprint))
    assert ticked.ends()["missing"] == ("already_released" if fingerprint else "unproven")


def test_stamps_of_the_ledger_are_no_credit(engine: Engine) -> None:
    sids = [f"vm-{number}" for number in range(30)]
    engine.add(*sids)
    engine.tick(LedgerProvisioner(), immediate=["default"])
    engine.add(*[f"living-{number}" for number in range(25)])
    engine.later()
    ticked = engine.tick(Scripted({f"living-{number}": [MISS] for number in range(25)}))
    assert (ticked.code, ticked.report.outcomes) == (ExitCode.PROVISIONER_DOWN, {Outcome.FAILED: 25})
    assert engine.place.released() == set(sids)


def test_too_many_misses_are_not_believed_and_none_is_stamped(engine: Engine) -> None:
    there, missing = [f"there-{number}" for number in range(4)], [f"missing-{number}" for number in range(6)]
    engine.add(*there, *missing)
    ticked = engine.tick(MemoryProvisioner(there))
    assert ticked.code == ExitCode.PROVISIONER_DOWN
    assert (ticked.report.outcomes, ticked.report.unproven) == ({Outcome.RELEASED: 4, Outcome.FAILED: 6}, 6)
    assert engine.place.released() == set(there)
    assert "6 of its last 10 answers" in ticked.report.errors[0].message


def with_control(engine: Engine, vms: Sequence[str], *, before: Callable[[Allocation], None] | None = None) -> Any:
    """One that can be asked for the VM of a row that is paid for, and has it."""
    engine.add("paid", expires_at=RENEWED)
    return ProbingMemory([*vms, "paid"], before)


def test_fewer_than_ten_answers_are_not_judged_by_their_share(engine: Engine) -> None:
    missing = [f"missing-{number}" for number in range(8)]
    engine.add("there", *missing)
    ticked = engine.tick(with_control(engine, ["there"]))
    assert (ticked.code, len(engine.place.released())) == (ExitCode.OK, 9)


def test_half_of_the_answers_may_be_misses(engine: Engine) -> None:
    there, missing = [f"there-{number}" for number in range(5)], [f"missing-{number}" for number in range(5)]
    engine.add(*there, *missing)
    ticked = engine.tick(with_control(engine, there))
    assert (ticked.code, len(engine.place.released())) == (ExitCode.OK, 10)


def test_five_misses_in_a_row_are_not_believed_whatever_was_released_before(engine: Engine) -> None:
    engine.configure(concurrency=1)
    there, missing = [f"there-{number}" for number in range(20)], [f"missing-{number}" for number in range(5)]
    engine.add(*there, *missing)
    ticked = engine.tick(MemoryProvisioner(there))
    assert (ticked.code, ticked.report.unproven) == (ExitCode.PROVISIONER_DOWN, 5)
    assert "its last 5 answers were all 'not found'" in ticked.report.errors[0].message


def test_a_tick_of_nothing_but_misses_is_not_believed(engine: Engine) -> None:
    """A wrong token after many honest releases, and three due in an hour."""
    there = [f"there-{number}" for number in range(50)]
    engine.add(*there)
    assert engine.tick(MemoryProvisioner(there)).code == ExitCode.OK
    for hour in range(3):
        engine.later()
        engine.add(*[f"living-{hour}-{number}" for number in range(3)])
        ticked = engine.tick(MemoryProvisioner())
        assert (ticked.code, set(ticked.ends().values())) == (ExitCode.PROVISIONER_DOWN, {"unproven"})
        assert "all that it said in this tick was 'not found'" in ticked.report.errors[0].message
    assert engine.place.released() == set(there)


# --- after a call without an end --------------------------------------------------------------------------------------


def test_a_miss_after_a_time_out_is_judged_like_any_other(engine: Engine, quick: None) -> None:
    engine.add("a")
    ticked = engine.tick(Scripted({"a": [timed_out(), MISS]}))
    assert (ticked.code, ticked.ends()) == (ExitCode.PROVISIONER_DOWN, {"a": "unproven"})
    # That a call was made whose end nobody knows stays on record.
    assert engine.open_intents() == {"a"}


def test_time_outs_turn_nothing_into_proof(engine: Engine) -> None:
    """Time-outs in a journal without a release; and then the address is wrong."""
    engine.configure(attempts=1, concurrency=1)
    engine.add(*"abcde")
    engine.tick(Scripted({sid: [timed_out()] for sid in "abcde"}))
    assert engine.open_intents() == set("abcde")
    engine.later(timedelta(days=2))
    ticked = engine.tick(MemoryProvisioner())
    assert (ticked.code, set(ticked.ends().values())) == (ExitCode.PROVISIONER_DOWN, {"unproven"})
    assert engine.place.released() == set()


def with_credit(engine: Engine, provisioner: Any = None) -> None:
    """The provisioner has released before, under the fingerprint that it has in these tests."""
    engine.add("credit", expires_at=EXPIRED - 600)
    assert engine.tick(provisioner or MemoryProvisioner(["credit"])).ends() == {"credit": "released"}
    engine.later()


def write_down(engine: Engine, run: str, sid: str, *answers: GivenAnswer, step: Step = Step.MISS) -> None:
    """What a run has written into the journal before it was killed."""
    event = Event(
        step=step,
        at=engine.now,
        sid=sid,
        expires_at=datetime.fromtimestamp(EXPIRED, UTC),
        provisioner="default",
        vm_ref=sid,
    )
    with closing(engine.open_journal()) as journal:
        journal.record(run, [event], answers)


def test_a_miss_that_repeats_what_a_killed_run_began_is_what_was_expected(engine: Engine) -> None:
    with_credit(engine)
    engine.add(*"abcdefghijkl")
    for later, sid in enumerate("abcdefghijkl"):
        engine.begin_and_lose(sid, expires_at=EXPIRED + later)
    # So many, and nothing else: they count in no limit.
    ticked = engine.tick(MemoryProvisioner())
    assert (ticked.code, ticked.report.outcomes) == (ExitCode.OK, {Outcome.ALREADY_RELEASED: 12})
    assert engine.open_intents() == set()
    [(misses,)] = engine.place.query(
        "SELECT count(*) FROM given_answers WHERE answer = 'miss'", database=engine.place.journal
    )
    assert misses == 0


def test_without_any_credit_the_first_kill_ends_unproven_and_can_be_confirmed(engine: Engine) -> None:
    engine.add("a")
    engine.begin_and_lose("a")
    ticked = engine.tick(MemoryProvisioner())
    assert (ticked.code, ticked.ends()) == (ExitCode.PROVISIONER_DOWN, {"a": "unproven"})
    assert engine.open_intents() == {"a"}
    engine.later()
    assert engine.tick(MemoryProvisioner(), confirm=1).ends() == {"a": "already_released"}


def test_what_a_killed_run_began_needs_the_control_too(engine: Engine) -> None:
    provisioner = ProbingMemory(["credit"])
    with_credit(engine, provisioner)
    engine.add("a")
    engine.add("paid", expires_at=RENEWED)
    engine.begin_and_lose("a")
    ticked = engine.tick(provisioner)
    assert (ticked.code, ticked.ends()) == (ExitCode.PROVISIONER_DOWN, {"a": "unproven"})
    assert "paid" in ticked.report.errors[0].message
    provisioner.vms.add("paid")
    engine.later()
    assert engine.tick(provisioner).ends() == {"a": "already_released"}


def test_a_killed_run_that_had_written_down_a_miss_explains_none(engine: Engine) -> None:
    with_credit(engine)
    engine.add("a")
    engine.begin_and_lose("a")
    write_down(engine, "a-lost-tick", "a")
    assert engine.tick(MemoryProvisioner()).ends() == {"a": "unproven"}


@pytest.mark.parametrize(("misses", "end"), [(4, "already_released"), (5, "unproven")])
def test_a_killed_run_whose_answers_end_in_misses_explains_none(engine: Engine, misses: int, end: str) -> None:
    with_credit(engine)
    engine.add("a")
    engine.begin_and_lose("a")
    write_down(engine, "a-lost-tick", "another", *[GivenAnswer("memory", Answer.MISS)] * misses)
    assert engine.tick(MemoryProvisioner()).ends() == {"a": end}


def test_what_later_runs_did_that_were_killed_too_changes_nothing(engine: Engine) -> None:
    with_credit(engine)
    engine.add("a")
    engine.begin_and_lose("a")
    engine.begin_and_lose("a", run="a-second-lost-tick")
    write_down(engine, "a-second-lost-tick", "a", *[GivenAnswer("memory", Answer.MISS)] * 5)
    assert engine.tick(MemoryProvisioner()).ends() == {"a": "already_released"}


@pytest.mark.usefixtures("quick")
def test_a_kill_after_a_time_out_of_a_run_that_ended_explains_none(engine: Engine) -> None:
    """The run that first left it open has ended with a report; a later one that is killed changes nothing."""
    engine.configure(attempts=1)
    engine.add("there", "a")
    assert engine.tick(Scripted({"a": [timed_out()]})).ends() == {"there": "released", "a": "failed"}
    engine.begin_and_lose("a", expires_at=EXPIRED + 1)
    engine.later(timedelta(days=2))
    assert engine.tick(Scripted({"a": [MISS]})).ends() == {"a": "unproven"}
    assert engine.open_intents() == {"a"}


def test_a_miss_after_a_mere_failure_is_not(engine: Engine, quick: None) -> None:
    engine.add("a")
    ticked = engine.tick(Scripted({"a": [retryable(), MISS]}))
    assert (ticked.code, ticked.ends()) == (ExitCode.PROVISIONER_DOWN, {"a": "unproven"})


def test_a_row_that_moved_on_before_its_miss_is_stamped(engine: Engine) -> None:
    engine.add("there", "missing")
    provisioner = Scripted({"missing": [MISS]}, before=when("missing", lambda: engine.renew("missing")))
    ticked = engine.tick(provisioner)
    assert (ticked.code, ticked.ends()) == (ExitCode.OK, {"there": "released", "missing": "changed"})
    assert (engine.statuses()["missing"], engine.open_intents()) == ("Active", set())


@pytest.mark.usefixtures("impatient")
def test_misses_are_not_lost_where_the_ledger_is_locked_at_their_judgement(engine: Engine) -> None:
    engine.add("there", "missing")
    with lock_on(engine.place.ledger) as lock:

        class Locking(Wrapper):
            def recent_answers(self, *arguments: Any) -> Any:
                lock.take()
                return self._inner.recent_answers(*arguments)

        ticked = engine.tick(MemoryProvisioner(["there"]), around_journal=Locking)
    assert (ticked.code, ticked.ends()) == (ExitCode.UNUSABLE, {"there": "released", "missing": "failed"})
    assert engine.open_intents() == set()
    engine.add("there-too")
    engine.later()
    ticked = engine.tick(MemoryProvisioner(["there-too"]))
    assert ticked.ends() == {"there-too": "released", "missing": "already_released"}


# --- the control ------------------------------------------------------------------------------------------------------


class Questioned(ProbingMemory):
    """Writes down for whom it was asked, and says of some of them what it was told to."""

    def __init__(self, vms: Sequence[str], answers: Mapping[str, Any] | None = None) -> None:
        super().__init__(vms)
        self.questions: list[str] = []
        self._answers = answers or {}

    def exists(self, allocation: Allocation) -> bool:
        """As it is, unless it was told otherwise."""
        self.questions.append(allocation.sid)
        answer = self._answers.get(allocation.sid)
        if isinstance(answer, BaseException):
            raise answer
        found: bool = super().exists(allocation) if answer is None else answer
        return found


def one_there_and_one_missing(engine: Engine) -> None:
    """An honest tick: without a control it would be believed."""
    engine.add("there", "missing")


def test_a_control_that_holds_makes_even_five_misses_believed(engine: Engine) -> None:
    engine.configure(concurrency=1)
    engine.add("there", *"abcde")
    engine.add("paid", expires_at=RENEWED)
    ticked = engine.tick(Questioned(["there", "paid"]))
    assert (ticked.code, ticked.ends()["e"]) == (ExitCode.OK, "already_released")


@pytest.mark.parametrize(
    "answer",
    [False, None, ProvisionerError("no"), ProvisionerDown("down"), KeyError("oops"), "yes", 1],
    ids=["it is not there", "it has no such VM", "an error", "down", "it breaks", "a text", "a number"],
)
def test_whoever_does_not_find_what_is_paid_for_is_not_believed(engine: Engine, answer: Any) -> None:
    one_there_and_one_missing(engine)
    engine.add("paid", expires_at=RENEWED)
    ticked = engine.tick(Questioned(["there"], {"paid": answer}))
    assert (ticked.code, ticked.ends()) == (ExitCode.PROVISIONER_DOWN, {"there": "released", "missing": "unproven"})
    assert "does not find the VM of paid either" in ticked.report.errors[0].message
    assert engine.statuses()["missing"] == "Active"


def test_whoever_does_not_answer_the_control_in_time_is_not_believed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autorelease.limits.ABANDONED_AFTER", timedelta(seconds=0.1))
    engine.configure(timeout=timedelta(seconds=0.1))
    one_there_and_one_missing(engine)
    engine.add("paid", expires_at=RENEWED)
    wakes = threading.Event()

    class Silent(ProbingMemory):
        def exists(self, _: Allocation) -> bool:
            return wakes.wait()

    try:
        assert engine.tick(Silent(["there"])).ends() == {"there": "released", "missing": "unproven"}
    finally:
        wakes.set()


def test_the_control_asks_for_three_that_are_neither_expired_nor_held_and_are_its_own(engine: Engine) -> None:
    one_there_and_one_missing(engine)
    engine.add("expired", provisioner="second")
    engine.add(*[f"paid-{number}" for number in range(5)], expires_at=RENEWED)
    engine.add("held", expires_at=RENEWED + 60)
    engine.add("elsewhere", expires_at=RENEWED + 60, provisioner="second")
    engine.hold("held")
    provisioner = Questioned(["there", *[f"paid-{number}" for number in range(5)]])
    ticked = engine.tick({"default": provisioner, "second": MemoryProvisioner(["expired"])})
    assert ticked.code == ExitCode.OK
    assert len(provisioner.questions) == 3
    assert all(sid.startswith("paid-") for sid in provisioner.questions)


def test_where_nobody_pays_the_rule_without_a_question_holds(engine: Engine) -> None:
    engine.add("there", "missing")
    assert engine.tick(Questioned(["there"])).ends() == {"there": "released", "missing": "already_released"}
    engine.add("alone")
    engine.later()
    assert engine.tick(Questioned([])).ends() == {"alone": "unproven"}


def test_nobody_is_asked_where_nothing_was_missed(engine: Engine) -> None:
    engine.add("there")
    engine.add("paid", expires_at=RENEWED)
    provisioner = Questioned(["there", "paid"])
    engine.tick(provisioner)
    assert provisioner.questions == []
