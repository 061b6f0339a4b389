"""Judged again right before the call: the row, its hold, and who else holds its VM."""

import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from autorelease.errors import ExitCode, ProvisionerError
from autorelease.identity import References
from autorelease.ledger.values import Vocabulary
from autorelease.provisioners.memory import MemoryProvisioner
from tests.support.engine import EXPIRED, RENEWED, Calls, Engine, Scripted, Ticked, Wrapper
from tests.support.sweeping import lock_on, retryable, timed_out, when

# --- holds ------------------------------------------------------------------------------------------------------------


def hold_when_read(engine: Engine, sid: str) -> Callable[[Any], Any]:
    """A ledger during whose last look at this row, a moment before its release begins, an operator holds it."""

    class Holding(Wrapper):
        def read_many(self, sids: Sequence[str]) -> Any:
            rows = self._inner.read_many(sids)
            if sid in sids:
                engine.hold(sid)
            return rows

    return Holding


def test_a_hold_between_the_plan_and_the_call_is_seen(engine: Engine) -> None:
    engine.configure(concurrency=1)
    engine.add("a", "b", "c")
    provisioner = Scripted(before=when("a", lambda: engine.hold("b")))
    ticked = engine.tick(provisioner)
    assert (ticked.code, ticked.ends()) == (ExitCode.OK, {"a": "released", "b": "held", "c": "released"})
    assert provisioner.calls == ["a", "c"]
    assert engine.events("b") == [("hold", None, "because"), ("skip", "skipped", "held")]
    assert engine.open_intents() == set()


def test_a_hold_after_the_row_was_read_again_is_seen(engine: Engine) -> None:
    """The hold is looked up in the transaction that writes the intent, and not before."""
    engine.add("a", "b")
    provisioner = Scripted()
    ticked = engine.tick(provisioner, around_ledger=hold_when_read(engine, "b"))
    assert (ticked.code, ticked.ends(), provisioner.calls) == (ExitCode.OK, {"a": "released", "b": "held"}, ["a"])
    # And no intent of it was ever written: whoever holds it then is not told that it is too late.
    assert [event for event, _, _ in engine.events("b")] == ["hold", "skip"]


def test_a_hold_between_the_intents_and_the_call_is_seen(engine: Engine) -> None:
    engine.add("a", "b")
    provisioner = Scripted()
    ticked = engine.tick(provisioner, around_journal=when_begun(lambda: engine.hold("b")))
    assert (ticked.code, ticked.ends(), provisioner.calls) == (ExitCode.OK, {"a": "released", "b": "held"}, ["a"])
    assert engine.open_intents() == set()


def test_a_hold_during_the_call_is_told_that_it_is_too_late(engine: Engine) -> None:
    engine.add("a")
    told: list[Any] = []
    provisioner = Scripted(before=lambda _: told.append(engine.hold("a")))
    ticked = engine.tick(provisioner)
    assert (ticked.code, ticked.ends()) == (ExitCode.OK, {"a": "released"})
    assert told == [engine.now]
    assert [event for event, _, _ in engine.events("a")] == ["intent", "hold", "outcome"]


@pytest.mark.usefixtures("quick")
def test_a_hold_is_looked_up_again_before_every_attempt(engine: Engine) -> None:
    engine.add("a")
    provisioner = Scripted({"a": [retryable()]}, before=lambda _: engine.hold("a"))
    ticked = engine.tick(provisioner)
    assert (ticked.code, ticked.ends(), provisioner.calls) == (ExitCode.OK, {"a": "held"}, ["a"])
    assert engine.open_intents() == set()


@pytest.mark.usefixtures("quick")
def test_a_hold_after_a_time_out_leaves_the_release_open(engine: Engine) -> None:
    """What the call that came to no end has done is still not known."""
    engine.add("a")
    provisioner = Scripted({"a": [timed_out()]}, before=lambda _: engine.hold("a"))
    ticked = engine.tick(provisioner)
    assert (ticked.ends(), provisioner.calls) == ({"a": "held"}, ["a"])
    assert engine.open_intents() == {"a"}
    engine.unhold("a")
    engine.later()
    assert engine.tick(Scripted()).ends() == {"a": "released"}
    assert engine.open_intents() == set()


