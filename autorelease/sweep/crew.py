"""The provisioners of one run: which are down, what each is known by, and the breaker of each."""

from collections import defaultdict
from collections.abc import Iterable

from autorelease import limits
from autorelease.model import Allocation
from autorelease.provisioners import Registered, calls
from autorelease.rules.retry import Breaker
from autorelease.sweep.acting import Means
from autorelease.sweep.work import Work


class Crew:
    """down: why a provisioner is down, by its name."""

    def __init__(self, means: Means) -> None:
        self.down: dict[str, str] = {}
        self._means = means
        self._fingerprints: dict[str, str | None] = {}
        self._breakers: defaultdict[str, Breaker] = defaultdict(Breaker)
        self._answered: dict[str, float] = {}

    def prepare(self, names: Iterable[str]) -> None:
        """Ask each whether it can be used, and what it is known by."""
        limit = self._means.options.timeout + limits.ABANDONED_AFTER
        for name in names:
            registered = self._means.provisioners.get(name)
            if registered is None:
                continue
            problem = calls.why_unusable(registered.provisioner, limit)
            if problem is None:
                self._fingerprints[name] = calls.fingerprint(registered, name, limit)
            else:
                self.take_down(name, problem)

    def take_down(self, name: str, message: str) -> None:
        """Nothing can be released through this one in this run."""
        self._breakers[name].open = True
        self.down.setdefault(name, message)

    def usable(self, name: str) -> Registered | None:
        """The provisioner of this name; None: it is down, or there is none."""
        registered = self._means.provisioners.get(name)
        if registered is None:
            self.take_down(name, f"the configuration has no section [provisioners.{name}]")
            return None
        return None if self._breakers[name].open else registered

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
            message = f"{breaker.timeouts} allocations in a row came to no end within the time-out"
            self.down.setdefault(allocation.provisioner, message)
