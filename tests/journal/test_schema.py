"""The journal's tables through the versions: steps are taken once, all or none, and never backwards."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from sqlite_utils import Database

from autorelease.errors import UnusableError
from autorelease.journal import schema
from autorelease.journal.sqlite import SQLiteJournal, make_journal
from tests.support.engine import made_allocation

Steps = tuple[Callable[[Database], None], ...]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal of the present version."""
    made = tmp_path / "journal.db"
    make_journal(made)
    return made


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    """The same, opened."""
    opened = sqlite3.connect(path, isolation_level=None)
    yield opened
    opened.close()


def add_table(database: Database) -> None:
    """A further step, by the library and by hand."""
    database.table("added").create({"id": int}, pk="id")
    database.conn.execute("ALTER TABLE ticks ADD COLUMN mood TEXT")


def add_half(database: Database) -> None:
    """A step that breaks off in its middle."""
    add_table(database)
    database.conn.execute("INSERT INTO no_such_table VALUES (1)")


def tables(connection: sqlite3.Connection) -> set[str]:
    """The tables that are there."""
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def future(monkeypatch: pytest.MonkeyPatch, steps: Steps) -> None:
    """A later release of the program, with these steps."""
    for module in ("connection", "upgrade"):
        monkeypatch.setattr(f"autorelease.journal.{module}.VERSION", len(steps))
    taken = partial(schema.bring_up_to_date, steps=steps)
    for module in ("sqlite", "upgrade"):
        monkeypatch.setattr(f"autorelease.journal.{module}.bring_up_to_date", taken)


def test_a_new_journal_is_of_the_present_version(connection: sqlite3.Connection) -> None:
    assert schema.version_of(connection) == schema.VERSION == len(schema.STEPS)
    assert schema.is_journal(connection)
    assert tables(connection) >= {"ticks", "events", "attempts", "holds", "given_answers", "credits"}


def test_no_table_is_strict(connection: sqlite3.Connection) -> None:
    """SQLite before 3.37 could not open the file."""
    statements = [sql for (sql,) in connection.execute("SELECT sql FROM sqlite_master WHERE sql <> ''").fetchall()]
    assert statements
    assert not [sql for sql in statements if "strict" in sql.lower()]


KEPT = ("attempts", "events", "ticks", "holds", "given_answers", "credits")
LOOK_UPS: dict[str, Callable[[SQLiteJournal], object]] = {
    "what is known of due rows": lambda journal: journal.known([made_allocation("a"), made_allocation("b")]),
    "open intents": lambda journal: list(journal.open_intents()),
    "recent answers": lambda journal: journal.recent_answers("print", 50),
    "the answers of a run": lambda journal: journal.recent_answers("print", 50, "t1"),
    "the kinds of answers of a run": lambda journal: journal.kinds_of_answers("print", "t1"),
    "credit": lambda journal: journal.has_credit("print"),
    "the misses of a run": lambda journal: journal.has_missed("t1", ["a", "b"]),
    "what runs": lambda journal: journal.unfinished_runs(),
    "the events of a sid": lambda journal: list(journal.events(sid="a")),
    "the events of a tick": lambda journal: list(journal.events(tick="t1")),
    "one tick": lambda journal: list(journal.ticks("t1")),
    "recent releases": lambda journal: journal.recent_releases(300),
    "the hold of a sid": lambda journal: journal.hold_of("a"),
    "what holds due rows": lambda journal: journal.holds_of([made_allocation("a"), made_allocation("b")]),
    "the newest release": lambda journal: journal.newest_release(),
}