def test_a_hold_goes_on_for_its_grace(engine: Engine) -> None:
    engine.configure(hold_grace=timedelta(hours=24), concurrency=1)
    engine.add("a", "b")
    engine.hold("b")
    engine.unhold("b")
    assert engine.tick(Scripted()).ends() == {"a": "released", "b": "held"}
    engine.later(timedelta(hours=24))
    # Held anew and let go again in the same tick: its grace begins anew.
    engine.add("c", expires_at=EXPIRED - 60)

    def hold_and_let_go() -> None:
        engine.hold("b")
        engine.unhold("b")

    assert engine.tick(Scripted(before=when("c", hold_and_let_go))).ends() == {"b": "held", "c": "released"}
    engine.later(timedelta(hours=24))
    assert engine.tick(Scripted()).ends() == {"b": "released"}


def test_a_hold_until_an_instant_ends_by_itself(engine: Engine) -> None:
    engine.add("a")
    engine.hold("a", until=engine.now + timedelta(hours=1))
    assert engine.tick(Scripted()).ends() == {"a": "held"}
    engine.later(timedelta(hours=1))
    assert engine.tick(Scripted()).ends() == {"a": "released"}


# --- who else holds its VM --------------------------------------------------------------------------------------------

BOOKED = "INSERT INTO vm_allocations (sid, status, expires_at, vm_ref) VALUES ('b2', 'Active', 4000000000, 'web-2')"


def two_vms(engine: Engine) -> None:
    """Two due rows, one worker, and a row of somebody who pays."""
    engine.configure(concurrency=1)
    engine.add("a", vm_ref="web-1")
    engine.add("b", vm_ref="web-2", expires_at=EXPIRED + 1)
    engine.add("paid", vm_ref="web-9", expires_at=RENEWED)


def booked(engine: Engine, *statements: str) -> Callable[[], None]:
    """What another program does, each statement in a transaction of its own."""

    def book() -> None:
        for statement in statements:
            engine.place.execute(statement)

    return book


def evidence(ticked: Ticked, sid: str) -> str:
    """What the finding of this sid says."""
    return ticked.finding(sid).evidence


@pytest.mark.parametrize(
    ("happens", "other", "invalid"),
    [
        (BOOKED, "'b2'", 0),
        (BOOKED.replace("'web-2'", "' WEB-2\t'"), "'b2'", 0),
        (BOOKED.replace("'web-2'", "'\uff37\uff25\uff22-2'"), "'b2'", 0),
        (BOOKED.replace("4000000000", "NULL"), "'b2'", 0),
        (BOOKED.replace("4000000000", "'soon'"), "'b2'", 1),
        (BOOKED.replace("'Active'", "NULL"), "'b2'", 1),
        (BOOKED.replace("'Active'", "'released '"), "'b2'", 1),
        (BOOKED.replace("'b2'", "NULL"), "a row without a readable sid", 1),
        (BOOKED.replace("'b2'", "CAST(x'ff' AS TEXT)"), "a row without a readable sid", 1),
        (BOOKED.replace("(sid,", "(provisioner, sid,").replace("('b2'", "(CAST(x'ff' AS TEXT), 'b2'"), "'b2'", 1),
        (BOOKED.replace("(sid,", "(provisioner, sid,").replace("('b2'", "('Default', 'b2'"), "'b2'", 0),
        ("UPDATE vm_allocations SET vm_ref = 'web-2' WHERE sid = 'paid'", "'paid'", 0),
        ("UPDATE vm_allocations SET sid = 'WEB-2', vm_ref = NULL WHERE sid = 'paid'", "'WEB-2'", 0),
    ],
)
def test_a_vm_that_another_row_holds_since_the_plan_is_left_alone(
    engine: Engine, happens: str, other: str, invalid: int
) -> None:
    two_vms(engine)
    provisioner = Scripted(before=when("a", booked(engine, happens)))
    ticked = engine.tick(provisioner)
    # The audit of the same tick finds the new row, where nobody can read it.
    assert (ticked.code, ticked.report.rows_invalid) == (ExitCode.NOT_ALL_WELL if invalid else ExitCode.OK, invalid)
    assert ticked.ends() == {"a": "released", "b": "changed"}
    assert provisioner.calls == ["a"]
    assert evidence(ticked, "b") == f"vm_ref 'web-2' is also held by {other}"
    assert engine.place.query("SELECT status FROM vm_allocations WHERE sid = 'b'") == [("Active",)]
    assert engine.events("b") == [("skip", "skipped", "changed")]
    # From then on it is an invalid row, in every tick, until somebody has put it right.
    engine.later()
    assert "b" in [row.sid for row in engine.tick(provisioner).report.invalid]
    assert provisioner.calls == ["a"]


