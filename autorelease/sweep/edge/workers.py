"""Daemon threads that call provisioners, as many as there are calls at once; knows nothing of ledgers and journals.

Each provisioner has a lane of its own, so that a call that waits for one waits for no other.

Daemon threads and no ThreadPoolExecutor: that one joins its threads when the interpreter ends, so that a single
call that never returns would keep the process, and its lock, alive.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from queue import Empty, SimpleQueue

import msgspec

from autorelease.errors import ProvisionerDown, ProvisionerError
from autorelease.model import Allocation, Release
from autorelease.provisioners import Provisioner
from autorelease.provisioners.calls import release

# So many times a few are what was handed over.
FEW = 5
NO_THREAD = "no thread can be started on this machine now: it has reached a limit of processes or of memory"


class Call(msgspec.Struct, frozen=True):
    """One call to be made. number: its identity. is_too_late: asked right before it is; then it is not made.

    lane: which threads may make it. is_ahead: it is ready before a worker is free, and is not made while an error of
    its lane is unheard: whoever has handed it over may think otherwise by then.
    """

    number: int
    provisioner: Provisioner
    allocation: Allocation
    is_too_late: Callable[[], bool] = lambda: False
    lane: str = ""
    is_ahead: bool = False


class Answered(msgspec.Struct, frozen=True):
    """How a call came back. answer None: it was not made. began, ended: monotonic instants; None: never."""

    number: int
    answer: Release | ProvisionerError | None
    began: float | None = None
    ended: float | None = None


class Lane:
    """The threads of one provisioner. busy: calls that were handed to them and have not come back.

    unheard: the numbers of those that came to an error which nobody has acted upon yet.
    """

    def __init__(self) -> None:
        self.threads = 0
        self.busy = 0
        self.calls: SimpleQueue[Call | None] = SimpleQueue()
        self.unheard: set[int] = set()


class Workers:
    """Threads are started as they are needed. How many calls there may be at once is for whoever begins them to say."""

    def __init__(self) -> None:
        self._lanes: defaultdict[str, Lane] = defaultdict(Lane)
        self._answers: SimpleQueue[Answered | None] = SimpleQueue()

    def is_one_free(self, lane: str, size: int) -> bool:
        """Whether a call would begin at once, where there may be so many threads."""
        return self._lanes[lane].busy < size

    def has_enough_ready(self) -> bool:
        """Whether more than a few of the calls that were handed over wait for a worker yet."""
        return any(lane.calls.qsize() * FEW > lane.busy for lane in self._lanes.values())

    def begin(self, call: Call, size: int | None = None) -> None:
        """Hand a call to a worker. size: how many of its lane may be made at once; None: this one, too."""
        lane = self._lanes[call.lane]
        lane.busy += 1
        if not self._has_thread(lane, lane.busy if size is None else min(lane.busy, size)):
            self._answers.put(Answered(call.number, ProvisionerDown(NO_THREAD)))
            return
        lane.calls.put(call)

    def _has_thread(self, lane: Lane, wanted: int) -> bool:
        if lane.threads >= wanted:
            return True
        number = sum(each.threads for each in self._lanes.values()) + 1
        thread = threading.Thread(target=self._work, args=(lane,), name=f"release-{number}", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return False
        lane.threads += 1
        return True

    def answer_at_once(self, call: Call) -> None:
        """Make a call that takes no time, in this thread; it needs no worker."""
        self._answers.put(_made(call))

    def abandon(self, lane: str = "") -> None:
        """Give a call up that did not come back in its time; its thread is lost, another may take its place."""
        lost = self._lanes[lane]
        lost.busy -= 1
        lost.threads -= 1
        if lost.busy > lost.threads:
            # Somebody may wait behind it, and would be taken for one that does not come back.
            self._has_thread(lost, lost.threads + 1)

    def wake(self) -> None:
        """End a wait; safe in a signal handler."""
        self._answers.put(None)

    def next_answer(self, seconds: float) -> Answered | None:
        """The next answer; None: there was none within this time, or somebody said `wake`."""
        try:
            return self._answers.get(timeout=seconds) if seconds > 0 else self._answers.get_nowait()
        except Empty:
            return None

    def has_come_back(self, lane: str = "") -> None:
        """Count one call as over: its answer was taken by the one who began it."""
        self._lanes[lane].busy -= 1

    def hear(self, lane: str, number: int) -> None:
        """What this call came to has been acted upon."""
        self._lanes[lane].unheard.discard(number)

    def hear_of_any_lane(self, number: int) -> None:
        """The same of a call of which nothing more is known."""
        for lane in self._lanes.values():
            lane.unheard.discard(number)

    def dismiss(self) -> None:
        """Let every idle thread end."""
        for lane in self._lanes.values():
            for _ in range(lane.threads):
                lane.calls.put(None)

    def _work(self, lane: Lane) -> None:
        while (call := lane.calls.get()) is not None:
            answered = Answered(call.number, None) if call.is_ahead and lane.unheard else _made(call)
            if isinstance(answered.answer, ProvisionerError):
                lane.unheard.add(call.number)
            self._answers.put(answered)


def _made(call: Call) -> Answered:
    if call.is_too_late():
        return Answered(call.number, None)
    began = time.monotonic()
    answer = release(call.provisioner, call.allocation)
    return Answered(call.number, answer, began, time.monotonic())
