"""What a run is to release, each provisioner's rows one after the other. Where they come from is the plan's affair."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Protocol

from autorelease.model import Planned

VMKey = tuple[str | None, str]


class Plan(Protocol):
    """A plan that waits: in a spool, or the few rows of an operator's order."""

    def to_release(self, provisioner: str | None = None) -> Iterator[Planned]:
        """What is to be released, by this provisioner or by all, in order; begins anew with each call."""

    def rest(self) -> Iterator[Planned]:
        """What was planned with them, and is not to be released now; nobody is charged for anything of it."""

    def provisioners(self) -> Sequence[str]:
        """The names of the provisioners that it needs."""

    def due_vms(self) -> Iterable[Sequence[str]]:
        """The references of the VMs that it is about, in chunks."""

    def shared_vms(self) -> frozenset[VMKey]:
        """The VMs that more than one of its rows are of, as provisioner and reference are compared."""


class Worklist(Protocol):
    """What comes next for a provisioner can be looked at before it is taken; no provisioner's rows hide another's."""

    def provisioners(self) -> Sequence[str]:
        """All that there were rows for in the beginning."""

    def peek(self, provisioner: str) -> Planned | None:
        """The next one for this provisioner; None: there is no more."""

    def take(self, provisioner: str) -> Planned | None:
        """The next one for this provisioner, and go on."""


class Planlist:
    """The worklist of one process: its own plan. without: sids that are done with already."""

    def __init__(self, plan: Plan, without: Collection[str] = ()) -> None:
        self._rows = {name: _without(plan.to_release(name), without) for name in plan.provisioners()}
        self._next = {name: next(rows, None) for name, rows in self._rows.items()}

    def provisioners(self) -> Sequence[str]:
        """All that there were rows for in the beginning."""
        return list(self._rows)

    def peek(self, provisioner: str) -> Planned | None:
        """The next one for this provisioner; None: there is no more."""
        return self._next[provisioner]

    def take(self, provisioner: str) -> Planned | None:
        """The next one for this provisioner, and go on."""
        taken = self._next[provisioner]
        if taken is not None:
            self._next[provisioner] = next(self._rows[provisioner], None)
        return taken


def _without(rows: Iterator[Planned], sids: Collection[str]) -> Iterator[Planned]:
    return (planned for planned in rows if planned.allocation.sid not in sids)
