"""Stamps what was earned: in groups, one by one where a group meets an error, and for a minute where nothing can be."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from autorelease.errors import ProvisionerError, UnusableError
from autorelease.ledger import Ledger, Stamp, StampResult
from autorelease.model import Allocation, Answer
from autorelease.sqlitefile import StampRefusedError
from autorelease.sweep import verdicts
from autorelease.sweep.acting import Means
from autorelease.sweep.books import Books
from autorelease.sweep.crew import Crew
from autorelease.sweep.outbox import GROUP
from autorelease.sweep.trouble import LEDGER, Trouble
from autorelease.sweep.verdicts import Charge, Row, Verdict
from autorelease.sweep.work import Earned, State, Work

Owned = tuple[Work, Earned]


class Stamper:
    """Takes every piece of work that has earned its stamp to its end."""

    def __init__(
        self, ledger: Ledger, books: Books, crew: Crew, means: Means, trouble: Trouble, charge: Callable[[], Charge]
    ) -> None:
        self._ledger = ledger
        self._books = books
        self._crew = crew
        self._means = means
        self._trouble = trouble
        self._charge = charge

    def stamp_all(self) -> None:
        """Stamp all that was earned; what cannot be written stays so, and is tried again with the next call."""
        earned = self._earned()
        if not earned or self._trouble.is_resting():
            return
        try:
            if self._means.options.stamps:
                self._stamp([owned for owned in earned if not owned[1].is_stale])
                self._look_again([owned for owned in self._earned() if owned[1].is_stale])
            else:
                self._verify(earned)
            self._trouble.over(LEDGER)
        except UnusableError as error:
            self._trouble.met(LEDGER, error)

    def leave_all(self, why: str) -> None:
        """Carry over what could not be written."""
        for work, earned in self._earned():
            fingerprint = self._crew.fingerprint(work.allocation.provisioner)
            self._books.settle(work, verdicts.unwritten(work, earned, why, fingerprint, self._means.clock()))

    def _earned(self) -> Sequence[Owned]:
        works = self._books.works.of(State.EARNED)
        return [(work, work.earned) for work in works if work.earned is not None]

    def _stamp(self, earned: Sequence[Owned]) -> None:
        for start in range(0, len(earned), GROUP):
            self._stamp_group(earned[start : start + GROUP])

    def _stamp_group(self, group: Sequence[Owned]) -> None:
        try:
            results = self._ledger.stamp([Stamp(work.allocation, earned.at) for work, earned in group])
        except UnusableError:
            # One of them may be at fault: each alone, so that it does not take the others with it.
            for owned in group:
                self._stamp_one(*owned)
            return
        # They have become durable together.
        at = self._means.clock()
        for (work, earned), result in zip(group, results, strict=True):
            self._stamped(work, earned, result, at)

    def _stamp_one(self, work: Work, earned: Earned) -> None:
        try:
            [result] = self._ledger.stamp([Stamp(work.allocation, earned.at)])
        except StampRefusedError as error:
            self._refused(work, earned, str(error))
        else:
            self._stamped(work, earned, result, self._means.clock())

    def _refused(self, work: Work, earned: Earned, why: str) -> None:
        name, at = work.allocation.provisioner, self._means.clock()
        if self._is_immediate(work):
            # Its release is the stamp: nothing has happened.
            verdict = verdicts.failed(work, ProvisionerError(why), self._charge(), at)
        else:
            verdict = verdicts.unstampable(work, earned, why, self._crew.fingerprint(name), self._charge(), at)
        self._books.settle(work, verdict)

    def _stamped(self, work: Work, earned: Earned, result: StampResult, at: datetime) -> None:
        if result is StampResult.UNCHANGED:
            work.earned = earned.stale()
        else:
            self._books.settle(work, verdicts.finished(work, earned.outcome, earned.evidence, at))

    def _look_again(self, group: Sequence[Owned]) -> None:
        """Where no row changed: read it, and see what has become of it."""
        rows = self._rows(group)
        for work, earned in group:
            row, at = rows.get(work.allocation.sid), self._means.clock()
            if self._is_immediate(work):
                self._books.settle(work, self._unreleased(work, row, at))
            else:
                self._books.settle(work, verdicts.row_moved_on(work, earned, row, at))

    def _unreleased(self, work: Work, row: Row, at: datetime) -> Verdict:
        """Where the release is the stamp, and it changed no row, nothing has happened."""
        if isinstance(row, Allocation) and row.judged() == work.allocation.judged():
            error = ProvisionerError("the stamp is ignored without an error (a trigger's RAISE(IGNORE)?)")
            return verdicts.failed(work, error, self._charge(), at)
        return verdicts.left_alone(work, row, at)

    def _is_immediate(self, work: Work) -> bool:
        registered = self._means.provisioners.get(work.allocation.provisioner)
        return registered is not None and registered.immediate

    def _rows(self, group: Sequence[Owned]) -> Mapping[str, Row]:
        return self._ledger.read_many([work.allocation.sid for work, _ in group]) if group else {}

    def _verify(self, group: Sequence[Owned]) -> None:
        """Where the provisioner's own application stamps: believe the row, not the answer."""
        rows = self._rows(group)
        for work, earned in group:
            row = rows.get(work.allocation.sid)
            if isinstance(row, Allocation) and row.judged() == work.allocation.judged():
                self._wait_for_its_application(work, earned)
            else:
                self._books.settle(work, verdicts.row_moved_on(work, earned, row, self._means.clock()))

    def _wait_for_its_application(self, work: Work, earned: Earned) -> None:
        accepted = None if earned.answer is Answer.MISS else Answer.RELEASED
        fingerprint = self._crew.fingerprint(work.allocation.provisioner)
        evidence = f"{earned.evidence}; the row is not Released yet"
        work.end_unknown = True
        verdict = verdicts.pending(work, evidence, accepted, fingerprint, self._charge(), self._means.clock())
        self._books.settle(work, verdict)
