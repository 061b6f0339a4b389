"""What the tables of the journal hold, as our words, and back. Pure, but for the rows that it is given."""

import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

from autorelease.journal import OpenIntent, PastTick, TickKind, TickStart
from autorelease.model import Allocation, Answer, Attempts, Hold, Known, MadeFor, Outcome, rfc3339

ENDED = (Outcome.RELEASED, Outcome.ALREADY_RELEASED)
TRIED = (Outcome.FAILED, Outcome.PENDING)
START_FIELDS = TickStart.__struct_fields__
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
    (
        *START_FIELDS,
        "finished_at",
        "status",
        "exit_code",
        "admitted",
        "report",
        "confirmable",
        "invalid_list",
        "errors_list",
    )
)
# Up to 16 bytes for each row of a plan: read for the guard, and by nobody who only shows ticks.
WITH_PLANS = f"{TICK_COLUMNS}, admission, unproven"
WITHOUT_PLANS = f"{TICK_COLUMNS}, NULL AS admission, NULL AS unproven"
HOLD_COLUMNS = (
    "sid, held_at, until, reason, actor, ended_at, provisioner, for_provisioner, for_vm_ref, for_vm_uid, for_owner"
)
# Of the run that left the release open: whether it was killed.
MEMORY_COLUMNS = "attempts.*, (SELECT status FROM ticks WHERE tick = intent_run) AS run_status"
CRASHED = "crashed"
# That it was released once is never forgotten: a row that comes back stays a resurrected one, whatever an operator's
# release of it came to.
RELEASED_STAYS = "CASE WHEN outcome IN ('released', 'already_released') THEN outcome ELSE ? END"


# What was begun and what was accepted are of one VM: they end together, and say nothing of another one.
OF_INTENT = ("intent_at", "intent_run", "intent_under", "begun_at", "begun_run", "accepted", "accepted_under")
_IS_SAME_VM = "(provisioner = excluded.provisioner AND vm_ref = excluded.vm_ref)"
_HIDES_NOTHING = f"intent_at IS NULL OR {_IS_SAME_VM}"
# Where the row names another VM than the one whose release is open, that one is a conflict from now on.
RENAMED = ", ".join(
    (
        "provisioner = excluded.provisioner, vm_ref = excluded.vm_ref",
        f"conflict_at = CASE WHEN {_HIDES_NOTHING} THEN conflict_at ELSE coalesce(conflict_at, ?) END",
        *(f"{column} = CASE WHEN {_IS_SAME_VM} THEN {column} END" for column in OF_INTENT),
    )
)
# Of most rows the upsert has nothing to change.
IS_RENAMED = f"NOT {_IS_SAME_VM}"
# A call that began after the conflict was found, in a run that has not ended, is none of what is acknowledged.
BEGUN_SINCE = (
    "conflict_at IS NOT NULL AND begun_since_conflict AND begun_run IN (SELECT tick FROM ticks WHERE status IS NULL)"
)
ACKNOWLEDGED = "conflict_at = NULL, skipped = NULL, " + ", ".join(
    f"{column} = CASE WHEN {BEGUN_SINCE} THEN {column} END" for column in OF_INTENT
)


# Whose intent it is where a "not found" was written down for it: no run's, so that nothing is expected of it.
NO_RUN = ""
# And once more, where it was begun again since: that call may have gone through, whatever was missed before.
NO_RUN_BEGUN = "-"
BEGUN_AFTER_MISS = f"WHEN intent_run = '{NO_RUN}' THEN '{NO_RUN_BEGUN}'"


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
        provisioner=row["provisioner"],
        made_for=_read_made_for(row),
    )


def _read_made_for(row: sqlite3.Row) -> MadeFor | None:
    if row["for_vm_ref"] is None:
        return None
    return MadeFor(row["for_provisioner"], row["for_vm_ref"], row["for_vm_uid"], row["for_owner"])


def read_start(row: sqlite3.Row) -> TickStart:
    values = {name: row[name] for name in START_FIELDS}
    values["kind"] = TickKind(values["kind"])
    for name in ("now", "started_at", "ends_by"):
        values[name] = as_instant(values[name])
    return TickStart(**values)


def read_past_tick(row: sqlite3.Row, report: Mapping[str, Any] | None) -> PastTick:
    return PastTick(
        start=read_start(row),
        finished_at=as_instant(row["finished_at"] or ""),
        status=row["status"],
        exit_code=row["exit_code"],
        admitted=bool(row["admitted"]),
        report=report,
        confirmable=row["confirmable"],
        admission=row["admission"],
        unproven=row["unproven"],
    )


def read_open_intent(row: sqlite3.Row) -> OpenIntent:
    # A conflict that came after its intent was closed has the instant of its own alone.
    begun_at = as_instant(row["intent_at"] or row["conflict_at"])
    assert begun_at is not None  # noqa: S101 - one of the two is what it was found by
    return OpenIntent(
        sid=row["sid"],
        expires_at=as_instant(row["expires_at"]),
        provisioner=row["provisioner"],
        vm_ref=row["vm_ref"],
        begun_at=begun_at,
        is_known_conflict=row["conflict_at"] is not None,
        run=row["begun_run"],
        accepted=Answer(row["accepted"]) if row["accepted"] else None,
        is_missed=row["intent_run"] == NO_RUN,
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
        intent_run=row["intent_run"],
        intent_under=row["intent_under"],
        is_orphaned=row["run_status"] == CRASHED,
        accepted=Answer(row["accepted"]) if row["accepted"] else None,
        accepted_under=row["accepted_under"],
        released=row["outcome"] in ENDED,
        skipped=row["skipped"],
    )


def of_vm(known: Known, row: sqlite3.Row, allocation: Allocation) -> Known:
    """What is known of a row, without what was begun or accepted for another VM than it names now."""
    if (row["provisioner"], row["vm_ref"]) == (allocation.provisioner, allocation.vm_ref):
        return known
    return replace(
        known,
        intent=False,
        intent_run=None,
        intent_under=None,
        is_orphaned=False,
        accepted=None,
        accepted_under=None,
    )


def as_text(instant: datetime) -> str:
    # Always six digits, so that the texts sort as the instants do.
    return rfc3339(instant, digits=6)


def as_key(expires_at: datetime | None) -> str:
    return as_text(expires_at) if expires_at else ""


def as_instant(text: str) -> datetime | None:
    return datetime.fromisoformat(text).astimezone(UTC) if text else None
