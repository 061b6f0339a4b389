"""`upcoming`, `explain`, `health`, `doctor`: what an operator asks about. All of it only reads."""

import logging
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autorelease.cli.decided import decided, limits
from autorelease.cli.shared import check_utf8, clock, moment, parse_length, shared
from autorelease.errors import ExitCode, UsageError
from autorelease.model import rfc3339
from autorelease.render import (
    Form,
    LineForm,
    TextForm,
    bars,
    default_form,
    show_facts,
    show_json,
    show_lines,
    show_object,
    show_rows,
)

if TYPE_CHECKING:
    from autorelease.inspect import Check
    from autorelease.inspect.configuration import Value
    from autorelease.inspect.upcoming import Outlook, Upcoming, Window
    from autorelease.ledger import Ledger

logger = logging.getLogger(__name__)

LONGEST_WINDOW = timedelta(days=366)
COLUMNS = ("sid", "owner", "plan", "provisioner", "vm_ref", "status", "expires_at", "in_seconds", "note")


# --- upcoming ---------------------------------------------------------------------------------------------------------


def upcoming(
    context: typer.Context,
    *,
    within: Annotated[str, typer.Option(metavar="DURATION", help="How far to look ahead.")] = "72h",
    form: Annotated[
        TextForm | None,
        typer.Option(
            "--format",
            case_sensitive=False,
            help="Default: table on a terminal, plain in a pipe.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Show what expires next, and when the guard will refuse because too much ends together.

    Example: autorelease upcoming --within 14d
    """
    from msgspec.structs import replace

    from autorelease.inspect.upcoming import Window, look_ahead
    from autorelease.inspect.upcoming import upcoming as find_upcoming

    now = clock()
    length = parse_length(within)
    if length > LONGEST_WINDOW:
        raise UsageError(f"--within {within} is too far: at most {LONGEST_WINDOW.days}d")
    settings = shared(context).settings()
    here = moment(settings, now)
    window = Window(now, now + length, settings.release.grace, settings.release.hold_grace)
    with decided(settings, replace(here, now=window.last_tick), is_hypothetical=True) as (ledger, journal, decision):
        ledger.close()
        journal.close()
        outlook = look_ahead(decision, window, here, limits(settings))
        rows = (_upcoming_row(row, now) for row in find_upcoming(decision, window))
        _show_upcoming(Form(form) if form else default_form(), window, outlook, rows)


def _show_upcoming(form: Form, window: "Window", outlook: "Outlook", rows: Iterator[dict[str, Any]]) -> None:
    days = {day.isoformat(): count for day, count in sorted(outlook.days.items())}
    if form is Form.JSON:
        head = {
            "schema": "autorelease.upcoming/1",
            "now": rfc3339(window.now),
            "until": rfc3339(window.until),
            "guard": {
                "refuses_at": rfc3339(outlook.refuses_at) if outlook.refuses_at else None,
                "reasons": [{"code": refusal.code, "message": refusal.message} for refusal in outlook.refusals],
            },
            "counts": {"expire": outlook.expiring, "held": outlook.held},
            "days": [{"day": day, "count": count} for day, count in days.items()],
        }
        show_json(head, {"rows": rows})
        return
    show_rows(form, COLUMNS, rows)
    if form is Form.TABLE:
        show_lines(["", *bars(days), "", *_verdict(window, outlook)])
        return
    # In a pipe stdout is for rows alone.
    for line in _verdict(window, outlook):
        logger.log(logging.WARNING if outlook.refusals else logging.INFO, "%s", line)


def _verdict(window: "Window", outlook: "Outlook") -> Iterator[str]:
    yield f"until {rfc3339(window.until)}: {outlook.expiring} expire, {outlook.held} of them held"
    if outlook.refuses_at is None:
        yield "the guard would refuse none of the hourly ticks until then"
    for refusal in outlook.refusals:
        at = f"{outlook.refuses_at:%Y-%m-%dT%H:%MZ}"
        yield f"the guard will refuse at {at}: {refusal.code}: {refusal.message}"


def _upcoming_row(row: "Upcoming", now: datetime) -> dict[str, Any]:
    allocation = row.allocation
    return {
        "sid": allocation.sid,
        "owner": allocation.owner,
        "plan": allocation.plan,
        "provisioner": allocation.provisioner,
        "vm_ref": allocation.vm_ref,
        "status": allocation.status,
        "expires_at": rfc3339(allocation.expires_at) if allocation.expires_at else None,
        "in_seconds": int((row.ends_at - now).total_seconds()),
        "note": row.note,
    }


# --- explain ----------------------------------------------------------------------------------------------------------


def explain(
    context: typer.Context,
    sid: Annotated[str, typer.Argument(metavar="SID", show_default=False, help="The allocation.")],
) -> None:
    """Show every fact and every decision about one allocation.

    Example: autorelease explain vm-1042
    """
    from autorelease.inspect.explain import Terms, look_up
    from autorelease.inspect.explain import explain as find_sections
    from autorelease.ledger import vocabulary

    now = clock()
    check_utf8("SID", [sid])
    settings = shared(context).settings()
    terms = Terms(
        words=vocabulary(settings),
        columns=settings.ledger.columns.by_role(),
        grace=settings.release.grace,
        hold_grace=settings.release.hold_grace,
    )
    with decided(settings, moment(settings, now), is_hypothetical=False) as (ledger, journal, decision):
        subject = look_up(sid, ledger, journal)
        if not subject.is_known:
            raise UsageError(_unknown(sid, ledger))
        ledger.close()
        show_lines([f"{sid}, at {rfc3339(now)}"])
        for section in find_sections(subject, decision, journal.events(sid=sid), terms):
            show_lines([""])
            show_facts(section.title, section.facts)


def _unknown(sid: str, ledger: "Ledger") -> str:
    from autorelease.ledger import NOT_ADMITTED

    if ledger.read(sid) is not None:
        return f"{sid!r} is in the table, but {NOT_ADMITTED}"
    return f"no allocation {sid!r} is in the ledger or in the journal"


# --- health -----------------------------------------------------------------------------------------------------------


def health(
    context: typer.Context,
    *,
    max_age: Annotated[str, typer.Option(metavar="DURATION", help="How long ago a tick may have run through.")] = "2h",
    max_overdue: Annotated[
        str, typer.Option(metavar="DURATION", help="How long an expired VM may have been waiting.")
    ] = "2h",
    form: Annotated[
        LineForm, typer.Option("--format", case_sensitive=False, help="The shape of the output.")
    ] = LineForm.PLAIN,
) -> None:
    """Tell whether the sweep is alive, for monitoring: exit code 0, or 9 with a line for each thing that is wrong.

    Example: autorelease health --max-age 3h
    """
    from autorelease.inspect.health import find_health, health_object, lines

    now = clock()
    age, overdue = parse_length(max_age), parse_length(max_overdue)
    options = shared(context)
    found = find_health(options.settings(), now, max_age=age, max_overdue=overdue)
    code = ExitCode.UNHEALTHY if found.problems else ExitCode.OK
    if form is LineForm.JSON:
        show_object(health_object(found, now))
    elif options.shows(code):
        show_lines(lines(found))
    raise typer.Exit(code)


# --- doctor -----------------------------------------------------------------------------------------------------------


def doctor(
    context: typer.Context,
    *,
    form: Annotated[
        TextForm | None,
        typer.Option(
            "--format",
            case_sensitive=False,
            help="Default: table on a terminal, plain in a pipe.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Check the whole installation, each part with its remedy: exit code 0, or 9 where one of them fails.

    Example: autorelease doctor
    """
    from autorelease.errors import ConfigurationError
    from autorelease.inspect.configuration import effective
    from autorelease.inspect.doctor import examine, examine_without, has_failed

    now = clock()
    options = shared(context)
    try:
        settings = options.settings()
    except ConfigurationError as error:
        values, checks = [], list(examine_without(error))
    else:
        values = list(effective(settings, config_from=options.config_from, ledger_from=options.ledger_from))
        checks = list(examine(settings, moment(settings, now), limits(settings)))
    code, shape = ExitCode.UNHEALTHY if has_failed(checks) else ExitCode.OK, Form(form) if form else default_form()
    if shape is Form.JSON or options.shows(code):
        _show_doctor(shape, now, values, checks)
    raise typer.Exit(code)


def _show_doctor(form: Form, now: datetime, values: "Sequence[Value]", checks: "Sequence[Check]") -> None:
    from autorelease.inspect.doctor import has_failed

    rows = [
        {"state": check.state, "check": check.name, "message": check.message, "remedy": check.remedy or None}
        for check in checks
    ]
    if form is Form.JSON:
        settings = [{"key": each.key, "value": each.value, "from": each.origin} for each in values]
        head = {"schema": "autorelease.doctor/1", "now": rfc3339(now), "failed": has_failed(checks)}
        show_json(head, {"settings": settings, "checks": rows})
        return
    told = [
        {"state": "ok", "check": "setting", "message": f"{each.key} = {each.value} ({each.origin})", "remedy": None}
        for each in values
    ]
    show_rows(form, ("state", "check", "message", "remedy"), [*told, *rows])
