"""Opening SQLite files: never making one, never harming one, and their errors in words with a remedy."""

import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from autorelease.errors import UnusableError
from autorelease.sqlitefile import (
    OpenFile,
    StampRefusedError,
    check_file,
    check_reading_is_harmless,
    check_writable,
    connect,
    connect_private,
    is_wal,
    speaking_of,
)
from tests.faults.disks import tmpfs
from tests.support.connections import all_closed

STRANGER = 54_321
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def make_database(path: Path, *, wal: bool = False) -> Path:
    """A database with one table and one row."""
    connection = sqlite3.connect(path)
    if wal:
        connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE t (x TEXT UNIQUE)")
    connection.execute("INSERT INTO t VALUES ('one')")
    connection.commit()
    connection.close()
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A small database."""
    return make_database(tmp_path / "a.db")


# --- connecting -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read_only", [False, True])
def test_no_file_is_made_by_mistake(tmp_path: Path, *, read_only: bool) -> None:
    with pytest.raises((UnusableError, FileNotFoundError)):
        connect(tmp_path / "missing.db", read_only=read_only)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("read_only", [False, True])
def test_what_is_no_database_is_not_held_open(path: Path, *, read_only: bool) -> None:
    path.write_bytes(b"\xff" * 4096)
    with all_closed(), pytest.raises(UnusableError, match="not a database"):
        connect(path, read_only=read_only)


def test_a_private_database_that_cannot_be_filled_is_not_held_open() -> None:
    with all_closed(), pytest.raises(UnusableError, match="here: "):
        connect_private("here", ["CREATE TABLE t (x)", "CREATE TABLE t (x)"])


@pytest.mark.parametrize("name", ["with space.db", "100%.db", "a?mode=rwc&x.db", "a#b.db", "ä.db", "%41.db"])
@pytest.mark.parametrize("read_only", [False, True])
def test_any_name_is_opened_as_it_is(tmp_path: Path, name: str, *, read_only: bool) -> None:
    make_database(tmp_path / name)
    connection = connect(tmp_path / name, read_only=read_only)
    assert connection.execute("SELECT x FROM t").fetchall() == [("one",)]
    connection.close()
    assert [each.name for each in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("wal", [False, True])
def test_what_is_opened_to_be_read_cannot_be_written(tmp_path: Path, *, wal: bool) -> None:
    path = make_database(tmp_path / "a.db", wal=wal)
    before = path.read_bytes()
    connection = connect(path, read_only=True)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("INSERT INTO t VALUES ('two')")
    connection.close()
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["a.db"]


# Changes more than its cache holds, so that half of it is in the file when it dies.
DIES_IN_MID_WRITE = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE t SET x = x || 'changed'")
connection.executemany("INSERT INTO t VALUES (?)", [(f"{number:0500}",) for number in range(500)])
os.kill(os.getpid(), signal.SIGKILL)
"""


def leave_half_written(path: Path) -> None:
    """A writer begins to change a database, and is killed."""
    subprocess.run([sys.executable, "-c", DIES_IN_MID_WRITE, path], check=False)
    assert path.with_name(path.name + "-journal").stat().st_size > 0


def test_what_a_killed_writer_left_is_taken_back_by_who_only_reads(path: Path) -> None:
    leave_half_written(path)
    connection = connect(path, read_only=True)
    assert connection.execute("SELECT x FROM t").fetchall() == [("one",)]
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("INSERT INTO t VALUES ('two')")
    connection.close()


def test_a_writer_under_way_is_no_killed_one(path: Path) -> None:
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("INSERT INTO t VALUES ('two')")
    reader = connect(path, read_only=True)
    assert reader.execute("SELECT x FROM t").fetchall() == [("one",)]
    reader.close()
    writer.execute("COMMIT")
    assert writer.execute("SELECT x FROM t").fetchall() == [("one",), ("two",)]
    writer.close()


def test_writes_are_durable_and_transactions_are_ours_to_open(path: Path) -> None:
    connection = connect(path, read_only=False)
    assert connection.isolation_level is None
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert connection.execute("PRAGMA busy_timeout").fetchone() == (10_000,)
    connection.close()


def test_text_that_is_not_utf_8_ends_no_cursor(path: Path) -> None:
    connection = connect(path, read_only=False)
    connection.execute("INSERT INTO t VALUES (CAST(x'66fc72' AS TEXT))")
    found = [text for (text,) in connection.execute("SELECT x FROM t ORDER BY rowid")]
    connection.close()
    assert found == ["one", "f\udcfcr"]


# --- checking ---------------------------------------------------------------------------------------------------------


def test_a_good_file_passes(path: Path, tmp_path: Path) -> None:
    check_file(path, "ledger", "Remedy")
    check_writable(path, "ledger")
    (tmp_path / "empty.db").touch()
    check_file(tmp_path / "empty.db", "ledger", "Remedy")


