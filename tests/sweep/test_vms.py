"""Several due rows of one VM: one after the other, and what the first one's end proves for the second."""

import threading
from datetime import timedelta

import pytest

from autorelease.errors import ExitCode, ProvisionerDown, ProvisionerError
from autorelease.model import Allocation, Release, Result
from autorelease.provisioners.memory import MemoryProvisioner
from autorelease.sweep.edge.stop import Stop
from tests.support.engine import EXPIRED, Calls, Engine, Scripted
from tests.support.sweeping import MISS, PENDING, retryable, timed_out, when

SPELLINGS = ("web-1", "WEB-1", " web-1", "Web-1\t", "web-1", "\uff37eb-1", "web-1 ", "WEB-1 ")


def of_one_vm(engine: Engine, *sids: str, **columns: object) -> None:
    """Due rows of one VM, each in another spelling."""
    for later, sid in enumerate(sids):
        engine.add(sid, vm_ref=SPELLINGS[later % len(SPELLINGS)], expires_at=EXPIRED + later, **columns)


@pytest.fixture
def impatient_stop(engine: Engine) -> None:
    """So that a loop that does not end fails, and does not hang."""
    turns = iter(range(20_000))
    engine.stop = Stop(lambda: next(turns, None) is None)


class OneAtATime:
    """Fails where a second call for a VM begins while the first one is under way."""

    def __init__(self) -> None:
        self.calls = Calls()

    def __call__(self, allocation: Allocation) -> None:
        """Take a while, so that others have the time to begin."""
        name = allocation.vm_ref.strip().casefold()
        self.calls.add(name)
        threading.Event().wait(0.01)
        self.calls.add(name, -1)


def test_rows_of_one_vm_are_never_under_way_at_the_same_time(engine: Engine) -> None:
    engine.configure(concurrency=8)
    engine.add(*[f"other-{number}" for number in range(20)])
    of_one_vm(engine, *[f"same-{number}" for number in range(8)])
    of_one_vm(engine, *[f"second-{number}" for number in range(8)], provisioner="second")
    watch, other = OneAtATime(), OneAtATime()
    ticked = engine.tick({"default": Scripted(before=watch), "second": Scripted(before=other)})
    assert (ticked.code, len(ticked.findings), set(ticked.ends().values())) == (ExitCode.OK, 36, {"released"})
    assert watch.calls.most("web-1") == other.calls.most("web-1") == 1


def test_not_found_is_proven_by_the_release_of_the_first(engine: Engine) -> None:
    of_one_vm(engine, "first", "second", "third")
    ticked = engine.tick(Scripted({"second": [MISS], "third": [MISS]}))
    assert (ticked.code, ticked.ends()) == (
        ExitCode.OK,
        {"first": "released", "second": "already_released", "third": "already_released"},
    )
    [(misses,)] = engine.place.query(
        "SELECT count(*) FROM given_answers WHERE answer = 'miss'", database=engine.place.journal
    )
    assert misses == 0


@pytest.mark.parametrize(
    ("first", "second", "end"),
    [
        ("1", "2", "unproven"),
        ("1", "1", "already_released"),
        ("A", "a", "already_released"),
        (None, "2", "already_released"),
        ("1", None, "already_released"),
    ],
)
def test_but_not_of_another_vm_of_the_same_name(
    engine: Engine, first: str | None, second: str | None, end: str
) -> None:
    """What has said RELEASED has credit: another provisioner's answers are misses alone, so nothing is believed."""
    engine.add("first", vm_ref="web-1", vm_uid=first)
    engine.add("second", vm_ref="web-1", vm_uid=second, expires_at=EXPIRED + 1)
    engine.add(*"abcde", expires_at=EXPIRED + 10)
    engine.configure(concurrency=1)
    ticked = engine.tick(Scripted({sid: [MISS] for sid in ("second", *"abcde")}))
    assert ticked.ends()["second"] == end


@pytest.mark.parametrize("answer", [PENDING, MISS, ProvisionerError("broken"), ProvisionerDown("down"), timed_out()])
def test_any_other_end_of_the_first_proves_nothing(engine: Engine, answer: Release | BaseException) -> None:
    engine.configure(attempts=1)
    of_one_vm(engine, "first", "second")
    ticked = engine.tick(Scripted({"first": [answer], "second": [MISS]}))
    assert ticked.ends()["second"] == "unproven"


