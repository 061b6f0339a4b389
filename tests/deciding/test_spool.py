"""The plan while it waits: read again in the order of execution, each row once, and no file left behind."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from autorelease.deciding import temporary as module
from autorelease.deciding.spool import Spool
from autorelease.identity import NO_VM, VM, Holder, References
from autorelease.model import Allocation, Attempts, Known, Planned, RawRow, SkipReason
from autorelease.rules.identities import Identities, identity, packed
from tests.support.thorough import is_thorough

NOW = datetime(2026, 12, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
REPEATED = Known(attempts=Attempts(failed_ticks=1))
MANY = 100_000 if is_thorough() else 10_000


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


def holder(sid: str | None, vm_ref: str, provisioner: str | None = "default", uid: str | None = None) -> Holder:
    """A live row that holds this VM."""
    return Holder(sid, VM(provisioner, vm_ref, uid))


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
    spool.mark_owned_twice([holder("other", "x", "doubted")])
    assert spool.provisioners() == ["hetzner", "ovh"]


def test_a_vm_that_somebody_else_holds_too_is_nobodys_to_release(spool: Spool) -> None:
    spool.add([planned("a", vm_ref="vm"), planned("b", vm_ref="vm"), planned("c", vm_ref="vm", provisioner="other")])
    spool.mark_owned_twice([holder("paying", "vm")])
    assert sids(spool.to_release()) == ["c"]
    count, rows = spool.invalid(limit=10)
    assert (count, [row.sid for row in rows]) == (2, ["a", "b"])
    assert {row.reason for row in rows} == {"vm_ref 'vm' is also held by 'paying'"}
    assert spool.summary(9).first_tries == 1


def test_a_holder_that_nobody_can_read_is_not_due_and_may_be_of_any_provisioner(spool: Spool) -> None:
    spool.add([planned("None", vm_ref="vm"), planned("b", vm_ref="vm", provisioner="other"), planned("c", vm_ref="w")])
    spool.mark_owned_twice([holder(None, "vm")])
    assert sids(spool.to_release()) == ["b", "c"]
    spool.mark_owned_twice([holder(None, "vm", None)])
    assert sids(spool.to_release()) == ["c"]


def test_a_vm_of_two_due_rows_is_released(spool: Spool) -> None:
    """The row itself and every other due one are reported as holders, too."""
    spool.add([planned("a", vm_ref="vm"), planned("b", vm_ref="vm")])
    spool.mark_owned_twice([holder("a", "vm"), holder("b", "vm")])
    assert sids(spool.to_release()) == ["a", "b"]
    assert spool.invalid(limit=10) == (0, [])


@pytest.mark.parametrize("skip", [SkipReason.RESURRECTED, SkipReason.HELD])
def test_a_row_that_is_left_alone_still_holds_its_vm(spool: Spool, skip: SkipReason) -> None:
    spool.add([planned("a", vm_ref="vm"), planned("b", vm_ref="vm", skip=skip)])
    spool.mark_owned_twice([holder("a", "vm"), holder("b", "vm")])
    assert sids(spool.to_release()) == []
    [row] = spool.invalid(limit=10)[1]
    assert (row.sid, row.reason) == ("a", "vm_ref 'vm' is also held by 'b'")


def test_a_row_in_backoff_is_overdue_and_keeps_nobodys_vm(spool: Spool) -> None:
    spool.add([planned("a", vm_ref="vm"), planned("b", vm_ref="vm", skip=SkipReason.BACKOFF)])
    spool.mark_owned_twice([holder("a", "vm"), holder("b", "vm")])
    assert sids(spool.to_release()) == ["a"]


def test_two_spellings_are_one_vm_unless_references_are_exact() -> None:
    for references, going in ((References.FOLDED, []), (References.EXACT, ["a"])):
        spool = Spool(references)
        spool.add([planned("a", vm_ref="WEB-1 ")])
        [[reference]] = spool.due_vms()
        spool.mark_owned_twice([holder("paying", "web-1")])
        assert sids(spool.to_release()) == going
        assert reference == ("web-1" if references is References.FOLDED else "WEB-1 ")
        spool.close()


def test_an_allocation_without_a_vm_is_invalid_by_itself(spool: Spool) -> None:
    bare = planned("a")
    spool.add(
        [
            Planned(replace(bare.allocation, vm_ref="")),
            Planned(replace(bare.allocation, sid="b", vm_ref=""), skip=SkipReason.HELD),
        ]
    )
    assert list(spool.due_vms()) == []
    spool.mark_owned_twice([holder("paying", "")])
    assert (sids(spool.to_release()), sids(spool.skipped())) == ([], ["b"])
    count, [row] = spool.invalid(limit=10)
    assert (count, row.sid, row.reason) == (1, "a", NO_VM)
    assert spool.summary(9).first_tries == 0


def test_a_placeholder_for_a_vm_marks_all_of_its_rows(spool: Spool) -> None:
    """Two thousand due rows and twenty thousand holders of one name; what that costs is counted elsewhere."""
    spool.add(
        Planned(replace(planned(f"d{number}", vm_ref="n/a").allocation, vm_uid=f"due-{number}"))
        for number in range(2_000)
    )
    holders = [holder(f"h{number}", "n/a", uid=f"live-{number}") for number in range(20_000)]
    spool.mark_owned_twice(holders)
    assert spool.invalid(limit=1) == (0, [])
    spool.mark_owned_twice([*holders, holder("last", "n/a")])
    assert spool.invalid(limit=1)[0] == 2_000


def test_the_list_of_doubted_rows_ends_and_their_number_does_not(spool: Spool) -> None:
    spool.add([planned(str(number), vm_ref="vm") for number in range(5)])
    spool.mark_owned_twice([holder("paying", "vm")])
    count, rows = spool.invalid(limit=3)
    assert (count, len(rows)) == (5, 3)


def test_the_vms_come_in_chunks_while_rows_are_marked(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 2)
    spool.add([planned(str(number), vm_ref=f"vm-{number // 2}") for number in range(10)])
    spool.add([planned("s", skip=SkipReason.BACKOFF, vm_ref="not asked for")])
    chunks: list[str] = []
    for chunk in spool.due_vms():
        assert 0 < len(chunk) <= 2
        chunks += chunk
        spool.mark_owned_twice([holder("paying", chunk[0])])
    assert sorted(chunks) == [f"vm-{number}" for number in range(5)]
    with_sids = [*spool.due_vms_and_sids()]
    assert sorted(name for names, _ in with_sids for name in names) == sorted(chunks)
    assert {sid for _, sids in with_sids for sid in sids} <= {str(number) for number in range(10)}


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
    spool.mark_owned_twice([holder("another", "vm")])
    assert sids(spool.by_expiry()) == ["again", "held", "young"]


def test_the_invalid_rows_by_their_expiry(spool: Spool) -> None:
    spool.add([planned("sound", 1), planned("held", 5, skip=SkipReason.HELD)])
    spool.add([planned("young", 3, vm_ref="vm"), planned("old", 7, vm_ref="vm")])
    spool.mark_owned_twice([holder("another", "vm")])
    assert [(item.allocation.sid, reason) for item, reason in spool.doubtful()] == [
        ("old", "vm_ref 'vm' is also held by 'another'"),
        ("young", "vm_ref 'vm' is also held by 'another'"),
    ]


def test_what_is_planned_for_one_sid(spool: Spool) -> None:
    held = planned("held", skip=SkipReason.HELD)
    spool.add([held, planned("shared", vm_ref="vm")])
    spool.mark_owned_twice([holder("another", "vm")])
    assert spool.find("held") == (held, None)
    assert spool.find("shared") == (planned("shared", vm_ref="vm"), "vm_ref 'vm' is also held by 'another'")
    assert spool.find("nobody") is None


# --- what an answer covers --------------------------------------------------------------------------------------------


def of(*plans: Planned) -> Identities:
    """The identities of these, as a refusal has written them down."""
    return Identities(packed(identity(each.allocation.sid, each.allocation.expires_at) for each in plans))


def test_of_the_first_tries_only_the_covered_ones_are_released(spool: Spool) -> None:
    seen, renewed, new = planned("seen", 3), planned("renewed", 4), planned("new", 2)
    repeat, admitted = planned("repeat", 9, known=REPEATED), planned("admitted", 8, known=Known(is_admitted=True))
    spool.add([seen, renewed, new, repeat, admitted, planned("held", skip=SkipReason.HELD)])
    assert spool.summary(9).first_tries == 3
    spool.cover(of(seen, planned("renewed", 5), planned("gone")))
    assert sids(spool.to_release()) == ["seen", "repeat", "admitted"]
    assert sids(spool.not_covered()) == ["renewed", "new"]
    summary = spool.summary(9)
    assert (summary.first_tries, summary.repeats, summary.first_sids[0]) == (1, 2, "seen")
    # What nobody has answered for is nobody's to remember as admitted.
    assert spool.identities() == packed([identity("seen", NOW - 3 * HOUR), identity("admitted", NOW - 8 * HOUR)])


def test_an_answer_that_is_not_accepted_covers_nothing(spool: Spool) -> None:
    spool.add([planned("a", 2), planned("b", 1)])
    spool.cover(Identities(b""))
    assert (sids(spool.to_release()), spool.summary(9).first_tries, spool.identities()) == ([], 0, b"")
    spool.cover_all()
    assert (sids(spool.to_release()), sids(spool.not_covered())) == (["a", "b"], [])
    assert len(Identities(spool.identities())) == 2


def test_nobody_is_uncovered_unless_somebody_answers(spool: Spool) -> None:
    spool.add([planned("a"), planned("b", known=REPEATED)])
    assert sids(spool.not_covered()) == []


def test_provisioners_and_vms_are_of_what_is_covered(spool: Spool) -> None:
    seen = planned("seen", vm_ref="vm")
    spool.add([seen, planned("new", vm_ref="vm"), planned("other", provisioner="ovh")])
    assert len(spool.shared_vms()) == 1
    spool.cover(of(seen))
    assert spool.provisioners() == ["default"]
    assert spool.shared_vms() == frozenset()


def test_the_identities_are_of_all_that_was_not_tried(spool: Spool) -> None:
    spool.add(
        [
            planned("first"),
            planned("admitted", known=Known(is_admitted=True)),
            planned("failed", known=REPEATED),
            planned("begun", known=Known(intent=True)),
            planned("failed and admitted", known=Known(attempts=Attempts(), is_admitted=True)),
            planned("held", skip=SkipReason.HELD),
            planned("doubted", vm_ref="shared"),
        ]
    )
    spool.mark_owned_twice([holder("paying", "shared")])
    assert spool.identities() == packed(identity(sid, NOW - HOUR) for sid in ("first", "admitted"))


def test_which_vms_are_of_more_than_one_row(spool: Spool) -> None:
    spool.add(
        [
            planned("a", vm_ref="VM-1"),
            planned("b", vm_ref=" vm-1"),
            planned("c", vm_ref="vm-1", provisioner="ovh"),
            planned("d", vm_ref="vm-2"),
            planned("e", vm_ref="vm-2", skip=SkipReason.HELD),
        ]
    )
    assert spool.shared_vms() == {("default", "vm-1")}


def test_many_rows_are_remembered_in_sixteen_bytes_each(spool: Spool) -> None:
    spool.add(planned(f"{number:06d}") for number in range(MANY))
    rows = spool.identities()
    assert len(rows) == 16 * MANY
    spool.cover(Identities(rows))
    assert spool.summary(1).first_tries == MANY
