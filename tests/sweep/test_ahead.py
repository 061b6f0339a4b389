"""Calls that are ready before a worker is free: made only if all is as it was when they were judged."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta

import pytest

from autorelease.errors import ExitCode, ProvisionerDown
from autorelease.model import Allocation
from autorelease.provisioners.memory import MemoryProvisioner
from autorelease.sweep.edge.freshness import Freshness
from autorelease.sweep.windows import Windows
from tests.e2e.reports import wait_until
from tests.support.engine import INTENT_IN_JOURNAL, Engine, Scripted
from tests.support.sweeping import when

LONG = 30.0


def is_begun(engine: Engine, sid: str) -> bool:
    """Whether the journal has an open intent of this sid."""
    return engine.place.query(INTENT_IN_JOURNAL, sid, database=engine.place.journal) == [(1,)]


def once_ready(engine: Engine, sid: str, happens: Callable[[], object]) -> Callable[[Allocation], None]:
    """In the call before the one of this sid, which is ready by then, something happens."""

    def before(allocation: Allocation) -> None:
        if allocation.sid == "b":
            wait_until(lambda: is_begun(engine, sid))
            happens()

    return before


@pytest.fixture
def alone(engine: Engine) -> Engine:
    """One worker, and rows that follow each other; of the first one it learns how long a call takes."""
    engine.configure(concurrency=1)
    engine.add("a", "b", "c", "d")
    return engine


@pytest.mark.parametrize(
    ("happens", "end"),
    [
        (lambda engine: engine.renew("c"), "renewed"),
        (lambda engine: engine.mark_released("c"), "already_released"),
        (lambda engine: engine.place.execute("UPDATE vm_allocations SET vm_ref = 'x' WHERE sid = 'c'"), "changed"),
        (lambda engine: engine.hold("c"), "held"),
        (lambda engine: engine.hold(""), "held"),
    ],
    ids=["renewed", "released", "changed", "held", "all held"],
)
def test_what_happens_while_it_waits_for_a_worker_is_seen(
    alone: Engine, happens: Callable[[Engine], object], end: str
) -> None:
    provisioner = Scripted(before=once_ready(alone, "c", lambda: happens(alone)))
    ends = alone.tick(provisioner).ends()
    assert ends["c"] == end
    assert "c" not in provisioner.calls
    assert alone.open_intents() == set()


def test_what_somebody_writes_of_other_rows_delays_it_and_no_more(alone: Engine) -> None:
    alone.add("paid", expires_at=2_000_000_000)
    provisioner = Scripted(before=once_ready(alone, "c", lambda: alone.renew("paid", 2_100_000_000)))
    ticked = alone.tick(provisioner)
    assert ticked.ends() == dict.fromkeys("abcd", "released")
    assert provisioner.calls == ["a", "b", "c", "d"]


def test_a_stop_that_comes_while_it_waits_begins_it_no_more(alone: Engine) -> None:
    provisioner = Scripted(before=once_ready(alone, "c", lambda: alone.stop.wish("SIGTERM")))
    ticked = alone.tick(provisioner)
    assert ticked.code == ExitCode.TERMINATED
    assert ticked.ends() == {"a": "released", "b": "released", "c": "deferred", "d": "deferred"}
    assert (provisioner.calls, alone.open_intents()) == (["a", "b"], set())


def test_a_provisioner_that_went_down_while_it_waits_is_not_called(alone: Engine) -> None:
    downs = ProvisionerDown("the cluster is gone")
    alone.add("e", "f", "g", "h", "i")
    provisioner = Scripted({sid: [downs] for sid in "bcdefghi"})
    ticked = alone.tick(provisioner)
    assert ticked.code == ExitCode.PROVISIONER_DOWN
    # Five in a row open the breaker, and until the fifth was heard no other began.
    assert len(provisioner.calls) == 1 + 5
    assert (ticked.ends()["a"], ticked.ends()["i"], alone.open_intents()) == ("released", "deferred", set())


def test_behind_a_call_that_never_returns_it_is_not_taken_for_one(
    alone: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autorelease.limits.ABANDONED_AFTER", timedelta(seconds=0.1))
    monkeypatch.setattr("autorelease.limits.JUDGED_FOR", timedelta(seconds=0.1))
    alone.configure(concurrency=1, timeout=timedelta(seconds=0.1))
    wakes = threading.Event()
    provisioner = Scripted(before=when("b", wakes.wait))
    try:
        ticked = alone.tick(provisioner)
        assert ticked.ends() == {"a": "released", "b": "failed", "c": "released", "d": "released"}
        assert alone.open_intents() == {"b"}
    finally:
        wakes.set()


def test_no_more_are_called_at_once_than_may(engine: Engine) -> None:
    engine.configure(concurrency=2)
    sids = [f"vm-{number:03}" for number in range(200)]
    engine.add(*sids)
    provisioner = MemoryProvisioner(sids)
    assert set(engine.tick(provisioner).ends().values()) == {"released"}
    assert provisioner.most_at_once <= 2


# --- how many ---------------------------------------------------------------------------------------------------------


def room(windows: Windows) -> int:
    """How many calls there may be, under way and ready."""
    return next(called for called in range(1000) if not windows.has_room("default", called, 0))


def test_short_calls_alone_are_ready_before_a_worker_is_free(engine: Engine) -> None:
    engine.configure(concurrency=4)
    windows = Windows(engine.means({"default": Scripted()}, lambda _: None), may_be_ahead=True)
    assert room(windows) == 4
    windows.note_duration("default", 0.001)
    assert (room(windows), windows.is_full("default", 3), windows.is_full("default", 4)) == (8, False, True)
    for _ in range(50):
        windows.note_duration("default", 0.2)
    assert room(windows) == 4 + 2
    for _ in range(50):
        windows.note_duration("default", 30.0)
    assert (room(windows), windows.opens_at("default", 4)) == (4, None)


def test_where_nobody_can_tell_whether_all_is_as_it_was_none_is(engine: Engine) -> None:
    engine.configure(concurrency=4)
    windows = Windows(engine.means({"default": Scripted()}, lambda _: None))
    windows.note_duration("default", 0.001)
    assert room(windows) == 4


# --- whether all is as it was -----------------------------------------------------------------------------------------


class Files:
    """A real ledger and journal, looked at by the connection that judges and by one that sees whatever is written."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.ledger, self.journal = engine.open_ledger(), engine.open_journal()
        self.watches = (self.ledger.watch(), self.journal.watch())
        self.fresh = Freshness(lambda: (self.watches[0].version(), self.watches[1].version()), self.known)
        self.fresh.look()

    def known(self) -> tuple[int | None, int | None]:
        """By the connections that judge and write."""
        return self.ledger.version(), self.journal.version()

    def write(self) -> None:
        """As the tick itself does."""
        self.ledger.connection.execute("UPDATE vm_allocations SET owner = 'ours'")


