"""What becomes of a piece of work by what its call came to: a stamp, a miss that is held back, a wait, or an end."""

import logging

from autorelease.deciding.judging import Judge
from autorelease.errors import ProvisionerDown, ProvisionerError, ProvisionerSeemsDown
from autorelease.journal import Journal
from autorelease.model import Answer, Release, Result, SkipReason
from autorelease.rules.retry import LONGEST_PAUSE_IN_RUN, pause_seconds
from autorelease.sweep import verdicts
from autorelease.sweep.acting import Means
from autorelease.sweep.books import Books
from autorelease.sweep.crew import Crew
from autorelease.sweep.misses import Misses
from autorelease.sweep.verdicts import Charge
from autorelease.sweep.vms import VMs
from autorelease.sweep.work import State, Work

logger = logging.getLogger(__name__)


class Answering:
    """Moves each work that came back, or settles it. The stamps themselves are somebody else's."""

    def __init__(self, judge: Judge[Journal], means: Means, books: Books, crew: Crew, misses: Misses, vms: VMs) -> None:
        self._judge = judge
        self._means = means
        self._books = books
        self._works = books.works
        self._crew = crew
        self._misses = misses
        self._vms = vms

    def take_release(self, work: Work, release: Release) -> None:
        """It was released, or is on its way, or there is nothing by that name."""
        fingerprint = self._crew.fingerprint(work.allocation.provisioner)
        at = self._means.clock()
        if release.result is Result.PENDING:
            self._books.outbox.put_answer(fingerprint, Answer.PENDING)
            work.end_unknown = True
            verdict = verdicts.pending(work, release.evidence, Answer.PENDING, fingerprint, self._charge(), at)
            self._books.settle(work, verdict)
            return
        work.is_twin_gone = self._vms.is_gone(work)
        is_expected = self._misses.is_expected(work) if not release.proof else False
        work.earned = verdicts.earned_by(work, release, fingerprint, at, is_expected=is_expected)
        if work.earned.answer is Answer.MISS:
            self._hold_back(work, fingerprint)
            return
        self._books.outbox.put_answer(fingerprint, work.earned.answer)
        self._vms.note_gone(work)
        self._works.move(work, State.EARNED)

    def _hold_back(self, work: Work, fingerprint: str | None) -> None:
        assert work.earned is not None  # noqa: S101 - it is what is held back
        if not work.earned.is_expected:
            self._books.outbox.put_answer(fingerprint, Answer.MISS)
            self._books.outbox.put(verdicts.miss_event(work, work.earned))
        self._works.move(work, State.MISSED)

    def take_down(self, work: Work, error: ProvisionerDown) -> None:
        """Its provisioner does not work at all: the row is left for another run."""
        self._crew.said_down(work.allocation, str(error))
        work.end_unknown = work.end_unknown or error.end_unknown
        self._crew.has_left(work.allocation.provisioner)
        self._books.settle(work, verdicts.skipped(work, SkipReason.DEFERRED, self._means.clock()))

    def take_seems_down(self, work: Work, error: ProvisionerSeemsDown) -> None:
        """Its provisioner does not work at all, or it is this row alone: that is for a later call to tell."""
        self._crew.seems_down(work.allocation, str(error))
        work.error = error
        work.end_unknown = work.end_unknown or error.end_unknown
        self._works.move(work, State.DOUBTED)

    def settle_doubted(self, *, is_over: bool) -> None:
        """Those after whose call another one got an answer have failed. is_over: no other call will be made."""
        for work in self._works.of(State.DOUBTED):
            assert work.error is not None  # noqa: S101 - it is what is in doubt
            if self._crew.has_answered_later(work):
                self.fail(work, work.error)
            elif is_over:
                self._crew.said_down(work.allocation, str(work.error))
                self._crew.has_left(work.allocation.provisioner)
                self._books.settle(work, verdicts.skipped(work, SkipReason.DEFERRED, self._means.clock()))

    def take_error(self, work: Work, error: ProvisionerError) -> None:
        """It failed: tried again after a pause, or charged."""
        work.is_abandoned = work.is_abandoned or error.still_running
        work.error = error
        work.end_unknown = work.end_unknown or error.end_unknown
        pause = pause_seconds(work.calls, self._means.jitter(), error.retry_after_seconds)
        is_tried_again = error.retryable and not work.is_abandoned and work.calls < self._means.options.attempts
        if is_tried_again and pause <= LONGEST_PAUSE_IN_RUN.total_seconds() and not self._means.stop.wished():
            work.due_at = self._means.monotonic() + pause
            self._works.move(work, State.WAITING)
            self._books.outbox.put_with_others(verdicts.attempt_event(work, error, self._means.clock()))
            _log_attempt(work, error, pause)
            return
        if error.timed_out:
            self._crew.timed_out(work.allocation)
        elif not error.not_called:
            self._crew.answered(work)
        self.fail(work, error)

    def fail(self, work: Work, error: ProvisionerError) -> None:
        """It has failed, and is tried no more in this run."""
        self._books.settle(work, verdicts.failed(work, error, self._charge(), self._means.clock()))

    def _charge(self) -> Charge:
        return Charge(self._judge.now, self._means.options.quarantine_after, self._means.jitter())


def _log_attempt(work: Work, error: ProvisionerError, pause: float) -> None:
    facts = {
        "sid": work.allocation.sid,
        "provisioner": work.allocation.provisioner,
        "vm_ref": work.allocation.vm_ref,
        "attempt": work.calls,
        "error": str(error),
        "duration_ms": work.milliseconds_of_last,
    }
    logger.info("failed, and is tried again in %.1f s", pause, extra={"facts": facts})
