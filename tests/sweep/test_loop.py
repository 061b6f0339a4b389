"""The way of one piece of work after the other: its shape under load, tries within one run, the wish to stop."""

import itertools
import sqlite3
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

from autorelease.errors import ExitCode, InterruptedTickError, ProvisionerError
from autorelease.journal.sqlite import SQLiteJournal
from autorelease.ledger import Stamp, StampResult
from autorelease.model import Allocation, Outcome, Release
from autorelease.provisioners.ledger import LedgerProvisioner
from autorelease.provisioners.memory import MemoryProvisioner
from autorelease.rules.guard import Limits
from autorelease.sweep.edge.stop import Stop
from tests.support.engine import EXPIRED, Calls, Engine, Scripted, Wrapper
from tests.support.sweeping import retryable, timed_out, when

ROWS = 10_000
WORKERS = 16


class CountingLedger(Wrapper):
    """Notes how many rows were read again and are not done with, and takes as long to write as a disk does."""

    def __init__(self, inner: Any, calls: Calls) -> None:
        super().__init__(inner)
        self._calls = calls

    def read_many(self, sids: Sequence[str]) -> Any:
        """A row that is read again is on its way until its call is over."""
        self._calls.add("on the way", len(sids))
        return self._inner.read_many(sids)

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


# --- tries within one run ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
def test_a_retryable_error_is_tried_again(engine: Engine) -> None:
    engine.add("a")
    provisioner = Scripted({"a": [retryable(), retryable()]})
    ticked = engine.tick(provisioner)
    assert (ticked.code, ticked.ends(), len(provisioner.calls)) == (ExitCode.OK, {"a": "released"}, 3)
    assert engine.failed_ticks() == {"a": 0}


@pytest.mark.usefixtures("quick")
def test_every_attempt_is_in_the_history(engine: Engine) -> None:
    engine.add("a")
    engine.tick(Scripted({"a": [retryable("busy: 503"), timed_out()]}))
    journal = engine.open_journal()
    events = list(journal.events(sid="a"))
    journal.close()
    assert [(event["event"], event["error"]) for event in events] == [
        ("intent", None),
        ("attempt", "busy: 503"),
        ("intent", None),
        ("attempt", "took too long"),
        ("intent", None),
        ("outcome", None),
    ]
    # What is about to begin has taken no time yet.
    assert [event["duration_ms"] for event in events if event["event"] == "intent"] == [None] * 3


class Counted(Wrapper):
    """A journal that counts what is written into it, each time."""

    def __init__(self, inner: SQLiteJournal) -> None:
        super().__init__(inner)
        self.writes = 0

    def record(self, *arguments: Any, **more: Any) -> None:
        """Write, and count."""
        self.writes += 1
        self._inner.record(*arguments, **more)


@pytest.mark.usefixtures("quick")
def test_an_attempt_is_written_with_what_follows(engine: Engine) -> None:
    engine.add("a")
    made: list[Counted] = []

    def counted(journal: SQLiteJournal) -> Counted:
        made.append(Counted(journal))
        return made[0]

    engine.tick(Scripted({"a": [retryable(), retryable()]}), around_journal=counted)
    # The outcome alone: two attempts and three intents are written by `begin`.
    assert made[0].writes == 1


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
    assert engine.events("a") == [("intent", None, None), ("attempt", None, None), ("skip", "skipped", "renewed")]


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


def test_a_wish_that_comes_before_the_first_call_releases_nothing(engine: Engine) -> None:
    engine.add("a", "b")
    provisioner = Scripted()

    class Wishing(Wrapper):
        def note_plan(self, *arguments: Any, **named: Any) -> None:
            self._inner.note_plan(*arguments, **named)
            engine.stop.wish("SIGINT")

    ticked = engine.tick(provisioner, around_journal=Wishing)
    assert (ticked.code, provisioner.calls) == (ExitCode.INTERRUPTED, [])
    assert ticked.ends() == {"a": "deferred", "b": "deferred"}


def test_a_wish_that_comes_before_the_plan_ends_the_tick_without_one(engine: Engine) -> None:
    engine.add("a", "b")
    provisioner = Scripted()
    engine.stop.wish("SIGINT")
    with pytest.raises(InterruptedTickError):
        engine.tick(provisioner)
    assert provisioner.calls == []


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