@pytest.mark.parametrize(
    "happens",
    [
        BOOKED.replace("'web-2'", "'web-3'"),
        BOOKED.replace("4000000000", str(EXPIRED)),
        BOOKED.replace("'Active'", "'Released'"),
        BOOKED.replace("(sid,", "(provisioner, sid,").replace("('b2'", "('second', 'b2'"),
    ],
    ids=["of another VM", "that is due itself", "that is settled", "of another provisioner"],
)
def test_a_row_that_is_no_other_holder(engine: Engine, happens: str) -> None:
    two_vms(engine)
    provisioner = Scripted(before=when("a", booked(engine, happens)))
    assert engine.tick(provisioner).ends() == {"a": "released", "b": "released"}


@pytest.mark.parametrize(
    ("mine", "theirs", "end"),
    [
        ("one", "another", "released"),
        ("one", "ONE", "changed"),
        ("one", None, "changed"),
        (None, "one", "changed"),
        (None, None, "changed"),
    ],
)
def test_a_second_identity_tells_two_vms_apart(engine: Engine, mine: str | None, theirs: str | None, end: str) -> None:
    two_vms(engine)
    engine.place.execute("UPDATE vm_allocations SET vm_uid = ? WHERE sid = 'b'", mine)

    def book() -> None:
        engine.place.insert([{"sid": "b2", "status": "Active", "vm_ref": "web-2", "vm_uid": theirs}])

    assert engine.tick(Scripted(before=when("a", book))).ends() == {"a": "released", "b": end}


def test_a_due_row_that_is_held_is_another_holder(engine: Engine) -> None:
    two_vms(engine)

    def book() -> None:
        engine.place.execute(BOOKED.replace("4000000000", str(EXPIRED)))
        engine.hold("b2")

    ticked = engine.tick(Scripted(before=when("a", book)))
    assert ticked.ends() == {"a": "released", "b": "changed"}
    assert "'b2'" in evidence(ticked, "b")


def test_a_due_row_in_backoff_is_no_other_holder(engine: Engine) -> None:
    two_vms(engine)
    engine.add("b2", vm_ref="web-8", expires_at=EXPIRED - 60)
    provisioner = Scripted({sid: [ProvisionerError("broken")] for sid in ("a", "b", "b2")})
    assert set(engine.tick(provisioner).ends().values()) == {"failed"}
    engine.later(timedelta(minutes=10))
    engine.retry("a", "b")
    provisioner = Scripted(
        before=when("a", booked(engine, "UPDATE vm_allocations SET vm_ref = 'web-2' WHERE sid = 'b2'"))
    )
    assert engine.tick(provisioner).ends() == {"a": "released", "b": "released", "b2": "backoff"}


def test_ids_that_differ_by_case_alone_are_two_vms_where_the_configuration_says_so(engine: Engine) -> None:
    engine.words = Vocabulary(references=References.EXACT)
    two_vms(engine)
    provisioner = Scripted(before=when("a", booked(engine, BOOKED.replace("'web-2'", "'WEB-2'"))))
    assert engine.tick(provisioner).ends() == {"a": "released", "b": "released"}


@pytest.mark.usefixtures("quick")
def test_holders_are_asked_for_before_every_attempt(engine: Engine) -> None:
    two_vms(engine)
    provisioner = Scripted({"b": [retryable()]}, before=when("b", booked(engine, BOOKED)))
    ticked = engine.tick(provisioner)
    assert (ticked.ends(), provisioner.calls.count("b")) == ({"a": "released", "b": "changed"}, 1)
    assert engine.open_intents() == set()


