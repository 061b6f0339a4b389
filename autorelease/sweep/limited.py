"""The first few rows of a plan, before the many: `tick --limit N`. What comes after them is left for another tick."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice, takewhile

from autorelease.model import Planned
from autorelease.sweep.worklist import Plan, VMKey


class Limited:
    """The first rows of another plan, in its order; a plan itself. Keeps none of them."""

    def __init__(self, plan: Plan, at_most: int) -> None:
        self._plan = plan
        self._at_most = at_most
        self._last = next(islice(plan.to_release(), at_most - 1, None), None)

    def to_release(self, provisioner: str | None = None) -> Iterator[Planned]:
        """Those of them that are to be released, by this provisioner or by all, in order."""
        if provisioner is None or self._last is None:
            return islice(self._plan.to_release(provisioner), self._at_most)
        last = _place(self._last)
        return takewhile(lambda planned: _place(planned) <= last, self._plan.to_release(provisioner))

    def provisioners(self) -> Sequence[str]:
        """The names of the provisioners that they need."""
        return [name for name in self._plan.provisioners() if next(self.to_release(name), None) is not None]

    def due_vms(self) -> Iterable[Sequence[str]]:
        """The references of the VMs of the whole plan."""
        return self._plan.due_vms()

    def shared_vms(self) -> frozenset[VMKey]:
        """The VMs that more than one row of the whole plan is of."""
        return self._plan.shared_vms()

    def rest(self) -> Iterator[Planned]:
        """What the plan has beyond them."""
        return islice(self._plan.to_release(), self._at_most, None)


def _place(planned: Planned) -> tuple[bool, datetime | None, str]:
    """Where a row stands in the order of a plan; what is in one has expired, so that it has an expiry."""
    return not planned.first_try, planned.allocation.expires_at, planned.allocation.sid
