""" "Not found": held back until the provisioner's work in this run is over, and then believed, or none of it is."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from autorelease import limits
from autorelease.deciding.control import ask_controls
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

# By whether a miss was expected: why those are not believed; None: they are.
Reasons = Mapping[bool, str | None]


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
        doubtful = {name: self._doubtful(works) for name, works in by_provisioner.items()}
        reasons = self._reasons([name for name, missed in doubtful.items() if missed])
        for name, works in by_provisioner.items():
            self._judge_those(works, doubtful[name], reasons[name] if doubtful[name] else {})

    def _doubtful(self, works: Sequence[Work]) -> Mapping[int, bytes]:
        """Those that nobody has vouched for, by number of the work."""
        return {work.number: missed for work in works if (missed := self._identity(work)) not in self._vouched}

    def _judge_those(self, works: Sequence[Work], doubtful: Mapping[int, bytes], reasons: Reasons) -> None:
        for work in works:
            reason = reasons[_is_expected(work)] if work.number in doubtful else None
            if reason is None:
                self._books.works.move(work, State.EARNED)
            elif work.earned is not None:
                self.unproven.append(doubtful[work.number])
                self._books.settle(work, verdicts.unproven(work, work.earned, reason, self._means.clock()))

    def _identity(self, work: Work) -> bytes:
        allocation = work.allocation
        fingerprint = self._crew.fingerprint(allocation.provisioner) or ""
        return identity(allocation.sid, allocation.expires_at, fingerprint)

    def _reasons(self, names: Sequence[str]) -> Mapping[str, Reasons]:
        """Why misses of these provisioners are not believed, by name."""
        if not names:
            return {}
        if not self._books.outbox.flush():
            return dict.fromkeys(names, dict.fromkeys((True, False), "the journal cannot be written"))
        try:
            standings = self._standings(names)
        except UnusableError as error:
            return dict.fromkeys(names, dict.fromkeys((True, False), str(error)))
        percent = self._means.options.max_gone_percent
        return {
            name: {True: disbelief_of_expected(standing), False: disbelief(standing, percent)}
            for name, standing in standings.items()
        }

    def _standings(self, names: Sequence[str]) -> Mapping[str, Standing]:
        known = {name: mark for name in names if (mark := self._crew.fingerprint(name)) is not None}
        trusted = {name for name, mark in known.items() if self._judge.journal.has_credit(mark)}
        # Where nothing can be believed anyway, nobody needs to be asked.
        asked = {name: self._means.provisioners[name].provisioner for name in known if name in trusted}
        controls = ask_controls(self._judge, asked, self._means.options.timeout + limits.ABANDONED_AFTER)
        unknown = Standing(has_credit=False, answers=(), of_this_tick=(), is_known=False)
        return {
            name: self._standing(known[name], controls.get(name), has_credit=name in trusted)
            if name in known
            else unknown
            for name in names
        }

    def _standing(self, fingerprint: str, control: Control | None, *, has_credit: bool) -> Standing:
        journal = self._judge.journal
        return Standing(
            has_credit=has_credit,
            answers=journal.recent_answers(fingerprint, WINDOW),
            of_this_tick=journal.kinds_of_answers(fingerprint, self._run),
            control=control,
        )


def _is_expected(work: Work) -> bool:
    return work.earned is not None and work.earned.is_expected
