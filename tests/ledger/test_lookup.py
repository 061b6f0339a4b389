"""Rows by their sid, a page at a time: as exact as one by one, and one look for all of them."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from autorelease.ledger.binding import twin
from autorelease.ledger.lookup import SHARED_SID, SIDS_AT_ONCE
from autorelease.ledger.rows import StoredRow
from autorelease.ledger.sqlite import SQLiteLedger
from autorelease.ledger.values import Vocabulary
from autorelease.model import Allocation, InvalidRow, RawValue
from tests.support.sqlite_steps import statements_of, steps_of
from tests.support.thorough import examples

COLUMNS = {role: role for role in StoredRow.__struct_fields__}
PAST = 1_796_122_800
KINDS = [
    "sid",
    "sid TEXT",
    "sid INTEGER",
    "sid NUMERIC",
    "sid REAL",
    "sid BLOB",
    "sid TEXT COLLATE NOCASE",
    "sid COLLATE RTRIM",
]
INDEXES = ["", "CREATE INDEX by_sid ON vm_allocations (sid)", "CREATE INDEX by_upper ON vm_allocations (upper(sid))"]
stored_sids = st.sampled_from(
    ["7", 7, 7.0, "7.0", "007", "-7", -7, "a", "A", "a ", "", None, b"a", b"\xff", "b\0c", "b", 2**63 - 1, str(2**63)]
)


def make(path: Path, kind: str, index: str, sids: Sequence[RawValue]) -> None:
    """A ledger of live rows with these sids."""
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"CREATE TABLE vm_allocations ({kind}, status, expires_at)")
        connection.executemany(f"INSERT INTO vm_allocations VALUES (?, 'Active', {PAST})", [(sid,) for sid in sids])
        connection.execute(index or "SELECT 1")


def rows_of(path: Path, sid: str) -> list[RawValue]:
    """What SQLite itself finds for one sid, or for the number that it names."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(
            "SELECT sid FROM vm_allocations WHERE sid = ?1 OR (sid = ?2 AND typeof(sid) IN ('integer', 'text'))",
            (sid, twin(sid)),
        )
        return [found for (found,) in rows]


def expected(path: Path, sid: str) -> str | None:
    """What is to be said of a sid: shared, itself, or nothing."""
    rows = rows_of(path, sid)
    if len(rows) > 1:
        return "shared"
    return sid if rows and str(rows[0]) == sid else None


def found(row: Allocation | InvalidRow | None) -> str | None:
    """The same, as the ledger says it."""
    if isinstance(row, InvalidRow):
        return "shared" if row.reason == SHARED_SID else row.sid
    return None if row is None else row.sid


def opened(path: Path) -> Iterator[SQLiteLedger]:
    """The ledger."""
    ledger = SQLiteLedger(path, "vm_allocations", COLUMNS, words=Vocabulary(), read_only=True)
    yield ledger
    ledger.close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("index", INDEXES, ids=["no index", "an index", "an index of something else"])
@settings(max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sids=st.lists(stored_sids, max_size=8), asked=st.lists(stored_sids.filter(lambda sid: isinstance(sid, str))))
@example(sids=["7", 7], asked=["7"])
@example(sids=["7", "A"], asked=["7", "a"])
@example(sids=["a", "a", "b"], asked=["b", "a", "c"])
def test_a_page_says_of_each_sid_what_one_look_at_it_says(
    tmp_path: Path, kind: str, index: str, sids: list[RawValue], asked: list[str]
) -> None:
    path = tmp_path / "allocations.db"
    make(path, kind, index, sids)
    for ledger in opened(path):
        page = ledger.read_many(asked)
        for sid in asked:
            for row in (page.get(sid), ledger.read(sid)):
                if sid in [str(stored) for stored in rows_of(path, sid) if isinstance(stored, int | str)]:
                    assert found(row) == expected(path, sid)
                else:
                    # A number that the column made of the text, once or twice: nobody's sid.
                    assert not isinstance(row, Allocation)


def statements(ledger: SQLiteLedger, sids: Sequence[str]) -> list[str]:
    """What is asked of the database for a page."""
    ledger.read(sids[0])
    return statements_of(ledger.connection, lambda: ledger.read_many(sids))


def test_a_page_is_one_statement_where_an_index_serves(tmp_path: Path) -> None:
    path = tmp_path / "allocations.db"
    sids = [f"vm-{number}" for number in range(SIDS_AT_ONCE)]
    make(path, "sid", INDEXES[1], sids)
    for ledger in opened(path):
        assert len(statements(ledger, sids)) == 1
        assert len(statements(ledger, [*sids, "more"])) == 2


def test_a_sid_that_many_rows_share_costs_no_more_than_two(tmp_path: Path) -> None:
    path = tmp_path / "allocations.db"
    taken = []
    for many in (2, 20_000):
        make(path, "sid", INDEXES[1], ["same"] * many)
        for ledger in opened(path):
            taken.append(steps_of(ledger.connection, partial(ledger.read_many, ["same"])))
            assert found(ledger.read_many(["same"])["same"]) == "shared"
    assert taken[1] <= taken[0] + 200


def test_without_an_index_a_page_walks_through_the_table_once(tmp_path: Path) -> None:
    path = tmp_path / "allocations.db"
    sids = [f"vm-{number}" for number in range(5_000)]
    make(path, "sid", "", sids)
    for ledger in opened(path):
        page, one = (steps_of(ledger.connection, partial(ledger.read_many, sids[:many])) for many in (SIDS_AT_ONCE, 1))
        assert page < 10 * one


def test_what_is_no_text_is_nobodys_sid(tmp_path: Path) -> None:
    path = tmp_path / "allocations.db"
    make(path, "sid", "", ["a"])
    for ledger in opened(path):
        assert ledger.read_many(["\udcff", "b\0c"]) == {}
        assert list(ledger.read_many(["a", "\udcff"])) == ["a"]