@pytest.mark.usefixtures("quick")
def test_a_vm_that_another_row_holds_after_a_call_without_an_end_is_a_conflict(engine: Engine) -> None:
    two_vms(engine)
    provisioner = Scripted({"b": [timed_out()]}, before=when("b", booked(engine, BOOKED)))
    ticked = engine.tick(provisioner)
    assert (ticked.code, ticked.ends()) == (ExitCode.NOT_ALL_WELL, {"a": "released", "b": "conflict"})
    assert "'b2'" in ticked.report.errors[0].message
    assert (engine.open_intents(), provisioner.calls.count("b")) == ({"b"}, 1)


def test_a_row_that_takes_the_vm_in_the_same_moment_as_its_own_row_is_settled(engine: Engine) -> None:
    """Between the two looks, at the row and at the holders: then the only holder left is the other one."""
    two_vms(engine)
    provisioner = Scripted(before=when("a", lambda: engine.add("other", vm_ref="web-7", expires_at=RENEWED)))

    class Settling(Wrapper):
        def holders(self, references: Sequence[str], *besides: Any) -> Any:
            if "web-2" in references and provisioner.calls:
                engine.mark_released("b")
                engine.place.execute(BOOKED)
            return self._inner.holders(references, *besides)

    ticked = engine.tick(provisioner, around_ledger=Settling)
    assert (ticked.ends()["a"], provisioner.calls) == ("released", ["a"])
    assert ticked.ends()["b"] in ("changed", "already_released")


class CountingHolders(Wrapper):
    """Counts how often the ledger is asked who holds some VMs."""

    def __init__(self, inner: Any, calls: Calls) -> None:
        super().__init__(inner)
        self._calls = calls

    def holders(self, references: Sequence[str], *besides: Any) -> Any:
        """One look."""
        self._calls.add("holders")
        return self._inner.holders(references, *besides)


def looks(engine: Engine, provisioner: Scripted) -> int:
    """How often a tick asks for holders."""
    calls = Calls()
    ticked = engine.tick(provisioner, around_ledger=lambda inner: CountingHolders(inner, calls))
    assert set(ticked.ends().values()) == {"released"}
    return calls.count("holders")


def test_where_nobody_else_writes_holders_are_asked_for_once(engine: Engine) -> None:
    engine.configure(concurrency=2)
    engine.add(*[f"vm-{number}" for number in range(40)])
    assert looks(engine, Scripted()) == 1


def test_whatever_somebody_writes_makes_the_holders_asked_for_again(engine: Engine) -> None:
    """It need not be about these rows: that they are as they were cannot be known without a look."""
    engine.configure(concurrency=1)
    engine.add(*"abc")
    engine.add("paid", expires_at=RENEWED)
    touch = booked(engine, "UPDATE vm_allocations SET owner = 'x' WHERE sid = 'paid'")
    assert looks(engine, Scripted(before=when("b", touch))) == 2


# --- and of an operator's order ---------------------------------------------------------------------------------------


def test_an_order_looks_for_other_holders_again_too(engine: Engine) -> None:
    two_vms(engine)
    provisioner = Scripted(before=when("a", booked(engine, BOOKED)))
    ticked = engine.release(provisioner, "a", "b")
    assert (ticked.code, ticked.ends()) == (ExitCode.NOT_ALL_WELL, {"a": "released", "b": "changed"})
    assert (evidence(ticked, "b"), provisioner.calls) == ("vm_ref 'web-2' is also held by 'b2'", ["a"])


@pytest.mark.parametrize("expires_at", [4_000_000_000, EXPIRED])
def test_an_order_looks_again_at_what_was_booked_while_it_was_confirmed(engine: Engine, expires_at: int) -> None:
    """Due or not, who is not named with it is another holder: whoever ordered the release may not know of it."""
    two_vms(engine)
    provisioner = Scripted()
    book = booked(engine, BOOKED.replace("4000000000", str(expires_at)))
    ticked = engine.release(provisioner, "b", meanwhile=book)
    assert (ticked.code, ticked.ends(), provisioner.calls) == (ExitCode.NOT_ALL_WELL, {"b": "changed"}, [])


