"""Which SQLite we work with, and that no advice leads to the loss of a good file. Real files and real errors."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from autorelease.errors import UnusableError
from autorelease.sqliteadvice import OLDEST, check_version, version_in_use
from autorelease.sqlitefile import StampRefusedError, connect, speaking_of
from tests.support.place import DAY, NOW, Place, allocation, fresh_environment

# A process of its own: the version is that of a library which is older than any that could be built here.
WITH_VERSION = """
import sqlite3, sys
sqlite3.sqlite_version_info = tuple(map(int, sys.argv[1].split(".")))
sqlite3.sqlite_version = sys.argv[1]
from autorelease.cli import run
sys.exit(run(sys.argv[2:]))
"""
COMMANDS = (
    ("tick", "--once"),
    ("tick", "--once", "--dry-run"),
    ("list-expired",),
    ("upcoming",),
    ("hold", "a", "--reason", "a ticket"),
    ("release", "a", "--yes"),
    ("history",),
    ("explain", "a"),
)


def run_with_version(place: Place, version: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", WITH_VERSION, version, "--config", str(place.config), *arguments],
        env=fresh_environment(place.folder),
        cwd=place.folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


# --- versions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_what_is_too_old_is_refused_by_name(place: Place, words: tuple[str, ...]) -> None:
    place.make_ledger([allocation("a", NOW - DAY)])
    ran = run_with_version(place, "3.33.0", *words)
    assert ran.returncode == 5
    [line] = ran.stderr.splitlines()
    assert "the SQLite of this Python is 3.33.0, and 3.34.0 or newer is needed. Nothing was done" in line
    assert place.released() == set()


def test_init_makes_nothing_with_one_that_is_too_old(place: Place) -> None:
    place.journal.unlink()
    before = {path.name for path in place.folder.iterdir()}
    for words in (("init",), ("init", "new"), ("init", "new", "--sample")):
        ran = run_with_version(place, "3.7.17", *words)
        assert (ran.returncode, ran.stdout) == (5, "")
        assert "3.7.17, and 3.34.0 or newer" in ran.stderr
    assert {path.name for path in place.folder.iterdir()} == before


def test_the_doctor_names_the_version(place: Place) -> None:
    place.make_ledger()
    ran = run_with_version(place, "3.33.9", "doctor")
    [line] = [line.split("\t") for line in ran.stdout.splitlines() if line.split("\t")[1] == "sqlite"]
    assert (ran.returncode, line[0], line[3]) == (9, "fail", 'runbook.md, "Exit 5: ledger or journal unusable"')
    assert "3.33.9" in line[2]
    ran = run_with_version(place, sqlite3.sqlite_version, "doctor")
    [line] = [line.split("\t") for line in ran.stdout.splitlines() if line.split("\t")[1] == "sqlite"]
    assert (line[0], line[2].split(",")[0]) == ("ok", sqlite3.sqlite_version)


@pytest.mark.parametrize("version", [OLDEST, (3, 34, 1), (3, 100, 0), (4, 0, 0)])
def test_what_is_not_too_old_is_used(monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...]) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
    check_version()
    assert version_in_use() == ".".join(map(str, version))


# --- files of a newer version -----------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database of one table and one row."""
    made = tmp_path / "a.db"
    with closing(sqlite3.connect(made)) as connection:
        connection.executescript("CREATE TABLE t (x TEXT, y INTEGER); INSERT INTO t VALUES ('one', 1)")
    return made


def use(path: Path, *statements: str, read_only: bool = True) -> None:
    """What ledger and journal do with a file."""
    with speaking_of(path), closing(connect(path, read_only=read_only)) as connection:
        for statement in statements:
            connection.execute(statement).fetchall()


def words_of_a_later_version(path: Path) -> None:
    """An option of the table that this version does not know, as 3.34 does not know STRICT."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_master SET sql = sql || ' UNHEARD_OF'")
        connection.commit()


def syntax_of_a_later_version(path: Path) -> None:
    """In a view that has nothing to do with anything."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE VIEW v AS SELECT 1")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_master SET sql = 'CREATE VIEW v AS SELECT 1 ==>> 2' WHERE name = 'v'")
        connection.commit()


def format_of_a_later_version(path: Path) -> None:
    """Bytes 44 to 47 of the header: the schema format; 4 is the highest there is (fileformat2.html 1.3.13)."""
    content = bytearray(path.read_bytes())
    content[44:48] = (5).to_bytes(4, "big")
    path.write_bytes(content)


def reading_of_a_later_version(path: Path) -> None:
    """Byte 19 of the header: the version that is needed to read it; 2 is the highest there is."""
    content = bytearray(path.read_bytes())
    content[19] = 3
    path.write_bytes(content)


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        words_of_a_later_version,
        syntax_of_a_later_version,
        format_of_a_later_version,
        reading_of_a_later_version,
    ],
)
def test_a_file_that_is_not_understood_is_not_called_damaged(
    path: Path, change: Callable[[Path], None], *, read_only: bool
) -> None:
    change(path)
    with pytest.raises(UnusableError) as caught:
        use(path, "SELECT * FROM t", read_only=read_only)
    message = str(caught.value)
    assert "The file is damaged" not in message
    # Both are said, and the harmless one first.
    assert message.index(f"this Python's SQLite ({sqlite3.sqlite_version})") < message.index("from a backup")


def test_a_page_that_is_damaged_is_called_damaged(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    with pytest.raises(UnusableError, match="The file is damaged: restore it from a backup"):
        use(path, "SELECT * FROM t")


# --- what only its application has ------------------------------------------------------------------------------------


USES: dict[str, str] = {
    "an index": "CREATE INDEX i ON t (theirs(x))",
    "a partial index": "CREATE INDEX i ON t (x) WHERE theirs(y)",
    "a check": "CREATE TABLE new (x TEXT, y INTEGER CHECK (theirs(y))); DROP TABLE t; ALTER TABLE new RENAME TO t",
    "a generated column": "ALTER TABLE t ADD COLUMN z AS (theirs(y))",
    "a trigger": "CREATE TRIGGER g AFTER UPDATE ON t BEGIN SELECT theirs(new.y); END",
}


@pytest.fixture
def application(path: Path) -> Iterator[sqlite3.Connection]:
    """The operator's own program, which has a function that nobody else has."""
    with closing(sqlite3.connect(path)) as connection:
        connection.create_function("theirs", 1, lambda _: 1, deterministic=True)
        yield connection


@pytest.mark.parametrize("name", USES)
def test_a_function_that_is_missing_is_no_damage_and_no_fault_of_a_row(
    path: Path, application: sqlite3.Connection, name: str
) -> None:
    application.executescript(USES[name])
    application.execute("INSERT INTO t (x, y) SELECT 'two', 2 WHERE NOT EXISTS (SELECT 1 FROM t WHERE y = 2)")
    application.commit()
    with pytest.raises(UnusableError) as caught:
        use(path, "UPDATE t SET y = y + 1, x = 'three'", "SELECT * FROM t", read_only=False)
    assert not isinstance(caught.value, StampRefusedError)
    assert "nothing is wrong with the file" in str(caught.value)
    assert "stamp = false" in str(caught.value)
    assert "backup" not in str(caught.value)


def test_a_module_that_is_missing(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        statement = "CREATE VIRTUAL TABLE w USING theirs(x)"
        connection.execute("INSERT INTO sqlite_master VALUES ('table', 'w', 'w', 0, ?)", (statement,))
        connection.commit()
    with pytest.raises(UnusableError, match=r"no such module: theirs.*nothing is wrong"):
        use(path, "SELECT * FROM w")
