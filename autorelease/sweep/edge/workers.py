"""Daemon threads that call provisioners, as many as there are calls at once; knows nothing of ledgers and journals.

Daemon threads and no ThreadPoolExecutor: that one joins its threads when the interpreter ends, so that a single
call that never returns would keep the process, and its lock, alive.
"""

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

import msgspec

from autorelease.errors import ProvisionerDown, ProvisionerError
from autorelease.model import Allocation, Release
from autorelease.provisioners import Provisioner
from autorelease.provisioners.calls import release

NO_THREAD = "no thread can be started on this machine now: it has reached a limit of processes or of memory"


class Call(msgspec.Struct, frozen=True):
    """One call to be made. number: its identity. is_too_late: asked right before it is; then it is not made."""

    number: int
    provisioner: Provisioner
    allocation: Allocation
    is_too_late: Callable[[], bool] = lambda: False


class Answered(msgspec.Struct, frozen=True):
    """How a call came back. answer None: it was not made."""

    number: int
    answer: Release | ProvisionerError | None


class Workers:
    """Threads are started as they are needed. How many calls there may be at once is for whoever begins them to say."""

    def __init__(self) -> None:
        self._threads = 0
        self._busy = 0
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._answers: SimpleQueue[Answered | None] = SimpleQueue()

    def begin(self, call: Call) -> None:
        """Hand a call to a worker."""
        self._busy += 1
        if self._busy > self._threads and not self._has_another_thread():
            self._answers.put(Answered(call.number, ProvisionerDown(NO_THREAD)))
            return
        self._calls.put(call)

    def _has_another_thread(self) -> bool:
        thread = threading.Thread(target=self._work, name=f"release-{self._threads + 1}", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return False
        self._threads += 1
        return True

    def answer_at_once(self, call: Call) -> None:
        """Make a call that takes no time, in this thread; it needs no worker."""
        self._answers.put(_made(call))

    def abandon(self) -> None:
        """Give a call up that did not come back in its time; its thread is lost, another may take its place."""
        self._busy -= 1
        self._threads -= 1

    def wake(self) -> None:
        """End a wait; safe in a signal handler."""
        self._answers.put(None)

    def next_answer(self, seconds: float) -> Answered | None:
        """The next answer; None: there was none within this time, or somebody said `wake`."""
        try:
            return self._answers.get(timeout=seconds) if seconds > 0 else self._answers.get_nowait()
        except Empty:
            return None

    def has_come_back(self) -> None:
        """Count one call as over: its answer was taken by the one who began it."""
        self._busy -= 1

    def dismiss(self) -> None:
        """Let every idle thread end."""
        for _ in range(self._threads):
            self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            self._answers.put(_made(call))


def _made(call: Call) -> Answered:
    return Answered(call.number, None if call.is_too_late() else release(call.provisioner, call.allocation))
