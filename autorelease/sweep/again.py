"""Judged again: what a plan was made of may have changed before a call is made. So it is asked once more, in groups.

The row itself, as often as it is called for; and who else holds its VM, whenever somebody has written since the plan.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from autorelease.deciding.judging import Judge
from autorelease.errors import UnusableError
from autorelease.identity import Holder, Holders, vm_of
from autorelease.journal import Journal
from autorelease.model import Allocation
from autorelease.sweep import verdicts
from autorelease.sweep.acting import Means
from autorelease.sweep.books import Books
from autorelease.sweep.trouble import Trouble
from autorelease.sweep.verdicts import Row
from autorelease.sweep.work import Work
from autorelease.sweep.worklist import VMKey

LEDGER = "ledger"


class Again:
    """Who falls out of a group that is about to begin.

    version: the ledger's, from before the plan was read. shared_vms: those that several rows of the plan are of; a hold
    on one of these is an obstacle to the others, and leaves no trace in the ledger.
    """

    def __init__(
        self,
        judge: Judge[Journal],
        books: Books,
        means: Means,
        trouble: Trouble,
        *,
        version: int | None,
        shared_vms: frozenset[VMKey],
    ) -> None:
        self._judge = judge
        self._books = books
        self._means = means
        self._trouble = trouble
        self._version = version
        self._shared_vms = shared_vms

    def fit(self, group: Sequence[Work]) -> Sequence[Work] | None:
        """Those that can still go; the others are settled. None: the ledger or the journal cannot be read."""
        try:
            rows = {work.allocation.sid: self._judge.ledger.read(work.allocation.sid) for work in group}
            same = [work for work in group if self._is_same(work, rows[work.allocation.sid])]
            others = self._others(same, rows)
        except UnusableError as error:
            self._trouble.met(LEDGER, error)
            return None
        self._trouble.over(LEDGER)
        self._settle_changed([work for work in group if work not in same], rows)
        return self._without_shared(same, others)

    def _is_same(self, work: Work, row: Row) -> bool:
        return isinstance(row, Allocation) and row.judged() == work.allocation.judged() and self._judge.is_due(row)

    def _settle_changed(self, changed: Sequence[Work], rows: Mapping[str, Row]) -> None:
        for work in changed:
            self._books.settle(work, verdicts.left_alone(work, rows[work.allocation.sid], self._means.clock()))

    def _without_shared(self, same: Sequence[Work], others: Mapping[int, Holder]) -> Sequence[Work]:
        for work in same:
            if (other := others.get(work.number)) is not None:
                self._books.settle(work, verdicts.held_by_another(work, other.name, self._means.clock()))
        return [work for work in same if work.number not in others]

    def _others(self, group: Sequence[Work], rows: Mapping[str, Row]) -> Mapping[int, Holder]:
        """By number of the work, the row that holds its VM, too, and is not to go."""
        ledger = self._judge.ledger
        vms = {work.number: vm_of(work.allocation, ledger.references) for work in group}
        if self._version is not None and ledger.version() == self._version:
            vms = {number: vm for number, vm in vms.items() if (vm.provisioner, vm.reference) in self._shared_vms}
        if not vms:
            return {}
        found = list(ledger.holders(sorted({vm.reference for vm in vms.values()})))
        count = Counter(holder.vm.reference for holder in found)
        # Most VMs have one holder, the row itself: nothing is to be asked about them.
        staying = [holder for holder in found if count[holder.vm.reference] > 1 and not self._is_to_go(holder, rows)]
        others = {}
        for work in (work for work in group if work.number in vms):
            holders = Holders(holder for holder in staying if holder.sid != work.allocation.sid) if staying else None
            if holders is not None and (other := holders.of(vms[work.number])) is not None:
                others[work.number] = other
        return others

    def _is_to_go(self, holder: Holder, rows: Mapping[str, Row]) -> bool:
        """Whether that row is due, too, and not held: it is released as well, by this run or the next."""
        if holder.sid is None:
            return False
        row = rows[holder.sid] if holder.sid in rows else self._judge.ledger.read(holder.sid)
        is_due = isinstance(row, Allocation) and self._judge.is_due(row)
        return is_due and not self._judge.is_held(self._judge.journal.hold_of(holder.sid))
