"""How much of a file a tick reads, by the kernel's count, from an empty cache: by what is live, not by the table."""

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from autorelease.bootstrap import INDEXES, TABLE
from autorelease.ledger import Ledger, QuickCensus
from autorelease.ledger.sqlite import SQLiteLedger
from tests.ledger.watched import COLUMNS, WORDS
from tests.support.sqlite_steps import statements_of
from tests.support.thorough import is_thorough

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
NO_GRACE = timedelta(0)
FEW = 10_000
MANY = 1_000_000 if is_thorough() else 100_000
LIVE, DUE = 5_000, 200
PAGE = 4096
FILL = f"""
WITH RECURSIVE counted (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM counted WHERE n < :rows)
INSERT INTO vm_allocations (sid, owner, plan, status, expires_at)
SELECT printf('vm-%07d', n), 'somebody', 'small', iif(n % (:rows / {LIVE}), 'Released', 'Active'),
    :now + iif(n % (:rows / {LIVE}) OR n % (:rows / {DUE}), n, -n)
FROM counted
"""
KERNEL = Path("/proc/thread-self/io")


@pytest.fixture(scope="module", params=[FEW, MANY])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sample ledger of so many rows, of which equally many are live, and due."""
    found: Path = tmp_path_factory.mktemp("read") / f"{request.param}.db"
    with closing(sqlite3.connect(found)) as connection, connection:
        connection.execute("PRAGMA synchronous = OFF")
        for statement in (TABLE, *INDEXES):
            connection.execute(statement)
        connection.execute(FILL, {"rows": request.param, "now": int(NOW.timestamp())})
    return found


def opened(path: Path) -> SQLiteLedger:
    """With nothing of the file in its cache."""
    return SQLiteLedger(path, "vm_allocations", COLUMNS, words=WORDS, read_only=True)


def count(ledger: Ledger) -> None:
    """What a tick with nothing due does."""
    census = ledger.census(quick=QuickCensus(NOW - timedelta(days=30), live=LIVE // 2, rows=FEW // 2))
    assert (census.rows_examined, census.rows_invalid, census.is_quick) == (LIVE, 0, True)
    assert list(ledger.due(NOW - timedelta(days=30), NO_GRACE)) == []


def read_due(ledger: Ledger) -> None:
    """What a plan begins with."""
    assert sum(map(len, ledger.due(NOW, NO_GRACE))) == DUE


def pages_read(path: Path, use: Callable[[Ledger], None]) -> int:
    """How many pages of the file this thread asks the kernel for, in its cache or not."""
    ledger = opened(path)
    before = asked_for()
    use(ledger)
    after = asked_for()
    ledger.close()
    return (after - before) // PAGE


def asked_for() -> int:
    """In bytes."""
    [line, *_] = KERNEL.read_text("ascii").splitlines()
    return int(line.removeprefix("rchar: "))


def test_settled_rows_are_not_read(path: Path) -> None:
    # An entry of the index is an expiry and a sid, some twenty bytes; the rest is the schema.
    assert pages_read(path, count) < LIVE * 20 // PAGE + 30
    # Each of these rows may stand on a page of its own; the rest is on the way to them.
    assert pages_read(path, read_due) < DUE + 60


def test_no_statement_scans_the_table(path: Path) -> None:
    ledger = opened(path)
    asked = [each for use in (count, read_due) for each in statements_of(ledger.connection, lambda: use(ledger))]  # noqa: B023
    ledger.close()
    looked = [each for each in asked if each.startswith(("SELECT", "WITH")) and '"vm_allocations"' in each]
    with closing(sqlite3.connect(path)) as connection:
        steps = [step for each in looked for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {each}")]
    # SQLite before 3.36 says TABLE, and no schema.
    of_table = [step for step in steps if re.match(r"(SEARCH|SCAN) (TABLE )?(main\.)?vm_allocations\b", step)]
    assert of_table
    # The first and the last row are looked up by no index.
    assert [step for step in of_table if step.startswith("SCAN") and "USING" not in step] == []
