"""Fixtures of the sweep's tests."""

from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.engine import Engine

SHORT = 0.02


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """An empty ledger and an empty journal."""
    return Engine(tmp_path)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks, rescues and pauses that last milliseconds."""
    monkeypatch.setattr("autorelease.sqlitefile.BUSY_SECONDS", SHORT)
    monkeypatch.setattr("autorelease.sweep.trouble.PAUSE_SECONDS", SHORT)
    monkeypatch.setattr("autorelease.limits.STAMP_RESCUE", timedelta(seconds=10))
    monkeypatch.setattr("autorelease.rules.retry.FIRST_PAUSE_SECONDS", 0.002)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch, quick: None) -> None:
    """And a rescue that gives up soon."""
    monkeypatch.setattr("autorelease.limits.STAMP_RESCUE", timedelta(seconds=0.1))
