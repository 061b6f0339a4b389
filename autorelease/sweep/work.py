"""One due row on its way: its state, and the register that knows where every one of them is."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from enum import IntEnum, auto

import msgspec
from msgspec.structs import replace

from autorelease.errors import IdentityError, ProvisionerError
from autorelease.model import Allocation, Answer, Outcome, Planned

NAMED = 5


class State(IntEnum):
    """Where a piece of work is. It is in one state at a time, and SETTLED is the last.

    Integers, because every step of every row looks them up.

    READY: to be begun. BLOCKED: another row of the same VM goes first. WAITING: for its next attempt. CALLED: a call is
    under way. EARNED: the provisioner has answered, and the ledger is to be stamped. MISSED: "not found", which is
    judged in the end. DOUBTED: its provisioner seems to be down; what a later call comes to tells whether it is.
    """

    READY = auto()
    BLOCKED = auto()
    WAITING = auto()
    CALLED = auto()
    EARNED = auto()
    MISSED = auto()
    DOUBTED = auto()
    SETTLED = auto()


class Earned(msgspec.Struct, frozen=True):
    """What a call came to, before it is stamped.

    answer: what the provisioner said; MISS: a "not found", believed or not yet. is_expected: it repeats what a killed
    run began. at: the instant of confirmation. is_stale: at the stamp the row did not hold the judged values any more.
    """

    outcome: Outcome
    evidence: str
    answer: Answer
    at: datetime
    is_expected: bool = False
    is_stale: bool = False

    def stale(self) -> "Earned":
        """The same, of a row that has changed since."""
        return replace(self, is_stale=True)


class Work(msgspec.Struct, eq=False):
    """One planned release. allocation: as it was judged. end_unknown: an earlier call may have gone through unheard.

    calls: how many were made in this run. begun, called, over: monotonic instants of its first call, of its last call,
    and of that one's answer.
    due_at: the monotonic instant of its next attempt (WAITING), or at which its call is given up (CALLED).
    is_begun: this run has written its intent down. is_twin_gone: another row's release was that of the same VM.
    is_abandoned: its call was given up, or could not be ended, and may go on for ever.
    """

    number: int
    planned: Planned
    allocation: Allocation
    state: State
    end_unknown: bool
    calls: int = 0
    begun: float = 0.0
    called: float = 0.0
    over: float = 0.0
    due_at: float = 0.0
    error: ProvisionerError | None = None
    earned: Earned | None = None
    is_begun: bool = False
    is_twin_gone: bool = False
    is_abandoned: bool = False

    @property
    def milliseconds(self) -> int | None:
        """How long its calls took; None: none has come back."""
        return round((self.over - self.begun) * 1000) if self.over > self.begun else None

    @property
    def milliseconds_of_last(self) -> int | None:
        """How long its last call took; None: it has not come back."""
        return round((self.over - self.called) * 1000) if self.over > self.called else None


class Works:
    """Every piece of work that is not settled, by its state, in the order in which it came there."""

    def __init__(self) -> None:
        self._by_state: dict[State, dict[int, Work]] = {state: {} for state in State if state is not State.SETTLED}
        self._of_provisioner: dict[State, defaultdict[str, int]] = {state: defaultdict(int) for state in State}
        self._added = 0

    def add(self, planned: Planned) -> Work:
        """A further one, READY."""
        self._added += 1
        work = Work(self._added, planned, planned.allocation, State.READY, planned.known.may_be_gone)
        self._enter(work)
        return work

    def move(self, work: Work, state: State) -> None:
        """Change its state. What is settled stays so: raises IdentityError."""
        if work.state is State.SETTLED:
            raise IdentityError(f"{IdentityError.__doc__} {work.allocation.sid!r} would be settled twice")
        del self._by_state[work.state][work.number]
        self._of_provisioner[work.state][work.allocation.provisioner] -= 1
        work.state = state
        if state is not State.SETTLED:
            self._enter(work)

    def _enter(self, work: Work) -> None:
        self._by_state[work.state][work.number] = work
        self._of_provisioner[work.state][work.allocation.provisioner] += 1

    def of(self, state: State) -> Sequence[Work]:
        """Those that are in this state now."""
        return list(self._by_state[state].values())

    def count(self, *states: State) -> int:
        """How many are in one of these states."""
        return sum([len(self._by_state[state]) for state in states])

    def count_of(self, provisioner: str, *states: State) -> int:
        """How many of this provisioner's are in one of these states."""
        return sum([self._of_provisioner[state][provisioner] for state in states])

    def unsettled(self) -> Iterator[Work]:
        """All of them."""
        for works in self._by_state.values():
            yield from list(works.values())

    def check_settled(self) -> None:
        """Raise IdentityError where one is left: it would be in no report."""
        left = [work.allocation.sid for work in self.unsettled()]
        if left:
            sids = ", ".join(map(repr, left[:NAMED])) + (", …" if len(left) > NAMED else "")
            raise IdentityError(f"{IdentityError.__doc__} {len(left)} releases came to no end: {sids}")
