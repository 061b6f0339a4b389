"""What every kind of ledger must do, whatever database it is in. A new kind joins `KINDS` and passes all of it."""

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from autorelease.errors import UnusableError
from autorelease.ledger import Ledger, Stamp, StampResult
from autorelease.ledger.rows import StoredRow
from autorelease.ledger.values import Vocabulary
from autorelease.model import Allocation, InvalidRow
from autorelease.rules.expiry import find_expired

NOW = datetime(2026, 12, 1, 12, 0, tzinfo=UTC)
NOON = 1_796_126_400
HOUR = 3600
WORDS = Vocabulary(inactive=frozenset({"Cancelled"}), never=(0,))
Row = Mapping[str, Any]


class Bench:
    """A ledger under test, and the operator's own hand in the same table. has_keys: it is no view."""

    def __init__(
        self,
        open_ledger: Callable[[bool], Ledger],
        execute: Callable[[str, Sequence[Any]], list[tuple[Any, ...]]],
        *,
        has_keys: bool = True,
    ) -> None:
        self.has_keys = has_keys
        self._open = open_ledger
        self._execute = execute
        self._ledgers: list[Ledger] = []

    def fill(self, *rows: Row) -> None:
        """Add rows."""
        for row in rows:
            places = ", ".join("?" for _ in row)
            self._execute(f"INSERT INTO vm_allocations ({', '.join(row)}) VALUES ({places})", list(row.values()))

    def change(self, assignments: str, sid: str) -> None:
        """Change the row of this sid as the operator's own program would."""
        self._execute(f"UPDATE vm_allocations SET {assignments} WHERE sid = ?", [sid])

    def execute(self, statement: str) -> None:
        """Do what the operator would in the database's own shell."""
        self._execute(statement, [])

    def rows(self) -> list[tuple[Any, ...]]:
        """All that is stored."""
        return self._execute("SELECT * FROM vm_allocations ORDER BY sid", [])

    def open(self, *, read_only: bool = False) -> Ledger:
        """Open the ledger; it is closed when the test ends."""
        self._ledgers.append(self._open(read_only))
        return self._ledgers[-1]

    def close(self) -> None:
        """End all use of it."""
        for ledger in self._ledgers:
            ledger.close()


def sqlite_bench(folder: Path, *, table: str = "", mode: str = "DELETE") -> Bench:
    """A ledger in SQLite."""
    from autorelease.ledger.sqlite import SQLiteLedger

    path = folder / "allocations.db"
    columns = {role: role for role in StoredRow.__struct_fields__ if role != "deleted_at"}

    def execute(statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(path)) as connection, connection:
            return connection.execute(statement, values).fetchall()

    execute(f"PRAGMA journal_mode = {mode}", [])
    declared = (
        "sid TEXT PRIMARY KEY, status TEXT, expires_at INTEGER, released_at INTEGER, vm_ref TEXT, provisioner TEXT"
    )
    execute(f"CREATE TABLE vm_allocations ({declared}, owner TEXT, plan TEXT, vm_uid TEXT) {table}", [])
    return Bench(
        lambda read_only: SQLiteLedger(path, "vm_allocations", columns, words=WORDS, read_only=read_only), execute
    )


def view_bench(folder: Path) -> Bench:
    """A view over the services, which expire, and the VMs, which are released.

    The operator's own hand goes through its triggers. To ours they are a trap.
    """
    from autorelease.ledger.base import Base
    from autorelease.ledger.sqlite import SQLiteLedger

    path = folder / "panel.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(PANEL)

    def execute(statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(path)) as connection, connection:
            return connection.execute(statement, values).fetchall()

    columns = {role: role for role in StoredRow.__struct_fields__ if role != "deleted_at"}
    base = Base(table="vms", sid="name", status="state", released_at="gone_at", released=9)
    return Bench(
        lambda read_only: SQLiteLedger(path, "vm_allocations", columns, words=WORDS, base=base, read_only=read_only),
        execute,
        has_keys=False,
    )


