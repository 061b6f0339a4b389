"""How the plan is kept: it comes out as it went in, its checks are look-ups, and its order needs no sorting.

A disk that is full is named, whatever is being done with the plan.
"""

import re
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from autorelease.deciding import temporary as module
from autorelease.deciding.spool import Spool
from autorelease.deciding.temporary import PLACE
from autorelease.errors import UnusableError
from autorelease.identity import VM, Holder, Holders, References, vm_of
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
    SkipReason,
)
from autorelease.rules.identities import Identities, identity
from tests.support.sqlite_steps import statements_of, steps_of

NOW = datetime(2026, 12, 1, 12, 0, tzinfo=UTC)
# Of every kind: with NUL, without a letter, and lone surrogates, which is what bytes that are no UTF-8 are read as.
TEXT = st.text(st.characters(), max_size=6) | st.sampled_from(["", "\0", "a\0b", "\udcff\udcfe", "\ud83d\ude00", "7"])
INTEGER = st.integers(-(2**63), 2**63 - 1)
RAW = st.none() | INTEGER | st.floats(allow_nan=False) | TEXT | st.binary(max_size=6)
INSTANT = st.datetimes().map(lambda instant: instant.replace(tzinfo=UTC, fold=0)) | st.sampled_from(
    [datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC), NOW + timedelta(microseconds=1)]
)
COUNT = st.integers(0, 2**40)

STRATEGIES: dict[type[Any], dict[str, st.SearchStrategy[Any]]] = {
    RawRow: {"sid": RAW, "status": RAW, "expires_at": RAW},
    Attempts: {
        "failed_ticks": COUNT,
        "pending_ticks": COUNT,
        "next_attempt_at": st.none() | INSTANT,
        "quarantined": st.booleans(),
        "last_error": st.none() | TEXT,
    },
    # Short, so that a whole allocation stays within what is generated.
    MadeFor: {
        "provisioner": st.sampled_from(["", "default", "zwei\u00a0"]),
        "vm_ref": st.text(max_size=2),
        "vm_uid": st.sampled_from([None, "", "uid"]),
        "owner": st.none() | st.text(max_size=2),
    },
    Hold: {
        "sid": TEXT,
        "held_at": INSTANT,
        "until": st.none() | INSTANT,
        "reason": TEXT,
        "actor": TEXT,
        "ended_at": st.none() | INSTANT,
        "provisioner": st.sampled_from([None, "", "default"]),
    },
}
STRATEGIES[Hold]["made_for"] = st.none() | st.builds(MadeFor, **STRATEGIES[MadeFor])
STRATEGIES[Allocation] = {
    "sid": TEXT,
    "status": TEXT,
    "expires_at": st.none() | INSTANT,
    "settled": st.booleans(),
    "vm_ref": TEXT,
    "raw": st.builds(RawRow, **STRATEGIES[RawRow]),
    "released": st.booleans(),
    "provisioner": TEXT,
    "vm_uid": st.none() | TEXT,
    "owner": st.none() | TEXT,
    "plan": st.none() | TEXT,
}
STRATEGIES[Known] = {
    "attempts": st.none() | st.builds(Attempts, **STRATEGIES[Attempts]),
    "hold": st.none() | st.builds(Hold, **STRATEGIES[Hold]),
    "intent": st.booleans(),
    "intent_run": st.none() | TEXT,
    "intent_under": st.none() | TEXT,
    "is_orphaned": st.booleans(),
    "accepted": st.none() | st.sampled_from(Answer),
    "accepted_under": st.none() | TEXT,
    "released": st.booleans(),
    "skipped": st.none() | TEXT,
    "is_admitted": st.booleans(),
}
STRATEGIES[Planned] = {
    "allocation": st.builds(Allocation, **STRATEGIES[Allocation]),
    "known": st.just(NOTHING_KNOWN) | st.builds(Known, **STRATEGIES[Known]),
    "skip": st.none() | st.sampled_from(SkipReason),
}
PLANS = st.lists(
    st.builds(Planned, **STRATEGIES[Planned]), max_size=8, unique_by=lambda planned: planned.allocation.sid
)


@contextmanager
def opened(references: References = References.FOLDED) -> Iterator[Spool]:
    """An empty plan, for one example."""
    made = Spool(references)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def spool() -> Iterator[Spool]:
    """An empty plan."""
    with opened() as made:
        yield made


