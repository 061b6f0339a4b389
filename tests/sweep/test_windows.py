"""Each provisioner has a window of its own: one that is slow, waits or is down holds up no other."""

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

import pytest

from autorelease.errors import ExitCode, ProvisionerDown, ProvisionerError
from autorelease.model import Allocation, Planned
from autorelease.provisioners import Pace
from autorelease.provisioners.ledger import LedgerProvisioner
from autorelease.provisioners.memory import MemoryProvisioner
from autorelease.sweep.edge.stop import Stop
from autorelease.sweep.windows import Windows
from autorelease.sweep.worklist import Planlist
from tests.support.engine import EXPIRED, Answer, Calls, Engine, Scripted, made_allocation
from tests.support.sweeping import retryable, timed_out

LONG = 30.0
QUICK = [f"quick-{number:02}" for number in range(20)]
SLOW = [f"slow-{number}" for number in range(9)]


def add_both(engine: Engine, provisioner: str = "slow") -> None:
    """More rows of the one than there are workers, all of them older than the other's."""
    engine.add(*SLOW, provisioner=provisioner)
    engine.add(*QUICK, provisioner="quick", expires_at=EXPIRED + 60)


class Until:
    """Lets nobody go on before something holds; what does not become true is seen by the test."""

    def __init__(self, holds: Callable[[], bool]) -> None:
        self._holds = holds
        self._ends: list[bool] = []

    @property
    def was_true(self) -> bool:
        """Whether it came true for everybody who waited."""
        return bool(self._ends) and all(self._ends)

    def __call__(self, _: Allocation) -> None:
        """Wait for it."""
        pause = threading.Event()
        for _round in range(int(LONG / 2 / 0.01)):
            if self._holds():
                self._ends.append(True)
                return
            pause.wait(0.01)
        self._ends.append(False)


@pytest.fixture
def bounded(engine: Engine) -> None:
    """So that a loop that does not end fails, and does not hang."""
    turns = iter(range(50_000))
    engine.stop = Stop(lambda: next(turns, None) is None)


@pytest.mark.parametrize("is_timed_out", [False, True])
def test_one_that_is_slow_holds_up_no_other(engine: Engine, *, is_timed_out: bool) -> None:
    """By events, not by time: no slow call ends before the last row of the quick one is stamped."""
    engine.configure(concurrency=4, attempts=1)
    add_both(engine)
    until = Until(lambda: engine.place.released() >= set(QUICK))
    slow = Scripted({sid: [timed_out()] for sid in SLOW} if is_timed_out else {}, before=until)
    ticked = engine.tick({"slow": slow, "quick": Scripted()})
    assert until.was_true
    assert {ticked.ends()[sid] for sid in QUICK} == {"released"}
    assert ticked.code == (ExitCode.PROVISIONER_DOWN if is_timed_out else ExitCode.OK)


def test_one_whose_retries_wait_holds_up_no_other(engine: Engine) -> None:
    engine.configure(concurrency=1)
    add_both(engine)
    waiting = Scripted({sid: [retryable(retry_after_seconds=59)] for sid in SLOW})

    all_wait = Until(lambda: len(waiting.calls) == 4)

    def stop_after_the_last(allocation: Allocation) -> None:
        if allocation.sid == QUICK[-1]:
            all_wait(allocation)
            engine.stop.wish("SIGTERM")

    quick = Scripted(before=stop_after_the_last)
    ticked = engine.tick({"slow": waiting, "quick": quick})
    # As many wait as may; the others have not been called at all, and are read no further than that.
    assert (quick.calls, waiting.calls) == (QUICK, SLOW[:4])
    assert ticked.ends() == {
        **dict.fromkeys(QUICK, "released"),
        **dict.fromkeys(SLOW[:4], "failed"),
        **dict.fromkeys(SLOW[4:], "deferred"),
    }


@pytest.mark.parametrize("is_seen", ["by its preflight", "by its calls"])
def test_one_that_is_down_holds_up_no_other(engine: Engine, is_seen: str) -> None:
    engine.configure(concurrency=1)
    add_both(engine)
    down = ProvisionerDown("refused")
    slow = Scripted(preflight_error=down) if "preflight" in is_seen else Scripted({sid: [down] for sid in SLOW})
    ticked = engine.tick({"slow": slow, "quick": Scripted()})
    assert ticked.code == ExitCode.PROVISIONER_DOWN
    assert ticked.ends() == {**dict.fromkeys(SLOW, "deferred"), **dict.fromkeys(QUICK, "released")}
    assert len(slow.calls) == (0 if "preflight" in is_seen else 5)


