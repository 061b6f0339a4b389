"""A tick from its decision to its report: every outcome, unfinished work, guard, rehearsal, and sudden death."""

import shutil
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from autorelease.errors import ExitCode, ProvisionerDown, ProvisionerError, UnusableError
from autorelease.ledger.sqlite import SQLiteLedger
from autorelease.ledger.values import Vocabulary
from autorelease.model import Allocation, Outcome, Release, SkipReason
from autorelease.provisioners import Provisioner
from autorelease.provisioners.memory import MemoryProvisioner
from autorelease.rules.guard import Limits
from autorelease.sweep.closing import note_failed_start
from autorelease.sweep.edge.stop import Stop
from autorelease.sweep.edge.workers import Workers
from autorelease.sweep.preview import preview
from autorelease.sweep.report import exit_code, tick_object
from tests.support.engine import EXPIRED, NOW, RENEWED, Answer, Engine, Scripted, Wrapper
from tests.support.place import TABLE
from tests.support.sweeping import MISS, PENDING, when
from tests.support.thorough import stride

DONE = [("intent", None, None), ("outcome", "released", None)]


def one_worker(engine: Engine) -> None:
    """So that the order of what happens is the order of the plan."""
    engine.configure(concurrency=1)


# --- outcomes ---------------------------------------------------------------------------------------------------------


def test_released_is_stamped_and_journalled(engine: Engine) -> None:
    engine.add("a", "b")
    engine.add("still-paid", expires_at=RENEWED)
    ticked = engine.tick(MemoryProvisioner(["a", "b", "still-paid"]))
    assert ticked.code == ExitCode.OK
    assert ticked.ends() == {"a": "released", "b": "released"}
    assert engine.statuses() == {"a": "Released", "b": "Released", "still-paid": "Active"}
    stamped = engine.place.query("SELECT released_at FROM vm_allocations WHERE sid = 'a'")
    assert stamped == [(int(NOW.timestamp()),)]
    assert engine.events("a") == DONE
    assert engine.events("still-paid") == []
    assert engine.open_intents() == set()


def test_already_released_by_proof(engine: Engine) -> None:
    engine.add("a")
    provisioner = MemoryProvisioner()
    provisioner.gone.add("a")
    ticked = engine.tick(provisioner)
    assert (ticked.code, ticked.ends()) == (ExitCode.OK, {"a": "already_released"})
    assert engine.statuses() == {"a": "Released"}
    assert engine.events("a") == [("intent", None, None), ("outcome", "already_released", None)]


def test_already_released_by_somebody_else_between_listing_and_acting(engine: Engine) -> None:
    one_worker(engine)
    engine.add("a", "b")
    provisioner = MemoryProvisioner(["a", "b"], before=when("a", lambda: engine.mark_released("b")))
    ticked = engine.tick(provisioner)
    assert (ticked.code, ticked.ends()) == (ExitCode.OK, {"a": "released", "b": "already_released"})
    assert provisioner.releases["b"] == 0
    assert engine.events("b") == [("outcome", "already_released", None)]
    assert engine.place.query("SELECT released_at FROM vm_allocations WHERE sid = 'b'") == [(1,)]


def test_pending_is_asked_again_and_becomes_an_error(engine: Engine) -> None:
    engine.configure(quarantine_after=3)
    engine.add("a")
    provisioner = Scripted({"a": [PENDING] * 3})
    for _ in range(2):
        ticked = engine.tick(provisioner)
        assert (ticked.ends(), ticked.report.outcomes) == ({"a": "pending"}, {Outcome.PENDING: 1})
        assert engine.statuses() == {"a": "Active"}
        assert engine.open_intents() == {"a"}
        engine.later()
    ticked = engine.tick(provisioner)
    assert (ticked.ends(), ticked.code) == ({"a": "failed"}, ExitCode.NOT_ALL_WELL)
    assert "still not gone" in ticked.report.errors[0].message
    assert engine.open_intents() == {"a"}
    engine.later(timedelta(hours=2))
    assert engine.tick(provisioner).ends() == {"a": "released"}
    assert engine.open_intents() == set()


@pytest.mark.parametrize(
    ("happens", "reason"),
    [
        (f"UPDATE vm_allocations SET expires_at = {RENEWED} WHERE sid = 'b'", "renewed"),
        (f"UPDATE vm_allocations SET expires_at = {EXPIRED + 2} WHERE sid = 'b'", "renewed"),
        ("UPDATE vm_allocations SET expires_at = NULL WHERE sid = 'b'", "renewed"),
        ("UPDATE vm_allocations SET vm_ref = 'another' WHERE sid = 'b'", "changed"),
        ("UPDATE vm_allocations SET vm_uid = 'another' WHERE sid = 'b'", "changed"),
        ("UPDATE vm_allocations SET provisioner = 'another' WHERE sid = 'b'", "changed"),
        ("UPDATE vm_allocations SET status = 'Suspended' WHERE sid = 'b'", "changed"),
        ("UPDATE vm_allocations SET status = 'released ' WHERE sid = 'b'", "changed"),
        ("UPDATE vm_allocations SET expires_at = expires_at + 0.0 WHERE sid = 'b'", "changed"),
        ("DELETE FROM vm_allocations WHERE sid = 'b'", "changed"),
    ],
)
def test_a_row_that_changed_since_it_was_listed_is_left_alone(engine: Engine, happens: str, reason: str) -> None:
    one_worker(engine)
    engine.add("a", "b", "c")
    provisioner = MemoryProvisioner(["a", "b", "c"], before=when("a", lambda: engine.place.execute(happens)))
    ticked = engine.tick(provisioner)
    assert ticked.ends() == {"a": "released", "b": reason, "c": "released"}
    # The audit of the same tick finds that nobody can be sure of it any more.
    is_invalid = "'released '" in happens
    assert (ticked.code, ticked.report.rows_invalid) == (3 if is_invalid else 0, int(is_invalid))
    assert provisioner.releases["b"] == 0
    assert engine.statuses().get("b") != "Released"
    assert engine.events("b") == [("skip", "skipped", reason)]


def test_a_row_that_became_inactive_is_left_alone(engine: Engine) -> None:
    one_worker(engine)
    engine.words = Vocabulary(inactive=frozenset({"Cancelled"}))
    engine.add("a", "b")
    cancel = "UPDATE vm_allocations SET status = 'Cancelled' WHERE sid = 'b'"
    ticked = engine.tick(MemoryProvisioner(["a", "b"], before=when("a", lambda: engine.place.execute(cancel))))
    assert (ticked.code, ticked.ends()) == (ExitCode.OK, {"a": "released", "b": "changed"})


