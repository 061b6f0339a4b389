"""The executor: its shape under load, the stamp and its troubles, misses, breaker, retries, hung calls, the stop."""

import itertools
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from autorelease.errors import ExitCode, ProvisionerDown, ProvisionerError, UnusableError
from autorelease.ledger import Stamp, StampResult
from autorelease.model import Allocation, Hold, Outcome, Release, Result
from autorelease.provisioners.ledger import LedgerProvisioner
from autorelease.provisioners.memory import MemoryProvisioner
from autorelease.rules.guard import Limits
from autorelease.sweep.edge.stop import Stop
from tests.support.engine import EXPIRED, Calls, Engine, Scripted, Wrapper
from tests.support.place import TABLE

PENDING = Release(Result.PENDING, evidence="202")
MISS = Release(Result.ALREADY_RELEASED, evidence="404", proof=False)
SHORT = 0.02


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """An empty ledger and an empty journal."""
    return Engine(tmp_path)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks, rescues and pauses that last milliseconds."""
    monkeypatch.setattr("autorelease.sqlitefile.BUSY_SECONDS", SHORT)
    monkeypatch.setattr("autorelease.sweep.executor.RESCUE_PAUSE_SECONDS", SHORT)
    monkeypatch.setattr("autorelease.limits.STAMP_RESCUE", timedelta(seconds=10))
    monkeypatch.setattr("autorelease.rules.retry.FIRST_PAUSE_SECONDS", 0.002)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch, quick: None) -> None:
    """And a rescue that gives up soon."""
    monkeypatch.setattr("autorelease.limits.STAMP_RESCUE", timedelta(seconds=0.1))


def when(sid: str, action: Callable[[], object]) -> Callable[[Allocation], None]:
    """Do something while this sid is being released."""

    def before(allocation: Allocation) -> None:
        if allocation.sid == sid:
            action()

    return before


def retryable(message: str = "busy", **more: Any) -> ProvisionerError:
    """An error after which the same call may succeed."""
    return ProvisionerError(message, retryable=True, **more)


def timed_out() -> ProvisionerError:
    """A call that came to no end within its time."""
    return ProvisionerError("took too long", retryable=True, timed_out=True)


# --- the shape --------------------------------------------------------------------------------------------------------

ROWS = 10_000
WORKERS = 16


class CountingLedger(Wrapper):
    """Notes how many rows were read again and are not done with, and takes as long to write as a disk does."""

    def __init__(self, inner: Any, calls: Calls) -> None:
        super().__init__(inner)
        self._calls = calls

    def read(self, sid: str) -> Any:
        """A row that is read again is on its way until its call is over."""
        self._calls.add("on the way")
        return self._inner.read(sid)

    def stamp(self, stamps: Sequence[Stamp]) -> Sequence[StampResult]:
        """A slow disk."""
        time.sleep(0.002)
        written: Sequence[StampResult] = self._inner.stamp(stamps)
        return written


class CountingProvisioner(MemoryProvisioner):
    """Notes when a call is over, and how many threads there are."""

    def __init__(self, vms: Sequence[str], calls: Calls) -> None:
        super().__init__(vms)
        self._calls = calls
        self.most_threads = 0

    def release(self, allocation: Allocation) -> Release:
        """Nothing more than the memory's own."""
        self.most_threads = max(self.most_threads, threading.active_count())
        try:
            return super().release(allocation)
        finally:
            self._calls.add("on the way", -1)


def hurry(database: Any) -> Any:
    """The disk that CountingLedger stands for is always as slow; the real one need not be waited for, too."""
    database.connection.execute("PRAGMA synchronous = OFF")
    return database


