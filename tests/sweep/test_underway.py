"""Calls that never return."""

import threading
from datetime import timedelta

import pytest

from autorelease.errors import ExitCode
from autorelease.provisioners.memory import MemoryProvisioner
from tests.support.engine import Engine
from tests.support.sweeping import when


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
