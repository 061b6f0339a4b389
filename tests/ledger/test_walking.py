"""The walk goes through the whole table, page by page, by no index; and it sees what an index does not show."""

import itertools
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from autorelease.ledger import Walked
from autorelease.ledger.pace import LONGEST_SECONDS, Pace
from autorelease.ledger.rows import StoredRow
from autorelease.ledger.sqlite import SQLiteLedger
from autorelease.ledger.values import Vocabulary
from autorelease.model import Allocation
from autorelease.rules.expiry import find_expired
from tests.ledger.damaged import missing_entries, write_behind_the_index
from tests.support.sqlite_steps import steps_of

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
NOON = 1_796_126_400
HOUR = 3600
WORDS = Vocabulary()
NO_GRACE = timedelta(0)
COLUMNS = {role: role for role in StoredRow.__struct_fields__}
REST = "status TEXT, expires_at INTEGER, released_at INTEGER"
TABLES = {
    "a key that is the row id": f"CREATE TABLE vms (sid INTEGER PRIMARY KEY, {REST})",
    "a text key": f"CREATE TABLE vms (sid TEXT PRIMARY KEY, {REST})",
    "no key": f"CREATE TABLE vms (sid, {REST})",
    "without row ids": f"CREATE TABLE vms (sid PRIMARY KEY, {REST}) WITHOUT ROWID",
    "without row ids, a wide key": f"CREATE TABLE vms (sid TEXT COLLATE NOCASE, {REST}, site, "
    "PRIMARY KEY (site, sid COLLATE BINARY)) WITHOUT ROWID",
    "a column named rowid": f"CREATE TABLE vms (sid TEXT, {REST}, rowid TEXT, oid TEXT)",
    "no name left for the row id": f"CREATE TABLE vms (sid TEXT, {REST}, rowid TEXT, oid TEXT, _rowid_ TEXT)",
}
INDEX = "CREATE INDEX \"by (expiry) INDEX\" ON vms (expires_at, sid) WHERE status <> 'Released'"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the ledger is."""
    return tmp_path / "allocations.db"


def make(path: Path, table: str, *more: str, sids: Sequence[Any] = ()) -> None:
    """Make the table, and a due row for each sid."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in (table, *more):
            connection.execute(statement)
        site = ", site" if "site" in table else ""
        connection.executemany(
            f"INSERT INTO vms (sid, status, expires_at{site}) VALUES (?, 'Active', ?{', 0' if site else ''})",
            [(sid, NOON - HOUR) for sid in sids],
        )


