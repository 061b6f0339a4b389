"""`history`: the ticks and events of the journal."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autorelease.cli.shared import FORMAT, Shared, check_utf8, shared
from autorelease.errors import UsageError
from autorelease.model import SkipReason, rfc3339
from autorelease.render import Form, TextForm, default_form, show_json, show_rows

if TYPE_CHECKING:
    from autorelease.journal import JournalReader, PastTick

TICKS = (
    "tick",
    "started_at",
    "finished_at",
    "status",
    "exit_code",
    "rows_examined",
    "rows_expired",
    "rows_released",
    "rows_already_released",
    "rows_pending",
    "rows_skipped",
    "rows_failed",
    "rows_invalid",
    "kind",
    "actor",
)
EVENTS = (
    "at",
    "tick",
    "sid",
    "event",
    "outcome",
    "reason",
    "evidence",
    "expires_at",
    "now",
    "error",
    "duration_ms",
)
# What a narrow terminal does without, before any id is folded.
SPARE_OF_TICKS = (
    *("finished_at", "actor", "kind", "rows_pending", "rows_already_released", "started_at", "rows_examined"),
    *("rows_skipped", "rows_invalid"),
)
SPARE_OF_EVENTS = ("now", "duration_ms", "expires_at", "tick")


def history(
    context: typer.Context,
    *,
    sid: Annotated[str | None, typer.Option(metavar="SID", help="The events of this allocation.")] = None,
    tick: Annotated[str | None, typer.Option(metavar="ID", help="This tick and its events.")] = None,
    form: Annotated[TextForm | None, FORMAT] = None,
) -> None:
    """Show the ticks, newest first; of one allocation or of one tick, the events.

    Example: autorelease history --sid vm-1042
    """
    shape = Form(form) if form else default_form()
    from autorelease.journal import open_journal_reader

    options = shared(context)
    with ExitStack() as stack:
        journal = open_journal_reader(options.settings())
        stack.callback(journal.close)
        _check_known(journal, options, sid, tick)
        if shape is Form.JSON:
            head = {"schema": "autorelease.history/1"}
            show_json(head, {"ticks": _ticks(journal, sid, tick), "events": journal.events(sid=sid, tick=tick)})
        elif sid is None and tick is None:
            show_rows(shape, TICKS, _ticks(journal, None, None), state="status", spare=SPARE_OF_TICKS)
        else:
            show_rows(shape, EVENTS, journal.events(sid=sid, tick=tick), state="outcome", spare=SPARE_OF_EVENTS)


def _check_known(journal: "JournalReader", options: Shared, sid: str | None, tick: str | None) -> None:
    """Raise UsageError for a tick or an allocation that nobody knows: an empty answer would say "nothing happened"."""
    check_utf8("what is asked for", [given for given in (sid, tick) if given is not None])
    if tick is not None and next(iter(journal.ticks(tick)), None) is None:
        raise UsageError(f"no tick {tick!r} is in the journal: see autorelease history")
    if sid is not None and next(iter(journal.events(sid=sid)), None) is None and not _is_in_ledger(options, sid):
        raise UsageError(f"no allocation {sid!r} is in the journal or in the ledger")


def _is_in_ledger(options: Shared, sid: str) -> bool:
    from autorelease.ledger import open_ledger

    ledger = open_ledger(options.settings(), read_only=True)
    try:
        return ledger.read(sid) is not None
    finally:
        ledger.close()


def _ticks(journal: "JournalReader", sid: str | None, tick: str | None) -> Iterator[dict[str, Any]]:
    wanted = {event["tick"] for event in journal.events(sid=sid, tick=tick)} if sid is not None else None
    for past in journal.ticks(tick):
        if wanted is None or past.start.tick in wanted:
            yield _tick(past)


def _tick(past: "PastTick") -> dict[str, Any]:
    start = past.start
    report = dict(past.report or {})
    if report.get("schema") == "autorelease.error/1":
        report = {"error": report["error"], "message": report["message"]}
    elif report:
        # What an older version wrote down has fewer reasons.
        report["skipped"] = {reason.value: report["skipped"].get(reason, 0) for reason in SkipReason}
        # Reports of before there were audits do not have it.
        report.setdefault("audited_at", None)
    return {
        "tick": start.tick,
        "now": rfc3339(start.now),
        "started_at": rfc3339(start.started_at),
        "finished_at": rfc3339(past.finished_at) if past.finished_at else None,
        "status": past.status or "running",
        "exit_code": past.exit_code,
        **report,
        "kind": start.kind,
        "reason": start.reason,
        "host": start.host,
        "version": start.version,
        "actor": start.actor,
    }
