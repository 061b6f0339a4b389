"""One sweep: decide, ask the guard, hand over to the executor, report. Listing, dry run and tick go the same way."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from autorelease.deciding.decide import Decision, decide, moment_of
from autorelease.errors import AutoreleaseError, UnusableError
from autorelease.journal import Event, Journal, OpenIntent, PastTick, Step, TickStart
from autorelease.ledger import Ledger
from autorelease.model import (
    Allocation,
    Finding,
    Hold,
    Outcome,
    Planned,
    PlanSummary,
    Refusal,
    ReleaseError,
    SkipReason,
    TickReport,
)
from autorelease.provisioners import Registered
from autorelease.rules import guard
from autorelease.rules.expiry import find_expired
from autorelease.rules.plan import is_held
from autorelease.sweep.edge.stop import DEADLINE, Stop
from autorelease.sweep.executor import Executor, Options
from autorelease.sweep.report import Tally, error_object, make_report, tick_object

logger = logging.getLogger(__name__)

EVENTS_AT_ONCE = 500


def preview(decision: Decision, *, tick: str, clock: Callable[[], datetime], grace: timedelta) -> TickReport:
    """The report of a dry run: what a tick at this `now` would begin with."""
    tally = Tally(decision.now, grace)
    started_at = clock()
    _count_decided(decision, tally.add)
    reason = SkipReason.REFUSED if decision.refusals else SkipReason.DRY_RUN
    for planned in decision.spool.to_release():
        tally.add(_skipped(planned, reason))
    return make_report(
        tally,
        tick=tick,
        started_at=started_at,
        finished_at=clock(),
        dry_run=True,
        rows_examined=decision.census.rows_examined,
        rows_expired=decision.rows_expired,
        rows_invalid=decision.rows_invalid,
        invalid=decision.invalid,
        rows_acknowledged=decision.census.rows_acknowledged,
        refused=decision.refusals,
    )


def run_tick(
    *,
    ledger: Ledger,
    journal: Journal,
    provisioners: Mapping[str, Registered],
    start: TickStart,
    options: Options,
    limits: guard.Limits,
    stop: Stop,
    clock: Callable[[], datetime],
    jitter: Callable[[], float],
    keep: timedelta,
    confirm: int | None = None,
    watch: Callable[[Finding], None] = lambda _: None,
    planned: Callable[[PlanSummary], None] = lambda _: None,
) -> TickReport:
    """Sweep once. The caller holds the lock.

    clock dates records, jitter gives 0 to 1; `start.now` alone decides. watch is called with every finding as it is
    made, planned with the plan before it is begun. confirm: the operator's answer to the last refusal.

    Raises UnusableError, with the tick closed in the journal, where nothing can be begun.
    """
    sweep = _Sweep(
        ledger=ledger,
        journal=journal,
        provisioners=provisioners,
        start=start,
        options=options,
        limits=limits,
        stop=stop,
        clock=clock,
        jitter=jitter,
        watch=watch,
        planned=planned,
        confirm=confirm,
    )
    last = journal.newest_tick()
    journal.open_tick(start)
    try:
        report = sweep.run(last)
    except AutoreleaseError as error:
        close_with(journal, start, clock, error)
        raise
    try:
        journal.close_tick(start.tick, report.finished_at, tick_object(report), confirmable=sweep.confirmable(report))
        # A clock that was not believed must not decide what is old.
        if not report.refused:
            journal.prune(clock() - keep)
    except UnusableError as error:
        # What was done is done and must be reported; that it could not be written down is the worst of it.
        return replace(report, lost=str(error))
    return report


def note_failed_start(
    journal: Journal, start: TickStart, clock: Callable[[], datetime], error: AutoreleaseError
) -> None:
    """Leave a tick in the journal that found no usable ledger: also this one must be seen by who watches."""
    journal.open_tick(start)
    close_with(journal, start, clock, error)


def close_with(journal: Journal, start: TickStart, clock: Callable[[], datetime], error: AutoreleaseError) -> None:
    """End a tick in the journal with the error that ended it."""
    try:
        journal.close_tick(start.tick, clock(), error_object(error))
    except AutoreleaseError as second:
        # The first error is what the operator must see; the next tick marks this one as crashed.
        logger.error("this tick could not be closed in the journal: %s", second)


@dataclass(slots=True)
class _Sweep:
    """The collaborators of one tick, and its way from the decision to the report."""

    ledger: Ledger
    journal: Journal
    provisioners: Mapping[str, Registered]
    start: TickStart
    options: Options
    limits: guard.Limits
    stop: Stop
    clock: Callable[[], datetime]
    jitter: Callable[[], float]
    watch: Callable[[Finding], None]
    planned: Callable[[PlanSummary], None]
    confirm: int | None
    decided: PlanSummary | None = None

    def run(self, last: PastTick | None) -> TickReport:
        decision = decide(
            ledger=self.ledger,
            journal=self.journal,
            moment=moment_of(self.start),
            grace=self.options.grace,
            hold_grace=self.options.hold_grace,
            limits=self.limits,
        )
        try:
            return self._carry_out(decision, last)
        finally:
            decision.spool.close()

    def confirmable(self, report: TickReport) -> int | None:
        """The number that `--confirm` would answer this tick with."""
        if report.refused and self.decided is not None:
            return self.decided.first_tries
        return report.unproven or None

    def _carry_out(self, decision: Decision, last: PastTick | None) -> TickReport:
        tally = Tally(decision.now, self.options.grace)
        self.decided = decision.summary
        self.planned(decision.summary)
        refusals = self._answered(decision, last)
        # What another ledger says of a sid is no news of a release that was begun in this one.
        if not any(refusal.code == guard.OTHER_LEDGER for refusal in refusals):
            self._note_unfinished(decision)
        self._note_decided(decision, tally)
        executor = self._executor(tally, last)
        if refusals:
            self._leave(decision, tally)
        else:
            self.journal.admit_tick(self.start.tick)
            self._execute(decision, executor)
        return make_report(
            tally,
            tick=self.start.tick,
            started_at=self.start.started_at,
            finished_at=self.clock(),
            dry_run=False,
            rows_examined=decision.census.rows_examined,
            rows_expired=decision.rows_expired,
            rows_invalid=decision.rows_invalid,
            invalid=decision.invalid,
            rows_acknowledged=decision.census.rows_acknowledged,
            refused=refusals,
            down=executor.down,
            unproven=executor.unproven,
            stopped_by=self._stopped_by(tally),
            lost=executor.lost,
        )

    def _answered(self, decision: Decision, last: PastTick | None) -> Sequence[Refusal]:
        refusals = decision.refusals
        if self.confirm is not None:
            refusal = _last_refusal(last)
            refusals = guard.judge_confirmed(decision.summary, refusals, self.confirm, refusal, decision.now)
        return refusals

    def _note_unfinished(self, decision: Decision) -> None:
        events = [self._event_of(intent, Outcome.RELEASED) for intent in decision.unfinished.released]
        events += [
            self._event_of(intent, Outcome.FAILED, finding.error)
            for intent, finding in decision.unfinished.conflicts
            if not intent.is_known_conflict
        ]
        for first in range(0, len(events), EVENTS_AT_ONCE):
            self.journal.record(self.start.tick, events[first : first + EVENTS_AT_ONCE])

    def _event_of(self, intent: OpenIntent, outcome: Outcome, error: ReleaseError | None = None) -> Event:
        return Event(
            step=Step.OUTCOME,
            at=self.clock(),
            sid=intent.sid,
            expires_at=intent.expires_at,
            provisioner=intent.provisioner,
            vm_ref=intent.vm_ref,
            outcome=outcome,
            reason=error.code if error else None,
            evidence=None if error else "the row is Released",
            error=error.message if error else None,
            keeps_intent=error is not None,
        )

    def _note_decided(self, decision: Decision, tally: Tally) -> None:
        def add(finding: Finding) -> None:
            tally.add(finding)
            self.watch(finding)

        _count_decided(decision, add)
        self._note_skips((planned, planned.skip) for planned in decision.spool.skipped())

    def _note_skips(self, skips: Iterable[tuple[Planned, SkipReason | None]]) -> None:
        """Write down those whose reason is another than the last one written."""
        events = []
        for planned, reason in skips:
            if planned.known.skipped != reason:
                events.append(self._skip_event(planned, reason))
            if len(events) >= EVENTS_AT_ONCE:
                self.journal.record(self.start.tick, events)
                events.clear()
        if events:
            self.journal.record(self.start.tick, events)

    def _skip_event(self, planned: Planned, reason: SkipReason | None) -> Event:
        allocation = planned.allocation
        return Event(
            step=Step.SKIP,
            at=self.clock(),
            sid=allocation.sid,
            expires_at=allocation.expires_at,
            provisioner=allocation.provisioner,
            vm_ref=allocation.vm_ref,
            outcome=Outcome.SKIPPED,
            reason=reason,
            keeps_intent=planned.known.intent,
        )

    def _stopped_by(self, tally: Tally) -> str | None:
        # A deadline that passed when all was done has stopped nothing.
        is_harmless = self.stop.by == DEADLINE and not tally.skipped[SkipReason.DEFERRED]
        return None if is_harmless else self.stop.by

    def _executor(self, tally: Tally, last: PastTick | None) -> Executor:
        def found(finding: Finding) -> None:
            tally.add(finding)
            self.watch(finding)

        def is_due(row: Allocation) -> bool:
            return any(find_expired([row], self.start.now, grace=self.options.grace))

        def held(hold: Hold) -> bool:
            return is_held(hold, self.start.now, self.options.hold_grace)

        return Executor(
            ledger=self.ledger,
            journal=self.journal,
            provisioners=self.provisioners,
            tick=self.start.tick,
            now=self.start.now,
            options=self.options,
            confirmed_misses=self._confirmed_misses(last),
            stop=self.stop,
            is_due=is_due,
            is_held=held,
            found=found,
            clock=self.clock,
            jitter=self.jitter,
        )

    def _confirmed_misses(self, last: PastTick | None) -> int:
        refusal = _last_refusal(last)
        return self.confirm if self.confirm is not None and refusal is not None and not refusal.codes else 0

    def _leave(self, decision: Decision, tally: Tally) -> None:
        for planned in decision.spool.to_release():
            finding = _skipped(planned, SkipReason.REFUSED)
            tally.add(finding)
            self.watch(finding)
        self._note_skips((planned, SkipReason.REFUSED) for planned in decision.spool.to_release())

    def _execute(self, decision: Decision, executor: Executor) -> None:
        first = next(decision.spool.to_release(), None)
        if first is None:
            return
        executor.rehearse(first, decision.spool.provisioners())
        executor.execute(decision.spool.to_release())


def _count_decided(decision: Decision, add: Callable[[Finding], None]) -> None:
    for _, finding in decision.unfinished.conflicts:
        add(finding)
    for planned in decision.spool.skipped():
        if planned.skip is not None:
            add(_skipped(planned, planned.skip))


def _skipped(planned: Planned, reason: SkipReason) -> Finding:
    attempts = planned.known.attempts
    quarantined = attempts is not None and attempts.quarantined
    return Finding(planned.allocation, Outcome.SKIPPED, reason=reason, quarantined=quarantined)


def _last_refusal(last: PastTick | None) -> guard.LastRefusal | None:
    if last is None or last.confirmable is None or last.finished_at is None or last.report is None:
        return None
    codes = frozenset(refusal["code"] for refusal in last.report.get("refused", ()))
    return guard.LastRefusal(last.finished_at, last.confirmable, codes)
