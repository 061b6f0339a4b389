"""An operator's release: what it passes over, what it leaves alone all the same, and what it leaves in the journal."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from autorelease.deciding.unfinished import Moment
from autorelease.errors import ExitCode, ProvisionerDown, ProvisionerError, UnusableError
from autorelease.journal import TickKind
from autorelease.ledger.values import Vocabulary
from autorelease.model import Outcome
from autorelease.operate import conflicts_of
from autorelease.provisioners.memory import MemoryProvisioner
from autorelease.rules.guard import Limits
from tests.support.engine import EXPIRED, RENEWED, Engine, Scripted
from tests.support.place import TABLE
from tests.support.sweeping import MISS, PENDING, when

DONE = [("intent", None, None), ("outcome", "released", None)]
HOUR = timedelta(hours=1)


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """An empty ledger and an empty journal, whose guard would admit nothing and whose holds end slowly."""
    made = Engine(tmp_path)
    made.configure(concurrency=1, hold_grace=timedelta(days=1))
    return made


# --- what it passes over ----------------------------------------------------------------------------------------------


def test_what_has_not_expired_is_released_too(engine: Engine) -> None:
    engine.add("paid", expires_at=RENEWED)
    engine.add("beside", expires_at=RENEWED)
    engine.place.execute("INSERT INTO vm_allocations (sid, status) VALUES ('for-ever', 'Active')")
    provisioner = MemoryProvisioner(["paid", "beside", "for-ever"])
    ticked = engine.release(provisioner, "paid", "for-ever")
    assert (ticked.code, ticked.ends()) == (ExitCode.OK, {"paid": "released", "for-ever": "released"})
    assert engine.statuses() == {"paid": "Released", "for-ever": "Released", "beside": "Active"}
    assert engine.events("paid") == engine.events("for-ever") == DONE
    assert (ticked.report.rows_examined, ticked.report.rows_expired) == (2, 2)
    assert provisioner.vms == {"beside"}


def test_failures_are_not_waited_for(engine: Engine) -> None:
    engine.configure(quarantine_after=1)
    engine.add("a")
    provisioner = Scripted({"a": [ProvisionerError("broken")]})
    engine.tick(provisioner)
    assert engine.tick(provisioner).ends() == {"a": "backoff"}
    ticked = engine.release(provisioner, "a")
    assert (ticked.code, ticked.ends(), engine.failed_ticks()) == (ExitCode.OK, {"a": "released"}, {"a": 0})


def test_what_was_released_once_is_released_again(engine: Engine) -> None:
    engine.add("a")
    provisioner = MemoryProvisioner(["a"])
    engine.tick(provisioner)
    engine.place.execute("UPDATE vm_allocations SET status = 'Active', released_at = NULL")
    provisioner.vms.add("a")
    assert engine.tick(provisioner).ends() == {"a": "resurrected"}
    ticked = engine.release(provisioner, "a")
    assert (ticked.code, ticked.ends(), engine.statuses()) == (ExitCode.OK, {"a": "released"}, {"a": "Released"})


def test_each_goes_through_its_own_provisioner(engine: Engine) -> None:
    engine.add("a", "b")
    engine.add("c", provisioner="second", vm_ref="web-1")
    first, second = MemoryProvisioner(["a"]), MemoryProvisioner(["web-1"])
    ticked = engine.release({"default": first, "second": second}, "c", "a")
    assert (ticked.code, ticked.ends()) == (ExitCode.OK, {"a": "released", "c": "released"})
    assert (first.gone, second.gone) == ({"a"}, {"web-1"})


def test_what_has_nothing_left_is_already_released(engine: Engine) -> None:
    engine.words = Vocabulary(inactive=frozenset({"Cancelled"}))
    engine.add("gone", "cancelled")
    engine.mark_released("gone")
    engine.place.execute("UPDATE vm_allocations SET status = 'Cancelled' WHERE sid = 'cancelled'")
    provisioner = Scripted(preflight_error=ProvisionerDown("nobody is asked"))
    ticked = engine.release(provisioner, "gone", "cancelled")
    assert (ticked.code, set(ticked.ends().values())) == (ExitCode.OK, {"already_released"})
    assert (provisioner.calls, provisioner.preflights) == ([], 0)
    assert engine.statuses() == {"gone": "Released", "cancelled": "Cancelled"}


# --- what it leaves alone ---------------------------------------------------------------------------------------------


def test_what_is_held_is_left_alone(engine: Engine) -> None:
    engine.add("a", "b")
    engine.hold("a")
    provisioner = MemoryProvisioner(["a", "b"])
    ticked = engine.release(provisioner, "a", "b")
    assert (ticked.code, ticked.ends()) == (ExitCode.NOT_ALL_WELL, {"a": "held", "b": "released"})
    assert (engine.statuses()["a"], provisioner.vms) == ("Active", {"a"})


def test_a_hold_that_was_ended_by_hand_has_no_grace_here(engine: Engine) -> None:
    """Else "unhold first" would mean "come back tomorrow"."""
    engine.add("a")
    engine.hold("a")
    engine.unhold("a")
    provisioner = MemoryProvisioner(["a"])
    assert engine.tick(provisioner).ends() == {"a": "held"}
    assert engine.release(provisioner, "a").ends() == {"a": "released"}


def test_a_hold_that_is_made_while_the_operator_is_asked_counts(engine: Engine) -> None:
    engine.add("a")
    provisioner = MemoryProvisioner(["a"])
    ticked = engine.release(provisioner, "a", meanwhile=lambda: engine.hold("a"))
    assert (ticked.code, ticked.ends(), provisioner.releases) == (ExitCode.NOT_ALL_WELL, {"a": "held"}, {})


def test_what_is_not_understood_is_left_alone(engine: Engine) -> None:
    engine.add("strange", "good")
    engine.place.execute("UPDATE vm_allocations SET expires_at = 'soon' WHERE sid = 'strange'")
    provisioner = MemoryProvisioner(["strange", "good"])
    ticked = engine.release(provisioner, "strange", "good")
    assert (ticked.code, ticked.ends()) == (ExitCode.NOT_ALL_WELL, {"good": "released"})
    assert [row.sid for row in ticked.report.invalid] == ["strange"]
    assert (ticked.report.rows_examined, ticked.report.rows_invalid) == (2, 1)
    assert provisioner.vms == {"strange"}


@pytest.mark.parametrize("other", [RENEWED, EXPIRED, None])
def test_a_vm_that_another_row_holds_too_is_left_alone(engine: Engine, other: int | None) -> None:
    """One VM, two owners: whoever orders one of them may not know of the other."""
    engine.add("old", vm_ref="web-1")
    engine.add("new", vm_ref="web-1")
    engine.place.execute("UPDATE vm_allocations SET expires_at = ? WHERE sid = 'new'", other)
    provisioner = MemoryProvisioner(["web-1"])
    ticked = engine.release(provisioner, "old")
    assert (ticked.code, ticked.ends()) == (ExitCode.NOT_ALL_WELL, {})
    [row] = ticked.report.invalid
    assert (row.sid, row.reason) == ("old", "vm_ref 'web-1' is also held by 'new'")
    assert (provisioner.vms, engine.statuses()) == ({"web-1"}, {"old": "Active", "new": "Active"})


@pytest.mark.parametrize(
    ("sid", "provisioner", "shown"),
    [
        ("NULL", "NULL", "a row without a readable sid"),
        ("CAST(x'ff' AS TEXT)", "NULL", "a row without a readable sid"),
        ("x'6f6c64'", "'default'", "a row without a readable sid"),
        ("'new'", "CAST(x'ff' AS TEXT)", "'new'"),
        ("'new'", "x'00'", "'new'"),
    ],
)
def test_a_vm_that_a_row_holds_which_nobody_can_read_is_left_alone(
    engine: Engine, sid: str, provisioner: str, shown: str
) -> None:
    engine.add("old", vm_ref="web-1")
    engine.place.execute(
        "INSERT INTO vm_allocations (sid, provisioner, vm_ref, status, expires_at) "
        f"VALUES ({sid}, {provisioner}, 'web-1', 'Active', 1)"
    )
    ticked = engine.release(MemoryProvisioner(["web-1"]), "old")
    [row] = ticked.report.invalid
    assert (row.sid, row.reason) == ("old", f"vm_ref 'web-1' is also held by {shown}")
    assert ticked.ends() == {}


def test_a_vm_whose_other_row_is_held_is_left_alone(engine: Engine) -> None:
    engine.add("old", vm_ref="web-1")
    engine.add("new", vm_ref="web-1")
    engine.hold("new")
    provisioner = MemoryProvisioner(["web-1"])
    ticked = engine.release(provisioner, "old", "new")
    assert (ticked.code, ticked.ends(), provisioner.vms) == (ExitCode.NOT_ALL_WELL, {"new": "held"}, {"web-1"})


def test_a_vm_of_two_rows_goes_where_both_are_ordered_or_the_other_is_gone(engine: Engine) -> None:
    for sid, vm_ref in (("old", "web-1"), ("new", "web-1"), ("last", "web-2"), ("gone", "web-2")):
        engine.add(sid, vm_ref=vm_ref)
    engine.mark_released("gone")
    engine.add("elsewhere", vm_ref="web-2", provisioner="second")
    provisioner = Scripted()
    ticked = engine.release(provisioner, "old", "new", "last")
    assert (ticked.code, set(ticked.ends().values())) == (ExitCode.OK, {"released"})
    assert engine.statuses()["elsewhere"] == "Active"


@pytest.mark.parametrize(
    ("happens", "end"),
    [
        (f"UPDATE vm_allocations SET expires_at = {RENEWED} WHERE sid = 'a'", "renewed"),
        ("UPDATE vm_allocations SET vm_ref = 'another' WHERE sid = 'a'", "changed"),
        ("DELETE FROM vm_allocations WHERE sid = 'a'", "changed"),
    ],
)
def test_a_row_that_changes_under_its_hands_is_left_alone(engine: Engine, happens: str, end: str) -> None:
    engine.add("a", "b")
    provisioner = MemoryProvisioner(["a", "b"])
    # The first row is rehearsed with, too: a row that is gone must not stop the others.
    ticked = engine.release(provisioner, "a", "b", meanwhile=lambda: engine.place.execute(happens))
    assert (ticked.code, ticked.ends()) == (ExitCode.NOT_ALL_WELL, {"a": end, "b": "released"})
    assert provisioner.vms == {"a"}


def test_a_row_that_is_released_by_somebody_else_meanwhile(engine: Engine) -> None:
    engine.add("a")
    provisioner = MemoryProvisioner(["a"])
    ticked = engine.release(provisioner, "a", meanwhile=lambda: engine.mark_released("a"))
    assert (ticked.code, ticked.ends(), provisioner.releases) == (ExitCode.OK, {"a": "already_released"}, {})


def test_a_row_that_is_renewed_while_it_is_released_is_a_conflict(engine: Engine) -> None:
    engine.add("a")
    provisioner = MemoryProvisioner(["a"], before=when("a", lambda: engine.renew("a")))
    ticked = engine.release(provisioner, "a")
    assert (ticked.code, ticked.ends()) == (ExitCode.NOT_ALL_WELL, {"a": "conflict"})
    # The next tick still says so, although the row is paid for.
    assert engine.tick(provisioner).ends() == {"a": "conflict"}


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_a_release_that_fails_is_charged_and_waits_for_the_tick_as_any_other(engine: Engine) -> None:
    engine.add("a")
    provisioner = Scripted({"a": [ProvisionerError("broken")]})
    ticked = engine.release(provisioner, "a")
    assert (ticked.code, ticked.ends(), engine.failed_ticks()) == (ExitCode.NOT_ALL_WELL, {"a": "failed"}, {"a": 1})
    assert engine.tick(provisioner).ends() == {"a": "backoff"}


def test_a_pending_release_is_asked_again_by_the_next_tick(engine: Engine) -> None:
    engine.add("a")
    provisioner = Scripted({"a": [PENDING]})
    assert engine.release(provisioner, "a").ends() == {"a": "pending"}
    assert engine.open_intents() == {"a"}
    assert engine.tick(provisioner).ends() == {"a": "released"}


def test_a_miss_proves_nothing_here_either(engine: Engine) -> None:
    engine.add("a")
    ticked = engine.release(Scripted({"a": [MISS]}), "a")
    assert (ticked.code, ticked.ends()) == (ExitCode.PROVISIONER_DOWN, {"a": "unproven"})
    assert engine.statuses() == {"a": "Active"}


def test_a_provisioner_that_is_down_takes_only_its_own_with_it(engine: Engine) -> None:
    engine.add("a")
    engine.add("b", provisioner="second")
    engine.add("c", provisioner="nowhere")
    down = Scripted(preflight_error=ProvisionerDown("the token has expired"))
    ticked = engine.release({"default": down, "second": MemoryProvisioner(["b"])}, "a", "b", "c")
    assert ticked.code == ExitCode.PROVISIONER_DOWN
    assert ticked.ends() == {"a": "deferred", "b": "released", "c": "deferred"}
    assert ticked.report.down["default"] == "the token has expired"
    assert down.calls == []


def test_a_table_that_forbids_the_stamp_shows_before_any_call(tmp_path: Path) -> None:
    engine = Engine(tmp_path, table=TABLE.replace("status TEXT", "status TEXT CHECK (status = 'Active')"))
    engine.add("a")
    provisioner = Scripted()
    with pytest.raises(UnusableError):
        engine.release(provisioner, "a")
    assert (provisioner.calls, provisioner.preflights) == ([], 0)
    [past] = engine.past_ticks()
    assert (past["status"], past["exit_code"]) == ("unusable", 5)


def test_a_signal_ends_it_after_what_is_in_flight(engine: Engine) -> None:
    engine.add("a", "b")
    ticked = engine.release(Scripted(before=when("a", lambda: engine.stop.wish("SIGTERM"))), "a", "b")
    assert (ticked.code, ticked.ends()) == (ExitCode.TERMINATED, {"a": "released", "b": "deferred"})


# --- the journal ------------------------------------------------------------------------------------------------------


def test_it_is_in_the_journal_with_its_reason_and_is_no_tick_to_answer(engine: Engine) -> None:
    engine.limits = Limits(max_releases=0, max_percent=100, min_fleet=20)
    engine.add("a", "b")
    refused = engine.tick(Scripted())
    assert refused.code == ExitCode.REFUSED
    engine.release(MemoryProvisioner(["a"]), "a")
    journal = engine.open_journal()
    order, _ = journal.ticks()
    anchor, newest = journal.last_admitted_tick(), journal.newest_tick()
    journal.close()
    assert (order.start.kind, order.start.reason, order.status) == (TickKind.RELEASE, "because", "success")
    assert order.report is not None
    assert order.report["rows_released"] == 1
    assert (anchor, newest and newest.confirmable) == (None, 2)
    # One is left of the two that were refused: the answer still stands.
    assert engine.tick(Scripted(), confirm=2).ends() == {"b": "released"}


def test_beside_a_running_tick(engine: Engine) -> None:
    """It takes no lock: what both reach is released once more, which a provisioner must bear, and stamped once."""
    engine.add("a", "b")
    ordered: list[str] = []

    def order() -> None:
        ordered.append(engine.release(MemoryProvisioner(["b"]), "b").ends()["b"])

    ticked = engine.tick(Scripted(before=when("a", order)))
    assert ordered == ["released"]
    assert (ticked.code, ticked.ends()) == (ExitCode.OK, {"a": "released", "b": "already_released"})
    assert engine.open_intents() == set()
    assert [past["status"] for past in engine.past_ticks()] == ["success", "success"]


# --- conflicts --------------------------------------------------------------------------------------------------------


def conflicts(engine: Engine, *sids: str) -> list[str]:
    """The sids of the conflicts among these that are open."""
    ledger, journal = engine.open_ledger(), engine.open_journal()
    try:
        found, _ = conflicts_of(sids, ledger, journal, Moment(engine.now, engine.grace, engine.running))
        return [intent.sid for intent in found]
    finally:
        ledger.close()
        journal.close()


def test_the_conflicts_of_some(engine: Engine) -> None:
    for sid in ("renewed", "vanished", "due", "other"):
        engine.begin_and_lose(sid)
    engine.add("renewed", "other", expires_at=RENEWED)
    engine.add("due")
    assert conflicts(engine, "renewed", "vanished", "due", "unknown") == ["renewed", "vanished"]
    assert conflicts(engine) == []


def test_an_acknowledged_conflict_is_not_reported_any_more(engine: Engine) -> None:
    engine.add("a", expires_at=RENEWED)
    engine.begin_and_lose("a")
    assert engine.tick(Scripted()).ends() == {"a": "conflict"}
    engine.retry("a")
    ticked = engine.tick(Scripted())
    assert (ticked.code, ticked.ends()) == (ExitCode.OK, {})
    # When its new time is over it is an allocation like any other.
    engine.later(timedelta(days=31))
    engine.limits = Limits(max_releases=9, max_percent=100, min_fleet=20, max_clock_gap=timedelta(days=99))
    ticked = engine.tick(Scripted())
    assert (ticked.ends(), ticked.report.outcomes) == ({"a": "released"}, {Outcome.RELEASED: 1})


def test_an_order_says_of_a_conflict_nothing_and_releases_the_row_as_it_is_now(engine: Engine) -> None:
    """The operator names the row, whatever became of an earlier release; the conflict itself stays until `retry`."""
    engine.add("a", expires_at=RENEWED)
    engine.begin_and_lose("a")
    provisioner: Any = MemoryProvisioner(["a"])
    assert engine.release(provisioner, "a").ends() == {"a": "released"}
    assert engine.tick(provisioner).report.rows_expired == 0
    assert engine.open_intents() == set()


def test_a_resurrected_row_stays_one_when_its_release_by_hand_fails(engine: Engine) -> None:
    engine.limits = Limits(max_releases=1000, max_percent=100, min_fleet=20)
    engine.add("a")
    assert engine.tick(Scripted()).ends() == {"a": "released"}
    engine.place.execute("UPDATE vm_allocations SET status = 'Active', released_at = NULL")
    assert engine.release(Scripted({"a": [ProvisionerError("no")]}), "a").ends() == {"a": "failed"}
    engine.later(timedelta(days=2))
    assert engine.tick(Scripted()).ends() == {"a": "resurrected"}
