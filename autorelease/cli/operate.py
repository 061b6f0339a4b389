"""`release`, `hold`, `unhold`, `retry`: an operator's decisions, journalled with who made them."""

import logging
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec.structs import replace

from autorelease import stderr
from autorelease.cli.decided import judge_of
from autorelease.cli.shared import TIMES, actor, check_utf8, clock, parse_time, shared
from autorelease.cli.sweep import log_finding, means_of, show_report, start_of, stop_at_deadline
from autorelease.errors import ExitCode, UsageError
from autorelease.model import rfc3339
from autorelease.render import show_lines

if TYPE_CHECKING:
    from autorelease.ledger import Ledger
    from autorelease.model import Allocation, InvalidRow
    from autorelease.operate import Order
    from autorelease.settings import Settings
    from autorelease.sweep.report import TickReport

logger = logging.getLogger(__name__)

UNDER_WAY = "its release is under way just now, whose end is not known yet: look again when that run is over"
Sids = Annotated[list[str], typer.Argument(metavar="SID...", show_default=False, help="The allocations.")]
Sid = Annotated[str, typer.Argument(metavar="SID", show_default=False, help="The allocation.")]


def release(
    context: typer.Context,
    sids: Sids,
    *,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why, for the journal.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Release these now, expired or not: without the guard, and without waiting after failures.

    Example: autorelease release vm-1042 --reason "fraud, ticket 4711"
    """
    now = clock()
    check_utf8("a SID", sids)
    check_utf8("--reason", [reason or ""])
    options = shared(context)
    settings = options.settings()
    if not yes and not sys.stdin.isatty():
        raise UsageError("release asks before it releases, and there is no terminal to ask on: add --yes")
    report = _release(settings, list(dict.fromkeys(sids)), now, reason, is_confirmed=yes)
    show_report(report, options, as_json=False)


def _release(
    settings: "Settings", sids: Sequence[str], now: datetime, reason: str | None, *, is_confirmed: bool
) -> "TickReport":
    from autorelease.deciding.judging import versions_of
    from autorelease.journal import TickKind, open_journal
    from autorelease.ledger import open_ledger
    from autorelease.operate import make_order, run_release
    from autorelease.provisioners import open_provisioners
    from autorelease.provisioners.calls import close
    from autorelease.sweep.edge.stop import stopped_by_signals

    provisioners = open_provisioners(
        settings.provisioners, settings.config, settings.release.timeout, stamps=settings.ledger.is_stamped
    )
    stop = stop_at_deadline(settings.release.deadline)
    with ExitStack() as stack:
        for registered in provisioners.values():
            stack.callback(close, registered.provisioner, settings.release.timeout)
        journal = open_journal(settings)
        stack.callback(journal.close)
        ledger = open_ledger(settings, read_only=False)
        stack.callback(ledger.close)
        versions = versions_of(ledger, journal)
        order = make_order(_named_rows(ledger, sids), ledger, journal, now, versions=versions)
        _tell_of_holds(order)
        if not is_confirmed:
            _ask(order)
        stack.enter_context(stopped_by_signals(stop))
        return run_release(
            order,
            judge_of(settings, ledger, journal, now),
            means_of(settings, provisioners, stop, log_finding),
            replace(start_of(settings, now), kind=TickKind.RELEASE, reason=reason),
        )


def _named_rows(ledger: "Ledger", sids: Sequence[str]) -> "Sequence[Allocation | InvalidRow]":
    from autorelease.ledger import NOT_ADMITTED
    from autorelease.model import InvalidRow

    rows: list[Allocation | InvalidRow] = []
    for sid in sids:
        row = ledger.read(sid)
        if row is None:
            raise UsageError(f"no allocation {sid!r} is in the ledger. Nothing was done")
        if isinstance(row, InvalidRow) and row.reason == NOT_ADMITTED:
            raise UsageError(f"{sid!r} is in the table, but {NOT_ADMITTED}. Nothing was done")
        rows.append(row)
    return rows


def _tell_of_holds(order: "Order") -> None:
    for item in order.held:
        if (hold := item.known.hold) is not None:
            since = f"since {rfc3339(hold.held_at.replace(microsecond=0))} by {hold.actor}: {hold.reason}"
            logger.warning(
                "%s is held %s. To release it, end that first: autorelease unhold %s", hold.sid, since, hold.sid
            )


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


def hold(
    context: typer.Context,
    sid: Sid,
    *,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, for whoever finds it.")],
    until: Annotated[str | None, typer.Option(metavar="TIME", help=f"It ends by itself then: {TIMES}.")] = None,
) -> None:
    """Keep an allocation from being released, across all renewals, until it is unheld.

    Example: autorelease hold vm-1042 --until +72h --reason "payment is being looked into"
    """
    from autorelease.journal import open_journal
    from autorelease.ledger import open_ledger
    from autorelease.model import Hold

    now = clock()
    check_utf8("SID", [sid])
    check_utf8("--reason", [reason])
    ends = parse_time(until, now) if until else None
    if ends is not None and ends <= now:
        raise UsageError(f"--until {until} is not in the future")
    if not reason.strip():
        raise UsageError("--reason is empty: say why, for whoever finds this hold")
    options = shared(context)
    settings = options.settings()
    with ExitStack() as stack:
        journal = open_journal(settings)
        stack.callback(journal.close)
        ledger = open_ledger(settings, read_only=True)
        stack.callback(ledger.close)
        _named_rows(ledger, [sid])
        begun = journal.hold(Hold(sid, now, ends, reason, actor()))
    if begun is not None or options.shows():
        show_lines([f"{sid} is held{f' until {rfc3339(ends)}' if ends else ''}"])
    if begun is not None:
        show_lines(
            [f"too late for this tick: its release began at {rfc3339(begun)}. See: autorelease history --sid {sid}"]
        )
        raise typer.Exit(ExitCode.NOT_ALL_WELL)


def unhold(context: typer.Context, sid: Sid) -> None:
    """End the hold of an allocation; it is left alone for release.hold_grace more.

    Example: autorelease unhold vm-1042
    """
    from autorelease.journal import open_journal

    now = clock()
    check_utf8("SID", [sid])
    options = shared(context)
    settings = options.settings()
    journal = open_journal(settings)
    try:
        ended = journal.end_hold(sid, now, actor())
    finally:
        journal.close()
    if ended is None:
        raise UsageError(f"{sid!r} is not held")
    first = rfc3339((now + settings.release.hold_grace).replace(microsecond=0))
    if options.shows():
        show_lines([f"{sid} is not held any more; no tick before {first} releases it"])


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
    if provisioner is not None and provisioner not in settings.provisioners:
        known = ", ".join(sorted(settings.provisioners)) or "none"
        raise UsageError(f"the configuration has no section [provisioners.{provisioner}]; there are: {known}")
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
        _named_rows(ledger, [sid for sid in sids if sid not in in_conflict])
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
