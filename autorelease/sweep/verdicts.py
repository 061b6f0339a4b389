"""How a piece of work can end: what is reported of it, and what is remembered. Pure."""

from datetime import datetime

import msgspec
from msgspec.structs import replace

from autorelease.errors import ProvisionerError
from autorelease.journal import Event, IntentChange, Step
from autorelease.model import (
    Allocation,
    Answer,
    Attempts,
    ErrorCode,
    Finding,
    InvalidRow,
    Outcome,
    Release,
    ReleaseError,
    Result,
    SkipReason,
)
from autorelease.rules.retry import after_failure, after_pending
from autorelease.sweep.work import Earned, Work

SHORT = 200
FEARED = "the VM may be gone while its owner pays"
Row = Allocation | InvalidRow | None


class Verdict(msgspec.Struct, frozen=True):
    """The end of one piece of work in one run. event None: the journal knows it already."""

    finding: Finding
    event: Event | None


class Charge(msgspec.Struct, frozen=True):
    """What a failure is charged by. now: of the run; jitter: 0 to 1."""

    now: datetime
    quarantine_after: int
    jitter: float


# --- what an answer is ------------------------------------------------------------------------------------------------


def earned_by(
    work: Work, release: Release, fingerprint: str | None, at: datetime, *, is_expected: bool = False
) -> Earned:
    """What an answer other than PENDING is worth.

    "Not found" is proof where the provisioner has said RELEASED or PENDING of this (sid, expires_at) before, under the
    same fingerprint, and where another row of the same VM was released in this run. is_expected: it repeats what a
    killed run began.
    """
    if release.result is Result.RELEASED:
        return Earned(Outcome.RELEASED, release.evidence, Answer.RELEASED, at)
    known = work.planned.known
    was_accepted = fingerprint is not None and known.accepted is not None and known.accepted_under == fingerprint
    if release.proof or was_accepted or work.is_twin_gone:
        return Earned(Outcome.ALREADY_RELEASED, release.evidence, Answer.PROOF, at)
    return Earned(Outcome.ALREADY_RELEASED, release.evidence, Answer.MISS, at, is_expected=is_expected)


def miss_event(work: Work, earned: Earned) -> Event:
    """Written at once: after a crash it must not be expected, and what was stamped must be remembered all the same."""
    change = IntentChange.KEPT if work.end_unknown else IntentChange.MISSED
    return replace(_event(work, Step.MISS, earned.at, intent=change), evidence=earned.evidence)


def attempt_event(work: Work, error: ProvisionerError, at: datetime) -> Event:
    """That a call failed which is not the last one of this run."""
    return replace(_event(work, Step.ATTEMPT, at), error=str(error), duration_ms=work.milliseconds_of_last)


def intent_event(work: Work, fingerprint: str | None, at: datetime) -> Event:
    """That its release is about to begin."""
    allocation = work.allocation
    return Event(
        step=Step.INTENT,
        at=at,
        sid=allocation.sid,
        expires_at=allocation.expires_at,
        provisioner=allocation.provisioner,
        vm_ref=allocation.vm_ref,
        intent=IntentChange.OPENED,
        fingerprint=fingerprint or "",
    )


# --- before the call --------------------------------------------------------------------------------------------------


def left_alone(work: Work, row: Row, at: datetime) -> Verdict:
    """Its row is not what was judged any more. row: as it is now."""
    if isinstance(row, Allocation) and row.released:
        return finished(work, Outcome.ALREADY_RELEASED, "the row is Released", at)
    if work.end_unknown:
        return conflict(work, "a release was begun, its end is unknown, and the row has changed since", at)
    is_renewed = isinstance(row, Allocation) and not row.settled and row.expires_at != work.allocation.expires_at
    return skipped(work, SkipReason.RENEWED if is_renewed else SkipReason.CHANGED, at)


