"""The installed command over a view of two tables: one holds the expiries, the other one the VMs and their states."""

from typing import Any

import pytest

from tests.e2e.reports import error_report, listed, sids, sweep, tick_report
from tests.support.place import HOUR, NOW, PERMISSIVE, Place, command_provisioner, program

TABLES = (
    "CREATE TABLE services (id INTEGER PRIMARY KEY, customer TEXT, paid_until INTEGER, note)",
    (
        "CREATE TABLE vms (vmid INTEGER PRIMARY KEY, service INTEGER REFERENCES services, state TEXT NOT NULL "
        "CHECK (state IN ('running', 'stopped', 'destroyed')), destroyed_at INTEGER, node TEXT, data BLOB)"
    ),
    "CREATE INDEX services_paid_until ON services (paid_until)",
    "CREATE INDEX vms_service ON vms (service)",
)
VIEW = (
    "CREATE VIEW allocations AS SELECT v.vmid AS sid, v.state AS status, s.paid_until AS expires_at, "
    "v.destroyed_at AS released_at, s.customer AS owner, 'vm-' || v.vmid AS vm_ref "
    "FROM services s JOIN vms v ON v.service = s.id"
)
FILTERED = f"{VIEW} WHERE v.state <> 'destroyed'"
# The order of its own program's hand: an UPDATE of the view would be carried out by it.
TRAP = (
    "CREATE TRIGGER trap INSTEAD OF UPDATE ON allocations BEGIN "
    "UPDATE vms SET state = NEW.status, destroyed_at = NEW.released_at WHERE vmid = NEW.sid; END"
)
STAMP = '[ledger.stamp]\ntable = "vms"\nsid = "vmid"\nstatus = "state"\nreleased_at = "destroyed_at"\n'
HEAD = 'table = "allocations"\nreleased = "destroyed"\n'
DUE = (101, 102, 103)
RENEW = f"UPDATE services SET paid_until = {NOW + 30 * 24 * HOUR} WHERE id = 1"


def make(place: Place, *, view: str = VIEW, stamp: str = STAMP, body: str = "") -> None:
    """Two tables and a view, three VMs that are due, and a program that notes for whom it was called."""
    for statement in (*TABLES, view, TRAP):
        place.execute(statement)
    services = [(1, "ann"), (2, "ben"), (3, "cy"), (4, "dee")]
    for number, customer in services:
        ends = NOW - (10 - number) * HOUR if number < 4 else NOW + HOUR
        place.insert([{"id": number, "customer": customer, "paid_until": ends, "note": 1.5}], "services")
        row = {"vmid": 100 + number, "service": number, "state": "running", "node": "n1", "data": b"\xff\x00"}
        place.insert([row], "vms")
    script = program(place.folder, f'echo "$1" >> "{place.folder}/calls"\n{body}')
    place.configure(
        command_provisioner([script, "{vm_ref}"]), PERMISSIVE, "[release]\nconcurrency = 1\n", ledger=HEAD + stamp
    )


def called(place: Place) -> list[str]:
    """For whom the program was called."""
    path = place.folder / "calls"
    return path.read_text(encoding="utf-8").split() if path.exists() else []


def by_hand(place: Place, statement: str) -> str:
    """A line of a program that changes the ledger as the panel would, while a VM is being released."""
    connect = f"c = sqlite3.connect('{place.ledger}')"
    return f'python3 -c "import sqlite3; {connect}; c.execute(\\"{statement}\\"); c.commit()"'


def everything(place: Place) -> list[Any]:
    """All that is in the database, its schema included."""
    return [
        place.query("SELECT type, name, sql FROM sqlite_master ORDER BY name"),
        place.query("SELECT *, typeof(paid_until), typeof(note) FROM services ORDER BY id"),
        place.query("SELECT *, typeof(destroyed_at), typeof(data) FROM vms ORDER BY vmid"),
    ]


def states(place: Place) -> dict[int, str]:
    """The state of each VM."""
    return dict(place.query("SELECT vmid, state FROM vms"))