def execute(path: Path, statement: str, *values: Any) -> None:
    """Do what the operator's own program would."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement, values)


def opened(path: Path, rows: int | None = None, words: Vocabulary = WORDS) -> SQLiteLedger:
    """The ledger; rows: of each page."""
    ledger = SQLiteLedger(path, "vms", COLUMNS, words=words, read_only=True)
    if rows is not None:
        # Each read takes as long as it should.
        ledger._pace = Pace(itertools.count(0, LONGEST_SECONDS / 3).__next__)
        ledger._pace.rows = rows
    return ledger


def is_due(row: Allocation) -> bool:
    """As the rule has it."""
    return any(find_expired([row], NOW))


def pages(ledger: SQLiteLedger) -> Iterator[Walked]:
    """The whole walk."""
    position = None
    while True:
        page = ledger.walk(position, NOW, NO_GRACE, is_due)
        yield page
        position = page.position
        if position is None:
            return


def walked(path: Path, rows: int) -> Mapping[str, Any]:
    """The whole walk in numbers."""
    ledger = opened(path, rows)
    try:
        found = list(pages(ledger))
    finally:
        ledger.close()
    return {
        "rows": sum(page.rows for page in found),
        "live": sum(page.live for page in found),
        "due": sum(page.due for page in found),
        "invalid": sorted(row.sid for page in found for row in page.invalid),
        "hidden": sorted(sid for page in found for sid in page.hidden),
        "problem": next((page.problem for page in found if page.problem), None),
        "pages": len(found),
    }


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
@pytest.mark.parametrize("rows", [1, 2, 3, 7, 8, 100])
def test_every_live_row_is_judged_once_whatever_the_key_and_the_page(path: Path, table: str, rows: int) -> None:
    make(path, table, sids=range(1, 8))
    execute(path, "UPDATE vms SET status = 'Released' WHERE sid = 2")
    execute(path, "UPDATE vms SET expires_at = ? WHERE sid = 3", NOON + HOUR)
    execute(path, "UPDATE vms SET expires_at = 'tomorrow' WHERE sid = 4")
    execute(path, "UPDATE vms SET status = NULL WHERE sid = 5")
    found = walked(path, rows)
    assert (found["rows"], found["live"], found["due"]) == (7, 6, 3)
    assert (found["invalid"], found["hidden"]) == (["4", "5"], [])


def test_keys_of_every_class_and_spelling_are_passed(path: Path) -> None:
    sids = [1, -5, 2.5, "a", "A", "é", "x\x00y", "", b"\xff", b"", 2**62]
    make(path, TABLES["without row ids"], sids=sids)
    execute(path, "INSERT INTO vms (sid, status, expires_at) VALUES (CAST(x'4dfc' AS TEXT), 'Active', 1)")
    found = walked(path, 1)
    assert found["rows"] == found["live"] == len(sids) + 1


def test_two_sids_that_differ_by_case_alone_do_not_hide_each_other(path: Path) -> None:
    make(path, TABLES["without row ids, a wide key"], sids=["a", "A", "b", "B"])
    assert walked(path, 1)["live"] == 4


def test_a_row_without_a_usable_sid_says_so(path: Path) -> None:
    make(path, TABLES["no key"], sids=["a", None, b"x", 1.5])
    execute(path, "UPDATE vms SET status = NULL")
    ledger = opened(path)
    invalid = [row for page in pages(ledger) for row in page.invalid]
    ledger.close()
    assert [(row.sid, row.has_sid) for row in invalid] == [
        ("a", True),
        ("NULL", False),
        ("x'78'", False),
        ("1.5", False),
    ]


def test_an_empty_table_is_one_page(path: Path) -> None:
    make(path, TABLES["a text key"])
    assert walked(path, 10)["pages"] == 1


@pytest.mark.parametrize("table", [TABLES["a text key"], TABLES["without row ids"]], ids=["row ids", "without"])
def test_rows_that_a_damaged_index_hides_are_named(path: Path, table: str) -> None:
    make(path, table, INDEX, sids=["a", "b"])
    late = ("hidden 1", NOON - 2 * HOUR), ("hidden 2", NOON - HOUR), ("later", NOON + HOUR)

    def write(connection: sqlite3.Connection) -> None:
        connection.executemany("INSERT INTO vms (sid, status, expires_at) VALUES (?, 'Active', ?)", late)

    write_behind_the_index(path, "by (expiry) INDEX", write)
    assert any("missing from index" in line for line in missing_entries(path))
    ledger = opened(path)
    fetched = [row.sid for page in ledger.due(NOW, NO_GRACE) for row in page]
    ledger.close()
    assert fetched == ["a", "b"]
    found = walked(path, 2)
    assert (found["hidden"], found["due"]) == (["hidden 1", "hidden 2"], 4)
    assert found["problem"] is not None
    assert 'REINDEX "by (expiry) INDEX";' in found["problem"]
    execute(path, 'REINDEX "by (expiry) INDEX"')
    assert walked(path, 2)["hidden"] == []


def test_a_row_whose_entry_says_a_later_date_is_hidden_too(path: Path) -> None:
    make(path, TABLES["a text key"], INDEX, sids=["a", "b"])
    write_behind_the_index(
        path, "by (expiry) INDEX", lambda connection: connection.execute("UPDATE vms SET expires_at = 5 + expires_at")
    )
    assert walked(path, 10)["hidden"] == ["a", "b"]


def test_without_an_index_nothing_can_be_hidden(path: Path) -> None:
    make(path, TABLES["no key"], sids=["a", "b"])
    found = walked(path, 1)
    assert (found["hidden"], found["problem"]) == ([], None)


def steps_of_a_walk(path: Path) -> int:
    """What the walk through 4000 due rows costs, none of which is hidden."""
    found: list[Walked] = []
    ledger = opened(path, 4000)
    steps = steps_of(ledger.connection, lambda: found.extend(pages(ledger)))
    ledger.close()
    assert (found[0].due, found[0].hidden) == (4000, [])
    return steps


def test_many_rows_of_one_expiry_are_looked_up_one_by_one(path: Path) -> None:
    """By the expiry alone each look-up would pass all the others: quadratic."""
    make(
        path,
        TABLES["a text key"],
        "CREATE INDEX i ON vms (expires_at)",
        sids=[f"vm-{number}" for number in range(4000)],
    )
    assert steps_of_a_walk(path) / 4000 < 400


@pytest.mark.parametrize(
    ("table", "index"),
    [
        (TABLES["a key that is the row id"], "status"),
        (TABLES["a key that is the row id"], "status, expires_at, released_at"),
        (TABLES["a text key"], "released_at, status, sid"),
        (TABLES["without row ids"], "status"),
        (TABLES["a key that is the row id"], "abs(expires_at), status, expires_at, released_at"),
    ],
)
def test_an_index_that_is_read_from_end_to_end_is_not_read_for_each_row(path: Path, table: str, index: str) -> None:
    """All that a look for a VM asks for stands in it, so it is read instead of the table: for each row, quadratic."""
    make(path, table, f"CREATE INDEX i ON vms ({index})", sids=range(1000, 5000))
    assert steps_of_a_walk(path) / 4000 < 1000


@pytest.mark.parametrize("condition", ["sid = ''", "sid = 'a'"])
def test_a_partial_index_that_cannot_serve_a_row_hides_nothing(path: Path, condition: str) -> None:
    """Which partial index serves depends on the value that is looked for."""
    make(path, TABLES["no key"], f"CREATE INDEX i ON vms (sid) WHERE {condition}", sids=["a", "b", "a", ""])
    found = walked(path, 100)
    assert (found["due"], found["hidden"], found["problem"]) == (3, [], None)


def test_rows_that_share_a_sid_do_not_hide_each_other(path: Path) -> None:
    """What is due is looked for by two statements, and each finds one of these."""
    make(path, TABLES["no key"], "CREATE INDEX i ON vms (expires_at)", sids=["a", "a"])
    execute(path, "UPDATE vms SET released_at = 0 WHERE rowid = 1")
    ledger = opened(path, 100, words=Vocabulary(never=(0,)))
    [page] = pages(ledger)
    ledger.close()
    assert (page.due, page.hidden, page.problem) == (2, [], None)


def test_what_an_index_hides_that_is_read_from_end_to_end_is_named(path: Path) -> None:
    """No tick goes by it now, because it does not serve; a damaged index is damaged all the same."""
    make(path, TABLES["a key that is the row id"], "CREATE INDEX i ON vms (status)", sids=[1, 2])
    write_behind_the_index(
        path,
        "i",
        lambda connection: connection.execute("INSERT INTO vms (sid, status, expires_at) VALUES (3, 'Active', 5)"),
    )
    ledger = opened(path)
    held = [holder.sid for holder in ledger.holders(["1", "3"])]
    ledger.close()
    assert held == ["1", "3"]
    found = walked(path, 100)
    assert found["hidden"] == ["3"]
    assert 'REINDEX "i";' in found["problem"]


@pytest.mark.parametrize(
    "table",
    [TABLES[name] for name in ("a text key", "without row ids", "no name left for the row id")],
    ids=["row ids", "without", "no name"],
)
@pytest.mark.parametrize("rows", [2, 100])
def test_no_index_that_has_all_columns_stands_for_the_table(path: Path, table: str, rows: int) -> None:
    make(path, table, "CREATE INDEX whole ON vms (status, expires_at, released_at, sid)", sids=["a", "b"])
    write_behind_the_index(
        path,
        "whole",
        lambda connection: connection.execute("INSERT INTO vms (sid, status, expires_at) VALUES ('c', 'Active', 5)"),
    )
    found = walked(path, rows)
    assert (found["rows"], found["live"], found["invalid"]) == (3, 3, ["c"])
    ledger = opened(path, rows)
    census = ledger.census()
    ledger.close()
    assert (census.rows_examined, census.rows_invalid) == (3, 1)


def test_no_transaction_outlives_a_page(path: Path) -> None:
    make(path, TABLES["a text key"], sids=["a", "b", "c"])
    ledger = opened(path, 1)
    for number, _ in enumerate(pages(ledger)):
        execute(path, "UPDATE vms SET released_at = NULL WHERE sid = ?", str(number))
    ledger.close()


def test_a_position_rests_on_the_schema_and_the_judgement_on_the_words(path: Path) -> None:
    make(path, TABLES["a text key"], sids=["a"])
    ledger, other = opened(path), opened(path, words=Vocabulary(inactive=frozenset({"x", "y"})))
    ground = ledger.ground()
    assert ground == next(pages(ledger)).ground == other.ground()
    assert ledger.meaning() != other.meaning()
    execute(path, "UPDATE vms SET released_at = NULL")
    assert ledger.ground() == ground
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM")
    assert ledger.ground() != ground
    again = opened(path, words=Vocabulary(inactive=frozenset({"y", "x"})))
    assert again.meaning() == other.meaning()
    for each in (ledger, other, again):
        each.close()