def held_by_another(work: Work, other: str, at: datetime) -> Verdict:
    """Another row holds its VM now. other: what a reason calls that row."""
    why = f"vm_ref {work.allocation.vm_ref!r} is also held by {other}"
    if work.end_unknown:
        return conflict(work, f"a release was begun, its end is unknown, and {why}", at)
    return skipped(work, SkipReason.CHANGED, at, evidence=why)


# --- after it ---------------------------------------------------------------------------------------------------------


def row_moved_on(work: Work, earned: Earned, row: Row, at: datetime) -> Verdict:
    """The stamp changed no row. row: as it is now."""
    is_released = isinstance(row, Allocation) and row.released
    is_settled = row is None or (isinstance(row, Allocation) and row.settled)
    if is_released or (is_settled and earned.answer is not Answer.MISS):
        # Its own application has stamped it, or has tidied up.
        return finished(work, earned.outcome, earned.evidence, at)
    if earned.answer is Answer.MISS and not work.end_unknown:
        return skipped(work, SkipReason.CHANGED, at)
    what = "released" if earned.answer is Answer.RELEASED else "gone"
    return conflict(work, f"{what}, but the row has changed since it was read ({_short(earned.evidence)})", at)


def finished(work: Work, outcome: Outcome, evidence: str, at: datetime) -> Verdict:
    """Nothing is left to release."""
    event = _event(
        work, Step.OUTCOME, at, intent=IntentChange.CLOSED, outcome=outcome, evidence=evidence, attempts=Attempts()
    )
    return Verdict(_finding(work, outcome, evidence=evidence), event)


def pending(
    work: Work, evidence: str, accepted: Answer | None, fingerprint: str | None, charge: Charge, at: datetime
) -> Verdict:
    """Accepted, and not gone yet; after too many runs of that, an error."""
    attempts = after_pending(work.planned.known.attempts)
    if attempts.pending_ticks >= charge.quarantine_after:
        message = f"accepted ({evidence}) in {attempts.pending_ticks} ticks, and the VM is still not gone"
        verdict = failed(work, ProvisionerError(message, end_unknown=True), charge, at, before=attempts)
    else:
        event = _event(work, Step.OUTCOME, at, outcome=Outcome.PENDING, evidence=evidence, attempts=attempts)
        verdict = Verdict(_finding(work, Outcome.PENDING, evidence=evidence), event)
    return _accepted(verdict, accepted, fingerprint)


def skipped(work: Work, reason: SkipReason, at: datetime, *, evidence: str = "") -> Verdict:
    """Left alone in this run."""
    finding = _finding(work, Outcome.SKIPPED, reason=reason, evidence=evidence)
    # Written down only where it says something new, or there is an intent of this run to be closed.
    if not work.is_begun and work.planned.known.skipped == reason:
        return Verdict(finding, None)
    change = IntentChange.KEPT if work.end_unknown else IntentChange.CLOSED
    event = _event(work, Step.SKIP, at, intent=change)
    return Verdict(finding, replace(event, outcome=Outcome.SKIPPED, reason=reason, evidence=evidence or None))


def failed(
    work: Work, error: ProvisionerError, charge: Charge, at: datetime, *, before: Attempts | None = None
) -> Verdict:
    """An error, which is charged: the row rests for a while."""
    attempts = after_failure(
        before or work.planned.known.attempts,
        charge.now,
        str(error),
        quarantine_after=charge.quarantine_after,
        jitter=charge.jitter,
    )
    keeps = work.end_unknown or error.end_unknown
    retryable = error.retryable or error.timed_out
    return _error(work, ErrorCode.FAILED, str(error), at, keeps_intent=keeps, attempts=attempts, retryable=retryable)


def unstampable(work: Work, earned: Earned, why: str, fingerprint: str | None, charge: Charge, at: datetime) -> Verdict:
    """The ledger's own rules refuse the stamp of this row; it is charged, and what was released is not forgotten."""
    if earned.answer is Answer.MISS:
        keeps = work.end_unknown
        return _error(work, ErrorCode.FAILED, _unstamped(earned, why), at, keeps_intent=keeps, retryable=False)
    error = ProvisionerError(_unstamped(earned, why), retryable=True, end_unknown=True)
    return _accepted(failed(work, error, charge, at), Answer.RELEASED, fingerprint)


