"""The fixture of the landed program is what it claims to be, as the present program reads it once it is upgraded."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from autorelease.journal.schema import is_journal, version_of
from autorelease.journal.sqlite import SQLiteJournal
from tests.support.landed import DUE, HELD, NOW, OLD_TABLES, REFUSED_COUNT, VERSION, landed_place, old_rows, upgrade
from tests.support.place import Place

DAY_AGO = NOW.replace(day=NOW.day - 1)


@pytest.fixture
def landed(tmp_path: Path) -> Place:
    """As it was left."""
    return landed_place(tmp_path)


@pytest.fixture
def journal(landed: Place) -> Iterator[SQLiteJournal]:
    """Its journal, opened."""
    upgrade(landed)
    opened = SQLiteJournal(landed.journal, read_only=True)
    yield opened
    opened.close()


def test_it_is_a_journal_of_the_landed_version_with_strict_tables(landed: Place) -> None:
    [(strict,)] = landed.query(
        "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND sql LIKE '%STRICT'", database=landed.journal
    )
    [(version,)] = landed.query("PRAGMA user_version", database=landed.journal)
    assert (strict, version) == (len(OLD_TABLES), VERSION)


def test_it_says_nothing_of_where_it_was_made(landed: Place) -> None:
    ticks = old_rows(landed.journal)["ticks"]
    assert {(tick["host"], tick["actor"]) for tick in ticks} == {("host-1", "autorelease (uid 990)")}
    assert {hold["actor"] for hold in old_rows(landed.journal)["holds"]} == {"operator (uid 1000)"}


def test_two_hold_and_two_are_in_the_grace_of_a_hold_that_ended(journal: SQLiteJournal) -> None:
    holds = {hold.sid: hold for hold in journal.holds(DAY_AGO)}
    assert set(holds) == set(HELD)
    assert (holds["held"].until, holds["held"].ended_at) == (None, None)
    assert (ends := holds["held-until"].ends_at) is not None
    assert ends > NOW
    for sid in ("unheld", "lapsed"):
        assert (ended := holds[sid].ends_at) is not None
        assert DAY_AGO < ended < NOW


def test_one_release_has_an_open_end_and_another_is_a_known_conflict(journal: SQLiteJournal) -> None:
    assert {intent.sid: intent.is_known_conflict for intent in journal.open_intents()} == {
        "begun": False,
        "conflict": True,
    }


def test_one_is_quarantined_and_waits(journal: SQLiteJournal) -> None:
    [(_, known)] = journal.remembered("quarantined")
    assert known.attempts is not None
    assert (known.attempts.quarantined, known.attempts.failed_ticks) == (True, 2)
    assert known.attempts.next_attempt_at is not None
    assert known.attempts.next_attempt_at > NOW


def test_one_that_was_released_is_live_again_as_it_was(landed: Place, journal: SQLiteJournal) -> None:
    released = dict(journal.recent_releases(10))
    assert set(released) == {"released-1", "released-2", "released-3", "returned"}
    assert (expires_at := released["returned"]) is not None
    [row] = landed.query("SELECT status, expires_at, released_at FROM vm_allocations WHERE sid = 'returned'")
    assert row == ("Active", int(expires_at.timestamp()), None)


def test_the_newest_tick_is_a_refusal_of_today_that_named_a_number(journal: SQLiteJournal) -> None:
    newest = journal.newest_tick()
    assert newest is not None
    assert newest.finished_at is not None
    assert DAY_AGO < newest.finished_at < NOW
    assert newest.report is not None
    assert (newest.exit_code, newest.admitted, newest.report["refused"]) == (
        7,
        False,
        [{"code": "max_releases", "message": "6 first releases are planned, the limit is 5"}],
    )
    [(confirmable,)] = journal.connection.execute("SELECT confirmable FROM ticks ORDER BY seq DESC LIMIT 1").fetchall()
    assert confirmable == REFUSED_COUNT


def test_a_listing_of_that_time_shows_every_state(landed: Place) -> None:
    upgrade(landed)
    listed = landed.run("list-expired", "--all", "--at", f"{NOW:%Y-%m-%dT%H:%M:%SZ}", "--format", "json").json()
    found = {row["sid"]: (row["decision"], row["reason"].partition(":")[0]) for row in listed["rows"]}
    assert found == {
        **dict.fromkeys((*DUE, "begun"), ("release", "expired")),
        **dict.fromkeys(HELD, ("skip", "held")),
        "quarantined": ("skip", "backoff"),
        "returned": ("skip", "resurrected"),
        "conflict": ("skip", "conflict"),
    }
    assert [reason["code"] for reason in listed["guard"]["reasons"]] == ["max_releases"]


def test_a_journal_is_one_before_and_after_the_upgrade(landed: Place, journal: SQLiteJournal) -> None:
    assert is_journal(journal.connection)
    assert version_of(journal.connection) >= VERSION
    assert landed.journal.stat().st_mode & 0o777 == 0o640


def test_what_was_begun_belongs_to_the_run_that_was_killed(journal: SQLiteJournal) -> None:
    [(_, known)] = journal.remembered("begun")
    assert (known.intent, known.intent_run, known.is_orphaned) == (True, "20261202T080000Z-699b0c", True)
    # Under which fingerprint nobody wrote down; and nobody has earned anything under any.
    assert (known.intent_under, known.accepted) == (None, None)
    [begun, conflict] = sorted(journal.open_intents(), key=lambda intent: intent.sid)
    assert (begun.run, begun.is_known_conflict) == ("20261202T080000Z-699b0c", False)
    assert (conflict.run, conflict.is_known_conflict) == ("20261202T000000Z-54d931", True)


def test_what_several_runs_began_belongs_to_none_of_them(landed: Place) -> None:
    """The first may have ended with a time-out, which makes nothing expected: nobody wrote down which one it was."""
    with sqlite3.connect(landed.journal) as connection:
        connection.execute(
            "INSERT INTO events (at, tick, sid, event, expires_at, provisioner) SELECT '2026-12-02T07:30:00.000000Z', "
            "'20261202T010000Z-086a22', sid, event, expires_at, provisioner FROM events WHERE sid = 'begun' "
            "AND event = 'intent'"
        )
    connection.close()
    upgrade(landed)
    journal = SQLiteJournal(landed.journal, read_only=True)
    [(_, known)] = journal.remembered("begun")
    [begun] = [intent for intent in journal.open_intents() if intent.sid == "begun"]
    journal.close()
    assert (known.intent, known.intent_run, known.is_orphaned) == (True, None, False)
    assert begun.run == "20261202T080000Z-699b0c"