PANEL = """
CREATE TABLE services (id INTEGER PRIMARY KEY, vm TEXT UNIQUE, ends INTEGER, owner TEXT, plan TEXT);
CREATE TABLE vms (name TEXT PRIMARY KEY, state, gone_at INTEGER, ref TEXT, uid TEXT, host TEXT);
CREATE VIEW vm_allocations AS SELECT v.name AS sid, CASE v.state WHEN 9 THEN 'Released' ELSE v.state END AS status,
    s.ends AS expires_at, v.gone_at AS released_at, v.ref AS vm_ref, v.host AS provisioner, s.owner AS owner,
    s.plan AS plan, v.uid AS vm_uid
    FROM services s JOIN vms v ON v.name = s.vm;
CREATE TRIGGER book INSTEAD OF INSERT ON vm_allocations BEGIN
    INSERT INTO vms VALUES (NEW.sid, CASE NEW.status WHEN 'Released' THEN 9 ELSE NEW.status END, NEW.released_at,
        NEW.vm_ref, NEW.vm_uid, NEW.provisioner);
    INSERT INTO services (vm, ends, owner, plan) VALUES (NEW.sid, NEW.expires_at, NEW.owner, NEW.plan);
END;
CREATE TRIGGER rebook INSTEAD OF UPDATE ON vm_allocations BEGIN
    UPDATE vms SET name = NEW.sid, state = CASE NEW.status WHEN 'Released' THEN 9 ELSE NEW.status END,
        gone_at = NEW.released_at WHERE name = OLD.sid;
    UPDATE services SET vm = NEW.sid, ends = NEW.expires_at WHERE vm = OLD.sid;
END;
"""
KINDS: dict[str, Callable[[Path], Bench]] = {
    "sqlite": sqlite_bench,
    "sqlite, WAL": lambda folder: sqlite_bench(folder, mode="WAL"),
    "sqlite, without row ids": lambda folder: sqlite_bench(folder, table="WITHOUT ROWID"),
    "sqlite, a view": view_bench,
}


@pytest.fixture(params=list(KINDS.values()), ids=list(KINDS))
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    """An empty ledger of each kind."""
    made: Bench = request.param(tmp_path)
    yield made
    made.close()


def row(sid: str, expires_at: Any = NOON - HOUR, status: Any = "Active", **others: Any) -> Row:
    """One row."""
    return {"sid": sid, "status": status, "expires_at": expires_at, **others}


def due(ledger: Ledger, now: datetime = NOW, grace: timedelta = timedelta(0)) -> list[Allocation]:
    """Everything that is fetched, page after page."""
    return [allocation for page in ledger.due(now, grace) for allocation in page]


def stamp_of(ledger: Ledger, sid: str, at: datetime = NOW) -> Stamp:
    """A stamp for this allocation as it is now."""
    found = ledger.read(sid)
    assert isinstance(found, Allocation)
    return Stamp(found, at)


MIXED = [
    row("expired"),
    row("barely", NOON - 1),
    row("at this instant", NOON),
    row("later", NOON + HOUR),
    row("never", None),
    row("listed as never", 0),
    row("released", NOON - HOUR, "Released", released_at=NOON),
    row("cancelled", NOON - HOUR, "Cancelled"),
    row("nearly released", NOON - HOUR, "RELEASED"),
    row("released once", NOON - HOUR, released_at=5),
    row("in milliseconds", (NOON - HOUR) * 1000),
    row("without a status", NOON - HOUR, None),
]
INVALID = {"nearly released", "released once", "in milliseconds", "without a status"}


def test_the_census_counts_the_live_rows_and_names_the_invalid_ones(bench: Bench) -> None:
    bench.fill(*MIXED)
    census = bench.open().census()
    assert census.rows_examined == len(MIXED) - 2
    assert (census.rows_invalid, census.truncated) == (len(INVALID), False)
    assert {invalid.sid for invalid in census.invalid} == INVALID
    assert all(invalid.reason for invalid in census.invalid)


def test_what_is_due_is_fetched_and_nothing_that_is_settled_or_invalid(bench: Bench) -> None:
    bench.fill(*MIXED)
    fetched = due(bench.open())
    assert {row.sid for row in find_expired(fetched, NOW)} == {"expired", "barely"}
    assert {row.sid for row in fetched}.isdisjoint({"released", "cancelled", *INVALID})
    assert not any(row.settled for row in fetched)


def test_grace_is_taken_into_account(bench: Bench) -> None:
    bench.fill(row("a", NOON - HOUR - 1), row("b", NOON - HOUR), row("c", NOON - 1))
    grace = timedelta(hours=1)
    fetched = due(bench.open(), NOW, grace)
    assert {row.sid for row in find_expired(fetched, NOW, grace=grace)} == {"a"}


def test_all_that_is_due_is_handed_out_once(bench: Bench) -> None:
    bench.fill(*(row(sid, NOON - hours * HOUR) for sid, hours in [("a", 1), ("c", 9), ("b", 9), ("d", 3)]))
    assert sorted(row.sid for row in due(bench.open())) == ["a", "b", "c", "d"]


