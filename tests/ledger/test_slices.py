"""Where no index serves, a table is read in slices of its key: a writer waits for one of them, and never for all.

Counted in steps of the database's virtual machine.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from autorelease.errors import StopReadingError
from autorelease.ledger.lookup import SHARED_SID
from tests.ledger.watched import Watched

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
NOON = 1_796_126_400
# Slow machines do twenty million of these in a second; a slice is to be done in a tenth of that.
STEPS_OF_A_SLICE = 2_000_000
NO_GRACE = timedelta(0)
ROWS = 60_000
# A tenth of it is due.
DUE = ROWS // 10
COLUMNS = "sid TEXT, status TEXT, expires_at INTEGER, released_at INTEGER, vm_ref TEXT"
TABLES = {
    "row ids": f"CREATE TABLE vm_allocations ({COLUMNS})",
    "a collation": f"CREATE TABLE vm_allocations ({COLUMNS}, note TEXT COLLATE NOCASE)",
    "no row ids": f"CREATE TABLE vm_allocations ({COLUMNS}, number INTEGER PRIMARY KEY) WITHOUT ROWID",
}
FILL = (
    "INSERT INTO vm_allocations ({columns}) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
    "WHERE i < {rows}) SELECT 'vm-' || i, CASE WHEN i % 3 THEN 'Active' ELSE 'Active too' END, "
    "CASE WHEN i % 10 THEN {ahead} + i ELSE {past} - i END, NULL, 'ref-' || i{number} FROM n"
)


def fill(path: Path, table: str, rows: int) -> Path:
    """Make a table without any index but its key."""
    has_number = "number" in table
    columns = "sid, status, expires_at, released_at, vm_ref" + (", number" if has_number else "")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(table)
        connection.execute(
            FILL.format(columns=columns, rows=rows, ahead=NOON, past=NOON, number=", i" if has_number else "")
        )
    return path


@pytest.fixture(scope="module", params=list(TABLES.values()), ids=list(TABLES))
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table that nothing is written to."""
    return fill(tmp_path_factory.mktemp("slices") / "allocations.db", request.param, ROWS)


@pytest.fixture
def watched(path: Path) -> Iterator[Watched]:
    """The same, watched."""
    found = Watched(path)
    yield found
    found.ledger.close()


def count_due(watched: Watched) -> int:
    """How many rows are handed out as due; the pages are none too large."""
    pages = list(watched.ledger.due(NOW, NO_GRACE))
    assert max(map(len, pages)) <= 2000
    return len({row.sid for page in pages for row in page})


def test_what_is_due_takes_one_walk_however_much_of_it_there_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whether a sid is shared is another look.
    monkeypatch.setattr("autorelease.ledger.lookup.Lookup._shared_among", lambda *_: set())
    # Each page by itself would be a look at the whole table.
    monkeypatch.setattr("autorelease.ledger.due.PAGE_ROWS", 300)
    watched = Watched(path)
    assert count_due(watched) == DUE
    watched.ledger.close()
    assert sum(watched.slices) < ROWS * 60
    assert max(watched.slices) < STEPS_OF_A_SLICE


