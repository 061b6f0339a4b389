"""The provider of the machine: VMs in memory behind a provisioner that has moods."""

import threading
import unicodedata
from collections.abc import Callable
from enum import StrEnum

import msgspec

from autorelease.errors import ProvisionerDown, ProvisionerError
from autorelease.model import Allocation, Release, Result
from autorelease.provisioners.memory import MemoryProvisioner


class Mood(StrEnum):
    """How a provisioner answers. What is timed out, or hangs, may have gone through or not."""

    WELL = "well"
    FAILING = "failing"
    BUSY = "busy"
    DOWN = "down"
    CLOSED = "closed"
    MISSING = "missing"
    LATE = "late"
    LOST = "lost"
    HANGING = "hanging"
    LYING = "lying"
    PENDING = "pending"
    BROKEN = "broken"


def plainly(ref: str) -> str:
    """What all spellings of the name of one VM have in common."""
    return unicodedata.normalize("NFKC", ref).casefold().strip()


class Provider:
    """The VMs of one provisioner, and its mood for the next `left` calls.

    Every VM has a number of its own: names are used again, in any spelling. going: VMs that will be gone at the next
    `pass_time`. fingerprint: by what it is known; None: it cannot say. can_be_asked: whether a VM is there. remembers:
    what it has removed, so that it can prove it.
    """

    def __init__(self, name: str, *, is_immediate: bool) -> None:
        self.memory = MemoryProvisioner()
        self.is_immediate = is_immediate
        self.going: dict[str, int] = {}
        self.fingerprint: str | None = name
        self.can_be_asked = False
        self.remembers = True
        self._mood = Mood.WELL
        self._left = 0
        self._numbers: dict[str, int] = {}
        self._made = 0
        self._lock = threading.Lock()

    # --- the truth --------------------------------------------------------------------------------------------------

    def number(self, ref: str) -> int | None:
        """The number of the VM that has this name now; None: there is none."""
        ref = plainly(ref)
        return self._numbers.get(ref) if ref in self.memory.vms else None

    def create(self, ref: str) -> None:
        """Make a VM of this name where there is none."""
        ref = plainly(ref)
        with self._lock:
            if ref in self.memory.vms:
                return
            self._made += 1
            self._numbers[ref] = self._made
            self.memory.vms.add(ref)
            self.memory.gone.discard(ref)

    def vanish(self, ref: str) -> None:
        """Its owner has deleted the VM: the provider knows nothing of it any more."""
        with self._lock:
            self.memory.vms.discard(plainly(ref))

    def pass_time(self) -> None:
        """What was accepted and not yet done is done."""
        going, self.going = self.going, {}
        for ref, number in going.items():
            if self.number(ref) == number:
                self.vanish(ref)

    # --- moods ------------------------------------------------------------------------------------------------------

    @property
    def is_missing(self) -> bool:
        """Whether the configuration has no such section now."""
        return self._mood is Mood.MISSING and self._left > 0

    @property
    def may_hang(self) -> bool:
        """Whether a call may not come back."""
        return self._mood is Mood.HANGING and self._left > 0 and not self.is_immediate

    def set_mood(self, mood: Mood, calls: int) -> None:
        """Be in this mood for so many calls."""
        self._mood, self._left = mood, calls

    def preflight(self) -> None:
        """Raise what the mood has it raise."""
        if self._mood is Mood.CLOSED and self._left > 0:
            raise ProvisionerDown("closed")

    def next_mood(self) -> Mood:
        """The mood of one call, which uses it up."""
        with self._lock:
            if self._left == 0:
                return Mood.WELL
            self._left -= 1
            return self._mood

    def answer(self, mood: Mood, allocation: Allocation) -> Release:
        """Do and say what one does in this mood."""
        ref = plainly(allocation.vm_ref)
        if mood in (Mood.HANGING, Mood.LATE, Mood.PENDING) and (number := self.number(ref)) is not None:
            self.going[ref] = number
        if mood is Mood.LOST:
            self._released(allocation)
        if mood in TROUBLES:
            raise TROUBLES[mood]()
        if mood is Mood.PENDING:
            return Release(Result.PENDING, evidence="accepted")
        if mood is Mood.LYING:
            return Release(Result.ALREADY_RELEASED, evidence="no such VM", proof=False)
        return self._released(allocation)

    def _released(self, allocation: Allocation) -> Release:
        release = self.memory.release(msgspec.structs.replace(allocation, vm_ref=plainly(allocation.vm_ref)))
        if not self.remembers:
            self.memory.gone.clear()
        return release

    def exists(self, allocation: Allocation) -> bool:
        """Whether this VM is there, as one says in this mood."""
        mood = self._mood if self._left > 0 else Mood.WELL
        if mood in TROUBLES:
            raise TROUBLES[mood]()
        return mood is not Mood.LYING and self.number(allocation.vm_ref) is not None


def _timed_out() -> Exception:
    return ProvisionerError("took too long", retryable=True, timed_out=True)


TROUBLES: dict[Mood, Callable[[], Exception]] = {
    Mood.FAILING: lambda: ProvisionerError("refused"),
    Mood.BUSY: lambda: ProvisionerError("busy", retryable=True),
    Mood.DOWN: lambda: ProvisionerDown("not reachable"),
    Mood.LATE: _timed_out,
    Mood.LOST: _timed_out,
    Mood.HANGING: _timed_out,
    Mood.BROKEN: lambda: ValueError("a bug of the adapter"),
}
