"""Judged again right before the call: the row, its hold, and who else holds its VM."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from autorelease.errors import ExitCode
from tests.support.engine import EXPIRED, Engine, Scripted, Wrapper
from tests.support.sweeping import retryable, timed_out, when

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
    assert engine.tick(Scripted()).ends() == {"a": "released"}
    assert engine.open_intents() == set()


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