def test_the_rows_of_one_that_is_down_are_left_page_by_page(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a long list is being left, those who work are not kept waiting."""
    monkeypatch.setattr("autorelease.sweep.choosing.GROUP", 4)
    engine.configure(concurrency=1)
    down = [f"down-{number:03}" for number in range(100)]
    engine.add(*down, provisioner="down")
    engine.add(*QUICK[:5], provisioner="quick", expires_at=EXPIRED + 900)
    ticked = engine.tick({"down": Scripted(preflight_error=ProvisionerDown("no")), "quick": Scripted()})
    order = [finding.allocation.sid for finding in ticked.findings]
    assert sorted(order) == sorted([*down, *QUICK[:5]])
    assert order.index(QUICK[0]) < order.index(down[-1])


def test_each_has_as_many_workers_as_its_section_says(engine: Engine) -> None:
    engine.configure(concurrency=3)
    engine.paces = {"narrow": Pace(concurrency=1), "wide": Pace(concurrency=6)}
    names = ("narrow", "wide", "default")
    for name in names:
        engine.add(*[f"{name}-{number}" for number in range(12)], provisioner=name)
    calls = Calls()
    # All that there is room for are there at once, or nobody goes on.
    full = threading.Barrier(1 + 6 + 3, timeout=LONG)
    first = {f"{name}-{number}" for name, count in zip(names, (1, 6, 3), strict=True) for number in range(count)}

    def count(allocation: Allocation) -> None:
        calls.add(allocation.provisioner)
        if allocation.sid in first:
            full.wait()
        calls.add(allocation.provisioner, -1)

    ticked = engine.tick({name: Scripted(before=count) for name in names})
    assert set(ticked.ends().values()) == {"released"}
    assert [calls.most(name) for name in names] == [1, 6, 3]


@pytest.mark.usefixtures("bounded")
def test_one_whose_release_is_the_stamp_takes_no_room_from_the_others(engine: Engine) -> None:
    engine.configure(concurrency=2)
    engine.paces = {"stamps": Pace(concurrency=1)}
    engine.add(*[f"stamp-{number:03}" for number in range(700)], provisioner="stamps")
    engine.add(*QUICK, provisioner="quick", expires_at=EXPIRED + 900)
    ticked = engine.tick({"stamps": LedgerProvisioner(), "quick": Scripted()}, immediate=["stamps"])
    assert (ticked.code, len(ticked.findings)) == (ExitCode.OK, 720)
    order = [finding.allocation.sid for finding in ticked.findings]
    # In turn, one of each: the others begin with the first page of stamps, and not after the last.
    assert order.index(QUICK[0]) < order.index("stamp-699")


@pytest.mark.usefixtures("bounded", "quick")
def test_each_keeps_the_order_of_its_own(engine: Engine) -> None:
    """First tries before repeats, oldest first."""
    engine.configure(concurrency=1)
    for name in ("one", "two"):
        engine.add(f"{name}-begun", provisioner=name, expires_at=EXPIRED - 60)
        engine.begin_and_lose(f"{name}-begun", provisioner=name, expires_at=EXPIRED - 60)
        engine.add(*[f"{name}-{number}" for number in range(4)], provisioner=name)
    provisioners = {"one": Scripted(), "two": Scripted()}
    engine.tick(provisioners)
    for name, made in provisioners.items():
        assert made.calls == [*(f"{name}-{number}" for number in range(4)), f"{name}-begun"]


def test_more_provisioners_than_a_group_has_rows(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """All come to their turn, in the same order each time."""
    monkeypatch.setattr("autorelease.sweep.choosing.GROUP", 2)
    names = [f"p-{number}" for number in range(5)]
    for name in names:
        engine.add(f"{name}-a", f"{name}-b", provisioner=name)
    ticked = engine.tick({name: Scripted() for name in names})
    assert set(ticked.ends().values()) == {"released"}
    # In which order threads come to their calls is for the machine to say.
    begun = "SELECT sid FROM events WHERE event = 'intent' ORDER BY id LIMIT 6"
    rows = engine.place.query(begun, database=engine.place.journal)
    assert {sid[:3] for (sid,) in rows} == set(names)


# --- so many calls in a second ----------------------------------------------------------------------------------------


class Ticking:
    """A monotonic clock that goes on by itself, a little with each look."""

    def __init__(self, step: float) -> None:
        self.now = 1000.0
        self._step = step

    def __call__(self) -> float:
        """What it says."""
        self.now += self._step
        return self.now


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("immediate", [(), ("paced",)])
def test_no_more_calls_begin_in_a_second_than_the_section_says(engine: Engine, immediate: Sequence[str]) -> None:
    clock = engine.monotonic = Ticking(0.0001)
    engine.paces = {"paced": Pace(concurrency=5, max_per_second=200)}
    engine.add(*[f"paced-{number:02}" for number in range(12)], provisioner="paced")
    engine.add(*QUICK, provisioner="quick", expires_at=EXPIRED + 60)
    begun: list[float] = []
    paced = Scripted(before=lambda _: begun.append(clock.now))
    ticked = engine.tick({"paced": paced, "quick": Scripted()}, immediate=immediate)
    assert set(ticked.ends().values()) == {"released"}
    if immediate:
        # Made in the one thread, so that the clock stands still between beginning and call.
        assert all(later - earlier >= 1 / 200 for earlier, later in itertools.pairwise(begun))
    assert begun[-1] - begun[0] >= 11 / 200 - 0.005


def test_it_delays_no_other(engine: Engine) -> None:
    engine.configure(concurrency=1)
    add_both(engine)
    engine.paces = {"slow": Pace(max_per_second=0.001)}
    order: list[str] = []

    def note(allocation: Allocation) -> None:
        order.append(allocation.sid)
        if allocation.sid == QUICK[-1]:
            engine.stop.wish("SIGTERM")

    ticked = engine.tick({"slow": Scripted(before=note), "quick": Scripted(before=note)})
    assert ticked.code == ExitCode.TERMINATED
    assert sorted(order) == sorted([SLOW[0], *QUICK])
    assert set(SLOW[1:]) == {sid for sid, end in ticked.ends().items() if end == "deferred"}


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("answer", [retryable(), timed_out()])
def test_a_further_attempt_is_a_call_like_any_other(engine: Engine, quick: None, answer: Answer) -> None:
    clock = engine.monotonic = Ticking(0.0001)
    engine.paces = {"default": Pace(max_per_second=50)}
    engine.add("a")
    begun: list[float] = []
    provisioner = Scripted({"a": [answer, answer]}, before=lambda _: begun.append(clock.now))
    assert engine.tick(provisioner).ends() == {"a": "released"}
    assert len(begun) == 3
    assert begun[-1] - begun[0] >= 2 / 50 - 0.005


def test_what_falls_out_before_its_call_uses_nothing_up(engine: Engine) -> None:
    engine.paces = {"default": Pace(max_per_second=0.001)}
    engine.add(*"abcd")

    class Renewing(MemoryProvisioner):
        def preflight(self) -> None:
            for sid in "abc":
                engine.renew(sid)

    assert engine.tick(Renewing(["d"])).ends() == {**dict.fromkeys("abc", "renewed"), "d": "released"}


def test_a_window(engine: Engine) -> None:
    now = [100.0]
    engine.monotonic = lambda: now[0]
    engine.configure(concurrency=2)
    engine.paces = {"paced": Pace(max_per_second=4)}
    windows = Windows(engine.means({"paced": Scripted(), "stamps": Scripted()}, lambda _: None, immediate=["stamps"]))
    assert (windows.has_room("paced", 0, 0), windows.has_room("paced", 1, 0), windows.has_room("paced", 2, 0)) == (
        True,
        True,
        False,
    )
    # One at a time: the next one begins a quarter of a second later.
    assert not windows.has_room("paced", 0, 1)
    windows.has_begun("paced")
    assert (windows.has_room("paced", 0, 0), windows.opens_at("paced", 1), windows.opens_at("paced", 2)) == (
        False,
        100.25,
        None,
    )
    now[0] = 100.25
    assert windows.has_room("paced", 1, 0)
    windows.has_begun("stamps")
    assert windows.has_room("stamps", 500, 255)


# --- the list ---------------------------------------------------------------------------------------------------------


class ListOf:
    """A plan, and how far each of its streams was read."""

    def __init__(self, rows: Sequence[Planned]) -> None:
        self._rows = rows
        self.read: dict[str | None, int] = {}

    def to_release(self, provisioner: str | None = None) -> Iterator[Planned]:
        """Counts what is taken."""

        def stream() -> Iterator[Planned]:
            for row in self._rows:
                if row.allocation.provisioner == provisioner:
                    self.read[provisioner] = self.read.get(provisioner, 0) + 1
                    yield row

        return stream()

    def rest(self) -> Iterator[Planned]:
        """Nothing."""
        return iter(())

    def provisioners(self) -> Sequence[str]:
        """Those of its rows."""
        return sorted({row.allocation.provisioner for row in self._rows})

    def due_vms(self) -> Iterable[Sequence[str]]:
        """Those of its rows."""
        return [[row.allocation.vm_ref for row in self._rows]]

    def shared_vms(self) -> frozenset[tuple[str | None, str]]:
        """None."""
        return frozenset()


def test_each_stream_is_read_as_it_is_taken_from() -> None:
    rows = [Planned(made_allocation(f"{name}-{number}", provisioner=name)) for number in range(9) for name in "ab"]
    plan = ListOf(rows)
    worklist = Planlist(plan, without={"a-0", "b-1"})
    assert worklist.provisioners() == ["a", "b"]
    assert [worklist.take("b") for _ in range(3)] == [rows[1], rows[5], rows[7]]
    assert (worklist.peek("a"), worklist.peek("a")) == (rows[2], rows[2])
    assert plan.read == {"a": 2, "b": 5}
    assert len([*iter(lambda: worklist.take("a"), None)]) == 8
    assert (worklist.peek("a"), worklist.take("a"), worklist.peek("b")) == (None, None, rows[9])


def test_an_error_of_one_is_no_news_of_the_other(engine: Engine) -> None:
    engine.configure(attempts=1)
    add_both(engine)
    ticked = engine.tick({"slow": Scripted({sid: [ProvisionerError("no")] for sid in SLOW}), "quick": Scripted()})
    assert ticked.ends() == {**dict.fromkeys(SLOW, "failed"), **dict.fromkeys(QUICK, "released")}