def test_a_failed_row_is_charged_and_rests(engine: Engine) -> None:
    engine.add("a", "b")
    provisioner = Scripted({"a": [ProvisionerError("no such disk")]})
    ticked = engine.tick(provisioner)
    assert (ticked.code, ticked.ends()) == (ExitCode.NOT_ALL_WELL, {"a": "failed", "b": "released"})
    [error] = ticked.report.errors
    assert (error.sid, error.message, error.attempts, error.retryable) == ("a", "no such disk", 1, False)
    assert error.next_attempt_at is not None
    assert NOW < error.next_attempt_at <= NOW + timedelta(hours=1)
    assert engine.events("a") == [("intent", None, None), ("outcome", "failed", "failed")]
    assert engine.statuses() == {"a": "Active", "b": "Released"}
    assert engine.open_intents() == set()

    engine.later(timedelta(minutes=10))
    ticked = engine.tick(provisioner)
    assert (ticked.code, ticked.ends()) == (ExitCode.NOT_ALL_WELL, {"a": "backoff"})
    engine.later(timedelta(hours=1))
    assert engine.tick(provisioner).ends() == {"a": "released"}
    assert provisioner.calls.count("a") == 2


def test_quarantine_is_one_try_a_day_and_named_in_every_summary(engine: Engine) -> None:
    engine.configure(quarantine_after=2)
    engine.add("a")
    provisioner = Scripted({"a": [ProvisionerError("broken")] * 9})
    engine.tick(provisioner)
    engine.later(timedelta(hours=1))
    assert engine.tick(provisioner).report.rows_quarantined == 1
    for _ in range(21):
        engine.later(timedelta(hours=1))
        ticked = engine.tick(provisioner)
        assert (ticked.ends(), ticked.report.rows_quarantined) == ({"a": "backoff"}, 1)
        assert ticked.code == ExitCode.NOT_ALL_WELL
    assert provisioner.calls == ["a", "a"]
    engine.later(timedelta(hours=3))
    assert engine.tick(provisioner).ends() == {"a": "failed"}


def test_a_skip_is_an_event_only_when_its_reason_is_new(engine: Engine) -> None:
    engine.add("a")
    provisioner = Scripted({"a": [ProvisionerError("broken")] * 2})
    engine.tick(provisioner)
    for _ in range(3):
        engine.later(timedelta(minutes=5))
        assert engine.tick(provisioner).ends() == {"a": "backoff"}
    assert engine.events("a")[2:] == [("skip", "skipped", "backoff")]


def test_a_row_that_the_journal_knows_as_released_is_not_released_again(engine: Engine) -> None:
    engine.add("a")
    provisioner = MemoryProvisioner(["a"])
    engine.tick(provisioner)
    engine.place.execute("UPDATE vm_allocations SET status = 'Active', released_at = NULL")
    engine.later()
    ticked = engine.tick(provisioner)
    assert (ticked.code, ticked.ends()) == (ExitCode.NOT_ALL_WELL, {"a": "resurrected"})
    assert provisioner.releases["a"] == 1
    assert engine.statuses() == {"a": "Active"}
    # Renewed after that it is an allocation like any other.
    engine.renew("a", EXPIRED + 60)
    provisioner.vms.add("a")
    engine.later()
    assert engine.tick(provisioner).ends() == {"a": "released"}


def test_a_row_renewed_while_it_is_released_is_a_conflict(engine: Engine) -> None:
    engine.add("a")
    ticked = engine.tick(MemoryProvisioner(["a"], before=when("a", lambda: engine.renew("a"))))
    assert (ticked.code, ticked.ends()) == (ExitCode.NOT_ALL_WELL, {"a": "conflict"})
    assert engine.statuses() == {"a": "Active"}
    assert engine.open_intents() == {"a"}
    assert engine.events("a") == [("intent", None, None), ("outcome", "failed", "conflict")]


@pytest.mark.parametrize("change", ["vm_ref = 'moved'", "vm_uid = 'moved'", "provisioner = 'moved'"])
def test_a_row_that_names_another_vm_while_its_own_is_released_is_a_conflict(engine: Engine, change: str) -> None:
    engine.add("a")
    move = when("a", lambda: engine.place.execute(f"UPDATE vm_allocations SET {change}"))
    ticked = engine.tick(MemoryProvisioner(["a", "moved"], before=move))
    assert (ticked.code, ticked.ends()) == (ExitCode.NOT_ALL_WELL, {"a": "conflict"})
    assert engine.statuses() == {"a": "Active"}


def test_a_row_stamped_by_somebody_else_while_it_is_released(engine: Engine) -> None:
    engine.add("a")
    ticked = engine.tick(MemoryProvisioner(["a"], before=when("a", lambda: engine.mark_released("a"))))
    assert (ticked.code, ticked.ends()) == (ExitCode.OK, {"a": "released"})
    assert engine.events("a") == DONE
    assert engine.place.query("SELECT released_at FROM vm_allocations") == [(1,)]


def test_invalid_rows_are_reported_and_hide_nobody(engine: Engine) -> None:
    engine.add("good", "bad")
    engine.place.execute("UPDATE vm_allocations SET expires_at = 'soon' WHERE sid = 'bad'")
    ticked = engine.tick(MemoryProvisioner(["good", "bad"]))
    assert (ticked.code, ticked.ends()) == (ExitCode.NOT_ALL_WELL, {"good": "released"})
    assert [row.sid for row in ticked.report.invalid] == ["bad"]
    assert (ticked.report.rows_examined, ticked.report.rows_invalid) == (2, 1)


def test_a_vm_held_by_two_rows_of_which_one_is_paid_for_stays(engine: Engine) -> None:
    engine.add("old", vm_ref="web-1")
    engine.add("new", vm_ref="web-1", expires_at=RENEWED)
    provisioner = MemoryProvisioner(["web-1"])
    ticked = engine.tick(provisioner)
    assert (ticked.code, ticked.ends()) == (ExitCode.NOT_ALL_WELL, {})
    assert [row.sid for row in ticked.report.invalid] == ["old"]
    assert provisioner.vms == {"web-1"}


def test_a_vm_in_two_spellings_of_which_one_is_paid_for_stays(engine: Engine) -> None:
    engine.add("old", vm_ref="WEB-1")
    engine.add("new", vm_ref="web-1 ", expires_at=RENEWED)
    provisioner = MemoryProvisioner(["WEB-1"])
    ticked = engine.tick(provisioner)
    assert (ticked.code, ticked.ends()) == (ExitCode.NOT_ALL_WELL, {})
    [row] = ticked.report.invalid
    assert (row.sid, row.reason) == ("old", "vm_ref 'WEB-1' is also held by 'new'")
    assert provisioner.vms == {"WEB-1"}


def test_a_row_without_a_vm_is_released_by_nobody(engine: Engine) -> None:
    engine.words = Vocabulary(is_vm_ref_named=True)
    engine.add("17", "18", "held")
    engine.add("setting up", expires_at=RENEWED)
    engine.place.execute("UPDATE vm_allocations SET vm_ref = '17' WHERE sid = '18'")
    engine.hold("held")
    provisioner = MemoryProvisioner(["17"])
    ticked = engine.tick(provisioner)
    assert (ticked.code, ticked.ends()) == (ExitCode.NOT_ALL_WELL, {"18": "released", "held": "held"})
    assert [row.sid for row in ticked.report.invalid] == ["17"]


