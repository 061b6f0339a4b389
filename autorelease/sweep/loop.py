"""The way of one piece of work after the other. This thread owns both databases; workers only call provisioners.

One turn:

    begin   as many rows as there are free workers: each group is judged again, then its intents are journalled
    wait    until a call comes back
    take    what came back: stamps together in one transaction, outcomes together with the next group's intents

No transaction is open while a call is under way. Kill the process anywhere: what is durable is the truth, and an intent
without an outcome tells the next run where to look.
"""

from collections import deque
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
from autorelease.sweep.choosing import GROUP, Chooser
from autorelease.sweep.crew import Crew
from autorelease.sweep.misses import Misses
from autorelease.sweep.rehearsing import Rehearser
from autorelease.sweep.stamping import Stamper
from autorelease.sweep.trouble import Trouble
from autorelease.sweep.underway import CameBack, Underway
from autorelease.sweep.vms import VMs
from autorelease.sweep.work import State, Work
from autorelease.sweep.worklist import VMKey, Worklist

Chosen = tuple[Work, Registered]


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
        shared_vms: frozenset[VMKey],
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
        self._underway = Underway(means, books.works)
        self._chooser = Chooser(means, books.works, trouble, self._underway)
        self._vms = VMs(judge.ledger.references, shared_vms)
        self._answering = Answering(judge, means, books, crew, misses, self._vms)

    def run(self, worklist: Worklist) -> None:
        """Release what is on the list, in its order; exactly one finding for each."""
        while True:
            self._begin(worklist)
            if self._is_anything_left(worklist):
                self._take(self._underway.came_back(self._awake_at()))
            elif self._works.count(State.MISSED):
                self._misses.judge_all()
                self._stamper.stamp_all()
            else:
                break
        self._leave_the_rest(worklist)
        self._underway.dismiss()

    def _is_anything_left(self, worklist: Worklist) -> bool:
        if self._works.count(State.CALLED):
            return True
        if self._trouble.lost is not None:
            return False
        if self._works.count(State.EARNED) or len(self._books.outbox):
            return True
        waiting = self._works.count(State.READY, State.BLOCKED, State.WAITING)
        return not self._means.stop.wished() and bool(waiting or worklist.peek())

    # --- begin ------------------------------------------------------------------------------------------------------

    def _begin(self, worklist: Worklist) -> None:
        while not self._works.count(State.EARNED) and not self._trouble.is_resting():
            chosen = self._choose(worklist)
            if not chosen:
                self._books.outbox.flush()
                return
            # What falls out of the group leaves its worker free for another.
            if self._start(chosen) in (None, len(chosen)):
                return

    def _choose(self, worklist: Worklist) -> Sequence[Chosen]:
        chosen: list[Chosen] = []
        ready = deque(self._works.of(State.READY))
        needed = 0
        while (work := self._chooser.next(worklist, ready, len(chosen), needed)) is not None:
            registered = self._crew.usable(work.allocation.provisioner)
            if registered is None or self._vms.is_lost(work):
                self._skip(work, SkipReason.DEFERRED)
                self._unblock(work)
            elif self._vms.take(work):
                chosen.append((work, registered))
                needed += not registered.immediate
            else:
                self._works.move(work, State.BLOCKED)
            if len(self._books.outbox) >= GROUP and not self._books.outbox.flush():
                break
        return chosen

    def _start(self, chosen: Sequence[Chosen]) -> int | None:
        """Begin the calls of a group; returns of how many, None where nothing can be begun now."""
        by_number = {work.number: registered for work, registered in chosen}
        group = self._again.fit([work for work, _ in chosen])
        if group is not None:
            group = self._rehearser.without_refused(group, by_number, self._underway.with_workers())
        began = None if group is None else self._call(group, by_number)
        for work, _ in chosen:
            if work.state is not State.CALLED:
                self._unblock(work)
        return began

    def _call(self, group: Sequence[Work], registered: dict[int, Registered]) -> int | None:
        if not group:
            return 0
        at = self._means.clock()
        fingerprint = self._crew.fingerprint
        intents = [verdicts.intent_event(work, fingerprint(work.allocation.provisioner), at) for work in group]
        held = self._books.outbox.begin(intents, self._judge.is_held)
        if held is None:
            return None
        for work in group:
            if work.allocation.sid in held:
                self._skip(work, SkipReason.HELD)
            else:
                work.is_begun = True
        # Writing the intents may have taken its time, in which somebody else has written, too.
        fit = self._again.still_fit([work for work in group if work.is_begun and work.state is State.READY])
        for work in fit or ():
            self._underway.begin(work, registered[work.number], self._again.judged_at)
        return None if fit is None else len(fit)

    # --- wait and take ----------------------------------------------------------------------------------------------

    def _awake_at(self) -> float | None:
        """The monotonic instant at which something is to be done, whatever comes back until then; None: not known."""
        instants = [self._trouble.resume_at] if self._trouble.is_resting() else []
        waiting = self._works.of(State.WAITING)
        if waiting and self._underway.free and not self._means.stop.wished():
            instants.append(min(work.due_at for work in waiting))
        if instants:
            return min(instants)
        return None if self._works.count(State.CALLED) else 0.0

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
                self._unblock(work)
        self._answering.settle_doubted(is_over=False)
        started = self._means.monotonic()
        self._stamper.stamp_all()
        self._underway.write_seconds = self._means.monotonic() - started

    # --- the rest ---------------------------------------------------------------------------------------------------

    def _unblock(self, work: Work) -> None:
        """Its VM is free: who waited for that may go, one after the other."""
        waiting = self._vms.let_go(work, self._works.of(State.BLOCKED))
        if waiting is not None:
            self._works.move(waiting, State.READY)

    def _skip(self, work: Work, reason: SkipReason) -> None:
        self._books.settle(work, verdicts.skipped(work, reason, self._means.clock()))

    def _leave_the_rest(self, worklist: Worklist) -> None:
        """Each of those that were not reached, or were left in the middle of their way, has its finding, too."""
        self._stamper.leave_all(self._trouble.lost or "")
        self._answering.settle_doubted(is_over=True)
        for work in self._works.unsettled():
            if work.error is not None:
                self._answering.fail(work, work.error)
            else:
                self._skip(work, SkipReason.DEFERRED)
        while (planned := worklist.take()) is not None:
            self._skip(self._works.add(planned), SkipReason.DEFERRED)
            if len(self._books.outbox) >= GROUP:
                self._books.outbox.flush()
        while not self._books.outbox.flush() and self._trouble.lost is None:
            # Nothing comes back any more: this only waits.
            self._underway.came_back(self._trouble.resume_at)
        self._works.check_settled()
