"""The provisioners of a run: asked at once before it, and the breaker of each."""

import logging
import threading
from collections.abc import Callable
from datetime import timedelta

import pytest

from autorelease.errors import ExitCode, ProvisionerDown, ProvisionerError, ProvisionerSeemsDown
from autorelease.provisioners.memory import MemoryProvisioner
from autorelease.sweep.edge.stop import Stop
from tests.support.engine import EXPIRED, Engine, Scripted
from tests.support.sweeping import timed_out

LONG = 30.0


class Looking(Scripted):
    """Does something in its preflight, and something as it says what it is known by."""

    def __init__(self, in_preflight: Callable[[], object], in_fingerprint: Callable[[], object] = int) -> None:
        super().__init__()
        self._in_preflight = in_preflight
        self._in_fingerprint = in_fingerprint

    def preflight(self) -> None:
        """As it was told."""
        self.preflights += 1
        self._in_preflight()

    def fingerprint(self) -> str:
        """As it was told."""
        self._in_fingerprint()
        return super().fingerprint()


def add_three(engine: Engine) -> tuple[str, str, str]:
    """A row for each of three provisioners, whose names it returns."""
    names = ("one", "two", "three")
    for name in names:
        engine.add(f"vm-{name}", provisioner=name)
    return names


def test_all_are_asked_at_the_same_time(engine: Engine) -> None:
    """Nobody comes back before all are there."""
    names = add_three(engine)
    looking, knowing = threading.Barrier(3, timeout=LONG), threading.Barrier(3, timeout=LONG)
    ticked = engine.tick({name: Looking(looking.wait, knowing.wait) for name in names})
    assert (ticked.code, set(ticked.ends().values())) == (ExitCode.OK, {"released"})