def test_each_wrong_file_has_its_words_and_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("this is no database")
    (tmp_path / "short").write_bytes(b"SQLite")
    for name, words in {
        ".": "is a folder",
        "missing.db": "there is no such ledger",
        "letter.txt": "not an SQLite database",
        "short": "not an SQLite database",
        "letter.txt/below": "cannot be read",
    }.items():
        with pytest.raises(UnusableError, match=words) as raised:
            check_file(tmp_path / name, "ledger", "Look at the url.")
        assert str(tmp_path / name) in str(raised.value)
        if name != "letter.txt/below":
            assert str(raised.value).endswith("Look at the url.")


def test_the_header_tells_the_mode(tmp_path: Path) -> None:
    assert not is_wal(make_database(tmp_path / "rollback.db"))
    assert is_wal(make_database(tmp_path / "wal.db", wal=True))
    (tmp_path / "empty.db").touch()
    assert not is_wal(tmp_path / "empty.db")


# --- a file that is not there any more --------------------------------------------------------------------------------


def remove(path: Path) -> None:
    path.unlink()


def replace_with_backup(path: Path) -> None:
    backup = make_database(path.with_name("backup.db"))
    backup.replace(path)


@pytest.mark.parametrize("change", [remove, replace_with_backup])
def test_a_file_that_was_removed_or_replaced_is_not_used_any_more(path: Path, change: Callable[[Path], None]) -> None:
    file = OpenFile(path, "ledger")
    with file.in_use():
        pass
    aside = path.with_name("aside.db")
    os.link(path, aside)
    change(path)
    with pytest.raises(UnusableError, match="ledger was removed or replaced while it was in use"), file.in_use():
        pytest.fail("it was used")
    # Put back, it is the same again.
    aside.replace(path)
    with file.in_use():
        pass
    # What was done while it went away went to the one that nobody will see.
    with pytest.raises(UnusableError, match=str(path)), file.in_use():
        change(path)


def test_the_change_of_a_file_is_no_replacement(path: Path) -> None:
    file = OpenFile(path, "ledger")
    path.write_bytes(path.read_bytes() * 2)
    with file.in_use():
        pass


# --- other users ------------------------------------------------------------------------------------------------------


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can enter, which those of pytest are not."""
    with tempfile.TemporaryDirectory(prefix="autorelease-tests-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


# Everything is imported while it still may be: the interpreter itself can be out of a stranger's reach.
AS_STRANGER = """
import os, sys
from pathlib import Path
from autorelease import sqlitefile
from autorelease.errors import UnusableError
path = Path(sys.argv[2])
os.setgroups([])
os.setgid(int(sys.argv[3]))
os.setuid(int(sys.argv[3]))
try:
    if sys.argv[1] == "connect":
        connection = sqlitefile.connect(path, read_only=True)
        with sqlitefile.speaking_of(path):
            print(connection.execute("SELECT x FROM t").fetchall())
        connection.close()
    elif sys.argv[1] == "check_writable":
        sqlitefile.check_writable(path, "ledger")
    elif sys.argv[1] == "check_file":
        sqlitefile.check_file(path, "ledger", "Remedy")
    else:
        sqlitefile.check_reading_is_harmless(path)
    print("done")
except UnusableError as error:
    print(error)
"""


def as_stranger(what: str, path: Path) -> str:
    """What another user, who shares a group with the owner, is told."""
    ended = subprocess.run(
        [sys.executable, "-c", AS_STRANGER, what, path, str(STRANGER)],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return ended.stdout.strip()


def shared(path: Path, *, file: int, folder: int) -> Path:
    """The database and its folder belong to the stranger's group, with these modes."""
    for each, mode in ((path, file), (path.parent, folder)):
        os.chown(each, -1, STRANGER)
        each.chmod(mode)
    return path


@needs_root
def test_reading_a_wal_ledger_that_we_cannot_write_beside_is_refused(open_folder: Path) -> None:
    """Our -wal and -shm would be files that the owner cannot write: the owner's next write would fail."""
    path = shared(make_database(open_folder / "a.db", wal=True), file=0o640, folder=0o2770)
    said = as_stranger("check_reading_is_harmless", path)
    assert "is in WAL mode" in said
    assert f"chmod g+w {path}" in said
    assert [each.name for each in open_folder.iterdir()] == ["a.db"]