def planned(sid: str, hours: float = 1, **changes: Any) -> Planned:
    """One allocation that expired so many hours ago."""
    allocation = Allocation(
        sid=sid,
        status="Active",
        expires_at=NOW - hours * timedelta(hours=1),
        settled=False,
        vm_ref=sid,
        raw=RawRow(sid, "Active", 1),
    )
    return Planned(replace(allocation, **changes))


def exactly(item: Planned) -> str:
    """It, with what compares equal and is not the same: 1 and 1.0 and True, 0.0 and -0.0, an enum and its text."""
    return repr(item)


# --- it comes out as it went in -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(STRATEGIES))
def test_every_field_there_is_goes_there_and_back(kind: type[Any]) -> None:
    """A field that a later version adds is either stored or noticed here."""
    assert tuple(STRATEGIES[kind]) == kind.__match_args__


@given(PLANS)
def test_every_planned_allocation_comes_out_as_it_went_in(items: list[Planned]) -> None:
    with opened() as spool:
        spool.add(items)
        found = [spool.find(item.allocation.sid) for item in items]
        released, skipped = [*spool.to_release()], [*spool.skipped()]
    assert [exactly(each[0]) for each in found if each] == [exactly(item) for item in items]
    kept = {exactly(item) for item in items}
    assert {exactly(item) for item in (*released, *skipped)} <= kept
    assert len(skipped) == sum(item.skip is not None for item in items)
    assert len(released) == sum(item.skip is None and item.allocation.vm_ref != "" for item in items)


@given(PLANS)
def test_text_that_is_no_utf_8_is_found_listed_and_identified_like_any_other(items: list[Planned]) -> None:
    due = [item for item in items if item.skip is None and item.allocation.vm_ref]
    with opened(References.EXACT) as spool:
        spool.add(items)
        assert {name for page in spool.due_vms() for name in page} == {item.allocation.vm_ref for item in due}
        assert set(spool.provisioners()) == {item.allocation.provisioner for item in due}
        assert [*spool.by_expiry()] != [] or not [item for item in items if item.skip or item.allocation.vm_ref]
        new = [item.allocation for item in due if item.known.attempts is None and not item.known.intent]
        assert spool.identities() == b"".join(sorted(identity(row.sid, row.expires_at) for row in new))


def test_of_a_page_with_one_strange_row_all_are_kept_each_once(spool: Spool) -> None:
    """SQLite takes the rows before it, and not it; none of them may come twice, or not at all."""
    items = [planned(f"{number:04}", 2000 - number) for number in range(1200)]
    items[700] = planned("0700", 1300, owner="M\udcfcller")
    items[701] = planned("0701", 1299, raw=RawRow(b"0701", b"t", b""), owner="M\udcfcller")
    spool.add(items)
    assert [*spool.to_release()] == items


def test_a_sid_that_is_there_stays_as_it_was_whatever_is_known_of_it(spool: Spool) -> None:
    first, second = planned("a", 5), Planned(planned("a", 1).allocation, Known(intent=True))
    spool.add([first, second])
    spool.add([second])
    assert [*spool.to_release()] == [first]


# --- its checks are look-ups ----------------------------------------------------------------------------------------

NAMES = st.sampled_from(["web", "n/a", "w\udcfcb"])
UIDS = st.none() | st.sampled_from(["1", "2", "\udcff"])
SIDS = st.sampled_from(["a", "b", "c", "d", "e"])
HELD = st.builds(Holder, st.none() | SIDS, st.builds(VM, st.none() | st.sampled_from(["x", "y"]), NAMES, UIDS))
DUE = st.builds(
    lambda sid, vm_ref, provisioner, uid, skip: replace(
        planned(sid, vm_ref=vm_ref, provisioner=provisioner, vm_uid=uid), skip=skip
    ),
    SIDS,
    NAMES,
    st.sampled_from(["x", "y"]),
    UIDS,
    st.none() | st.sampled_from([SkipReason.BACKOFF, SkipReason.HELD]),
)


@given(st.lists(DUE, unique_by=lambda item: item.allocation.sid), st.lists(HELD, max_size=6))
def test_a_vm_is_owned_twice_where_the_one_comparison_of_vms_says_so(
    items: list[Planned], holders: list[Holder]
) -> None:
    """As everybody else compares them: what looks again before every call, and an operator's order."""
    to_go = {item.allocation.sid for item in items if item.skip in {None, SkipReason.BACKOFF}}
    staying = Holders(holder for holder in holders if holder.sid not in to_go)
    due = [item.allocation for item in items if item.skip is None]
    owned = {row.sid for row in due if staying.of(vm_of(row, References.FOLDED)) is not None}
    with opened() as spool:
        spool.add(items)
        spool.mark_owned_twice(holders)
        count, rows = spool.invalid(10)
        assert ({row.sid for row in rows}, count) == (owned, len(owned))
        assert {item.allocation.sid for item in spool.to_release()} == {row.sid for row in due} - owned
    names = {holder.name for holder in holders if holder.sid not in to_go}
    assert all(row.reason.partition(" is also held by ")[2] in names for row in rows)


