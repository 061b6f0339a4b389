"""The census reads a table in slices: whoever writes to a ledger with a rollback journal waits for one of them at most.

Counted in steps of the database's virtual machine, which no load of this machine changes.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from autorelease.ledger.pace import MOST_ROWS
from tests.ledger.watched import Watched
from tests.support.thorough import is_thorough

ROWS = 1_000_000 if is_thorough() else 300_000
# One read of them all would take more steps than that.
STEPS_OF_A_ROW = 10
# Slow machines do twenty million of these in a second; a slice is to be done in a tenth of that.
STEPS_OF_A_SLICE = 2_000_000
# Each hundred thousandth that is not a third one, too.
INVALID = ROWS // 100_000 - ROWS // 300_000
FILL = (
    "INSERT INTO vm_allocations WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
    "SELECT 'vm-' || i, CASE WHEN i % 3 THEN 'Active' ELSE 'Released' END, "
    "CASE WHEN i % 100000 THEN 1900000000 + i ELSE 'soon' END FROM n"
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Very many rows, two thirds of them live, a few of them invalid."""
    found = tmp_path_factory.mktemp("census") / "allocations.db"
    with closing(sqlite3.connect(found)) as connection, connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("CREATE TABLE vm_allocations (sid TEXT PRIMARY KEY, status TEXT, expires_at INTEGER)")
        connection.execute(FILL, (ROWS,))
    return found


@pytest.fixture
def watched(path: Path) -> Iterator[Watched]:
    """These rows, watched."""
    found = Watched(path)
    yield found
    found.ledger.close()


def test_a_writer_waits_for_one_slice_of_very_many_rows_and_never_for_all(watched: Watched) -> None:
    census = watched.ledger.census()
    assert (census.rows_examined, census.rows_invalid) == (ROWS - ROWS // 3, INVALID)
    assert len(watched.slices) > ROWS / MOST_ROWS
    assert sum(watched.slices) > ROWS * STEPS_OF_A_ROW > STEPS_OF_A_SLICE
    assert max(watched.slices) < STEPS_OF_A_SLICE


def test_who_writes_between_two_slices_waits_for_nobody(path: Path, watched: Watched) -> None:
    began, written = 0, 0

    def write(statement: str) -> None:
        nonlocal began, written
        began += statement == "BEGIN"
        # Before the second slice has taken its lock.
        if statement == "BEGIN" and began == 2:
            with closing(sqlite3.connect(path, timeout=0)) as connection, connection:
                changed = connection.execute(
                    "UPDATE vm_allocations SET status = 'Gone' WHERE sid = ?", (f"vm-{ROWS - 2}",)
                )
                written = changed.rowcount

    watched.ledger.connection.set_trace_callback(write)
    assert watched.ledger.census().rows_examined == ROWS - ROWS // 3
    assert written == 1
