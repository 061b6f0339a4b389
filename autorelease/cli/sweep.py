"""`tick`: one sweep over the ledger, or its dry run."""

import logging
import os
import sys
import time
from contextlib import ExitStack, redirect_stdout
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from autorelease import __version__, stderr
from autorelease.cli.decided import check_provisioners, decided, judge_of, limits
from autorelease.cli.shared import TIMES, Shared, actor, clock, jitter, moment, new_tick_id, parse_time, shared
from autorelease.errors import OutputError, ReaderGoneError, UnusableError, UsageError
from autorelease.model import rfc3339
from autorelease.text import reason

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from autorelease.journal import Journal, TickStart
    from autorelease.ledger import Ledger
    from autorelease.model import Finding, PlanSummary
    from autorelease.provisioners import Registered
    from autorelease.settings import Settings
    from autorelease.sweep.acting import Means
    from autorelease.sweep.edge.lock import Lock
    from autorelease.sweep.edge.stop import Stop
    from autorelease.sweep.report import TickReport

logger = logging.getLogger(__name__)

ONCE = (
    "tick does one sweep and then ends, and --once must be given. To sweep now: autorelease tick --once. To sweep "
    "every hour, let the timer autorelease.timer start it: systemctl enable --now autorelease.timer"
)


def tick(
    context: typer.Context,
    *,
    once: Annotated[
        bool, typer.Option("--once", help="Do one sweep. Required: it is the timer that starts it again.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what a tick would do; change nothing.")] = False,
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help=f"With --dry-run, what if it were then: {TIMES}.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
    confirm: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="Answer the last refusal, which named the number N."),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Release the first N of the plan; leave the rest (exit code 3)."),
    ] = None,
) -> None:
    """Release what has expired, once.

    Example: autorelease tick --once --dry-run
    """
    if not once:
        raise UsageError(ONCE)
    if at is not None and not dry_run:
        raise UsageError("--at asks 'what if it were then', and goes only with --dry-run")
    if confirm is not None and dry_run:
        raise UsageError("--confirm releases, --dry-run does not: give one of them")
    # Read once: this instant alone decides, however long the tick takes.
    now = clock()
    options = shared(context)
    settings = options.settings()
    report = _dry_run(settings, now, at, limit) if dry_run else _sweep(settings, now, confirm, limit)
    show_report(report, options, as_json=as_json)


def show_report(report: "TickReport", options: Shared, *, as_json: bool) -> None:
    """Show a report, and end with its exit code."""
    from autorelease.render import LOST, let_go_of, show_object, show_tick
    from autorelease.sweep.report import exit_code, tick_object

    if report.lost is not None:
        logger.error("%s: %s", LOST, report.lost)
    # The lock is free: whoever reads the log may take a while, and has it before the report.
    lost = stderr.not_taken_at_end()
    try:
        if as_json:
            show_object(tick_object(report))
        elif options.shows(exit_code(report)):
            show_tick(report, log_lines_lost=lost)
        sys.stdout.flush()
    except (OutputError, ReaderGoneError, OSError) as error:
        # The exit code says what became of the sweep, not of its reader.
        logger.warning(
            "the report could not be shown (%s). Of a tick it is in the journal: autorelease history", reason(error)
        )
        let_go_of(sys.stdout)
    raise typer.Exit(exit_code(report))


def _dry_run(settings: "Settings", now: datetime, at: str | None, limit: int | None) -> "TickReport":
    from autorelease.sweep.preview import preview

    check_provisioners(settings)
    then = moment(settings, parse_time(at, now) if at else now)
    with decided(settings, then, is_hypothetical=at is not None) as (_, _, decision):
        grace = settings.release.grace
        report = preview(decision, tick=new_tick_id(clock()), clock=clock, grace=grace, at_most=limit)
        _log_refusals(report, decision.summary)
    return report


def _sweep(settings: "Settings", now: datetime, confirm: int | None, limit: int | None) -> "TickReport":
    from autorelease.journal import open_journal
    from autorelease.journal.sqlite import lock_path
    from autorelease.provisioners import open_provisioners
    from autorelease.provisioners.calls import close_all
    from autorelease.sweep.edge.alone import alone
    from autorelease.sweep.edge.stop import stopped_by_signals
    from autorelease.sweep.run import run_tick

    release = settings.release
    provisioners = open_provisioners(
        settings.provisioners, settings.config, release.timeout, stamps=settings.ledger.is_stamped
    )
    stop = stop_at_deadline(release.deadline)
    with ExitStack() as stack:
        # What a provisioner prints is no part of the report.
        stack.enter_context(redirect_stdout(sys.stderr))
        stack.callback(close_all, [registered.provisioner for registered in provisioners.values()], release.timeout)
        stack.enter_context(stopped_by_signals(stop))
        journal = open_journal(settings, may_be_older=True)
        stack.callback(journal.close)
        lock = stack.enter_context(alone(lock_path(settings.journal_path), journal, now))
        start = start_of(settings, now)
        ledger = _open_ledger(settings, journal, start)
        stack.callback(ledger.close)
        watcher = _Watcher(stack, lock)
        report = run_tick(
            judge_of(settings, ledger, journal, now),
            means_of(settings, provisioners, stop, watcher.watch),
            start,
            limits=limits(settings),
            keep=settings.journal.keep,
            confirm=confirm,
            at_most=limit,
            planned=watcher.planned,
        )
    _log_refusals(report, watcher.summary)
    return report


