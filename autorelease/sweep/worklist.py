"""What a run is to release, one row after the other; where the rows come from is for whoever made the plan to say."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Protocol

from autorelease.model import Planned

VMKey = tuple[str | None, str]


class Plan(Protocol):
    """A plan that waits: in a spool, or the few rows of an operator's order."""

    def to_release(self) -> Iterator[Planned]:
        """What is to be released, in order; begins anew with each call."""

    def provisioners(self) -> Sequence[str]:
        """The names of the provisioners that it needs."""

    def due_vms(self) -> Iterable[Sequence[str]]:
        """The references of the VMs that it is about, in chunks."""

    def shared_vms(self) -> frozenset[VMKey]:
        """The VMs that more than one of its rows are of, as provisioner and reference are compared."""


class Worklist(Protocol):
    """What comes next can be looked at before it is taken."""

    def peek(self) -> Planned | None:
        """The next one; None: there is no more."""

    def take(self) -> Planned | None:
        """The next one, and go on."""


class Planlist:
    """The worklist of one process: its own plan. without: sids that are done with already."""

    def __init__(self, plan: Iterable[Planned], without: Collection[str] = ()) -> None:
        self._plan = (planned for planned in plan if planned.allocation.sid not in without)
        self._next = next(self._plan, None)

    def peek(self) -> Planned | None:
        """The next one; None: there is no more."""
        return self._next

    def take(self) -> Planned | None:
        """The next one, and go on."""
        taken, self._next = self._next, next(self._plan, None) if self._next else None
        return taken
