"""The provisioners of one run: which are down, what each is known by, and the breaker of each."""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable

from autorelease import limits
from autorelease.model import Allocation
from autorelease.provisioners import Registered, calls
from autorelease.rules.retry import Breaker
from autorelease.sweep.acting import Means
from autorelease.sweep.work import Work

logger = logging.getLogger(__name__)


class Crew:
    """down: why a provisioner is down, by its name."""

    def __init__(self, means: Means) -> None:
        self.down: dict[str, str] = {}
        self._means = means
        self._fingerprints: dict[str, str | None] = {}
        self._breakers: defaultdict[str, Breaker] = defaultdict(Breaker)
        self._answered: dict[str, float] = {}
        self._left: Counter[str] = Counter()

    def prepare(self, names: Iterable[str]) -> None:
        """Ask whether each can be used, and what it is known by; all at the same time, so that none waits for another.

        Where somebody wishes to stop, nobody is waited for: nothing will be begun.
        """
        limit, is_over = self._means.options.timeout + limits.ABANDONED_AFTER, self._means.stop.wished
        asked = {name: found for name in names if (found := self._means.provisioners.get(name)) is not None}
        problems = calls.preflights(asked, limit, is_over)
        for name, problem in problems.items():
            if problem is not None:
                self.take_down(name, problem)
        usable = {name: asked[name] for name, problem in problems.items() if problem is None}
        self._fingerprints.update(calls.fingerprints(usable, limit, is_over))

    def take_down(self, name: str, message: str) -> None:
        """Nothing can be released through this one in this run."""
        self._breakers[name].open = True
        self.down.setdefault(name, message)

    def usable(self, name: str) -> Registered | None:
        """The provisioner of this name; None: it is down, or there is none."""
        registered = self._means.provisioners.get(name)
        if registered is None:
            self.take_down(name, without_section(name))
            return None
        return None if self._breakers[name].open else registered

    def has_left(self, name: str) -> None:
        """A row was left for another run because this one is down."""
        self._left[name] += 1

    def log_down(self) -> None:
        """One line for each that is down, however many rows it was to release."""
        for name, why in self.down.items():
            logger.error(
                "provisioner %s is down: %s. Rows left for the next tick, uncharged: %d. Look: autorelease doctor",
                name,
                why,
                self._left[name],
            )

    def fingerprint(self, name: str) -> str | None:
        """What it has earned belief under; None: nothing that it says earns any."""
        return self._fingerprints.get(name) or None

    def answered(self, work: Work) -> None:
        """It said something about an allocation."""
        name = work.allocation.provisioner
        self._breakers[name].answered()
        self._answered[name] = max(work.called, self._answered.get(name, 0.0))

    def has_answered_later(self, work: Work) -> bool:
        """Whether a call of the same provisioner that began after this one's got an answer."""
        return self._answered.get(work.allocation.provisioner, 0.0) > work.called

    def said_down(self, allocation: Allocation, message: str) -> None:
        """A call found it unusable as a whole."""
        self._breakers[allocation.provisioner].said_down()
        self.down.setdefault(allocation.provisioner, message)

    def seems_down(self, allocation: Allocation, message: str) -> None:
        """The same, unless a later call gets an answer."""
        breaker = self._breakers[allocation.provisioner]
        breaker.said_down()
        if breaker.open:
            self.down.setdefault(allocation.provisioner, message)

    def timed_out(self, allocation: Allocation) -> None:
        """An allocation's last call came to no end."""
        breaker = self._breakers[allocation.provisioner]
        breaker.row_timed_out()
        if breaker.open:
            message = f"{breaker.timeouts} allocations in a row whose last call did not end within its time-out"
            self.down.setdefault(allocation.provisioner, message)


def without_section(name: str) -> str:
    """What is wrong with a provisioner that rows name and the configuration does not."""
    return f"the configuration has no section [provisioners.{name}]"
