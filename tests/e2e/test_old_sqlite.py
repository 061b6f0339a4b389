"""The installed command with the oldest SQLite that it works with, built from source: `make test-old-sqlite`."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from autorelease.sqliteadvice import OLDEST
from tests.e2e.reports import history, tick_report
from tests.support.place import DAY, NOW, PERMISSIVE, Place, allocation, command_provisioner, fresh_environment, program

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / ".old-sqlite" / "libsqlite3.so.0"
VERSION = ".".join(map(str, OLDEST))
# Whoever is to read what a newer one has written needs a newer one.
makes_strict = pytest.mark.skipif(sqlite3.sqlite_version_info < (3, 37), reason="this SQLite has no STRICT tables")

pytestmark = pytest.mark.skipif(not LIBRARY.exists(), reason=f"NOT CHECKED with SQLite {VERSION}: make test-old-sqlite")


@pytest.fixture
def old(tmp_path: Path) -> Place:
    """A place whose commands run with that SQLite; nothing is in it."""
    return Place(tmp_path / "place", {"LD_LIBRARY_PATH": str(LIBRARY.parent)})


def sample(place: Place) -> Place:
    """A sample made by `init`, with a guard that lets its first tick through."""
    made = Place(place.folder.parent, place.environment).run("init", str(place.folder), "--sample")
    assert (made.code, made.err) == (0, "")
    place.config.write_text(place.config.read_text("utf-8") + PERMISSIVE, "utf-8")
    return place


def test_it_is_the_one_that_the_command_has(old: Place) -> None:
    found = subprocess.run(
        [sys.executable, "-c", "import sqlite3; print(sqlite3.sqlite_version)"],
        env={**fresh_environment(old.folder), **old.environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == VERSION


def test_a_sample_is_made_swept_and_looked_at(old: Place) -> None:
    place = sample(old)
    listed = place.run("list-expired")
    assert (listed.code, len(listed.out.splitlines())) == (0, 1 + 37)
    first = tick_report(place.run("tick", "--once", "--json"), 3)
    assert (first["rows_released"], first["rows_invalid"]) == (37, 3)
    second = tick_report(place.run("tick", "--once", "--json"), 3)
    assert (second["rows_expired"], second["rows_invalid"]) == (0, 3)
    assert [tick["exit_code"] for tick in history(place)["ticks"]] == [3, 3]
    for words in (("health",), ("upcoming",), ("explain", "overdue-000"), ("history", "--sid", "overdue-000")):
        shown = place.run(*words)
        assert (shown.code, bool(shown.out)) == (0, True), shown.err
    lines = {line.split("\t")[1]: line.split("\t") for line in place.run("doctor").out.splitlines()}
    assert lines["sqlite"][0] == "ok"
    assert lines["sqlite"][2].startswith(f"{VERSION}, ")
    assert lines["index"][0] == "ok"
    assert [name for name, line in lines.items() if line[0] == "fail"] == []


def test_a_hold_a_failure_and_an_order(old: Place) -> None:
    place = sample(old)
    place.insert([allocation("a", NOW - DAY), allocation("b", NOW - DAY), allocation("c", NOW + DAY)])
    script = program(place.folder, 'test "$1" != b')
    place.config.write_text(
        place.config.read_text("utf-8").replace('kind = "ledger"', "").replace("[provisioners.default]", "")
        + command_provisioner([script, "{sid}"])
        + "[release]\nhold_grace = '0s'\n",
        "utf-8",
    )
    assert place.run("hold", "a", "--reason", "a ticket").code == 0
    report = tick_report(place.run("tick", "--once", "--json"), 3)
    assert (report["rows_released"], report["rows_failed"], report["skipped"]["held"]) == (37, 1, 1)
    assert place.run("unhold", "a").code == 0
    assert place.run("retry", "b").code == 0
    report = tick_report(place.run("tick", "--once", "--json"), 3)
    assert (report["rows_released"], report["rows_failed"]) == (1, 1)
    assert place.run("release", "c", "--yes", "--reason", "a ticket").code == 0
    assert {"a", "c"} <= place.released()


@makes_strict
@pytest.mark.parametrize("which", ["ledger", "journal"])
def test_a_file_of_a_newer_sqlite_is_not_called_damaged(old: Place, which: str) -> None:
    """Whoever restored a backup of it would lose all renewals since."""
    place = sample(old)
    path = getattr(place, which)
    with closing(sqlite3.connect(path)) as newer:
        newer.execute("CREATE TABLE another (x INTEGER) STRICT")
        newer.commit()
    ran = place.run("tick", "--once")
    assert ran.code == 5
    assert f"{path}: malformed database schema (another)" in ran.err
    assert f"this Python's SQLite ({VERSION}) too old for it" in ran.err
    assert "The file is damaged" not in ran.err
    assert place.released() == {f"past-{number:03d}" for number in range(109)}
