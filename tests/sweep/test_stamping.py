"""The stamp: in groups, and one by one where the table refuses one of them."""

import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest

from autorelease.errors import ExitCode
from autorelease.provisioners.memory import MemoryProvisioner
from tests.support.engine import Engine
from tests.support.place import TABLE
from tests.support.sweeping import when

OBSTINATE = TABLE.replace("status TEXT", "status TEXT CHECK (status = 'Active' OR sid <> 'b')")


def on_b(action: str) -> str:
    """A trigger that meets the change of row b alone."""
    return f"CREATE TRIGGER meddler BEFORE UPDATE ON vm_allocations WHEN OLD.sid = 'b' BEGIN {action}; END"


def check_that_b_alone_failed(engine: Engine) -> None:
    """b cannot be stamped; its group is, without it. Its release is the stamp: nothing has happened to it."""
    # Without threads, so that all of them come back as one group.
    ticked = engine.tick(MemoryProvisioner("abcd"), immediate=["default"])
    assert ticked.ends() == {"a": "released", "b": "failed", "c": "released", "d": "released"}
    assert ticked.code == ExitCode.NOT_ALL_WELL
    assert engine.statuses() == {"a": "Released", "b": "Active", "c": "Released", "d": "Released"}
    assert engine.open_intents() == set()
    assert "released at the provisioner" not in ticked.report.errors[0].message
    assert engine.events("b") == [("intent", None, None), ("outcome", "failed", "failed")]
    assert engine.failed_ticks() == {"a": 0, "b": 1, "c": 0, "d": 0}


@pytest.mark.parametrize("how", ["ABORT", "FAIL", "ROLLBACK"])
def test_a_stamp_that_is_refused_after_the_release_is_not_forgotten(engine: Engine, how: str) -> None:
    """The trigger came while the VM was going: no rehearsal could have shown it."""
    engine.add(*"abcd")
    provisioner = MemoryProvisioner("abcd")
    provisioner._before = when("b", lambda: engine.place.execute(on_b(f"SELECT RAISE({how}, 'not this one')")))
    ticked = engine.tick(provisioner)
    assert (ticked.code, ticked.ends()["b"]) == (ExitCode.NOT_ALL_WELL, "failed")
    assert (engine.statuses()["b"], provisioner.gone, engine.open_intents()) == ("Active", set("abcd"), {"b"})
    assert "released at the provisioner" in ticked.report.errors[0].message
    # It is charged: nothing of it is tried before its time.
    engine.later(timedelta(minutes=10))
    assert engine.tick(provisioner).ends() == {"b": "backoff"}
    engine.place.execute("DROP TRIGGER meddler")
    provisioner._before = None
    engine.later(timedelta(days=1))
    assert engine.tick(provisioner).ends() == {"b": "already_released"}
    assert engine.open_intents() == set()


def test_a_group_is_repeated_row_by_row_where_a_check_refuses_one(tmp_path: Path) -> None:
    engine = Engine(tmp_path, table=OBSTINATE)
    engine.add(*"abcd")
    check_that_b_alone_failed(engine)


@pytest.mark.parametrize("how", ["ABORT", "FAIL", "ROLLBACK"])
def test_a_group_is_repeated_row_by_row_where_a_trigger_refuses_one(engine: Engine, how: str) -> None:
    engine.add(*"abcd")
    engine.place.execute(on_b(f"SELECT RAISE({how}, 'not this one')"))
    check_that_b_alone_failed(engine)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("fault", ["SELECT json('nonsense')", "SELECT abs(-9223372036854775807 - 1)"])
def test_a_group_is_repeated_row_by_row_where_a_trigger_breaks_on_one(engine: Engine, fault: str) -> None:
    """The operator's trigger has a fault that one row's values bring out: that is no reason to stop the others."""
    engine.add(*"abcd")
    engine.place.execute(on_b(fault))
    check_that_b_alone_failed(engine)


def test_a_trigger_that_ignores_the_stamp_of_one_row(engine: Engine) -> None:
    engine.add(*"abcd")
    engine.place.execute(on_b("SELECT RAISE(IGNORE)"))
    ticked = engine.tick(MemoryProvisioner("abcd"), immediate=["default"])
    assert ticked.code == ExitCode.NOT_ALL_WELL
    assert ticked.finding("b").error is not None
    assert engine.statuses() == {"a": "Released", "b": "Active", "c": "Released", "d": "Released"}
    assert "ignored" in ticked.report.errors[0].message
    # The release is the stamp: none was begun that nobody knows the end of.
    assert engine.open_intents() == set()


def test_what_cannot_be_stamped_is_tried_again_until_it_can(tmp_path: Path) -> None:
    engine = Engine(tmp_path, table=OBSTINATE)
    engine.add(*"ab")
    provisioner = MemoryProvisioner("ab")
    # Where no group is rehearsed.
    assert engine.tick(provisioner, immediate=["default"]).ends() == {"a": "released", "b": "failed"}
    engine.later()
    engine.add("c")
    provisioner.vms.add("c")
    assert engine.tick(provisioner, immediate=["default"]).ends() == {"b": "failed", "c": "released"}
    # The operator mends the table.
    other = sqlite3.connect(engine.place.ledger, isolation_level=None)
    other.executescript(
        f"ALTER TABLE vm_allocations RENAME TO old; {TABLE}; INSERT INTO vm_allocations SELECT * FROM old; "
        "DROP TABLE old"
    )
    other.close()
    engine.later(timedelta(hours=3))
    assert engine.tick(provisioner).ends() == {"b": "already_released"}
    assert engine.open_intents() == set()