@pytest.fixture
def files(engine: Engine) -> Iterator[Files]:
    """Both, of one row."""
    engine.add("a")
    made = Files(engine)
    yield made
    for opened in (*made.watches, made.ledger, made.journal):
        opened.close()


def test_it_holds_as_long_as_nobody_writes(files: Files) -> None:
    known = files.known()
    assert files.fresh.holds(known)
    assert files.fresh.holds(known)
    files.engine.renew("a")
    assert not files.fresh.holds(known)
    # Who judges by what is there now may go on, once that was looked at.
    assert not files.fresh.holds(files.known())
    files.fresh.look()
    assert files.fresh.holds(files.known())
    assert not files.fresh.holds(known)


def test_what_we_write_ourselves_changes_nothing(files: Files) -> None:
    known = files.known()
    with files.fresh.ours():
        files.write()
    assert files.fresh.holds(known)
    with files.fresh.ours():
        files.write()
        files.engine.hold("a")
    assert not files.fresh.holds(known)


def test_who_asks_in_the_midst_of_our_writing_waits_for_its_end(files: Files) -> None:
    known, found = files.known(), []
    with files.fresh.ours():
        files.write()
        asking = threading.Thread(target=lambda: found.append(files.fresh.holds(known)))
        asking.start()
        asking.join(0.05)
        assert (asking.is_alive(), found) == (True, [])
    asking.join(LONG)
    assert found == [True]


def test_of_a_file_that_was_replaced_nothing_holds(files: Files) -> None:
    known = files.known()
    moved = files.engine.place.ledger.rename(files.engine.place.ledger.with_suffix(".old"))
    assert not files.fresh.holds(known)
    moved.rename(files.engine.place.ledger)
    assert files.fresh.holds(known)


def test_of_a_file_that_is_locked_nothing_holds(files: Files) -> None:
    known = files.known()
    with closing(sqlite3.connect(files.engine.place.ledger, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert not files.fresh.holds(known)
    assert files.fresh.holds(known)


def test_where_the_versions_are_unknown_nothing_holds(files: Files) -> None:
    fresh = Freshness(lambda: (1, 1), lambda: (None, 1))
    fresh.look()
    assert not fresh.holds((None, 1))
