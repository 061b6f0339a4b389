"""Where work ends: one verdict for each piece of it, reported and written down."""

from collections import Counter
from collections.abc import Callable, Mapping

from autorelease.errors import IdentityError
from autorelease.model import Finding, Outcome
from autorelease.sweep.outbox import Outbox
from autorelease.sweep.verdicts import Verdict
from autorelease.sweep.work import State, Work, Works


class Books:
    """The register of what is under way, and the way out of it."""

    def __init__(self, works: Works, outbox: Outbox, watch: Callable[[Finding], None]) -> None:
        self.works = works
        self.outbox = outbox
        self._watch = watch
        self._ends: Counter[str] = Counter()

    def settle(self, work: Work, verdict: Verdict) -> None:
        """This is its end; there is exactly one."""
        self.works.move(work, State.SETTLED)
        if verdict.event is not None:
            self.outbox.put(verdict.event)
        self._ends[verdict.finding.outcome] += 1
        self._watch(verdict.finding)

    def check_written(self, written: Mapping[str, int]) -> None:
        """Raise IdentityError where the journal has other outcomes of this run than were reported.

        written: how many of each kind it has. What was left alone is not among them: of that it has what is new.
        """
        ends = {outcome: number for outcome, number in self._ends.items() if outcome != Outcome.SKIPPED}
        if ends != written:
            raise IdentityError(f"{IdentityError.__doc__} Reported: {ends}. In the journal: {dict(written)}")
