"""What a table's own rules say about a stamp: which tables have any, and what their foreign keys refuse."""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from autorelease.bootstrap import make_folder
from autorelease.ledger import Stamp, StampResult
from autorelease.ledger.rows import StoredRow
from autorelease.ledger.sqlite import SQLiteLedger
from autorelease.ledger.values import Vocabulary
from autorelease.model import Allocation
from autorelease.sqlitefile import StampRefusedError

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
PAST = 1_796_000_000
COLUMNS = {role: role for role in StoredRow.__struct_fields__}
PLAIN = "sid TEXT PRIMARY KEY, status TEXT, expires_at INTEGER, released_at INTEGER, plan TEXT, slot INTEGER"
Open = Callable[..., SQLiteLedger]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the ledger is."""
    return tmp_path / "allocations.db"


@pytest.fixture
def opened(path: Path) -> Iterator[Open]:
    """Make a table of these columns after these statements, and open it; it is closed when the test ends."""
    made: list[SQLiteLedger] = []

    def open_one(columns: str = PLAIN, *statements: str, end: str = "", name: str = "vm_allocations") -> SQLiteLedger:
        execute(path, f'CREATE TABLE "{name}" ({columns}){end}', *statements)
        made.append(SQLiteLedger(path, "vm_allocations", COLUMNS, words=Vocabulary()))
        return made[-1]

    yield open_one
    for ledger in made:
        ledger.close()


def execute(path: Path, *statements: str) -> None:
    """Change the database as its owner would, with foreign keys off, as they are unless somebody asks."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def stored(path: Path, statement: str) -> list[tuple[Any, ...]]:
    """Read from it."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


def stamp_of(ledger: SQLiteLedger, sid: str) -> Stamp:
    """The stamp of this row."""
    found = ledger.read(sid)
    assert isinstance(found, Allocation)
    return Stamp(found, NOW)


def refused(ledger: SQLiteLedger, *sids: str) -> list[str]:
    """Which of these would be refused."""
    refusals = ledger.rehearse([stamp_of(ledger, sid) for sid in sids])
    assert all(isinstance(refusal, StampRefusedError) for refusal in refusals if refusal is not None)
    return [sid for sid, refusal in zip(sids, refusals, strict=True) if refusal is not None]


def row(sid: str, status: str = "Active", *, plan: str = "NULL", slot: str = "NULL") -> str:
    """A statement that adds a row."""
    values = f"'{sid}', '{status}', {PAST}, {plan}, {slot}"
    return f"INSERT INTO vm_allocations (sid, status, expires_at, plan, slot) VALUES ({values})"


# --- which tables have rules ------------------------------------------------------------------------------------------

PARENT = "CREATE TABLE words (word TEXT PRIMARY KEY)"
RULES: dict[str, Sequence[str]] = {
    "a check": (f"{PLAIN}, CHECK (status <> '')",),
    "a check in small letters": (PLAIN.replace("status TEXT", "status TEXT check(length(status) > 1)"),),
    "a trigger": (PLAIN, "CREATE TRIGGER t AFTER UPDATE ON VM_ALLOCATIONS BEGIN SELECT 1; END"),
    "a unique constraint": (f"{PLAIN}, UNIQUE (plan, STATUS)",),
    "a unique index": (PLAIN, "CREATE UNIQUE INDEX i ON vm_allocations (released_at)"),
    "a partial unique index": (PLAIN, "CREATE UNIQUE INDEX i ON vm_allocations (plan) WHERE status = 'Released'"),
    "a unique index over an expression": (PLAIN, "CREATE UNIQUE INDEX i ON vm_allocations (lower(plan))"),
    "an index over what is made of the status": (PLAIN, "CREATE INDEX i ON vm_allocations (json(Status))"),
    "a status in the key": (PLAIN.replace(" PRIMARY KEY", "") + ", PRIMARY KEY (sid, status)",),
    "a released_at that is the row id": (
        PLAIN.replace(" PRIMARY KEY", "").replace("released_at INTEGER", "released_at INTEGER PRIMARY KEY"),
    ),
    "a generated column": (f"{PLAIN}, shown AS (status || sid)",),
    "a key of the status": (f"{PLAIN}, FOREIGN KEY (status) REFERENCES words", PARENT),
    "a key to the status": (
        f"{PLAIN}, UNIQUE (plan, slot)",
        "CREATE TABLE disks (word REFERENCES Vm_Allocations (Status))",
    ),
}


@pytest.mark.parametrize("made", RULES.values(), ids=RULES.keys())
def test_a_table_with_rules(opened: Open, made: Sequence[str]) -> None:
    assert opened(*made).has_rules()


@pytest.mark.skipif(sqlite3.sqlite_version_info < (3, 37), reason="this SQLite has no STRICT tables")
def test_a_strict_table_has_rules(opened: Open) -> None:
    assert opened(PLAIN, end=" STRICT").has_rules()


WITHOUT: dict[str, Sequence[str]] = {
    "nothing but a key": (PLAIN,),
    "a unique index of other columns": (f"{PLAIN}, UNIQUE (plan, slot)",),
    "an index for what is due": (
        PLAIN,
        "CREATE INDEX i ON vm_allocations (expires_at, sid) WHERE status <> 'Released'",
    ),
    "an index over an expression": (PLAIN, "CREATE INDEX i ON vm_allocations (lower(trim(plan)))"),
    "a key of another column": (f"{PLAIN}, FOREIGN KEY (plan) REFERENCES words", PARENT),
    "a key to another column": (PLAIN, "CREATE TABLE disks (sid REFERENCES vm_allocations)"),
    "a column whose name sounds like one": (f"{PLAIN}, checked, strict",),
    "the rules of another table": (
        PLAIN,
        "CREATE TABLE other (status TEXT UNIQUE CHECK (status <> ''))",
        "CREATE TRIGGER t AFTER UPDATE ON other BEGIN SELECT 1; END",
    ),
}


@pytest.mark.parametrize("made", WITHOUT.values(), ids=WITHOUT.keys())
def test_a_table_without_rules(opened: Open, made: Sequence[str]) -> None:
    assert not opened(*made).has_rules()


def test_a_rule_that_comes_and_goes_is_seen(opened: Open, path: Path) -> None:
    ledger = opened()
    assert not ledger.has_rules()
    execute(path, "CREATE TRIGGER t AFTER UPDATE ON vm_allocations BEGIN SELECT 1; END")
    assert ledger.has_rules()
    execute(path, "DROP TRIGGER t")
    assert not ledger.has_rules()


def test_the_sample_ledger_has_a_rule_of_its_own_which_refuses_nobody(tmp_path: Path) -> None:
    folder = tmp_path / "sample"
    make_folder(folder, sample=True, now=NOW)
    ledger = SQLiteLedger(folder / "allocations.db", "vm_allocations", COLUMNS, words=Vocabulary())
    try:
        assert ledger.has_rules()
        due = [allocation for page in ledger.due(NOW, NOW - NOW) for allocation in page]
        assert due
        assert set(ledger.rehearse([Stamp(allocation, NOW) for allocation in due])) == {None}
    finally:
        ledger.close()


# --- one upon the other -----------------------------------------------------------------------------------------------

ONE_OF_A_PLAN = "CREATE UNIQUE INDEX one ON vm_allocations (plan) WHERE status = 'Released'"


def test_of_two_that_exclude_each_other_the_second_is_refused(opened: Open) -> None:
    rows = [row("a", plan="1"), row("b", plan="1"), row("c", plan="2"), row("d", plan="2")]
    assert refused(opened(PLAIN, ONE_OF_A_PLAN, *rows), *"abcd") == ["b", "d"]


def test_a_trigger_that_ends_the_transaction_takes_nothing_of_the_others_along(opened: Open) -> None:
    trigger = (
        "CREATE TRIGGER t BEFORE UPDATE ON vm_allocations WHEN OLD.sid = 'b' BEGIN SELECT RAISE(ROLLBACK, 'no'); END"
    )
    rows = [row("a", plan="1"), row("b"), row("c", plan="1"), row("d")]
    ledger = opened(PLAIN, ONE_OF_A_PLAN, trigger, *rows)
    assert refused(ledger, *"abcd") == ["b", "c"]
    assert not ledger.connection.in_transaction


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_a_rehearsal_of_many_leaves_the_bytes(opened: Open, path: Path, mode: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode = {mode}")
    rows = [row("a", plan="1"), row("b", plan="1"), row("c")]
    ledger = opened(PLAIN, ONE_OF_A_PLAN, *rows)
    before = path.read_bytes()
    assert refused(ledger, *"abc") == ["b"]
    assert path.read_bytes() == before


# --- foreign keys -----------------------------------------------------------------------------------------------------

DEFERRED = "DEFERRABLE INITIALLY DEFERRED"
KEYED = PLAIN.replace("status TEXT", f"status TEXT REFERENCES words {DEFERRED}")


@pytest.mark.parametrize(
    ("parent", "is_there"),
    [
        ("word TEXT PRIMARY KEY", "'Released'"),
        ("word TEXT COLLATE NOCASE PRIMARY KEY", "'RELEASED'"),
        ("word TEXT COLLATE RTRIM PRIMARY KEY", "'Released  '"),
        ("word PRIMARY KEY", "'Released'"),
    ],
)
def test_a_parent_is_found_as_a_key_finds_it(opened: Open, path: Path, parent: str, is_there: str) -> None:
    ledger = opened(KEYED, f"CREATE TABLE words ({parent})", "INSERT INTO words VALUES ('Active')", row("a"))
    assert refused(ledger, "a") == ["a"]
    execute(path, f"INSERT INTO words VALUES ({is_there})")
    assert refused(ledger, "a") == []
    ledger.stamp([stamp_of(ledger, "a")])


@pytest.mark.parametrize("there", ["'released'", "'Released '", "CAST('Released' AS BLOB)", "NULL"])
def test_a_word_that_is_nearly_ours_is_no_parent(opened: Open, there: str) -> None:
    parent = "CREATE TABLE words (word TEXT UNIQUE)"
    key = KEYED.replace("REFERENCES words", "REFERENCES words (word)")
    assert refused(opened(key, parent, f"INSERT INTO words VALUES ({there})", row("a")), "a") == ["a"]


@pytest.mark.parametrize(("slot", "declared"), [("7", "TEXT"), ("'7'", "INTEGER"), ("7.0", "NUMERIC"), ("'7'", "TEXT")])
def test_a_number_and_its_text_are_one_parent_where_the_type_says_so(opened: Open, slot: str, declared: str) -> None:
    table = f"{PLAIN.replace('slot INTEGER', 'slot')}, FOREIGN KEY (slot, status) REFERENCES places {DEFERRED}"
    parent = f"CREATE TABLE places (slot {declared}, word TEXT, PRIMARY KEY (slot, word))"
    ledger = opened(table, parent, f"INSERT INTO places VALUES ({slot}, 'Released')", row("a", slot=slot))
    assert refused(ledger, "a") == []
    ledger.stamp([stamp_of(ledger, "a")])


def test_a_number_is_no_text_where_no_type_says_so(opened: Open) -> None:
    table = f"{PLAIN.replace('slot INTEGER', 'slot')}, FOREIGN KEY (slot, status) REFERENCES places {DEFERRED}"
    parent = "CREATE TABLE places (slot, word TEXT, PRIMARY KEY (slot, word))"
    rows = [row("a", slot="7"), row("b", slot="'7'"), row("c")]
    assert refused(opened(table, parent, "INSERT INTO places VALUES ('7', 'Released')", *rows), *"abc") == ["a"]


def test_a_released_at_that_is_a_key(opened: Open) -> None:
    table = PLAIN.replace("released_at INTEGER", f"released_at INTEGER REFERENCES days (day) {DEFERRED}")
    ledger = opened(table, "CREATE TABLE days (day INTEGER UNIQUE)", row("a"))
    assert ledger.has_rules()
    assert refused(ledger, "a") == ["a"]


def test_a_key_over_a_generated_column(opened: Open) -> None:
    table = f"{PLAIN}, shown TEXT AS (status || '!') STORED REFERENCES words {DEFERRED}"
    ledger = opened(table, PARENT, "INSERT INTO words VALUES ('Active!')", row("a"))
    assert refused(ledger, "a") == ["a"]


def test_every_key_of_several_must_hold(opened: Open) -> None:
    table = f"{KEYED}, FOREIGN KEY (status) REFERENCES others {DEFERRED}"
    rows = ["INSERT INTO words VALUES ('Released')", row("a")]
    assert refused(opened(table, PARENT, "CREATE TABLE others (word TEXT PRIMARY KEY)", *rows), "a") == ["a"]


@pytest.mark.parametrize(
    "parents", [[], ["CREATE TABLE words (word TEXT)"], ["CREATE VIEW words AS SELECT 'Released'"]]
)
def test_a_key_that_cannot_hold_at_all_refuses_the_stamp(opened: Open, parents: list[str]) -> None:
    key = KEYED.replace("REFERENCES words", "REFERENCES words (word)")
    assert refused(opened(key, *parents, row("a")), "a") == ["a"]


def test_the_broken_key_is_named(opened: Open) -> None:
    for deferred in (DEFERRED, ""):
        table = PLAIN.replace("status TEXT", f"status TEXT REFERENCES words {deferred}")
        name = "vm_allocations"
        ledger = opened(table, *([PARENT] if deferred else []), row("a"), name=name)
        [refusal] = ledger.rehearse([stamp_of(ledger, "a")])
        assert "foreign key (status) of table 'vm_allocations' to table 'words'" in str(refusal)
        ledger.close()
        execute(Path(str(ledger._path)), "DROP TABLE vm_allocations")


CHILD = (
    "CREATE TABLE disks (disk INTEGER, sid TEXT, status TEXT, "
    "FOREIGN KEY (sid, status) REFERENCES vm_allocations (sid, status) {})"
)
UNIQUE = f"{PLAIN}, UNIQUE (sid, status)"


@pytest.mark.parametrize("action", ["", DEFERRED, f"ON UPDATE RESTRICT {DEFERRED}", "ON UPDATE NO ACTION"])
def test_a_row_that_others_point_at_by_its_status(opened: Open, path: Path, action: str) -> None:
    ledger = opened(UNIQUE, CHILD.format(action), row("a"), row("b"), "INSERT INTO disks VALUES (1, 'a', 'Active')")
    assert refused(ledger, *"ab") == ["a"]
    with pytest.raises(StampRefusedError):
        ledger.stamp([stamp_of(ledger, "a")])
    assert stored(path, "SELECT sid, status FROM disks") == [("a", "Active")]


def test_a_key_whose_other_value_is_no_text_that_can_be_read(opened: Open) -> None:
    key = f"FOREIGN KEY (plan, word) REFERENCES vm_allocations (plan, status) {DEFERRED}"
    child = f"CREATE TABLE disks (plan TEXT, word, {key})"
    broken = "CAST(x'ff41' AS TEXT)"
    made = [row("a", plan=broken), row("b", plan="'1'"), f"INSERT INTO disks VALUES ({broken}, 'Active')"]
    assert refused(opened(f"{PLAIN}, UNIQUE (plan, status)", child, *made), *"ab") == ["a"]


@pytest.mark.parametrize("action", ["CASCADE", "SET NULL", "SET DEFAULT"])
def test_no_stamp_is_carried_into_another_table(opened: Open, path: Path, action: str) -> None:
    child = CHILD.format(f"ON UPDATE {action}")
    ledger = opened(UNIQUE, child, row("a"), row("b"), "INSERT INTO disks VALUES (1, 'a', 'Active')")
    before = path.read_bytes()
    assert refused(ledger, *"ab") == ["a"]
    with pytest.raises(StampRefusedError, match=f"ON UPDATE {action}, and would change rows of 'disks'"):
        ledger.stamp([stamp_of(ledger, "a")])
    assert path.read_bytes() == before
    ledger.stamp([stamp_of(ledger, "b")])
    assert stored(path, "SELECT * FROM disks") == [(1, "a", "Active")]


@pytest.mark.parametrize("change", ["expires_at = 0", "status = 'Released'"])
def test_a_row_that_has_changed_is_refused_by_no_key(opened: Open, path: Path, change: str) -> None:
    """Somebody else's stamp has been carried along already."""
    ledger = opened(UNIQUE, CHILD.format("ON UPDATE CASCADE"), row("a"))
    stamp = stamp_of(ledger, "a")
    execute(path, f"UPDATE vm_allocations SET {change}", "INSERT INTO disks SELECT 1, sid, status FROM vm_allocations")
    assert ledger.rehearse([stamp]) == [None]
    assert ledger.stamp([stamp]) == [StampResult.UNCHANGED]


