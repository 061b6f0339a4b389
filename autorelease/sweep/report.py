"""A tick in numbers: counts the findings, derives the exit code, and makes the object of `tick --json`. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Required, TypedDict, Unpack

import msgspec

from autorelease.errors import AutoreleaseError, ExitCode, IdentityError
from autorelease.model import (
    ErrorCode,
    Finding,
    InvalidRow,
    Outcome,
    Refusal,
    ReleaseError,
    SkipReason,
    rfc3339,
)
from autorelease.rules.expiry import overdue
from autorelease.rules.plan import HARMLESS
from autorelease.sweep.edge.stop import DEADLINE, SIGNALS

LISTED = 1000
TICK_SCHEMA = "autorelease.tick/1"
ERROR_SCHEMA = "autorelease.error/1"


class TickReport(msgspec.Struct, frozen=True):
    """What one tick saw and did.

    rows_expired: counted by the plan; outcomes: counted from the findings. That the two agree is the identity.
    rows_acknowledged: the invalid rows that are held. is_ordered: an operator named the rows, so that each one that was
    skipped, for whatever reason, is one that did not go as it should.
    lost: the ledger or the journal could not be written to the end, or hides rows. unproven: answers that were not
    believed. audited_at: when the last look at the whole ledger ended; None: there was none.
    """

    tick: str
    now: datetime
    started_at: datetime
    finished_at: datetime
    dry_run: bool
    rows_examined: int
    rows_invalid: int
    rows_expired: int
    outcomes: Mapping[Outcome, int]
    skipped: Mapping[SkipReason, int]
    rows_quarantined: int
    oldest_overdue_seconds: int
    refused: Sequence[Refusal] = ()
    down: Mapping[str, str] = msgspec.field(default_factory=dict)
    errors: Sequence[ReleaseError] = ()
    invalid: Sequence[InvalidRow] = ()
    rows_acknowledged: int = 0
    audited_at: datetime | None = None
    unproven: int = 0
    stopped_by: str | None = None
    lost: str | None = None
    is_ordered: bool = False
    truncated: bool = False


class Tally(msgspec.Struct):
    """The findings of one tick, counted as they come."""

    now: datetime
    grace: timedelta
    outcomes: Counter[Outcome] = msgspec.field(default_factory=Counter)
    skipped: Counter[SkipReason] = msgspec.field(default_factory=Counter)
    quarantined: int = 0
    oldest_overdue: timedelta = timedelta(0)
    errors: list[ReleaseError] = msgspec.field(default_factory=list)

    def add(self, finding: Finding) -> None:
        """Count one finding."""
        self.outcomes[finding.outcome] += 1
        if finding.reason is not None:
            self.skipped[finding.reason] += 1
        if finding.error is not None and len(self.errors) < LISTED:
            self.errors.append(finding.error)
        self.quarantined += finding.quarantined
        is_conflict = finding.error is not None and finding.error.code is ErrorCode.CONFLICT
        if finding.reason is not SkipReason.HELD and not is_conflict:
            self.see_expiry(finding.allocation.expires_at)

    def add_waiting(self, reason: SkipReason, rows: int) -> None:
        """Count so many rows that are left alone for one reason; their expiries are seen by themselves."""
        if rows:
            self.outcomes[Outcome.SKIPPED] += rows
            self.skipped[reason] += rows

    def see_expiry(self, expires_at: datetime | None) -> None:
        """An expired row that is not held has this expiry."""
        self.oldest_overdue = max(self.oldest_overdue, overdue(expires_at, self.now, self.grace))


class Parts(TypedDict, total=False):
    """What a report says beside its tally, each under the name that it has there."""

    tick: Required[str]
    started_at: Required[datetime]
    finished_at: Required[datetime]
    dry_run: Required[bool]
    rows_examined: Required[int]
    rows_expired: Required[int]
    rows_invalid: Required[int]
    invalid: Required[Sequence[InvalidRow]]
    rows_acknowledged: int
    audited_at: datetime | None
    refused: Sequence[Refusal]
    down: Mapping[str, str]
    unproven: int
    stopped_by: str | None
    lost: str | None
    is_ordered: bool


def make_report(tally: Tally, **parts: Unpack[Parts]) -> TickReport:
    """The report of a tick. Raises IdentityError where its counters do not add up."""
    listed = tuple(parts["invalid"][:LISTED])
    parts["invalid"] = listed
    parts["refused"] = tuple(parts.get("refused", ()))
    parts["down"] = dict(parts.get("down", {}))
    report = TickReport(
        **parts,
        now=tally.now,
        outcomes=dict(tally.outcomes),
        skipped=dict(tally.skipped),
        rows_quarantined=tally.quarantined,
        oldest_overdue_seconds=int(tally.oldest_overdue.total_seconds()),
        errors=tuple(tally.errors),
        truncated=parts["rows_invalid"] > len(listed) or tally.outcomes[Outcome.FAILED] > len(tally.errors),
    )
    check_identity(report)
    return report


def check_identity(report: TickReport) -> None:
    """Raise IdentityError unless every expired row came to exactly one end, and every skipped one has a reason."""
    ends, reasons = sum(report.outcomes.values()), sum(report.skipped.values())
    if report.rows_expired != ends or reasons != report.outcomes.get(Outcome.SKIPPED, 0):
        raise IdentityError(
            f"{IdentityError.__doc__} {report.rows_expired} rows expired, {ends} ends "
            f"({dict(report.outcomes)}), {reasons} reasons to skip"
        )


def exit_code(report: TickReport) -> ExitCode:
    """The exit code that follows from a report: 7 alone, then 5 before signals before 8 before 3."""
    if report.refused:
        return ExitCode.REFUSED
    if report.lost is not None:
        return ExitCode.UNUSABLE
    if report.stopped_by is not None and report.stopped_by != DEADLINE:
        return next(code for number, code in SIGNALS.items() if number.name == report.stopped_by)
    is_without = not report.dry_run and report.skipped.get(SkipReason.NO_PROVISIONER)
    if report.down or report.unproven or is_without:
        return ExitCode.PROVISIONER_DOWN
    return ExitCode.NOT_ALL_WELL if _is_something_wrong(report) else ExitCode.OK


def _is_something_wrong(report: TickReport) -> bool:
    harmless = frozenset() if report.is_ordered else HARMLESS
    wrong_skips = sum(count for reason, count in report.skipped.items() if reason not in harmless)
    return bool(report.rows_invalid > report.rows_acknowledged or report.outcomes.get(Outcome.FAILED) or wrong_skips)


def status(report: TickReport) -> str:
    """The exit code in a word."""
    code = exit_code(report)
    if code is ExitCode.OK:
        return "success"
    if code is ExitCode.REFUSED:
        return "refused"
    return "stopped" if report.stopped_by is not None else "partial"


def tick_object(report: TickReport) -> dict[str, Any]:
    """The object that `tick --json` prints; its JSON Schema is docs/schema/tick.json."""
    counted = {f"rows_{outcome}": report.outcomes.get(outcome, 0) for outcome in Outcome}
    return {
        "schema": TICK_SCHEMA,
        "tick": report.tick,
        "now": rfc3339(report.now),
        "started_at": rfc3339(report.started_at),
        "finished_at": rfc3339(report.finished_at),
        "dry_run": report.dry_run,
        "status": status(report),
        "exit_code": int(exit_code(report)),
        "stopped_by": report.stopped_by,
        "rows_examined": report.rows_examined,
        "rows_invalid": report.rows_invalid,
        "rows_expired": report.rows_expired,
        **counted,
        "rows_quarantined": report.rows_quarantined,
        "skipped": {str(reason): report.skipped.get(reason, 0) for reason in SkipReason},
        "oldest_overdue_seconds": report.oldest_overdue_seconds,
        "refused": [{"code": refusal.code, "message": refusal.message} for refusal in report.refused],
        "down": [{"provisioner": name, "message": message} for name, message in report.down.items()],
        "audited_at": rfc3339(report.audited_at) if report.audited_at else None,
        "errors": [_error_entry(error) for error in report.errors],
        "invalid": [{"sid": row.sid, "reason": row.reason} for row in report.invalid],
        "truncated": report.truncated,
    }


def _error_entry(error: ReleaseError) -> dict[str, Any]:
    return {
        "sid": error.sid,
        "provisioner": error.provisioner,
        "code": str(error.code),
        "message": error.message,
        "retryable": error.retryable,
        "attempts": error.attempts,
        "next_attempt_at": rfc3339(error.next_attempt_at) if error.next_attempt_at else None,
    }


def error_object(error: AutoreleaseError) -> dict[str, Any]:
    """The object that stands for a tick that could not begin, or not go on."""
    return {
        "schema": ERROR_SCHEMA,
        "exit_code": int(error.exit_code),
        "error": error.error,
        "message": str(error),
    }
