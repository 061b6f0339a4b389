"""The journal's file: its mode, its pragmas, who may read it, paging, durability, and files that are no journal."""

import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from autorelease.errors import ConfigurationError, UnusableError
from autorelease.journal import Event, IntentChange, Step
from autorelease.journal.sqlite import SQLiteJournal, lock_path, make_journal
from autorelease.model import ErrorCode, Hold, Outcome
from autorelease.rules.identities import identity, packed
from tests.support.engine import NOW, Engine, Scripted

STRANGER = 54_321


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A new, empty journal."""
    made = tmp_path / "journal.db"
    make_journal(made)
    return made


@pytest.fixture
def journal(path: Path) -> Iterator[SQLiteJournal]:
    """The same, opened to be written."""
    opened = SQLiteJournal(path, read_only=False)
    yield opened
    opened.close()


def intent(sid: str, minutes: int = 0) -> Event:
    """A release that is about to begin."""
    at = NOW + timedelta(minutes=minutes)
    return Event(Step.INTENT, at, sid, NOW, provisioner="default", vm_ref=sid, intent=IntentChange.OPENED)


def conflict(sid: str, minutes: int = 0) -> Event:
    """One whose VM may be gone while its owner pays."""
    at = NOW + timedelta(minutes=minutes)
    return Event(
        Step.OUTCOME,
        at,
        sid,
        NOW,
        provisioner="default",
        vm_ref=sid,
        outcome=Outcome.FAILED,
        reason=ErrorCode.CONFLICT,
    )


# --- making one -------------------------------------------------------------------------------------------------------


def test_a_new_journal_is_for_its_owner_and_group(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_journal(tmp_path / "journal.db")
    finally:
        os.umask(before)
    for made in (tmp_path / "journal.db", lock_path(tmp_path / "journal.db")):
        assert stat.S_IMODE(made.stat().st_mode) == 0o640


def test_nothing_is_overwritten(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        make_journal(path)
    assert path.read_bytes() == before


def test_nothing_is_made_in_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UnusableError, match="Make its folder first"):
        make_journal(tmp_path / "nowhere" / "journal.db")


def test_nothing_lies_beside_the_journal_but_the_lock(path: Path, journal: SQLiteJournal) -> None:
    journal.record("t1", [intent("a")])
    journal.close()
    names = {each.name for each in path.parent.iterdir()}
    # TRUNCATE leaves an empty journal file; what matters is that none of them belongs to WAL mode.
    assert names - {"journal.db-journal"} == {"journal.db", "journal.db.lock"}


# --- pragmas ----------------------------------------------------------------------------------------------------------


def pragma(journal: SQLiteJournal, name: str) -> Any:
    """What SQLite says of this connection."""
    return journal.connection.execute(f"PRAGMA {name}").fetchone()[0]


def test_a_rollback_journal_and_full_durability(journal: SQLiteJournal) -> None:
    assert pragma(journal, "journal_mode") == "truncate"
    assert pragma(journal, "synchronous") == 2
    assert pragma(journal, "busy_timeout") == 10_000


def test_a_journal_that_somebody_put_into_wal_mode_is_put_back(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("PRAGMA journal_mode = WAL")
    other.close()
    SQLiteJournal(path, read_only=False).close()
    assert path.read_bytes()[18:20] == b"\x01\x01"


def test_a_reader_changes_nothing(path: Path) -> None:
    reader = SQLiteJournal(path, read_only=True)
    assert pragma(reader, "query_only") == 1
    with pytest.raises(UnusableError):
        reader.record("t1", [intent("a")])
    reader.close()


def test_what_was_recorded_is_there_for_another_process_at_once(path: Path, journal: SQLiteJournal) -> None:
    journal.record("t1", [intent("a")])
    other = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    assert other.execute("SELECT sid FROM attempts WHERE intent_at IS NOT NULL").fetchall() == [("a",)]
    other.close()
    assert not journal.connection.in_transaction


def test_a_record_is_written_as_a_whole_or_not_at_all(journal: SQLiteJournal) -> None:
    journal.connection.execute(
        "CREATE TEMP TRIGGER refuse BEFORE INSERT ON events WHEN NEW.sid = 'bad' BEGIN SELECT RAISE(ABORT, 'no'); END"
    )
    with pytest.raises(UnusableError):
        journal.record("t1", [intent("good"), intent("bad")])
    assert (list(journal.events()), list(journal.open_intents())) == ([], [])
    assert not journal.connection.in_transaction
    journal.record("t1", [intent("good")])
    assert [each.sid for each in journal.open_intents()] == ["good"]


def test_a_locked_journal_is_unusable_and_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autorelease.sqlitefile.BUSY_SECONDS", 0.05)
    journal = SQLiteJournal(path, read_only=False)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(UnusableError, match=r"journal\.db: database is locked"):
            journal.record("t1", [intent("a")])
    finally:
        other.close()
    journal.record("t1", [intent("a")])
    journal.close()


def test_nobody_can_hold_between_the_look_and_the_intent(
    path: Path, journal: SQLiteJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hold is either seen by who begins a release, or sees that it has begun: there is no moment between the two."""
    journal.hold(Hold("a", NOW, None, "because", "tests"))
    monkeypatch.setattr("autorelease.sqlitefile.BUSY_SECONDS", 0.05)
    other = SQLiteJournal(path, read_only=False)
    tried: list[Hold] = []

    def is_held(hold: Hold) -> bool:
        tried.append(hold)
        with pytest.raises(UnusableError, match="locked"):
            other.hold(Hold("b", NOW, None, "because", "tests"))
        return False

    journal.begin("t1", [], [intent("a"), intent("b")], is_held=is_held)
    assert (len(tried), other.hold_of("b")) == (1, None)
    other.close()