def test_rows_that_are_named_together_are_due_to_each_other(engine: Engine) -> None:
    engine.configure(concurrency=4)
    engine.add("old", vm_ref="web-1", expires_at=RENEWED)
    engine.add("new", vm_ref="WEB-1", expires_at=RENEWED)
    touch = booked(engine, "INSERT INTO vm_allocations (sid, status, vm_ref) VALUES ('c', 'Active', 'web-7')")
    provisioner = MemoryProvisioner(["web-1"])
    ticked = engine.release(provisioner, "old", "new", meanwhile=touch)
    assert (ticked.code, ticked.ends()) == (ExitCode.OK, {"old": "released", "new": "already_released"})
    assert provisioner.most_at_once == 1


# --- while the intents are written ------------------------------------------------------------------------------------


def when_begun(action: Callable[[], object], *, times: int = 1) -> Callable[[Any], Any]:
    """A journal that takes its time with the intents: something happens when they are durable, before any call."""
    left = iter(range(times))

    class Slow(Wrapper):
        def begin(self, *arguments: Any, **more: Any) -> Any:
            held = self._inner.begin(*arguments, **more)
            if next(left, None) is not None:
                action()
            return held

    return Slow


@pytest.mark.parametrize(
    ("happens", "end"),
    [
        (f"UPDATE vm_allocations SET expires_at = {RENEWED} WHERE sid = 'b'", "renewed"),
        ("UPDATE vm_allocations SET vm_uid = 'another' WHERE sid = 'b'", "changed"),
        ("UPDATE vm_allocations SET status = 'Released' WHERE sid = 'b'", "already_released"),
        ("DELETE FROM vm_allocations WHERE sid = 'b'", "changed"),
        (BOOKED, "changed"),
    ],
)
def test_what_happens_while_the_intents_are_written_is_seen(engine: Engine, happens: str, end: str) -> None:
    two_vms(engine)
    engine.configure(concurrency=2)
    provisioner = Scripted()
    ticked = engine.tick(provisioner, around_journal=when_begun(booked(engine, happens)))
    assert (ticked.code, ticked.ends()) == (ExitCode.OK, {"a": "released", "b": end})
    # What falls out then leaves no trace of a release that never was.
    assert (provisioner.calls, engine.open_intents()) == (["a"], set())


def test_what_falls_out_for_the_same_reason_again_leaves_no_open_intent(engine: Engine) -> None:
    two_vms(engine)
    for uid in ("one", "two", "three"):
        change = f"UPDATE vm_allocations SET vm_uid = '{uid}' WHERE sid = 'b'"
        provisioner = Scripted({"a": [ProvisionerError("broken")]})
        ticked = engine.tick(provisioner, around_journal=when_begun(booked(engine, change), times=9))
        assert (ticked.ends()["b"], engine.open_intents()) == ("changed", set())
        engine.later(timedelta(minutes=1))


@pytest.mark.usefixtures("impatient")
def test_a_ledger_that_cannot_be_read_when_the_intents_are_written(engine: Engine) -> None:
    engine.add("a", "b")
    provisioner = Scripted()
    with lock_on(engine.place.ledger, "EXCLUSIVE") as lock:
        ticked = engine.tick(provisioner, around_journal=when_begun(lock.take))
    assert (ticked.code, ticked.ends()) == (ExitCode.UNUSABLE, {"a": "deferred", "b": "deferred"})
    assert (provisioner.calls, engine.open_intents()) == ([], set())


# --- a judgement grows old --------------------------------------------------------------------------------------------


class Asleep:
    """The time since boot of a machine that falls asleep for so long, right when a worker looks at it."""

    def __init__(self, seconds: float, *, wakes: Callable[[], object] = lambda: None) -> None:
        self._slept = 0.0
        self._seconds = seconds
        self._wakes = wakes

    def __call__(self) -> float:
        """The time since boot."""
        if threading.current_thread() is not threading.main_thread() and not self._slept:
            self._slept = self._seconds
            self._wakes()
        return time.clock_gettime(time.CLOCK_BOOTTIME) + self._slept


