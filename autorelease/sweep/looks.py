"""When it is asked again who else holds some VMs, and of how many at once: as often as the ledger can bear it.

Where an index serves, a look costs next to nothing, and is made each time. Where none does, each look walks through the
whole table: then at most a tenth of the time goes into looks, each is about the whole plan, and what the last one found
counts until the next.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from autorelease.identity import Holder
from autorelease.ledger import Ledger

CHEAP_SECONDS = 0.05
# The part of the run's time that looks may take where they are not cheap.
SHARE = 0.1
# As many as the ledger takes at once: a plan that has more is looked at group by group.
MOST_AT_ONCE = 20_000


class Looks:
    """Made when the run begins to release. due_vms: the references of all VMs of the plan, in chunks."""

    def __init__(
        self, ledger: Ledger, due_vms: Callable[[], Iterable[Sequence[str]]], monotonic: Callable[[], float]
    ) -> None:
        self._ledger = ledger
        self._due_vms = due_vms
        self._monotonic = monotonic
        self._began = monotonic()
        self._spent = 0.0
        self._cost = 0.0
        self._of_plan: frozenset[str] | None = None
        self._found: Mapping[str, Sequence[Holder]] | None = None

    def holders(self, references: Collection[str]) -> Sequence[Holder]:
        """The live rows that hold VMs of these references; of the last look where a new one would cost too much."""
        if self._is_cheap():
            found = self._look(references)
            if self._is_cheap():
                return found
        if self._found is not None and not self._is_affordable():
            return [holder for reference in references for holder in self._found.get(reference, ())]
        return self._look_wide(references)

    def _is_cheap(self) -> bool:
        return self._cost < CHEAP_SECONDS

    def _is_affordable(self) -> bool:
        return self._spent <= SHARE * (self._monotonic() - self._began)

    def _look(self, references: Collection[str]) -> Sequence[Holder]:
        began = self._monotonic()
        found = list(self._ledger.holders(sorted(references)))
        self._cost = self._monotonic() - began
        self._spent += self._cost
        return found

    def _look_wide(self, references: Collection[str]) -> Sequence[Holder]:
        """Look at the whole plan, and keep what is held more than once."""
        found = self._look(self._wide() | frozenset(references))
        count = Counter(holder.vm.reference for holder in found)
        kept = defaultdict(list)
        for holder in found:
            if count[holder.vm.reference] > 1:
                kept[holder.vm.reference].append(holder)
        self._found = kept
        return [holder for holder in found if holder.vm.reference in references]

    def _wide(self) -> frozenset[str]:
        if self._of_plan is None:
            chunks: list[str] = []
            for chunk in self._due_vms():
                chunks.extend(chunk)
                if len(chunks) > MOST_AT_ONCE:
                    chunks.clear()
                    break
            self._of_plan = frozenset(chunks)
        return self._of_plan
