"""What became of the releases that earlier runs began and never saw the end of. Reads, and changes nothing."""

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice
from shlex import quote

import msgspec

from autorelease.journal import JournalReader, OpenIntent
from autorelease.ledger import Ledger
from autorelease.model import Allocation, Answer, ErrorCode, Finding, InvalidRow, Outcome, RawRow, ReleaseError
from autorelease.rules.expiry import find_expired

Row = Allocation | InvalidRow | None
PAGE_ROWS = 500
FEARED = "the VM may be gone while its owner pays"


class Unfinished(msgspec.Struct, frozen=True):
    """What the open intents of earlier runs turned out to be; what is in no list is planned like any other row.

    void: a "not found" that nobody judged, of a row that has changed since: nothing of ours was released.
    """

    released: Sequence[tuple[OpenIntent, str]]
    conflicts: Sequence[tuple[OpenIntent, Finding]]
    void: Sequence[OpenIntent] = ()


class Moment(msgspec.Struct, frozen=True):
    """When open intents are looked at. running: the runs that are under way now, whose intents are their own affair."""

    now: datetime
    grace: timedelta
    running: Collection[str] = ()


def unfinished_work(
    ledger: Ledger, journal: JournalReader, moment: Moment, sids: Collection[str] | None = None
) -> Unfinished:
    """Look up what became of them. A conflict that is known stays one until somebody acknowledges it.

    sids: of these alone; None: of all.
    """
    released: list[tuple[OpenIntent, str]] = []
    conflicts: list[tuple[OpenIntent, Finding]] = []
    void: list[OpenIntent] = []
    intents = (intent for intent in journal.open_intents() if sids is None or intent.sid in sids)
    for intent, row in _with_rows(ledger, intents):
        if intent.is_known_conflict:
            known = _what_happened(intent, row, moment) or "the row had changed by then"
            conflicts.append((intent, _finding(intent, row, known)))
        elif (evidence := _end(intent, row)) is not None:
            # What a run that is under way has stamped it writes down itself.
            released += [(intent, evidence)] if intent.run not in moment.running else []
        elif (happened := _what_happened(intent, row, moment)) is None:
            continue
        elif intent.is_missed:
            void += [intent] if intent.run not in moment.running else []
        else:
            conflicts.append((intent, _finding(intent, row, happened)))
    return Unfinished(released, conflicts, void)


def _with_rows(ledger: Ledger, intents: Iterator[OpenIntent]) -> Iterator[tuple[OpenIntent, Row]]:
    """Each with its row as it is now, a page at a time."""
    while page := list(islice(intents, PAGE_ROWS)):
        rows = ledger.read_many([intent.sid for intent in page])
        yield from ((intent, rows.get(intent.sid)) for intent in page)


def _end(intent: OpenIntent, row: Row) -> str | None:
    """By what the release is known to have come to its end; None: it is not known."""
    if isinstance(row, Allocation) and row.released:
        return "the row is Released"
    # Its own application has tidied up after what the provisioner had confirmed.
    if intent.accepted is Answer.RELEASED:
        if row is None:
            return "it was released, and its row is gone from the table"
        if isinstance(row, Allocation) and row.settled:
            return f"it was released, and its row is {row.status!r}"
    return None


def _what_happened(intent: OpenIntent, row: Row, moment: Moment) -> str | None:
    """What makes an open intent a conflict; None: nothing does."""
    if row is None:
        return "the row is gone from the table"
    if isinstance(row, InvalidRow):
        return f"the row is invalid now ({row.reason})"
    if row.settled:
        return f"the row is {row.status!r} now"
    if row.expires_at != intent.expires_at:
        return "the row was renewed since"
    if (row.provisioner, row.vm_ref) != (intent.provisioner, intent.vm_ref):
        return "the row names another VM now"
    has_expired = any(find_expired([row], moment.now, grace=moment.grace))
    is_followed = intent.accepted is Answer.PENDING or intent.run in moment.running
    return None if has_expired or is_followed else "the row has not expired"


def _finding(intent: OpenIntent, row: Row, happened: str) -> Finding:
    message = (
        f"a release was begun at {intent.begun_at:%Y-%m-%d %H:%M:%S}Z, its end is unknown, and {happened}: {FEARED}"
    )
    if isinstance(row, Allocation) and row.released:
        # What was feared is over, and was never looked at.
        message = (
            f"a release that was begun at {intent.begun_at:%Y-%m-%d %H:%M:%S}Z was a conflict, which nobody has "
            f"acknowledged; the row is {row.status!r} now: look whether its VM is gone, then: autorelease retry "
            f"{quote(intent.sid)}"
        )
    error = ReleaseError(
        sid=intent.sid,
        provisioner=intent.provisioner,
        code=ErrorCode.CONFLICT,
        message=message,
        retryable=False,
        attempts=0,
        next_attempt_at=None,
    )
    return Finding(row if isinstance(row, Allocation) else _vanished(intent), Outcome.FAILED, error=error)


def _vanished(intent: OpenIntent) -> Allocation:
    return Allocation(
        sid=intent.sid,
        status="",
        expires_at=intent.expires_at,
        settled=False,
        vm_ref=intent.vm_ref,
        raw=RawRow(None, None, None),
        provisioner=intent.provisioner,
    )