def test_ten_thousand_rows_through_a_few_workers(engine: Engine) -> None:
    sids = [f"vm-{number:05}" for number in range(ROWS)]
    engine.place.insert({"sid": sid, "status": "Active", "expires_at": EXPIRED} for sid in sids)
    engine.limits = Limits(max_releases=ROWS, max_percent=100, min_fleet=20)
    engine.configure(concurrency=WORKERS)
    calls = Calls()
    provisioner = CountingProvisioner(sids, calls)
    commits: list[str] = []
    opened = engine.open_ledger()
    opened.connection.set_trace_callback(lambda text: commits.append(text) if text == "COMMIT" else None)
    hurry(opened)
    threads_before = threading.active_count()

    ticked = engine.tick(
        provisioner,
        ledger=opened,
        around_ledger=lambda inner: CountingLedger(inner, calls),
        around_journal=hurry,
    )

    assert (ticked.code, ticked.report.outcomes) == (ExitCode.OK, {Outcome.RELEASED: ROWS})
    assert set(provisioner.releases.values()) == {1}
    assert provisioner.most_at_once <= WORKERS
    # A row is read again only for a worker that is free: what was read and is not over never exceeds the workers.
    assert calls.most("on the way") <= WORKERS
    assert provisioner.most_threads <= threads_before + WORKERS
    assert len(commits) <= ROWS / 5


def test_a_ledger_provisioner_needs_no_thread_and_few_commits(engine: Engine) -> None:
    sids = [f"vm-{number:05}" for number in range(2_000)]
    engine.place.insert({"sid": sid, "status": "Active", "expires_at": EXPIRED} for sid in sids)
    engine.limits = Limits(max_releases=ROWS, max_percent=100, min_fleet=20)
    opened = engine.open_ledger()
    commits: list[str] = []
    opened.connection.set_trace_callback(lambda text: commits.append(text) if text == "COMMIT" else None)
    ticked = engine.tick(LedgerProvisioner(), immediate=["default"], ledger=opened)
    assert (ticked.code, ticked.report.outcomes) == (ExitCode.OK, {Outcome.RELEASED: 2_000})
    assert len(commits) <= 2_000 / 200


def test_provisioners_with_and_without_threads_in_one_plan(engine: Engine) -> None:
    """Calls that take no worker must not use the workers up."""
    engine.configure(concurrency=2)
    engine.add(*[f"stamp-{number}" for number in range(10)])
    engine.add("vm-1", "vm-2", "vm-3", expires_at=EXPIRED + 60, provisioner="second")
    started = time.monotonic()
    engine.stop = Stop(lambda: time.monotonic() > started + 5)
    provisioner = MemoryProvisioner(["vm-1", "vm-2", "vm-3"])
    ticked = engine.tick({"default": LedgerProvisioner(), "second": provisioner}, immediate=["default"])
    assert (ticked.code, ticked.report.outcomes) == (ExitCode.OK, {Outcome.RELEASED: 13})
    assert provisioner.most_at_once <= 2


def test_the_databases_belong_to_one_thread(engine: Engine) -> None:
    opened: list[Any] = [engine.open_ledger(), engine.open_journal()]
    raised: list[type[BaseException]] = []

    def use() -> None:
        for database in opened:
            try:
                database.connection.execute("SELECT 1")
            except sqlite3.ProgrammingError as error:
                raised.append(type(error))

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    for database in opened:
        database.close()
    assert raised == [sqlite3.ProgrammingError] * 2


