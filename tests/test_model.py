"""The words of the field as data."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from autorelease import model
from autorelease.model import (
    Allocation,
    Attempts,
    Known,
    Planned,
    RawRow,
    RawValue,
    rfc3339,
)

EXPIRY = datetime(2026, 12, 1, 10, 0, tzinfo=UTC)
RECORDS = [kind for kind in vars(model).values() if isinstance(kind, type) and issubclass(kind, msgspec.Struct)]
ALLOCATION = Allocation(
    sid="a", status="Active", expires_at=EXPIRY, settled=False, vm_ref="vm", raw=RawRow("a", "Active", 1)
)


@pytest.mark.parametrize("kind", RECORDS)
def test_data_is_frozen(kind: type[msgspec.Struct]) -> None:
    assert kind.__struct_config__.frozen


def test_there_is_data() -> None:
    assert len(RECORDS) > 10


@pytest.mark.parametrize(
    ("expires_at", "token"),
    [
        (EXPIRY, "a@2026-12-01T10:00:00.000000Z"),
        (EXPIRY + timedelta(microseconds=7), "a@2026-12-01T10:00:00.000007Z"),
        (None, "a@never"),
    ],
)
def test_the_fencing_token_names_this_very_expiry(expires_at: datetime | None, token: str) -> None:
    assert msgspec.structs.replace(ALLOCATION, expires_at=expires_at).token == token


JUDGED = {
    "raw sid": {"raw": RawRow(1, "Active", 1)},
    "raw status": {"raw": RawRow("a", "Suspended", 1)},
    "raw expiry": {"raw": RawRow("a", "Active", 2)},
    "storage class of the expiry": {"raw": RawRow("a", "Active", 1.0)},
    "expiry as text": {"raw": RawRow("a", "Active", "1")},
    "expiry": {"expires_at": EXPIRY + timedelta(seconds=1)},
    "settled": {"settled": True},
    "provisioner": {"provisioner": "other"},
    "vm_ref": {"vm_ref": "other"},
    "vm_uid": {"vm_uid": "uid-2"},
}


@pytest.mark.parametrize("change", JUDGED.values(), ids=JUDGED.keys())
def test_another_value_is_another_judgement(change: dict[str, object]) -> None:
    changed: Allocation = msgspec.structs.replace(ALLOCATION, **change)
    assert changed.judged() != ALLOCATION.judged()


@pytest.mark.parametrize("change", [{"owner": "o"}, {"plan": "p"}])
def test_what_is_only_shown_is_not_judged(change: dict[str, str]) -> None:
    changed: Allocation = msgspec.structs.replace(ALLOCATION, **change)
    assert changed.judged() == ALLOCATION.judged()


@pytest.mark.parametrize(("one", "other"), [(1, 1.0), (1, "1"), ("1", b"1"), (0, None), ("", None)], ids=repr)
def test_values_that_python_may_take_for_the_same_are_told_apart(one: RawValue, other: RawValue) -> None:
    first = msgspec.structs.replace(ALLOCATION, raw=RawRow("a", "Active", one))
    second = msgspec.structs.replace(ALLOCATION, raw=RawRow("a", "Active", other))
    assert first.judged() != second.judged()


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (Known(), True),
        (Known(skipped="backoff"), True),
        (Known(attempts=Attempts(failed_ticks=1)), False),
        (Known(intent=True), False),
    ],
)
def test_a_first_try_is_what_no_tick_has_begun_before(known: Known, *, expected: bool) -> None:
    assert Planned(ALLOCATION, known).first_try is expected


@pytest.mark.parametrize(
    ("instant", "digits", "expected"),
    [
        (EXPIRY, 0, "2026-12-01T10:00:00Z"),
        (EXPIRY, 6, "2026-12-01T10:00:00.000000Z"),
        (EXPIRY + timedelta(microseconds=5), 0, "2026-12-01T10:00:00.000005Z"),
        (EXPIRY + timedelta(microseconds=5), 6, "2026-12-01T10:00:00.000005Z"),
    ],
)
def test_rfc3339(instant: datetime, digits: int, expected: str) -> None:
    assert rfc3339(instant, digits=digits) == expected
