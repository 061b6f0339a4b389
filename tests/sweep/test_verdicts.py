"""How a piece of work can end: each verdict by itself. Pure."""

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from autorelease.errors import ProvisionerError
from autorelease.journal import IntentChange, Step
from autorelease.model import (
    Allocation,
    Answer,
    Attempts,
    ErrorCode,
    InvalidRow,
    Known,
    Outcome,
    Planned,
    RawRow,
    Release,
    Result,
    SkipReason,
)
from autorelease.sweep import verdicts
from autorelease.sweep.verdicts import Charge, Row, Verdict
from autorelease.sweep.work import Earned, Work, Works
from tests.support.engine import made_allocation

AT = datetime(2026, 12, 1, 12, tzinfo=UTC)
CHARGE = Charge(AT, quarantine_after=3, jitter=0.0)
RELEASED = Release(Result.RELEASED, "gone")
PROOF = Release(Result.ALREADY_RELEASED, "terminated", proof=True)
MISS = Release(Result.ALREADY_RELEASED, "404", proof=False)
NO_EVENT = "an event is missing"


def made(known: Known | None = None, *, end_unknown: bool = False, is_begun: bool = True) -> Work:
    """A work whose call has been made."""
    work = Works().add(Planned(made_allocation(), known or Known()))
    work.calls, work.is_begun = 1, is_begun
    work.end_unknown = work.end_unknown or end_unknown
    return work


def earned(answer: Answer) -> Earned:
    """What a call came to."""
    outcome = Outcome.RELEASED if answer is Answer.RELEASED else Outcome.ALREADY_RELEASED
    return Earned(outcome, "evidence", answer, AT)


def end(verdict: Verdict) -> str:
    """In a word."""
    finding = verdict.finding
    return str(finding.error.code if finding.error else finding.reason or finding.outcome)


def intent(verdict: Verdict) -> IntentChange:
    """What becomes of the intent."""
    assert verdict.event is not None, NO_EVENT
    return verdict.event.intent


RENEWED = made_allocation(expires_at=AT + timedelta(days=30))
ROWS: dict[str, Row] = {
    "released": made_allocation(status="Released", settled=True, released=True),
    "settled": made_allocation(status="Cancelled", settled=True),
    "gone": None,
    "renewed": RENEWED,
    "another VM": made_allocation(vm_ref="another"),
    "invalid": InvalidRow("vm-1", "strange", RawRow("vm-1", None, None)),
}


# --- what an answer is ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("proof", [True, False])
def test_released_is_released(*, proof: bool) -> None:
    found = verdicts.earned_by(made(), replace(RELEASED, proof=proof), None, AT)
    assert (found.outcome, found.answer, found.evidence, found.at) == (Outcome.RELEASED, Answer.RELEASED, "gone", AT)


def test_proof_is_proof() -> None:
    found = verdicts.earned_by(made(), PROOF, None, AT)
    assert (found.outcome, found.answer) == (Outcome.ALREADY_RELEASED, Answer.PROOF)


@pytest.mark.parametrize(
    ("known", "under", "answer"),
    [
        (Known(), "here", Answer.MISS),
        (Known(accepted=Answer.PENDING, accepted_under="here"), "here", Answer.PROOF),
        (Known(accepted=Answer.RELEASED, accepted_under="here"), "here", Answer.PROOF),
        (Known(accepted=Answer.PENDING, accepted_under="there"), "here", Answer.MISS),
        (Known(accepted=Answer.PENDING, accepted_under=None), None, Answer.MISS),
        (Known(accepted=None, accepted_under="here"), "here", Answer.MISS),
        (Known(intent=True), "here", Answer.MISS),
    ],
)
def test_not_found_is_proof_only_of_what_was_accepted_under_the_same_fingerprint(
    known: Known, under: str | None, answer: Answer
) -> None:
    assert verdicts.earned_by(made(known), MISS, under, AT).answer is answer


def test_not_found_is_proof_where_another_row_of_the_vm_was_released() -> None:
    work = made()
    work.is_twin_gone = True
    assert verdicts.earned_by(work, MISS, "here", AT).answer is Answer.PROOF


@pytest.mark.parametrize("is_expected", [True, False])
def test_a_miss_knows_whether_it_was_expected(*, is_expected: bool) -> None:
    assert verdicts.earned_by(made(), MISS, "here", AT, is_expected=is_expected).is_expected is is_expected


def test_what_was_earned_can_be_stale() -> None:
    found = earned(Answer.RELEASED)
    assert (found.is_stale, found.stale().is_stale, found.stale().evidence) == (False, True, "evidence")


@pytest.mark.parametrize(("end_unknown", "change"), [(False, IntentChange.MISSED), (True, IntentChange.KEPT)])
def test_a_miss_is_written_down_and_expects_nothing(*, end_unknown: bool, change: IntentChange) -> None:
    event = verdicts.miss_event(made(end_unknown=end_unknown), earned(Answer.MISS))
    assert (event.step, event.intent, event.evidence, event.at) == (Step.MISS, change, "evidence", AT)