@needs_root
def test_a_wal_ledger_on_a_read_only_mount_is_not_taken_for_one_of_wrong_rights(open_folder: Path) -> None:
    """As a confined service sees the folder of a ledger that its unit does not name."""
    with tmpfs(open_folder / "disk") as disk:
        path = shared(make_database(disk.seen / "a.db", wal=True), file=0o660, folder=0o2770)
        disk.remount("ro")
        said = as_stranger("check_reading_is_harmless", path)
        assert "mounted read-only" in said
        assert "ReadWritePaths=" in said
        assert "chmod" not in said
        disk.remount("rw")
        assert as_stranger("check_reading_is_harmless", path) == "done"


@needs_root
def test_reading_a_wal_ledger_that_the_group_may_write_is_fine(open_folder: Path) -> None:
    path = shared(make_database(open_folder / "a.db", wal=True), file=0o660, folder=0o2770)
    assert as_stranger("check_reading_is_harmless", path) == "done"
    assert as_stranger("connect", path) == "[('one',)]\ndone"
    # It cleans up after itself, so that the owner can go on.
    assert [each.name for each in open_folder.iterdir()] == ["a.db"]
    owner = sqlite3.connect(path)
    owner.execute("INSERT INTO t VALUES ('two')")
    owner.close()


@needs_root
def test_reading_a_wal_ledger_that_is_in_use_is_fine(open_folder: Path) -> None:
    path = make_database(open_folder / "a.db", wal=True)
    owner = sqlite3.connect(path)
    owner.execute("INSERT INTO t VALUES ('two')")
    shared(path, file=0o640, folder=0o2770)
    assert as_stranger("check_reading_is_harmless", path) == "done"
    owner.close()


@needs_root
def test_what_a_killed_writer_left_needs_the_right_to_write(open_folder: Path) -> None:
    path = make_database(open_folder / "a.db")
    leave_half_written(path)
    shared(path, file=0o640, folder=0o2750)
    os.chown(path.with_name("a.db-journal"), -1, STRANGER)
    before = path.read_bytes()
    assert "killed" in as_stranger("connect", path)
    assert path.read_bytes() == before


@needs_root
def test_a_rollback_ledger_is_always_harmless_to_read(open_folder: Path) -> None:
    path = shared(make_database(open_folder / "a.db"), file=0o640, folder=0o2770)
    assert as_stranger("check_reading_is_harmless", path) == "done"
    assert as_stranger("connect", path) == "[('one',)]\ndone"


def test_the_owner_may_read_in_any_mode(tmp_path: Path) -> None:
    check_reading_is_harmless(make_database(tmp_path / "a.db", wal=True))


@needs_root
@pytest.mark.parametrize(("file", "folder", "what"), [(0o640, 0o2770, "file"), (0o660, 0o2750, "folder")])
def test_what_cannot_be_written_is_named_with_its_remedy(open_folder: Path, file: int, folder: int, what: str) -> None:
    path = shared(make_database(open_folder / "a.db"), file=file, folder=folder)
    said = as_stranger("check_writable", path)
    assert f"the {what} of the ledger cannot be written by this user (uid {STRANGER})" in said


@needs_root
def test_what_may_not_be_read_is_named_with_its_remedy(open_folder: Path) -> None:
    path = shared(make_database(open_folder / "a.db"), file=0o600, folder=0o755)
    assert "the ledger cannot be read (Permission denied)" in as_stranger("check_file", path)


# --- errors in words --------------------------------------------------------------------------------------------------


def test_a_rule_of_the_table_is_told_apart_from_a_broken_database(path: Path) -> None:
    connection = connect(path, read_only=False)
    with pytest.raises(StampRefusedError, match="UNIQUE"), speaking_of(path):
        connection.execute("INSERT INTO t VALUES ('one')")
    with pytest.raises(UnusableError, match="no such table") as raised, speaking_of(path):
        connection.execute("SELECT * FROM missing")
    # Nothing was to be changed: words about a refused change would send the operator the wrong way.
    assert "refuse the change" not in str(raised.value)
    connection.close()


def test_each_trouble_has_its_remedy(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autorelease.sqlitefile.BUSY_SECONDS", 0.01)
    holder, connection = sqlite3.connect(path, isolation_level=None), connect(path, read_only=False)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(UnusableError, match="fuser"), speaking_of(path):
        connection.execute("BEGIN IMMEDIATE")
    holder.close()
    reader = connect(path, read_only=True)
    with pytest.raises(UnusableError, match="cannot be written"), speaking_of(path):
        reader.execute("DELETE FROM t")
    for each in (connection, reader):
        each.close()


def test_a_damaged_file_is_called_damaged(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096)
    connection = connect(path, read_only=True)
    with pytest.raises(UnusableError, match="damaged: restore it from a backup"), speaking_of(path):
        connection.execute("SELECT * FROM t").fetchall()
    connection.close()


def test_what_is_not_of_the_database_passes_through(path: Path) -> None:
    with pytest.raises(ZeroDivisionError), speaking_of(path):
        raise ZeroDivisionError
