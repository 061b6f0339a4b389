""" "Not found": held back until the provisioner's work in this run is over, and then believed, or none of it is."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from autorelease import limits
from autorelease.deciding.control import ask_control
from autorelease.deciding.judging import Judge
from autorelease.errors import UnusableError
from autorelease.journal import Journal
from autorelease.rules.belief import (
    WINDOW,
    Control,
    Standing,
    disbelief,
    disbelief_of_expected,
    ends_in_misses,
)
from autorelease.rules.identities import Identities, identity
from autorelease.sweep import verdicts
from autorelease.sweep.acting import Means
from autorelease.sweep.books import Books
from autorelease.sweep.crew import Crew
from autorelease.sweep.work import State, Work


class Misses:
    """vouched: the rows whose misses an operator has vouched for. unproven: those that were not believed."""

    def __init__(
        self, judge: Judge[Journal], books: Books, crew: Crew, means: Means, run: str, vouched: Identities
    ) -> None:
        self.unproven: list[bytes] = []
        self._judge = judge
        self._books = books
        self._crew = crew
        self._means = means
        self._run = run
        self._vouched = vouched
        self._tells_nothing: dict[tuple[str, str], bool] = {}

    def is_expected(self, work: Work) -> bool:
        """Whether a miss repeats what a killed run began, so that the VM is gone by our own hand.

        Not where that run had written down a miss itself, or its last answers were misses, or it was under another
        fingerprint: one of the two may have looked in the wrong place.
        """
        known = work.planned.known
        fingerprint = self._crew.fingerprint(work.allocation.provisioner)
        if not known.is_orphaned or known.intent_run is None or fingerprint is None:
            return False
        if known.intent_under not in (None, fingerprint):
            return False
        try:
            return not (
                self._run_tells_nothing(known.intent_run, fingerprint)
                or self._judge.journal.has_missed(known.intent_run, [work.allocation.sid])
            )
        except UnusableError:
            return False

    def _run_tells_nothing(self, run: str, fingerprint: str) -> bool:
        if (run, fingerprint) not in self._tells_nothing:
            answers = self._judge.journal.recent_answers(fingerprint, WINDOW, run)
            self._tells_nothing[run, fingerprint] = ends_in_misses(answers)
        return self._tells_nothing[run, fingerprint]

    def judge_all(self) -> None:
        """Now that the provisioners' work is over: what is believed is earned, what is not is settled."""
        by_provisioner: defaultdict[str, list[Work]] = defaultdict(list)
        for work in self._books.works.of(State.MISSED):
            by_provisioner[work.allocation.provisioner].append(work)
        for name, works in by_provisioner.items():
            self._judge_those_of(name, works)

    def _judge_those_of(self, name: str, works: Sequence[Work]) -> None:
        doubtful = {work.number: missed for work in works if (missed := self._identity(work)) not in self._vouched}
        reasons = self._reasons(name) if doubtful else {}
        for work in works:
            reason = reasons.get(_is_expected(work)) if work.number in doubtful else None
            if reason is None:
                self._books.works.move(work, State.EARNED)
            elif work.earned is not None:
                self.unproven.append(doubtful[work.number])
                self._books.settle(work, verdicts.unproven(work, work.earned, reason, self._means.clock()))

    def _identity(self, work: Work) -> bytes:
        allocation = work.allocation
        fingerprint = self._crew.fingerprint(allocation.provisioner) or ""
        return identity(allocation.sid, allocation.expires_at, fingerprint)

    def _reasons(self, name: str) -> Mapping[bool, str | None]:
        """Why misses are not believed: those that were expected (True), and all others (False)."""
        if not self._books.outbox.flush():
            return dict.fromkeys((True, False), "the journal cannot be written")
        try:
            standing = self._standing(name)
        except UnusableError as error:
            return dict.fromkeys((True, False), str(error))
        return {
            True: disbelief_of_expected(standing),
            False: disbelief(standing, self._means.options.max_gone_percent),
        }

    def _standing(self, name: str) -> Standing:
        fingerprint = self._crew.fingerprint(name)
        if fingerprint is None:
            return Standing(has_credit=False, answers=(), of_this_tick=(), is_known=False)
        journal = self._judge.journal
        has_credit = journal.has_credit(fingerprint)
        return Standing(
            has_credit=has_credit,
            answers=journal.recent_answers(fingerprint, WINDOW),
            of_this_tick=journal.kinds_of_answers(fingerprint, self._run),
            # Where nothing can be believed anyway, nobody needs to be asked.
            control=self._control(name) if has_credit else None,
        )

    def _control(self, name: str) -> Control | None:
        limit = self._means.options.timeout + limits.ABANDONED_AFTER
        return ask_control(self._judge, name, self._means.provisioners[name].provisioner, limit)


def _is_expected(work: Work) -> bool:
    return work.earned is not None and work.earned.is_expected