def read_many(watched: Watched) -> None:
    """Some rows by their sid."""
    sids = [f"vm-{number}" for number in (1, ROWS // 2, ROWS)]
    assert set(watched.ledger.read_many([*sids, "nobody"])) == set(sids)


def look_for_holders(watched: Watched) -> None:
    """Some VMs, one of which has an odd name."""
    found = list(watched.ledger.holders(["ref-1", f"ref-{ROWS}", "nobody's", "é"]))
    assert sorted(str(holder.sid) for holder in found) == ["vm-1", f"vm-{ROWS}"]


def read_one_as_stored(watched: Watched) -> None:
    """A row that somebody asks for."""
    assert len(watched.ledger.stored(f"vm-{ROWS}")) == 1


def look_for_invalid(watched: Watched) -> None:
    """Rows of which an audit once found that they are invalid."""
    assert watched.ledger.invalid_among([f"vm-{ROWS}", "a\0b"]) == {}


def count_shared(watched: Watched) -> None:
    """Nothing keeps two rows from having one sid: all are compared."""
    census = watched.ledger.census()
    assert (census.rows_examined, census.rows_invalid) == (ROWS, 0)


def count_statuses(watched: Watched) -> None:
    """As `doctor` shows them."""
    third = ROWS // 3
    assert watched.ledger.statuses(5) == [("Active", ROWS - third), ("Active too", third)]


def count_expiries(watched: Watched) -> None:
    """As `doctor` shows them."""
    assert watched.ledger.shape().expiries == {"integer": ROWS}


def look_for_paid(watched: Watched) -> None:
    """Rows whose VMs must stand, of whatever expiry; and those that never expire, which are none."""
    found = watched.ledger.paid_for("default", NOW, 30)
    assert len(found) == 30
    assert [row.sid for row in found] == [f"vm-{number}" for number in range(ROWS - 1, 0, -1) if number % 10][:30]


LOOKS: dict[str, Callable[[Watched], object]] = {
    "what is due": count_due,
    "rows by their sid": read_many,
    "one row as it is stored": read_one_as_stored,
    "rows that were invalid": look_for_invalid,
    "the census": count_shared,
    "the statuses": count_statuses,
    "the kinds of expiries": count_expiries,
    "who holds a VM": look_for_holders,
    "what is paid for": look_for_paid,
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_no_look_is_one_long_read(watched: Watched, look: Callable[[Watched], object]) -> None:
    look(watched)
    assert sum(watched.slices) > ROWS * 5
    assert max(watched.slices) < sum(watched.slices) / 3
    assert max(watched.slices) < STEPS_OF_A_SLICE


def test_a_wish_to_stop_is_heard_between_two_slices(path: Path) -> None:
    began = 0

    def count(statement: str) -> None:
        nonlocal began
        began += statement == "BEGIN"

    watched = Watched(path, before=count)
    with watched.ledger.interrupted_when(lambda: began > 0), pytest.raises(StopReadingError):
        list(watched.ledger.due(NOW, NO_GRACE))
    assert began == 1
    watched.ledger.close()


def test_rows_that_a_vacuum_renumbers_are_all_handed_out(tmp_path: Path) -> None:
    path = fill(tmp_path / "allocations.db", TABLES["row ids"], 3000)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM vm_allocations WHERE rowid < 1500")
    began = 0

    def vacuum(statement: str) -> None:
        nonlocal began
        began += statement == "BEGIN"
        if statement == "BEGIN" and began == 4:
            with closing(sqlite3.connect(path)) as connection:
                connection.execute("VACUUM")

    watched = Watched(path, before=vacuum)
    assert count_due(watched) == 151
    watched.ledger.close()
    assert began > 4


KEYS = {
    "row ids": "",
    "a key of several columns": ", site BLOB, PRIMARY KEY (site, sid, vm_ref)) WITHOUT ROWID",
    "no name left for the row id": ", rowid, oid, _rowid_)",
    "a collation": ", CHECK (sid COLLATE NOCASE <> 'z'))",
}


@pytest.mark.parametrize("ending", KEYS.values(), ids=list(KEYS))
def test_rows_that_share_a_sid_are_counted_whatever_the_key(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "allocations.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"CREATE TABLE vm_allocations (sid, status, expires_at, vm_ref{ending or ')'}")
        site = ", site" if "site" in ending else ""
        for number, sid in enumerate([7, "7", 8, "x", "x", "y", 9, 9.0]):
            connection.execute(
                f"INSERT INTO vm_allocations (sid, status, expires_at, vm_ref{site}) "
                f"VALUES (?, ?, 1900000000, ?{', CAST(? AS TEXT)' if site else ''})",
                (sid, "Released" if number == 3 else "Active", number, *([b"M\xfc"] if site else [])),
            )
    watched = Watched(path)
    census = watched.ledger.census()
    watched.ledger.close()
    # 9.0 is invalid by itself; of the two called x one is released.
    assert sorted((row.sid, row.reason) for row in census.invalid if "shared" in row.reason) == [
        ("7", SHARED_SID),
        ("7", SHARED_SID),
        ("9", SHARED_SID),
        ("x", SHARED_SID),
    ]
    assert census.rows_invalid == 5


@pytest.mark.parametrize(
    ("collation", "shared"),
    [("", ["x", "x"]), ("COLLATE NOCASE", ["X", "x", "x"]), ("COLLATE RTRIM", ["x", "x", "x "])],
)
def test_rows_share_a_sid_by_the_comparison_of_its_column(tmp_path: Path, collation: str, shared: list[str]) -> None:
    path = tmp_path / "allocations.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            f"CREATE TABLE vm_allocations (sid TEXT {collation}, status, expires_at, note COLLATE NOCASE)"
        )
        for sid in ("x", "X", "x ", "x", "y"):
            connection.execute("INSERT INTO vm_allocations VALUES (?, 'Active', 1900000000, NULL)", (sid,))
    watched = Watched(path)
    assert sorted(row.sid for row in watched.ledger.sharing()) == shared
    watched.ledger.close()


def test_sids_of_a_collation_are_compared_in_slices(tmp_path: Path) -> None:
    table = TABLES["row ids"].replace("sid TEXT", "sid TEXT COLLATE NOCASE")
    watched = Watched(fill(tmp_path / "allocations.db", table, ROWS))
    count_shared(watched)
    watched.ledger.close()
    assert max(watched.slices) < STEPS_OF_A_SLICE


def walks_for_what_is_due(path: Path) -> bool:
    """Whether the table itself is read for it, and not an index."""
    statements: list[str] = []
    watched = Watched(path, before=statements.append)
    due = sum(map(len, watched.ledger.due(NOW, NO_GRACE)))
    watched.ledger.close()
    assert due == DUE
    # Whether a sid is shared is another look.
    return any("NOT INDEXED" in statement for statement in statements if '"expires_at" <' in statement)


@pytest.mark.parametrize(("settled", "is_walked"), [(30_000, True), (2_000, False)])
def test_an_index_of_mostly_settled_rows_is_not_gone_by(tmp_path: Path, settled: int, is_walked: bool) -> None:  # noqa: FBT001
    """To look each of them up in the table, and leave it out, takes longer than to read the table from end to end."""
    path = fill(tmp_path / "allocations.db", TABLES["row ids"], ROWS)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE INDEX expiries ON vm_allocations (expires_at)")
        connection.execute(
            f"UPDATE vm_allocations SET status = 'Released', expires_at = {NOON} - rowid "
            f"WHERE rowid <= {settled} AND expires_at > {NOON}"
        )
    assert walks_for_what_is_due(path) == is_walked


def test_an_index_that_leads_with_another_column_is_gone_by_however_many_rows_are_settled(tmp_path: Path) -> None:
    """What is settled has a released_at, and is left out before any expiry is looked at."""
    path = fill(tmp_path / "allocations.db", TABLES["row ids"], ROWS)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE INDEX unreleased ON vm_allocations (released_at, expires_at)")
        connection.execute(
            f"UPDATE vm_allocations SET status = 'Released', expires_at = {NOON} - rowid, released_at = {NOON} "
            f"WHERE expires_at > {NOON}"
        )
    assert not walks_for_what_is_due(path)
