"""VMs that several due rows are of: their releases follow each other, and the first one's is proof for the second."""

from collections import defaultdict
from collections.abc import Sequence

from autorelease.identity import VM, References, vm_of
from autorelease.sweep.work import Work
from autorelease.sweep.worklist import VMKey


class VMs:
    """Which VMs are being released, and which were. shared: those of more than one row; of others nothing is kept."""

    def __init__(self, references: References, shared: frozenset[VMKey]) -> None:
        self._references = references
        self._shared = shared
        self._taken: dict[VMKey, Work] = {}
        self._gone: defaultdict[VMKey, set[str | None]] = defaultdict(set)

    def take(self, work: Work) -> bool:
        """Whether nobody else is releasing this VM; from now on this one is."""
        key = self._key(work)
        return key is None or self._taken.setdefault(key, work) is work

    def is_lost(self, work: Work) -> bool:
        """Whether a call for this VM was given up: it may go on for ever, and nobody else's may begin in this run."""
        key = self._key(work)
        taker = self._taken.get(key) if key is not None else None
        return taker is not None and taker.is_abandoned

    def let_go(self, work: Work, blocked: Sequence[Work]) -> Work | None:
        """It is not being released any more, or never was by this one; returns the first of those who wait for it."""
        key = self._key(work)
        taker = self._taken.get(key, work) if key is not None else None
        if key is None or taker is None or (taker is not work and not taker.is_abandoned):
            return None
        if not taker.is_abandoned:
            self._taken.pop(key, None)
        return next((each for each in blocked if self._key(each) == key), None)

    def note_gone(self, work: Work) -> None:
        """It was released in this run, or is proven to be gone."""
        if (key := self._key(work)) is not None:
            self._gone[key].add(self._vm(work).uid)

    def is_gone(self, work: Work) -> bool:
        """Whether the very VM of this row was."""
        key = self._key(work)
        uids = self._gone.get(key) if key is not None else None
        if not uids:
            return False
        uid = self._vm(work).uid
        return uid is None or uid in uids or None in uids

    def _vm(self, work: Work) -> VM:
        return vm_of(work.allocation, self._references)

    def _key(self, work: Work) -> VMKey | None:
        if not self._shared:
            return None
        vm = self._vm(work)
        key = (vm.provisioner, vm.reference)
        return key if key in self._shared else None