def test_a_judgement_that_has_grown_old_is_made_again(engine: Engine) -> None:
    engine.configure(concurrency=1)
    engine.add("a")
    engine.boottime = Asleep(3, wakes=lambda: engine.renew("a"))
    provisioner = Scripted()
    ticked = engine.tick(provisioner)
    assert (ticked.code, ticked.ends(), provisioner.calls) == (ExitCode.OK, {"a": "renewed"}, [])
    assert (engine.open_intents(), engine.events("a")) == (
        set(),
        [("intent", None, None), ("skip", "skipped", "renewed")],
    )


@pytest.mark.parametrize("seconds", [1, 3])
def test_whoever_slept_and_finds_everything_as_it_was_goes_on(engine: Engine, seconds: float) -> None:
    engine.configure(concurrency=1)
    engine.add("a", "b")
    engine.boottime = Asleep(seconds)
    provisioner = Scripted()
    ticked = engine.tick(provisioner)
    assert (ticked.code, provisioner.calls) == (ExitCode.OK, ["a", "b"])
    assert ticked.finding("a").duration_ms is not None


def test_whoever_is_stopped_when_it_has_grown_old_has_released_nothing(engine: Engine) -> None:
    engine.configure(concurrency=1)
    engine.add("a", "b")
    engine.boottime = Asleep(3, wakes=lambda: engine.stop.wish("SIGTERM"))
    provisioner = Scripted()
    ticked = engine.tick(provisioner)
    assert (ticked.code, ticked.ends()) == (ExitCode.TERMINATED, {"a": "deferred", "b": "deferred"})
    assert (provisioner.calls, engine.open_intents()) == ([], set())


class SlowLooks(Wrapper):
    """A ledger each of whose looks takes longer than a judgement may grow old. boottime: the time that it takes."""

    def __init__(self, inner: Any, boottime: "Passing") -> None:
        super().__init__(inner)
        self._boottime = boottime

    def read_many(self, sids: Sequence[str]) -> Any:
        """A slow one."""
        self._boottime.passed += 3
        return self._inner.read_many(sids)


class Passing:
    """The time since boot, of which so much has passed besides."""

    def __init__(self) -> None:
        self.passed = 0.0

    def __call__(self) -> float:
        """The time since boot."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) + self.passed


def test_a_ledger_that_is_slow_each_time_is_no_reason_to_judge_for_ever(engine: Engine) -> None:
    engine.configure(concurrency=1)
    engine.add("a", "b")
    engine.boottime = passing = Passing()
    provisioner = Scripted()
    ticked = engine.tick(provisioner, around_ledger=lambda inner: SlowLooks(inner, passing))
    assert (ticked.code, provisioner.calls) == (ExitCode.OK, ["a", "b"])


def test_and_who_sleeps_besides_judges_again_all_the_same(engine: Engine) -> None:
    """The shortest look of all counts: here the first one, which was not slept through."""
    engine.configure(concurrency=1)
    engine.add("a", "b", "c")
    engine.boottime = passing = Passing()
    looks = iter([0, 3, 30, 0])

    class Sleeping(Wrapper):
        def read_many(self, sids: Sequence[str]) -> Any:
            rows = self._inner.read_many(sids)
            passing.passed += (seconds := next(looks, 0))
            if seconds > 3:
                engine.renew("b")
            return rows

    ticked = engine.tick(Scripted(), around_ledger=Sleeping)
    assert ticked.ends() == {"a": "released", "b": "renewed", "c": "released"}


# --- holds of other rows of the same VM -------------------------------------------------------------------------------


def test_a_hold_of_another_row_of_the_same_vm_is_seen(engine: Engine) -> None:
    """Two due rows may go together; once one of them is held, the VM is somebody's."""
    engine.configure(concurrency=1)
    engine.add("a", vm_ref="web-1")
    engine.add("old", vm_ref="web-2", expires_at=EXPIRED + 1)
    engine.add("new", vm_ref="web-2", expires_at=EXPIRED + 2)
    provisioner = Scripted(before=when("a", lambda: engine.hold("new")))
    ticked = engine.tick(provisioner)
    assert ticked.ends() == {"a": "released", "old": "changed", "new": "held"}
    assert provisioner.calls == ["a"]
