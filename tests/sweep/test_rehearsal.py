"""The rehearsal of the stamp: one row that the table refuses is named and charged, and the others go on."""

import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from autorelease.errors import ExitCode, ProvisionerError, UnusableError
from autorelease.ledger import Stamp
from autorelease.model import Allocation, Planned, RawRow, Release, Result
from autorelease.sweep.rehearsal import candidates
from tests.support.engine import EXPIRED, RENEWED, Engine, Scripted, Wrapper
from tests.support.place import TABLE

ELEVEN = [f"s{number:02}" for number in range(11)]
REFUSING = "CREATE TRIGGER meddler BEFORE UPDATE ON vm_allocations WHEN OLD.sid IN ({}) BEGIN SELECT {}; END"
ABORT = "RAISE(ABORT, 'not with me')"


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """An empty ledger and an empty journal."""
    return Engine(tmp_path)


def refuse(engine: Engine, *sids: str, action: str = ABORT) -> None:
    """From now on a trigger meets the change of these rows."""
    engine.place.execute(REFUSING.format(", ".join(f"'{sid}'" for sid in sids), action))


def with_table(folder: Path, *statements: str, columns: str = "", status: str = "status TEXT") -> Engine:
    """An engine whose table has further columns and rules, after these statements."""
    engine = Engine(
        folder, table=TABLE.replace("status TEXT", status).replace("released_at)", f"released_at{columns})")
    )
    for statement in statements:
        engine.place.execute(statement)
    return engine


def only_refused(engine: Engine, *refused: str, others: Sequence[str], match: str = "") -> None:
    """A tick releases the others; these are failed, named and charged, no call was made, and the next tick waits."""
    provisioner = Scripted()
    ticked = engine.tick(provisioner)
    assert ticked.code == ExitCode.NOT_ALL_WELL
    assert ticked.ends() == dict.fromkeys(refused, "failed") | dict.fromkeys(others, "released")
    assert sorted(provisioner.calls) == sorted(others)
    assert {error.sid for error in ticked.report.errors} == set(refused)
    for error in ticked.report.errors:
        assert match in error.message
        assert error.message.startswith("not released, because its stamp would be refused")
        assert (error.attempts, error.retryable) == (0, False)
        assert error.next_attempt_at is not None
    assert engine.open_intents() == set()
    assert {sid: count for sid, count in engine.failed_ticks().items() if count} == dict.fromkeys(refused, 1)
    assert {sid for sid, status in engine.statuses().items() if status == "Released"} == set(others)
    again = engine.tick(provisioner)
    assert (again.code, again.ends()) == (ExitCode.NOT_ALL_WELL, dict.fromkeys(refused, "backoff"))
    assert sorted(provisioner.calls) == sorted(others)


# --- the plan's own rehearsal -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "action",
    [
        ABORT,
        "RAISE(FAIL, 'not with me')",
        "RAISE(ROLLBACK, 'not with me')",
        "RAISE(IGNORE)",
        "json('nonsense')",
        "a_function_that_is_gone()",
    ],
)
@pytest.mark.parametrize("refused", ["s00", "s06", "s10"])
def test_one_of_eleven_whose_trigger_says_no(engine: Engine, action: str, refused: str) -> None:
    engine.add(*ELEVEN)
    refuse(
        engine, refused, action=f"CASE OLD.sid WHEN '{refused}' THEN {action} END" if "RAISE" not in action else action
    )
    if "gone" in action:
        # A function that is not there breaks the statement for every row: the ledger is at fault, and nobody charged.
        refused_altogether(engine, [], why="no such function")
    else:
        only_refused(engine, refused, others=[sid for sid in ELEVEN if sid != refused])


def test_a_trigger_that_takes_the_stamp_of_one_row_back(engine: Engine) -> None:
    engine.add(*ELEVEN)
    engine.place.execute(
        "CREATE TRIGGER undoer AFTER UPDATE ON vm_allocations WHEN OLD.sid = 's00' BEGIN "
        "UPDATE vm_allocations SET status = OLD.status WHERE sid = OLD.sid; END"
    )
    only_refused(engine, "s00", others=ELEVEN[1:])


def test_the_first_six_of_twelve_are_refused(engine: Engine) -> None:
    sids = [f"s{number:02}" for number in range(12)]
    engine.add(*sids)
    refuse(engine, *sids[:6])
    only_refused(engine, *sids[:6], others=sids[6:])


