"""One sweep: decide, ask the guard, carry out, report. What an operator orders goes the last part of the same way."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta

from msgspec.structs import replace

from autorelease.deciding import audit
from autorelease.deciding.decide import Decision, decide, moment_of
from autorelease.deciding.judging import Judge, Versions
from autorelease.errors import AutoreleaseError, StopReadingError, UnusableError
from autorelease.journal import Journal, PastTick, TickStart
from autorelease.model import Finding, Planned, PlanSummary, Refusal, SkipReason
from autorelease.rules import guard
from autorelease.rules.identities import Identities, packed
from autorelease.sweep.acting import Means
from autorelease.sweep.carrying import NOBODY, Carried, carry_out
from autorelease.sweep.closing import close_run, close_with, running_releases
from autorelease.sweep.crew import without_section
from autorelease.sweep.edge.stop import DEADLINE, error_of
from autorelease.sweep.limited import Limited
from autorelease.sweep.noting import Notes
from autorelease.sweep.preview import count_decided, skipped
from autorelease.sweep.report import Tally, TickReport, make_report
from autorelease.sweep.unreached import Unreached
from autorelease.sweep.worklist import Plan

logger = logging.getLogger(__name__)

# So many provisioners without a section are named.
NAMED = 100


def run_tick(
    judge: Judge[Journal],
    means: Means,
    start: TickStart,
    *,
    limits: guard.Limits,
    keep: timedelta,
    confirm: int | None = None,
    at_most: int | None = None,
    planned: Callable[[PlanSummary], None] = lambda _: None,
) -> TickReport:
    """Sweep once. The caller holds the lock.

    `judge.now` alone decides. planned is called with the plan before it is begun. confirm: the operator's answer to the
    last refusal. at_most: release only so many, the first of the plan. Raises UnusableError, with the tick closed in
    the journal, where nothing can be begun.
    """
    journal = judge.journal
    last = journal.newest_tick()
    running = running_releases(journal, means.is_running)
    journal.open_tick(start, running)
    sweep = _Sweep(judge, means, start, limits, confirm, last, planned, at_most)
    try:
        report = sweep.run(running)
    except AutoreleaseError as error:
        close_with(journal, start, means.clock, error)
        raise
    return close_run(
        journal,
        start,
        report,
        confirmable=sweep.confirmable(report),
        unproven=packed(sweep.carried.unproven) or None,
        # A clock that was not believed must not decide what is old.
        prune_before=None if report.refused else means.clock() - keep,
    )


class _Sweep:
    """The way of one tick from the decision to the report. carried: what went wrong beside the findings."""

    def __init__(
        self,
        judge: Judge[Journal],
        means: Means,
        start: TickStart,
        limits: guard.Limits,
        confirm: int | None,
        last: PastTick | None,
        planned: Callable[[PlanSummary], None],
        at_most: int | None,
    ) -> None:
        self.carried = Carried()
        self._judge = judge
        self._means = means
        self._notes = Notes(judge.journal, start.tick, means.clock)
        self._start = start
        self._limits = limits
        self._confirm = confirm
        self._answered = last_refusal(last)
        self._planned = planned
        self._at_most = at_most
        self._first_tries = 0
        self._beyond_limit = 0
        self._lost: str | None = None

    def run(self, running: Sequence[str]) -> TickReport:
        versions = self._judge.versions()
        try:
            decision = decide(
                self._judge,
                moment_of(self._start),
                self._limits,
                running=running,
                is_stopped=self._means.stop.wished,
            )
        except StopReadingError:
            raise error_of(self._means.stop) from None
        try:
            return self._report(decision, versions)
        finally:
            decision.spool.close()

    def confirmable(self, report: TickReport) -> int | None:
        """The number that `--confirm` would answer this tick with."""
        if report.refused:
            return self._first_tries if guard.is_confirmable(report.refused) else None
        return report.unproven or None

    def _report(self, decision: Decision, versions: Versions) -> TickReport:
        tally = Tally(decision.now, self._judge.grace)
        self._first_tries = decision.summary.first_tries
        self._planned(decision.summary)
        refusals = self._refusals(decision)
        means = replace(self._means, watch=self._counting(tally))
        # What another ledger says of a sid is no news of a release that was begun in this one.
        if not any(refusal.code == guard.OTHER_LEDGER for refusal in refusals):
            self._notes.note_unfinished(decision.unfinished)
        count_decided(decision, means.watch)
        unserved = _log_unserved(decision)
        self._notes.note_skips((planned, planned.skip) for planned in decision.spool.skipped())
        self._judge.journal.note_plan(self._start.tick, decision.spool.identities(), is_admitted=not refusals)
        if refusals:
            self._refuse(decision.spool.to_release(), means)
        else:
            self._refuse(decision.spool.not_covered(), means)
            self._carry_out(decision.spool, versions, means)
            decision = self._audited(decision)
        return make_report(
            tally,
            tick=self._start.tick,
            started_at=self._start.started_at,
            finished_at=means.clock(),
            dry_run=False,
            rows_examined=decision.census.rows_examined,
            rows_expired=decision.rows_expired,
            rows_invalid=decision.rows_invalid,
            invalid=decision.invalid,
            rows_acknowledged=decision.seen.rows_acknowledged,
            audited_at=decision.memory.at,
            refused=refusals,
            down={**unserved, **self.carried.down},
            unproven=len(self.carried.unproven),
            stopped_by=self._stopped_by(tally),
            lost=self._lost or decision.memory.problem,
        )

    def _audited(self, decision: Decision) -> Decision:
        """The same decision, with what there is to say once the whole ledger was looked at, if it is time for that."""
        self._lost = self.carried.lost
        if self._lost is not None:
            return decision
        means = self._means
        try:
            memory = audit.after_sweep(
                self._judge,
                decision.memory,
                self._start.ledger,
                decision.census,
                audit.Limits(means.options.audit_every, audit.LONGEST, means.stop.wished),
                audit.Clocks(means.clock, means.monotonic),
            )
        except UnusableError as error:
            # What was released is reported all the same.
            self._lost = str(error)
            return decision
        return replace(decision, memory=memory)

    def _counting(self, tally: Tally) -> Callable[[Finding], None]:
        def watch(finding: Finding) -> None:
            tally.add(finding)
            self._means.watch(finding)

        return watch

    # --- the guard --------------------------------------------------------------------------------------------------

    def _refusals(self, decision: Decision) -> Sequence[Refusal]:
        """The guard's reasons to refuse, once the operator's answer has been heard."""
        if self._confirm is None:
            return decision.refusals
        unconfirmed = guard.reason_not_to_confirm(self._confirm, self._answered, decision.now)
        if unconfirmed is not None or self._answered is None:
            return [*decision.refusals, *([unconfirmed] if unconfirmed else [])]
        if not self._answered.codes:
            # It vouches for misses alone.
            return decision.refusals
        decision.spool.cover(self._answered.rows or NOBODY)
        covered = decision.spool.summary(decision.census.rows_examined)
        refusals = guard.judge_confirmed(
            covered, decision.summary.first_tries, self._limits, decision.facts, self._answered
        )
        if not refusals:
            return ()
        decision.spool.cover_all()
        # All that stands, answered already or not: the next answer is to this refusal, and to no other.
        standing = {refusal.code for refusal in decision.refusals}
        return [*decision.refusals, *(refusal for refusal in refusals if refusal.code not in standing)]

    def _vouched(self) -> Identities:
        is_for_misses = self._confirm is not None and self._answered is not None and not self._answered.codes
        return (self._answered.rows if is_for_misses and self._answered is not None else None) or NOBODY

    def _refuse(self, rows: Iterable[Planned], means: Means) -> None:
        self._skip_all(rows, SkipReason.REFUSED, means)

    def _skip_all(self, rows: Iterable[Planned], reason: SkipReason, means: Means) -> None:
        def skips() -> Iterable[tuple[Planned, SkipReason]]:
            for planned in rows:
                means.watch(skipped(planned, reason))
                yield planned, reason

        self._notes.note_skips(skips())

    def _carry_out(self, plan: Plan, versions: Versions, means: Means) -> None:
        """Release what is planned, or the first few of it."""
        limited = Limited(plan, self._at_most) if self._at_most is not None else None
        tick, going = self._start.tick, limited or plan
        self.carried = carry_out(self._judge, means, tick, going, versions=versions, vouched=self._vouched())
        if limited is not None:
            self._leave_rest(limited, means)

    def _leave_rest(self, limited: Limited, means: Means) -> None:
        """What is beyond the limit is left for the next tick; it was admitted with this one.

        Once the first few are done: to write down why many wait takes its time, which those need not wait for.
        """
        unreached = Unreached()

        def rest() -> Iterable[Planned]:
            for planned in limited.rest():
                unreached.add(planned)
                yield planned

        self._skip_all(rest(), SkipReason.DEFERRED, means)
        self._beyond_limit = unreached.count
        unreached.log(f"limited to {self._at_most}")

    def _stopped_by(self, tally: Tally) -> str | None:
        # A deadline that passed when all was done has stopped nothing.
        stop = self._means.stop
        is_harmless = stop.by == DEADLINE and tally.skipped[SkipReason.DEFERRED] == self._beyond_limit
        return None if is_harmless else stop.by


def _log_unserved(decision: Decision) -> Mapping[str, str]:
    """One line for each provisioner that rows name and that there is none of; returns what is wrong, by its name."""
    problems = {}
    for name, count in decision.spool.unserved(NAMED).items():
        problems[name] = without_section(name)
        logger.error(
            "%s, and %d expired rows name it: add the section, or put the rows right. They stay as they are",
            problems[name],
            count,
        )
    return problems


def last_refusal(last: PastTick | None) -> guard.LastRefusal | None:
    """What `--confirm` can answer of the run before, a tick or an operator's release; None: there is nothing."""
    if last is None or last.confirmable is None or last.finished_at is None or last.report is None:
        return None
    codes = frozenset(refusal["code"] for refusal in last.report.get("refused", ()))
    written = last.admission if codes else last.unproven
    rows = None if written is None else Identities(written)
    return guard.LastRefusal(last.finished_at, last.confirmable, codes, rows)
