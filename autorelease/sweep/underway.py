"""The calls that are under way: begun in a worker or at once, and waited for until they come back or are given up.

One that is handed over before a worker is free is made only if nobody has written since it was judged, and nothing else
speaks against it by then.
"""

from collections.abc import Callable, Sequence

import msgspec

from autorelease import limits
from autorelease.deciding.judging import Versions
from autorelease.errors import ProvisionerError
from autorelease.model import Release
from autorelease.provisioners import Registered
from autorelease.sweep.acting import Means
from autorelease.sweep.edge.freshness import LONGEST_WAIT_SECONDS as LONGEST_WAIT_FOR_FRESHNESS
from autorelease.sweep.edge.freshness import Freshness
from autorelease.sweep.edge.workers import Answered, Call, Workers
from autorelease.sweep.windows import Windows
from autorelease.sweep.work import State, Work, Works

LONGEST_LINGER_SECONDS = 0.02
LONGEST_WAIT_FOR_WRITES = 2 * LONGEST_WAIT_FOR_FRESHNESS
# For the deadline, which is looked up again so often at the latest.
LONGEST_WAIT_SECONDS = 1.0

# None: the call was not made, because what it rests on was judged too long ago.
CameBack = tuple[Work, Release | ProvisionerError | None]


class Judgement(msgspec.Struct, frozen=True):
    """When a group was judged last, by the time since boot, and by which versions of ledger and journal."""

    at: float
    by: Versions


class Underway:
    """write_seconds: how long the last write took, which its user says.

    fresh: whether judgements still hold. may_begin: whether a call of this provisioner may still begin; asked in any
    thread.
    """

    def __init__(
        self,
        means: Means,
        works: Works,
        windows: Windows,
        fresh: Freshness,
        may_begin: Callable[[str], bool],
    ) -> None:
        self.write_seconds = 0.0
        self._fresh = fresh
        self._means = means
        self._works = works
        self._windows = windows
        self._may_begin = may_begin
        self._given_up_after = (means.options.timeout + limits.ABANDONED_AFTER).total_seconds()
        self._judged_for = limits.JUDGED_FOR.total_seconds()
        self._workers = Workers()
        self._flights: dict[int, tuple[Work, bool]] = {}
        self._landed_last: list[Work] = []
        means.stop.on_wish = self._workers.wake

    def begin(self, work: Work, registered: Registered, judgement: Judgement) -> None:
        """Call the provisioner for it."""
        self._hear()
        started = self._means.monotonic()
        name = work.allocation.provisioner
        size = self._windows.size(name)
        work.calls += 1
        work.is_ahead = not registered.immediate and not self._workers.is_one_free(name, size)
        work.called = started
        work.due_at = started + self._given_up_after
        if work.is_ahead:
            # It waits for a worker, and in the worker perhaps for what is being written.
            work.due_at += self._judged_for + LONGEST_WAIT_FOR_WRITES
        self._works.move(work, State.CALLED)
        self._flights[work.number] = (work, registered.immediate)
        is_too_late = self._is_too_late(work, judgement) if work.is_ahead else self._is_too_old(judgement)
        call = Call(work.number, registered.provisioner, work.allocation, is_too_late, name, work.is_ahead)
        if registered.immediate:
            self._workers.answer_at_once(call)
        else:
            self._workers.begin(call, size)

    def _is_too_late(self, work: Work, judgement: Judgement) -> Callable[[], bool]:
        is_too_old, name = self._is_too_old(judgement), work.allocation.provisioner
        # Its age last: to ask for the rest may take its time.
        return lambda: not (self._may_begin(name) and self._fresh.holds(judgement.by)) or is_too_old()

    def _is_too_old(self, judgement: Judgement) -> Callable[[], bool]:
        # Asked in the worker: the process may have been stopped, or the machine have slept, until then.
        return lambda: self._means.boottime() - judgement.at > self._judged_for

    def with_workers(self) -> Sequence[Work]:
        """Those whose call a worker is making."""
        return [work for work, is_immediate in self._flights.values() if not is_immediate]

    def came_back(self, until: float | None) -> Sequence[CameBack]:
        """What came back since the last look, and what was given up. until: a monotonic instant to be awake at.

        After the first answer it lingers for as long as a write takes. That is what makes groups: without it a fast
        provisioner's first answer would be written alone. While enough is ready for the workers it costs nothing.
        """
        self._hear()
        first = self._workers.next_answer(self._patience(until))
        answers = [first] if first is not None else []
        began, write_seconds = self._means.monotonic(), min(self.write_seconds, LONGEST_LINGER_SECONDS)
        while answers and len(answers) < len(self._flights):
            lingers = LONGEST_LINGER_SECONDS if self._workers.has_enough_ready() else write_seconds
            answer = self._workers.next_answer(max(0.0, began + lingers - self._means.monotonic()))
            if answer is None:
                break
            answers.append(answer)
        return [*(came for answer in answers if (came := self._landed(answer))), *self._given_up()]

    def _patience(self, until: float | None) -> float:
        now = self._means.monotonic()
        instants = [now + LONGEST_WAIT_SECONDS, *(work.due_at for work, _ in self._flights.values())]
        if until is not None:
            instants.append(until)
        return max(0.0, min(instants) - now)

    def _landed(self, answered: Answered) -> CameBack | None:
        if answered.number not in self._flights:
            # It was given up before.
            self._workers.hear_of_any_lane(answered.number)
            return None
        work, is_immediate = self._flights.pop(answered.number)
        if not is_immediate:
            self._workers.has_come_back(work.allocation.provisioner)
            self._landed_last.append(work)
        if answered.answer is None:
            work.calls -= 1
        self._note_times(work, answered)
        return work, answered.answer

    def _hear(self) -> None:
        # Whoever was given what came back last has acted upon it by now.
        for work in self._landed_last:
            self._workers.hear(work.allocation.provisioner, work.number)
        self._landed_last.clear()

    def _note_times(self, work: Work, answered: Answered) -> None:
        if answered.began is not None:
            work.called = answered.began
        work.begun = work.begun or work.called
        work.over = answered.ended or self._means.monotonic()
        if answered.answer is not None:
            self._windows.note_duration(work.allocation.provisioner, work.over - work.called)

    def _given_up(self) -> Sequence[CameBack]:
        now = self._means.monotonic()
        overdue = [work for work, _ in self._flights.values() if work.due_at <= now]
        for work in overdue:
            del self._flights[work.number]
            work.over = now
            work.is_abandoned = True
            work.begun = work.begun or work.called
            self._workers.abandon(work.allocation.provisioner)
        limit = f"{self._means.options.timeout.total_seconds():g} s"
        message = f"the call did not come back within {limit} and was given up"
        return [(work, ProvisionerError(message, timed_out=True)) for work in overdue]

    def dismiss(self) -> None:
        """Let every idle thread end."""
        self._workers.dismiss()