def test_those_whose_preflight_hangs_are_down_all_at_once_and_the_others_work(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autorelease.limits.ABANDONED_AFTER", timedelta(seconds=0.3))
    engine.configure(timeout=timedelta(seconds=0.2))
    add_three(engine)
    wakes = threading.Event()
    # Both are in their preflight at the same time, and neither comes back.
    both = threading.Barrier(2, timeout=LONG)

    def hang() -> None:
        both.wait()
        wakes.wait(LONG)

    hung = {"one": Looking(hang), "two": Looking(hang)}
    try:
        ticked = engine.tick({**hung, "three": Scripted()})
    finally:
        wakes.set()
    assert ticked.ends() == {"vm-one": "deferred", "vm-two": "deferred", "vm-three": "released"}
    late = "its preflight did not come back within 0.5 s"
    assert ticked.report.down == {"one": late, "two": late}
    assert not both.broken


@pytest.mark.parametrize("place", ["preflight", "fingerprint"])
def test_a_wish_to_stop_is_heard_while_they_are_asked(engine: Engine, place: str) -> None:
    add_three(engine)
    wakes = threading.Event()
    was_waited_for: list[bool] = []

    def stop_and_hang() -> None:
        engine.stop.wish("SIGTERM")
        was_waited_for.append(not wakes.wait(LONG))

    hung = Looking(stop_and_hang) if place == "preflight" else Looking(int, stop_and_hang)
    others = Scripted()
    try:
        ticked = engine.tick({"one": hung, "two": others, "three": others})
        assert was_waited_for == []
    finally:
        wakes.set()
    assert (ticked.code, ticked.report.stopped_by, ticked.report.down) == (ExitCode.TERMINATED, "SIGTERM", {})
    assert set(ticked.ends().values()) == {"deferred"}
    assert (hung.calls, others.calls) == ([], [])


def test_the_deadline_is_heard_while_they_are_asked(engine: Engine) -> None:
    add_three(engine)
    asked, wakes = threading.Event(), threading.Event()
    was_waited_for: list[bool] = []
    engine.stop = Stop(asked.is_set)

    def hang() -> None:
        asked.set()
        was_waited_for.append(not wakes.wait(LONG))

    try:
        ticked = engine.tick({name: Looking(hang) for name in ("one", "two", "three")})
        assert was_waited_for == []
    finally:
        wakes.set()
    assert (ticked.report.stopped_by, set(ticked.ends().values())) == ("deadline", {"deferred"})


# --- one line for each that is down -----------------------------------------------------------------------------------


def lines_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the log says to whoever does not debug."""
    return [record.getMessage() for record in caplog.records if record.levelno > logging.INFO]


def test_one_line_says_who_is_down_and_how_many_rows_wait(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    engine.add(*[f"vm-{number:03}" for number in range(300)])
    engine.add("other", provisioner="second")
    ticked = engine.tick({"default": Scripted(preflight_error=ProvisionerDown("refused")), "second": Scripted()})
    assert ticked.report.skipped == {"deferred": 300}
    assert lines_of(caplog) == [
        "provisioner default is down: refused. Rows left for the next tick, uncharged: 300. Look: autorelease doctor"
    ]


def test_one_line_says_what_a_stop_has_left(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    engine.configure(concurrency=1)
    engine.add("young", expires_at=EXPIRED + 60)
    engine.add("old", "older", expires_at=EXPIRED - 60, provisioner="second")
    engine.tick({"default": Scripted(), "second": Looking(lambda: engine.stop.wish("SIGTERM"))})
    assert lines_of(caplog) == ["stopped by SIGTERM. Rows left for the next tick: 3, the oldest is old"]


def test_what_a_stop_leaves_is_not_said_to_be_of_one_that_is_down(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """A single call said that it is down, and the rest was not reached."""
    engine.configure(concurrency=1)
    engine.add(*"abc")

    def stop_at_the_second(allocation: object) -> None:
        if getattr(allocation, "sid", "") == "b":
            engine.stop.wish("SIGTERM")

    engine.tick(Scripted({"a": [ProvisionerDown("busy")]}, before=stop_at_the_second))
    assert lines_of(caplog) == [
        "stopped by SIGTERM. Rows left for the next tick: 1, the oldest is c",
        "provisioner default is down: busy. Rows left for the next tick, uncharged: 1. Look: autorelease doctor",
    ]


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


# --- it seems to be down ----------------------------------------------------------------------------------------------

SEEMS = ProvisionerSeemsDown("no such command")


def test_what_seems_down_is_charged_where_a_later_call_got_an_answer(engine: Engine) -> None:
    engine.configure(concurrency=1)
    engine.add(*"abc")
    ticked = engine.tick(Scripted({"a": [SEEMS], "b": [ProvisionerError("no")]}))
    assert (ticked.code, ticked.report.down) == (ExitCode.NOT_ALL_WELL, {})
    assert ticked.ends() == {"a": "failed", "b": "failed", "c": "released"}
    assert ticked.finding("a").error is not None
    assert engine.failed_ticks() == {"a": 1, "b": 1, "c": 0}
    assert engine.open_intents() == set()


def test_what_seems_down_is_down_where_no_later_call_got_an_answer(engine: Engine) -> None:
    engine.configure(concurrency=1)
    engine.add(*"abc")
    # What was released before says nothing of now, and that others are down says no more.
    ticked = engine.tick(Scripted({"b": [SEEMS], "c": [ProvisionerDown("unreachable")]}))
    assert ticked.code == ExitCode.PROVISIONER_DOWN
    assert ticked.ends() == {"a": "released", "b": "deferred", "c": "deferred"}
    assert set(engine.failed_ticks().values()) == {0}
    assert engine.open_intents() == set()


NOT_CALLED = ProvisionerError("vm_ref '-x' begins with a dash", not_called=True)


def test_a_row_that_was_not_called_for_is_no_answer(engine: Engine) -> None:
    engine.configure(concurrency=1)
    engine.add(*"abc")
    ticked = engine.tick(Scripted({"a": [SEEMS], "b": [NOT_CALLED], "c": [SEEMS]}))
    assert ticked.code == ExitCode.PROVISIONER_DOWN
    assert ticked.ends() == {"a": "deferred", "b": "failed", "c": "deferred"}
    assert engine.failed_ticks() == {"a": 0, "b": 1, "c": 0}


@pytest.mark.parametrize("kind", [ProvisionerDown, ProvisionerSeemsDown])
def test_rows_that_were_not_called_for_do_not_keep_the_breaker_closed(
    engine: Engine, kind: type[ProvisionerError]
) -> None:
    engine.configure(concurrency=1)
    sids = [f"vm-{number}" for number in range(12)]
    engine.add(*sids)
    answers = {sid: [NOT_CALLED if number % 2 else kind("no system")] for number, sid in enumerate(sids)}
    ticked = engine.tick(Scripted(answers))
    assert ticked.code == ExitCode.PROVISIONER_DOWN
    # Five that were down, and those that no call was made for until then.
    assert [sid for sid, end in ticked.ends().items() if end == "failed"] == ["vm-1", "vm-3", "vm-5", "vm-7"]
    assert {number for sid, number in engine.failed_ticks().items() if int(sid[3:]) % 2 == 0} == {0}


def test_rows_that_were_not_called_for_do_not_part_time_outs(engine: Engine) -> None:
    engine.configure(concurrency=1, attempts=1)
    sids = [f"vm-{number}" for number in range(12)]
    engine.add(*sids)
    answers = {sid: [NOT_CALLED if number % 2 else timed_out()] for number, sid in enumerate(sids)}
    ticked = engine.tick(Scripted(answers))
    assert ticked.code == ExitCode.PROVISIONER_DOWN
    assert [sid for sid, end in ticked.ends().items() if end == "deferred"] == ["vm-9", "vm-10", "vm-11"]


def test_five_that_seem_down_open_the_breaker_and_nobody_is_charged(engine: Engine) -> None:
    engine.configure(concurrency=1)
    engine.add(*"abcdefg")
    provisioner = Scripted({sid: [SEEMS] for sid in "abcdefg"})
    ticked = engine.tick(provisioner)
    assert (ticked.code, provisioner.calls) == (ExitCode.PROVISIONER_DOWN, list("abcde"))
    assert ticked.ends() == dict.fromkeys("abcdefg", "deferred")
    assert ticked.report.down == {"default": "no such command"}
    assert set(engine.failed_ticks().values()) == {0}


def test_an_answer_of_another_provisioner_says_nothing(engine: Engine) -> None:
    engine.configure(concurrency=1)
    engine.add("a", provisioner="one")
    engine.add("b", provisioner="two", expires_at=EXPIRED + 1)
    ticked = engine.tick({"one": Scripted({"a": [SEEMS]}), "two": Scripted()})
    assert (ticked.code, ticked.ends()) == (ExitCode.PROVISIONER_DOWN, {"a": "deferred", "b": "released"})


def test_what_seems_down_is_left_for_the_next_tick_by_a_stop(engine: Engine) -> None:
    engine.configure(concurrency=1)
    engine.add("a", "b")
    ticked = engine.tick(Scripted({"a": [SEEMS]}, before=lambda _: engine.stop.wish("SIGTERM")))
    assert (ticked.code, ticked.ends()) == (ExitCode.TERMINATED, {"a": "deferred", "b": "deferred"})
    assert set(engine.failed_ticks().values()) == {0}


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
