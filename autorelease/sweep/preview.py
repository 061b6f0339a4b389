"""The report of a dry run; and what is counted before anything is done, in a dry run and in a real one."""

from collections.abc import Callable
from datetime import datetime, timedelta

from autorelease.deciding.decide import Decision
from autorelease.model import Finding, Outcome, Planned, SkipReason
from autorelease.sweep.report import Tally, TickReport, make_report


def preview(
    decision: Decision, *, tick: str, clock: Callable[[], datetime], grace: timedelta, at_most: int | None = None
) -> TickReport:
    """The report of a dry run: what a tick at this `now` would begin with. at_most: as of that tick."""
    tally = Tally(decision.now, grace)
    started_at = clock()
    count_decided(decision, tally.add)
    # Counted and not read: a dry run says of the rows that it would begin with no more than how many they are.
    rows, quarantined, oldest = decision.spool.waiting()
    reached = rows if at_most is None else min(rows, at_most)
    refused = SkipReason.REFUSED if decision.refusals else None
    tally.add_waiting(refused or SkipReason.DRY_RUN, reached)
    tally.add_waiting(refused or SkipReason.DEFERRED, rows - reached)
    tally.quarantined += quarantined
    tally.see_expiry(oldest)
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
        rows_acknowledged=decision.seen.rows_acknowledged,
        audited_at=decision.memory.at,
        refused=decision.refusals,
    )


def count_decided(decision: Decision, add: Callable[[Finding], None]) -> None:
    """Hand on what came to its end by the decision: conflicts, and what is left alone."""
    for _, finding in decision.unfinished.conflicts:
        add(finding)
    for planned in decision.spool.skipped():
        if planned.skip is not None:
            add(skipped(planned, planned.skip))


def skipped(planned: Planned, reason: SkipReason) -> Finding:
    """An allocation that is left alone."""
    attempts = planned.known.attempts
    # What is held waits because somebody wants it so, however often it has failed.
    quarantined = attempts is not None and attempts.quarantined and reason is not SkipReason.HELD
    return Finding(planned.allocation, Outcome.SKIPPED, reason=reason, quarantined=quarantined)
