"""`hold`, `unhold` and `holds`: what is not to be released, whatever its date says. `hold --all` is the red button."""

from collections.abc import Sequence
from contextlib import ExitStack
from datetime import MAXYEAR, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from autorelease.cli.shared import (
    FORMAT,
    TIMES,
    actor,
    check_section,
    check_utf8,
    clock,
    named_rows,
    parse_time,
    shared,
)
from autorelease.errors import ExitCode, UsageError
from autorelease.model import rfc3339
from autorelease.render import Form, TextForm, default_form, show_json, show_lines, show_rows

if TYPE_CHECKING:
    from autorelease.journal import Begun, Journal
    from autorelease.model import Hold
    from autorelease.settings import Settings

# On a terminal the plain words in a few columns; elsewhere every fact in one of its own.
TABLE = ("held", "state", "until", "by", "reason", "row", "note")
COLUMNS = ("scope", "subject", "since", "until", "state", "releases_from", "by", "reason", "row", "mark", "note")
Sids = Annotated[list[str] | None, typer.Argument(metavar="SID...", show_default=False, help="The allocations.")]
Provisioner = Annotated[str | None, typer.Option(metavar="NAME", help="All that this one serves.")]


def hold(
    context: typer.Context,
    sids: Sids = None,
    *,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, for whoever finds it.")],
    until: Annotated[str | None, typer.Option(metavar="TIME", help=f"It ends by itself then: {TIMES}.")] = None,
    provisioner: Provisioner = None,
    every: Annotated[
        bool, typer.Option("--all", help="Everything, until TIME: nothing at all is released any more.")
    ] = False,
) -> None:
    """Keep allocations from being released, across all renewals, until they are unheld.

    Example: autorelease hold vm-1042 --until +72h --reason "payment is being looked into"
    """
    now = clock()
    wanted = _wanted("hold", sids, provisioner, every=every)
    check_utf8("--reason", [reason])
    ends = parse_time(until, now) if until else None
    if ends is not None and ends <= now:
        raise UsageError(f"--until {until} is not in the future")
    if not reason.strip():
        raise UsageError("--reason is empty: say why, for whoever finds this hold")
    if every and ends is None:
        raise UsageError("--all wants --until TIME as well, so that a sweep that was stopped is not forgotten")
    options = shared(context)
    settings = options.settings()
    if provisioner is not None:
        check_section(settings, provisioner)
    done, begun = _make(settings, wanted, provisioner, (now, ends and _whole_second(ends), reason))
    code = ExitCode.NOT_ALL_WELL if begun else ExitCode.OK
    if options.shows(code):
        show_lines([*done, *begun])
    raise typer.Exit(code)


def _whole_second(instant: datetime) -> datetime:
    """The first that is not before it: nobody has typed the fraction of a +72h."""
    is_whole = instant.microsecond == 0 or instant.year == MAXYEAR
    return instant if is_whole else instant.replace(microsecond=0) + timedelta(seconds=1)


def _make(
    settings: "Settings", sids: Sequence[str], provisioner: str | None, terms: tuple[datetime, datetime | None, str]
) -> tuple[list[str], list[str]]:
    """Make the holds; returns what was done, and what has begun already."""
    from autorelease.deciding.running import running
    from autorelease.journal import open_journal

    with ExitStack() as stack:
        journal = open_journal(settings)
        stack.callback(journal.close)
        made = _of_rows(settings, sids, terms) if any(sids) else [_of_many(provisioner, terms)]
        begun = journal.hold(*made)
        alive = running(journal, clock())
    late = [_too_late(each, is_alive=each.run in alive, is_only_one=sids == [each.sid]) for each in begun]
    return _made(made, settings), late


def _of_rows(
    settings: "Settings", sids: Sequence[str], terms: tuple[datetime, datetime | None, str]
) -> "Sequence[Hold]":
    from autorelease.inspect.holds import made_for
    from autorelease.ledger import open_ledger
    from autorelease.model import Hold

    ledger = open_ledger(settings, read_only=True)
    try:
        rows = named_rows(ledger, sids)
    finally:
        ledger.close()
    return [Hold(sid, *terms, actor(), made_for=made_for(row)) for sid, row in zip(sids, rows, strict=True)]


def _of_many(provisioner: str | None, terms: tuple[datetime, datetime | None, str]) -> "Hold":
    # The ledger is not opened: a red button works while that is locked, too.
    from autorelease.model import Hold

    return Hold("", *terms, actor(), provisioner=provisioner)


