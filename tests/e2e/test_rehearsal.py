"""The installed command over tables that refuse the stamp of some rows: no VM of theirs goes, and the others do."""

from pathlib import Path

import pytest

from tests.e2e.reports import check_tick, schema
from tests.support.place import HOUR, NOW, PERMISSIVE, TABLE, Place, allocation, command_provisioner, program

ELEVEN = [f"s{number:02}" for number in range(11)]
REFUSE = "CREATE TRIGGER meddler BEFORE UPDATE ON vm_allocations WHEN OLD.sid IN ({}) BEGIN SELECT RAISE({}); END"


@pytest.fixture
def place(place: Place) -> Place:
    """A program that writes down for whom it was called."""
    script = program(place.folder, f'echo "$1" >> "{calls_of(place)}"')
    place.configure(command_provisioner([script, "{sid}"]), PERMISSIVE)
    return place


def calls_of(place: Place) -> Path:
    """Where the program writes."""
    return place.folder / "calls"


def called(place: Place) -> list[str]:
    """For whom the program was called."""
    return sorted(calls_of(place).read_text(encoding="utf-8").split()) if calls_of(place).exists() else []


def fill(place: Place, sids: list[str], table: str = TABLE) -> None:
    """Rows that have expired, the first one first."""
    rows = [allocation(sid, NOW - 5 * HOUR + later, plan="small") for later, sid in enumerate(sids)]
    place.make_ledger(rows, table=table)


UNTOUCHED = "SELECT sid, owner, plan, provisioner, vm_ref, vm_uid, expires_at FROM vm_allocations ORDER BY sid"


@pytest.mark.parametrize("action", ["ABORT, 'not with me'", "ROLLBACK, 'not with me'", "IGNORE"])
def test_the_oldest_of_eleven_is_refused_and_named_and_ten_are_released(place: Place, action: str) -> None:
    fill(place, ELEVEN)
    place.execute(REFUSE.format("'s00'", action))
    before = place.query(UNTOUCHED)
    ran = place.run("tick", "--once", "--json")
    report = check_tick(ran.json(), ran.code)
    assert (ran.code, report["rows_released"], report["rows_failed"]) == (3, 10, 1)
    [error] = report["errors"]
    assert (error["sid"], error["code"], error["attempts"]) == ("s00", "failed", 0)
    assert "its stamp would be refused" in error["message"]
    assert called(place) == ELEVEN[1:]
    assert place.released() == set(ELEVEN[1:])
    assert place.query(UNTOUCHED) == before
    [(event, outcome)] = place.query("SELECT event, outcome FROM events WHERE sid = 's00'", database=place.journal)
    assert (event, outcome) == ("outcome", "failed")
    again = place.run("tick", "--once", "--json")
    assert (again.code, again.json()["skipped"]["backoff"]) == (3, 1)
    assert called(place) == ELEVEN[1:]


def test_when_every_stamp_is_refused_nothing_is_called_and_the_tried_ones_are_charged(place: Place) -> None:
    fill(place, ELEVEN)
    place.execute("CREATE TRIGGER meddler BEFORE UPDATE ON vm_allocations BEGIN SELECT RAISE(ABORT, 'no'); END")
    before = place.ledger.read_bytes()
    ran = place.run("tick", "--once", "--json")
    schema("error").validate(ran.json())
    assert (ran.code, ran.json()["error"]) == (5, "unusable")
    assert "10 rows" in ran.json()["message"]
    assert "'s00'" in ran.json()["message"]
    assert (called(place), place.ledger.read_bytes()) == ([], before)
    charged = place.query("SELECT sid FROM attempts WHERE failed_ticks = 1 ORDER BY sid", database=place.journal)
    assert [sid for (sid,) in charged] == [*ELEVEN[:9], "s10"]
    # What is left is tried by the next tick, and is all of its plan.
    assert place.run("tick", "--once").code == 5
    assert place.run("tick", "--once").code == 3
    assert called(place) == []


@pytest.mark.parametrize("deferred", ["", " DEFERRABLE INITIALLY DEFERRED"])
def test_a_status_that_is_a_foreign_key_shows_before_any_vm_goes(place: Place, deferred: str) -> None:
    keyed = TABLE.replace("released_at)", f"released_at, FOREIGN KEY (plan, status) REFERENCES allowed{deferred})")
    fill(place, ELEVEN, keyed)
    place.execute("CREATE TABLE allowed (plan TEXT, word TEXT, PRIMARY KEY (plan, word))")
    place.execute("INSERT INTO allowed VALUES ('small', 'Active'), ('small', 'Released'), ('large', 'Active')")
    place.execute("UPDATE vm_allocations SET plan = 'large' WHERE sid IN ('s00', 's05')")
    ran = place.run("tick", "--once", "--json")
    report = check_tick(ran.json(), ran.code)
    assert (ran.code, {error["sid"] for error in report["errors"]}) == (3, {"s00", "s05"})
    assert all("'allowed'" in error["message"] for error in report["errors"])
    assert place.released() == set(called(place)) == set(ELEVEN) - {"s00", "s05"}


def test_of_the_rows_that_an_operator_names_the_refused_one_is_named(place: Place) -> None:
    fill(place, ELEVEN)
    place.execute(REFUSE.format("'s00', 's01'", "ABORT, 'not with me'"))
    ran = place.run("release", "s00", "s02", "--reason", "moved", "--yes")
    assert (ran.code, "s00" in ran.out, "its stamp would be refused" in ran.out) == (3, True, True)
    alone = place.run("release", "s01", "--reason", "moved", "--yes")
    assert (alone.code, "'s01'" in alone.err) == (5, True)
    assert called(place) == ["s02"]
    assert place.released() == {"s02"}
