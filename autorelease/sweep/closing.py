"""How a run begins and ends in the journal: who else is under way, its report, or the error that ended it."""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime

from msgspec.structs import replace

from autorelease.errors import AutoreleaseError, UnusableError
from autorelease.journal import Journal, TickKind, TickStart
from autorelease.sweep.report import TickReport, error_object, tick_object

logger = logging.getLogger(__name__)


def close_run(
    journal: Journal,
    start: TickStart,
    report: TickReport,
    *,
    confirmable: int | None = None,
    unproven: bytes | None = None,
    prune_before: datetime | None = None,
) -> TickReport:
    """Write the report down, and forget what is old."""
    try:
        journal.close_tick(
            start.tick, report.finished_at, tick_object(report), confirmable=confirmable, unproven=unproven
        )
        if prune_before is not None:
            journal.prune(prune_before)
    except UnusableError as error:
        # What was done is done and must be reported; that it could not be written down is the worst of it.
        return replace(report, lost=str(error))
    return report


def note_failed_start(
    journal: Journal,
    start: TickStart,
    clock: Callable[[], datetime],
    error: AutoreleaseError,
    is_running: Callable[[TickStart], bool] = lambda _: False,
) -> None:
    """Leave a tick in the journal that found no usable ledger: also this one must be seen by who watches."""
    journal.open_tick(start, running_releases(journal, is_running))
    close_with(journal, start, clock, error)


def running_releases(journal: Journal, is_running: Callable[[TickStart], bool]) -> Sequence[str]:
    """The operators' releases that are under way: they need no lock. Of the ticks this one alone runs."""
    return [run.tick for run in journal.unfinished_runs() if run.kind is TickKind.RELEASE and is_running(run)]


def close_with(journal: Journal, start: TickStart, clock: Callable[[], datetime], error: AutoreleaseError) -> None:
    """End a run in the journal with the error that ended it."""
    try:
        journal.close_tick(start.tick, clock(), error_object(error))
    except AutoreleaseError as second:
        # The first error is what the operator must see; the next tick marks this one as crashed.
        logger.error("this tick could not be closed in the journal: %s", second)
