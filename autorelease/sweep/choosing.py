"""Which piece of work is next for a free worker."""

from collections import deque

from autorelease.sweep.acting import Means
from autorelease.sweep.trouble import Trouble
from autorelease.sweep.underway import Underway
from autorelease.sweep.work import State, Work, Works
from autorelease.sweep.worklist import Worklist

GROUP = 256
WAITING_PER_WORKER = 4
MOST_BLOCKED = 1000


class Chooser:
    """Takes from the list no more than can be worked at soon."""

    def __init__(self, means: Means, works: Works, trouble: Trouble, underway: Underway) -> None:
        self._means = means
        self._works = works
        self._trouble = trouble
        self._underway = underway

    def next(self, worklist: Worklist, ready: deque[Work], chosen: int, needed: int) -> Work | None:
        """The next work there is a free worker for: one that is ready or has waited, else the next of the list.

        chosen: how many are about to begin; needed: how many of them need a worker.
        """
        if self._means.stop.wished() or self._trouble.lost is not None or chosen >= GROUP:
            return None
        has_worker = needed < self._underway.free
        if ready and has_worker:
            return ready.popleft()
        waiting = self._works.first(State.WAITING)
        if has_worker and waiting is not None and (work := self._waited()) is not None:
            return work
        planned = worklist.peek()
        if planned is None or self._is_too_much_waiting():
            return None
        registered = self._means.provisioners.get(planned.allocation.provisioner)
        if not has_worker and (registered is None or not registered.immediate):
            return None
        worklist.take()
        return self._works.add(planned)

    def _waited(self) -> Work | None:
        now = self._means.monotonic()
        work = min(self._works.of(State.WAITING), key=lambda each: each.due_at)
        if work.due_at > now:
            return None
        self._works.move(work, State.READY)
        return work

    def _is_too_much_waiting(self) -> bool:
        waiting = self._works.count(State.WAITING) >= WAITING_PER_WORKER * self._means.options.concurrency
        return waiting or self._works.count(State.BLOCKED) >= MOST_BLOCKED
