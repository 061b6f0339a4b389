"""The long lists of reports: stored once for as long as they stay the same, and shown whole all the same."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from autorelease.journal import TickStart
from autorelease.journal.sqlite import SQLiteJournal
from tests.support.journals import copy_journal

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
MANY = [
    {"sid": f"vm-{number}", "reason": "expires_at is text ('tomorrow') where epoch takes numbers"}
    for number in range(1000)
]
SIZE_OF_MANY = 80_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A new journal."""
    copy_journal(tmp_path / "journal.db")
    return tmp_path / "journal.db"


@pytest.fixture
def journal(path: Path) -> Iterator[SQLiteJournal]:
    """The same, opened."""
    opened = SQLiteJournal(path, read_only=False)
    yield opened
    opened.close()


def report(invalid: list[Any], errors: list[Any] | None = None) -> dict[str, Any]:
    """What a tick says of these."""
    return {"status": "partial", "exit_code": 3, "errors": errors or [], "invalid": invalid, "truncated": False}


def tick(journal: SQLiteJournal, number: int, said: dict[str, Any]) -> None:
    """One tick, an hour after the one before it."""
    at = NOW + number * HOUR
    journal.open_tick(
        TickStart(
            tick=f"t{number}",
            now=at,
            started_at=at,
            ends_by=at + HOUR,
            pid=1,
            host="here",
            version="0",
            actor="tests",
            boot_id=None,
        )
    )
    journal.close_tick(f"t{number}", at, said)


def reports(journal: SQLiteJournal) -> list[dict[str, Any]]:
    """The reports of all ticks, oldest first."""
    return [dict(past.report or {}) for past in journal.ticks()][::-1]


def lists(path: Path) -> int:
    """How many lists are stored."""
    with closing(sqlite3.connect(path)) as connection:
        [(count,)] = connection.execute("SELECT count(*) FROM lists").fetchall()
    return int(count)


def test_a_list_that_stays_the_same_is_stored_once(journal: SQLiteJournal, path: Path) -> None:
    tick(journal, 0, report(MANY))
    first = path.stat().st_size
    for number in range(1, 20):
        tick(journal, number, report(MANY))
    assert lists(path) == 1
    assert path.stat().st_size - first < SIZE_OF_MANY
    assert reports(journal) == [report(MANY)] * 20


def test_a_report_is_read_as_it_was_written_its_members_in_their_order(journal: SQLiteJournal) -> None:
    said = report(MANY[:2], [{"sid": "a", "message": "ä\u202e"}])
    tick(journal, 0, said)
    [past] = journal.ticks("t0")
    assert past.report == said
    assert list(past.report) == list(said)
    assert (newest := journal.newest_tick()) is not None
    assert newest.report == said


def test_a_list_that_changes_is_stored_anew_and_each_tick_keeps_its_own(journal: SQLiteJournal, path: Path) -> None:
    said = [
        report(MANY[:1]),
        report(MANY[:2], [{"sid": "a"}]),
        report([], [{"sid": "a"}]),
        report(MANY[:2], [{"sid": "b"}]),
        report(MANY[:1]),
    ]
    for number, each in enumerate(said):
        tick(journal, number, each)
    assert reports(journal) == said
    # Compared with the last one of its kind alone: [1, 2, 1] and [a, b].
    assert lists(path) == 5


def test_pruning_keeps_a_list_for_as_long_as_a_later_tick_refers_to_it(journal: SQLiteJournal, path: Path) -> None:
    for number, invalid in enumerate([MANY[:3], MANY[:2], MANY[:2], MANY[:2], MANY[:1]]):
        tick(journal, number, report(invalid))
    journal.prune(NOW + 3 * HOUR)
    assert reports(journal) == [report(MANY[:2]), report(MANY[:1])]
    assert lists(path) == 2


def test_the_error_object_of_a_tick_that_could_not_go_on_has_no_lists(journal: SQLiteJournal, path: Path) -> None:
    said = {"exit_code": 5, "error": "unusable", "message": "locked"}
    tick(journal, 0, said)
    assert reports(journal) == [said]
    assert lists(path) == 0


def test_what_was_written_before_lists_had_a_table_is_read_as_it_is(journal: SQLiteJournal, path: Path) -> None:
    tick(journal, 0, report([]))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute('UPDATE ticks SET report = \'{"exit_code": 3, "invalid": [{"sid": "a"}]}\'')
    assert reports(journal) == [{"exit_code": 3, "invalid": [{"sid": "a"}]}]