def _open_ledger(settings: "Settings", journal: "Journal", start: "TickStart") -> "Ledger":
    """The ledger of a tick; where it cannot be used, the journal has a tick that says so."""
    from autorelease.deciding.running import is_running
    from autorelease.ledger import open_ledger
    from autorelease.sweep.closing import note_failed_start

    try:
        return open_ledger(settings, read_only=False)
    except UnusableError as error:
        note_failed_start(journal, start, clock, error, lambda run: is_running(run, start.now))
        raise


def stop_at_deadline(deadline: timedelta) -> "Stop":
    """The wish to stop that comes by itself, so long from now."""
    from autorelease.sweep.edge.stop import Stop

    ends = time.monotonic() + deadline.total_seconds()
    return Stop(lambda: time.monotonic() >= ends)


def means_of(
    settings: "Settings",
    provisioners: "Mapping[str, Registered]",
    stop: "Stop",
    watch: "Callable[[Finding], None]",
) -> "Means":
    """What a run acts with, as configured."""
    from autorelease.deciding.running import is_running
    from autorelease.sweep.acting import Means, Options

    release = settings.release
    options = Options(
        concurrency=release.concurrency,
        timeout=release.timeout,
        attempts=release.attempts,
        quarantine_after=release.quarantine_after,
        max_gone_percent=settings.guard.max_gone_percent,
        stamps=settings.ledger.is_stamped,
        audit_every=settings.ledger.audit_every,
    )
    return Means(provisioners, options, stop, clock, jitter, watch, lambda run: is_running(run, clock()))


def start_of(settings: "Settings", now: datetime) -> "TickStart":
    """What is written down of a tick before it does anything."""
    from autorelease.journal import TickStart
    from autorelease.processes import own_process

    begun, process = moment(settings, now), own_process()
    return TickStart(
        tick=new_tick_id(now),
        now=now,
        started_at=now,
        ends_by=now + settings.release.deadline,
        pid=process.pid,
        host=os.uname().nodename,
        version=__version__,
        actor=actor(),
        boot_id=process.boot_id,
        boot_seconds=begun.boot_seconds,
        ledger=begun.ledger,
        pid_started=process.started,
        pid_namespace=process.namespace,
    )


class _Watcher:
    """Logs every finding, and moves the progress bar."""

    def __init__(self, stack: ExitStack, lock: "Lock") -> None:
        self._stack = stack
        self._lock = lock
        self._advance: Callable[[], None] = lambda: None
        self.summary: PlanSummary | None = None

    def planned(self, summary: "PlanSummary") -> None:
        """Begin the bar, where the tick, which is in the journal by now, is still alone."""
        from autorelease.sweep.edge.alone import check_lock

        check_lock(self._lock)
        self.summary = summary
        from autorelease.render import progress

        self._advance = self._stack.enter_context(progress(summary.first_tries + summary.repeats, "releasing"))

    def watch(self, finding: "Finding") -> None:
        """One allocation has come to its end."""
        self._advance()
        log_finding(finding)


# Of those that are left for the next tick there is one line for all, which says why.
QUIET = frozenset({"held", "backoff", "refused", "dry_run", "deferred", "no_provisioner"})
LOUD = frozenset({"resurrected"})


def log_finding(finding: "Finding") -> None:
    """One line for what became of one allocation."""
    level = logging.DEBUG if finding.reason in QUIET else logging.INFO
    if finding.reason in LOUD:
        level = logging.WARNING
    if finding.error is not None:
        level = logging.ERROR
    if not logger.isEnabledFor(level):
        return
    allocation = finding.allocation
    facts = {
        "sid": allocation.sid,
        "provisioner": allocation.provisioner,
        "vm_ref": allocation.vm_ref,
        "expires_at": rfc3339(allocation.expires_at) if allocation.expires_at else None,
        "reason": finding.reason,
        "evidence": finding.evidence,
        "duration_ms": finding.duration_ms,
    }
    if finding.error is not None:
        facts |= {"code": finding.error.code, "error": finding.error.message}
    logger.log(level, "%s", finding.outcome, extra={"facts": facts})


def _log_refusals(report: "TickReport", summary: "PlanSummary | None") -> None:
    """Say why the guard refused, what was planned, and what to type; and so where no miss was believed."""
    from autorelease.rules.guard import advice, advice_on_misses

    for refusal in report.refused:
        logger.error("refused: %s: %s", refusal.code, refusal.message)
    if report.refused and summary is not None:
        logger.error("%s", advice(summary, report.refused))
    if report.unproven:
        logger.error("%s", advice_on_misses(report.unproven))