# --- who may ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can enter, which those of pytest are not."""
    with tempfile.TemporaryDirectory(prefix="autorelease-tests-") as name:
        folder = Path(name)
        folder.chmod(0o750)
        os.chown(folder, -1, STRANGER)
        yield folder


# Everything is imported while it still may be: the interpreter itself can be out of a stranger's reach.
AS_STRANGER = """
import os, sys
from pathlib import Path
from autorelease.errors import AutoreleaseError
from autorelease.journal.sqlite import SQLiteJournal
path, read_only, uid, gid = Path(sys.argv[1]), sys.argv[2] == "read", int(sys.argv[3]), int(sys.argv[4])
os.setgroups([])
os.setgid(gid)
os.setuid(uid)
try:
    journal = SQLiteJournal(path, read_only=read_only)
    print([intent.sid for intent in journal.open_intents()])
except AutoreleaseError as error:
    print(type(error).__name__, error)
"""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def as_stranger(path: Path, how: str, *, gid: int = STRANGER) -> str:
    """What another user reads in the journal."""
    ended = subprocess.run(
        [sys.executable, "-c", AS_STRANGER, path, how, str(STRANGER), str(gid)],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return ended.stdout.strip()


def journal_of_a_group(folder: Path) -> Path:
    """A journal with one open intent, that the stranger's group may read."""
    path = folder / "journal.db"
    make_journal(path)
    os.chown(path, -1, STRANGER)
    journal = SQLiteJournal(path, read_only=False)
    journal.record("t1", [intent("a")])
    journal.close()
    return path


@needs_root
def test_a_member_of_the_group_can_read_and_leaves_nothing_behind(open_folder: Path) -> None:
    path = journal_of_a_group(open_folder)
    before = sorted(each.name for each in open_folder.iterdir())
    assert as_stranger(path, "read") == "['a']"
    assert sorted(each.name for each in open_folder.iterdir()) == before


@needs_root
def test_a_member_of_the_group_can_read_while_a_tick_writes(open_folder: Path) -> None:
    path = journal_of_a_group(open_folder)
    journal = SQLiteJournal(path, read_only=False)
    journal.connection.execute("BEGIN IMMEDIATE")
    journal.connection.execute("UPDATE attempts SET intent_at = NULL")
    assert as_stranger(path, "read") == "['a']"
    journal.connection.execute("ROLLBACK")
    journal.close()


@needs_root
def test_nobody_else_can_read(open_folder: Path) -> None:
    path = journal_of_a_group(open_folder)
    open_folder.chmod(0o755)
    assert as_stranger(path, "read", gid=STRANGER + 1).startswith("UnusableError")


@needs_root
def test_who_may_only_read_does_not_write(open_folder: Path) -> None:
    said = as_stranger(journal_of_a_group(open_folder), "write")
    assert said.startswith("UnusableError")
    assert "cannot be written by this user" in said


@needs_root
def test_root_does_not_write_in_another_users_folder(path: Path) -> None:
    os.chown(path.parent, STRANGER, STRANGER)
    with pytest.raises(ConfigurationError, match=f"runuser -u '#{STRANGER}'"):
        SQLiteJournal(path, read_only=False)
    SQLiteJournal(path, read_only=True).close()


# --- files that are no journal ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("read_only", [False, True])
class TestWhatIsNoJournal:
    """It is left as it is, to the byte."""

    def refused(self, path: Path, words: str, *, read_only: bool) -> None:
        """Opening it raises, and changes nothing."""
        before = path.read_bytes() if path.is_file() else None
        with pytest.raises(UnusableError, match=words):
            SQLiteJournal(path, read_only=read_only)
        assert before is None or path.read_bytes() == before

    def test_nothing(self, tmp_path: Path, *, read_only: bool) -> None:
        """It is not made by the way."""
        self.refused(tmp_path / "journal.db", "autorelease init", read_only=read_only)
        assert list(tmp_path.iterdir()) == []

    def test_a_folder(self, tmp_path: Path, *, read_only: bool) -> None:
        """A frequent slip."""
        self.refused(tmp_path, "is a folder", read_only=read_only)

    def test_a_text_file(self, tmp_path: Path, *, read_only: bool) -> None:
        """Another."""
        (tmp_path / "journal.db").write_text("dear diary, this is not a database\n")
        self.refused(tmp_path / "journal.db", "not an SQLite database", read_only=read_only)

    def test_an_empty_file(self, tmp_path: Path, *, read_only: bool) -> None:
        """SQLite takes it for a database without tables."""
        (tmp_path / "journal.db").touch()
        self.refused(tmp_path / "journal.db", "not a journal of autorelease", read_only=read_only)

    def test_somebody_elses_database(self, tmp_path: Path, *, read_only: bool) -> None:
        """The ledger, for example."""
        engine = Engine(tmp_path)
        self.refused(engine.place.ledger, "not a journal of autorelease", read_only=read_only)

    def test_one_that_is_damaged(self, path: Path, *, read_only: bool) -> None:
        """Its first page is still good."""
        path.write_bytes(path.read_bytes()[:4096])
        with pytest.raises(UnusableError):
            list(SQLiteJournal(path, read_only=read_only).open_intents())


def count_descriptors() -> int:
    """How many files this process holds open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_file_that_was_refused_is_not_held_open(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    before = count_descriptors()
    for _ in range(20):
        with pytest.raises(UnusableError):
            SQLiteJournal(engine.place.ledger, read_only=False)
    assert count_descriptors() == before


# --- paging -----------------------------------------------------------------------------------------------------------

PAGED = ("ticks", "events", "memory")


def read_pages_of(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """Have all that is read in pages read in pages of so many rows."""
    for module in PAGED:
        monkeypatch.setattr(f"autorelease.journal.{module}.PAGE_ROWS", rows)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 6, 7])
def test_paging_neither_loses_nor_repeats(journal: SQLiteJournal, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    read_pages_of(monkeypatch, 3)
    sids = [f"vm-{number}" for number in range(count)]
    # Some begun at the very same instant: an instant alone is no place to go on from.
    journal.record("t1", [intent(sid, minutes=number // 2) for number, sid in enumerate(sids)])
    assert [each.sid for each in journal.open_intents()] == sids
    assert [each["sid"] for each in journal.events()] == sids
    assert [each["sid"] for each in journal.events(tick="t1")] == sids


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 6, 7])
def test_conflicts_that_stand_alone_are_paged_too(
    journal: SQLiteJournal, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    read_pages_of(monkeypatch, 3)
    sids = [f"vm-{number}" for number in range(count)]
    journal.record("t1", [conflict(sid, minutes=number // 2) for number, sid in enumerate(sids)])
    # Of two that are one, the open intent is shown.
    journal.record("t1", [intent("begun"), conflict("begun")])
    assert [each.sid for each in journal.open_intents()] == ["begun", *sids]


@pytest.mark.parametrize("count", [0, 1, 3, 4, 7])
def test_ticks_are_paged_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    read_pages_of(monkeypatch, 3)
    engine = Engine(tmp_path)
    journal = engine.open_journal()
    for _ in range(count):
        journal.open_tick(engine.start())
    assert [past.start.tick for past in journal.ticks()] == [f"tick-{number}" for number in range(count, 0, -1)]
    journal.close()


def test_a_paused_reader_locks_nobody_out(path: Path, journal: SQLiteJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in `history | less`."""
    read_pages_of(monkeypatch, 2)
    monkeypatch.setattr("autorelease.sqlitefile.BUSY_SECONDS", 0.05)
    journal.record("t1", [intent(f"vm-{number}") for number in range(5)])
    reader = SQLiteJournal(path, read_only=True)
    reading = [reader.events(), reader.open_intents(), reader.ticks()]
    for each in reading:
        next(iter(each), None)
    journal.record("t1", [intent("meanwhile")])
    reader.close()


# --- plans ------------------------------------------------------------------------------------------------------------

HUNDRED_THOUSAND = 100_000


def stored_plans(path: Path) -> list[tuple[str, int | None, int | None]]:
    """Each tick, and how many bytes of plans its row holds."""
    other = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return other.execute("SELECT tick, length(admission), length(unproven) FROM ticks ORDER BY seq").fetchall()
    finally:
        other.close()


def test_two_plans_are_kept_at_most_and_sixteen_bytes_of_each_row(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    journal = engine.open_journal()
    rows = packed(identity(f"vm-{number}", NOW) for number in range(HUNDRED_THOUSAND))
    for is_admitted in (True, False, False, True, True, False):
        start = engine.start()
        journal.open_tick(start)
        journal.note_plan(start.tick, rows, is_admitted=is_admitted)
        journal.close_tick(start.tick, NOW, {"status": "partial", "exit_code": 8}, unproven=rows)
    journal.close()
    size = 16 * HUNDRED_THOUSAND
    assert stored_plans(engine.place.journal) == [
        *((f"tick-{number}", None, None) for number in range(1, 5)),
        ("tick-5", size, size),
        ("tick-6", size, size),
    ]
    # What a plan took is taken by the next one: the file does not grow with the ticks.
    assert engine.place.journal.stat().st_size < 8 * size


@pytest.mark.parametrize("reads", [lambda journal: list(journal.ticks()), SQLiteJournal.last_swept_tick])
def test_who_only_shows_ticks_never_names_their_plans(
    path: Path, journal: SQLiteJournal, reads: Callable[[SQLiteJournal], object]
) -> None:
    statements: list[str] = []
    journal.connection.set_trace_callback(statements.append)
    reads(journal)
    journal.connection.set_trace_callback(None)
    assert statements
    assert not [statement for statement in statements if " admission," in statement.replace("NULL AS admission,", "")]


# --- a tick, as the file sees it --------------------------------------------------------------------------------------


def test_events_are_only_ever_added(tmp_path: Path) -> None:
    """The file itself refuses every change of an event but the forgetting of old ones."""
    engine = Engine(tmp_path)
    other = sqlite3.connect(engine.place.journal)
    for change in ("UPDATE", "DELETE"):
        other.execute(f"CREATE TRIGGER no_{change} BEFORE {change} ON events BEGIN SELECT RAISE(ABORT, 'no'); END")
    other.commit()
    other.close()
    engine.add("a", "b", "c")
    assert engine.tick(Scripted()).ends() == {"a": "released", "b": "released", "c": "released"}
    assert len(engine.events("a")) == 2
