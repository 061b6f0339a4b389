"""A quick census counts all live rows, and misses nothing that matters now: the rest is an audit's."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from autorelease.bootstrap import INDEXES, TABLE
from autorelease.ledger import QuickCensus
from autorelease.ledger.instants import read_instant
from autorelease.ledger.narrowing import constant
from autorelease.ledger.rows import StoredRow
from autorelease.ledger.sqlite import SQLiteLedger
from autorelease.ledger.values import Unreadable, Vocabulary
from autorelease.model import Census, InvalidRow
from tests.ledger.test_living import OF_LIVE_ROWS
from tests.ledger.test_narrowing import COLUMNS, ROLES, Table, expected, is_settled, judged, make, tables
from tests.ledger.watched import Watched
from tests.support.thorough import examples


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where each example makes its ledger anew."""
    return tmp_path_factory.mktemp("quick") / "ledger.db"


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices of a few rows; and an index is used however many rows it has."""
    monkeypatch.setattr("autorelease.ledger.living.WORTH", 0)
    for size in ("FIRST_ROWS", "LEAST_ROWS", "MOST_ROWS"):
        monkeypatch.setattr(f"autorelease.ledger.pace.{size}", 2)
    monkeypatch.setattr("autorelease.ledger.living.FEW", 2)


def census_of(path: Path, table: Table, *, has_deleted_at: bool, grace: timedelta | None = None) -> Census:
    """A quick one, however few rows there are. grace: by which what is due was read before; None: it was not."""
    columns = {role: name for role, name in COLUMNS.items() if has_deleted_at or role != "deleted_at"}
    with closing(SQLiteLedger(path, "t", columns, words=table.words)) as ledger:
        for _ in ledger.due(table.now, grace) if grace is not None else ():
            pass
        return ledger.census(quick=QuickCensus(table.now, live=-1, rows=-1))


def provable(table: Table) -> Table:
    """The same rows in a table of which the schema proves that all but those of one status are live."""
    words = structs.replace(table.words, inactive=frozenset(), where=())
    status = "INTEGER NOT NULL" if words.has_numbers else "TEXT NOT NULL"
    deleted_at = ROLES.index("deleted_at")
    return replace(
        table,
        declared=("TEXT NOT NULL", status, table.declared[2].split(" ")[0]),
        kind="",
        unique="",
        words=words,
        rows=[(*row[:deleted_at], None, *row[deleted_at + 1 :]) for row in table.rows],
    )


def is_urgent(row: StoredRow, now: datetime, words: Vocabulary) -> bool:
    """Whether its time has come; of text that says no time nobody knows."""
    try:
        instant = read_instant(row.expires_at, words)
    except Unreadable:
        return words.timestamps != "iso8601" or not isinstance(row.expires_at, str)
    return instant is not None and instant < now


def urgent_rows(path: Path, table: Table) -> Sequence[StoredRow]:
    """The live rows that are invalid, and matter now."""
    return [
        row
        for row, verdict in judged(path, table)
        if isinstance(verdict, InvalidRow)
        and not is_settled(row, table.words)
        and is_urgent(row, table.now, table.words)
    ]


# Most of all the two that are in the order of expiry.
indexes = st.sampled_from([*OF_LIVE_ROWS[:2] * 5, *OF_LIVE_ROWS])


@given(table=tables(), index=indexes, is_provable=st.sampled_from([True, True, False]))
@settings(
    max_examples=examples(400),
    deadline=None,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.function_scoped_fixture,
    ],
)
@pytest.mark.usefixtures("small_pages")
def test_it_counts_all_that_lives_and_finds_all_that_matters(
    path: Path,
    table: Table,
    index: str,
    is_provable: bool,  # noqa: FBT001
) -> None:
    if is_provable:
        table = provable(table)
    make(path, table)
    if table.has_released_at or "released_at" not in index:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(f"CREATE INDEX i ON {index.format(released=constant(table.words.released))}")
    _, live, invalid = expected(path, table)
    census = census_of(path, table, has_deleted_at=not is_provable)
    assert census.is_quick
    assert census.rows_examined == live
    assert len(urgent_rows(path, table)) <= census.rows_invalid <= invalid
    # What was read before is as invalid as it was.
    for grace in (timedelta(0), timedelta(days=400)):
        assert census_of(path, table, has_deleted_at=not is_provable, grace=grace) == census


# --- by example -------------------------------------------------------------------------------------------------------

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
NOON = 1_796_126_400
DUE = "CREATE INDEX due ON t (expires_at) WHERE status <> 'Released'"
ALL = QuickCensus(NOW, live=0, rows=0)


def ledger_of(path: Path, *statements: str, words: Vocabulary | None = None) -> SQLiteLedger:
    """Made by these statements."""
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)
    return SQLiteLedger(path, "t", COLUMNS, words=words or Vocabulary())


def counted(ledger: SQLiteLedger, quick: QuickCensus | None) -> tuple[int, int, bool]:
    """How many rows are live, how many of these invalid, and whether it was a quick look."""
    with closing(ledger):
        census = ledger.census(quick=quick)
    return census.rows_examined, census.rows_invalid, census.is_quick


TYPED = "CREATE TABLE t (sid TEXT NOT NULL PRIMARY KEY, status TEXT NOT NULL, expires_at INTEGER, vm_ref TEXT)"
# One that nobody can read and whose time has not come; one that has no time at all.
TWO_WRONG = (
    f"INSERT INTO t VALUES ('later', 'Active', {NOON + 9}, CAST(x'ff' AS TEXT)), ('soon', 'Active', 'soon', NULL), "
    f"('paid', 'Active', {NOON + 9}, NULL), ('gone', 'Released', 1, NULL)"
)


@pytest.mark.parametrize("index", [(), (DUE,), ("CREATE INDEX i ON t (expires_at)",)])
@pytest.mark.parametrize(
    ("quick", "expected_counts"),
    [
        (None, (3, 2, False)),
        (QuickCensus(NOW, live=3, rows=4), (3, 2, False)),
        (QuickCensus(NOW, live=2, rows=4), (3, 1, True)),
        (QuickCensus(NOW, live=3, rows=3), (3, 1, True)),
        (QuickCensus(NOW + timedelta(minutes=1), live=0, rows=0), (3, 2, True)),
    ],
    ids=["never", "small", "many are live", "many rows", "its time has come"],
)
def test_a_census_is_quick_where_the_ledger_is_large(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    index: Sequence[str],
    quick: QuickCensus | None,
    expected_counts: tuple[int, int, bool],
) -> None:
    monkeypatch.setattr("autorelease.ledger.living.WORTH", 0)
    ledger = ledger_of(tmp_path / "ledger.db", TYPED, *index, TWO_WRONG)
    assert counted(ledger, quick) == expected_counts


GOOD = f"INSERT INTO t VALUES ('good', 'Active', {NOON - 9}, NULL), ('paid', 'Active', {NOON + 9}, NULL)"


@pytest.mark.parametrize(
    "wrong",
    [
        "UPDATE t SET vm_ref = CAST(x'ff' AS TEXT) WHERE sid = 'good'",
        f"REPLACE INTO t VALUES ('good', 'Released', 1, NULL), ('bad', 'Active', {NOON - 9}, CAST(x'ff' AS TEXT))",
        "UPDATE t SET expires_at = 1 WHERE sid = 'good'",
    ],
    ids=["it is unreadable now", "another one is", "it expired in the year 1970"],
)
@pytest.mark.parametrize("when", ["before", "while it is read", "after"])
@pytest.mark.parametrize("is_own", [False, True], ids=["by another program", "by this connection"])
def test_what_was_handed_on_as_due_is_judged_again_where_somebody_has_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wrong: str,
    when: str,
    is_own: bool,  # noqa: FBT001
) -> None:
    monkeypatch.setattr("autorelease.ledger.living.WORTH", 0)
    ledger = ledger_of(tmp_path / "ledger.db", TYPED, DUE, GOOD)

    def write() -> None:
        with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as other:
            (ledger.connection if is_own else other).execute(wrong)

    pages = ledger.due(NOW, timedelta(0))
    if when == "before":
        write()
    next(pages, None)
    if when == "while it is read":
        write()
    assert list(pages) == []
    if when == "after":
        write()
    assert counted(ledger, ALL)[1:] == (1, True)


def test_only_what_was_read_to_its_end_is_not_judged_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autorelease.ledger.living.WORTH", 0)
    ledger = ledger_of(tmp_path / "ledger.db", TYPED, DUE, GOOD)
    assert [row.sid for page in ledger.due(NOW, timedelta(0)) for row in page] == ["good"]
    for row in ("('worse', 'Active', 1, NULL)", f"('bad', 'Active', {NOON - 9}, CAST(x'ff' AS TEXT))"):
        ledger.connection.execute(f"INSERT INTO t VALUES {row}")
    next(ledger.due(NOW, timedelta(0)))
    assert counted(ledger, ALL) == (4, 2, True)


def test_numbers_that_are_kept_as_text_are_wrong_whenever_they_come(tmp_path: Path) -> None:
    ledger = ledger_of(
        tmp_path / "ledger.db",
        TYPED.replace("expires_at INTEGER", "expires_at TEXT"),
        DUE,
        f"INSERT INTO t VALUES ('a', 'Active', {NOON + 9}, NULL)",
    )
    assert counted(ledger, ALL) == (1, 1, True)


IN_PARTS = "sid TEXT NOT NULL, part TEXT NOT NULL, status TEXT NOT NULL, expires_at INTEGER"


@pytest.mark.parametrize(
    "table",
    [
        f"CREATE TABLE t ({IN_PARTS}, PRIMARY KEY (sid, part)) WITHOUT ROWID",
        f"CREATE TABLE t ({IN_PARTS}, rowid, _rowid_, oid)",
    ],
    ids=["a primary key of two", "no name for its row ids"],
)
@pytest.mark.parametrize("quick", [None, ALL])
@pytest.mark.usefixtures("small_pages")
def test_a_table_of_another_key_has_an_index_of_its_live_rows_as_well(
    tmp_path: Path, table: str, quick: QuickCensus | None
) -> None:
    rows = ", ".join(f"('a', 'part {number}', 'Active', 1)" for number in range(5))
    insert = f"INSERT INTO t (sid, part, status, expires_at) VALUES {rows}"
    ledger = ledger_of(tmp_path / "ledger.db", table, DUE, insert)
    assert counted(ledger, quick)[:2] == (5, 5)


@pytest.mark.parametrize("index", [(), (DUE,)])
def test_of_those_that_share_their_sid_the_due_ones_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: Sequence[str]
) -> None:
    monkeypatch.setattr("autorelease.ledger.living.WORTH", 0)
    ledger = ledger_of(
        tmp_path / "ledger.db",
        TYPED.replace(" PRIMARY KEY", ""),
        *index,
        f"INSERT INTO t VALUES ('a', 'Active', {NOON - 9}, NULL), ('a', 'Active', {NOON + 9}, NULL), "
        f"('b', 'Active', {NOON + 9}, NULL), ('b', 'Released', {NOON - 9}, NULL), ('c', 'Active', {NOON - 9}, NULL)",
    )
    assert sorted(row.sid for row in ledger.sharing()) == ["a", "a", "b"]
    assert sorted(ledger.invalid_among(["a", "b", "c"])) == ["a", "b"]
    assert counted(ledger, ALL) == (4, 1, True)


# --- what it costs ----------------------------------------------------------------------------------------------------

FILL = (
    "INSERT INTO vm_allocations (sid, status, expires_at) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 "
    "FROM n WHERE i < {rows}) SELECT 'vm-' || i, CASE WHEN i % 5 < 3 THEN 'Released' ELSE 'Active' END, "
    "1900000000 + i FROM n"
)
ROWS = 100_000


def test_live_rows_whose_time_has_not_come_are_counted_by_the_index_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA synchronous = OFF")
        for statement in (TABLE, *INDEXES, FILL.format(rows=ROWS)):
            connection.execute(statement)
    for size in ("FIRST_ROWS", "LEAST_ROWS", "MOST_ROWS"):
        monkeypatch.setattr(f"autorelease.ledger.pace.{size}", 5000)
    watched = Watched(path, at_once=100)
    census = watched.ledger.census(quick=QuickCensus(NOW, live=1000, rows=1000))
    watched.ledger.close()
    assert (census.rows_examined, census.is_quick) == (ROWS * 2 // 5, True)
    # A row of which everything is judged takes some hundreds, and one whose place is compared with a bound takes eight.
    assert sum(watched.slices) < ROWS * 2 // 5 * 5


def test_what_is_due_is_not_judged_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, rows = tmp_path / "ledger.db", ROWS // 10
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA synchronous = OFF")
        for statement in (TABLE, *INDEXES, FILL.format(rows=rows).replace("1900000000", "1700000000")):
            connection.execute(statement)
    for size in ("FIRST_ROWS", "LEAST_ROWS", "MOST_ROWS"):
        monkeypatch.setattr(f"autorelease.ledger.pace.{size}", 500)

    def steps(*graces: timedelta) -> int:
        watched = Watched(path, at_once=100)
        handed_on = sum(len(page) for grace in graces for page in watched.ledger.due(NOW, grace))
        watched.slices = [0]
        census = watched.ledger.census(quick=QuickCensus(NOW, live=1000, rows=1000))
        watched.ledger.close()
        assert (census.rows_examined, handed_on) == (rows * 2 // 5, rows * 2 // 5 * len(graces))
        return sum(watched.slices)

    assert steps(timedelta(days=1)) < steps() / 4


# --- indexes and names of other kinds ---------------------------------------------------------------------------------


def test_an_index_whose_first_column_may_be_empty_is_not_in_the_order_of_expiry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autorelease.ledger.living.WORTH", 0)
    ledger = ledger_of(
        tmp_path / "ledger.db",
        TYPED.replace("expires_at INTEGER", "expires_at INTEGER NOT NULL"),
        "CREATE INDEX i ON t (vm_ref, expires_at) WHERE status <> 'Released'",
        f"INSERT INTO t VALUES ('a', 'Active', 1, 'web-1'), ('b', 'Active', {NOON + 9}, NULL)",
    )
    assert counted(ledger, ALL) == (2, 1, True)


@pytest.mark.parametrize(
    "index",
    [
        "CREATE INDEX i ON t (status) WHERE status <> 'Released'",
        "CREATE INDEX \"i <> 'Released'\" ON t (expires_at)",
        "CREATE INDEX i ON t (expires_at) where status <> 'Released'",
    ],
    ids=["of the status, and partial", "a name like a condition", "small letters"],
)
@pytest.mark.parametrize("quick", [None, ALL])
def test_whatever_index_there_is_the_live_rows_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: str, quick: QuickCensus | None
) -> None:
    monkeypatch.setattr("autorelease.ledger.living.WORTH", 0)
    ledger = ledger_of(tmp_path / "ledger.db", TYPED, index, TWO_WRONG)
    assert counted(ledger, quick)[0] == 3


@pytest.mark.parametrize("quick", [None, ALL])
def test_columns_may_be_written_in_another_case(tmp_path: Path, quick: QuickCensus | None) -> None:
    ledger = ledger_of(tmp_path / "ledger.db", TYPED.replace("expires_at", "Expires_At"), DUE, TWO_WRONG)
    assert counted(ledger, quick)[0] == 3


def test_a_definition_that_is_no_text_can_still_be_compared(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger_of(path, TYPED.replace(" PRIMARY KEY", " COLLATE NOCASE /* M?ller */"), TWO_WRONG).close()
    contents = path.read_bytes()
    path.write_bytes(contents.replace(b"M?ller", b"M\xfcller"))
    ledger = SQLiteLedger(path, "t", COLUMNS, words=Vocabulary())
    assert counted(ledger, None)[0] == 3


def test_without_an_index_on_the_sid_shared_ones_are_looked_for_in_few_walks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for size in ("FIRST_ROWS", "LEAST_ROWS", "MOST_ROWS"):
        monkeypatch.setattr(f"autorelease.ledger.pace.{size}", 100)
    path = tmp_path / "ledger.db"
    # One in a hundred is due, so that each slice has one.
    fill = (
        "INSERT INTO t (sid, status, expires_at) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
        f"WHERE i < 20000) SELECT 'vm-' || i, 'Active', iif(i % 100, {NOON} + i, {NOON} - i) FROM n"
    )
    ledger_of(path, TYPED.replace(" PRIMARY KEY", ""), fill).close()
    watched = Watched(path, table="t")
    assert watched.ledger.census(quick=ALL).rows_examined == 20_000
    watched.ledger.close()
    # The count, the look for what is due, and one look for the others of all of these.
    assert sum(watched.slices) < 20_000 * 200
