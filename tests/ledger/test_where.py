"""Rows that are not ours, in one table with rows that are: nothing of them is read, counted, or written."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from autorelease.ledger import NOT_ADMITTED, Stamp, StampResult
from autorelease.ledger.lookup import SIDS_AT_ONCE
from autorelease.ledger.rows import StoredRow
from autorelease.ledger.sqlite import SQLiteLedger
from autorelease.ledger.values import Vocabulary
from autorelease.model import Allocation, InvalidRow
from tests.support.sqlite_steps import steps_of

NOW = datetime(2026, 12, 1, 12, 0, tzinfo=UTC)
NONE = timedelta(0)
PAST = 1_796_126_400 - 3600
COLUMNS = {role: role for role in StoredRow.__struct_fields__}
OURS = Vocabulary(where=(("kind", "vps"),))
ROWS = [(17, "vps", "Active"), (17, "domain", "Active"), (18, "vps", "Active"), (19, "domain", "Active")]


class Services:
    """The operator's table of all services, and our look at it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "services.db"
        self.execute("CREATE TABLE t (sid INTEGER, kind TEXT, status TEXT, expires_at INTEGER, vm_ref TEXT)")
        for sid, kind, status in ROWS:
            self.execute("INSERT INTO t VALUES (?, ?, ?, ?, NULL)", sid, kind, status, PAST)
        self.ledger = self._opened()

    def _opened(self) -> SQLiteLedger:
        return SQLiteLedger(self.path, "t", COLUMNS, words=OURS)

    def open_anew(self) -> None:
        """A connection that has looked at a plan, or at a key, does not look again."""
        self.ledger.close()
        self.ledger = self._opened()

    def execute(self, statement: str, *values: Any) -> Sequence[tuple[Any, ...]]:
        """Whatever somebody else does to it."""
        with closing(sqlite3.connect(self.path)) as connection, connection:
            return connection.execute(statement, values).fetchall()

    def allocation(self, sid: str) -> Allocation:
        """A row of ours as it is now."""
        row = self.ledger.read(sid)
        assert isinstance(row, Allocation)
        return row


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    """Such a table."""
    made = Services(tmp_path)
    yield made
    made.ledger.close()


def test_the_stamp_is_of_a_row_of_ours_alone(services: Services) -> None:
    stamp = Stamp(services.allocation("17"), NOW)
    assert services.ledger.rehearse([stamp]) == [None]
    assert services.ledger.stamp([stamp]) == [StampResult.STAMPED]
    released = services.execute("SELECT sid, kind FROM t WHERE status = 'Released'")
    assert released == [(17, "vps")]


def test_a_row_that_is_ours_no_more_is_not_stamped(services: Services) -> None:
    stamp = Stamp(services.allocation("18"), NOW)
    services.execute("UPDATE t SET kind = 'domain' WHERE sid = 18")
    assert services.ledger.stamp([stamp]) == [StampResult.UNCHANGED]
    assert services.execute("SELECT * FROM t WHERE status = 'Released'") == []


def test_a_row_that_is_ours_no_more_is_there_all_the_same(services: Services) -> None:
    """It is not gone: whoever takes it for deleted thinks that its application has tidied up."""
    services.execute("UPDATE t SET kind = 'domain' WHERE sid = 18")
    assert services.ledger.read("18") == InvalidRow("18", NOT_ADMITTED)
    many = services.ledger.read_many(["17", "18", "19", "20"])
    assert many.keys() == {"17", "18", "19"}
    assert isinstance(many["17"], Allocation)
    assert many["18"] == InvalidRow("18", NOT_ADMITTED)
    assert services.ledger.read("20") is None


def test_what_is_not_ours_holds_no_vm_and_is_in_no_count(services: Services) -> None:
    services.execute("UPDATE t SET vm_ref = 'web-1'")
    assert {holder.sid for holder in services.ledger.holders(["web-1"])} == {"17", "18"}
    assert services.ledger.census().rows_examined == 2
    assert services.ledger.statuses(10) == [("Active", 2)]
    assert services.ledger.shape().expiries == {"integer": 2}
    paid = services.ledger.paid_for("default", NOW - timedelta(days=1), 10)
    assert {allocation.sid for allocation in paid} == {"17", "18"}


def test_a_sid_is_shared_among_the_rows_of_ours_alone(services: Services) -> None:
    [page] = list(services.ledger.due(NOW, NONE))
    assert [allocation.sid for allocation in page] == ["17", "18"]
    services.execute("INSERT INTO t VALUES (18, 'vps', 'Active', 1, NULL)")
    assert services.ledger.census().rows_invalid == 2
    assert isinstance(services.ledger.read("18"), InvalidRow)


@pytest.mark.parametrize(
    "columns",
    [
        "(expires_at, sid) WHERE status <> 'Released'",
        "(expires_at, sid) WHERE kind = 'vps'",
        "(expires_at, sid) WHERE status <> 'Released' AND kind = 'vps'",
        "(kind, expires_at, sid)",
        "(kind, expires_at, sid) WHERE status <> 'Released'",
    ],
)
def test_an_index_that_holds_only_ours_is_used_and_one_on_the_kind_is_not(services: Services, columns: str) -> None:
    """Nearly all rows may be of one kind: to sort them all for each page would be the worst way."""
    services.execute("CREATE INDEX of_kind ON t (kind)")
    services.execute("CREATE INDEX due_rows ON t " + columns)
    services.open_anew()
    plan = services.ledger.accesses(NOW, NONE)[0].how
    assert "USING INDEX due_rows (" in plan
    assert "TEMP B-TREE" not in plan


@pytest.mark.parametrize(
    ("unique", "is_unique"),
    [
        ("(kind, sid)", True),
        ("(sid, kind)", True),
        ("(sid)", True),
        ("(sid, status)", False),
        ("(kind)", False),
        ("(kind, sid) WHERE status = 'Active'", False),
    ],
)
def test_a_key_over_sid_and_kind_keeps_the_sids_of_ours_unique(
    services: Services, unique: str, *, is_unique: bool
) -> None:
    services.execute("DELETE FROM t WHERE kind <> 'vps' OR sid = 18")
    services.execute(f"CREATE UNIQUE INDEX one ON t {unique}")
    services.open_anew()
    assert services.ledger.shape().is_sid_unique == is_unique


def test_sids_that_are_a_key_with_their_kind_alone_are_looked_up_one_by_one(services: Services) -> None:
    """To walk through all rows of a kind for a page of sids would take as long as the table is."""
    services.execute("DELETE FROM t")
    services.execute("CREATE UNIQUE INDEX one ON t (kind, sid)")
    services.execute("CREATE INDEX of_kind ON t (kind)")
    for kind in ("vps", "domain"):
        services.execute(
            "WITH RECURSIVE counted (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM counted WHERE n < 20000) "
            "INSERT INTO t SELECT n, ?, 'Active', ?, NULL FROM counted",
            kind,
            PAST,
        )
    services.open_anew()
    stamps = [Stamp(services.allocation(str(number)), NOW) for number in (1, 20_000)]
    page = [str(number) for number in range(1, SIDS_AT_ONCE + 1)]
    found: list[str] = []
    taken = steps_of(services.ledger.connection, lambda: found.extend(services.ledger.read_many(page)))
    assert found == page
    assert taken < 100 * len(page)
    taken = steps_of(services.ledger.connection, lambda: services.ledger.rehearse(stamps))
    assert taken < 5_000
    assert services.ledger.stamp(stamps) == [StampResult.STAMPED] * 2
