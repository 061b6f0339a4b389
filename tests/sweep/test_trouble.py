"""A ledger or a journal that cannot be used for a while, or any more."""

import itertools
from datetime import timedelta
from typing import Any

import pytest

from autorelease.errors import ExitCode, ProvisionerError, UnusableError
from autorelease.model import Allocation
from autorelease.provisioners.memory import MemoryProvisioner
from tests.support.engine import Engine, Scripted, Wrapper
from tests.support.sweeping import Unlocking, lock_on, retryable, when


@pytest.mark.usefixtures("quick")
def test_nothing_is_begun_while_the_ledger_is_locked_and_what_was_earned_is_stamped(engine: Engine) -> None:
    engine.configure(concurrency=1)
    engine.add("a", "b", "c")
    begun_while_locked: list[str] = []
    with lock_on(engine.place.ledger) as lock:

        def unlocking(inner: Any) -> Unlocking:
            made.append(Unlocking(inner, "stamp", lock, failures=6))
            return made[0]

        made: list[Unlocking] = []
        provisioner = Scripted(
            before=lambda allocation: (
                lock.take() if allocation.sid == "a" else begun_while_locked.append(str(made[0].failed))
            )
        )
        ticked = engine.tick(provisioner, around_ledger=unlocking)
    assert (ticked.code, set(ticked.ends().values())) == (ExitCode.OK, {"released"})
    assert provisioner.calls == ["a", "b", "c"]
    assert begun_while_locked == ["6", "6"]
    assert engine.events("a") == [("intent", None, None), ("outcome", "released", None)]


@pytest.mark.usefixtures("impatient")
def test_a_ledger_that_stays_locked_ends_the_tick_and_the_next_one_converges(engine: Engine) -> None:
    engine.configure(concurrency=1)
    engine.add("a", "b", "c")
    provisioner = MemoryProvisioner("abc")
    with lock_on(engine.place.ledger) as lock:
        provisioner._before = when("a", lock.take)
        ticked = engine.tick(provisioner)
    assert ticked.code == ExitCode.UNUSABLE
    assert "locked" in str(ticked.report.lost)
    assert ticked.ends() == {"a": "failed", "b": "deferred", "c": "deferred"}
    assert provisioner.gone == {"a"}
    assert engine.open_intents() == {"a"}
    assert set(engine.statuses().values()) == {"Active"}

    # It was the ledger that failed, and no row is charged for it.
    engine.later(timedelta(minutes=5))
    provisioner._before = None
    ticked = engine.tick(provisioner)
    assert (ticked.code, ticked.ends()) == (ExitCode.OK, {"a": "already_released", "b": "released", "c": "released"})
    assert engine.open_intents() == set()


@pytest.mark.usefixtures("quick")
def test_the_last_earnings_are_stamped_after_a_wish_to_stop(engine: Engine) -> None:
    """A locked ledger and SIGTERM at once: what was earned still gets its minute."""
    engine.add("a", "b")
    engine.configure(concurrency=1)
    with lock_on(engine.place.ledger) as lock:

        def trouble(allocation: Allocation) -> None:
            lock.take()
            engine.stop.wish("SIGTERM")

        provisioner = Scripted(before=trouble)
        ticked = engine.tick(provisioner, around_ledger=lambda inner: Unlocking(inner, "stamp", lock, failures=4))
    assert (ticked.code, ticked.ends()) == (ExitCode.TERMINATED, {"a": "released", "b": "deferred"})
    assert engine.statuses() == {"a": "Released", "b": "Active"}


@pytest.mark.usefixtures("quick")
def test_a_ledger_that_cannot_be_read_for_a_moment(engine: Engine) -> None:
    engine.configure(concurrency=1)
    engine.add("a", "b")
    with lock_on(engine.place.ledger, "EXCLUSIVE") as lock:
        provisioner = Scripted({"a": [retryable()]})
        provisioner._before = lambda _: lock.take() if provisioner.calls == ["a"] else None
        ticked = engine.tick(provisioner, around_ledger=lambda inner: Unlocking(inner, "read", lock, failures=3))
    assert (ticked.code, set(ticked.ends().values())) == (ExitCode.OK, {"released"})


@pytest.mark.usefixtures("impatient")
def test_a_ledger_that_cannot_be_read_any_more(engine: Engine) -> None:
    engine.configure(concurrency=1)
    engine.add("a", "b")
    with lock_on(engine.place.ledger, "EXCLUSIVE") as lock:
        provisioner = Scripted({"a": [ProvisionerError("broken")]}, before=when("a", lock.take))
        ticked = engine.tick(provisioner)
    assert (ticked.code, ticked.ends()) == (ExitCode.UNUSABLE, {"a": "failed", "b": "deferred"})
    assert engine.open_intents() == set()


@pytest.mark.usefixtures("quick")
def test_nothing_is_begun_while_the_journal_is_locked(engine: Engine) -> None:
    engine.configure(concurrency=1)
    engine.add("a", "b", "c")
    with lock_on(engine.place.journal) as lock:

        def before(allocation: Allocation) -> None:
            assert engine.has_durable_intent(allocation)
            if allocation.sid == "a":
                lock.take()

        provisioner = MemoryProvisioner("abc", before=before)
        ticked = engine.tick(provisioner, around_journal=lambda inner: Unlocking(inner, "begin", lock, failures=5))
    assert (ticked.code, set(ticked.ends().values())) == (ExitCode.OK, {"released"})


class FailingJournal(Wrapper):
    """Cannot write at its n-th try, or at every one from then on."""

    def __init__(self, inner: Any, first: int, *, for_ever: bool) -> None:
        super().__init__(inner)
        self._numbers = itertools.count(1)
        self._first = first
        self._for_ever = for_ever

    def record(self, *arguments: Any) -> None:
        """Fail, or write."""
        self._count()
        self._inner.record(*arguments)

    def begin(self, *arguments: Any, **more: Any) -> Any:
        """Fail, or write."""
        self._count()
        return self._inner.begin(*arguments, **more)

    def _count(self) -> None:
        number = next(self._numbers)
        if number == self._first or (self._for_ever and number > self._first):
            raise UnusableError("the disk of the journal is full")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("for_ever", [False, True])
@pytest.mark.parametrize("first", range(1, 9))
def test_nothing_is_released_without_a_durable_intent(engine: Engine, first: int, *, for_ever: bool) -> None:
    engine.configure(concurrency=2)
    engine.add(*"abcdef")
    without_intent: list[str] = []

    def before(allocation: Allocation) -> None:
        if not engine.has_durable_intent(allocation):
            without_intent.append(allocation.sid)

    provisioner = MemoryProvisioner("abcdef", before=before)
    ticked = engine.tick(
        provisioner, around_journal=lambda inner: FailingJournal(inner, first, for_ever=for_ever), immediate=()
    )
    assert without_intent == []
    assert engine.place.released() == provisioner.gone
    wrote_everything = provisioner.gone == set("abcdef") and not engine.open_intents()
    assert ticked.code == (ExitCode.OK if wrote_everything else ExitCode.UNUSABLE)
    assert wrote_everything or for_ever
    engine.later()
    assert engine.tick(provisioner).code == ExitCode.OK
    assert set(engine.statuses().values()) == {"Released"}
    assert engine.open_intents() == set()
