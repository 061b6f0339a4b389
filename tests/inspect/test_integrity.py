"""The doctor's deep look: real files, damaged in real ways."""

import sqlite3
from contextlib import closing

from msgspec.structs import replace

from autorelease.inspect import Check, State
from autorelease.inspect.integrity import examine_integrity
from autorelease.processes import own_process
from autorelease.settings import load_settings
from tests.support.engine import RENEWED
from tests.support.patient import MANY, Patient


def looked(patient: Patient) -> dict[str, Check]:
    """Both lines, by their name."""
    checks = list(examine_integrity(load_settings(patient.place.config, None, {}), patient.now))
    assert all(check.remedy for check in checks if check.state is not State.OK)
    return {check.name.removeprefix("integrity of the "): check for check in checks}


def rewrite_schema(patient: Patient, statement: str) -> None:
    """Let an index be another one than its pages are."""
    with closing(sqlite3.connect(patient.place.ledger)) as connection, connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(statement)
    with closing(sqlite3.connect(patient.place.ledger)) as connection:
        connection.execute("PRAGMA schema_version = 4711")


def test_sound_files(patient: Patient) -> None:
    found = looked(patient)
    assert {check.state for check in found.values()} == {State.OK}
    patient.place.journal.unlink()
    assert list(looked(patient)) == ["ledger"]


def test_an_index_that_hides_rows_is_made_anew(patient: Patient) -> None:
    """Whatever the index hides, no tick would ever see."""
    patient.place.execute("CREATE INDEX empty ON vm_allocations (expires_at) WHERE status = 'Nobody'")
    rewrite_schema(
        patient, "UPDATE sqlite_master SET sql = replace(sql, '= ''Nobody''', '<> ''Nobody''') WHERE name = 'empty'"
    )
    check = looked(patient)["ledger"]
    assert check.state is State.FAIL
    assert "missing from index empty" in check.message
    assert "REINDEX" in check.remedy
    with closing(sqlite3.connect(patient.place.ledger)) as connection:
        connection.execute('REINDEX main."vm_allocations"')
    assert looked(patient)["ledger"].state is State.OK


def test_a_page_that_is_overwritten(patient: Patient) -> None:
    """Nobody is sent back to the very look that found it."""
    patient.place.execute(MANY, "Active", RENEWED)
    contents = bytearray(patient.place.ledger.read_bytes())
    middle = len(contents) // 2 // 4096 * 4096
    contents[middle : middle + 4096] = b"\xff" * 4096
    patient.place.ledger.write_bytes(contents)
    check = looked(patient)["ledger"]
    assert check.state is State.FAIL
    assert "malformed: the look itself ended there" in check.message
    assert "doctor" not in check.message + check.remedy
    assert '"The ledger is damaged"' in check.remedy


def test_a_row_that_the_table_does_not_allow_is_no_damage(patient: Patient) -> None:
    rewrite_schema(
        patient,
        "UPDATE sqlite_master SET sql = replace(sql, 'plan TEXT', 'plan TEXT NOT NULL') WHERE name = 'vm_allocations'",
    )
    check = looked(patient)["ledger"]
    assert check.state is State.WARN
    assert "NULL value in vm_allocations.plan" in check.message


def test_a_damaged_journal_and_one_that_is_none(patient: Patient) -> None:
    patient.place.journal.write_bytes(b"dear diary")
    check = looked(patient)["journal"]
    assert check.state is State.FAIL
    # Whoever had a journal must not be told first to make a new one.
    assert "autorelease init" not in check.message + check.remedy
    assert looked(patient)["ledger"].state is State.OK


def test_a_running_tick_is_not_kept_from_writing(patient: Patient) -> None:
    process = own_process()
    start = replace(
        patient.start(),
        pid=process.pid,
        pid_started=process.started,
        pid_namespace=process.namespace,
        boot_id=process.boot_id,
    )
    with closing(patient.open_journal()) as journal:
        journal.open_tick(start)
    [check] = looked(patient).values()
    assert check.state is State.WARN
    assert "a tick is running" in check.message


def test_a_ledger_that_is_missing(patient: Patient) -> None:
    patient.place.ledger.unlink()
    check = looked(patient)["ledger"]
    assert check.state is State.FAIL
    assert not patient.place.ledger.exists()
