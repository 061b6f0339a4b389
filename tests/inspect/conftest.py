"""An installation that the doctor looks at: real files, on a host without systemd."""

from pathlib import Path

import pytest

from tests.support.engine import RENEWED, Scripted
from tests.support.patient import Patient


@pytest.fixture
def new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Patient:
    """An installation that has done nothing yet, on a host without systemd."""
    for name in ("bin", "place"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return Patient(tmp_path / "place")


@pytest.fixture
def patient(new: Patient) -> Patient:
    """One that is well: a row that was released, one that is paid for, and a tick that ran through."""
    new.add("due")
    new.add("paid", expires_at=RENEWED)
    new.tick(Scripted())
    return new
