"""`upcoming`, `explain`, `health`: what an operator asks about. All of it only reads."""

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autorelease.cli.decided import check_indexes, decided, judge_of, limits, opened
from autorelease.cli.shared import FORMAT, check_utf8, clock, moment, parse_length, shared
from autorelease.errors import ExitCode, UsageError
from autorelease.inspect import at_second, in_words
from autorelease.model import rfc3339
from autorelease.render import (
    Form,
    LineForm,
    TextForm,
    bars,
    default_form,
    is_terminal,
    show_facts,
    show_json,
    show_lines,
    show_object,
    show_rows,
    show_states,
)

if TYPE_CHECKING:
    from autorelease.inspect.upcoming import Outlook, Upcoming, Window
    from autorelease.ledger import Ledger

logger = logging.getLogger(__name__)

LONGEST_WINDOW = timedelta(days=366)
COLUMNS = ("sid", "owner", "plan", "provisioner", "vm_ref", "status", "expires_at", "in_seconds", "note")
MOST_PLANS = 5
# What a narrow terminal does without, before any id is folded.
SPARE = ("status", "provisioner", "plan", "owner")


# --- upcoming ---------------------------------------------------------------------------------------------------------


def upcoming(
    context: typer.Context,
    *,
    within: Annotated[str, typer.Option(metavar="DURATION", help="How far to look ahead.")] = "72h",
    each: Annotated[
        bool, typer.Option("--rows", help="Also in a table, list each allocation; the other formats always do.")
    ] = False,
    form: Annotated[TextForm | None, FORMAT] = None,
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
        _show_upcoming(Form(form) if form else default_form(), window, outlook, rows, has_rows=each)


def _show_upcoming(
    form: Form, window: "Window", outlook: "Outlook", rows: Iterator[dict[str, Any]], *, has_rows: bool
) -> None:
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
            "counts": {"expire": outlook.expiring, "held": outlook.held, "invalid": outlook.invalid},
            "days": [{"day": day, "count": count} for day, count in days.items()],
        }
        show_json(head, {"rows": rows})
        return
    if form is Form.TABLE:
        if has_rows:
            show_rows(form, COLUMNS, rows, state="note", spare=SPARE)
            show_lines([""])
        show_lines([*bars(days), *([""] if days else []), *_verdict(window, outlook)])
        return
    show_rows(form, COLUMNS, rows)
    # In a pipe stdout is for rows alone.
    for line in _verdict(window, outlook):
        logger.log(logging.WARNING if outlook.refusals else logging.INFO, "%s", line)


def _verdict(window: "Window", outlook: "Outlook") -> Iterator[str]:
    invalid = f", {outlook.invalid} invalid: reported, and not released" if outlook.invalid else ""
    until = f"{at_second(window.until)}, in {in_words(window.until - window.now)}"
    yield f"until {until}: {outlook.expiring} expire, {outlook.held} of them held{invalid}"
    if outlook.refuses_at is None:
        yield "the guard would refuse none of the hourly ticks until then"
        return
    at = f"{outlook.refuses_at:%Y-%m-%dT%H:%MZ}"
    for refusal in outlook.refusals:
        yield f"the guard will refuse at {at}: {refusal.code}: {refusal.message}"
    if outlook.plans:
        plans = ", ".join(f"{count} of {name or 'no plan'}" for name, count in outlook.plans[:MOST_PLANS])
        yield f"what ends together then: {plans}{', …' if len(outlook.plans) > MOST_PLANS else ''}"
        yield "to release it, look at it after that refusal, and answer: autorelease tick --once --confirm N"


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
        "note": f"invalid: {row.doubt}" if row.doubt else row.note,
    }


# --- explain ----------------------------------------------------------------------------------------------------------


def explain(
    context: typer.Context,
    sid: Annotated[str, typer.Argument(metavar="SID", show_default=False, help="The allocation.")],
) -> None:
    """Show every fact and every decision about one allocation.

    Example: autorelease explain vm-1042
    """
    from autorelease.deciding.running import running
    from autorelease.deciding.single import decide_single
    from autorelease.inspect.explain import explain as find_sections
    from autorelease.inspect.subject import Terms, look_up
    from autorelease.ledger import vocabulary

    now = clock()
    check_utf8("SID", [sid])
    settings = shared(context).settings()
    terms = Terms(
        words=vocabulary(settings),
        columns=settings.ledger.columns.by_role(),
        grace=settings.release.grace,
        hold_grace=settings.release.hold_grace,
        spelled=at_second if is_terminal() else rfc3339,
    )
    with opened(settings) as (ledger, journal):
        judge = judge_of(settings, ledger, journal, now)
        check_indexes(judge, settings.ledger_name)
        subject = look_up(sid, ledger, journal, terms.words)
        if not subject.is_known:
            raise UsageError(_unknown(sid, ledger))
        single = decide_single(judge, settings.ledger_name, sid, subject.rows, running=running(journal, clock()))
        ledger.close()
        show_lines([f"{sid}, at {terms.spelled(now)}"])
        for section in find_sections(subject, single, journal.events(sid=sid), terms):
            show_lines([""])
            show_facts(section.title, section.facts)


def _unknown(sid: str, ledger: "Ledger") -> str:
    from autorelease.ledger import NOT_ADMITTED
    from autorelease.model import Allocation

    row = ledger.read(sid)
    if isinstance(row, Allocation):
        return f"{sid!r} is released in the table of [ledger.stamp], and the view leaves it out: nothing is known of it"
    if row is not None:
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
        show_states(lines(found, now))
    raise typer.Exit(code)