def test_an_intent_is_opened() -> None:
    event = verdicts.intent_event(made(), "here", AT)
    assert (event.step, event.intent, event.sid, event.outcome) == (Step.INTENT, IntentChange.OPENED, "vm-1", None)
    assert (event.fingerprint, event.accepted) == ("here", None)


# --- before the call --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("released", "already_released"),
        ("settled", "changed"),
        ("gone", "changed"),
        ("renewed", "renewed"),
        ("another VM", "changed"),
        ("invalid", "changed"),
    ],
)
def test_a_row_that_is_not_what_was_judged(row: str, expected: str) -> None:
    verdict = verdicts.left_alone(made(), ROWS[row], AT)
    assert (end(verdict), intent(verdict)) == (expected, IntentChange.CLOSED)
    verdict = verdicts.left_alone(made(end_unknown=True), ROWS[row], AT)
    if row == "released":
        assert (end(verdict), intent(verdict)) == ("already_released", IntentChange.CLOSED)
    else:
        assert (end(verdict), intent(verdict)) == ("conflict", IntentChange.KEPT)


def test_a_row_that_is_settled_with_another_expiry_was_not_renewed() -> None:
    row = replace(RENEWED, settled=True)
    assert end(verdicts.left_alone(made(), row, AT)) == "changed"


@pytest.mark.parametrize(("end_unknown", "expected"), [(False, "changed"), (True, "conflict")])
def test_a_vm_that_is_held_by_another(*, end_unknown: bool, expected: str) -> None:
    verdict = verdicts.held_by_another(made(end_unknown=end_unknown), "'new'", AT)
    assert end(verdict) == expected
    message = verdict.finding.error.message if verdict.finding.error else verdict.finding.evidence
    assert "vm_ref 'vm-1' is also held by 'new'" in message


# --- after it ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end_unknown", [False, True])
@pytest.mark.parametrize("answer", [Answer.RELEASED, Answer.PROOF, Answer.MISS])
@pytest.mark.parametrize("row", ROWS)
def test_a_row_that_has_moved_on_under_its_stamp(row: str, answer: Answer, *, end_unknown: bool) -> None:
    verdict = verdicts.row_moved_on(made(end_unknown=end_unknown), earned(answer), ROWS[row], AT)
    if row == "released" or (row in ("settled", "gone") and answer is not Answer.MISS):
        expected = "released" if answer is Answer.RELEASED else "already_released"
    elif answer is Answer.MISS and not end_unknown:
        expected = "changed"
    else:
        expected = "conflict"
    assert end(verdict) == expected
    assert intent(verdict) is (IntentChange.KEPT if expected == "conflict" else IntentChange.CLOSED)


def test_what_is_finished_is_forgotten_and_its_evidence_is_not() -> None:
    verdict = verdicts.finished(made(Known(attempts=Attempts(failed_ticks=3))), Outcome.RELEASED, "gone", AT)
    assert verdict.event is not None
    assert (verdict.event.attempts, verdict.event.intent) == (Attempts(), IntentChange.CLOSED)
    assert (verdict.event.evidence, verdict.finding.evidence) == ("gone", "gone")


def test_pending_is_remembered_with_who_accepted_it() -> None:
    verdict = verdicts.pending(made(), "202", Answer.PENDING, "here", CHARGE, AT)
    assert (end(verdict), intent(verdict)) == ("pending", IntentChange.KEPT)
    assert verdict.event is not None
    assert (verdict.event.accepted, verdict.event.fingerprint) == (Answer.PENDING, "here")
    assert verdict.event.attempts == Attempts(pending_ticks=1)


def test_pending_for_too_long_is_an_error_and_still_begun() -> None:
    known = Known(attempts=Attempts(pending_ticks=2), intent=True)
    verdict = verdicts.pending(made(known), "202", Answer.PENDING, "here", CHARGE, AT)
    assert (end(verdict), intent(verdict)) == ("failed", IntentChange.KEPT)
    assert verdict.event is not None
    assert verdict.event.accepted is Answer.PENDING
    assert verdict.event.attempts is not None
    assert verdict.event.attempts.next_attempt_at is not None


@pytest.mark.parametrize("reason", SkipReason)
def test_what_is_skipped_closes_its_intent_but_for_an_unknown_end(reason: SkipReason) -> None:
    assert intent(verdicts.skipped(made(), reason, AT)) is IntentChange.CLOSED
    assert intent(verdicts.skipped(made(end_unknown=True), reason, AT)) is IntentChange.KEPT


def test_a_skip_that_is_known_is_written_down_only_where_there_is_an_intent_to_close() -> None:
    known = Known(skipped=SkipReason.HELD)
    assert verdicts.skipped(made(known, is_begun=False), SkipReason.HELD, AT).event is None
    assert verdicts.skipped(made(known, is_begun=False), SkipReason.CHANGED, AT).event is not None
    assert verdicts.skipped(made(known), SkipReason.HELD, AT).event is not None


