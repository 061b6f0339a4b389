"""`list-expired`: what a tick would do, why not, and whether the guard would admit it."""

import logging
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from autorelease.cli.decided import check_provisioners, decided
from autorelease.cli.shared import FORMAT, TIMES, clock, moment, parse_time, shared
from autorelease.model import InvalidRow, Planned, SkipReason, rfc3339
from autorelease.render import Form, default_form, show_json, show_lines, show_rows
from autorelease.rules.expiry import overdue

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from autorelease.deciding.decide import Decision
    from autorelease.identity import References

logger = logging.getLogger(__name__)


class Listed(msgspec.Struct, frozen=True, gc=False):
    """One row as it is shown. decision: release, skip or invalid."""

    sid: str
    owner: str | None = None
    plan: str | None = None
    provisioner: str | None = None
    vm_ref: str | None = None
    status: str | None = None
    expires_at: datetime | None = None
    overdue_seconds: int | None = None
    decision: str = "invalid"
    reason: str = ""


COLUMNS = Listed.__struct_fields__
# What a narrow terminal does without, before any id is folded.
SPARE = ("status", "provisioner", "plan", "owner")
# Of rows that are all to be released.
SAME = ("reason", "decision")


def list_expired(
    context: typer.Context,
    *,
    at: Annotated[str | None, typer.Option(metavar="TIME", help=f"What if it were then: {TIMES}.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Also what is skipped, and the invalid rows.")] = False,
    form: Annotated[Form | None, FORMAT] = None,
) -> None:
    """Show what a tick would release, and whether the guard would let it.

    Example: autorelease list-expired --at +72h --all
    """
    started = clock()
    settings = shared(context).settings()
    now = parse_time(at, started) if at else started
    if settings.provisioners:
        # Without any, it shows that no row can be released.
        check_provisioners(settings)
    with decided(settings, moment(settings, now), is_hypothetical=at is not None) as (ledger, journal, decision):
        ledger.close()
        journal.close()
        rows = _rows(decision, now, settings.release.grace, ledger.references, every=every)
        _show(form or default_form(), decision, rows, SPARE if every else (*SPARE, *SAME))


def _show(form: Form, decision: "Decision", rows: Iterator[Listed], spare: "Sequence[str]") -> None:
    counts = _counts(decision)
    if form is Form.JSON:
        head = {
            "schema": "autorelease.list/1",
            "now": rfc3339(decision.now),
            "guard": {
                "admitted": not decision.refusals,
                "reasons": [{"code": refusal.code, "message": refusal.message} for refusal in decision.refusals],
            },
            "counts": counts,
        }
        show_json(head, {"rows": rows})
        return
    show_rows(form, COLUMNS, map(msgspec.to_builtins, rows), state="decision", spare=spare)
    verdict = [_verdict(decision, counts)]
    verdict += [f"refused: {refusal.code}: {refusal.message}" for refusal in decision.refusals]
    if form is Form.TABLE:
        show_lines(["", *verdict])
        return
    # In a pipe stdout is for rows alone.
    for line in verdict:
        logger.log(logging.WARNING if decision.refusals else logging.INFO, "%s", line)


def _verdict(decision: "Decision", counts: dict[str, int]) -> str:
    admitted = "refuse it" if decision.refusals else "admit it"
    return (
        f"at {rfc3339(decision.now)}: {counts['release']} to release, {counts['skip']} to skip, "
        f"{counts['invalid']} invalid, of {decision.census.rows_examined} live rows; the guard would {admitted}"
    )


def _counts(decision: "Decision") -> dict[str, int]:
    release = decision.summary.first_tries + decision.summary.repeats
    return {"release": release, "skip": decision.rows_expired - release, "invalid": decision.rows_invalid}


def _rows(
    decision: "Decision", now: datetime, grace: "timedelta", references: "References", *, every: bool
) -> Iterator[Listed]:
    for planned in decision.spool.to_release():
        yield _row(planned, now, grace, "release", "expired")
    if not every:
        return
    for planned in decision.spool.skipped():
        yield _row(planned, now, grace, "skip", _reason(planned, references))
    for _, finding in decision.unfinished.conflicts:
        message = finding.error.message if finding.error else ""
        yield _row(Planned(finding.allocation), now, grace, "skip", f"conflict: {message}")
    for row in decision.invalid:
        yield _invalid(row)


def _reason(planned: Planned, references: "References") -> str:
    """Why it is skipped. A hold that was made for another VM than the row names now says so."""
    from autorelease.inspect.holds import difference

    hold = planned.known.hold
    other = difference(hold, planned.allocation, references) if planned.skip is SkipReason.HELD and hold else None
    return f"{planned.skip}: {other}" if other else str(planned.skip)


def _row(planned: Planned, now: datetime, grace: "timedelta", decision: str, reason: str) -> Listed:
    allocation, expires_at = planned.allocation, planned.allocation.expires_at
    return Listed(
        allocation.sid,
        allocation.owner,
        allocation.plan,
        allocation.provisioner,
        allocation.vm_ref,
        allocation.status,
        expires_at,
        int(overdue(expires_at, now, grace).total_seconds()),
        decision,
        reason,
    )


def _invalid(row: InvalidRow) -> Listed:
    return Listed(row.sid, reason=row.reason)
