"""The effects: re-read, intent, release, stamp, outcome, for one allocation after another. Read it top to bottom.

This thread owns both databases; workers only call provisioners. One turn of the loop:

    begin   as many rows as there are free workers: each is re-read, then all their intents are journalled together
    wait    until a call comes back
    take    what came back: stamps together in one transaction, outcomes together with the next turn's intents

No transaction is open while a call is under way. Kill the process anywhere: what is durable is the truth, and an intent
without an outcome tells the next tick where to look.
"""

import heapq
import itertools
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from autorelease import limits
from autorelease.errors import ProvisionerDown, ProvisionerError, UnusableError
from autorelease.journal import Event, Journal, Step
from autorelease.ledger import Ledger, Stamp, StampResult
from autorelease.model import (
    Allocation,
    Answer,
    Attempts,
    ErrorCode,
    Finding,
    Hold,
    Outcome,
    Planned,
    Release,
    ReleaseError,
    Result,
    SkipReason,
)
from autorelease.provisioners import Registered
from autorelease.provisioners.calls import why_unusable
from autorelease.rules.belief import WINDOW, disbelief
from autorelease.rules.retry import Breaker, after_failure, after_pending, pause_seconds
from autorelease.sqlitefile import StampRefusedError
from autorelease.sweep.edge.stop import Stop
from autorelease.sweep.edge.workers import Answered, Call, Workers

logger = logging.getLogger(__name__)

RESCUE_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_IN_TICK = timedelta(minutes=1)
GROUP = 256
WAITING_PER_WORKER = 4
LONGEST_LINGER_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Options:
    """The configured limits of execution."""

    concurrency: int
    timeout: timedelta
    attempts: int
    quarantine_after: int
    grace: timedelta
    hold_grace: timedelta
    max_gone_percent: int
    stamps: bool = True


@dataclass(slots=True)
class Work:
    """One planned release on its way. end_unknown: an earlier call may have gone through unheard."""

    planned: Planned
    end_unknown: bool
    calls: int = 0
    begun: float = 0.0
    over: float = 0.0
    error: ProvisionerError | None = None

    @property
    def allocation(self) -> Allocation:
        """The allocation as it was judged."""
        return self.planned.allocation


@dataclass(frozen=True, slots=True)
class Flight:
    """A call under way. gives_up: monotonic instant at which it is abandoned."""

    work: Work
    gives_up: float
    immediate: bool


@dataclass(frozen=True, slots=True)
class Earned:
    """A release that happened and is not stamped yet. answer None: it was journalled before."""

    work: Work
    outcome: Outcome
    evidence: str
    answer: Answer | None
    at: datetime


