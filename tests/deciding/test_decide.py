"""What is decided holds its plan open until somebody closes it; what breaks off has closed it by then.

What is due is read first.
"""

from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from autorelease.deciding.spool import Spool
from autorelease.errors import UnusableError
from tests.support.connections import all_closed
from tests.support.engine import Engine, Scripted
from tests.support.sqlite_steps import statements_of


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


def test_what_is_due_is_read_before_the_live_rows_are_judged(tmp_path: Path) -> None:
    """What a large ledger has handed on as due it does not judge once more; see tests/ledger/test_quick.py."""
    engine = Engine(tmp_path)
    engine.add("a")
    with closing(engine.open_ledger()) as ledger, closing(engine.open_journal()) as journal:

        def decide() -> None:
            engine.decide(ledger, journal).spool.close()

        statements = statements_of(ledger.connection, decide)
    read = [number for number, each in enumerate(statements) if '"sid" IS NOT NULL' in each]
    judged = [number for number, each in enumerate(statements) if each.startswith("SELECT count(*), coalesce(sum(")]
    assert read
    assert judged
    assert max(read) < min(judged)
