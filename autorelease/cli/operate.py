"""`release` and `retry`: an operator's decisions, journalled with who made them."""

import logging
import sys
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stdout
from shlex import quote
from typing import TYPE_CHECKING, Annotated, TextIO

import typer
from msgspec.structs import replace

from autorelease import stderr
from autorelease.cli.decided import judge_of
from autorelease.cli.shared import actor, check_section, check_utf8, clock, named_rows, shared
from autorelease.cli.sweep import log_finding, means_of, show_report, start_of, stop_at_deadline
from autorelease.errors import UsageError
from autorelease.model import rfc3339
from autorelease.render import show_lines

if TYPE_CHECKING:
    from datetime import datetime

    from autorelease.journal import TickStart
    from autorelease.operate import Order
    from autorelease.settings import Settings
    from autorelease.sweep.report import TickReport

logger = logging.getLogger(__name__)

UNDER_WAY = "its release is under way just now, whose end is not known yet: look again when that run is over"
WITHOUT = "Nothing was touched. Without --confirm, a release names what was not found, and what to type then"
# More than that nobody types.
MOST_SIDS = 20
Sids = Annotated[list[str], typer.Argument(metavar="SID...", show_default=False, help="The allocations.")]


def release(
    context: typer.Context,
    sids: Sids,
    *,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why, for the journal.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
    confirm: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Vouch for the N VMs that the release before did not find: they are gone."
        ),
    ] = None,
) -> None:
    """Release these now, expired or not: without the guard, and without waiting after failures.

    Example: autorelease release vm-1042 --reason "fraud, ticket 4711"
    """
    from autorelease.journal import TickKind

    now = clock()
    check_utf8("a SID", sids)
    check_utf8("--reason", [reason or ""])
    options = shared(context)
    settings = options.settings()
    if not yes and not sys.stdin.isatty():
        raise UsageError("release asks before it releases, and there is no terminal to ask on: add --yes")
    asks_on = None if yes else sys.stderr if as_json else sys.stdout
    # What a provisioner prints is no part of the report.
    with redirect_stdout(sys.stderr):
        start = replace(start_of(settings, now), kind=TickKind.RELEASE, reason=reason)
        report = _release(settings, list(dict.fromkeys(sids)), start, confirm, asks_on)
    _log_advice(report, sids)
    show_report(report, options, as_json=as_json)


def _release(
    settings: "Settings",
    sids: Sequence[str],
    start: "TickStart",
    confirm: int | None,
    asks_on: TextIO | None,
) -> "TickReport":
    from autorelease.deciding.judging import versions_of
    from autorelease.journal import open_journal
    from autorelease.ledger import open_ledger
    from autorelease.operate import make_order, run_release
    from autorelease.provisioners import open_provisioners
    from autorelease.provisioners.calls import close_all
    from autorelease.sweep.edge.stop import stopped_by_signals

    provisioners = open_provisioners(
        settings.provisioners, settings.config, settings.release.timeout, stamps=settings.ledger.is_stamped
    )
    stop = stop_at_deadline(settings.release.deadline)
    with ExitStack() as stack:
        made = [registered.provisioner for registered in provisioners.values()]
        stack.callback(close_all, made, settings.release.timeout)
        journal = open_journal(settings)
        stack.callback(journal.close)
        ledger = open_ledger(settings, read_only=False)
        stack.callback(ledger.close)
        versions = versions_of(ledger, journal)
        order = make_order(named_rows(ledger, sids), ledger, journal, start.now, versions=versions)
        _tell_of_holds(order, start.now)
        if asks_on is not None:
            with redirect_stdout(asks_on):
                _ask(order)
        stack.enter_context(stopped_by_signals(stop))
        return run_release(
            order,
            judge_of(settings, ledger, journal, start.now),
            means_of(settings, provisioners, stop, log_finding),
            start,
            confirm=confirm,
        )


