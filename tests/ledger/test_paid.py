"""What is paid for: the same rows in the same order, whether an index serves the look or not."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from autorelease.ledger.rows import StoredRow
from autorelease.ledger.sqlite import SQLiteLedger
from autorelease.ledger.values import Vocabulary

COLUMNS = {role: role for role in StoredRow.__struct_fields__}
NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
NOON = 1_796_126_400
TABLE = "CREATE TABLE vms (sid TEXT, provisioner TEXT, status TEXT, expires_at INTEGER, vm_ref TEXT)"
ROWS = [
    ("first", None, "Active", NOON + 3, None),
    ("second", "", "Active", NOON + 5, None),
    ("third", "default", "Active", NOON + 4, None),
    ("other", "other", "Active", NOON + 9, None),
    ("due", None, "Active", NOON - 1, None),
    ("gone", None, "Released", NOON + 8, None),
    ("text", None, "Active", "soon", None),
    ("bytes", None, "Active", b"soon", None),
    ("shared", None, "Active", NOON + 7, None),
    ("shared", None, "Released", NOON - 7, None),
    ("always", None, "Active", None, None),
    ("always too", "other", "Active", None, None),
    ("late", None, "Active", NOON + 6, None),
]


@pytest.mark.parametrize(
    "index", ["", "CREATE INDEX due ON vms (expires_at)", "CREATE INDEX live ON vms (expires_at, sid)"]
)
@pytest.mark.parametrize(
    ("provisioner", "limit", "sids"),
    [
        ("default", 20, ["late", "second", "third", "first", "always"]),
        # Those that nobody can read are looked at as well: the last of all, as they are stored.
        ("default", 5, ["late", "second"]),
        ("other", 20, ["other", "always too"]),
        ("nobody", 20, []),
    ],
)
def test_the_latest_come_first_and_then_what_never_expires(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: str, provisioner: str, limit: int, sids: list[str]
) -> None:
    for size in ("FIRST_ROWS", "LEAST_ROWS", "MOST_ROWS"):
        monkeypatch.setattr(f"autorelease.ledger.pace.{size}", 2)
    path = tmp_path / "ledger.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(TABLE)
        connection.executemany("INSERT INTO vms VALUES (?, ?, ?, ?, ?)", ROWS)
        if index:
            connection.execute(index)
    with closing(SQLiteLedger(path, "vms", COLUMNS, words=Vocabulary())) as ledger:
        assert [row.sid for row in ledger.paid_for(provisioner, NOW, limit)] == sids
