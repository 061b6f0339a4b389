"""A provisioner in memory: the reference implementation of the protocol, for tests. No configuration can name it."""

import threading
from collections import Counter
from collections.abc import Callable, Iterable

from autorelease.model import Allocation, Release, Result


class MemoryProvisioner:
    """Holds a set of VMs by vm_ref and makes them go away.

    before: called with the allocation at the start of every release, outside of any lock; it may raise, wait or lie in
    wait for a race. fingerprint: what it is known by. releases counts the calls by sid; most_at_once is the highest
    number of calls in progress.
    """

    def __init__(
        self,
        vms: Iterable[str] = (),
        before: Callable[[Allocation], None] | None = None,
        fingerprint: str | None = "memory",
    ) -> None:
        self.vms = set(vms)
        self.gone: set[str] = set()
        self.releases: Counter[str] = Counter()
        self.most_at_once = 0
        self._before = before
        self._fingerprint = fingerprint
        self._at_once = 0
        self._lock = threading.Lock()

    def preflight(self) -> None:
        """Always reachable."""

    def fingerprint(self) -> str | None:
        """What it was made with."""
        return self._fingerprint

    def release(self, allocation: Allocation) -> Release:
        """Released the first time; proven gone after that; a miss for a VM that it never held."""
        with self._lock:
            self.releases[allocation.sid] += 1
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            if self._before is not None:
                self._before(allocation)
            with self._lock:
                return self._released(allocation.vm_ref)
        finally:
            with self._lock:
                self._at_once -= 1

    def _released(self, vm_ref: str) -> Release:
        if vm_ref in self.vms:
            self.vms.remove(vm_ref)
            self.gone.add(vm_ref)
            return Release(Result.RELEASED, evidence="removed")
        if vm_ref in self.gone:
            return Release(Result.ALREADY_RELEASED, evidence="removed earlier")
        return Release(Result.ALREADY_RELEASED, evidence="no such VM", proof=False)

    def close(self) -> None:
        """Nothing to give back."""


class ProbingMemory(MemoryProvisioner):
    """Can be asked, besides, whether it holds a VM."""

    def exists(self, allocation: Allocation) -> bool:
        """Whether this VM is in the set."""
        with self._lock:
            return allocation.vm_ref in self.vms