@pytest.mark.parametrize("provisioner", ["default", None])
def test_where_one_of_two_uids_is_unknown_the_vm_may_be_the_same(spool: Spool, provisioner: str | None) -> None:
    spool.add([planned("known", vm_ref="vm", vm_uid="1"), planned("unknown", vm_ref="vm")])
    spool.mark_owned_twice([Holder("paying", VM(provisioner, "vm", "2"))])
    assert [row.sid for row in spool.invalid(10)[1]] == ["unknown"]
    spool.mark_owned_twice([Holder("paying, too", VM(provisioner, "vm"))])
    assert [row.sid for row in spool.invalid(10)[1]] == ["known", "unknown"]
    assert [*spool.to_release()] == []


def test_what_comes_after_a_look_is_asked_of_the_same_holders_in_the_next_one(spool: Spool) -> None:
    paying = Holder("paying", VM("default", "vm"))
    spool.add([planned("a", vm_ref="vm")])
    spool.mark_owned_twice([paying])
    spool.add([planned("b", vm_ref="vm")])
    spool.mark_owned_twice([paying])
    assert [row.sid for row in spool.invalid(10)[1]] == ["a", "b"]


LAST = Holder("last", VM("default", "n/a", "due-7"))


@pytest.mark.parametrize("uid", ["of-{}", None], ids=["uids of their own", "no uids"])
def test_twice_as_many_holders_of_a_placeholder_take_about_twice_as_many_steps(uid: str | None) -> None:
    """A join that compares each with each takes four times as many, and hours where many rows say `n/a`."""

    def steps(size: int) -> int:
        with opened() as spool:
            spool.add(planned(f"d{number}", vm_ref="n/a", vm_uid=f"due-{number}") for number in range(size))
            holders = [Holder(f"h{n}", VM("other", "n/a", uid and uid.format(n))) for n in range(5 * size)]
            taken = steps_of(spool._connection, lambda: spool.mark_owned_twice([*holders, LAST]))
            assert [row.sid for row in spool.invalid(10)[1]] == ["d7"]
        return taken

    assert steps(4000) < 3 * steps(2000)


def test_no_statement_of_the_check_compares_each_with_each(spool: Spool) -> None:
    plans = plans_of(spool, lambda: spool.mark_owned_twice([Holder("paying", VM("default", "vm", "7"))]))
    assert plans
    assert not [step for steps in plans.values() for step in steps if re.match(r"SCAN (TABLE )?(plan|staying)\b", step)]


# --- its order needs no sorting -------------------------------------------------------------------------------------


