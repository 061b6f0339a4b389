"""A planned allocation as the columns of a table, and back: it comes out as it went in. Pure, no database.

Records are built by position, and what is nearly always the same is looked up: this is done once for each due row.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from autorelease.model import (
    NOTHING_KNOWN,
    Allocation,
    Answer,
    Attempts,
    Hold,
    Known,
    MadeFor,
    Planned,
    RawRow,
    RawValue,
    SkipReason,
)

STORED = (
    *("sid", "status", "expires", "settled", "vm_ref", "raw_sid", "raw_status", "raw_expires", "released"),
    *("provisioner", "owner", "product", "vm_uid", "skip"),
)
# Those at the end of STORED that most rows do not have.
RARE = ("vm_uid", "skip")
KNOWN = (
    *("intent", "intent_run", "intent_under", "is_orphaned", "accepted", "accepted_under", "was_released"),
    *("last_skip", "is_admitted"),
)
ATTEMPTS = ("failed_ticks", "pending_ticks", "next_attempt", "is_quarantined", "last_error")
HOLD = (
    *("hold_sid", "hold_at", "hold_until", "hold_reason", "hold_actor", "hold_ended", "hold_provisioner"),
    *("held_provisioner", "held_vm_ref", "held_vm_uid", "held_owner"),
)
FACTS = (*KNOWN, *ATTEMPTS, *HOLD)
RECORD = ("is_tagged", *STORED)

ZERO = datetime.min.replace(tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
TRUTH = (False, True)
SKIPS: dict[str | None, SkipReason | None] = {None: None, **{reason.value: reason for reason in SkipReason}}
ANSWERS: dict[str | None, Answer | None] = {None: None, **{answer.value: answer for answer in Answer}}
NO_ATTEMPTS = (None,) * len(ATTEMPTS)
NO_HOLD = (None,) * len(HOLD)
NOT_MADE_FOR = (None,) * 4
OF_ATTEMPTS = slice(len(KNOWN), len(KNOWN) + len(ATTEMPTS))
OF_HOLD = slice(OF_ATTEMPTS.stop, len(FACTS))

OF_TEXT = b"t"
OF_BYTES = b"b"


def stored_values(planned: Planned) -> tuple[RawValue, ...]:
    """What the ledger says of it, and whether it is skipped: the values of STORED."""
    allocation, skip = planned.allocation, planned.skip
    raw = allocation.raw
    # An int for each bool and a str for each enum: for every other kind of value sqlite3 looks for an adapter.
    return (
        allocation.sid,
        allocation.status,
        microseconds(allocation.expires_at),
        1 if allocation.settled else 0,
        allocation.vm_ref,
        raw.sid,
        raw.status,
        raw.expires_at,
        1 if allocation.released else 0,
        allocation.provisioner,
        allocation.owner,
        allocation.plan,
        allocation.vm_uid,
        skip and skip.value,
    )


def fact_values(known: Known) -> tuple[RawValue, ...]:
    """What the journal says of it: the values of FACTS."""
    return (
        1 if known.intent else 0,
        known.intent_run,
        known.intent_under,
        1 if known.is_orphaned else 0,
        known.accepted and known.accepted.value,
        known.accepted_under,
        1 if known.released else 0,
        known.skipped,
        1 if known.is_admitted else 0,
        *(_attempts_values(known.attempts) if known.attempts else NO_ATTEMPTS),
        *(_hold_values(known.hold) if known.hold else NO_HOLD),
    )


def _attempts_values(attempts: Attempts) -> tuple[RawValue, ...]:
    return (
        attempts.failed_ticks,
        attempts.pending_ticks,
        microseconds(attempts.next_attempt_at),
        1 if attempts.quarantined else 0,
        attempts.last_error,
    )


def _hold_values(hold: Hold) -> tuple[RawValue, ...]:
    return (
        hold.sid,
        microseconds(hold.held_at),
        microseconds(hold.until),
        hold.reason,
        hold.actor,
        microseconds(hold.ended_at),
        hold.provisioner,
        *((of.provisioner, of.vm_ref, of.vm_uid, of.owner) if (of := hold.made_for) else NOT_MADE_FOR),
    )


def planned_of(row: Sequence[Any], facts: Sequence[Any] | None = None) -> Planned:
    """The planned allocation whose values of RECORD these are. facts: those of FACTS; None: nothing is known of it."""
    if row[0]:
        row, facts = [_untagged(value) for value in row], facts and [_untagged(value) for value in facts]
    (sid, status, expires, settled, vm_ref, raw_sid, raw_status, raw_expires, released) = row[1:10]
    provisioner, owner, plan, vm_uid, skip = row[10:15]
    raw = RawRow(raw_sid, raw_status, raw_expires)
    at, is_settled, is_released = instant(expires), TRUTH[settled], TRUTH[released]
    allocation = Allocation(sid, status, at, is_settled, vm_ref, raw, is_released, provisioner, vm_uid, owner, plan)
    return Planned(allocation, NOTHING_KNOWN if facts is None else _known(facts), SKIPS[skip])


def _known(values: Sequence[Any]) -> Known:
    (intent, run, under, is_orphaned, accepted, accepted_under, released, skipped, is_admitted) = values[: len(KNOWN)]
    attempts, hold = values[OF_ATTEMPTS], values[OF_HOLD]
    return Known(
        _attempts(*attempts) if attempts[0] is not None else None,
        _hold(*hold) if hold[0] is not None else None,
        TRUTH[intent],
        run,
        under,
        TRUTH[is_orphaned],
        ANSWERS[accepted],
        accepted_under,
        TRUTH[released],
        skipped,
        TRUTH[is_admitted],
    )


def _attempts(failed: int, pending: int, next_at: int | None, is_quarantined: int, error: str | None) -> Attempts:
    return Attempts(failed, pending, instant(next_at), TRUTH[is_quarantined], error)


def _hold(sid: str, held: int, until: int | None, reason: str, actor: str, ended: int | None, *of: str | None) -> Hold:
    provisioner, for_provisioner, vm_ref, vm_uid, owner = of
    made_for = None
    if for_provisioner is not None and vm_ref is not None:
        made_for = MadeFor(for_provisioner, vm_ref, vm_uid, owner)
    return Hold(sid, _instant(held), instant(until), reason, actor, instant(ended), provisioner, made_for)


def microseconds(instant: datetime | None) -> int | None:
    """An instant as a number, without loss: quicker to make than a text, and to be sorted by."""
    return None if instant is None else (instant - ZERO) // MICROSECOND


def instant(stored: int | None) -> datetime | None:
    """The instant that `microseconds` made this of."""
    return None if stored is None else _instant(stored)


def _instant(stored: int) -> datetime:
    return ZERO + timedelta(0, 0, stored)


# --- text that is no text to SQLite ---------------------------------------------------------------------------------


def is_storable(value: RawValue) -> bool:
    """Whether SQLite can have it: bytes that are no UTF-8 come from the ledger as text of lone surrogates."""
    try:
        str.encode(value) if isinstance(value, str) else None
    except UnicodeEncodeError:
        return False
    return True


def tagged_text(text: str | None) -> str | bytes | None:
    """What is stored for a text: the text itself, where SQLite can have it. So two that are equal are stored alike."""
    return text if text is None or is_storable(text) else OF_TEXT + text.encode("utf-8", "surrogatepass")


def tagged(values: Iterable[RawValue]) -> list[RawValue]:
    """A row in which some text cannot be stored: that is bytes with a tag, and what is bytes has another tag."""
    return [
        OF_BYTES + value if isinstance(value, bytes) else tagged_text(value) if isinstance(value, str) else value
        for value in values
    ]


def text_of(stored: str | bytes) -> str:
    """The text that `tagged_text` stored so."""
    return stored if isinstance(stored, str) else stored[1:].decode("utf-8", "surrogatepass")


def _untagged(stored: RawValue) -> RawValue:
    if not isinstance(stored, bytes):
        return stored
    return text_of(stored) if stored.startswith(OF_TEXT) else stored[1:]