@pytest.mark.parametrize("name", LOOK_UPS)
def test_what_is_looked_up_has_its_index(path: Path, name: str) -> None:
    """A journal keeps some of its rows for ever: no tick may read them all."""
    journal = SQLiteJournal(path, read_only=True)
    statements: list[str] = []
    journal.connection.set_trace_callback(statements.append)
    LOOK_UPS[name](journal)
    journal.connection.set_trace_callback(None)
    assert statements
    for statement in statements:
        steps = [row[3] for row in journal.connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
        assert not {f"SCAN {table}" for table in KEPT} & set(steps), steps
    journal.close()


def test_steps_that_are_missing_are_taken_once(connection: sqlite3.Connection) -> None:
    taken: list[str] = []
    steps: Steps = (*schema.STEPS, lambda _: taken.append("second"), lambda _: taken.append("third"))
    schema.bring_up_to_date(connection, steps)
    schema.bring_up_to_date(connection, steps)
    assert taken == ["second", "third"]
    assert schema.version_of(connection) == len(schema.STEPS) + 2


def test_nothing_of_a_half_step_stays(connection: sqlite3.Connection) -> None:
    before = tables(connection)
    with pytest.raises(sqlite3.OperationalError):
        schema.bring_up_to_date(connection, (*schema.STEPS, add_half))
    assert not connection.in_transaction
    assert tables(connection) == before
    assert schema.version_of(connection) == schema.VERSION
    assert "mood" not in [row[1] for row in connection.execute("PRAGMA table_info(ticks)")]


def test_nothing_of_earlier_steps_stays_either(connection: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.OperationalError):
        schema.bring_up_to_date(connection, (*schema.STEPS, add_table, add_half))
    assert "added" not in tables(connection)
    assert schema.version_of(connection) == schema.VERSION


def test_an_old_journal_is_brought_up_to_date_on_demand(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    future(monkeypatch, (*schema.STEPS, add_table))
    journal = SQLiteJournal(path, read_only=False, may_be_older=True)
    assert journal.is_older()
    assert "added" not in tables(journal.connection)
    copy = journal.bring_up_to_date()
    assert copy == path.with_name(f"{path.name}.v{len(schema.STEPS)}")
    assert not journal.is_older()
    assert "added" in tables(journal.connection)
    assert schema.version_of(journal.connection) == len(schema.STEPS) + 1
    assert journal.bring_up_to_date() is None
    journal.close()
    SQLiteJournal(path, read_only=True).close()
    SQLiteJournal(path, read_only=False).close()


@pytest.mark.parametrize("read_only", [False, True])
def test_whoever_does_not_ask_for_it_leaves_an_old_journal_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch, *, read_only: bool
) -> None:
    before = path.read_bytes()
    future(monkeypatch, (*schema.STEPS, add_table))
    with pytest.raises(UnusableError, match=r"older version.*the next tick.*autorelease init"):
        SQLiteJournal(path, read_only=read_only)
    assert path.read_bytes() == before


@pytest.mark.parametrize("read_only", [False, True])
def test_a_journal_of_a_newer_program_is_left_alone(path: Path, *, read_only: bool) -> None:
    other = sqlite3.connect(path)
    other.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    other.close()
    before = path.read_bytes()
    with pytest.raises(UnusableError, match="newer autorelease"):
        SQLiteJournal(path, read_only=read_only)
    assert path.read_bytes() == before


def test_a_step_that_fails_leaves_the_journal_as_it_was_and_no_copy(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy for each further try would fill the disk."""
    before = path.read_bytes()
    names = sorted(path.parent.iterdir())
    future(monkeypatch, (*schema.STEPS, add_half))
    journal = SQLiteJournal(path, read_only=False, may_be_older=True)
    with pytest.raises(UnusableError, match="no_such_table"):
        journal.bring_up_to_date()
    journal.close()
    assert path.read_bytes() == before
    assert sorted(path.parent.iterdir()) == names
    monkeypatch.undo()
    SQLiteJournal(path, read_only=False).close()


def test_nobody_writes_between_the_copy_and_the_steps(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process: to make and to close a copy must not give back the lock that this one has."""
    ended: list[subprocess.CompletedProcess[str]] = []
    writes = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('DELETE FROM holds')"

    def write_elsewhere(_: Database) -> None:
        assert path.with_name(f"{path.name}.v{len(schema.STEPS)}").exists()
        command = [sys.executable, "-c", writes, str(path)]
        ended.append(subprocess.run(command, capture_output=True, text=True, check=False))

    future(monkeypatch, (*schema.STEPS, write_elsewhere))
    journal = SQLiteJournal(path, read_only=False, may_be_older=True)
    journal.bring_up_to_date()
    journal.close()
    assert "database is locked" in ended[0].stderr


def test_two_programs_at_once_take_each_step_once(path: Path) -> None:
    """The second waits for the first, and finds its work done."""
    first = sqlite3.connect(path, isolation_level=None, timeout=10)
    second = sqlite3.connect(path, isolation_level=None, timeout=10)
    steps: Steps = (*schema.STEPS, add_table)
    schema.bring_up_to_date(first, steps)
    schema.bring_up_to_date(second, steps)
    assert schema.version_of(second) == len(schema.STEPS) + 1
    first.close()
    second.close()
