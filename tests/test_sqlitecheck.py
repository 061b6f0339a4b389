"""The look for damage: what it finds, and that it can be broken off."""

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from autorelease.errors import UnusableError
from autorelease.sqlitecheck import find_damage

MANY = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) SELECT i, 'n' || i FROM n"
# The collation is called for each row, and the first call says that the look is under way.
ENDLESS = """
import sys, time
from pathlib import Path
from autorelease import sqlitecheck
connect = sqlitecheck.connect

def slow(path, *, read_only):
    connection = connect(path, read_only=read_only)
    said = []
    def compare(one, other):
        said.append(1) if said else (said.append(1), print("looking", flush=True))
        time.sleep(0.01)
        return (one > other) - (one < other)
    connection.create_collation("slow", compare)
    return connection

sqlitecheck.connect = slow
try:
    sqlitecheck.find_damage(Path(sys.argv[1]), "t")
except KeyboardInterrupt:
    print("broken off", flush=True)
"""


def make(path: Path, rows: int, table: str = "t") -> None:
    """A table with so many rows and an index that sorts by a collation of its own."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.create_collation("slow", lambda one, other: (one > other) - (one < other))
        connection.execute(f'CREATE TABLE "{table}" (id INTEGER PRIMARY KEY, name TEXT)')
        connection.execute(f'INSERT INTO "{table}" {MANY}', (rows,))
        connection.execute(f'CREATE INDEX slowly ON "{table}" (name COLLATE slow)')


@pytest.mark.parametrize("content", [b"dear diary", None])
def test_what_is_no_database(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnusableError):
        find_damage(path)
    assert path.exists() == (content is not None)


def test_a_table_of_any_name(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute('CREATE TABLE "or""der (2)" (id INTEGER PRIMARY KEY)')
    assert find_damage(path, 'or"der (2)') == []
    assert find_damage(path) == []


def test_of_a_view_all_of_the_file_is_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE t (name TEXT)")
        connection.execute("INSERT INTO t VALUES ('a')")
        connection.execute("CREATE INDEX empty ON t (name) WHERE name = 'b'")
        connection.execute("CREATE VIEW v AS SELECT name FROM t")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_master SET sql = replace(sql, ?, ?) WHERE name = 'empty'", ("'b'", "'a'"))
    assert find_damage(path, "V") == find_damage(path, "T") == find_damage(path)
    assert "row 1 missing from index empty" in find_damage(path, "v")


def test_what_cannot_be_looked_at_is_never_called_sound(tmp_path: Path) -> None:
    """An index by a collation that only the application has."""
    make(tmp_path / "a.db", 10)
    with pytest.raises(UnusableError):
        find_damage(tmp_path / "a.db", "t")


def test_it_can_be_broken_off(tmp_path: Path) -> None:
    make(tmp_path / "a.db", 20_000)
    process = subprocess.Popen([sys.executable, "-c", ENDLESS, tmp_path / "a.db"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "looking\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "broken off\n"
    assert process.wait(60) == 0
