"""The rule: who has expired, at which instant, and that nothing else has a say in it."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autorelease.model import Allocation, RawRow
from autorelease.rules.expiry import find_expired, overdue

NOW = datetime(2026, 12, 1, 12, 0, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
HOUR = timedelta(hours=1)
LAST = datetime.max.replace(tzinfo=UTC)
FIRST = datetime.min.replace(tzinfo=UTC)


def row(
    expires_at: datetime | None,
    *,
    sid: str = "a",
    status: str = "Active",
    settled: bool = False,
    released: bool = False,
) -> Allocation:
    """An allocation of which only the expiry and the status matter."""
    raw = RawRow(sid, status, None)
    return Allocation(
        sid=sid, status=status, expires_at=expires_at, settled=settled, vm_ref=sid, raw=raw, released=released
    )


CASES = {
    "a year before": (row(NOW + timedelta(days=365)), timedelta(0), False),
    "one microsecond before": (row(NOW + MICROSECOND), timedelta(0), False),
    "exactly at the expiry": (row(NOW), timedelta(0), False),
    "one microsecond after": (row(NOW - MICROSECOND), timedelta(0), True),
    "a year after": (row(NOW - timedelta(days=365)), timedelta(0), True),
    "never": (row(None), timedelta(0), False),
    "released long ago": (row(NOW - HOUR, status="Released", settled=True, released=True), timedelta(0), False),
    "inactive": (row(NOW - HOUR, status="Cancelled", settled=True), timedelta(0), False),
    "released without an expiry": (row(None, status="Released", settled=True, released=True), timedelta(0), False),
    "within the grace": (row(NOW - HOUR + MICROSECOND), HOUR, False),
    "exactly at the end of the grace": (row(NOW - HOUR), HOUR, False),
    "one microsecond after the grace": (row(NOW - HOUR - MICROSECOND), HOUR, True),
    "the last instant there is": (row(LAST), timedelta(days=36_500), False),
    "the first instant there is": (row(FIRST), timedelta(days=36_500), True),
    "the expiry in another offset": (
        row((NOW - MICROSECOND).astimezone(timezone(timedelta(hours=14)))),
        timedelta(0),
        True,
    ),
}


@pytest.mark.parametrize(("allocation", "grace", "expected"), CASES.values(), ids=CASES.keys())
def test_the_rule(allocation: Allocation, grace: timedelta, *, expected: bool) -> None:
    assert list(find_expired([allocation], NOW, grace=grace)) == ([allocation] if expected else [])


def test_grace_is_nothing_unless_given() -> None:
    allocation = row(NOW - MICROSECOND)
    assert list(find_expired([allocation], NOW)) == [allocation]


@pytest.mark.parametrize("rows", [[], [row(None)], [row(NOW - HOUR)]], ids=["no rows", "one never", "one expired"])
def test_a_naive_now_is_refused_when_called_and_not_only_when_read(rows: list[Allocation]) -> None:
    with pytest.raises(ValueError, match="naive"):
        find_expired(rows, NOW.replace(tzinfo=None))


def test_rows_are_taken_one_by_one() -> None:
    taken: list[str] = []

    def source() -> Iterator[Allocation]:
        for number in range(1000):
            taken.append(str(number))
            yield row(NOW - HOUR, sid=str(number))

    expired = find_expired(source(), NOW)
    assert taken == []
    assert next(expired).sid == "0"
    assert taken == ["0"]


def test_the_order_of_the_input_is_kept() -> None:
    rows = [row(NOW - number * HOUR, sid=str(number)) for number in (3, 1, 5, 0, 2)]
    assert [allocation.sid for allocation in find_expired(rows, NOW)] == ["3", "1", "5", "2"]


# --- properties -------------------------------------------------------------------------------------------------------

CENTURIES = timedelta(days=73_000)
instants = st.timedeltas(timedelta(0), CENTURIES).map(lambda passed: datetime(2000, 1, 1, tzinfo=UTC) + passed)
near = st.timedeltas(min_value=-3 * MICROSECOND, max_value=3 * MICROSECOND)
graces = st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=36_500))
expiries = st.one_of(st.none(), instants, near.map(lambda distance: NOW + distance), st.sampled_from([FIRST, LAST]))
allocations = st.builds(row, expiries, sid=st.text(min_size=1, max_size=3), settled=st.booleans())
fleets = st.lists(allocations, max_size=12)
nows = st.one_of(instants, near.map(lambda distance: NOW + distance))


@given(fleets, nows, nows, graces)
def test_what_has_expired_stays_expired_as_time_goes_on(
    rows: list[Allocation], one: datetime, other: datetime, grace: timedelta
) -> None:
    earlier, later = sorted([one, other])
    still = list(find_expired(rows, later, grace=grace))
    assert all(allocation in still for allocation in find_expired(rows, earlier, grace=grace))


@given(fleets, nows, graces, graces)
def test_more_grace_never_releases_more(
    rows: list[Allocation], now: datetime, one: timedelta, other: timedelta
) -> None:
    less, more = sorted([one, other])
    generous = list(find_expired(rows, now, grace=less))
    assert all(allocation in generous for allocation in find_expired(rows, now, grace=more))


@given(fleets, nows, graces, st.integers(min_value=-1439, max_value=1439))
def test_the_offset_in_which_now_is_written_says_nothing(
    rows: list[Allocation], now: datetime, grace: timedelta, minutes: int
) -> None:
    elsewhere = now.astimezone(timezone(timedelta(minutes=minutes)))
    assert list(find_expired(rows, elsewhere, grace=grace)) == list(find_expired(rows, now, grace=grace))


@given(fleets, nows, graces)
def test_a_row_is_picked_whatever_its_neighbours_are(rows: list[Allocation], now: datetime, grace: timedelta) -> None:
    alone = [allocation for each in rows for allocation in find_expired([each], now, grace=grace)]
    assert list(find_expired(rows, now, grace=grace)) == alone


@given(fleets, nows, graces)
def test_every_row_has_expired_or_has_not(rows: list[Allocation], now: datetime, grace: timedelta) -> None:
    """The other half is written down here in other words than the rule's own."""

    def still_runs(allocation: Allocation) -> bool:
        if allocation.settled or allocation.expires_at is None:
            return True
        return allocation.expires_at - now >= -grace

    picked = {id(allocation) for allocation in find_expired(rows, now, grace=grace)}
    left = {id(allocation) for allocation in rows if still_runs(allocation)}
    assert picked.isdisjoint(left)
    assert picked | left == {id(allocation) for allocation in rows}


@given(fleets, nows, graces)
def test_asking_changes_nothing_and_asking_again_says_the_same(
    rows: list[Allocation], now: datetime, grace: timedelta
) -> None:
    before = list(rows)
    first = list(find_expired(rows, now, grace=grace))
    assert all(mine is theirs for mine, theirs in zip(rows, before, strict=True))
    assert list(find_expired(first, now, grace=grace)) == first
    assert list(find_expired(rows, now, grace=grace)) == first


def test_overdue_begins_where_the_grace_ends() -> None:
    now = NOW + 3 * HOUR
    assert overdue(NOW, now, timedelta(0)) == 3 * HOUR
    assert overdue(NOW, now, HOUR) == 2 * HOUR
    assert overdue(None, now, timedelta(0)) == timedelta(0)