def test_no_transaction_is_open_while_a_provisioner_works(engine: Engine) -> None:
    """Another program can write both databases at any time during a call."""
    engine.add(*"abcdef")
    written: list[str] = []

    def write(allocation: Allocation) -> None:
        for database in (engine.place.ledger, engine.place.journal):
            other = sqlite3.connect(database, timeout=10, isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            other.execute("ROLLBACK")
            other.close()
        assert engine.has_durable_intent(allocation)
        written.append(allocation.sid)

    ticked = engine.tick(MemoryProvisioner("abcdef", before=write))
    assert (ticked.code, sorted(written)) == (ExitCode.OK, list("abcdef"))


def test_the_oldest_expiry_goes_first(engine: Engine) -> None:
    engine.configure(concurrency=1)
    engine.add("late", expires_at=EXPIRED - 10)
    engine.add("latest", expires_at=EXPIRED)
    engine.add("early", expires_at=EXPIRED - 500)
    provisioner = Scripted()
    engine.tick(provisioner)
    assert provisioner.calls == ["early", "late", "latest"]


# --- the stamp --------------------------------------------------------------------------------------------------------

OBSTINATE = TABLE.replace("status TEXT", "status TEXT CHECK (status = 'Active' OR sid <> 'b')")


def on_b(action: str) -> str:
    """A trigger that meets the change of row b alone."""
    return f"CREATE TRIGGER meddler BEFORE UPDATE ON vm_allocations WHEN OLD.sid = 'b' BEGIN {action}; END"


def check_that_b_alone_failed(engine: Engine) -> None:
    """Released at the provisioner, b cannot be stamped; its group is, without it."""
    # Without threads, so that all of them come back as one group.
    ticked = engine.tick(MemoryProvisioner("abcd"), immediate=["default"])
    assert ticked.ends() == {"a": "released", "b": "failed", "c": "released", "d": "released"}
    assert ticked.code == ExitCode.NOT_ALL_WELL
    assert engine.statuses() == {"a": "Released", "b": "Active", "c": "Released", "d": "Released"}
    assert engine.open_intents() == {"b"}
    assert "released at the provisioner" in ticked.report.errors[0].message
    assert engine.events("b") == [("intent", None, None), ("outcome", "failed", "failed")]


def test_a_group_is_repeated_row_by_row_where_a_check_refuses_one(tmp_path: Path) -> None:
    engine = Engine(tmp_path, table=OBSTINATE)
    engine.add(*"abcd")
    check_that_b_alone_failed(engine)


@pytest.mark.parametrize("how", ["ABORT", "FAIL", "ROLLBACK"])
def test_a_group_is_repeated_row_by_row_where_a_trigger_refuses_one(engine: Engine, how: str) -> None:
    engine.add(*"abcd")
    engine.place.execute(on_b(f"SELECT RAISE({how}, 'not this one')"))
    check_that_b_alone_failed(engine)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("fault", ["SELECT json('nonsense')", "SELECT abs(-9223372036854775807 - 1)"])
def test_a_group_is_repeated_row_by_row_where_a_trigger_breaks_on_one(engine: Engine, fault: str) -> None:
    """The operator's trigger has a fault that one row's values bring out: that is no reason to stop the others."""
    engine.add(*"abcd")
    engine.place.execute(on_b(fault))
    check_that_b_alone_failed(engine)


def test_a_trigger_that_ignores_the_stamp_of_one_row(engine: Engine) -> None:
    engine.add(*"abcd")
    engine.place.execute(on_b("SELECT RAISE(IGNORE)"))
    ticked = engine.tick(MemoryProvisioner("abcd"), immediate=["default"])
    assert ticked.code == ExitCode.NOT_ALL_WELL
    assert ticked.finding("b").error is not None
    assert engine.statuses() == {"a": "Released", "b": "Active", "c": "Released", "d": "Released"}
    assert engine.open_intents() == {"b"}


def test_what_cannot_be_stamped_is_tried_again_until_it_can(tmp_path: Path) -> None:
    engine = Engine(tmp_path, table=OBSTINATE)
    engine.add(*"ab")
    provisioner = MemoryProvisioner("ab")
    assert engine.tick(provisioner).ends() == {"a": "released", "b": "failed"}
    engine.later()
    engine.add("c")
    provisioner.vms.add("c")
    assert engine.tick(provisioner).ends() == {"b": "failed", "c": "released"}
    # The operator mends the table.
    other = sqlite3.connect(engine.place.ledger, isolation_level=None)
    other.executescript(
        f"ALTER TABLE vm_allocations RENAME TO old; {TABLE}; INSERT INTO vm_allocations SELECT * FROM old; "
        "DROP TABLE old"
    )
    other.close()
    engine.later(timedelta(hours=3))
    assert engine.tick(provisioner).ends() == {"b": "already_released"}
    assert engine.open_intents() == set()


# --- locks ------------------------------------------------------------------------------------------------------------


class Lock:
    """Another program's hold on a database."""

    def __init__(self, path: Path, kind: str = "IMMEDIATE") -> None:
        self._kind = kind
        self._connection = sqlite3.connect(path, isolation_level=None, timeout=10, check_same_thread=False)

    def take(self) -> None:
        """Hold it, from now on."""
        if not self._connection.in_transaction:
            self._connection.execute(f"BEGIN {self._kind}")

    def let_go(self) -> None:
        """Let others have it."""
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def close(self) -> None:
        """Be gone."""
        self._connection.close()


@contextmanager
def lock_on(path: Path, kind: str = "IMMEDIATE") -> Iterator[Lock]:
    """A lock that is not held yet."""
    lock = Lock(path, kind)
    try:
        yield lock
    finally:
        lock.close()


class Unlocking(Wrapper):
    """Lets the lock go after so many failed writes."""

    def __init__(self, inner: Any, method: str, lock: Lock, failures: int) -> None:
        super().__init__(inner)
        self._method = method
        self._lock = lock
        self._failures = failures
        self.failed = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return self._counted(found) if name == self._method else found

    def _counted(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any) -> Any:
            try:
                return method(*arguments)
            except UnusableError:
                self.failed += 1
                if self.failed == self._failures:
                    self._lock.let_go()
                raise

        return counted


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
        ticked = engine.tick(provisioner, around_journal=lambda inner: Unlocking(inner, "record", lock, failures=5))
    assert (ticked.code, set(ticked.ends().values())) == (ExitCode.OK, {"released"})


class FailingJournal(Wrapper):
    """Cannot write at its n-th try, or at every one from then on."""

    def __init__(self, inner: Any, first: int, *, for_ever: bool) -> None:
        super().__init__(inner)
        self._numbers = itertools.count(1)
        self._first = first
        self._for_ever = for_ever

    def record(self, tick: str, events: Any) -> None:
        """Fail, or write."""
        self._count()
        self._inner.record(tick, events)

    def begin(self, *arguments: Any, is_held: Callable[[Hold], bool]) -> Any:
        """Fail, or write."""
        self._count()
        return self._inner.begin(*arguments, is_held=is_held)

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


# --- holds ------------------------------------------------------------------------------------------------------------


def hold_when_read(engine: Engine, sid: str) -> Callable[[Any], Any]:
    """A ledger during whose last look at this row, a moment before its release begins, an operator holds it."""

    class Holding(Wrapper):
        def read(self, read: str) -> Any:
            row = self._inner.read(read)
            if read == sid:
                engine.hold(sid)
            return row

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
    assert engine.tick(Scripted({"a": [MISS]})).ends() == {"a": "already_released"}


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


# --- misses -----------------------------------------------------------------------------------------------------------


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
    engine.add("later")
    engine.later()
    assert engine.tick(MemoryProvisioner()).ends() == {"later": "already_released"}
    assert engine.open_intents() == set()


def test_what_one_provisioner_released_says_nothing_of_another(engine: Engine) -> None:
    engine.add("there")
    engine.add("missing", provisioner="second")
    ticked = engine.tick({"default": MemoryProvisioner(["there"]), "second": MemoryProvisioner()})
    assert (ticked.code, ticked.ends()) == (ExitCode.PROVISIONER_DOWN, {"there": "released", "missing": "unproven"})


def test_too_many_misses_are_not_believed_and_none_is_stamped(engine: Engine) -> None:
    there, missing = [f"there-{number}" for number in range(4)], [f"missing-{number}" for number in range(6)]
    engine.add(*there, *missing)
    ticked = engine.tick(MemoryProvisioner(there))
    assert ticked.code == ExitCode.PROVISIONER_DOWN
    assert (ticked.report.outcomes, ticked.report.unproven) == ({Outcome.RELEASED: 4, Outcome.FAILED: 6}, 6)
    assert engine.place.released() == set(there)
    assert "6 of its last 10 answers" in ticked.report.errors[0].message


def test_fewer_than_ten_answers_are_not_judged_by_their_share(engine: Engine) -> None:
    missing = [f"missing-{number}" for number in range(8)]
    engine.add("there", *missing)
    ticked = engine.tick(MemoryProvisioner(["there"]))
    assert (ticked.code, len(engine.place.released())) == (ExitCode.OK, 9)


def test_half_of_the_answers_may_be_misses(engine: Engine) -> None:
    there, missing = [f"there-{number}" for number in range(5)], [f"missing-{number}" for number in range(5)]
    engine.add(*there, *missing)
    ticked = engine.tick(MemoryProvisioner(there))
    assert (ticked.code, len(engine.place.released())) == (ExitCode.OK, 10)


def test_a_miss_after_a_time_out_of_the_same_tick_is_what_was_expected(engine: Engine, quick: None) -> None:
    engine.add("a")
    ticked = engine.tick(Scripted({"a": [timed_out(), MISS]}))
    assert (ticked.code, ticked.ends()) == (ExitCode.OK, {"a": "already_released"})


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
    engine.later()
    assert engine.tick(MemoryProvisioner()).ends() == {"missing": "already_released"}


# --- the breaker ------------------------------------------------------------------------------------------------------


def test_five_downs_in_a_row_open_the_breaker(engine: Engine) -> None:
    engine.configure(concurrency=1)
    sids = [f"vm-{number}" for number in range(9)]
    engine.add(*sids)
    engine.add("other", provisioner="second", expires_at=EXPIRED + 60)
    down = Scripted({sid: [ProvisionerDown("connection refused")] for sid in sids})
    ticked = engine.tick({"default": down, "second": MemoryProvisioner(["other"])})
    assert ticked.code == ExitCode.PROVISIONER_DOWN
    assert len(down.calls) == 5
    assert ticked.ends() == {**dict.fromkeys(sids, "deferred"), "other": "released"}
    assert ticked.report.down == {"default": "connection refused"}
    assert engine.open_intents() == set()
    assert set(engine.failed_ticks().values()) == {0}
    engine.later()
    ticked = engine.tick({"default": Scripted()})
    assert (ticked.code, set(ticked.ends().values())) == (ExitCode.OK, {"released"})


def test_a_single_down_is_reported_and_the_rest_goes_on(engine: Engine) -> None:
    engine.configure(concurrency=1)
    engine.add(*"abcdefg")
    # Four, an answer, and one more: never five in a row.
    answers = {sid: [ProvisionerDown("unreachable")] for sid in "abcdf"}
    ticked = engine.tick(Scripted(answers))
    assert ticked.code == ExitCode.PROVISIONER_DOWN
    assert ticked.ends() == {**dict.fromkeys("abcdf", "deferred"), "e": "released", "g": "released"}


def test_five_time_outs_in_a_row_open_the_breaker(engine: Engine) -> None:
    engine.configure(concurrency=1, attempts=1)
    engine.add(*"abcdefgh")
    provisioner = Scripted({sid: [timed_out()] for sid in "abcdefgh"})
    ticked = engine.tick(provisioner)
    assert ticked.code == ExitCode.PROVISIONER_DOWN
    assert provisioner.calls == list("abcde")
    assert ticked.ends() == {**dict.fromkeys("abcde", "failed"), **dict.fromkeys("fgh", "deferred")}
    assert engine.open_intents() == set("abcde")


def test_time_outs_between_answers_open_nothing(engine: Engine) -> None:
    engine.configure(concurrency=1, attempts=1)
    engine.add(*"abcdefgh")
    ticked = engine.tick(Scripted({sid: [timed_out()] for sid in "abcdfgh"}))
    assert (ticked.code, ticked.ends()["e"]) == (ExitCode.NOT_ALL_WELL, "released")
    assert ticked.report.down == {}


# --- retries within a tick --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
def test_a_retryable_error_is_tried_again(engine: Engine) -> None:
    engine.add("a")
    provisioner = Scripted({"a": [retryable(), retryable()]})
    ticked = engine.tick(provisioner)
    assert (ticked.code, ticked.ends(), len(provisioner.calls)) == (ExitCode.OK, {"a": "released"}, 3)
    assert engine.failed_ticks() == {"a": 0}


@pytest.mark.usefixtures("quick")
def test_attempts_are_limited(engine: Engine) -> None:
    engine.configure(attempts=2)
    engine.add("a", "b")
    provisioner = Scripted({"a": [retryable()] * 9})
    ticked = engine.tick(provisioner)
    assert ticked.ends() == {"a": "failed", "b": "released"}
    assert provisioner.calls.count("a") == 2
    [error] = ticked.report.errors
    assert (error.attempts, error.retryable) == (2, True)
    assert engine.failed_ticks()["a"] == 1


@pytest.mark.usefixtures("quick")
def test_an_error_that_is_not_retryable_is_not_tried_again(engine: Engine) -> None:
    engine.add("a")
    provisioner = Scripted({"a": [ProvisionerError("no")]})
    engine.tick(provisioner)
    assert provisioner.calls == ["a"]


@pytest.mark.usefixtures("quick")
def test_a_wish_to_be_asked_later_is_honoured(engine: Engine) -> None:
    engine.add("a")
    asked: list[float] = []
    provisioner = Scripted({"a": [retryable(retry_after_seconds=0.3)]}, before=lambda _: asked.append(time.monotonic()))
    assert engine.tick(provisioner).ends() == {"a": "released"}
    assert asked[1] - asked[0] >= 0.3


@pytest.mark.usefixtures("quick")
def test_a_wish_to_be_asked_much_later_is_left_to_the_next_tick(engine: Engine) -> None:
    engine.add("a", "b")
    provisioner = Scripted({"a": [retryable("slow down", retry_after_seconds=61)]})
    ticked = engine.tick(provisioner)
    assert ticked.ends() == {"a": "failed", "b": "released"}
    assert provisioner.calls.count("a") == 1


@pytest.mark.usefixtures("quick")
def test_others_go_on_while_one_waits_to_be_tried_again(engine: Engine) -> None:
    engine.configure(concurrency=1)
    engine.add("a", "b", "c")
    provisioner = Scripted({"a": [retryable(retry_after_seconds=0.2)]})
    engine.tick(provisioner)
    assert provisioner.calls == ["a", "b", "c", "a"]


@pytest.mark.usefixtures("quick")
def test_the_row_is_read_again_before_every_attempt(engine: Engine) -> None:
    engine.add("a")
    provisioner = Scripted({"a": [retryable()]}, before=lambda _: engine.renew("a"))
    ticked = engine.tick(provisioner)
    assert (ticked.code, ticked.ends(), provisioner.calls) == (ExitCode.OK, {"a": "renewed"}, ["a"])
    assert engine.open_intents() == set()
    assert engine.events("a") == [("intent", None, None), ("skip", "skipped", "renewed")]


@pytest.mark.usefixtures("quick")
def test_a_row_renewed_after_a_time_out_is_a_conflict(engine: Engine) -> None:
    """The call that came to no end may have gone through."""
    engine.add("a")
    provisioner = Scripted({"a": [timed_out()]}, before=lambda _: engine.renew("a"))
    ticked = engine.tick(provisioner)
    assert (ticked.code, ticked.ends(), provisioner.calls) == (ExitCode.NOT_ALL_WELL, {"a": "conflict"}, ["a"])
    assert engine.open_intents() == {"a"}


@pytest.mark.usefixtures("quick")
def test_a_time_out_leaves_an_open_intent(engine: Engine) -> None:
    engine.configure(attempts=1)
    engine.add("a")
    provisioner = MemoryProvisioner(["a"])

    def release_and_hang(_: Allocation) -> None:
        provisioner._released("a")
        raise timed_out()

    provisioner._before = release_and_hang
    assert engine.tick(provisioner).ends() == {"a": "failed"}
    assert engine.open_intents() == {"a"}
    provisioner._before = None
    engine.later()
    assert engine.tick(provisioner).ends() == {"a": "already_released"}


def test_an_adapter_that_raises_what_it_must_not_fails_one_row(engine: Engine) -> None:
    engine.add("a", "b")
    ticked = engine.tick(Scripted({"a": [KeyError("oops")]}))
    assert ticked.ends() == {"a": "failed", "b": "released"}
    assert "KeyError" in ticked.report.errors[0].message


def test_waiting_for_a_free_worker_costs_nothing(engine: Engine, quick: None) -> None:
    """A row that may be tried again, but for which no worker is free, is no reason to turn round and round."""
    engine.configure(concurrency=1)
    engine.add("a", "b")
    turns = itertools.count()
    engine.stop = Stop(lambda: next(turns) < 0)
    a_while = threading.Event()
    provisioner = Scripted({"a": [retryable()]}, before=when("b", lambda: a_while.wait(0.5)))
    assert engine.tick(provisioner).code == ExitCode.OK
    assert provisioner.calls == ["a", "b", "a"]
    assert next(turns) < 100


# --- calls that never return ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 2])
def test_a_call_that_never_returns_is_given_up(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, concurrency: int
) -> None:
    monkeypatch.setattr("autorelease.limits.ABANDONED_AFTER", timedelta(seconds=0.1))
    engine.configure(concurrency=concurrency, timeout=timedelta(seconds=0.1))
    engine.add("hung", "b", "c")
    wakes = threading.Event()
    provisioner = MemoryProvisioner(["hung", "b", "c"], before=when("hung", wakes.wait))
    try:
        ticked = engine.tick(provisioner)
        assert (ticked.code, ticked.ends()) == (
            ExitCode.NOT_ALL_WELL,
            {"hung": "failed", "b": "released", "c": "released"},
        )
        assert "did not come back" in ticked.report.errors[0].message
        assert engine.open_intents() == {"hung"}
        assert provisioner.vms == {"hung"}
    finally:
        wakes.set()
    engine.later()
    # Meanwhile the call may have come to its end after all, unheard; either way the next tick finds out.
    assert engine.tick(provisioner).ends()["hung"] in ("released", "already_released")
    assert engine.open_intents() == set()


# --- the wish to stop -------------------------------------------------------------------------------------------------


def test_a_signal_ends_the_tick_after_what_is_in_flight(engine: Engine) -> None:
    engine.configure(concurrency=2)
    engine.add(*"abcdef")
    both = threading.Barrier(2, timeout=30)

    def stop_in_flight(allocation: Allocation) -> None:
        both.wait()
        engine.stop.wish("SIGTERM")

    provisioner = MemoryProvisioner("abcdef", before=stop_in_flight)
    ticked = engine.tick(provisioner)
    assert (ticked.code, ticked.report.stopped_by) == (ExitCode.TERMINATED, "SIGTERM")
    assert ticked.ends() == {"a": "released", "b": "released", **dict.fromkeys("cdef", "deferred")}
    assert engine.place.released() == provisioner.gone == {"a", "b"}
    assert engine.past_ticks()[-1]["status"] == "stopped"


def test_the_deadline_ends_the_tick(engine: Engine) -> None:
    engine.configure(concurrency=1)
    engine.add("a", "b", "c")
    provisioner = Scripted()
    engine.stop = Stop(lambda: len(provisioner.calls) >= 2)
    ticked = engine.tick(provisioner)
    assert (ticked.code, ticked.report.stopped_by) == (ExitCode.NOT_ALL_WELL, "deadline")
    assert ticked.ends() == {"a": "released", "b": "released", "c": "deferred"}
    assert set(engine.failed_ticks().values()) == {0}


def test_a_wish_that_came_first_releases_nothing(engine: Engine) -> None:
    engine.add("a", "b")
    provisioner = Scripted()
    engine.stop.wish("SIGINT")
    ticked = engine.tick(provisioner)
    assert (ticked.code, provisioner.calls) == (ExitCode.INTERRUPTED, [])
    assert ticked.ends() == {"a": "deferred", "b": "deferred"}


def test_what_waits_for_a_further_attempt_is_not_waited_for(engine: Engine) -> None:
    engine.configure(concurrency=1)
    engine.add("a", "b", "c")
    provisioner = Scripted(
        {"a": [retryable(retry_after_seconds=59)]}, before=when("b", lambda: engine.stop.wish("SIGTERM"))
    )
    started = time.monotonic()
    ticked = engine.tick(provisioner)
    assert time.monotonic() - started < 30
    assert ticked.ends() == {"a": "failed", "b": "released", "c": "deferred"}


def test_a_signal_wakes_a_tick_that_only_waits(engine: Engine) -> None:
    """A stop must not wait for the pause before the next attempt to be over."""
    engine.add("a")
    provisioner = Scripted({"a": [retryable(retry_after_seconds=59)]})
    timer = threading.Timer(0.2, lambda: engine.stop.wish("SIGTERM"))
    timer.start()
    started = time.monotonic()
    ticked = engine.tick(provisioner)
    timer.join()
    assert time.monotonic() - started < 30
    assert ticked.code == ExitCode.TERMINATED


def test_no_thread_stays_behind(engine: Engine) -> None:
    engine.add(*"abcdef")
    before = set(threading.enumerate())
    engine.tick(MemoryProvisioner("abcdef"))
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=30)
        assert not thread.is_alive()