def test_an_empty_ledger_leaves_a_tick_in_the_journal(engine: Engine) -> None:
    ticked = engine.tick(MemoryProvisioner())
    assert ticked.code == ExitCode.OK
    [past] = engine.past_ticks()
    assert (past["status"], past["exit_code"], past["admitted"]) == ("success", 0, 1)


def test_the_operators_own_application_stamps(engine: Engine) -> None:
    engine.configure(stamps=False)
    engine.add("prompt", "slow")
    provisioner = Scripted(before=when("prompt", lambda: engine.mark_released("prompt")))
    ticked = engine.tick(provisioner)
    assert ticked.ends() == {"prompt": "released", "slow": "pending"}
    assert engine.statuses() == {"prompt": "Released", "slow": "Active"}
    engine.mark_released("slow")
    engine.later()
    assert engine.tick(provisioner).ends() == {}
    assert engine.open_intents() == set()
    assert engine.events("slow")[-1] == ("outcome", "released", None)


# --- dry run ----------------------------------------------------------------------------------------------------------


def test_a_preview_decides_like_a_tick_and_leaves_no_trace(engine: Engine) -> None:
    engine.add("a", "b")
    engine.begin_and_lose("gone")
    ledger, journal = engine.open_ledger(), engine.open_journal()
    before = (engine.place.ledger.read_bytes(), engine.place.journal.read_bytes())
    decision = engine.decide(ledger, journal)
    report = preview(decision, tick="preview", clock=lambda: NOW, grace=timedelta(0))
    for opened in (decision.spool, ledger, journal):
        opened.close()
    assert (report.rows_expired, report.skipped) == (3, {SkipReason.DRY_RUN: 2})
    assert [error.sid for error in report.errors] == ["gone"]
    assert before == (engine.place.ledger.read_bytes(), engine.place.journal.read_bytes())


def test_a_preview_says_what_the_guard_would(engine: Engine) -> None:
    engine.limits = Limits(max_releases=1, max_percent=100, min_fleet=20)
    engine.add("a", "b")
    report = engine.preview()
    assert ([refusal.code for refusal in report.refused], report.skipped) == (["max_releases"], {SkipReason.REFUSED: 2})


# --- rehearsal --------------------------------------------------------------------------------------------------------

FORBIDDING = TABLE.replace("status TEXT", "status TEXT CHECK (status IN ('Active', 'released'))")


def trigger(action: str, when: str = "1") -> str:
    """A trigger that meets every change of a row."""
    return f"CREATE TRIGGER meddler BEFORE UPDATE ON vm_allocations WHEN {when} BEGIN {action}; END"


@pytest.mark.parametrize(
    "action",
    [
        "SELECT RAISE(ABORT, 'not with me')",
        "SELECT RAISE(FAIL, 'not with me')",
        "SELECT RAISE(ROLLBACK, 'not with me')",
        "SELECT RAISE(IGNORE)",
        "INSERT INTO a_table_that_is_gone VALUES (1)",
        "SELECT json('nonsense')",
    ],
)
def test_a_trigger_that_forbids_the_stamp_shows_before_any_call(engine: Engine, action: str) -> None:
    engine.add("a", "b")
    engine.place.execute(trigger(action))
    refused_before_any_call(engine)


def test_a_trigger_that_takes_the_stamp_back_shows_before_any_call(engine: Engine) -> None:
    engine.add("a")
    engine.place.execute(
        "CREATE TRIGGER undoer AFTER UPDATE ON vm_allocations BEGIN "
        "UPDATE vm_allocations SET status = OLD.status WHERE sid = OLD.sid; END"
    )
    refused_before_any_call(engine)


def test_a_check_that_forbids_the_stamp_shows_before_any_call(tmp_path: Path) -> None:
    engine = Engine(tmp_path, table=FORBIDDING)
    engine.add("a")
    refused_before_any_call(engine)


def test_a_ledger_that_cannot_be_written_shows_before_any_call(engine: Engine) -> None:
    engine.add("a")
    refused_before_any_call(engine, ledger=engine.open_ledger(read_only=True))


