"""What the tables of the journal hold, as our words, and back. Pure, but for the rows that it is given."""

import json
import sqlite3
from dataclasses import fields
from datetime import UTC, datetime

from autorelease.journal import Event, PastTick, Step, TickKind, TickStart
from autorelease.model import Attempts, ErrorCode, Hold, Known, Outcome, rfc3339

ENDED = (Outcome.RELEASED, Outcome.ALREADY_RELEASED)
TRIED = (Outcome.FAILED, Outcome.PENDING)
START_FIELDS = tuple(field.name for field in fields(TickStart))
HISTORY_FIELDS = (
    "at",
    "tick",
    "sid",
    "event",
    "outcome",
    "reason",
    "evidence",
    "expires_at",
    "error",
    "duration_ms",
)

TICK_COLUMNS = "seq, " + ", ".join(
    (*START_FIELDS, "finished_at", "status", "exit_code", "admitted", "report", "confirmable")
)


HOLD_COLUMNS = "sid, held_at, until, reason, actor, ended_at"


def read_hold(row: sqlite3.Row) -> Hold:
    held_at = as_instant(row["held_at"])
    assert held_at is not None  # noqa: S101 - NOT NULL
    return Hold(
        sid=row["sid"],
        held_at=held_at,
        until=as_instant(row["until"] or ""),
        reason=row["reason"],
        actor=row["actor"],
        ended_at=as_instant(row["ended_at"] or ""),
    )


def read_past_tick(row: sqlite3.Row) -> PastTick:
    values = {name: row[name] for name in START_FIELDS}
    values["kind"] = TickKind(values["kind"])
    for name in ("now", "started_at", "ends_by"):
        values[name] = as_instant(values[name])
    return PastTick(
        start=TickStart(**values),
        finished_at=as_instant(row["finished_at"] or ""),
        status=row["status"],
        exit_code=row["exit_code"],
        admitted=bool(row["admitted"]),
        report=json.loads(row["report"]) if row["report"] else None,
        confirmable=row["confirmable"],
    )


def read_known(row: sqlite3.Row) -> Known:
    # What `retry` forgets are the failures, not that there was a try, which the guard has admitted.
    tried = row["failed_ticks"] or row["pending_ticks"] or row["outcome"] in TRIED
    attempts = Attempts(
        failed_ticks=row["failed_ticks"],
        pending_ticks=row["pending_ticks"],
        next_attempt_at=as_instant(row["next_attempt_at"] or ""),
        quarantined=bool(row["quarantined"]),
        last_error=row["last_error"],
    )
    return Known(
        attempts=attempts if tried else None,
        intent=row["intent_at"] is not None,
        released=row["outcome"] in ENDED,
        skipped=row["skipped"],
    )


def changes_of(event: Event) -> dict[str, str | int | None]:
    """What an event changes in the memory of its (sid, expires_at)."""
    if event.step is Step.INTENT:
        return {"intent_at": as_text(event.at), "skipped": None}
    changes: dict[str, str | int | None] = {}
    if not event.keeps_intent:
        changes["intent_at"] = None
    if event.step is Step.SKIP:
        changes["skipped"] = event.reason
    elif event.step is Step.OUTCOME:
        changes["outcome"] = event.outcome
        # A conflict is found anew by every tick and written down once.
        changes["skipped"] = event.reason if event.reason == ErrorCode.CONFLICT else None
    if event.attempts is not None:
        after = event.attempts
        changes |= {
            "failed_ticks": after.failed_ticks,
            "pending_ticks": after.pending_ticks,
            "next_attempt_at": as_text(after.next_attempt_at) if after.next_attempt_at else None,
            "quarantined": after.quarantined,
            "last_error": after.last_error,
        }
    return changes or {"skipped": event.reason}


def as_text(instant: datetime) -> str:
    # Always six digits, so that the texts sort as the instants do.
    return rfc3339(instant, digits=6)


def as_key(expires_at: datetime | None) -> str:
    return as_text(expires_at) if expires_at else ""


def as_instant(text: str) -> datetime | None:
    return datetime.fromisoformat(text).astimezone(UTC) if text else None
