"""What became of the releases that earlier runs began and never saw the end of. Reads, and changes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

from autorelease.journal import JournalReader, OpenIntent
from autorelease.ledger import Ledger
from autorelease.model import Allocation, ErrorCode, Finding, InvalidRow, Outcome, RawRow, ReleaseError


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What the open intents of earlier ticks turned out to be."""

    released: Sequence[OpenIntent]
    conflicts: Sequence[tuple[OpenIntent, Finding]]


def unfinished_work(ledger: Ledger, journal: JournalReader) -> Unfinished:
    """Look up what became of the releases that earlier ticks began and never saw the end of."""
    released, conflicts = [], []
    for intent in journal.open_intents():
        row = ledger.read(intent.sid)
        if isinstance(row, Allocation) and row.released:
            released.append(intent)
        elif not _is_still_meant(row, intent):
            conflicts.append((intent, _conflict(intent, row)))
    return Unfinished(released, conflicts)


def _is_still_meant(row: Allocation | InvalidRow | None, intent: OpenIntent) -> bool:
    """Whether the row still stands for the release that was begun: if so it is planned as any other."""
    if not isinstance(row, Allocation) or row.settled:
        return False
    begun = (intent.expires_at, intent.provisioner, intent.vm_ref)
    return (row.expires_at, row.provisioner, row.vm_ref) == begun


def _conflict(intent: OpenIntent, row: Allocation | InvalidRow | None) -> Finding:
    happened = "is gone from the table"
    if isinstance(row, InvalidRow):
        happened = f"is invalid now ({row.reason})"
    elif row is not None:
        renewed = "was renewed since" if row.expires_at != intent.expires_at else "names another VM now"
        happened = f"is {row.status!r} now" if row.settled else renewed
    message = (
        f"a release was begun at {intent.begun_at:%Y-%m-%d %H:%M:%S}Z, its end is unknown, and the row {happened}: "
        "the VM may be gone while its owner pays"
    )
    allocation = row if isinstance(row, Allocation) else _vanished(intent)
    error = ReleaseError(
        sid=intent.sid,
        provisioner=intent.provisioner,
        code=ErrorCode.CONFLICT,
        message=message,
        retryable=False,
        attempts=0,
        next_attempt_at=None,
    )
    return Finding(allocation, Outcome.FAILED, error=error)


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
