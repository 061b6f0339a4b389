"""The way of one piece of work after the other. This thread owns both databases; workers only call provisioners.

One turn:

    begin   as many rows as the windows of their provisioners have room for: each group is judged again, then its
            intents are journalled
    wait    until a call comes back
    take    what came back: stamps together in one transaction, outcomes together with the next group's intents

No transaction is open while a call is under way. Kill the process anywhere: what is durable is the truth, and an intent
without an outcome tells the next run where to look.
"""

from collections.abc import Sequence

from autorelease.deciding.judging import Judge
from autorelease.errors import ProvisionerDown, ProvisionerSeemsDown
from autorelease.journal import Journal
from autorelease.model import Release, SkipReason
from autorelease.provisioners import Registered
from autorelease.sweep import verdicts
from autorelease.sweep.acting import Means
from autorelease.sweep.again import Again
from autorelease.sweep.answering import Answering
from autorelease.sweep.books import Books
from autorelease.sweep.choosing import Chooser, Chosen
from autorelease.sweep.crew import Crew
from autorelease.sweep.misses import Misses
from autorelease.sweep.rehearsing import Rehearser
from autorelease.sweep.stamping import Stamper
from autorelease.sweep.trouble import Trouble
from autorelease.sweep.underway import CameBack, Underway
from autorelease.sweep.unreached import leave_all
from autorelease.sweep.windows import Windows
from autorelease.sweep.work import State, Work
from autorelease.sweep.worklist import Worklist


class Loop:
    """Carries out one worklist. Its parts are made, and read in the end, by `carry_out`."""

    def __init__(
        self,
        judge: Judge[Journal],
        means: Means,
        books: Books,
        crew: Crew,
        trouble: Trouble,
        *,
        again: Again,
        rehearser: Rehearser,
        stamper: Stamper,
        misses: Misses,
        answering: Answering,
        chooser: Chooser,
        windows: Windows,
    ) -> None:
        self._judge = judge
        self._means = means
        self._books = books
        self._works = books.works
        self._crew = crew
        self._trouble = trouble
        self._again = again
        self._rehearser = rehearser
        self._stamper = stamper
        self._misses = misses
        self._chooser = chooser
        self._windows = windows
        self._answering = answering
        self._underway = Underway(means, books.works)

    def run(self, worklist: Worklist) -> None:
        """Release what is on the list, each provisioner's rows in their order; exactly one finding for each."""
        while True:
            if not self._works.count(State.EARNED) and not self._trouble.is_resting():
                self._begin()
                self._chooser.leave_down()
            if self._is_anything_left():
                self._take(self._underway.came_back(self._awake_at()))
            elif self._works.count(State.MISSED):
                self._misses.judge_all()
                self._stamper.stamp_all()
            else:
                break
        self._leave_the_rest(worklist)
        self._underway.dismiss()

    def _is_anything_left(self) -> bool:
        if self._works.count(State.CALLED):
            return True
        if self._trouble.lost is not None:
            return False
        return bool(self._works.count(State.EARNED) or len(self._books.outbox)) or self._chooser.is_anything_left()

    # --- begin ------------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        chosen = self._chooser.group()
        if chosen:
            self._start(chosen)
        else:
            self._books.outbox.flush()

    def _start(self, chosen: Sequence[Chosen]) -> None:
        by_number = {work.number: registered for work, registered in chosen}
        group = self._again.fit([work for work, _ in chosen])
        if group is not None:
            group = self._rehearser.without_refused(group, by_number, self._underway.with_workers())
        if group:
            self._call(group, by_number)
        for work, _ in chosen:
            if work.state is not State.CALLED:
                self._chooser.let_go(work)

    def _call(self, group: Sequence[Work], registered: dict[int, Registered]) -> None:
        at = self._means.clock()
        fingerprint = self._crew.fingerprint
        intents = [verdicts.intent_event(work, fingerprint(work.allocation.provisioner), at) for work in group]
        held = self._books.outbox.begin(intents, self._judge.is_held)
        if held is None:
            return
        for work in group:
            if work.allocation.sid in held:
                self._books.settle(work, verdicts.skipped(work, SkipReason.HELD, self._means.clock()))
            else:
                work.is_begun = True
        # Writing the intents may have taken its time, in which somebody else has written, too.
        fit = self._again.still_fit([work for work in group if work.is_begun and work.state is State.READY])
        for work in fit or ():
            self._underway.begin(work, registered[work.number], self._again.judged_at)
            self._windows.has_begun(work.allocation.provisioner)

    # --- wait and take ----------------------------------------------------------------------------------------------

    def _awake_at(self) -> float | None:
        """The monotonic instant at which something is to be done, whatever comes back until then; None: not known."""
        next_at = self._trouble.resume_at if self._trouble.is_resting() else self._chooser.next_at()
        if next_at is None and not self._works.count(State.CALLED):
            return 0.0
        return next_at

    def _take(self, came_back: Sequence[CameBack]) -> None:
        for work, answer in came_back:
            if answer is None:
                self._again.grew_old()
                self._works.move(work, State.READY)
            elif isinstance(answer, Release):
                self._crew.answered(work)
                self._answering.take_release(work, answer)
            elif isinstance(answer, ProvisionerSeemsDown):
                self._answering.take_seems_down(work, answer)
            elif isinstance(answer, ProvisionerDown):
                self._answering.take_down(work, answer)
            else:
                self._answering.take_error(work, answer)
            # Who will be tried again in a moment keeps the VM to itself until then.
            if work.state is not State.WAITING:
                self._chooser.let_go(work)
        self._answering.settle_doubted(is_over=False)
        started = self._means.monotonic()
        self._stamper.stamp_all()
        self._underway.write_seconds = self._means.monotonic() - started

    # --- the rest ---------------------------------------------------------------------------------------------------

    def _leave_the_rest(self, worklist: Worklist) -> None:
        """Each of those that were not reached, or were left in the middle of their way, has its finding, too."""
        self._stamper.leave_all(self._trouble.lost or "")
        self._answering.settle_doubted(is_over=True)
        for work in self._works.unsettled():
            if work.error is not None:
                self._answering.fail(work, work.error)
        leave_all(worklist, self._means, self._books)
        while not self._books.outbox.flush() and self._trouble.lost is None:
            # Nothing comes back any more: this only waits.
            self._underway.came_back(self._trouble.resume_at)
        self._works.check_settled()