def unwritten(work: Work, earned: Earned, why: str, fingerprint: str | None, at: datetime) -> Verdict:
    """The ledger failed, and not this row: carried over, uncharged, so that the next tick stamps it."""
    is_miss = earned.answer is Answer.MISS
    keeps = work.end_unknown or not is_miss
    verdict = _error(work, ErrorCode.FAILED, _unstamped(earned, why), at, keeps_intent=keeps, retryable=True)
    return _accepted(verdict, None if is_miss else Answer.RELEASED, fingerprint)


def unproven(work: Work, earned: Earned, reason: str, at: datetime) -> Verdict:
    """A "not found" that is not believed; uncharged. What a killed run began stays begun."""
    message = f"the provisioner says 'not found', and is not believed: {reason}. It said: {earned.evidence}"
    return _error(work, ErrorCode.UNPROVEN, message, at, keeps_intent=work.end_unknown)


def conflict(work: Work, message: str, at: datetime) -> Verdict:
    """Nobody can say what became of the VM of a row that is not the same any more."""
    return _error(work, ErrorCode.CONFLICT, f"{message}: {FEARED}", at, keeps_intent=True)


# --- pieces -----------------------------------------------------------------------------------------------------------


def _unstamped(earned: Earned, why: str) -> str:
    if earned.answer is Answer.MISS:
        return f"the provisioner says 'not found', but the ledger could not be stamped: {why}"
    return f"released at the provisioner ({_short(earned.evidence)}), but the ledger could not be stamped: {why}"


def _short(evidence: str) -> str:
    """What can stand in the midst of a message; the whole of it is in the history."""
    return evidence if len(evidence) <= SHORT else f"{evidence[:SHORT]}…"


def _accepted(verdict: Verdict, accepted: Answer | None, fingerprint: str | None) -> Verdict:
    if verdict.event is None or accepted is None:
        return verdict
    return replace(verdict, event=replace(verdict.event, accepted=accepted, fingerprint=fingerprint))


def _error(
    work: Work,
    code: ErrorCode,
    message: str,
    at: datetime,
    *,
    keeps_intent: bool,
    attempts: Attempts | None = None,
    retryable: bool = False,
) -> Verdict:
    error = ReleaseError(
        sid=work.allocation.sid,
        provisioner=work.allocation.provisioner,
        code=code,
        message=message,
        retryable=retryable,
        attempts=work.calls,
        next_attempt_at=attempts.next_attempt_at if attempts else None,
    )
    event = _event(work, Step.OUTCOME, at, intent=IntentChange.KEPT if keeps_intent else IntentChange.CLOSED)
    return Verdict(
        _finding(work, Outcome.FAILED, error=error, attempts=attempts),
        replace(event, outcome=Outcome.FAILED, reason=code, error=message, attempts=attempts),
    )


def _finding(
    work: Work,
    outcome: Outcome,
    *,
    reason: SkipReason | None = None,
    evidence: str = "",
    error: ReleaseError | None = None,
    attempts: Attempts | None = None,
) -> Finding:
    return Finding(
        allocation=work.allocation,
        outcome=outcome,
        reason=reason,
        evidence=evidence,
        error=error,
        quarantined=attempts.quarantined if attempts else False,
        duration_ms=work.milliseconds,
    )


def _event(
    work: Work,
    step: Step,
    at: datetime,
    *,
    intent: IntentChange = IntentChange.KEPT,
    outcome: Outcome | None = None,
    evidence: str | None = None,
    attempts: Attempts | None = None,
) -> Event:
    allocation = work.allocation
    return Event(
        step=step,
        at=at,
        sid=allocation.sid,
        expires_at=allocation.expires_at,
        provisioner=allocation.provisioner,
        vm_ref=allocation.vm_ref,
        outcome=outcome,
        evidence=evidence,
        duration_ms=work.milliseconds,
        attempts=attempts,
        intent=intent,
    )