@dataclass(slots=True)
class Executor:
    """Carries out one plan. After `execute`: `down`, `unproven` and `lost` say what else went wrong.

    is_due: the rule, which has the last word on a row as it is read again. is_held: whether a hold is in force.
    confirmed_misses: how many "not found" an operator has vouched for.
    """

    ledger: Ledger
    journal: Journal
    provisioners: Mapping[str, Registered]
    tick: str
    now: datetime
    options: Options
    stop: Stop
    is_due: Callable[[Allocation], bool]
    is_held: Callable[[Hold], bool]
    found: Callable[[Finding], None]
    clock: Callable[[], datetime]
    jitter: Callable[[], float]
    monotonic: Callable[[], float] = time.monotonic
    confirmed_misses: int = 0
    down: dict[str, str] = field(default_factory=dict)
    unproven: int = 0
    lost: str | None = None
    abandoned: int = 0

    _workers: Workers = field(init=False)
    _flights: dict[int, Flight] = field(init=False, default_factory=dict)
    _numbers: "itertools.count[int]" = field(init=False, default_factory=itertools.count)
    _waiting: list[tuple[float, int, Work]] = field(init=False, default_factory=list)
    _returned: list[Work] = field(init=False, default_factory=list)
    _breakers: dict[str, Breaker] = field(init=False, default_factory=lambda: defaultdict(Breaker))
    _misses: dict[str, list[Earned]] = field(init=False, default_factory=lambda: defaultdict(list))
    _unwritten: list[Earned] = field(init=False, default_factory=list)
    _records: list[Event] = field(init=False, default_factory=list)
    _failing: dict[str, float] = field(init=False, default_factory=dict)
    _resume_at: float = field(init=False, default=0.0)
    _write_seconds: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self._workers = Workers(self.options.concurrency)
        self.stop.on_wish = self._workers.wake

    # --- the loop ---------------------------------------------------------------------------------------------------

    def take_down(self, provisioner: str, message: str) -> None:
        """Note that nothing can be released through this provisioner in this tick."""
        self._breakers[provisioner].open = True
        self.down.setdefault(provisioner, message)

    def rehearse(self, first: Planned, provisioners: Iterable[str]) -> None:
        """While every VM still stands: make the first stamp and take it back, and ask each provisioner if it is usable.

        Raises UnusableError where the ledger would not take the stamp.
        """
        if self.options.stamps:
            self.ledger.rehearse(Stamp(first.allocation, self.clock()))
        for name in provisioners:
            if (registered := self.provisioners.get(name)) is not None:
                problem = why_unusable(registered.provisioner, self.options.timeout + limits.ABANDONED_AFTER)
                if problem is not None:
                    self.take_down(name, problem)

    def execute(self, plan: Iterable[Planned]) -> None:
        """Release what is planned, in its order; exactly one finding for each comes out of `found`."""
        coming = _Coming(plan)
        while True:
            self._begin(coming)
            if not (self._flights or (self.lost is None and self._more_to_do(coming))):
                break
            self._take(self._came_back())
        self._judge_misses()
        self._write_records()
        self._leave_the_rest(coming)
        self._workers.dismiss()

    def _more_to_do(self, coming: "_Coming") -> bool:
        if self._unwritten or self._records:
            return True
        return not self.stop.wished() and bool(self._waiting or self._returned or coming.peek())

    def _leave_the_rest(self, coming: "_Coming") -> None:
        for earned in self._unwritten:
            self._leave_unwritten(earned, self.lost or "")
        self._unwritten.clear()
        for work in (*self._returned, *(work for _, _, work in self._waiting)):
            self._leave(work)
        while (planned := coming.take()) is not None:
            self._skip(Work(planned, planned.known.intent), SkipReason.DEFERRED)
        self._write_records()

    def _leave(self, work: Work) -> None:
        if work.error is not None:
            self._fail(work, work.error)
        else:
            self._skip(work, SkipReason.DEFERRED)

    # --- begin ------------------------------------------------------------------------------------------------------

    def _begin(self, coming: "_Coming") -> None:
        if self._unwritten or self.monotonic() < self._resume_at or not self._write_records():
            return
        chosen: list[tuple[Work, Registered]] = []
        taken = 0
        while (work := self._next(coming, len(chosen), taken)) is not None:
            registered = self._usable(work)
            if registered is None:
                continue
            try:
                fit = self._still_due(work)
            except UnusableError as error:
                self._fails("ledger", error)
                self._returned.append(work)
                break
            self._failing.pop("ledger", None)
            if fit:
                chosen.append((work, registered))
                taken += not registered.immediate
            if len(self._records) >= GROUP:
                self._write_records()
        held = self._write_intents([work for work, _ in chosen])
        if held is None:
            self._returned += [work for work, _ in chosen]
            return
        for work, registered in chosen:
            if work.allocation.sid in held:
                self._skip(work, SkipReason.HELD)
            else:
                self._call(work, registered)

    def _next(self, coming: "_Coming", chosen: int, taken: int) -> Work | None:
        """The next work there is a free worker for: one that came back from an attempt, else the next of the plan.

        chosen: how many are about to begin; taken: how many of them need a worker.
        """
        if self.stop.wished() or self.lost is not None:
            return None
        has_worker = taken < self._workers.free
        if self._returned and has_worker:
            return self._returned.pop()
        if self._waiting and has_worker and self._waiting[0][0] <= self.monotonic():
            return heapq.heappop(self._waiting)[2]
        planned = coming.peek()
        if planned is None or len(self._waiting) >= WAITING_PER_WORKER * self.options.concurrency:
            return None
        registered = self.provisioners.get(planned.allocation.provisioner)
        immediate = registered is not None and registered.immediate
        if chosen >= GROUP or not (has_worker or immediate):
            return None
        coming.take()
        return Work(planned, planned.known.intent)

    def _usable(self, work: Work) -> Registered | None:
        """Its provisioner; None, with a finding made, where that one is down."""
        name = work.allocation.provisioner
        registered = self.provisioners.get(name)
        if registered is None:
            self.take_down(name, f"the configuration has no section [provisioners.{name}]")
        if registered is None or self._breakers[name].open:
            self._skip(work, SkipReason.DEFERRED)
            return None
        return registered

    def _still_due(self, work: Work) -> bool:
        """Read the row again; anything judged that has changed becomes the finding."""
        row = self.ledger.read(work.allocation.sid)
        if isinstance(row, Allocation) and row.judged() == work.allocation.judged():
            return self.is_due(row)
        if isinstance(row, Allocation) and row.released:
            self._finish(work, Outcome.ALREADY_RELEASED, evidence="the row is Released")
        elif work.end_unknown:
            self._conflict(work, "a release was begun, its end is unknown, and the row has changed since")
        elif isinstance(row, Allocation) and not row.settled and row.expires_at != work.allocation.expires_at:
            self._skip(work, SkipReason.RENEWED)
        else:
            self._skip(work, SkipReason.CHANGED)
        return False

    def _call(self, work: Work, registered: Registered) -> None:
        started = self.monotonic()
        number = next(self._numbers)
        work.calls += 1
        work.begun = work.begun or started
        gives_up = started + (self.options.timeout + limits.ABANDONED_AFTER).total_seconds()
        self._flights[number] = Flight(work, gives_up, registered.immediate)
        call = Call(number, registered.provisioner, work.allocation)
        if registered.immediate:
            self._workers.answer_at_once(call)
        else:
            self._workers.begin(call)

    # --- wait -------------------------------------------------------------------------------------------------------

    def _came_back(self) -> list[tuple[Work, Release | ProvisionerError]]:
        """What came back since the last look.

        After the first answer it lingers for as long as a write takes. That is what makes groups: without it a fast
        provisioner's first answer would be written alone.
        """
        if not self._flights and not self._waiting and self._resume_at <= self.monotonic():
            return []
        first = self._workers.next_answer(self._patience())
        answers = [first] if first is not None else []
        linger_until = self.monotonic() + min(self._write_seconds, LONGEST_LINGER_SECONDS)
        while answers and len(answers) < len(self._flights):
            answer = self._workers.next_answer(max(0.0, linger_until - self.monotonic()))
            if answer is None:
                break
            answers.append(answer)
        return [came for answer in answers if (came := self._landed(answer))] + self._overdue()

    def _patience(self) -> float:
        instants = [flight.gives_up for flight in self._flights.values()]
        if self._waiting and self._workers.free and not self.stop.wished():
            instants.append(self._waiting[0][0])
        if self._resume_at > self.monotonic():
            instants.append(self._resume_at)
        # Looked up again every second at the latest, for the deadline.
        return max(0.0, min([*instants, self.monotonic() + 1.0]) - self.monotonic())

    def _landed(self, answered: Answered) -> tuple[Work, Release | ProvisionerError] | None:
        flight = self._flights.pop(answered.number, None)
        if flight is None:
            return None
        if not flight.immediate:
            self._workers.has_come_back()
        flight.work.over = self.monotonic()
        return flight.work, answered.answer

    def _overdue(self) -> list[tuple[Work, Release | ProvisionerError]]:
        overdue = [number for number, flight in self._flights.items() if flight.gives_up <= self.monotonic()]
        abandoned: list[tuple[Work, Release | ProvisionerError]] = []
        for number in overdue:
            flight = self._flights.pop(number)
            flight.work.over = self.monotonic()
            self._workers.abandon()
            self.abandoned += 1
            limit = f"{self.options.timeout.total_seconds():g} s"
            error = ProvisionerError(f"the call did not come back within {limit} and was given up", timed_out=True)
            abandoned.append((flight.work, error))
        return abandoned

    # --- take -------------------------------------------------------------------------------------------------------

    def _take(self, came: Iterable[tuple[Work, Release | ProvisionerError]]) -> None:
        for work, answer in came:
            if isinstance(answer, Release):
                self._breakers[work.allocation.provisioner].answered()
                self._take_release(work, answer)
            elif isinstance(answer, ProvisionerDown):
                self._take_down(work, answer)
            else:
                self._take_error(work, answer)
        self._stamp()

    def _take_release(self, work: Work, release: Release) -> None:
        evidence, at = release.evidence, self.clock()
        if release.result is Result.PENDING:
            self._pending(work, evidence)
        elif release.result is Result.RELEASED:
            self._unwritten.append(Earned(work, Outcome.RELEASED, evidence, Answer.RELEASED, at))
        elif release.proof:
            self._unwritten.append(Earned(work, Outcome.ALREADY_RELEASED, evidence, Answer.GONE, at))
        elif work.end_unknown:
            # Our own earlier call, which never came back, has done it.
            self._unwritten.append(Earned(work, Outcome.ALREADY_RELEASED, evidence, Answer.EXPECTED_MISS, at))
        else:
            # Journalled at once, and its intent closed: a crash must not turn it into an expected miss.
            self._records.append(self._event(work, Step.MISS, evidence=evidence, answer=Answer.MISS))
            name = work.allocation.provisioner
            self._misses[name].append(Earned(work, Outcome.ALREADY_RELEASED, evidence, None, at))

    def _take_down(self, work: Work, error: ProvisionerDown) -> None:
        name = work.allocation.provisioner
        self._breakers[name].said_down()
        self.down.setdefault(name, str(error))
        work.end_unknown = work.end_unknown or error.end_unknown
        self._skip(work, SkipReason.DEFERRED)

    def _take_error(self, work: Work, error: ProvisionerError) -> None:
        work.error = error
        work.end_unknown = work.end_unknown or error.end_unknown
        pause = pause_seconds(work.calls, self.jitter(), error.retry_after_seconds)
        if (
            error.retryable
            and work.calls < self.options.attempts
            and pause <= LONGEST_PAUSE_IN_TICK.total_seconds()
            and not self.stop.wished()
        ):
            heapq.heappush(self._waiting, (self.monotonic() + pause, next(self._numbers), work))
            return
        self._count_timeout(work.allocation.provisioner, timed_out=error.timed_out)
        self._fail(work, error)

    def _count_timeout(self, provisioner: str, *, timed_out: bool) -> None:
        breaker = self._breakers[provisioner]
        if not timed_out:
            breaker.answered()
            return
        breaker.row_timed_out()
        if breaker.open:
            self.down.setdefault(
                provisioner, f"{breaker.timeouts} allocations in a row came to no end within the time-out"
            )

    # --- stamp ------------------------------------------------------------------------------------------------------

    def _stamp(self) -> None:
        """Stamp all that was earned; what cannot be written stays earned and is tried again, for a minute."""
        if not self._unwritten or self.monotonic() < self._resume_at:
            return
        started = self.monotonic()
        try:
            if self.options.stamps:
                group, self._unwritten = self._unwritten, []
                self._stamp_group(group)
            else:
                self._verify_stamped()
            self._failing.pop("ledger", None)
        except UnusableError as error:
            self._fails("ledger", error)
        self._write_seconds = self.monotonic() - started

    def _stamp_group(self, group: list[Earned]) -> None:
        try:
            results = self.ledger.stamp([Stamp(earned.work.allocation, earned.at) for earned in group])
        except UnusableError:
            # One of them may be at fault: each alone, so that it does not take the others with it.
            self._stamp_each(group)
            return
        for earned, result in zip(group, results, strict=True):
            self._stamped(earned, result)

    def _stamp_each(self, group: list[Earned]) -> None:
        for index, earned in enumerate(group):
            try:
                [result] = self.ledger.stamp([Stamp(earned.work.allocation, earned.at)])
                self._stamped(earned, result)
            except StampRefusedError as error:
                self._fail_unwritten(earned, str(error))
            except UnusableError:
                self._unwritten = group[index:]
                raise

    def _stamped(self, earned: Earned, result: StampResult) -> None:
        if result is StampResult.UNCHANGED and not self._is_released_meanwhile(earned):
            return
        self._finish(earned.work, earned.outcome, evidence=earned.evidence, answer=earned.answer)

    def _is_released_meanwhile(self, earned: Earned) -> bool:
        """Whether somebody else has stamped the row; else a finding is made."""
        row = self.ledger.read(earned.work.allocation.sid)
        if isinstance(row, Allocation) and row.released:
            return True
        if earned.answer is None:
            # A miss: nothing of ours was released, the row just moved on.
            self._skip(earned.work, SkipReason.CHANGED)
        else:
            self._conflict(earned.work, f"released ({earned.evidence}), but the row has changed since it was read")
        return False

    def _verify_stamped(self) -> None:
        """Where the provisioner's own application stamps: believe the row, not the answer."""
        group, self._unwritten = self._unwritten, []
        for index, earned in enumerate(group):
            try:
                row = self.ledger.read(earned.work.allocation.sid)
            except UnusableError:
                self._unwritten = group[index:]
                raise
            if isinstance(row, Allocation) and row.released:
                self._finish(earned.work, earned.outcome, evidence=earned.evidence, answer=earned.answer)
            else:
                self._pending(earned.work, f"{earned.evidence}; the row is not Released yet", earned.answer)

    def _fails(self, what: str, error: UnusableError) -> None:
        """Ledger or journal cannot be used: begin nothing new, try again every second, and after a minute give up."""
        now = self.monotonic()
        if what not in self._failing:
            logger.error("nothing new is begun while the %s cannot be used: %s", what, error)
        since = self._failing.setdefault(what, now)
        self._resume_at = now + RESCUE_PAUSE_SECONDS
        if now - since >= limits.STAMP_RESCUE.total_seconds():
            self.lost = str(error)

    # --- misses -----------------------------------------------------------------------------------------------------

    def _judge_misses(self) -> None:
        """Now that the provisioners' work is over: believe their "not found", or none of it."""
        # The operator vouched for a number of them, not for a number of each provisioner's.
        is_vouched_for = sum(map(len, self._misses.values())) <= self.confirmed_misses
        for name, misses in self._misses.items():
            reason = self._reason_to_disbelieve(name, is_vouched_for=is_vouched_for)
            for start in range(0, len(misses), GROUP):
                group = misses[start : start + GROUP]
                if reason is not None:
                    self._disbelieve(group, reason)
                    continue
                self._unwritten += group
                self._stamp()
        self._misses.clear()
        if self._unwritten and self.lost is None:
            self.lost = "the ledger could not be written"

    def _reason_to_disbelieve(self, name: str, *, is_vouched_for: bool) -> str | None:
        if not self._write_records():
            return "the journal cannot be written"
        if is_vouched_for:
            return None
        try:
            answers = self.journal.recent_answers(name, WINDOW)
            has_released = Answer.RELEASED in answers or self.journal.has_released(name)
        except UnusableError as error:
            return str(error)
        return disbelief(answers, has_released=has_released, max_gone_percent=self.options.max_gone_percent)

    def _disbelieve(self, misses: Sequence[Earned], reason: str) -> None:
        for earned in misses:
            self.unproven += 1
            self._fail_with(
                earned.work,
                ErrorCode.UNPROVEN,
                f"the provisioner says 'not found' ({earned.evidence}), and is not believed: {reason}",
                keeps_intent=False,
            )

    # --- findings and events ----------------------------------------------------------------------------------------

    def _finish(self, work: Work, outcome: Outcome, *, evidence: str, answer: Answer | None = None) -> None:
        self._records.append(
            self._event(
                work,
                Step.OUTCOME,
                outcome=outcome,
                evidence=evidence,
                answer=answer,
                attempts=Attempts(),
                keeps_intent=False,
            )
        )
        self.found(self._finding(work, outcome, evidence=evidence))

    def _pending(self, work: Work, evidence: str, answer: Answer | None = Answer.PENDING) -> None:
        attempts = after_pending(work.planned.known.attempts)
        work.end_unknown = True
        if attempts.pending_ticks >= self.options.quarantine_after:
            message = f"accepted ({evidence}) in {attempts.pending_ticks} ticks and still not gone"
            self._fail(work, ProvisionerError(message), before=attempts)
            return
        self._records.append(
            self._event(
                work,
                Step.OUTCOME,
                outcome=Outcome.PENDING,
                evidence=evidence,
                answer=answer,
                attempts=attempts,
            )
        )
        self.found(self._finding(work, Outcome.PENDING, evidence=evidence))

    def _skip(self, work: Work, reason: SkipReason) -> None:
        # Written down only where it says something new, or a call was made.
        if work.calls or work.planned.known.skipped != reason:
            self._records.append(self._event(work, Step.SKIP, outcome=Outcome.SKIPPED, reason=reason))
        self.found(self._finding(work, Outcome.SKIPPED, reason=reason))

    def _fail(
        self,
        work: Work,
        error: ProvisionerError,
        *,
        before: Attempts | None = None,
        keeps_intent: bool | None = None,
    ) -> None:
        attempts = after_failure(
            before or work.planned.known.attempts,
            self.now,
            str(error),
            quarantine_after=self.options.quarantine_after,
            jitter=self.jitter(),
        )
        keeps = work.end_unknown if keeps_intent is None else keeps_intent
        retryable = error.retryable or error.timed_out
        self._fail_with(work, ErrorCode.FAILED, str(error), attempts=attempts, keeps_intent=keeps, retryable=retryable)

    def _fail_unwritten(self, earned: Earned, why: str) -> None:
        if earned.answer is None:
            self._fail_with(earned.work, ErrorCode.FAILED, _unstamped(earned, why), keeps_intent=False)
            return
        self._fail(earned.work, ProvisionerError(_unstamped(earned, why), retryable=True), keeps_intent=True)

    def _leave_unwritten(self, earned: Earned, why: str) -> None:
        """Carry it over. It is the ledger that failed, and not this row: uncharged, so that the next tick stamps it."""
        self._fail_with(
            earned.work,
            ErrorCode.FAILED,
            _unstamped(earned, why),
            keeps_intent=earned.answer is not None,
            retryable=True,
        )

    def _conflict(self, work: Work, message: str) -> None:
        self._fail_with(
            work, ErrorCode.CONFLICT, f"{message}: the VM may be gone while its owner pays", keeps_intent=True
        )

    def _fail_with(
        self,
        work: Work,
        code: ErrorCode,
        message: str,
        *,
        keeps_intent: bool,
        attempts: Attempts | None = None,
        retryable: bool = False,
    ) -> None:
        error = ReleaseError(
            sid=work.allocation.sid,
            provisioner=work.allocation.provisioner,
            code=code,
            message=message,
            retryable=retryable,
            attempts=work.calls,
            next_attempt_at=attempts.next_attempt_at if attempts else None,
        )
        self._records.append(
            self._event(
                work,
                Step.OUTCOME,
                outcome=Outcome.FAILED,
                reason=code,
                error=message,
                attempts=attempts,
                keeps_intent=keeps_intent,
            )
        )
        self.found(self._finding(work, Outcome.FAILED, error=error, attempts=attempts))

    def _finding(
        self,
        work: Work,
        outcome: Outcome,
        *,
        reason: SkipReason | None = None,
        evidence: str = "",
        error: ReleaseError | None = None,
        attempts: Attempts | None = None,
    ) -> Finding:
        return Finding(
            allocation=work.allocation,
            outcome=outcome,
            reason=reason,
            evidence=evidence,
            error=error,
            quarantined=attempts.quarantined if attempts else False,
            duration_ms=_milliseconds(work),
        )

    def _event(
        self,
        work: Work,
        step: Step,
        *,
        outcome: Outcome | None = None,
        reason: str | None = None,
        evidence: str | None = None,
        answer: Answer | None = None,
        error: str | None = None,
        attempts: Attempts | None = None,
        keeps_intent: bool | None = None,
    ) -> Event:
        return Event(
            step=step,
            at=self.clock(),
            sid=work.allocation.sid,
            expires_at=work.allocation.expires_at,
            provisioner=work.allocation.provisioner,
            vm_ref=work.allocation.vm_ref,
            outcome=outcome,
            reason=reason,
            evidence=evidence,
            answer=answer,
            error=error,
            duration_ms=_milliseconds(work),
            attempts=attempts,
            keeps_intent=work.end_unknown if keeps_intent is None else keeps_intent,
        )

    def _write_records(self) -> bool:
        """Write what is to be remembered; False: it could not be written."""
        if not self._records:
            return True
        return self._wrote(lambda: self.journal.record(self.tick, self._records))

    def _write_intents(self, begun: Sequence[Work]) -> frozenset[str] | None:
        """Write that these are about to be released, but for those that are held, whose sids it returns.

        The holds are read in the transaction that writes the intents: a hold is either seen here, or whoever makes it
        sees the intent. None: it could not be written.
        """
        if not begun:
            return frozenset()
        intents = [self._event(work, Step.INTENT) for work in begun]
        held: list[frozenset[str]] = []
        is_written = self._wrote(
            lambda: held.append(self.journal.begin(self.tick, self._records, intents, is_held=self.is_held))
        )
        return held[0] if is_written else None

    def _wrote(self, write: Callable[[], object]) -> bool:
        try:
            write()
        except UnusableError as error:
            self._fails("journal", error)
            return False
        self._failing.pop("journal", None)
        self._records.clear()
        return True


class _Coming:
    """The plan's next item can be looked at before it is taken."""

    def __init__(self, plan: Iterable[Planned]) -> None:
        self._plan = iter(plan)
        self._next = next(self._plan, None)

    def peek(self) -> Planned | None:
        """The next one; None: there is no more."""
        return self._next

    def take(self) -> Planned | None:
        """The next one, and go on."""
        taken, self._next = self._next, next(self._plan, None) if self._next else None
        return taken


def _unstamped(earned: Earned, why: str) -> str:
    if earned.answer is None:
        return f"'not found', and not stamped: {why}"
    return f"released at the provisioner ({earned.evidence}), but the ledger could not be stamped: {why}"


def _milliseconds(work: Work) -> int | None:
    return round((work.over - work.begun) * 1000) if work.over > work.begun else None
