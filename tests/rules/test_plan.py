"""What a tick will do with each expired allocation."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from autorelease.model import Allocation, Attempts, Hold, Known, RawRow, SkipReason
from autorelease.rules.plan import is_held, make_plan

NOW = datetime(2026, 12, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
MICROSECOND = timedelta(microseconds=1)


def expired(sid: str, expires_at: datetime = NOW - HOUR) -> Allocation:
    """An allocation that has expired."""
    return Allocation(
        sid=sid, status="Active", expires_at=expires_at, settled=False, vm_ref=sid, raw=RawRow(sid, "Active", None)
    )


def waiting(pause: timedelta, *, quarantined: bool = False) -> Attempts:
    """The memory of a failure that forbids a try for so long."""
    return Attempts(failed_ticks=1, next_attempt_at=NOW + pause, quarantined=quarantined)


def hold(until: datetime | None = None, ended_at: datetime | None = None) -> Hold:
    """An operator's hold on the sid."""
    return Hold("a", NOW - 24 * HOUR, until, "because", "root (uid 0)", ended_at)


CASES = {
    "nothing known": (Known(), None),
    "failed, may be tried again": (Known(attempts=waiting(-HOUR)), None),
    "failed, may be tried this very instant": (Known(attempts=waiting(timedelta(0))), None),
    "failed, waits another microsecond": (
        Known(attempts=waiting(timedelta(microseconds=1))),
        SkipReason.BACKOFF,
    ),
    "failed, waits": (Known(attempts=waiting(HOUR)), SkipReason.BACKOFF),
    "quarantined, waits": (Known(attempts=waiting(HOUR, quarantined=True)), SkipReason.BACKOFF),
    "quarantined, its daily try": (Known(attempts=waiting(-HOUR, quarantined=True)), None),
    "waits absurdly long": (Known(attempts=waiting(timedelta(days=365))), None),
    "pending": (Known(attempts=Attempts(pending_ticks=2)), None),
    "begun, its end unknown": (Known(intent=True), None),
    "skipped before": (Known(skipped="deferred"), None),
    "released according to the journal": (Known(released=True), SkipReason.RESURRECTED),
    "released, although a failure waits": (Known(released=True, attempts=waiting(HOUR)), SkipReason.RESURRECTED),
    "held": (Known(hold=hold()), SkipReason.HELD),
    "held, although it was released": (Known(hold=hold(), released=True), SkipReason.HELD),
    "held, although a failure waits": (Known(hold=hold(), attempts=waiting(HOUR)), SkipReason.HELD),
    "held, begun, its end unknown": (Known(hold=hold(), intent=True), SkipReason.HELD),
    "not held any more": (Known(hold=hold(ended_at=NOW - HOUR)), None),
    "not held any more, released": (Known(hold=hold(ended_at=NOW - HOUR), released=True), SkipReason.RESURRECTED),
}


@pytest.mark.parametrize(("known", "reason"), CASES.values(), ids=CASES.keys())
def test_what_is_decided(known: Known, reason: SkipReason | None) -> None:
    allocation = expired("a")
    [planned] = make_plan([allocation], {("a", allocation.expires_at): known}, NOW)
    assert (planned.allocation, planned.known, planned.skip) == (allocation, known, reason)


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        (Known(), SkipReason.NO_PROVISIONER),
        (Known(intent=True), SkipReason.NO_PROVISIONER),
        (Known(attempts=waiting(HOUR)), SkipReason.NO_PROVISIONER),
        (Known(released=True), SkipReason.RESURRECTED),
        (Known(hold=hold()), SkipReason.HELD),
    ],
)
def test_what_is_decided_where_no_section_serves_the_row(known: Known, reason: SkipReason) -> None:
    memory: dict[tuple[str, datetime | None], Known] = {("a", NOW - HOUR): known}
    for there in ((), ("Default", "other")):
        [planned] = make_plan([expired("a")], memory, NOW, provisioners=there)
        assert planned.skip is reason
    [planned] = make_plan([expired("a")], memory, NOW, provisioners=("default",))
    assert planned.skip is not SkipReason.NO_PROVISIONER


HOLDS = {
    "none": (None, HOUR, False),
    "no end": (hold(), timedelta(0), True),
    "ends later": (hold(until=NOW + MICROSECOND), timedelta(0), True),
    "ends this very instant": (hold(until=NOW), timedelta(0), False),
    "has ended": (hold(until=NOW - MICROSECOND), timedelta(0), False),
    "ended within its grace": (hold(until=NOW - HOUR + MICROSECOND), HOUR, True),
    "its grace ends this very instant": (hold(until=NOW - HOUR), HOUR, False),
    "ended by hand within its grace": (hold(ended_at=NOW - HOUR + MICROSECOND), HOUR, True),
    "ended by hand, its grace ends this very instant": (hold(ended_at=NOW - HOUR), HOUR, False),
    "ended by hand, before it would have by itself": (hold(NOW + 9 * HOUR, NOW - HOUR), HOUR, False),
    "ends in the last year of the calendar": (hold(datetime(9999, 12, 31, tzinfo=UTC)), 9999 * HOUR, True),
    "begun and ended by a clock that was ahead": (hold(ended_at=NOW + HOUR), timedelta(0), True),
}


@pytest.mark.parametrize(("held", "grace", "expected"), HOLDS.values(), ids=HOLDS.keys())
def test_whether_a_hold_is_in_force(held: Hold | None, grace: timedelta, *, expected: bool) -> None:
    assert is_held(held, NOW, grace) is expected
    # The plan asks the same question.
    [planned] = make_plan([expired("a")], {("a", NOW - HOUR): Known(hold=held)}, NOW, hold_grace=grace)
    assert (planned.skip is SkipReason.HELD) is expected


def test_what_is_known_of_another_expiry_does_not_count() -> None:
    """A renewed allocation begins anew: neither its old failures nor its old release are held against it."""
    [planned] = make_plan([expired("a")], {("a", NOW - 2 * HOUR): Known(released=True)}, NOW)
    assert planned.skip is None
    assert planned.first_try


def test_the_order_is_kept_and_rows_are_taken_one_by_one() -> None:
    taken: list[str] = []

    def source() -> Iterator[Allocation]:
        for sid in ("c", "a", "b"):
            taken.append(sid)
            yield expired(sid)

    plan = make_plan(source(), {}, NOW)
    assert next(plan).allocation.sid == "c"
    assert taken == ["c"]
    assert [planned.allocation.sid for planned in plan] == ["a", "b"]
