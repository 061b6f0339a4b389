"""Stamps that are tried and taken back while the VMs stand: what the ledger would refuse is charged, and not called."""

from collections.abc import Mapping, Sequence

from autorelease.deciding.judging import Judge
from autorelease.errors import ProvisionerError, UnusableError
from autorelease.journal import Journal
from autorelease.provisioners import Registered
from autorelease.sweep import rehearsal, verdicts
from autorelease.sweep.acting import Means
from autorelease.sweep.books import Books
from autorelease.sweep.trouble import Trouble
from autorelease.sweep.verdicts import Charge
from autorelease.sweep.work import Work
from autorelease.sweep.worklist import Plan

# Another name than that of reading, which goes on and would begin the minute anew each time.
WRITING = "ledger for writing"


class Rehearser:
    """Asks nothing where we do not stamp, and nothing of a kind whose release is the stamp."""

    def __init__(self, judge: Judge[Journal], books: Books, means: Means, trouble: Trouble) -> None:
        self._judge = judge
        self._books = books
        self._means = means
        self._trouble = trouble

    def refused_of(self, plan: Plan) -> frozenset[str]:
        """The sids of the plan that were refused, and are settled. Raises UnusableError where no stamp can be done."""
        if not self._means.options.stamps:
            return frozenset()
        rehearsed = rehearsal.of_plan(self._judge.ledger, plan.to_release, self._means.clock())
        for planned, why in rehearsed.refused:
            self._fail(self._books.works.add(planned), why)
        self._books.outbox.flush()
        if not rehearsed.is_taken and not self._is_one_taken(plan):
            rehearsed.check()
        return frozenset(planned.allocation.sid for planned, _ in rehearsed.refused)

    def _is_one_taken(self, plan: Plan) -> bool:
        """Whether the ledger would take the stamp of a row that is not to go now: then it does not refuse them all."""
        return rehearsal.of_plan(self._judge.ledger, plan.rest, self._means.clock()).is_taken

    def without_refused(
        self, group: Sequence[Work], registered: Mapping[int, Registered], under_way: Sequence[Work]
    ) -> Sequence[Work] | None:
        """Those of a group whose stamp would be taken; the others are settled. None: nothing can be tried now."""
        if not self._means.options.stamps:
            return group
        asked = [work for work in group if not registered[work.number].immediate]
        try:
            refusals = rehearsal.of_group(
                self._judge.ledger,
                [work.allocation for work in under_way],
                [work.allocation for work in asked],
                self._means.clock(),
            )
        except UnusableError as error:
            self._trouble.met(WRITING, error)
            return None
        self._trouble.over(WRITING)
        for work in asked:
            if (why := refusals.get(work.allocation.sid)) is not None:
                self._fail(work, why)
        return [work for work in group if work.allocation.sid not in refusals]

    def _fail(self, work: Work, why: str) -> None:
        options = self._means.options
        charge = Charge(self._judge.now, options.quarantine_after, self._means.jitter())
        self._books.settle(work, verdicts.failed(work, ProvisionerError(why), charge, self._means.clock()))