def _made(made: "Sequence[Hold]", settings: "Settings") -> list[str]:
    from autorelease.inspect.holds import releases_from, subject

    lines = [f"{subject(each)} is held{f' until {rfc3339(each.until)}' if each.until else ''}" for each in made]
    if not made[0].sid and (first := releases_from(made[0], settings.release.hold_grace)) is not None:
        lines.append(f"no tick before {rfc3339(first)} releases any of it: release.hold_grace comes after the end")
    return lines


def _too_late(begun: "Begun", *, is_alive: bool, is_only_one: bool) -> str:
    at, look = rfc3339(begun.at), f"See: autorelease history --sid {begun.sid}"
    if not is_alive:
        return f"{begun.sid}: its release began at {at}, in a run that is gone: its VM may be gone, too. {look}"
    if is_only_one:
        return f"perhaps too late for this tick: its release began at {at}. {look}"
    return f"perhaps too late for this tick: {begun.sid}, whose release began at {at}. {look}"


def unhold(
    context: typer.Context,
    sids: Sids = None,
    *,
    provisioner: Provisioner = None,
    every: Annotated[bool, typer.Option("--all", help="The hold of everything; those of sids stay.")] = False,
) -> None:
    """End holds; what was held is left alone for release.hold_grace more.

    Example: autorelease unhold vm-1042
    """
    from autorelease.journal import open_journal

    now = clock()
    wanted = _wanted("unhold", sids, provisioner, every=every)
    options = shared(context)
    settings = options.settings()
    journal = open_journal(settings)
    try:
        not_held = journal.end_holds(wanted, now, actor(), provisioner=provisioner)
        if not_held:
            raise UsageError(_not_held(not_held, provisioner, is_one_of_many=len(wanted) > 1))
        left = _still_held(journal, now)
    finally:
        journal.close()
    first = rfc3339((now + settings.release.hold_grace).replace(microsecond=0))
    names = [sid or (f"everything of {provisioner}" if provisioner else "everything") for sid in wanted]
    them = ["it" if sid else "any of it" for sid in wanted]
    done = [
        f"{name} is not held any more; no tick before {first} releases {it}"
        for name, it in zip(names, them, strict=True)
    ]
    if options.shows():
        show_lines([*done, *left])


def _not_held(not_held: Sequence[str], provisioner: str | None, *, is_one_of_many: bool) -> str:
    of_many = f"everything of {provisioner}" if provisioner is not None else "everything"
    names = ", ".join(repr(sid) if sid else of_many for sid in not_held)
    rest = ". Nothing was done" if is_one_of_many else ""
    return f"{names} {'are' if len(not_held) > 1 else 'is'} not held{rest}"


def _still_held(journal: "Journal", now: datetime) -> list[str]:
    """What goes on keeping rows from being released."""
    from autorelease.inspect.holds import in_a_sentence

    return [f"still in force: {in_a_sentence(each, now)}" for each in journal.holds(now) if not each.sid]


def holds(
    context: typer.Context,
    *,
    form: Annotated[TextForm | None, FORMAT] = None,
) -> None:
    """Show every hold that is in force or in its grace; those whose row is gone, or names another VM now, are marked.

    Example: autorelease holds
    """
    from autorelease.inspect.holds import find_holds, rows_of, table_of
    from autorelease.journal import open_journal_reader
    from autorelease.ledger import open_ledger

    now = clock()
    settings = shared(context).settings()
    with ExitStack() as stack:
        journal = open_journal_reader(settings)
        stack.callback(journal.close)
        ledger = open_ledger(settings, read_only=True)
        stack.callback(ledger.close)
        found = find_holds(ledger, journal, now, settings.release.hold_grace)
    grace = settings.release.hold_grace
    chosen = Form(form) if form else default_form()
    if chosen is Form.JSON:
        show_json({"schema": "autorelease.holds/1", "now": rfc3339(now)}, {"holds": rows_of(found, now, grace)})
    elif chosen is Form.TABLE:
        show_rows(chosen, TABLE, table_of(found, now, grace))
    else:
        show_rows(chosen, COLUMNS, rows_of(found, now, grace))


def _wanted(command: str, sids: Sequence[str] | None, provisioner: str | None, *, every: bool) -> list[str]:
    """The sids that are meant, each once; '' where it is all of something."""
    if [bool(sids), every, provisioner is not None].count(True) != 1:
        raise UsageError(f"{command} wants either SIDs, or --provisioner NAME, or --all")
    check_utf8("SID", sids or [])
    check_utf8("--provisioner", [provisioner or ""])
    if sids and "" in sids:
        raise UsageError("a SID is empty")
    return list(dict.fromkeys(sids)) if sids else [""]
