"""Where work ends: one verdict for each piece of it, reported and written down."""

from collections.abc import Callable

from autorelease.model import Finding
from autorelease.sweep.outbox import Outbox
from autorelease.sweep.verdicts import Verdict
from autorelease.sweep.work import State, Work, Works


class Books:
    """The register of what is under way, and the way out of it."""

    def __init__(self, works: Works, outbox: Outbox, watch: Callable[[Finding], None]) -> None:
        self.works = works
        self.outbox = outbox
        self._watch = watch

    def settle(self, work: Work, verdict: Verdict) -> None:
        """This is its end; there is exactly one."""
        self.works.move(work, State.SETTLED)
        if verdict.event is not None:
            self.outbox.put(verdict.event)
        self._watch(verdict.finding)
