"""The indexes as the doctor sees them: each look of a tick is measured, and a missing index has its statement."""

from pathlib import Path

import pytest

from autorelease.inspect import State
from tests.support.engine import EXPIRED, RENEWED
from tests.support.patient import MANY, TYPED, Patient
from tests.support.place import LEDGER_PROVISIONER

NAMES = ["index", "index of sids", "index of VMs", "index of odd VMs"]
# Enough that nothing which reads them all is done within 50 ms.
VERY_MANY = (
    "INSERT INTO vm_allocations (sid, status, expires_at) "
    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400000) SELECT 'n' || i, ?, ? FROM n"
)


def test_each_missing_index_is_a_warning_with_its_statement(tmp_path: Path) -> None:
    patient = Patient(tmp_path, TYPED.replace(" PRIMARY KEY", ""), indexes=())
    patient.add("a", "b")
    for name in NAMES:
        check = patient.examined()[name]
        assert check.state is State.WARN
        assert check.message.startswith("there is none: looking for ")
        assert check.remedy.startswith("CREATE INDEX ")
        patient.place.execute(check.remedy)
        check = patient.examined()[name]
        assert (check.state, check.remedy) == (State.OK, "")
        assert " takes " in check.message


def test_a_look_that_is_slow_without_its_index_fails(tmp_path: Path) -> None:
    """And is broken off: nobody who writes has to wait for the doctor."""
    patient = Patient(tmp_path, TYPED.replace(" PRIMARY KEY", ""), indexes=())
    patient.place.execute(VERY_MANY, "Active", RENEWED)
    found = patient.examined()
    assert {found[name].state for name in ("index of VMs", "index of odd VMs")} == {State.FAIL}


def test_what_nothing_is_wrong_with_is_no_failure_in_a_large_table(patient: Patient) -> None:
    patient.place.execute(MANY, "Active", RENEWED)
    found = patient.examined()
    assert {found[name].state for name in NAMES} == {State.OK}
    assert "USING INDEX vm_allocations_due" in found["index"].message
    assert "USING INDEX vm_allocations_vms" in found["index of VMs"].message
    assert "vm_allocations_odd_vms" in found["index of odd VMs"].message


def test_an_index_that_is_full_of_settled_rows(tmp_path: Path) -> None:
    patient = Patient(tmp_path, indexes=("CREATE INDEX i ON vm_allocations (expires_at, sid)",))
    assert patient.examined()["index"].state is State.OK
    patient.place.execute(MANY, "Released", EXPIRED)
    check = patient.examined()["index"]
    assert check.state is not State.OK
    assert "holds 10001 settled rows as well" in check.message
    assert 'CREATE INDEX "vm_allocations_due"' in check.remedy


@pytest.mark.parametrize("key", ["sid INTEGER PRIMARY KEY", "sid TEXT PRIMARY KEY", "sid TEXT UNIQUE"])
def test_a_key_of_the_sid_is_an_index(key: str, tmp_path: Path) -> None:
    patient = Patient(tmp_path, TYPED.replace("sid TEXT PRIMARY KEY", key), indexes=())
    assert patient.examined()["index of sids"].state is State.OK


def test_a_table_without_a_column_for_the_vm(tmp_path: Path) -> None:
    patient = Patient(tmp_path, TYPED.replace("vm_ref TEXT, ", ""), indexes=())
    for name in NAMES[2:]:
        check = patient.examined()[name]
        assert check.state is State.WARN
        patient.place.execute(check.remedy)
        assert patient.examined()[name].state is State.OK


@pytest.mark.parametrize("key", [" PRIMARY KEY", ""])
def test_the_row_behind_a_view_is_looked_for_with_every_stamp(key: str, tmp_path: Path) -> None:
    patient = Patient(tmp_path, TYPED.replace(" PRIMARY KEY", key), indexes=())
    assert "index of stamps" not in patient.examined()
    patient.add("a")
    patient.place.execute("ALTER TABLE vm_allocations RENAME TO vms")
    patient.place.execute("CREATE VIEW vm_allocations AS SELECT * FROM vms")
    patient.configure_file(LEDGER_PROVISIONER, ledger='[ledger.stamp]\ntable = "vms"\n')
    check = patient.examined()["index of stamps"]
    if key:
        assert check.state is State.OK
        return
    assert check.state is State.WARN
    assert "the row to be stamped, in the table behind the view, takes" in check.message
    patient.place.execute(check.remedy)
    assert patient.examined()["index of stamps"].state is State.OK


@pytest.mark.parametrize(
    "rows",
    [
        "* FROM vms UNION SELECT * FROM vms",
        "CAST(sid AS TEXT) AS sid, status, expires_at FROM vms",
        "vms.* FROM vms LEFT JOIN notes ON notes.about = vms.sid",
    ],
)
def test_a_view_that_goes_in_one_piece_keeps_writers_waiting(rows: str, tmp_path: Path) -> None:
    patient = Patient(tmp_path, TYPED, indexes=())
    patient.add("a")
    patient.place.execute("ALTER TABLE vm_allocations RENAME TO vms")
    patient.place.execute("CREATE VIEW vm_allocations AS SELECT * FROM vms")
    patient.configure_file(LEDGER_PROVISIONER, ledger='[ledger.stamp]\ntable = "vms"\n')
    assert "one piece" not in patient.examined()
    patient.place.execute("DROP VIEW vm_allocations")
    patient.place.execute("CREATE TABLE notes (about TEXT)")
    patient.place.execute(f"CREATE VIEW vm_allocations AS SELECT {rows}")
    check = patient.examined()["one piece"]
    assert check.state is State.WARN
    assert "no writer gets its turn meanwhile: looking for all live rows takes" in check.message
    assert "let 'sid' be a column of a table" in check.remedy
    patient.place.execute(check.remedy.partition("shell: ")[2])
    assert "one piece" not in patient.examined()