def test_other_tables_broken_keys_are_none_of_ours(opened: Open, path: Path) -> None:
    """A trigger may even write there, as long as it does not write what is broken."""
    log = "CREATE TABLE log (sid TEXT, note TEXT, seen INTEGER DEFAULT 0, customer INTEGER REFERENCES customers (id))"
    trigger = "CREATE TRIGGER t AFTER UPDATE ON vm_allocations BEGIN UPDATE log SET seen = seen + 1; END"
    rows = ["CREATE TABLE customers (id INTEGER PRIMARY KEY)", "INSERT INTO log VALUES ('a', 'b', 0, 99)", row("a")]
    ledger = opened(PLAIN, log, trigger, *rows)
    assert refused(ledger, "a") == []
    ledger.stamp([stamp_of(ledger, "a")])
    assert stored(path, "SELECT seen, customer FROM log") == [(1, 99)]


def test_a_constraint_that_replaces_rows_does_so_for_nobody(opened: Open, path: Path) -> None:
    rows = [row("a", plan="1"), row("old", "Released", plan="1"), row("b")]
    ledger = opened(f"{PLAIN}, UNIQUE (plan, status) on  conflict replace", *rows)
    assert refused(ledger, *"ab") == ["a"]
    with pytest.raises(StampRefusedError):
        ledger.stamp([stamp_of(ledger, "a")])
    assert len(stored(path, "SELECT 1 FROM vm_allocations")) == 3


def test_a_key_that_replaces_rows_leaves_the_tables_triggers_as_they_are(opened: Open, path: Path) -> None:
    """An OR ABORT of ours would hold for their statements, too."""
    columns = PLAIN.replace("PRIMARY KEY", "PRIMARY KEY ON CONFLICT REPLACE")
    trigger = "CREATE TRIGGER t AFTER UPDATE ON vm_allocations BEGIN INSERT OR IGNORE INTO seen VALUES ('once'); END"
    made = ["CREATE TABLE seen (what TEXT PRIMARY KEY)", "INSERT INTO seen VALUES ('once')", trigger, row("a")]
    ledger = opened(columns, *made)
    assert refused(ledger, "a") == []
