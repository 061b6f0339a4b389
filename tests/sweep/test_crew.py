"""The breaker of each provisioner."""

from autorelease.errors import ExitCode, ProvisionerDown
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
