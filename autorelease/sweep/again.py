"""Judged again: what a plan was made of may have changed before a call is made. So it is asked once more, in groups.

The row itself, as often as it is called for; and who else holds its VM, whenever somebody has written since the plan.
And once more when the intents are durable, where somebody has written until then.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from autorelease.deciding.judging import Judge, Versions
from autorelease.errors import UnusableError
from autorelease.identity import Holder, Holders, vm_of
from autorelease.journal import Journal
from autorelease.model import Allocation
from autorelease.sweep import verdicts
from autorelease.sweep.acting import Means
from autorelease.sweep.books import Books
from autorelease.sweep.outbox import JOURNAL
from autorelease.sweep.trouble import Trouble
from autorelease.sweep.verdicts import Row
from autorelease.sweep.work import Work

LEDGER = "ledger"


class Again:
    """Who falls out of a group that is about to begin. versions: of ledger and journal, from before the plan was read.

    judged_at: when the last group was found to be as it is, by the time since boot.
    """

    def __init__(self, judge: Judge[Journal], books: Books, means: Means, trouble: Trouble, versions: Versions) -> None:
        self.judged_at = 0.0
        self._judge = judge
        self._books = books
        self._means = means
        self._trouble = trouble
        self._of_plan = versions
        self._of_last_look = versions

    def fit(self, group: Sequence[Work]) -> Sequence[Work] | None:
        """Those that can still go; the others are settled. None: the ledger or the journal cannot be read."""
        # Before everything else: what is written while we look is written since.
        self.judged_at = self._means.boottime()
        versions = self._versions()
        if versions is None:
            return None
        self._of_last_look = versions
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

    def still_fit(self, group: Sequence[Work]) -> Sequence[Work] | None:
        """The same of a group that was judged a moment ago; it costs next to nothing where nobody has written since."""
        now = self._means.boottime()
        versions = self._versions()
        if versions is None:
            return None
        if None in versions or versions != self._of_last_look:
            return self.fit(group)
        self.judged_at = now
        return group

    def _versions(self) -> Versions | None:
        """What shows whether somebody has written; None: ledger or journal cannot be read."""
        try:
            journal = self._judge.journal.version()
        except UnusableError as error:
            self._trouble.met(JOURNAL, error)
            return None
        try:
            return self._judge.ledger.version(), journal
        except UnusableError as error:
            self._trouble.met(LEDGER, error)
            return None

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
        if not group or (None not in self._of_plan and self._of_last_look == self._of_plan):
            return {}
        vms = {work.number: vm_of(work.allocation, self._judge.ledger.references) for work in group}
        own: defaultdict[str, set[str]] = defaultdict(set)
        for work in group:
            own[vms[work.number].reference].add(work.allocation.sid)
        staying = self._staying(own, rows)
        others = {}
        for work in group:
            holders = Holders(holder for holder in staying if holder.sid != work.allocation.sid) if staying else None
            if holders is not None and (other := holders.of(vms[work.number])) is not None:
                others[work.number] = other
        return others

    def _staying(self, own: Mapping[str, set[str]], rows: Mapping[str, Row]) -> Sequence[Holder]:
        """The rows that hold a VM of one of these references and are not to go. own: the sids of the group, by theirs.

        Most VMs have one holder, the row of the group itself: nothing is to be asked about those.
        """
        found = list(self._judge.ledger.holders(sorted(own)))
        count = Counter(holder.vm.reference for holder in found)

        def is_alone(holder: Holder) -> bool:
            return count[holder.vm.reference] == 1 and holder.sid in own[holder.vm.reference]

        return [holder for holder in found if not is_alone(holder) and not self._is_to_go(holder, rows)]

    def _is_to_go(self, holder: Holder, rows: Mapping[str, Row]) -> bool:
        """Whether that row is due, too, and not held: it is released as well, by this run or the next."""
        if holder.sid is None:
            return False
        row = rows[holder.sid] if holder.sid in rows else self._judge.ledger.read(holder.sid)
        is_due = isinstance(row, Allocation) and self._judge.is_due(row)
        return is_due and not self._judge.is_held(self._judge.journal.hold_of(holder.sid))
