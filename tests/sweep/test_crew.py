"""The breaker of each provisioner."""

from autorelease.errors import ExitCode, ProvisionerDown, ProvisionerError, ProvisionerSeemsDown
from autorelease.provisioners.memory import MemoryProvisioner
from tests.support.engine import EXPIRED, Engine, Scripted
from tests.support.sweeping import timed_out


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