@pytest.mark.parametrize("view", [VIEW, FILTERED])
def test_what_is_due_is_released_and_only_the_stamped_columns_of_the_base_table_change(place: Place, view: str) -> None:
    make(place, view=view)
    before = everything(place)
    assert sids(listed(place)) == {"101", "102", "103"}
    assert place.run("tick", "--once", "--dry-run").code == 0
    assert everything(place) == before
    report = sweep(place)
    assert (report["rows_examined"], report["rows_released"], report["rows_invalid"]) == (4, 3, 0)
    assert called(place) == ["vm-101", "vm-102", "vm-103"]
    after = everything(place)
    assert after[:2] == before[:2]
    for old, new in zip(before[2], after[2], strict=True):
        assert (new[0], new[1], *new[4:6]) == (old[0], old[1], *old[4:6])
        if old[0] in DUE:
            assert (new[2], new[6]) == ("destroyed", "integer")
            assert new[3] >= NOW
        else:
            assert new == old
    assert sweep(place)["rows_expired"] == 0
    assert everything(place) == after


def test_a_renewal_in_the_table_of_the_expiry_is_not_stamped_over(place: Place) -> None:
    make(place, body=f"case $1 in vm-101) {by_hand(place, RENEW)};; esac")
    report = sweep(place, code=3)
    assert (report["rows_released"], report["rows_failed"]) == (2, 1)
    [error] = report["errors"]
    assert (error["sid"], error["code"]) == ("101", "conflict")
    assert states(place) == {101: "running", 102: "destroyed", 103: "destroyed", 104: "running"}
    assert place.query("SELECT destroyed_at FROM vms WHERE vmid = 101") == [(None,)]


def test_a_renewal_before_the_call_keeps_the_vm(place: Place) -> None:
    make(place, body=f"case $1 in vm-101) {by_hand(place, RENEW.replace('id = 1', 'id = 2'))};; esac")
    report = sweep(place)
    assert (report["rows_released"], report["skipped"]["renewed"]) == (2, 1)
    assert called(place) == ["vm-101", "vm-103"]
    assert states(place)[102] == "running"


@pytest.mark.parametrize(("state", "released", "conflicts"), [("destroyed", 3, 0), ("stopped", 2, 1)])
def test_a_state_that_changes_while_the_vm_is_released(place: Place, state: str, released: int, conflicts: int) -> None:
    change = f"UPDATE vms SET state = '{state}' WHERE vmid = 101"
    make(place, body=f"case $1 in vm-101) {by_hand(place, change)};; esac")
    report = sweep(place, code=3 if conflicts else 0)
    assert (report["rows_released"], report["rows_failed"]) == (released, conflicts)
    assert states(place)[101] == state


def test_a_trigger_of_the_base_table_that_refuses_keeps_that_vm_alone(place: Place) -> None:
    make(place)
    place.execute(
        "CREATE TRIGGER locked BEFORE UPDATE ON vms WHEN OLD.vmid = 101 BEGIN SELECT RAISE(ABORT, 'is locked'); END"
    )
    report = sweep(place, code=3)
    assert (report["rows_released"], report["rows_failed"]) == (2, 1)
    assert "is locked" in report["errors"][0]["message"]
    assert called(place) == ["vm-102", "vm-103"]


def test_a_word_that_the_base_table_does_not_take_is_found_before_anything_is_released(place: Place) -> None:
    make(place, stamp=STAMP + 'released = "Released"\n')
    assert "CHECK constraint failed" in error_report(place.run("tick", "--once", "--json"), 5)["message"]
    assert called(place) == []


def test_a_row_that_a_join_multiplies_is_invalid(place: Place) -> None:
    place.execute("CREATE TABLE addresses (vm, ip)")
    make(place, view=VIEW + " JOIN addresses a ON a.vm = v.vmid")
    place.execute("INSERT INTO addresses VALUES (101, 'a'), (101, 'b'), (102, 'c'), (103, 'd')")
    report = sweep(place, code=3)
    assert (report["rows_released"], report["rows_invalid"]) == (2, 2)
    assert {invalid["sid"] for invalid in report["invalid"]} == {"101"}
    assert called(place) == ["vm-102", "vm-103"]


def test_a_view_without_a_word_about_its_stamp_is_refused(place: Place) -> None:
    make(place, stamp="")
    for command in (["tick", "--once", "--json"], ["list-expired", "--format", "json"], ["release", "101", "--yes"]):
        found = place.run(*command)
        assert found.code == 5
        assert "[ledger.stamp]" in found.out + found.err
    assert called(place) == []