def test_an_empty_ledger(bench: Bench) -> None:
    ledger = bench.open()
    census = ledger.census()
    assert (census.rows_examined, census.rows_invalid, list(census.invalid)) == (0, 0, [])
    assert due(ledger) == []
    assert ledger.read("a") is None
    assert list(ledger.holders(["a"])) == []
    assert list(ledger.stamp([])) == []


def test_what_is_read_is_what_was_fetched(bench: Bench) -> None:
    bench.fill(row("a", vm_ref="vm", provisioner="ovh", owner="Eve", plan="basic", vm_uid="uid"))
    ledger = bench.open()
    [fetched] = due(ledger)
    assert ledger.read("a") == fetched
    assert (fetched.vm_ref, fetched.provisioner, fetched.vm_uid) == ("vm", "ovh", "uid")
    assert (fetched.owner, fetched.plan) == ("Eve", "basic")


def test_a_row_is_read_as_it_is_now(bench: Bench) -> None:
    bench.fill(row("a"))
    ledger = bench.open()
    before = ledger.read("a")
    bench.change(f"expires_at = {NOON + HOUR}", "a")
    after = ledger.read("a")
    assert isinstance(before, Allocation)
    assert isinstance(after, Allocation)
    assert before.judged() != after.judged()
    bench.change("status = 'released'", "a")
    assert isinstance(ledger.read("a"), InvalidRow)
    bench.change("status = 'Released'", "a")
    released = ledger.read("a")
    assert isinstance(released, Allocation)
    assert released.released


def test_a_sid_means_one_row_exactly(bench: Bench) -> None:
    bench.fill(row("a"))
    ledger = bench.open()
    assert [ledger.read(sid) for sid in ("A", " a", "a ", "", "b", "a\x00")] == [None] * 6


def test_a_rehearsal_changes_nothing(bench: Bench) -> None:
    bench.fill(row("a"))
    before = bench.rows()
    ledger = bench.open()
    stamp = stamp_of(ledger, "a")
    assert list(ledger.rehearse([stamp])) == [None]
    assert bench.rows() == before
    assert list(ledger.stamp([stamp])) == [StampResult.STAMPED]


def test_a_row_that_was_rehearsed_already_is_refused_by_nobody_and_no_rehearsal_is_none(bench: Bench) -> None:
    bench.fill(row("a"), row("b"))
    ledger = bench.open()
    stamp = stamp_of(ledger, "a")
    assert list(ledger.rehearse([stamp, stamp, stamp_of(ledger, "b")])) == [None] * 3
    assert list(ledger.rehearse([])) == []
    assert isinstance(ledger.has_rules(), bool)


def test_a_stamp_is_there_for_everybody_when_it_is_counted(bench: Bench) -> None:
    bench.fill(row("a"), row("b"), row("c"))
    ledger = bench.open()
    at = NOW + timedelta(seconds=90)
    results = ledger.stamp([stamp_of(ledger, sid, at) for sid in ("a", "b")])
    assert list(results) == [StampResult.STAMPED] * 2
    stored = {sid: (status, released_at) for sid, status, _, released_at, *_ in bench.rows()}
    assert stored == {"a": ("Released", NOON + 90), "b": ("Released", NOON + 90), "c": ("Active", None)}
    assert [row.sid for row in due(ledger)] == ["c"]
    assert ledger.census().rows_examined == 1


@pytest.mark.parametrize(
    "change",
    [
        f"expires_at = {NOON + HOUR}",
        "expires_at = NULL",
        "status = 'Suspended'",
        "status = 'Released'",
        "status = 'ACTIVE'",
        "sid = 'other'",
    ],
)
def test_what_has_changed_is_not_stamped_and_the_others_are(bench: Bench, change: str) -> None:
    bench.fill(row("a"), row("b"))
    ledger = bench.open()
    stamps = [stamp_of(ledger, sid) for sid in ("a", "b")]
    bench.change(change, "a")
    before = [stored for stored in bench.rows() if stored[0] != "b"]
    assert list(ledger.stamp(stamps)) == [StampResult.UNCHANGED, StampResult.STAMPED]
    assert [stored for stored in bench.rows() if stored[0] != "b"] == before


def test_a_stamp_is_made_once(bench: Bench) -> None:
    bench.fill(row("a"))
    ledger = bench.open()
    stamp = stamp_of(ledger, "a")
    assert [*ledger.stamp([stamp]), *ledger.stamp([stamp])] == [StampResult.STAMPED, StampResult.UNCHANGED]


