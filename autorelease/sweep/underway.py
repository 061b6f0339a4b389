"""The calls that are under way: begun in a worker or at once, and waited for until they come back or are given up."""

from collections.abc import Callable, Sequence

from autorelease import limits
from autorelease.errors import ProvisionerError
from autorelease.model import Release
from autorelease.provisioners import Registered
from autorelease.sweep.acting import Means
from autorelease.sweep.edge.workers import Answered, Call, Workers
from autorelease.sweep.work import State, Work, Works

LONGEST_LINGER_SECONDS = 0.02
# For the deadline, which is looked up again so often at the latest.
LONGEST_WAIT_SECONDS = 1.0

# None: the call was not made, because what it rests on was judged too long ago.
CameBack = tuple[Work, Release | ProvisionerError | None]


class Underway:
    """write_seconds: how long the last write took, which its user says."""

    def __init__(self, means: Means, works: Works) -> None:
        self.write_seconds = 0.0
        self._means = means
        self._works = works
        self._given_up_after = (means.options.timeout + limits.ABANDONED_AFTER).total_seconds()
        self._judged_for = limits.JUDGED_FOR.total_seconds()
        self._workers = Workers()
        self._flights: dict[int, tuple[Work, bool]] = {}
        means.stop.on_wish = self._workers.wake

    def begin(self, work: Work, registered: Registered, judged_at: float) -> None:
        """Call the provisioner for it. judged_at: when it was judged last, by the time since boot."""
        started = self._means.monotonic()
        work.calls += 1
        work.begun = work.begun or started
        work.called = started
        work.due_at = started + self._given_up_after
        self._works.move(work, State.CALLED)
        self._flights[work.number] = (work, registered.immediate)
        call = Call(work.number, registered.provisioner, work.allocation, self._is_too_old(judged_at))
        if registered.immediate:
            self._workers.answer_at_once(call)
        else:
            self._workers.begin(call)

    def _is_too_old(self, judged_at: float) -> Callable[[], bool]:
        # Asked in the worker: the process may have been stopped, or the machine have slept, until then.
        return lambda: self._means.boottime() - judged_at > self._judged_for

    def with_workers(self) -> Sequence[Work]:
        """Those whose call a worker is making."""
        return [work for work, is_immediate in self._flights.values() if not is_immediate]

    def came_back(self, until: float | None) -> Sequence[CameBack]:
        """What came back since the last look, and what was given up. until: a monotonic instant to be awake at.

        After the first answer it lingers for as long as a write takes. That is what makes groups: without it a fast
        provisioner's first answer would be written alone.
        """
        first = self._workers.next_answer(self._patience(until))
        answers = [first] if first is not None else []
        linger_until = self._means.monotonic() + min(self.write_seconds, LONGEST_LINGER_SECONDS)
        while answers and len(answers) < len(self._flights):
            answer = self._workers.next_answer(max(0.0, linger_until - self._means.monotonic()))
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
            return None
        work, is_immediate = self._flights.pop(answered.number)
        if not is_immediate:
            self._workers.has_come_back()
        if answered.answer is None:
            work.calls -= 1
        work.over = self._means.monotonic()
        return work, answered.answer

    def _given_up(self) -> Sequence[CameBack]:
        now = self._means.monotonic()
        overdue = [work for work, _ in self._flights.values() if work.due_at <= now]
        for work in overdue:
            del self._flights[work.number]
            work.over = now
            work.is_abandoned = True
            self._workers.abandon()
        limit = f"{self._means.options.timeout.total_seconds():g} s"
        message = f"the call did not come back within {limit} and was given up"
        return [(work, ProvisionerError(message, timed_out=True)) for work in overdue]

    def dismiss(self) -> None:
        """Let every idle thread end."""
        self._workers.dismiss()