def test_a_plan_of_three_that_are_all_refused_is_the_ledgers_fault(engine: Engine) -> None:
    engine.add("a", "b", "c")
    refuse(engine, "a", "b", "c")
    refused_altogether(engine, ["a", "b", "c"])


def test_of_many_that_are_all_refused_ten_are_charged_five_of_them_spread_over_the_plan(engine: Engine) -> None:
    sids = [f"s{number:02}" for number in range(25)]
    engine.add(*sids)
    refuse(engine, *sids)
    refused_altogether(engine, [*sids[:5], "s08", "s12", "s16", "s20", "s24"])


def test_what_is_refused_altogether_for_one_good_row_that_is_found(engine: Engine) -> None:
    """The tenth that is rehearsed is the last of the plan."""
    sids = [f"s{number:02}" for number in range(25)]
    engine.add(*sids)
    refuse(engine, *sids[:24])
    only_refused(engine, *sids[:24], others=sids[24:])


def refused_altogether(engine: Engine, charged: Sequence[str], *, why: str = "") -> None:
    """The tick ends with exit 5 while every VM stands; what was rehearsed stays charged, and is named."""
    provisioner = Scripted()
    before = engine.place.ledger.read_bytes()
    with pytest.raises(UnusableError, match=why or f"{len(charged)} .*'{charged[0]}'"):
        engine.tick(provisioner)
    assert (provisioner.calls, provisioner.preflights) == ([], 0)
    assert engine.place.ledger.read_bytes() == before
    assert engine.past_ticks()[-1]["exit_code"] == ExitCode.UNUSABLE
    assert engine.failed_ticks() == dict.fromkeys(charged, 1)
    assert engine.open_intents() == set()


