"""The plan while it waits: read again in the order of execution, each row once, and no file left behind."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autorelease.deciding import spool as module
from autorelease.deciding.spool import Spool
from autorelease.model import Allocation, Attempts, Known, Planned, RawRow, SkipReason

NOW = datetime(2026, 12, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
REPEATED = Known(attempts=Attempts(failed_ticks=1))


def planned(
    sid: str,
    hours: float = 1,
    *,
    known: Known = Known(),  # noqa: B008 - frozen
    skip: SkipReason | None = None,
    vm_ref: str | None = None,
    provisioner: str = "default",
) -> Planned:
    """One allocation that expired so many hours ago."""
    allocation = Allocation(
        sid=sid,
        status="Active",
        expires_at=NOW - hours * HOUR,
        settled=False,
        vm_ref=vm_ref or sid,
        raw=RawRow(sid, "Active", 1),
        provisioner=provisioner,
    )
    return Planned(allocation, known, skip)


@pytest.fixture
def spool() -> Iterator[Spool]:
    """An empty plan."""
    made = Spool()
    yield made
    made.close()


def sids(items: Iterator[Planned]) -> list[str]:
    """Their sids, in their order."""
    return [item.allocation.sid for item in items]


def test_first_tries_come_before_repeats_and_the_oldest_expiry_first(spool: Spool) -> None:
    spool.add(
        [
            planned("young", 1),
            planned("old repeat", 9, known=REPEATED),
            planned("old", 5),
            planned("begun", 99, known=Known(intent=True)),
            planned("left alone", 50, skip=SkipReason.BACKOFF),
        ]
    )
    assert sids(spool.to_release()) == ["old", "young", "begun", "old repeat"]
    assert sids(spool.skipped()) == ["left alone"]


def test_equal_expiries_are_ordered_by_sid_and_by_the_microsecond(spool: Spool) -> None:
    microsecond = 1 / 3600 / 1_000_000
    spool.add([planned("b"), planned("c", 1 + microsecond), planned("a")])
    assert sids(spool.to_release()) == ["c", "a", "b"]


def test_what_is_kept_comes_back_as_it_was(spool: Spool) -> None:
    one = planned("strange 'sid' \"🚀\x00", known=Known(attempts=Attempts(3, 2, NOW, quarantined=True, last_error="x")))
    spool.add([one])
    assert list(spool.to_release()) == [one]


def test_a_sid_that_is_read_twice_stays_as_it_was_read_first(spool: Spool) -> None:
    """A row that is renewed between two pages may be read on both: it is still one allocation."""
    spool.add([planned("a", 5)])
    spool.add([planned("a", 1), planned("b", 3)])
    [first, second] = spool.to_release()
    assert (first.allocation.sid, second.allocation.sid) == ("a", "b")
    assert first.allocation.expires_at == NOW - 5 * HOUR
    assert spool.summary(10).first_tries == 2


def test_the_plan_in_numbers(spool: Spool) -> None:
    spool.add([planned(f"f{number}", 10 + number) for number in range(7)])
    spool.add([planned("r", 2, known=REPEATED), planned("r2", 3, known=REPEATED)])
    spool.add([planned("s", 1, skip=SkipReason.BACKOFF), planned("s2", 1, skip=SkipReason.RESURRECTED)])
    summary = spool.summary(live_rows=500)
    assert (summary.first_tries, summary.repeats, summary.live_rows) == (7, 2, 500)
    assert summary.skipped == {SkipReason.BACKOFF: 1, SkipReason.RESURRECTED: 1}
    assert list(summary.first_sids) == ["f6", "f5", "f4", "f3", "f2"]
    assert summary.newest_expires_at == NOW - 2 * HOUR


def test_an_empty_plan(spool: Spool) -> None:
    summary = spool.summary(live_rows=0)
    assert (summary.first_tries, summary.repeats, summary.skipped) == (0, 0, {})
    assert (summary.first_sids, summary.newest_expires_at) == ((), None)
    assert list(spool.to_release()) == []
    assert list(spool.due_vms()) == []
    assert spool.provisioners() == []


def test_the_provisioners_are_those_of_what_is_to_be_released(spool: Spool) -> None:
    spool.add(
        [
            planned("a", provisioner="ovh"),
            planned("b", provisioner="hetzner"),
            planned("c", provisioner="ovh"),
            planned("d", provisioner="asleep", skip=SkipReason.BACKOFF),
            planned("e", provisioner="doubted", vm_ref="x"),
        ]
    )
    spool.mark_owned_twice("other", "doubted", "x")
    assert spool.provisioners() == ["hetzner", "ovh"]


def test_a_vm_that_somebody_else_holds_too_is_nobodys_to_release(spool: Spool) -> None:
    spool.add([planned("a", vm_ref="vm"), planned("b", vm_ref="vm"), planned("c", vm_ref="vm", provisioner="other")])
    spool.mark_owned_twice("paying", "default", "vm")
    assert sids(spool.to_release()) == ["c"]
    count, rows = spool.owned_twice(limit=10)
    assert (count, [row.sid for row in rows]) == (2, ["a", "b"])
    assert "'vm' is also held by another live row" in rows[0].reason
    assert spool.summary(9).first_tries == 1


def test_a_holder_that_nobody_can_read_is_not_due_and_may_be_of_any_provisioner(spool: Spool) -> None:
    spool.add([planned("None", vm_ref="vm"), planned("b", vm_ref="vm", provisioner="other"), planned("c", vm_ref="w")])
    spool.mark_owned_twice(None, "default", "vm")
    assert sids(spool.to_release()) == ["b", "c"]
    spool.mark_owned_twice(None, None, "vm")
    assert sids(spool.to_release()) == ["c"]


def test_a_vm_of_two_due_rows_is_released(spool: Spool) -> None:
    """The row itself and every other due one are reported as holders, too."""
    spool.add([planned("a", vm_ref="vm"), planned("b", vm_ref="vm")])
    spool.mark_owned_twice("a", "default", "vm")
    spool.mark_owned_twice("b", "default", "vm")
    assert sids(spool.to_release()) == ["a", "b"]
    assert spool.owned_twice(limit=10) == (0, [])


def test_a_row_that_is_left_alone_still_holds_its_vm(spool: Spool) -> None:
    spool.add([planned("a", vm_ref="vm"), planned("b", vm_ref="vm", skip=SkipReason.RESURRECTED)])
    spool.mark_owned_twice("b", "default", "vm")
    assert sids(spool.to_release()) == []
    assert spool.owned_twice(limit=10)[0] == 1


def test_the_list_of_doubted_rows_ends_and_their_number_does_not(spool: Spool) -> None:
    spool.add([planned(str(number), vm_ref="vm") for number in range(5)])
    spool.mark_owned_twice("paying", "default", "vm")
    count, rows = spool.owned_twice(limit=3)
    assert (count, len(rows)) == (5, 3)


def test_the_vms_come_in_chunks_while_rows_are_marked(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 2)
    spool.add([planned(str(number), vm_ref=f"vm-{number // 2}") for number in range(10)])
    spool.add([planned("s", skip=SkipReason.BACKOFF, vm_ref="not asked for")])
    chunks: list[str] = []
    for chunk in spool.due_vms():
        assert 0 < len(chunk) <= 2
        chunks += chunk
        spool.mark_owned_twice("paying", "default", chunk[0])
    assert sorted(chunks) == [f"vm-{number}" for number in range(5)]


@given(
    st.lists(
        st.builds(
            planned,
            st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=3),
            st.floats(0.001, 1000),
            known=st.sampled_from([Known(), REPEATED]),
            skip=st.sampled_from([None, None, SkipReason.BACKOFF]),
        ),
        max_size=12,
        unique_by=lambda item: item.allocation.sid,
    )
)
def test_nothing_is_lost_and_nothing_doubled(items: list[Planned]) -> None:
    spool = Spool()
    try:
        spool.add(items)
        released, skipped = list(spool.to_release()), list(spool.skipped())
        summary = spool.summary(len(items))
    finally:
        spool.close()
    expected = sorted(
        (item for item in items if item.skip is None),
        key=lambda item: (not item.first_try, item.allocation.expires_at, item.allocation.sid.encode()),
    )
    assert released == expected
    assert {item.allocation.sid for item in skipped} == {item.allocation.sid for item in items if item.skip}
    assert (summary.first_tries, summary.repeats) == (
        sum(item.first_try for item in released),
        sum(not item.first_try for item in released),
    )


def test_a_large_plan_waits_in_a_file_without_a_name(spool: Spool) -> None:
    """Memory does not grow with the plan, and nothing of it can be found or be left behind."""
    before = nameless_files()
    spool.add(planned(f"{number:06d}", vm_ref="v" * 500) for number in range(8000))
    assert nameless_files() > before
    assert sum(1 for _ in spool.to_release()) == 8000


def nameless_files() -> int:
    """How many files this process has open that no folder lists any more and that are SQLite's temporary ones."""
    targets = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            targets.append(str(link.readlink()))
    return sum("etilqs_" in target and target.endswith("(deleted)") for target in targets)


def test_the_whole_plan_by_its_expiry(spool: Spool) -> None:
    spool.add([planned("young", 1), planned("held", 5, skip=SkipReason.HELD), planned("again", 9, known=REPEATED)])
    spool.add([planned("shared", 7, vm_ref="vm")])
    spool.mark_owned_twice("another", "default", "vm")
    assert sids(spool.by_expiry()) == ["again", "held", "young"]


def test_what_is_planned_for_one_sid(spool: Spool) -> None:
    held = planned("held", skip=SkipReason.HELD)
    spool.add([held, planned("shared", vm_ref="vm")])
    spool.mark_owned_twice("another", "default", "vm")
    assert spool.find("held") == (held, False)
    assert spool.find("shared") == (planned("shared", vm_ref="vm"), True)
    assert spool.find("nobody") is None
