"""Operators' orders of the installed command, shot at as ticks are; and what operators do between two of them."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.faults.chain import NEVER, Chain, Fate, Shot
from tests.support.here import run_here
from tests.support.place import DAY, Ran

# What one order names: rows that are due, and some whose time has not come: more than are called for at once.
DUE = 7
EARLY = 5
ORDERED = DUE + EARLY


@dataclass(slots=True)
class OrderedChain(Chain):
    """A chain in which operators take part. early: the sids that are released before their time."""

    early: list[str] = field(default_factory=list)

    def add_early(self) -> Sequence[str]:
        """Add rows that an operator will release before their time."""
        later, first = time.time_ns() // 10**6 + 20 * DAY * 1000, len(self.rows)
        sids = [f"early-{number}" for number in range(first, first + EARLY)]
        self.add({sid: later + number for number, sid in enumerate(sids)}, off_limits_from=0)
        self.early.extend(sids)
        return sids

    def shoot_order(self, shot: Shot, sids: Sequence[str]) -> Fate:
        """Order these released, and what is held, too; shoot at that."""
        with self._ordered(sids):
            code = self.shoot_at(shot, *_order([*sids, *sorted(self.held)]))
        calls = self.calls()
        return Fate(code, calls, len(sids) - len(calls), None)

    def order_again(self, sids: Sequence[str]) -> Ran:
        """Order these released, in peace."""
        with self._ordered(sids):
            return self.run_whole(*_order(sids))

    @contextmanager
    def _ordered(self, sids: Sequence[str]) -> Iterator[None]:
        """What is released before its time may be destroyed from the order on, until nothing of it runs any more."""
        gone = self.destroyed()
        early = [self.rows[sid] for sid in sids if sid in self.early and self.rows[sid].vm_ref not in gone]
        for row in early:
            row.due_from, row.off_limits_from = time.time_ns(), NEVER
        yield
        for row in early:
            row.off_limits_from = time.time_ns()
        # Whose row was stamped is released: that the journal does not know it yet is no conflict.
        self.conflicts |= self.begun() & set(self.early) & self.live()

    # --- in between -------------------------------------------------------------------------------------------------

    def hold(self, sid: str) -> None:
        """Hold a row that is due and whose release was not begun."""
        assert run_here(self.place, "hold", sid, "--reason", "an operator's wish").code == 0
        self.held.add(sid)
        self.rows[sid].off_limits_from = time.time_ns()

    def unhold(self, sid: str) -> None:
        """End that hold."""
        row = self.rows[sid]
        row.due_from, row.off_limits_from = time.time_ns(), NEVER
        assert run_here(self.place, "unhold", sid).code == 0
        self.held.remove(sid)

    def acknowledge(self, sid: str) -> None:
        """Say of a conflict that this is known."""
        assert run_here(self.place, "retry", sid).code == 0
        self.conflicts.remove(sid)
        self.acknowledged.add(sid)


def _order(sids: Sequence[str]) -> Sequence[str]:
    return "release", *sids, "--yes", "--reason", "an operator's wish"