@pytest.mark.parametrize(
    ("error", "change", "retryable"),
    [
        (ProvisionerError("no"), IntentChange.CLOSED, False),
        (ProvisionerError("busy", retryable=True), IntentChange.CLOSED, True),
        (ProvisionerError("slow", timed_out=True), IntentChange.KEPT, True),
        (ProvisionerError("cut off", end_unknown=True), IntentChange.KEPT, False),
    ],
)
def test_a_failure_is_charged(error: ProvisionerError, change: IntentChange, *, retryable: bool) -> None:
    verdict = verdicts.failed(made(), error, CHARGE, AT)
    assert (end(verdict), intent(verdict)) == ("failed", change)
    assert verdict.finding.error is not None
    assert (verdict.finding.error.retryable, verdict.finding.error.attempts) == (retryable, 1)
    assert verdict.finding.error.next_attempt_at == AT + timedelta(hours=1)
    assert intent(verdicts.failed(made(end_unknown=True), error, CHARGE, AT)) is IntentChange.KEPT


def test_too_many_failures_are_quarantine() -> None:
    known = Known(attempts=Attempts(failed_ticks=2))
    verdict = verdicts.failed(made(known), ProvisionerError("no"), CHARGE, AT)
    assert verdict.finding.quarantined
    assert not verdicts.failed(made(), ProvisionerError("no"), CHARGE, AT).finding.quarantined


@pytest.mark.parametrize("answer", [Answer.RELEASED, Answer.PROOF])
def test_what_is_gone_and_cannot_be_stamped_is_not_forgotten(answer: Answer) -> None:
    for verdict in (
        verdicts.unstampable(made(), earned(answer), "a trigger", "here", CHARGE, AT),
        verdicts.unwritten(made(), earned(answer), "locked", "here", AT),
    ):
        assert (end(verdict), intent(verdict)) == ("failed", IntentChange.KEPT)
        assert verdict.event is not None
        assert (verdict.event.accepted, verdict.event.fingerprint) == (Answer.RELEASED, "here")


def test_a_row_is_charged_for_its_own_refusal_and_not_for_the_ledgers() -> None:
    refused = verdicts.unstampable(made(), earned(Answer.RELEASED), "a trigger", "here", CHARGE, AT)
    locked = verdicts.unwritten(made(), earned(Answer.RELEASED), "locked", "here", AT)
    assert refused.event is not None
    assert locked.event is not None
    assert (refused.event.attempts is None, locked.event.attempts is None) == (False, True)


@pytest.mark.parametrize(("end_unknown", "change"), [(False, IntentChange.CLOSED), (True, IntentChange.KEPT)])
def test_a_miss_that_cannot_be_stamped_was_never_a_release(*, end_unknown: bool, change: IntentChange) -> None:
    work = made(end_unknown=end_unknown)
    for verdict in (
        verdicts.unstampable(work, earned(Answer.MISS), "a trigger", "here", CHARGE, AT),
        verdicts.unwritten(work, earned(Answer.MISS), "locked", "here", AT),
    ):
        assert (end(verdict), intent(verdict)) == ("failed", change)
        assert verdict.event is not None
        assert (verdict.event.accepted, verdict.event.attempts) == (None, None)


@pytest.mark.parametrize(("end_unknown", "change"), [(False, IntentChange.CLOSED), (True, IntentChange.KEPT)])
def test_what_is_not_believed_is_not_charged(*, end_unknown: bool, change: IntentChange) -> None:
    verdict = verdicts.unproven(made(end_unknown=end_unknown), earned(Answer.MISS), "no credit", AT)
    assert (end(verdict), intent(verdict)) == ("unproven", change)
    assert verdict.event is not None
    assert (verdict.event.attempts, verdict.event.reason) == (None, ErrorCode.UNPROVEN)
    assert verdict.finding.error is not None
    assert "no credit" in verdict.finding.error.message


def test_a_conflict_keeps_its_intent_and_says_what_is_feared() -> None:
    verdict = verdicts.conflict(made(), "the row has changed", AT)
    assert (end(verdict), intent(verdict)) == ("conflict", IntentChange.KEPT)
    assert verdict.event is not None
    assert verdict.event.error == "the row has changed: the VM may be gone while its owner pays"
    assert verdict.event.attempts is None


def test_every_verdict_is_about_its_own_row() -> None:
    work = made()
    row: Allocation = work.allocation
    for verdict in (
        verdicts.finished(work, Outcome.RELEASED, "", AT),
        verdicts.skipped(work, SkipReason.HELD, AT),
        verdicts.failed(work, ProvisionerError("no"), CHARGE, AT),
        verdicts.conflict(work, "", AT),
    ):
        assert verdict.finding.allocation is row
        assert verdict.event is not None
        assert (verdict.event.sid, verdict.event.expires_at, verdict.event.vm_ref) == (
            row.sid,
            row.expires_at,
            row.vm_ref,
        )