def test_a_locked_ledger_shows_before_any_call(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autorelease.sqlitefile.BUSY_SECONDS", 0.05)
    engine.add("a")
    other = sqlite3.connect(engine.place.ledger, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        refused_before_any_call(engine)
    finally:
        other.close()


def refused_before_any_call(engine: Engine, ledger: SQLiteLedger | None = None) -> None:
    """A tick ends with UnusableError while every VM stands, and the journal has it."""
    provisioner = Scripted()
    before = engine.place.ledger.read_bytes()
    with pytest.raises(UnusableError):
        engine.tick(provisioner, ledger=ledger)
    assert (provisioner.calls, provisioner.preflights) == ([], 0)
    assert engine.place.ledger.read_bytes() == before
    [past] = engine.past_ticks()
    assert (past["status"], past["exit_code"]) == ("unusable", 5)
    assert past["finished_at"] is not None
    assert engine.open_intents() == set()


def test_a_rehearsal_leaves_the_bytes_of_the_ledger(engine: Engine) -> None:
    engine.add("a")
    before = engine.place.ledger.read_bytes()
    ticked = engine.tick(Scripted({"a": [ProvisionerError("broken")]}))
    assert ticked.ends() == {"a": "failed"}
    assert engine.place.ledger.read_bytes() == before


def test_a_start_that_found_no_ledger_is_in_the_journal(engine: Engine) -> None:
    journal = engine.open_journal()
    note_failed_start(journal, engine.start(), lambda: NOW, UnusableError("no such ledger"))
    journal.close()
    [past] = engine.past_ticks()
    assert (past["status"], past["exit_code"], past["admitted"]) == ("unusable", 5, 0)


# --- preflight and provisioners that are not there --------------------------------------------------------------------


def test_a_failed_preflight_defers_its_rows_alone(engine: Engine) -> None:
    engine.add("a", "b")
    engine.add("other", provisioner="second")
    provisioner = Scripted(preflight_error=ProvisionerDown("the token has expired"))
    ticked = engine.tick({"default": provisioner, "second": MemoryProvisioner(["other"])})
    assert ticked.code == ExitCode.PROVISIONER_DOWN
    assert ticked.ends() == {"a": "deferred", "b": "deferred", "other": "released"}
    assert ticked.report.down == {"default": "the token has expired"}
    assert (provisioner.calls, engine.failed_ticks()["a"]) == ([], 0)


def test_a_preflight_of_a_provisioner_without_work_is_not_asked(engine: Engine) -> None:
    engine.add("a")
    idle = Scripted(preflight_error=ProvisionerDown("down, but nobody needs it"))
    ticked = engine.tick({"default": MemoryProvisioner(["a"]), "second": idle})
    assert (ticked.code, idle.preflights) == (ExitCode.OK, 0)


@pytest.mark.parametrize("sections", [{"default"}, None], ids=["seen by the plan", "seen by the sweep"])
def test_a_row_of_a_provisioner_without_a_section_is_left_alone(engine: Engine, sections: set[str] | None) -> None:
    engine.sections = sections
    engine.add("lost", provisioner="nowhere")
    engine.add("a")
    ticked = engine.tick(MemoryProvisioner(["a", "lost"]))
    assert (ticked.code, ticked.ends()) == (ExitCode.PROVISIONER_DOWN, {"lost": "no_provisioner", "a": "released"})
    assert ticked.report.down == {"nowhere": "the configuration has no section [provisioners.nowhere]"}
    assert engine.failed_ticks().get("lost", 0) == 0
    engine.later()
    engine.sections = None
    assert engine.tick({"nowhere": MemoryProvisioner(["lost"])}).ends() == {"lost": "released"}


def test_what_has_no_section_is_in_no_plan_for_the_guard_to_judge(engine: Engine) -> None:
    engine.sections = {"default"}
    engine.limits = Limits(max_releases=1, max_percent=100, min_fleet=20)
    engine.add("a")
    engine.add("lost-1", "lost-2", provisioner="nowhere")
    report = engine.preview()
    assert (exit_code(report), report.refused, report.skipped[SkipReason.NO_PROVISIONER]) == (3, (), 2)
    assert engine.tick(MemoryProvisioner(["a"])).ends()["a"] == "released"


def test_one_line_for_each_section_that_is_missing(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    engine.sections = {"default"}
    engine.add(*"abc", provisioner="nowhere")
    engine.add("d", provisioner="Default")
    engine.tick(MemoryProvisioner())
    said = "the configuration has no section [provisioners.{}], and {} expired rows name it"
    lines = [record.getMessage().partition(":")[0] for record in caplog.records]
    assert lines == [said.format("nowhere", 3), said.format("Default", 1)]


@pytest.mark.parametrize("reason", ["deferred", "no_provisioner"])
def test_a_row_that_is_left_again_and_again_for_one_reason_is_one_event(engine: Engine, reason: str) -> None:
    engine.add("lost", provisioner="nowhere")
    for _ in range(3):
        nowhere = {"nowhere": Scripted(preflight_error=ProvisionerDown("no"))} if reason == "deferred" else {}
        assert engine.tick(nowhere).ends() == {"lost": reason}
        engine.later()
    assert engine.events("lost") == [("skip", "skipped", reason)]


# --- unfinished work --------------------------------------------------------------------------------------------------


def test_an_open_intent_whose_row_is_released_gets_its_outcome_and_is_not_counted(engine: Engine) -> None:
    engine.add("a")
    engine.begin_and_lose("a")
    engine.mark_released("a")
    provisioner = MemoryProvisioner(["a"])
    ticked = engine.tick(provisioner)
    assert (ticked.code, ticked.report.rows_expired, ticked.findings) == (ExitCode.OK, 0, [])
    assert engine.events("a") == DONE
    assert (engine.open_intents(), provisioner.releases) == (set(), {})


def test_an_open_intent_whose_row_is_still_due_is_repeated_after_the_first_tries(engine: Engine) -> None:
    one_worker(engine)
    engine.add("begun", "new-1", "new-2")
    engine.begin_and_lose("begun")
    engine.limits = Limits(max_releases=2, max_percent=100, min_fleet=20)
    provisioner = Scripted()
    ticked = engine.tick(provisioner)
    assert ticked.code == ExitCode.OK
    assert provisioner.calls == ["new-1", "new-2", "begun"]
    assert engine.open_intents() == set()


@pytest.mark.parametrize(
    "happened",
    [
        f"UPDATE vm_allocations SET expires_at = {RENEWED}",
        "UPDATE vm_allocations SET expires_at = NULL",
        "UPDATE vm_allocations SET status = 'RELEASED'",
        "DELETE FROM vm_allocations",
        "UPDATE vm_allocations SET released_at = 5",
    ],
)
def test_an_open_intent_whose_row_has_moved_on_is_a_conflict_in_every_tick(engine: Engine, happened: str) -> None:
    engine.add("a")
    engine.begin_and_lose("a")
    engine.place.execute(happened)
    provisioner = MemoryProvisioner(["a"])
    for _ in range(3):
        ticked = engine.tick(provisioner)
        assert (ticked.code, ticked.ends()) == (ExitCode.NOT_ALL_WELL, {"a": "conflict"})
        assert (ticked.report.rows_expired, ticked.report.outcomes) == (1, {Outcome.FAILED: 1})
        engine.later()
    assert engine.events("a") == [("intent", None, None), ("outcome", "failed", "conflict")]
    assert (provisioner.releases, engine.open_intents()) == ({}, {"a"})


def test_an_open_intent_whose_row_is_inactive_now_is_a_conflict(engine: Engine) -> None:
    engine.words = Vocabulary(inactive=frozenset({"Cancelled"}))
    engine.add("a", status="Cancelled")
    engine.begin_and_lose("a")
    ticked = engine.tick(MemoryProvisioner(["a"]))
    assert (ticked.code, ticked.ends()) == (ExitCode.NOT_ALL_WELL, {"a": "conflict"})
    assert "is 'Cancelled' now" in ticked.report.errors[0].message


@pytest.mark.parametrize(
    "moved",
    [{"provisioner": "second"}, {"provisioner": "second", "vm_ref": "another"}, {"vm_ref": "another"}],
    ids=["to another provisioner", "to another provisioner and VM", "to another VM"],
)
def test_an_open_intent_whose_row_names_another_vm_now_is_a_conflict(engine: Engine, moved: dict[str, Any]) -> None:
    """The other one's "not found" repeats nothing of ours: it must not be taken for the end of what was begun."""
    engine.add("a", **moved)
    engine.begin_and_lose("a")
    provisioners = {"default": MemoryProvisioner(["a"]), "second": MemoryProvisioner()}
    for _ in range(2):
        ticked = engine.tick(provisioners)
        assert ticked.code == ExitCode.NOT_ALL_WELL
        assert [finding.error and finding.error.code for finding in ticked.findings] == ["conflict"]
        assert engine.statuses() == {"a": "Active"}
        assert engine.open_intents() == {"a"}
        engine.later()
    assert not any(provisioner.releases for provisioner in provisioners.values())


# --- the guard --------------------------------------------------------------------------------------------------------


def refusing(engine: Engine) -> Scripted:
    """Ten rows, all of them due, where half of them may be."""
    engine.limits = Limits(max_releases=1000, max_percent=50, min_fleet=20)
    engine.add(*"abcdefghij")
    return Scripted()


def test_a_refused_tick_touches_nothing(engine: Engine) -> None:
    provisioner = refusing(engine)
    before = engine.place.ledger.read_bytes()
    for _ in range(2):
        # Refused again and again: a refusal moves nothing that the next tick is compared with.
        ticked = engine.tick(provisioner)
        assert (ticked.code, set(ticked.ends().values())) == (ExitCode.REFUSED, {"refused"})
        assert [refusal.code for refusal in ticked.report.refused] == ["max_percent"]
        assert (ticked.report.rows_expired, ticked.report.skipped) == (10, {SkipReason.REFUSED: 10})
        engine.later()
    assert (provisioner.calls, provisioner.preflights) == ([], 0)
    assert engine.place.ledger.read_bytes() == before
    assert engine.open_intents() == set()
    assert set(engine.failed_ticks().values()) <= {0}
    assert engine.events("a") == [("skip", "skipped", "refused")]
    for past in engine.past_ticks():
        assert (past["status"], past["exit_code"], past["admitted"], past["confirmable"]) == ("refused", 7, 0, 10)


def test_a_confirmation_answers_one_refusal(engine: Engine) -> None:
    provisioner = refusing(engine)
    engine.tick(provisioner)
    ticked = engine.tick(provisioner, confirm=10)
    assert (ticked.code, set(ticked.ends().values())) == (ExitCode.OK, {"released"})
    ticked = engine.tick(provisioner, confirm=10)
    assert (ticked.code, [refusal.code for refusal in ticked.report.refused]) == (ExitCode.REFUSED, ["confirm"])
    assert len(provisioner.calls) == 10


@pytest.mark.parametrize(
    ("confirm", "pause"),
    [(9, timedelta(0)), (11, timedelta(0)), (10, timedelta(hours=25))],
    ids=["too few", "too many", "too late"],
)
def test_a_confirmation_that_does_not_fit(engine: Engine, confirm: int, pause: timedelta) -> None:
    provisioner = refusing(engine)
    engine.tick(provisioner)
    engine.later(pause)
    ticked = engine.tick(provisioner, confirm=confirm)
    assert (ticked.code, provisioner.calls) == (ExitCode.REFUSED, [])
    assert "confirm" in [refusal.code for refusal in ticked.report.refused]


def test_a_confirmation_covers_what_was_refused_and_nothing_that_came_since(engine: Engine) -> None:
    provisioner = refusing(engine)
    engine.tick(provisioner)
    engine.add("further")
    engine.renew("a")
    ticked = engine.tick(provisioner, confirm=10)
    assert (ticked.code, ticked.report.refused) == (ExitCode.NOT_ALL_WELL, ())
    assert ticked.ends() == {**dict.fromkeys("bcdefghij", "released"), "further": "refused"}
    assert sorted(provisioner.calls) == list("bcdefghij")


def test_a_confirmation_of_rows_that_are_all_gone_is_refused(engine: Engine) -> None:
    provisioner = refusing(engine)
    engine.tick(provisioner)
    for sid in "abcdefghij":
        engine.renew(sid)
    engine.add(*[f"further-{number}" for number in range(10)])
    ticked = engine.tick(provisioner, confirm=10)
    assert (ticked.code, provisioner.calls) == (ExitCode.REFUSED, [])
    assert engine.statuses() == dict.fromkeys(engine.statuses(), "Active")


def test_a_confirmation_does_not_answer_a_new_reason(engine: Engine) -> None:
    provisioner = refusing(engine)
    engine.tick(provisioner)
    engine.limits = Limits(max_releases=5, max_percent=50, min_fleet=20)
    ticked = engine.tick(provisioner, confirm=10)
    assert (ticked.code, provisioner.calls) == (ExitCode.REFUSED, [])
    assert [refusal.code for refusal in ticked.report.refused] == ["max_releases", "max_percent"]
    # That one names all that stands, so that it can be answered.
    assert engine.tick(provisioner, confirm=10).code == ExitCode.OK


def test_a_confirmation_without_a_refusal_is_refused(engine: Engine) -> None:
    engine.add("a")
    provisioner = Scripted()
    assert engine.tick(provisioner, confirm=1).code == ExitCode.REFUSED
    assert provisioner.calls == []


# --- the guard: the clock and the ledger ------------------------------------------------------------------------------


def admitted(engine: Engine, *, ledger: str | None = None) -> Scripted:
    """A journal whose anchor is a tick at NOW, and two rows that are due since."""
    engine.boot_id, engine.boot_seconds, engine.ledger_name = "b" * 32, 1_000.0, ledger
    assert engine.tick(Scripted()).code == ExitCode.OK
    engine.add("a", "b")
    return Scripted()


def pass_time(engine: Engine, by_the_clock: timedelta, since_boot: timedelta | None = None) -> None:
    """Both clocks go on, or each by itself."""
    engine.later(by_the_clock)
    assert engine.boot_seconds is not None
    engine.boot_seconds += (by_the_clock if since_boot is None else since_boot).total_seconds()


def refused_for(engine: Engine, provisioner: Scripted, *codes: str, confirm: int | None = None) -> None:
    """A tick that is refused for these reasons and touches nothing."""
    before = len(provisioner.calls)
    ticked = engine.tick(provisioner, confirm=confirm)
    assert (ticked.code, [refusal.code for refusal in ticked.report.refused]) == (ExitCode.REFUSED, list(codes))
    assert (len(provisioner.calls), engine.open_intents()) == (before, set())


def went_through(engine: Engine, provisioner: Scripted, *, confirm: int | None = None) -> None:
    """A tick that released both."""
    ticked = engine.tick(provisioner, confirm=confirm)
    assert (ticked.code, ticked.ends()) == (ExitCode.OK, {"a": "released", "b": "released"})


def jump(code: str) -> tuple[timedelta, timedelta]:
    """How far the clock and the boot clock go in this anomaly."""
    return {
        "clock_backwards": (timedelta(hours=-1), timedelta(hours=1)),
        "clock_gap": (timedelta(days=8), timedelta(days=8)),
        "clock_stepped": (timedelta(hours=3), timedelta(hours=1)),
    }[code]


CLOCK_CODES = ["clock_backwards", "clock_gap", "clock_stepped"]


@pytest.mark.parametrize("code", CLOCK_CODES)
def test_a_clock_that_is_declined_is_declined_again(engine: Engine, code: str) -> None:
    """A refusal is no anchor: else the second tick under a wrong clock would find everything in order."""
    provisioner = admitted(engine)
    # Due for a tick an hour before the anchor, too.
    engine.place.execute("UPDATE vm_allocations SET expires_at = expires_at - 86400")
    pass_time(engine, *jump(code))
    for _ in range(3):
        refused_for(engine, provisioner, code)
        pass_time(engine, timedelta(minutes=1))
    assert engine.statuses() == {"a": "Active", "b": "Active"}


@pytest.mark.parametrize("code", CLOCK_CODES)
def test_a_clock_that_is_confirmed_is_the_anchor_from_then_on(engine: Engine, code: str) -> None:
    provisioner = admitted(engine)
    engine.place.execute("UPDATE vm_allocations SET expires_at = expires_at - 86400")
    pass_time(engine, *jump(code))
    refused_for(engine, provisioner, code)
    pass_time(engine, timedelta(minutes=1))
    went_through(engine, provisioner, confirm=2)
    engine.add("c", expires_at=EXPIRED - 86_400)
    pass_time(engine, timedelta(hours=1))
    assert engine.tick(provisioner).ends() == {"c": "released"}


def test_a_clock_that_is_set_right_again_needs_no_word(engine: Engine) -> None:
    provisioner = admitted(engine)
    pass_time(engine, timedelta(days=300), timedelta(hours=1))
    refused_for(engine, provisioner, "clock_gap", "clock_stepped")
    pass_time(engine, -timedelta(days=300) + timedelta(hours=2), timedelta(hours=1))
    went_through(engine, provisioner)


def test_the_answer_to_one_clock_is_none_to_another(engine: Engine) -> None:
    provisioner = admitted(engine)
    pass_time(engine, timedelta(days=8))
    refused_for(engine, provisioner, "clock_gap")
    pass_time(engine, timedelta(hours=3), timedelta(0))
    refused_for(engine, provisioner, "clock_gap", "clock_stepped", confirm=2)


def test_a_gap_with_nothing_to_release_is_none_and_moves_the_anchor(engine: Engine) -> None:
    provisioner = admitted(engine)
    engine.place.execute("DELETE FROM vm_allocations")
    pass_time(engine, timedelta(days=30))
    assert engine.tick(provisioner).code == ExitCode.OK
    engine.add("a", "b")
    pass_time(engine, timedelta(hours=1))
    went_through(engine, provisioner)


@pytest.mark.parametrize("between", ["a preview", "a release", "a tick that died before it did anything"])
def test_only_an_admitted_tick_is_an_anchor(engine: Engine, between: str) -> None:
    provisioner = admitted(engine)
    engine.add("ordered", expires_at=RENEWED)
    pass_time(engine, timedelta(days=30))
    if between == "a preview":
        ledger, journal = engine.open_ledger(), engine.open_journal()
        for opened in (engine.decide(ledger, journal).spool, ledger, journal):
            opened.close()
    elif between == "a release":
        assert engine.release(MemoryProvisioner(["ordered"]), "ordered").code == ExitCode.OK
    else:
        journal = engine.open_journal()
        journal.open_tick(engine.start())
        journal.close()
    refused_for(engine, provisioner, "clock_gap")


def test_what_the_clock_says_after_a_reboot_is_not_compared(engine: Engine) -> None:
    provisioner = admitted(engine)
    pass_time(engine, timedelta(hours=3), timedelta(0))
    engine.boot_id = "c" * 32
    went_through(engine, provisioner)


def copy_of_the_ledger(engine: Engine) -> Callable[[], None]:
    """A backup; returns what restores it."""
    backup = engine.place.ledger.read_bytes()

    def restore() -> None:
        engine.place.ledger.write_bytes(backup)

    return restore


def test_a_ledger_from_an_old_backup_is_declined_again_and_again(engine: Engine) -> None:
    engine.add(*"abcde")
    restore = copy_of_the_ledger(engine)
    assert engine.tick(Scripted()).report.outcomes == {Outcome.RELEASED: 5}
    restore()
    # A renewal that was lost with it: as far as the ledger says, this VM is due.
    engine.add("renewed")
    provisioner = Scripted()
    for _ in range(3):
        engine.later()
        refused_for(engine, provisioner, "ledger_rewound")
    assert provisioner.calls == []
    # The operator puts three of them right.
    for sid in "abc":
        engine.mark_released(sid)
    engine.later()
    ticked = engine.tick(provisioner)
    assert (ticked.code, ticked.ends()) == (
        ExitCode.NOT_ALL_WELL,
        {"d": "resurrected", "e": "resurrected", "renewed": "released"},
    )


def test_a_backup_from_before_a_renewal_is_an_old_one_too(engine: Engine) -> None:
    """The rows are live with an earlier expiry than the one they were released with: the journal does not know it."""
    engine.add(*"abcd")
    restore = copy_of_the_ledger(engine)
    for sid in "abcd":
        engine.renew(sid, EXPIRED + 60)
    assert engine.tick(Scripted()).report.outcomes == {Outcome.RELEASED: 4}
    restore()
    engine.later()
    refused_for(engine, Scripted(), "ledger_rewound")


@pytest.mark.parametrize(
    "happened",
    [
        f"UPDATE vm_allocations SET status = 'Active', released_at = NULL, expires_at = {RENEWED}",
        f"UPDATE vm_allocations SET status = 'Active', released_at = NULL, expires_at = {EXPIRED + 600}",
        "UPDATE vm_allocations SET status = 'Active', released_at = NULL, expires_at = NULL",
        "DELETE FROM vm_allocations",
        "UPDATE vm_allocations SET status = 'Active', released_at = NULL WHERE sid IN ('a', 'b')",
    ],
    ids=["owners who came back", "and whose time is over", "for ever", "rows that were cleared away", "only two"],
)
def test_what_looks_like_an_old_backup_and_is_none(engine: Engine, happened: str) -> None:
    engine.add(*"abcd")
    engine.tick(Scripted())
    engine.place.execute(happened)
    engine.later()
    ticked = engine.tick(Scripted())
    assert ticked.report.refused == ()


def test_an_old_backup_can_be_confirmed(engine: Engine) -> None:
    engine.add(*"abc")
    restore = copy_of_the_ledger(engine)
    engine.tick(Scripted())
    restore()
    engine.add("due")
    engine.later()
    refused_for(engine, Scripted(), "ledger_rewound")
    ticked = engine.tick(Scripted(), confirm=1)
    # What was released once is still not released again.
    assert ticked.ends() == {**dict.fromkeys("abc", "resurrected"), "due": "released"}


HERE, THERE = "/srv/here.db table vms", "/srv/there.db table vms"


def test_another_ledger_is_declined_until_it_is_adopted(engine: Engine) -> None:
    provisioner = admitted(engine, ledger=HERE)
    engine.ledger_name = THERE
    for _ in range(2):
        pass_time(engine, timedelta(hours=1))
        refused_for(engine, provisioner, "other_ledger")
    went_through(engine, provisioner, confirm=2)
    # Adopted: it needs no further word, and the old one is the other one now.
    engine.add("c")
    pass_time(engine, timedelta(hours=1))
    assert engine.tick(provisioner).ends() == {"c": "released"}
    engine.ledger_name = HERE
    refused_for(engine, provisioner, "other_ledger")


def test_what_was_begun_is_not_looked_up_in_another_ledger(engine: Engine) -> None:
    """The same sid there may say Released of another VM: here it would close what nobody has seen the end of."""
    engine.ledger_name = HERE
    engine.tick(Scripted())
    for sid in ("begun", "unknown-there"):
        engine.begin_and_lose(sid)
    engine.add("begun")
    engine.mark_released("begun")
    engine.ledger_name = THERE
    engine.later()
    refused = engine.tick(Scripted())
    assert [refusal.code for refusal in refused.report.refused] == ["other_ledger"]
    assert engine.open_intents() == {"begun", "unknown-there"}
    assert engine.events("begun") == engine.events("unknown-there") == [("intent", None, None)]


def test_another_ledger_with_nothing_due_is_declined_too(engine: Engine) -> None:
    """Its numbers would be taken for a fleet in which nothing has expired."""
    provisioner = admitted(engine, ledger=HERE)
    engine.place.execute("DELETE FROM vm_allocations")
    engine.ledger_name = THERE
    refused_for(engine, provisioner, "other_ledger")
    assert engine.tick(provisioner, confirm=0).code == ExitCode.OK


def test_unfinished_work_is_settled_and_shown_in_a_refused_tick_too(engine: Engine) -> None:
    provisioner = refusing(engine)
    engine.begin_and_lose("vanished")
    engine.begin_and_lose("stamped")
    engine.add("stamped")
    engine.mark_released("stamped")
    ticked = engine.tick(provisioner)
    assert ticked.code == ExitCode.REFUSED
    assert (ticked.ends()["vanished"], ticked.report.rows_expired) == ("conflict", 11)
    assert engine.open_intents() == {"vanished"}


# --- what the journal keeps -------------------------------------------------------------------------------------------


def test_the_journal_keeps_the_report_as_it_was_printed(engine: Engine) -> None:
    engine.add("a")
    ticked = engine.tick(MemoryProvisioner(["a"]))
    journal = engine.open_journal()
    past = journal.newest_tick()
    journal.close()
    assert past is not None
    assert past.report == tick_object(ticked.report)


def test_a_tick_only_ever_adds_events(engine: Engine) -> None:
    engine.add("a", "b", "c")
    statements: list[str] = []

    def traced(journal: Any) -> Any:
        journal.connection.set_trace_callback(statements.append)
        return journal

    provisioner = Scripted({"a": [PENDING], "b": [ProvisionerError("broken")]})
    engine.tick(provisioner, around_journal=traced)
    engine.later(timedelta(minutes=5))
    engine.tick(provisioner, around_journal=traced)
    written = [text for text in statements if "events" in text and not text.startswith("SELECT")]
    assert any(text.startswith("INSERT INTO events") for text in written)
    # Pruning alone forgets, and only what is older than it was told to keep.
    changed = [text for text in written if not text.startswith("INSERT INTO events")]
    assert {text.split(" WHERE ")[0] for text in changed} <= {"DELETE FROM events"}
    assert all(text.split("'")[1] < "2026-01-01" for text in changed)


def test_a_clock_that_is_not_believed_makes_nothing_old(engine: Engine) -> None:
    engine.add("a")
    provisioner = MemoryProvisioner(["a"])
    engine.tick(provisioner)
    engine.add("b")
    engine.later(timedelta(days=500))
    assert engine.tick(provisioner).code == ExitCode.REFUSED
    with closing(engine.open_journal()) as journal:
        assert [event["event"] for event in journal.events(sid="a")] == ["intent", "outcome"]


def test_a_report_stays_in_the_journal_where_only_forgetting_fails(engine: Engine) -> None:
    """Everything was done and written down: that the journal could not be tidied must not take the report away."""

    class Untidy(Wrapper):
        def prune(self, _: object) -> None:
            raise UnusableError("locked")

    engine.add("a")
    ticked = engine.tick(MemoryProvisioner(["a"]), around_journal=Untidy)
    assert (ticked.code, ticked.report.lost) == (ExitCode.UNUSABLE, "locked")
    journal = engine.open_journal()
    past = journal.newest_tick()
    journal.close()
    assert past is not None
    assert past.report is not None
    assert past.report["rows_released"] == 1


# --- sudden death -----------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for the end of the process: nothing of ours runs after it."""


class Death:
    """Ends everything at the n-th step, in whichever thread that is; `step` never returns again after it."""

    def __init__(self, at: int) -> None:
        self._at = at
        self._steps = 0
        self._lock = threading.Lock()
        self.came = False
        self.wake: Callable[[], object] = lambda: None

    def step(self) -> None:
        """One thing that the world can see is about to happen, or has just happened."""
        with self._lock:
            self._steps += 1
            self.came = self.came or self._steps >= self._at
        if not self.came:
            return
        if threading.current_thread() is threading.main_thread():
            raise Killed
        # Whatever a worker answers now, the main thread can do nothing with it that anybody would ever see.
        self.wake()
        raise ProvisionerError("the process is dead")

    def interrupts(self) -> bool:
        """For the main thread, which asks in every turn whether the deadline has passed."""
        if self.came:
            raise Killed
        return False


class MortalConnection(Wrapper):
    """A connection whose every statement is a step. What is open when death comes is rolled back by closing."""

    def __init__(self, inner: sqlite3.Connection, death: Death) -> None:
        super().__init__(inner)
        self._death = death
        # Death of the process, not of the machine, is what is tried here: no need to wait for the disk.
        inner.execute("PRAGMA synchronous = OFF")

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        """One statement."""
        self._death.step()
        done: sqlite3.Cursor = self._inner.execute(*arguments)
        return done

    def cursor(self) -> sqlite3.Cursor:
        """The journal reads through a cursor."""
        self._death.step()
        made: sqlite3.Cursor = self._inner.cursor()
        return made


class MortalProvisioner:
    """Dies just before the VM goes, or just after."""

    def __init__(self, inner: Provisioner, death: Death) -> None:
        self._inner = inner
        self._death = death

    def preflight(self) -> None:
        """One step."""
        self._death.step()

    def release(self, allocation: Allocation) -> Release:
        """Two steps."""
        self._death.step()
        answer = self._inner.release(allocation)
        self._death.step()
        return answer

    def close(self) -> None:
        """Nothing to give back."""


def tick_that_dies(engine: Engine, provisioner: Provisioner, at: int) -> bool:
    """Begin a tick that dies at the `at`-th step; returns whether it did."""
    death = Death(at)

    def mortal(opened: Any) -> Any:
        opened.connection = MortalConnection(opened.connection, death)
        return opened

    engine.stop = Stop(death.interrupts)
    # Looked up when it is needed: the executor puts its own in there when the tick is under way.
    death.wake = lambda: engine.stop.on_wish()  # noqa: PLW0108
    try:
        engine.tick(MortalProvisioner(provisioner, death), around_ledger=mortal, around_journal=mortal)
    except Killed:
        # The threads of a dead process are dead, too.
        workers = getattr(engine.stop.on_wish, "__self__", None)
        if isinstance(workers, Workers):
            workers.dismiss()
        return True
    assert not death.came
    return False


SIDS = tuple("abcdef")
STRIDE = 10


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six due rows, one that is not due, and an empty journal, to be copied."""
    folder = tmp_path_factory.mktemp("prepared")
    engine = Engine(folder)
    engine.add(*SIDS)
    engine.add("paid", expires_at=RENEWED)
    return folder


def copied(prepared: Path, folder: Path) -> Engine:
    """A fresh engine over a copy."""
    shutil.copytree(prepared, folder)
    engine = Engine(folder)
    engine.configure(concurrency=2)
    return engine


@pytest.mark.parametrize(
    ("first", "deaths"),
    [
        *((first, 1) for first in range(1, STRIDE + 1, stride(3))),
        *((first, 2) for first in range(1, STRIDE + 1, stride(5))),
    ],
)
def test_wherever_a_tick_dies_the_next_one_converges(prepared: Path, tmp_path: Path, first: int, deaths: int) -> None:
    """The steps of a tick are shared out among these tests: first, first + STRIDE, … until one outlives its tick."""
    at, died = first, True
    while died:
        engine = copied(prepared, tmp_path / str(at))
        provisioner = MemoryProvisioner([*SIDS, "paid"])
        died = tick_that_dies(engine, provisioner, at)
        for further in range(1, deaths):
            engine.later()
            tick_that_dies(engine, provisioner, at // 2 + further)
        # At no time does the ledger say of a VM that it is released while it stands.
        assert engine.place.released() <= provisioner.gone
        engine.later()
        ticked = engine.tick(provisioner)
        assert ticked.code == ExitCode.OK, (at, ticked.report)
        assert engine.statuses() == {**dict.fromkeys(SIDS, "Released"), "paid": "Active"}, at
        assert all(provisioner.releases[sid] >= 1 for sid in SIDS)
        assert (provisioner.vms, provisioner.releases["paid"]) == ({"paid"}, 0)
        assert engine.open_intents() == set()
        assert set(engine.failed_ticks().values()) <= {0}
        assert engine.past_ticks()[-1]["status"] == "success"
        at += STRIDE
    assert at > 60, "a tick over six rows has more steps than that: the wrappers have come off"


@pytest.mark.parametrize("first", range(1, STRIDE + 1, stride(5)))
def test_wherever_a_tick_of_many_ends_dies_the_next_ones_converge(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    """One row is released, one pending at first, one a miss, one tried twice, one renewed in the very call."""
    monkeypatch.setattr("autorelease.rules.retry.FIRST_PAUSE_SECONDS", 0.001)
    at, died = first, True
    while died:
        engine = copied(prepared, tmp_path / str(at))
        renew = partial(engine.renew, "e")
        answers: dict[str, list[Answer]] = {
            "b": [PENDING],
            "c": [MISS] * 9,
            "d": [ProvisionerError("busy", retryable=True)],
        }
        provisioner = Scripted(answers, before=when("e", renew))
        died = tick_that_dies(engine, provisioner, at)
        assert engine.place.released() <= set(provisioner.calls)
        for _ in range(3):
            engine.later()
            ticked = engine.tick(provisioner)
        # What is left is the row of which nobody knows: the VM may be gone while its owner pays.
        assert (ticked.code, ticked.ends()) == (ExitCode.NOT_ALL_WELL, {"e": "conflict"}), at
        assert engine.statuses() == {**dict.fromkeys("abcdf", "Released"), "e": "Active", "paid": "Active"}, at
        assert engine.open_intents() == {"e"}
        assert "paid" not in provisioner.calls
        at += STRIDE
    assert at > 60


def test_after_a_death_between_miss_and_judgement_nothing_is_expected(engine: Engine) -> None:
    """Else the next tick would take its own first "not found" for the end of a release of ours."""

    class Dying(Wrapper):
        def recent_answers(self, *_: object) -> None:
            raise Killed

    engine.add("a", "b")
    with pytest.raises(Killed):
        engine.tick(MemoryProvisioner(), around_journal=Dying)
    engine.give_credit("memory")
    engine.later()
    ticked = engine.tick(MemoryProvisioner())
    assert (ticked.code, ticked.ends()) == (ExitCode.PROVISIONER_DOWN, {"a": "unproven", "b": "unproven"})
    assert engine.statuses() == {"a": "Active", "b": "Active"}
    assert engine.open_intents() == set()


@pytest.mark.parametrize(
    "happened", ["DELETE FROM vm_allocations", f"UPDATE vm_allocations SET expires_at = {RENEWED}"]
)
def test_a_miss_that_nobody_judged_of_a_row_that_has_changed_since_is_no_conflict(
    engine: Engine, happened: str
) -> None:
    class Dying(Wrapper):
        def recent_answers(self, *_: object) -> None:
            raise Killed

    engine.add("a")
    with pytest.raises(Killed):
        engine.tick(MemoryProvisioner(), around_journal=Dying)
    engine.place.execute(happened)
    engine.later()
    ticked = engine.tick(MemoryProvisioner())
    assert (ticked.code, ticked.ends(), engine.open_intents()) == (ExitCode.OK, {}, set())
    assert engine.events("a")[-1] == ("skip", "skipped", "changed")


class DyingBeforeJudgement(Wrapper):
    """A journal whose tick dies when it has heard every answer."""

    def recent_answers(self, *_: object) -> None:
        raise Killed


class DyingBeforeStamp(Wrapper):
    """A ledger whose tick dies when it would stamp."""

    def stamp(self, _: object) -> None:
        raise Killed


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_call_after_a_miss_that_nobody_judged_is_a_conflict_all_the_same(engine: Engine, *, is_killed: bool) -> None:
    """What was begun after that may have gone through, whatever was missed before."""
    engine.add("a")
    with pytest.raises(Killed):
        engine.tick(MemoryProvisioner(), around_journal=DyingBeforeJudgement)
    engine.later()
    if is_killed:
        with pytest.raises(Killed):
            engine.tick(MemoryProvisioner(["a"]), around_ledger=DyingBeforeStamp)
    else:
        lost = ProvisionerError("took too long", timed_out=True)
        assert engine.tick(Scripted({"a": [lost]})).ends() == {"a": "failed"}
    engine.renew("a")
    engine.later()
    assert engine.tick(MemoryProvisioner()).ends() == {"a": "conflict"}


def test_nothing_is_expected_of_a_call_after_a_miss_that_nobody_judged(engine: Engine) -> None:
    engine.add("a")
    engine.give_credit("memory")
    with pytest.raises(Killed):
        engine.tick(MemoryProvisioner(), around_journal=DyingBeforeJudgement)
    engine.later()
    with pytest.raises(Killed):
        engine.tick(MemoryProvisioner(["a"]), around_ledger=DyingBeforeStamp)
    engine.later()
    assert engine.tick(MemoryProvisioner()).ends() == {"a": "unproven"}


def test_a_miss_that_was_stamped_by_a_tick_that_died_then_is_remembered_as_released(engine: Engine) -> None:
    """Else its row, live again, would be none that the journal knows as released."""

    class Dying(Wrapper):
        def stamp(self, stamps: Any) -> Any:
            results = self._inner.stamp(stamps)
            if any(stamp.allocation.sid == "missing" for stamp in stamps):
                raise Killed
            return results

    engine.add("there", "missing")
    with pytest.raises(Killed):
        engine.tick(MemoryProvisioner(["there"]), around_ledger=Dying)
    assert engine.place.released() == {"there", "missing"}
    engine.later()
    assert engine.tick(MemoryProvisioner()).code == ExitCode.OK
    assert engine.events("missing")[-1][:2] == ("outcome", "released")
    engine.place.execute("UPDATE vm_allocations SET status = 'Active', released_at = NULL WHERE sid = 'missing'")
    engine.later()
    assert engine.tick(MemoryProvisioner()).ends() == {"missing": "resurrected"}


def test_a_tick_that_died_is_marked_by_the_next(engine: Engine) -> None:
    engine.add("a")
    assert tick_that_dies(engine, MemoryProvisioner(["a"]), at=12)
    assert engine.past_ticks()[-1]["status"] is None
    engine.later()
    engine.tick(MemoryProvisioner(["a"]))
    assert [past["status"] for past in engine.past_ticks()] == ["crashed", "success"]
