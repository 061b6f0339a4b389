"""A ledger or a journal that cannot be used for a while, or any more."""

import itertools
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from autorelease.errors import ExitCode, ProvisionerError, UnusableError
from autorelease.ledger import Stamp
from autorelease.model import Allocation
from autorelease.provisioners.memory import MemoryProvisioner
from tests.support.engine import RENEWED, Answer, Engine, Scripted, Wrapper
from tests.support.sweeping import MISS, PENDING, Unlocking, lock_on, retryable, when
from tests.support.thorough import stride


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
        ticked = engine.tick(provisioner, around_ledger=lambda inner: Unlocking(inner, "version", lock, failures=3))
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


# --- between the commit of a stamp and the end of its rows ------------------------------------------------------------


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("happens", "end"),
    [
        (f"UPDATE vm_allocations SET expires_at = {RENEWED} WHERE sid = 'c'", "conflict"),
        ("DELETE FROM vm_allocations WHERE sid = 'c'", "released"),
        ("UPDATE vm_allocations SET status = 'Released' WHERE sid = 'c'", "released"),
    ],
)
def test_a_ledger_that_is_locked_right_after_the_stamp_of_a_group(engine: Engine, happens: str, end: str) -> None:
    """One row of the group was not stamped, and cannot be read: the four that were are released."""
    engine.add(*"abcde")
    with lock_on(engine.place.ledger, "EXCLUSIVE") as lock:

        class Locking(Wrapper):
            def stamp(self, stamps: Sequence[Stamp]) -> Any:
                engine.place.execute(happens)
                results = self._inner.stamp(stamps)
                lock.take()
                return results

        ticked = engine.tick(MemoryProvisioner("abcde"), immediate=["default"], around_ledger=Locking)
    assert (ticked.code, ticked.ends()) == (ExitCode.UNUSABLE, {**dict.fromkeys("abde", "released"), "c": "failed"})
    assert engine.place.released() >= set("abde")
    assert (engine.open_intents(), engine.failed_ticks()["c"]) == ({"c"}, 0)
    # The next tick finds what became of it.
    engine.later()
    ticked = engine.tick(MemoryProvisioner("abcde"))
    if end == "conflict":
        assert (ticked.code, ticked.ends()) == (ExitCode.NOT_ALL_WELL, {"c": "conflict"})
    else:
        assert (ticked.code, ticked.ends(), engine.open_intents()) == (ExitCode.OK, {}, set())
        assert engine.events("c")[-1] == ("outcome", "released", None)


@pytest.mark.usefixtures("quick")
def test_and_is_free_again_a_moment_later(engine: Engine) -> None:
    engine.add(*"abcde")
    with lock_on(engine.place.ledger, "EXCLUSIVE") as lock:

        class Locking(Unlocking):
            def stamp(self, stamps: Sequence[Stamp]) -> Any:
                engine.renew("c")
                results = self._inner.stamp(stamps)
                lock.take()
                return results

        ticked = engine.tick(
            MemoryProvisioner("abcde"),
            immediate=["default"],
            around_ledger=lambda inner: Locking(inner, "read_many", lock, failures=3),
        )
    assert (ticked.code, ticked.ends()) == (
        ExitCode.OK,
        {**dict.fromkeys("abde", "released"), "c": "renewed"},
    )


# --- an error at every call -------------------------------------------------------------------------------------------


class Faults:
    """The n-th of all calls fails, and every one after it where it is for ever; with its work done, or not."""

    def __init__(self, first: int, *, is_done: bool, is_for_ever: bool) -> None:
        self._first = first
        self._is_done = is_done
        self._is_for_ever = is_for_ever
        self._calls = 0

    @property
    def came(self) -> bool:
        """Whether there were so many calls."""
        return self._calls >= self._first

    def around(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """This method, which may fail from now on."""

        def faulty(*arguments: Any, **more: Any) -> Any:
            self._calls += 1
            if self._calls != self._first and not (self._is_for_ever and self.came):
                return method(*arguments, **more)
            if self._is_done:
                method(*arguments, **more)
            raise UnusableError("the disk has an error")

        return faulty


class Faulty(Wrapper):
    """A ledger or a journal that fails where it is told to, whatever it is asked for."""

    def __init__(self, inner: Any, faults: Faults) -> None:
        super().__init__(inner)
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        found = super().__getattr__(name)
        return self._faults.around(found) if callable(found) else found


STRIDE = 4
KINDS = {"once": (False, False), "once, and it was done": (True, False), "for ever": (False, True)}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven due rows and an empty journal, to be copied."""
    folder = tmp_path_factory.mktemp("prepared")
    Engine(folder).add(*"abcdefg")
    return folder


def hurried(inner: Any) -> Any:
    """It is an error that is tried here, and no power cut: no need to wait for the disk."""
    inner.connection.execute("PRAGMA synchronous = OFF")
    return inner


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("first", "kind"),
    [
        (first, kind)
        for turn, kind in enumerate(KINDS)
        for first in range(1 + turn % stride(STRIDE), STRIDE + 1, stride(STRIDE))
    ],
)
def test_wherever_an_error_comes_every_row_has_one_end_and_the_next_ticks_converge(
    prepared: Path, tmp_path: Path, first: int, kind: str
) -> None:
    """One row is released, one pending, one a miss, one tried twice, one renewed and one deleted in the very call."""
    at, came = first, True
    while came:
        shutil.copytree(prepared, tmp_path / str(at))
        engine = Engine(tmp_path / str(at))
        engine.configure(concurrency=2)
        actions = {
            "e": partial(engine.renew, "e"),
            "f": partial(engine.place.execute, "DELETE FROM vm_allocations WHERE sid = 'f'"),
        }
        answers: dict[str, list[Answer]] = {"b": [PENDING], "c": [MISS], "d": [retryable()]}
        provisioner = Scripted(answers, before=partial(act, actions))
        is_done, is_for_ever = KINDS[kind]
        faults = Faults(at, is_done=is_done, is_for_ever=is_for_ever)
        faulty = partial(faulty_from, faults)
        # Nothing but this: an IdentityError would say that a row has no end, or two.
        with suppress(UnusableError):
            engine.tick(provisioner, around_ledger=faulty, around_journal=faulty)
        came = faults.came
        assert engine.place.released() <= set(provisioner.calls)
        for _ in range(2):
            engine.later()
            ticked = engine.tick(provisioner, around_ledger=hurried, around_journal=hurried)
        # Whoever cannot know whether the call for it has gone through says so; nothing else is left.
        left = {(sid, end) for sid, end in ticked.ends().items() if end != "released"}
        assert left <= {("e", "conflict"), ("f", "conflict")}, at
        assert engine.statuses() == {**dict.fromkeys("abcdg", "Released"), "e": "Active"}, at
        assert engine.open_intents() <= {"e", "f"}, at
        outcomes = dict(engine.place.query("SELECT sid, outcome FROM attempts", database=engine.place.journal))
        assert {outcomes[sid] for sid in "abdg"} <= {"released", "already_released"}, (at, outcomes)
        # A miss closes its intent at once: where the journal fails for ever after its stamp, nobody can know of it.
        assert outcomes["c"] in ("already_released", "released") or is_for_ever, (at, outcomes)
        at += STRIDE
    assert at > 40, "a tick over seven rows has more calls than that: the wrappers have come off"


def act(actions: Mapping[str, Callable[[], object]], allocation: Allocation) -> None:
    """What happens while this one is being released."""
    if allocation.sid in actions:
        actions[allocation.sid]()


def faulty_from(faults: Faults, inner: Any) -> Faulty:
    """A database that has these."""
    return Faulty(hurried(inner), faults)