def test_of_two_who_stamp_the_same_row_one_does(bench: Bench) -> None:
    bench.fill(row("a"))
    one, other = bench.open(), bench.open()
    stamps = [stamp_of(one, "a"), stamp_of(other, "a", NOW + timedelta(hours=1))]
    assert [*one.stamp(stamps[:1]), *other.stamp(stamps[1:])] == [StampResult.STAMPED, StampResult.UNCHANGED]
    assert bench.rows()[0][3] == NOON


def test_the_holders_of_a_vm(bench: Bench) -> None:
    bench.fill(
        row("a", vm_ref="vm"),
        row("b", NOON + HOUR, vm_ref="vm", provisioner="ovh"),
        row("vm"),
        row("wrong", "soon", vm_ref="vm"),
        row("elsewhere", vm_ref="other"),
        row("gone", vm_ref="vm", status="Released"),
        row("cancelled", vm_ref="vm", status="Cancelled"),
    )
    found = {
        (holder.sid, holder.vm.provisioner, holder.vm.reference) for holder in bench.open().holders(["vm", "none"])
    }
    assert found == {
        ("a", "default", "vm"),
        ("b", "ovh", "vm"),
        ("vm", "default", "vm"),
        ("wrong", "default", "vm"),
    }


def test_the_census_finds_every_status_that_is_nearly_a_settled_one(bench: Bench) -> None:
    nearly = ["released", "cancelled", "CANCELLED\n", "\x1cCancelled", "Cancelled\u00a0", "\uff23ancelled"]
    bench.fill(*(row(f"s{number}", NOON + HOUR, status=status) for number, status in enumerate(nearly)))
    bench.fill(row("settled", status="Cancelled"), row("live", NOON + HOUR, status="Cancelling"))
    census = bench.open().census()
    assert (census.rows_examined, census.rows_invalid) == (len(nearly) + 1, len(nearly))


def test_two_spellings_are_held_as_one_vm(bench: Bench) -> None:
    bench.fill(row("a", vm_ref="WEB-1"), row("b", vm_ref="web-1\t"), row("c", vm_ref="\uff37eb-1"), row("WeB-1"))
    bench.fill(row("other", vm_ref="web-11"))
    assert {holder.sid for holder in bench.open().holders(["web-1"])} == {"a", "b", "c", "WeB-1"}


def test_a_ledger_opened_to_be_read_changes_nothing(bench: Bench) -> None:
    bench.fill(*MIXED)
    before = bench.rows()
    ledger = bench.open(read_only=True)
    ledger.census()
    stamp = Stamp(due(ledger)[0], NOW)
    with pytest.raises(UnusableError):
        ledger.stamp([stamp])
    with pytest.raises(UnusableError):
        ledger.rehearse([stamp])
    assert bench.rows() == before


def test_the_stored_values_of_a_sid_as_they_are(bench: Bench) -> None:
    bench.fill(row("a", "soon", None, released_at=5, owner="Eve"), row("b"))
    ledger = bench.open()
    [found] = ledger.stored("a")
    assert (found.sid, found.status, found.expires_at, found.released_at, found.owner) == ("a", None, "soon", 5, "Eve")
    assert list(ledger.stored("nobody")) == []


def test_the_statuses_with_how_many_rows_have_each(bench: Bench) -> None:
    bench.fill(*MIXED)
    ledger = bench.open()
    counted = [("Active", 8), (None, 1), ("Cancelled", 1), ("RELEASED", 1), ("Released", 1)]
    assert [tuple(found) for found in ledger.statuses(10)] == counted
    assert [tuple(found) for found in ledger.statuses(2)] == counted[:2]


def test_the_shape_of_the_table(bench: Bench) -> None:
    bench.fill(*MIXED, row("in words", "soon"), row("settled", "soon", "Released"))
    shape = bench.open().shape()
    assert {column.role for column in shape.columns} == set(StoredRow.__struct_fields__) - {"deleted_at"}
    assert ("expires_at", "expires_at", "INTEGER") in {
        (column.role, column.name, column.declared) for column in shape.columns
    }
    assert (list(shape.absent), shape.is_sid_unique) == ([], bench.has_keys)
    assert shape.expiries == {"integer": len(MIXED) - 3, "null": 1, "text": 1}


def test_how_the_due_are_found_is_told_with_what_would_help(bench: Bench) -> None:
    bench.fill(*MIXED)
    before = bench.rows()
    access = bench.open(read_only=True).accesses(NOW, timedelta(0))[0]
    assert access.how
    assert not access.is_indexed
    assert bench.rows() == before
    if not bench.has_keys:
        assert "CREATE" not in access.remedy
        return
    bench.execute(access.remedy)
    access = bench.open(read_only=True).accesses(NOW, timedelta(0))[0]
    assert (access.is_indexed, access.has_settled) == (True, False)
