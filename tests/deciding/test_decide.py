"""What is decided holds its plan open until somebody closes it; what breaks off has closed it by then."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from autorelease.deciding.spool import Spool
from autorelease.errors import UnusableError
from tests.support.connections import all_closed
from tests.support.engine import Engine, Scripted


@pytest.mark.parametrize("question", ["due_vms_and_sids", "summary", "invalid"])
def test_a_plan_that_cannot_be_read_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, question: str) -> None:
    """As on a disk that is full: to sum up what is planned takes indexes, and they take room."""

    def failing(*_: Any, **__: Any) -> None:
        raise UnusableError("the disk is full")

    engine = Engine(tmp_path)
    engine.add("a")
    monkeypatch.setattr(Spool, question, failing)
    with all_closed(), pytest.raises(UnusableError, match="full"):
        engine.tick(Scripted())
    monkeypatch.undo()
    engine.later(timedelta(minutes=1))
    assert engine.tick(Scripted()).ends() == {"a": "released"}
