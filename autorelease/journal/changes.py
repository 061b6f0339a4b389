"""What an event changes in the memory of its (sid, expires_at), as pieces of one UPDATE; and its line in the history.

Pure. What is NULL, or the same for all, stands in the statement: to bind a NULL takes sqlite3 ten times what it takes
to bind a text, and this is done several times for each release.
"""

from collections.abc import Iterator
from functools import cache
from itertools import compress

from autorelease.journal import Event, IntentChange, Step
from autorelease.journal.rows import BEGUN_AFTER_MISS, NO_RUN, OF_INTENT, RELEASED_STAYS, as_text
from autorelease.model import Attempts, ErrorCode

Value = str | int | None
# SQL that assigns, and what is bound in it. Of a column that is assigned twice SQLite takes the last one.
Change = tuple[str, tuple[Value, ...]]

OPENED = ", ".join(
    (
        # Whose it is was decided by the first run that left it open.
        f"intent_run = CASE WHEN intent_at IS NULL THEN ? {BEGUN_AFTER_MISS} ELSE intent_run END",
        "intent_under = CASE WHEN intent_at IS NULL THEN ? ELSE intent_under END",
        "intent_at = coalesce(intent_at, ?), begun_at = ?, begun_run = ?, begun_since_conflict = 1, skipped = NULL",
    )
)
CLOSED: Change = (", ".join(f"{column} = NULL" for column in OF_INTENT), ())
MISSED: Change = (f"intent_run = '{NO_RUN}', intent_under = '{NO_RUN}'", ())
ENDED = f"outcome = {RELEASED_STAYS}, skipped = NULL"
# A memory of its own: whatever becomes of the intent, an acknowledgement alone ends it.
IN_CONFLICT = "conflict_at = ?, begun_since_conflict = 0"
NEVER_TRIED = Attempts()
UNCHARGED: Change = (
    "failed_ticks = 0, pending_ticks = 0, next_attempt_at = NULL, quarantined = 0, last_error = NULL",
    (),
)
CHARGED = "failed_ticks = ?, pending_ticks = ?, next_attempt_at = ?, quarantined = ?, last_error = ?"

MUST = ("at", "tick", "sid", "event", "provisioner")
MAY = ("outcome", "reason", "evidence", "expires_at", "error", "duration_ms")


def changes_of(event: Event, at: str, run: str) -> Iterator[Change]:
    """What an event of this run changes. at: its instant as text."""
    if event.intent is IntentChange.OPENED:
        yield OPENED, (run, event.fingerprint, at, at, run)
    elif event.intent is IntentChange.MISSED:
        yield MISSED
    elif event.intent is IntentChange.CLOSED:
        yield CLOSED
    if event.step is Step.SKIP:
        yield "skipped = ?", (_plain(event.reason),)
    elif event.step is Step.OUTCOME:
        yield ENDED, (_plain(event.outcome),)
        if event.reason == ErrorCode.CONFLICT:
            yield IN_CONFLICT, (at,)
    if event.attempts is not None:
        yield _charge(event.attempts)
    if event.accepted is not None:
        yield "accepted = ?, accepted_under = ?", (event.accepted.value, event.fingerprint)


def _charge(after: Attempts) -> Change:
    if after == NEVER_TRIED:
        return UNCHARGED
    next_at = as_text(after.next_attempt_at) if after.next_attempt_at else None
    return CHARGED, (after.failed_ticks, after.pending_ticks, next_at, int(after.quarantined), after.last_error)


def line_of(event: Event, at: str, expires_at: str, run: str) -> tuple[tuple[str, ...], tuple[Value, ...]]:
    """Its columns in the history, and their values."""
    optional = (
        _plain(event.outcome),
        _plain(event.reason),
        event.evidence,
        expires_at or None,
        event.error,
        event.duration_ms,
    )
    present = [value for value in optional if value is not None]
    columns = _columns(*[value is not None for value in optional])
    return columns, (at, run, event.sid, event.step.value, event.provisioner, *present)


@cache
def _columns(*are_present: bool) -> tuple[str, ...]:
    return (*MUST, *compress(MAY, are_present))


def _plain(word: str | None) -> str | None:
    """An enum's word as a plain text: for every other kind of value sqlite3 looks for an adapter."""
    return None if word is None else str(word)
