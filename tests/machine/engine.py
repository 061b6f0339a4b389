"""The engine of the machine: quick, with a clock that goes on, and with word of every run that begins."""

import itertools
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from autorelease.journal import TickStart
from autorelease.journal.sqlite import SQLiteJournal
from autorelease.ledger.sqlite import SQLiteLedger
from autorelease.ledger.values import Vocabulary
from autorelease.sweep.acting import Means
from tests.support.engine import Engine

if TYPE_CHECKING:
    from collections.abc import Callable

CANCELLED = "Cancelled"
NO_WAITING = "PRAGMA synchronous = OFF"


class HurriedEngine(Engine):
    """What is killed here is a process and not a machine: no need to wait for the disk.

    started: called with the name of each run that begins.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.words = Vocabulary(inactive=frozenset({CANCELLED}))
        self.boot_id, self.boot_seconds, self.ledger_name = "boot-1", 1000.0, "ledger-1"
        self.started: Callable[[str], object] = lambda _: None
        self._instants = itertools.count()

    def start(self) -> TickStart:
        """The start of a further run."""
        start = super().start()
        self.started(start.tick)
        return start

    def means(self, *arguments: Any, **named: Any) -> Means:
        """What acts. No two instants of the clock are the same, but for one that was put back."""
        means = super().means(*arguments, **named)
        return msgspec.structs.replace(means, clock=lambda: self.now + timedelta(microseconds=next(self._instants)))

    def open_ledger(self, *, read_only: bool = False) -> SQLiteLedger:
        """As a tick opens it."""
        ledger = super().open_ledger(read_only=read_only)
        ledger.connection.execute(NO_WAITING)
        return ledger

    def open_journal(self) -> SQLiteJournal:
        """As a tick opens it."""
        journal = super().open_journal()
        journal.connection.execute(NO_WAITING)
        return journal