def _log_advice(report: "TickReport", named: Sequence[str]) -> None:
    """Say why a --confirm was not accepted; and what to type where no miss was believed."""
    from autorelease.model import ErrorCode
    from autorelease.rules.guard import advice_on_misses

    for refusal in report.refused:
        logger.error("refused: %s: %s. %s", refusal.code, refusal.message, WITHOUT)
    if report.unproven:
        missed = {error.sid for error in report.errors if error.code is ErrorCode.UNPROVEN}
        # As they were typed, whoever answered first.
        sids = " ".join(quote(sid) for sid in dict.fromkeys(named) if sid in missed)
        if report.unproven > MOST_SIDS:
            sids = "SID..., the same as before,"
        logger.error("%s", advice_on_misses(report.unproven, f"autorelease release {sids}"))


def _tell_of_holds(order: "Order", now: "datetime") -> None:
    from autorelease.inspect.holds import how_to_end, in_a_sentence

    for item in order.held:
        if (hold := item.known.hold) is not None:
            sid, remedy = item.allocation.sid, how_to_end(hold)
            logger.warning("%s: %s. To release it, end that first: %s", sid, in_a_sentence(hold, now), remedy)


def _ask(order: "Order") -> None:
    show_lines(
        f"{row.sid}  {row.owner or '-'}  {row.vm_ref}  {row.provisioner}  {row.status}  expires "
        f"{rfc3339(row.expires_at) if row.expires_at else 'never'}"
        for row in (item.allocation for item in order.planned)
    )
    sys.stdout.flush()
    with stderr.directly():
        if order.planned and not typer.confirm(f"Release {len(order.planned)} now? There is no undo.", err=True):
            raise typer.Abort


def retry(
    context: typer.Context,
    sids: Annotated[
        list[str] | None, typer.Argument(metavar="SID...", show_default=False, help="The allocations.")
    ] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="All allocations; no conflict is acknowledged.")] = False,
    provisioner: Annotated[
        str | None, typer.Option(metavar="NAME", help="All that this one serves; no conflict is acknowledged.")
    ] = None,
) -> None:
    """Forget failures, so that the next tick tries again; with SIDs, acknowledge their conflicts, too.

    Example: autorelease retry vm-1042
    """
    if [bool(sids), every, provisioner is not None].count(True) != 1:
        raise UsageError("retry wants either SIDs, or --all, or --provisioner NAME")
    check_utf8("a SID", sids or [])
    options = shared(context)
    settings = options.settings()
    if provisioner is not None:
        check_section(settings, provisioner)
    done = _retry_these(settings, list(dict.fromkeys(sids))) if sids else _retry_all(settings, provisioner)
    if options.shows():
        show_lines(done)


def _retry_all(settings: "Settings", provisioner: str | None) -> Sequence[str]:
    from autorelease.journal import open_journal

    journal = open_journal(settings)
    try:
        changed = journal.forget_failures(clock(), actor(), sid=None, provisioner=provisioner)
    finally:
        journal.close()
    return [f"{sid}: failures forgotten" for sid in changed] or ["nothing waits after failures"]


def _retry_these(settings: "Settings", sids: Sequence[str]) -> Sequence[str]:
    from autorelease.deciding.running import running
    from autorelease.deciding.unfinished import Moment
    from autorelease.journal import open_journal
    from autorelease.ledger import open_ledger
    from autorelease.operate import conflicts_of

    now, lines = clock(), []
    with ExitStack() as stack:
        journal = open_journal(settings)
        stack.callback(journal.close)
        ledger = open_ledger(settings, read_only=True)
        stack.callback(ledger.close)
        moment = Moment(now, settings.release.grace, running(journal, now))
        conflicts, under_way = conflicts_of(sids, ledger, journal, moment)
        in_conflict = {intent.sid for intent in conflicts}
        # The row of a conflict may be gone: that is what is acknowledged.
        named_rows(ledger, [sid for sid in sids if sid not in in_conflict])
        journal.acknowledge(conflicts, now, actor())
        for sid in sids:
            forgotten = journal.forget_failures(now, actor(), sid=sid, provisioner=None)
            done = [
                *(["conflict acknowledged"] if sid in in_conflict else []),
                *([UNDER_WAY] if sid in under_way else []),
                *(["failures forgotten"] if forgotten else []),
            ]
            lines.append(f"{sid}: {' and '.join(done) or 'nothing to forget'}")
    return lines