def test_its_own_application_stamps(place: Place) -> None:
    change = "UPDATE vms SET state = 'destroyed' WHERE 'vm-' || vmid = '$1'"
    make(place, view=FILTERED, stamp="stamp = false\n", body=by_hand(place, change))
    assert sweep(place)["rows_released"] == 3
    assert set(states(place).values()) == {"destroyed", "running"}


def test_a_view_whose_table_is_gone_is_told_in_the_database_s_words(place: Place) -> None:
    make(place)
    place.execute("DROP TABLE services")
    found = error_report(place.run("tick", "--once", "--json"), 5)
    assert "no such table: main.services" in found["message"]
    assert place.run("doctor").code == 9


@pytest.mark.parametrize("view", [VIEW, FILTERED])
@pytest.mark.parametrize("is_stamped", [False, True])
def test_after_a_kill_the_next_tick_converges(place: Place, view: str, *, is_stamped: bool) -> None:
    once = place.folder / "killed"
    make(place, view=view, body=f'[ -e "{once}" ] || {{ : > "{once}"; kill -9 $PPID; }}')
    assert place.run("tick", "--once").code == -9
    assert set(states(place).values()) == {"running"}
    if is_stamped:
        # As if the kill had come between the stamp and its outcome in the journal.
        place.execute(f"UPDATE vms SET state = 'destroyed', destroyed_at = {NOW} WHERE vmid = 101")
    report = tick_report(place.run("tick", "--once", "--json"), 0)
    # What was stamped has come to its end, and has not expired any more.
    assert report["rows_released"] == (2 if is_stamped else 3)
    assert [states(place)[number] for number in (*DUE, 104)] == ["destroyed"] * 3 + ["running"]
    assert called(place).count("vm-101") == (1 if is_stamped else 2)
    assert sweep(place)["rows_expired"] == 0


def test_an_order_of_the_operator_goes_through_the_view(place: Place) -> None:
    make(place, view=FILTERED)
    assert place.run("release", "104", "--yes").code == 0
    assert states(place)[104] == "destroyed"
    assert place.run("release", "104", "--yes").code == 0
    assert called(place) == ["vm-104"]
    explained = place.run("explain", "104")
    assert explained.code == 0
    assert "at        never" not in explained.out
    assert "'destroyed' is the released status" in explained.out


def test_a_released_row_that_the_view_leaves_out_is_explained_as_that(place: Place) -> None:
    make(place, view=FILTERED)
    place.execute("UPDATE vms SET state = 'destroyed' WHERE vmid = 101")
    ran = place.run("explain", "101")
    assert ran.code == 2
    assert "'101' is released in the table of [ledger.stamp], and the view leaves it out" in ran.err
    assert "no allocation '999'" in place.run("explain", "999").err


def test_the_doctor_knows_that_it_is_a_view(place: Place) -> None:
    make(place, view=FILTERED)
    assert sweep(place)["rows_released"] == 3
    found = {check["check"]: check for check in place.run("doctor", "--format", "json").json()["checks"]}
    assert [found[check]["state"] for check in ("ledger", "columns", "index", "statuses")] == ["ok"] * 4
    assert "a view; stamped is table 'vms' (sid = vmid, status = state" in found["columns"]["message"]
    assert "CREATE INDEX" not in str(found)


@pytest.mark.parametrize(
    ("stamp", "place_of_it"),
    [
        ('[ledger.stamp]\nsid = "vmid"\n', "'ledger.stamp.table': is missing"),
        ('[ledger.stamp]\ntable = "vms"\nstate = "x"\n', "unknown key 'ledger.stamp.state'"),
        ('[ledger.stamp]\ntable = "vms"\nreleased = 1.5\n', "'ledger.stamp.released': must be"),
        ('stamp = "vms"\n', "'ledger.stamp': must be true or false or a table"),
        ('[ledger.stamp]\ntable = "vms"\nsid = "id"\nstatus = "ID"\n', "three different columns"),
    ],
)
def test_what_is_wrong_in_its_section_is_named(place: Place, stamp: str, place_of_it: str) -> None:
    make(place, stamp=stamp)
    found = error_report(place.run("tick", "--once", "--json"), 4)
    assert place_of_it in found["message"]