@pytest.mark.usefixtures("impatient_stop")
def test_a_breaker_that_opens_leaves_nobody_waiting_for_the_vm(engine: Engine) -> None:
    sids = [f"same-{number}" for number in range(9)]
    of_one_vm(engine, *sids)
    provisioner = Scripted({sid: [ProvisionerDown("unreachable")] for sid in sids})
    ticked = engine.tick(provisioner)
    assert (ticked.code, ticked.report.stopped_by) == (ExitCode.PROVISIONER_DOWN, None)
    assert ticked.ends() == dict.fromkeys(sids, "deferred")
    assert len(provisioner.calls) == 5


@pytest.mark.usefixtures("quick", "impatient_stop")
def test_whoever_waits_for_a_further_attempt_keeps_the_vm(engine: Engine) -> None:
    engine.configure(concurrency=2)
    of_one_vm(engine, "first", "second")
    provisioner = Scripted({"first": [retryable(), retryable(), ProvisionerError("no")]})
    assert engine.tick(provisioner).ends() == {"first": "failed", "second": "released"}
    assert provisioner.calls == ["first", "first", "first", "second"]


@pytest.mark.usefixtures("quick", "impatient_stop")
def test_whoever_falls_out_before_a_further_attempt_leaves_the_vm(engine: Engine) -> None:
    engine.configure(concurrency=2)
    of_one_vm(engine, "first", "second")
    provisioner = Scripted({"first": [retryable()]}, before=when("first", lambda: engine.hold("first")))
    ticked = engine.tick(provisioner)
    # What is held is another holder of its VM.
    assert ticked.ends() == {"first": "held", "second": "changed"}


@pytest.mark.usefixtures("impatient_stop")
def test_a_call_that_never_returns_keeps_the_vm_from_the_others(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is given up, and is under way all the same."""
    monkeypatch.setattr("autorelease.limits.ABANDONED_AFTER", timedelta(seconds=0.1))
    engine.configure(concurrency=4, timeout=timedelta(seconds=0.1))
    of_one_vm(engine, "first", "second", "third")
    engine.add("other", expires_at=EXPIRED + 60)
    wakes = threading.Event()
    provisioner = MemoryProvisioner(["web-1", "other"], before=when("first", wakes.wait))
    try:
        ticked = engine.tick(provisioner)
        assert ticked.ends() == {"first": "failed", "second": "deferred", "third": "deferred", "other": "released"}
        assert set(provisioner.releases) == {"first", "other"}
    finally:
        wakes.set()


@pytest.mark.usefixtures("impatient_stop")
@pytest.mark.parametrize("is_retryable", [False, True])
def test_a_call_that_could_not_be_ended_keeps_the_vm_from_the_others(engine: Engine, is_retryable: bool) -> None:  # noqa: FBT001
    engine.configure(concurrency=4)
    of_one_vm(engine, "first", "second", "third")
    engine.add("other", expires_at=EXPIRED + 60)
    error = ProvisionerError("still running, as root", retryable=is_retryable, still_running=True)
    provisioner = Scripted({"first": [error]})
    ticked = engine.tick(provisioner)
    assert ticked.ends() == {"first": "failed", "second": "deferred", "third": "deferred", "other": "released"}
    assert sorted(provisioner.calls) == ["first", "other"]
    # What goes on may come to any end.
    assert engine.open_intents() == {"first"}


@pytest.mark.usefixtures("impatient_stop")
def test_a_wish_to_stop_defers_who_waits_for_the_vm(engine: Engine) -> None:
    of_one_vm(engine, "first", "second", "third")

    ticked = engine.tick(Scripted(before=when("first", lambda: engine.stop.wish("SIGTERM"))))
    assert ticked.ends() == {"first": "released", "second": "deferred", "third": "deferred"}


def test_a_proof_counts_as_a_release(engine: Engine) -> None:
    of_one_vm(engine, "first", "second")
    proof = Release(Result.ALREADY_RELEASED, evidence="terminated", proof=True)
    ticked = engine.tick(Scripted({"first": [proof], "second": [MISS]}))
    assert set(ticked.ends().values()) == {"already_released"}