def plans_of(spool: Spool, act: Callable[[], object]) -> dict[str, list[str]]:
    """The statements that this takes, and how SQLite goes about each."""
    connection = spool._connection
    asking = [each for each in statements_of(connection, act) if re.match("SELECT|UPDATE|INSERT", each)]
    return {each: [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {each}")] for each in asking}


@pytest.mark.parametrize("read", [Spool.to_release, Spool.skipped, Spool.not_covered, Spool.by_expiry])
def test_the_plan_is_read_in_its_order_without_being_sorted(
    spool: Spool, read: Callable[[Spool], Iterator[Planned]]
) -> None:
    spool.add([planned("a"), of("other", planned("b")), of("\udcff", planned("c"))])
    spool.cover(Identities(b""))
    if read is Spool.to_release:
        spool.cover_all()
    steps = plans_of(spool, lambda: list(read(spool)))
    assert len(steps) == (4 if read in (Spool.to_release, Spool.not_covered) else 1)
    assert not [step for each in steps.values() for step in each if "TEMP B-TREE" in step]


def of(provisioner: str, item: Planned) -> Planned:
    """The same, of another provisioner."""
    return replace(item, allocation=replace(item.allocation, provisioner=provisioner))


def test_the_rows_of_one_provisioner_are_found_by_the_index_and_all_of_them_in_one_order(spool: Spool) -> None:
    names = ("default", "other", "\udcff")
    items = [of(names[number % 3], planned(f"{number:03}", 1000 - number // 2)) for number in range(60)]
    repeats = [replace(items[number], known=Known(intent=True)) for number in range(0, 60, 7)]
    first = [item for number, item in enumerate(items) if number % 7]
    spool.add(reversed([*repeats, *first]))
    assert list(spool.to_release()) == [*first, *repeats]
    for name in names:
        assert list(spool.to_release(name)) == [
            item for item in (*first, *repeats) if item.allocation.provisioner == name
        ]
    [steps, *of_facts] = plans_of(spool, lambda: list(spool.to_release("other"))).values()
    assert len(steps) == 1
    # What the journal knows of a row is read for that row.
    assert {step.replace(" TABLE", "") for [step] in of_facts} == {"SEARCH plan USING INTEGER PRIMARY KEY (rowid=?)"}
    assert re.match(r"SEARCH (TABLE )?plan USING INDEX execution \(provisioner=\?\)", steps[0]), steps
    assert list(spool.to_release("nobody")) == []


def test_a_reading_goes_on_while_others_begin_and_end(spool: Spool) -> None:
    """A tick reads its plan for as long as it runs."""
    items = [planned(f"{number:04}", 5000 - number) for number in range(2000)]
    spool.add(items)
    reading = spool.to_release()
    read = [next(reading) for _ in range(10)]
    assert len([*spool.by_expiry()]) == spool.summary(1).first_tries == 2000
    assert (spool.find("0001"), spool.shared_vms()) == ((items[1], None), frozenset())
    assert [*read, *reading] == items


def test_a_reading_may_be_given_up_after_the_plan_is_gone() -> None:
    """A tick that is stopped lets its plan go, and what it was reading of it after that."""
    with opened() as spool:
        spool.add([planned("a"), planned("b")])
        generator = spool._read("SELECT sid FROM plan")
        assert next(generator) == ("a",)
    generator.close()


def test_an_answer_for_some_covers_these_alone_page_by_page(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 3)
    items = [planned(str(number), 20 - number) for number in range(10)]
    spool.add([*items, Planned(planned("begun", 1).allocation, Known(intent=True))])
    answered = [item.allocation for item in items[::2]]
    spool.cover(Identities(b"".join(sorted(identity(row.sid, row.expires_at) for row in answered))))
    assert [item.allocation.sid for item in spool.to_release()] == ["0", "2", "4", "6", "8", "begun"]
    assert [item.allocation.sid for item in spool.not_covered()] == ["1", "3", "5", "7", "9"]
    spool.cover_all()
    assert (spool.summary(1).first_tries, [*spool.not_covered()]) == (10, [])


# --- a disk that is full says so ------------------------------------------------------------------------------------


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """No file of this process can grow beyond it, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


ACTS: dict[str, Callable[[Spool], object]] = {
    "a row is added": lambda spool: spool.add(many(1000)),
    "the VMs are listed": lambda spool: [*spool.due_vms()],
    "holders are kept": lambda spool: spool.mark_owned_twice(
        Holder(f"h{number}", VM("default", "v" * 500, str(number))) for number in range(2000)
    ),
    "it is summed up": lambda spool: spool.summary(1),
    "it is sorted": lambda spool: next(spool.to_release()),
    "what is skipped is sorted": lambda spool: [*spool.skipped()],
    "it is sorted by expiry": lambda spool: [*spool.by_expiry()],
    "equal VMs are sought": lambda spool: spool.shared_vms(),
    "answers are noted": lambda spool: spool.cover(Identities(b"")),
}


def many(count: int) -> Iterator[Planned]:
    """Rows and indexes of some length."""
    for number in range(count):
        item = planned(f"{number * 7919 % count:0500}", vm_ref=f"{number * 6007 % count:0500}")
        yield replace(item, skip=SkipReason.HELD) if number % 2 else item


@pytest.mark.parametrize("act", list(ACTS))
def test_a_full_disk_is_named_whatever_is_being_done_with_the_plan(spool: Spool, act: str) -> None:
    # So that the indexes alone are larger than what SQLite keeps in memory.
    spool._connection.execute("PRAGMA cache_size = 20")
    spool.add(many(2000))
    with no_file_above(4096), pytest.raises(UnusableError) as raised:
        ACTS[act](spool)
    assert str(raised.value).startswith(PLACE)


def test_a_plan_that_cannot_be_read_any_more_is_named(spool: Spool) -> None:
    spool.add(many(10))
    spool._connection.execute("DROP TABLE plan")
    for read in (
        spool.identities,
        spool.provisioners,
        spool.cover_all,
        lambda: spool.find("a"),
        lambda: spool.invalid(1),
    ):
        with pytest.raises(UnusableError, match=re.escape(PLACE)):
            read()
