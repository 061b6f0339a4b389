"""Judged again: what a plan was made of may have changed before a call is made. So it is asked once more, in groups.

The row itself, as often as it is called for; its hold and who else holds its VM, whenever somebody has written since
the plan. And once more when the intents are durable, where somebody has written until then.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from autorelease.deciding.judging import Judge, Versions
from autorelease.errors import UnusableError
from autorelease.identity import Holder, Holders, vm_of
from autorelease.journal import Journal
from autorelease.model import Allocation, InvalidRow, SkipReason
from autorelease.sweep import verdicts
from autorelease.sweep.acting import Means
from autorelease.sweep.books import Books
from autorelease.sweep.looks import Looks
from autorelease.sweep.trouble import JOURNAL, LEDGER, Trouble
from autorelease.sweep.verdicts import Row
from autorelease.sweep.work import State, Work

Rows = Mapping[str, Allocation | InvalidRow]
Found = TypeVar("Found")


class Again:
    """Who falls out of a group that is about to begin. versions: of ledger and journal, from before the plan was read.

    judged_at: from when on, by the time since boot, what was found of the last group grows old.
    """

    def __init__(
        self, judge: Judge[Journal], books: Books, means: Means, trouble: Trouble, looks: Looks, versions: Versions
    ) -> None:
        self.judged_at = 0.0
        self._judge = judge
        self._books = books
        self._means = means
        self._trouble = trouble
        self._looks = looks
        self._of_plan = versions
        self._of_last_look = versions
        self._quickest: float | None = None
        self._has_grown_old = False

    def fit(self, group: Sequence[Work]) -> Sequence[Work] | None:
        """Those that can still go; the others are settled. None: the ledger or the journal cannot be read."""
        # Before everything else: what is written while we look is written since.
        began = self._means.boottime()
        try:
            self._of_last_look = self._versions()
            fit = self._judged(group)
        except UnusableError:
            return None
        self._note_duration(began)
        return fit

    def grew_old(self) -> None:
        """A judgement was too old when it came to the call. Where judging takes so long each time, that is its due."""
        self._has_grown_old = True

    def _note_duration(self, began: float) -> None:
        took = self._means.boottime() - began
        # The shortest of all: a process that was stopped in the midst of one has not been judging for so long.
        self._quickest = took if self._quickest is None else min(took, self._quickest)
        self.judged_at = began + (self._quickest if self._has_grown_old else 0.0)

    def still_fit(self, group: Sequence[Work]) -> Sequence[Work] | None:
        """The same of a group that was judged a moment ago; it costs next to nothing where nobody has written since."""
        now = self._means.boottime()
        try:
            versions = self._versions()
        except UnusableError:
            return None
        if None in versions or versions != self._of_last_look:
            return self.fit(group)
        self.judged_at = now
        return group

    def _versions(self) -> Versions:
        """What shows whether somebody has written."""
        journal = self._reading(JOURNAL, self._judge.journal.version)
        return self._reading(LEDGER, self._judge.ledger.version), journal

    def _judged(self, group: Sequence[Work]) -> Sequence[Work]:
        rows = self._rows([work.allocation.sid for work in group])
        same = {work.number: work for work in group if self._is_same(work, rows.get(work.allocation.sid))}
        held = self._held([work.allocation for work in same.values()])
        others = self._others(list(same.values()), rows)
        for work in group:
            at = self._means.clock()
            if work.number not in same:
                self._books.settle(work, verdicts.left_alone(work, rows.get(work.allocation.sid), at))
            elif work.allocation.sid in held:
                self._books.settle(work, verdicts.skipped(work, SkipReason.HELD, at))
            elif (other := others.get(work.number)) is not None:
                self._books.settle(work, verdicts.held_by_another(work, other.name, at))
        return [work for work in group if work.state is State.READY]

    def _is_same(self, work: Work, row: Row) -> bool:
        return isinstance(row, Allocation) and row.judged() == work.allocation.judged() and self._judge.is_due(row)

    def _held(self, allocations: Sequence[Allocation]) -> frozenset[str]:
        """The sids of those that somebody has held since the plan."""
        version = self._of_last_look[1]
        return frozenset() if version is not None and version == self._of_plan[1] else self._holding(allocations)

    def _holding(self, allocations: Sequence[Allocation]) -> frozenset[str]:
        """The sids of those that are held."""
        holds = self._reading(JOURNAL, lambda: self._judge.journal.holds_of(allocations))
        return frozenset(sid for sid, hold in holds.items() if self._judge.is_held(hold))

    def _others(self, group: Sequence[Work], rows: Rows) -> Mapping[int, Holder]:
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

    def _staying(self, own: Mapping[str, set[str]], rows: Rows) -> Sequence[Holder]:
        """The rows that hold a VM of one of these references and are not to go. own: the sids of the group, by theirs.

        Most VMs have one holder, the row of the group itself: nothing is to be asked about those.
        """
        found = self._reading(LEDGER, lambda: self._looks.holders(own.keys()))
        count = Counter(holder.vm.reference for holder in found)

        def is_alone(holder: Holder) -> bool:
            return count[holder.vm.reference] == 1 and holder.sid in own[holder.vm.reference]

        holders = [holder for holder in found if not is_alone(holder)]
        going = self._going([holder.sid for holder in holders if holder.sid is not None], rows)
        return [holder for holder in holders if holder.sid not in going]

    def _going(self, sids: Sequence[str], rows: Rows) -> frozenset[str]:
        """Those that are due, too, and not held: they are released as well, by this run or the next."""
        if not sids:
            return frozenset()
        known = {**self._rows([sid for sid in sids if sid not in rows]), **rows}
        named = [known.get(sid) for sid in sids]
        due = [row for row in named if isinstance(row, Allocation) and self._judge.is_due(row)]
        return frozenset(row.sid for row in due) - self._holding(due)

    def _rows(self, sids: Sequence[str]) -> Rows:
        return self._reading(LEDGER, lambda: self._judge.ledger.read_many(sids)) if sids else {}

    def _reading(self, what: str, read: Callable[[], Found]) -> Found:
        """What is read. Raises UnusableError, which is taken down, where that cannot be."""
        try:
            found = read()
        except UnusableError as error:
            self._trouble.met(what, error)
            raise
        # The journal works when it can be written.
        if what == LEDGER:
            self._trouble.over(LEDGER)
        return found
