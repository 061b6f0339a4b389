"""A census goes by an index that has the live rows alone, and finds all that is found without it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autorelease.bootstrap import INDEXES, TABLE
from autorelease.ledger import QuickCensus
from autorelease.ledger.narrowing import constant
from autorelease.ledger.sqlite import SQLiteLedger
from autorelease.ledger.values import Vocabulary
from autorelease.model import Census
from tests.ledger.test_narrowing import COLUMNS, Table, expected, make, tables
from tests.ledger.watched import COLUMNS as SAMPLE
from tests.ledger.watched import Watched
from tests.support.thorough import examples

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
OF_LIVE_ROWS = [
    "t (expires_at) WHERE status <> {released}",
    "t (expires_at, sid) WHERE status <> {released}",
    "t (sid) WHERE status <> {released}",
    "t (status)",
    "t (status, sid)",
    # Of no use, each for another reason.
    "t (expires_at) WHERE status IS NOT NULL",
    "t (expires_at) WHERE released_at IS NULL",
    "t (expires_at, vm_ref) WHERE status <> {released}",
    "t (expires_at DESC) WHERE status <> {released}",
    "t (lower(sid)) WHERE status <> {released}",
]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where each example makes its ledger anew."""
    return tmp_path_factory.mktemp("living") / "ledger.db"


@pytest.fixture(scope="module", autouse=True)
def small_pages() -> Iterator[None]:
    """Slices of a few rows; and an index is used however many rows it has."""
    with pytest.MonkeyPatch.context() as patch:
        for size in ("FIRST_ROWS", "LEAST_ROWS", "MOST_ROWS"):
            patch.setattr(f"autorelease.ledger.pace.{size}", 2)
        patch.setattr("autorelease.ledger.living.WORTH", 0)
        patch.setattr("autorelease.ledger.living.FEW", 2)
        yield


def census_of(path: Path, table: Table) -> Census:
    """By the ledger."""
    ledger = SQLiteLedger(path, "t", COLUMNS, words=table.words)
    try:
        return ledger.census()
    finally:
        ledger.close()


@given(
    table=tables(), index=st.sampled_from(OF_LIVE_ROWS), is_filled=st.booleans(), without=st.sets(st.integers(0, 11))
)
@settings(
    max_examples=examples(400), deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
def test_a_census_by_the_index_of_live_rows_is_that_of_the_whole_table(
    path: Path,
    table: Table,
    index: str,
    is_filled: bool,  # noqa: FBT001
    without: set[int],
) -> None:
    # Some without an expiry, which stand before all others in an index.
    rows = [(*row[:2], None, *row[3:]) if number in without else row for number, row in enumerate(table.rows)]
    table = replace(table, rows=rows)
    if is_filled:
        # So that the schema proves what is to be proven.
        status = "INTEGER NOT NULL" if table.words.has_numbers else "TEXT NOT NULL"
        declared = ("TEXT NOT NULL", status, table.declared[2].split(" ")[0])
        table = replace(table, declared=declared, kind="", unique="")
    make(path, table)
    if table.has_released_at or "released_at" not in index:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(f"CREATE INDEX i ON {index.format(released=constant(table.words.released))}")
    _, live, invalid = expected(path, table)
    census = census_of(path, table)
    assert (census.rows_examined, census.rows_invalid) == (live, invalid)


@pytest.mark.parametrize("same", [1, 7, 150, 700])
def test_however_many_expire_at_once_all_live_rows_are_counted(tmp_path: Path, same: int) -> None:
    path = tmp_path / "ledger.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in (TABLE, *INDEXES):
            connection.execute(statement)
        rows = [(f"vm-{number}", "Active", 1900000000 + number // same) for number in range(700)]
        connection.executemany("INSERT INTO vm_allocations (sid, status, expires_at) VALUES (?, ?, ?)", rows)
    with pytest.MonkeyPatch.context() as patch:
        for size in ("FIRST_ROWS", "LEAST_ROWS", "MOST_ROWS"):
            patch.setattr(f"autorelease.ledger.pace.{size}", 10)
        patch.setattr("autorelease.ledger.living.FEW", 100)
        ledger = SQLiteLedger(path, "vm_allocations", SAMPLE, words=Vocabulary(), read_only=True)
        counts = [ledger.census(quick=QuickCensus(NOW, live=-1, rows=-1)), ledger.census()]
    ledger.close()
    assert [census.rows_examined for census in counts] == [700, 700]


# --- what it costs ----------------------------------------------------------------------------------------------------

FILL = (
    "INSERT INTO vm_allocations (sid, status, expires_at) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 "
    "FROM n WHERE i < {rows}) SELECT 'vm-' || i, CASE WHEN i % {each} THEN 'Released' ELSE 'Active' END, "
    "CASE WHEN i % 200 THEN 1900000000 + i END FROM n"
)
ROWS = 100_000
BY_STATUS = "CREATE INDEX by_status ON vm_allocations (status)"


def steps(path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, each: int, *indexes: str) -> int:
    """What a census takes; of `each` rows one is live."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA synchronous = OFF")
        for statement in (TABLE, *indexes, FILL.format(rows=rows, each=each)):
            connection.execute(statement)
    monkeypatch.setattr("autorelease.ledger.living.WORTH", 3)
    for size, number in (("FIRST_ROWS", 100), ("LEAST_ROWS", 100), ("MOST_ROWS", 1000)):
        monkeypatch.setattr(f"autorelease.ledger.pace.{size}", number)
    watched = Watched(path, at_once=100)
    census = watched.ledger.census()
    watched.ledger.close()
    assert (census.rows_examined, census.rows_invalid) == (rows // each, 0)
    return sum(watched.slices)


@pytest.mark.parametrize("indexes", [INDEXES, [BY_STATUS]], ids=["of the sample ledger", "by the status"])
def test_a_census_costs_by_the_live_rows_and_not_by_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, indexes: list[str]
) -> None:
    many = steps(tmp_path / "many.db", monkeypatch, ROWS, 50, *indexes)
    few = steps(tmp_path / "few.db", monkeypatch, ROWS // 10, 5, *indexes)
    # As many are live in both.
    assert many < 1.5 * few
    assert many < ROWS // 50 * 300


def test_where_most_rows_are_live_the_table_is_walked_in_its_own_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_index = steps(tmp_path / "index.db", monkeypatch, ROWS // 10, 2, *INDEXES)
    by_table = steps(tmp_path / "table.db", monkeypatch, ROWS // 10, 2)
    assert by_index < 1.5 * by_table