def test_a_ledger_that_is_locked_charges_nobody(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autorelease.sqlitefile.BUSY_SECONDS", 0.05)
    engine.add(*ELEVEN)
    other = sqlite3.connect(engine.place.ledger, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    provisioner = Scripted()
    with pytest.raises(UnusableError, match="locked"):
        engine.tick(provisioner)
    other.close()
    assert (provisioner.calls, engine.failed_ticks()) == ([], {})


def test_a_ledger_that_becomes_locked_after_two_refusals_charges_nobody(engine: Engine) -> None:
    engine.add(*ELEVEN)
    refuse(engine, "s00", "s01")

    class Breaking(Wrapper):
        def rehearse(self, stamps: Sequence[Stamp]) -> Any:
            if stamps[0].allocation.sid == "s02":
                raise UnusableError("the disk has gone")
            return self._inner.rehearse(stamps)

    provisioner = Scripted()
    with pytest.raises(UnusableError, match="the disk has gone"):
        engine.tick(provisioner, around_ledger=Breaking)
    assert (provisioner.calls, engine.failed_ticks()) == ([], {})


def test_a_column_that_has_gone_charges_nobody(engine: Engine) -> None:
    engine.add(*ELEVEN)
    ledger = engine.open_ledger()
    engine.place.execute("ALTER TABLE vm_allocations RENAME COLUMN released_at TO left_at")
    provisioner = Scripted()
    with pytest.raises(UnusableError, match="no such column"):
        engine.tick(provisioner, ledger=ledger)
    assert (provisioner.calls, engine.failed_ticks()) == ([], {})


def test_nothing_is_rehearsed_where_we_do_not_stamp(engine: Engine) -> None:
    engine.configure(stamps=False)
    engine.add("a", "b")
    refuse(engine, "a")
    provisioner = Scripted()
    assert engine.tick(provisioner).ends() == {"a": "pending", "b": "pending"}
    assert sorted(provisioner.calls) == ["a", "b"]


def test_a_refused_row_keeps_the_intent_that_is_open(engine: Engine) -> None:
    engine.add("a", "b")
    refuse(engine, "a")
    engine.begin_and_lose("a")
    ticked = engine.tick(Scripted())
    assert ticked.ends() == {"a": "failed", "b": "released"}
    assert engine.open_intents() == {"a"}


def test_a_row_that_is_refused_again_and_again_is_quarantined(engine: Engine) -> None:
    engine.configure(quarantine_after=2)
    engine.add("a", "b")
    refuse(engine, "a")
    assert engine.tick(Scripted()).report.rows_quarantined == 0
    engine.add("c", expires_at=EXPIRED + 9)
    engine.later(timedelta(hours=2))
    ticked = engine.tick(Scripted())
    assert (ticked.ends(), ticked.report.rows_quarantined) == ({"a": "failed", "c": "released"}, 1)


# --- the table's own rules --------------------------------------------------------------------------------------------


def test_a_check_that_forbids_one_row(tmp_path: Path) -> None:
    engine = with_table(tmp_path, columns=", CHECK (status <> 'Released' OR sid <> 's07')")
    engine.add(*ELEVEN)
    only_refused(engine, "s07", others=[sid for sid in ELEVEN if sid != "s07"], match="CHECK")


def test_a_generated_column_that_must_not_be_null(tmp_path: Path) -> None:
    made = (
        ", note TEXT NOT NULL GENERATED ALWAYS AS (CASE WHEN status = 'Released' AND sid = 's07' THEN NULL ELSE 1 END)"
    )
    engine = with_table(tmp_path, columns=made)
    engine.add(*ELEVEN)
    only_refused(engine, "s07", others=[sid for sid in ELEVEN if sid != "s07"], match="NOT NULL")


UNIQUE = {
    "over the status": "CREATE UNIQUE INDEX one ON vm_allocations (plan, status)",
    "of released ones": "CREATE UNIQUE INDEX one ON vm_allocations (plan) WHERE status = 'Released'",
    "over an expression": "CREATE UNIQUE INDEX one ON vm_allocations (plan || '/' || status)",
}


@pytest.mark.parametrize("index", UNIQUE.values(), ids=UNIQUE.keys())
def test_a_unique_index_whose_place_is_taken(engine: Engine, index: str) -> None:
    engine.add(*ELEVEN)
    engine.place.execute("UPDATE vm_allocations SET plan = sid")
    engine.place.execute("INSERT INTO vm_allocations (sid, plan, status) VALUES ('old', 's07', 'Released')")
    engine.place.execute(index)
    provisioner = Scripted()
    ticked = engine.tick(provisioner)
    assert ticked.ends() == {sid: "failed" if sid == "s07" else "released" for sid in ELEVEN}
    assert "s07" not in provisioner.calls


@pytest.mark.parametrize("index", UNIQUE.values(), ids=UNIQUE.keys())
@pytest.mark.parametrize("concurrency", [1, 2, 4])
def test_two_of_which_only_one_can_be_released(engine: Engine, index: str, concurrency: int) -> None:
    """Each alone would be stamped; the first is on its way, or goes with it, when the second is rehearsed."""
    engine.configure(concurrency=concurrency)
    engine.add("a", "b", "c")
    engine.place.execute("UPDATE vm_allocations SET plan = sid")
    engine.place.execute("UPDATE vm_allocations SET plan = 'same', status = 'Off' WHERE sid = 'b'")
    engine.place.execute("UPDATE vm_allocations SET plan = 'same' WHERE sid = 'a'")
    engine.place.execute(index)
    provisioner = Scripted()
    ticked = engine.tick(provisioner)
    assert ticked.ends() == {"a": "released", "b": "failed", "c": "released"}
    assert sorted(provisioner.calls) == ["a", "c"]


def test_what_is_under_way_counts_as_stamped(engine: Engine) -> None:
    """The second of two becomes due for a worker while the first one's call is still under way."""
    engine.configure(concurrency=2)
    engine.add("slow", "quick", "second")
    engine.place.execute("UPDATE vm_allocations SET plan = 'same' WHERE sid <> 'quick'")
    engine.place.execute("CREATE UNIQUE INDEX one ON vm_allocations (plan) WHERE status = 'Released'")
    ended: list[str] = []

    def found_second(allocation: Allocation) -> None:
        # The slow one does not come back before the second is settled.
        for _ in range(2000):
            if allocation.sid != "slow" or engine.failed_ticks():
                return
            threading.Event().wait(0.005)
        ended.append(allocation.sid)

    provisioner = Scripted(before=found_second)
    ticked = engine.tick(provisioner)
    assert ticked.ends() == {"slow": "released", "quick": "released", "second": "failed"}
    assert sorted(provisioner.calls) == ["quick", "slow"]


def test_where_no_row_meets_another_none_is_rehearsed_again_while_its_call_is_under_way(tmp_path: Path) -> None:
    engine = with_table(tmp_path, status="status TEXT NOT NULL CHECK (status <> 'Released' OR sid <> 's07')")
    engine.configure(concurrency=3)
    engine.add(*ELEVEN)
    rehearsed: list[str] = []
    ticked = engine.tick(Scripted(), around_ledger=counting(rehearsed))
    assert ticked.ends() == {sid: "failed" if sid == "s07" else "released" for sid in ELEVEN}
    # The first of the plan was tried before.
    assert sorted(rehearsed) == sorted(["s00", *ELEVEN])


def test_a_constraint_that_would_replace_another_row_replaces_nothing(tmp_path: Path) -> None:
    engine = with_table(tmp_path, columns=", UNIQUE (plan, status) ON CONFLICT REPLACE")
    engine.add(*ELEVEN)
    engine.place.execute("UPDATE vm_allocations SET plan = sid")
    engine.place.execute("INSERT INTO vm_allocations (sid, plan, status) VALUES ('old', 's07', 'Released')")
    provisioner = Scripted()
    ticked = engine.tick(provisioner)
    assert ticked.ends() == {sid: "failed" if sid == "s07" else "released" for sid in ELEVEN}
    assert "s07" not in provisioner.calls
    assert engine.statuses()["old"] == "Released"


# --- foreign keys -----------------------------------------------------------------------------------------------------

KEYS = {"immediate": "", "deferred": " DEFERRABLE INITIALLY DEFERRED"}


@pytest.mark.parametrize("deferred", KEYS.values(), ids=KEYS.keys())
@pytest.mark.parametrize("parent", ["word TEXT PRIMARY KEY", "id INTEGER PRIMARY KEY, word TEXT COLLATE NOCASE UNIQUE"])
def test_a_status_that_is_a_foreign_key_without_our_word(tmp_path: Path, deferred: str, parent: str) -> None:
    engine = with_table(
        tmp_path,
        f"CREATE TABLE words ({parent})",
        "INSERT INTO words (word) VALUES ('Active')",
        status=f"status TEXT REFERENCES words (word){deferred}",
    )
    engine.add("a", "b")
    refused_altogether(engine, ["a", "b"])
    engine.place.execute("INSERT INTO words (word) VALUES ('Released')")
    engine.later(timedelta(hours=2))
    assert engine.tick(Scripted()).ends() == {"a": "released", "b": "released"}


@pytest.mark.parametrize("deferred", KEYS.values(), ids=KEYS.keys())
def test_a_key_of_several_columns_that_one_row_breaks(tmp_path: Path, deferred: str) -> None:
    engine = with_table(
        tmp_path,
        "CREATE TABLE allowed (plan TEXT, word TEXT, PRIMARY KEY (plan, word))",
        "INSERT INTO allowed VALUES ('small', 'Active'), ('small', 'Released'), ('large', 'Active')",
        columns=f", FOREIGN KEY (plan, status) REFERENCES allowed{deferred}",
    )
    engine.add(*ELEVEN, plan="small")
    engine.place.execute("UPDATE vm_allocations SET plan = 'large' WHERE sid = 's07'")
    engine.place.execute("UPDATE vm_allocations SET plan = NULL WHERE sid = 's08'")
    only_refused(engine, "s07", others=[sid for sid in ELEVEN if sid != "s07"], match="allowed")


@pytest.mark.parametrize("deferred", KEYS.values(), ids=KEYS.keys())
def test_a_key_that_points_at_the_stamped_columns(tmp_path: Path, deferred: str) -> None:
    engine = with_table(
        tmp_path,
        "CREATE TABLE disks (disk, sid TEXT, status TEXT, "
        f"FOREIGN KEY (sid, status) REFERENCES vm_allocations (sid, status){deferred})",
        columns=", UNIQUE (sid, status)",
    )
    engine.add(*ELEVEN)
    engine.place.execute("INSERT INTO disks VALUES (1, 's07', 'Active'), (2, NULL, 'Active')")
    only_refused(engine, "s07", others=[sid for sid in ELEVEN if sid != "s07"])
    assert engine.place.query("SELECT * FROM disks") == [(1, "s07", "Active"), (2, None, "Active")]


@pytest.mark.parametrize("deferred", KEYS.values(), ids=KEYS.keys())
def test_children_that_the_tables_own_trigger_takes_along_refuse_nothing(tmp_path: Path, deferred: str) -> None:
    engine = with_table(
        tmp_path,
        "CREATE TABLE disks (disk, sid TEXT, status TEXT, "
        f"FOREIGN KEY (sid, status) REFERENCES vm_allocations (sid, status){deferred})",
        "CREATE TRIGGER along AFTER UPDATE ON vm_allocations BEGIN "
        "UPDATE disks SET status = NEW.status WHERE sid = NEW.sid; END",
        columns=", UNIQUE (sid, status)",
    )
    engine.add("a", "b")
    engine.place.execute("INSERT INTO disks VALUES (1, 'a', 'Active')")
    assert engine.tick(Scripted()).ends() == {"a": "released", "b": "released"}
    assert engine.place.query("SELECT status FROM disks") == [("Released",)]


@pytest.mark.parametrize("action", ["CASCADE", "SET NULL", "SET DEFAULT"])
@pytest.mark.parametrize("deferred", KEYS.values(), ids=KEYS.keys())
def test_a_key_that_would_carry_our_stamp_into_another_table(tmp_path: Path, action: str, deferred: str) -> None:
    engine = with_table(
        tmp_path,
        "CREATE TABLE disks (disk, sid TEXT, status TEXT, "
        f"FOREIGN KEY (sid, status) REFERENCES vm_allocations (sid, status) ON UPDATE {action}{deferred})",
        columns=", UNIQUE (sid, status)",
    )
    engine.add(*ELEVEN)
    engine.place.execute("INSERT INTO disks VALUES (1, 's07', 'Active')")
    only_refused(engine, "s07", others=[sid for sid in ELEVEN if sid != "s07"], match=f"ON UPDATE {action}")
    assert engine.place.query("SELECT * FROM disks") == [(1, "s07", "Active")]


def test_keys_that_the_stamp_does_not_touch_refuse_nothing(tmp_path: Path) -> None:
    """They are broken already, as in a database whose application leaves foreign keys switched off."""
    engine = with_table(
        tmp_path,
        "CREATE TABLE disks (disk, sid REFERENCES vm_allocations (sid) ON UPDATE CASCADE, plan REFERENCES nowhere)",
        "INSERT INTO disks VALUES (1, 'a', 'gone'), (2, 'nobody', 'gone')",
        columns=", customer REFERENCES customers (id), lost REFERENCES a_table_that_is_gone",
    )
    engine.add("a", "b")
    engine.place.execute("UPDATE vm_allocations SET customer = 7, lost = 1")
    assert engine.tick(Scripted()).ends() == {"a": "released", "b": "released"}
    assert engine.place.query("SELECT * FROM disks") == [(1, "a", "gone"), (2, "nobody", "gone")]


def test_a_broken_key_to_the_same_table_is_for_sqlite_to_judge_and_is_met_before_a_call(tmp_path: Path) -> None:
    """Some versions, of which 3.34 is one, look at such a key with every update of its row; later ones do not."""
    engine = with_table(tmp_path, columns=", before REFERENCES vm_allocations (sid)")
    engine.add("a", "b")
    engine.place.execute("UPDATE vm_allocations SET before = 'nobody'")
    provisioner = Scripted()
    if takes_an_update(engine):
        assert engine.tick(provisioner).ends() == {"a": "released", "b": "released"}
    else:
        with pytest.raises(UnusableError, match=r"nothing was released.*FOREIGN KEY constraint failed"):
            engine.tick(provisioner)
        assert (provisioner.calls, engine.place.released()) == ([], set())


def takes_an_update(engine: Engine) -> bool:
    """Whether SQLite itself lets the status of a row be changed."""
    with closing(sqlite3.connect(engine.place.ledger, isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("BEGIN")
        try:
            connection.execute("UPDATE vm_allocations SET status = 'Released'")
        except sqlite3.IntegrityError:
            return False
        finally:
            connection.execute("ROLLBACK")
    return True


# --- each group, before its calls -------------------------------------------------------------------------------------


def test_a_rule_that_comes_up_while_we_work_is_met_before_the_call(engine: Engine) -> None:
    engine.configure(concurrency=1)
    engine.add("a", "b", "c")

    def forbid(allocation: Allocation) -> None:
        if allocation.sid == "a":
            refuse(engine, "b")

    provisioner = Scripted(before=forbid)
    assert engine.tick(provisioner).ends() == {"a": "released", "b": "failed", "c": "released"}
    assert provisioner.calls == ["a", "c"]


def test_a_second_try_is_rehearsed_too(engine: Engine) -> None:
    engine.add("a", "b")

    def forbid(allocation: Allocation) -> None:
        if allocation.sid == "a":
            refuse(engine, "a")

    provisioner = Scripted({"a": [ProvisionerError("busy", retryable=True, retry_after_seconds=0.01)]}, before=forbid)
    ticked = engine.tick(provisioner)
    assert ticked.ends() == {"a": "failed", "b": "released"}
    assert provisioner.calls.count("a") == 1
    assert ticked.finding("a").error is not None


def test_a_table_without_rules_is_rehearsed_once(engine: Engine) -> None:
    engine.add(*ELEVEN)
    rehearsed: list[str] = []
    assert set(engine.tick(Scripted(), around_ledger=counting(rehearsed)).ends().values()) == {"released"}
    assert rehearsed == ["s00"]


def test_where_the_stamp_is_the_release_no_group_is_rehearsed(engine: Engine) -> None:
    engine.add(*ELEVEN)
    refuse(engine, "s07")
    rehearsed: list[str] = []
    ticked = engine.tick(Scripted(), immediate=["default"], around_ledger=counting(rehearsed))
    assert ticked.ends() == {sid: "failed" if sid == "s07" else "released" for sid in ELEVEN}
    assert rehearsed == ["s00"]


def counting(rehearsed: list[str]) -> Any:
    """Write down whose stamps are rehearsed."""

    class Counting(Wrapper):
        def rehearse(self, stamps: Sequence[Stamp]) -> Any:
            rehearsed.extend(stamp.allocation.sid for stamp in stamps)
            return self._inner.rehearse(stamps)

    return Counting


def test_a_ledger_that_cannot_be_written_for_a_moment_is_waited_for(engine: Engine) -> None:
    engine.add("a", "b")
    refuse(engine, "nobody")
    failures = [None, UnusableError("locked for a moment"), None]

    class Busy(Wrapper):
        def rehearse(self, stamps: Sequence[Stamp]) -> Any:
            if failures and (error := failures.pop(0)) is not None:
                raise error
            return self._inner.rehearse(stamps)

    assert engine.tick(Scripted(), around_ledger=Busy).ends() == {"a": "released", "b": "released"}


# --- an operator's release --------------------------------------------------------------------------------------------


def test_of_two_that_an_operator_names_the_refused_one_is_named(engine: Engine) -> None:
    engine.add("a", "b", expires_at=RENEWED)
    refuse(engine, "a")
    provisioner = Scripted()
    ticked = engine.release(provisioner, "a", "b")
    assert (ticked.code, ticked.ends()) == (ExitCode.NOT_ALL_WELL, {"a": "failed", "b": "released"})
    assert provisioner.calls == ["b"]
    assert engine.failed_ticks() == {"a": 1, "b": 0}


def test_when_all_that_an_operator_names_are_refused_nothing_is_called(engine: Engine) -> None:
    engine.add("a", "b", "c", expires_at=RENEWED)
    refuse(engine, "a", "b")
    provisioner = Scripted()
    with pytest.raises(UnusableError, match=r"2 .*'a'"):
        engine.release(provisioner, "a", "b")
    assert (provisioner.calls, provisioner.preflights) == ([], 0)
    assert engine.failed_ticks() == {"a": 1, "b": 1}


# --- which rows are tried ---------------------------------------------------------------------------------------------


def planned(number: int) -> Planned:
    """The row of this number."""
    return Planned(Allocation(str(number), "Active", None, settled=False, vm_ref="", raw=RawRow(None, None, None)))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (0, []),
        (1, [0]),
        (5, [0, 1, 2, 3, 4]),
        (7, [0, 1, 2, 3, 4, 5, 6]),
        (10, list(range(10))),
        (12, [0, 1, 2, 3, 4, 5, 6, 8, 9, 11]),
        (105, [0, 1, 2, 3, 4, 24, 44, 64, 84, 104]),
    ],
)
def test_five_of_the_beginning_and_five_of_the_rest(rows: int, expected: list[int]) -> None:
    plan = [planned(number) for number in range(rows)]
    assert [int(item.allocation.sid) for item in candidates(lambda: iter(plan))] == expected


def test_the_rest_is_not_looked_at_while_one_is_taken() -> None:
    def plan() -> Any:
        yield planned(0)
        raise AssertionError

    assert next(candidates(plan)) == planned(0)


def test_a_believed_answer_is_still_needed(engine: Engine) -> None:
    """A rehearsed stamp is no stamp: what the provisioner says decides."""
    engine.add("a", "b")
    refuse(engine, "nobody")
    provisioner = Scripted({"a": [Release(Result.PENDING, evidence="202")]})
    assert engine.tick(provisioner).ends() == {"a": "pending", "b": "released"}
    assert engine.statuses() == {"a": "Active", "b": "Released"}
