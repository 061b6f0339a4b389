"""What surrounds a run: folders of any name, streams that are closed, marks of an editor, rules of an application."""

import json
import os
import sqlite3
import subprocess
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.reports import error_report, tick_report
from tests.support.journals import copy_journal
from tests.support.place import COMMAND, DAY, LEDGER_PROVISIONER, NOW, PERMISSIVE, Place, allocation, fresh_environment
from tests.support.thorough import stride

NO_UTF8 = os.fsdecode(b"caf\xe9")
# Whether the doctor is content depends on the host.
ANY = {0, 9}
COMMANDS: dict[str, tuple[list[str], set[int]]] = {
    "a dry run": (["tick", "--once", "--dry-run"], {0}),
    "a tick": (["tick", "--once"], {0}),
    "a tick as JSON": (["tick", "--once", "--json"], {0}),
    "a listing": (["list-expired", "--format", "json"], {0}),
    "what is next": (["upcoming"], {0}),
    "the doctor": (["doctor", "--format", "json"], ANY),
    "health": (["health", "--format", "json"], {9}),
    "the history": (["history", "--format", "json"], {0}),
    "an explanation": (["explain", "due"], {0}),
    "a hold": (["hold", "due", "--reason", "x"], {0}),
    "a retry": (["retry", "--all"], {0}),
    "an order": (["release", "due", "--yes"], {0}),
    "an order without a yes": (["release", "due"], {2}),
    "the help": (["--help"], {0}),
    "the version": (["--version"], {0}),
}


def fill(place: Place) -> None:
    """A row that is due, and one that is paid for."""
    place.configure(LEDGER_PROVISIONER, PERMISSIVE)
    place.make_ledger([allocation("due", NOW - DAY), allocation("paid", NOW + DAY)])


def check_json(text: str) -> None:
    """Every reader takes it: it holds no lone surrogate."""
    if text.startswith("{"):
        json.dumps(json.loads(text), ensure_ascii=False).encode("utf-8")


# --- folders ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_a_folder_whose_name_is_not_utf8(tmp_path: Path, name: str) -> None:
    place = Place(tmp_path / NO_UTF8)
    place.folder.mkdir()
    fill(place)
    copy_journal(place.journal)
    arguments, codes = COMMANDS[name]
    ran = place.run(*arguments)
    assert ran.code in codes, ran.err
    assert "Traceback" not in ran.err
    check_json(ran.out)


@pytest.mark.parametrize("missing", ["config.toml", "allocations.db", "journal.db"])
@pytest.mark.parametrize("form", ["text", "json"])
def test_what_is_missing_in_such_a_folder_is_named(tmp_path: Path, missing: str, form: str) -> None:
    place = Place(tmp_path / NO_UTF8)
    place.folder.mkdir()
    fill(place)
    copy_journal(place.journal)
    (place.folder / missing).unlink()
    ran = place.run("--log-format", form, "tick", "--once", "--json")
    found = error_report(ran, 4 if missing == "config.toml" else 5)
    assert f"caf\\udce9/{missing}" in found["message"]
    check_json(ran.out)


def test_init_makes_such_a_folder_and_a_journal_in_it(tmp_path: Path) -> None:
    place = Place(tmp_path / NO_UTF8)
    made = subprocess.run(
        [COMMAND, "init", place.folder, "--sample"],
        env=fresh_environment(tmp_path),
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert made.returncode == 0
    assert place.run("tick", "--once").code == 3
    place.journal.unlink()
    assert place.run("init").code == 0
    assert place.run("list-expired").code == 0


def test_init_leaves_no_journal_that_it_could_not_finish(tmp_path: Path) -> None:
    place = Place(tmp_path)
    fill(place)
    # No page of SQLite is as small as this.
    line = f"ulimit -f 1; exec '{COMMAND}' --config '{place.config}' init"
    ran = subprocess.run(["sh", "-c", line], env=fresh_environment(tmp_path), check=False, timeout=60)
    assert ran.returncode == 5
    assert not place.journal.exists()
    assert place.run("init").code == 0


# --- streams ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "closed"),
    [*((name, "<&- >&- 2>&-") for name in COMMANDS), *((name, "<&-") for name in list(COMMANDS)[:: stride(4)])],
)
def test_streams_that_are_closed_change_nothing(place: Place, name: str, closed: str) -> None:
    fill(place)
    arguments, codes = COMMANDS[name]
    assert through_a_shell(place, arguments, closed).returncode in codes


def through_a_shell(place: Place, arguments: Sequence[str], redirections: str) -> "subprocess.CompletedProcess[str]":
    """Run the command with these redirections."""
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirections}', "sh", COMMAND, "--config", place.config, *arguments],
        env=fresh_environment(place.folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("word", ["--help", "--version"])
def test_help_that_nobody_takes_is_no_bug(place: Place, word: str) -> None:
    for arguments in ([word], ["tick", "--help"]):
        assert through_a_shell(place, arguments, ">/dev/full").returncode == 5
        reading, writing = os.pipe()
        os.close(reading)
        with os.fdopen(writing, "w") as gone:
            ran = subprocess.run([COMMAND, *arguments], stdout=gone, stderr=subprocess.PIPE, check=False, timeout=60)
        assert (ran.returncode, ran.stderr) == (0, b"")


# --- the error object -------------------------------------------------------------------------------------------------


def test_a_bug_has_its_error_object(place: Place) -> None:
    fill(place)
    # Where a name for the tick is made.
    breaking = "import os\ndef broken(size):\n    raise ZeroDivisionError('as if\\udce9')\nos.urandom = broken\n"
    (place.folder / "sitecustomize.py").write_text(breaking, encoding="utf-8")
    ran = place.run("tick", "--once", "--json", environment={"PYTHONPATH": str(place.folder)})
    found = error_report(ran, 1)
    assert (found["error"], "ZeroDivisionError: as if" in found["message"]) == ("bug", True)
    assert "please report it" in found["message"]
    assert "Traceback" in ran.err


@pytest.mark.parametrize("redirection", [">/dev/full", ">&-"])
def test_an_error_object_that_cannot_be_shown_changes_no_exit_code(place: Place, redirection: str) -> None:
    place.config.unlink()
    ran = through_a_shell(place, ["tick", "--once", "--json"], redirection)
    assert (ran.returncode, "Traceback" in ran.stderr) == (4, False)


def test_another_tick_has_its_error_object(place: Place) -> None:
    import fcntl

    fill(place)
    with (place.folder / "journal.db.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert error_report(place.run("tick", "--once", "--json"), 6)["error"] == "locked"


# --- an editor, and an application ------------------------------------------------------------------------------------


def test_a_byte_order_mark_is_not_part_of_the_configuration(place: Place) -> None:
    fill(place)
    place.config.write_bytes(b"\xef\xbb\xbf" + place.config.read_bytes())
    assert tick_report(place.run("tick", "--once", "--json"), 0)["rows_released"] == 1


OWN = "COLLATE german"
COLLATED = {
    "sid": f"sid TEXT PRIMARY KEY {OWN}, status TEXT, expires_at INTEGER, owner TEXT",
    "status": f"sid TEXT PRIMARY KEY, status TEXT {OWN}, expires_at INTEGER, owner TEXT",
    "expires_at": f"sid TEXT PRIMARY KEY, status TEXT, expires_at INTEGER {OWN}, owner TEXT",
    "all": f"sid TEXT PRIMARY KEY {OWN}, status TEXT {OWN}, expires_at INTEGER {OWN}, owner TEXT {OWN}",
}


@pytest.mark.parametrize("name", COLLATED)
def test_a_collation_of_its_application_s_own_has_a_way_out(place: Place, name: str) -> None:
    place.configure(LEDGER_PROVISIONER, PERMISSIVE)
    with closing(sqlite3.connect(place.ledger)) as connection, connection:
        connection.create_collation("german", lambda one, other: (one > other) - (one < other))
        connection.execute(f"CREATE TABLE vm_allocations ({COLLATED[name]})")
        rows = [("due", "Active", NOW - DAY), ("paid", "Active", NOW + DAY)]
        connection.executemany("INSERT INTO vm_allocations VALUES (?, ?, ?, 'x')", rows)
    message = error_report(place.run("tick", "--once", "--json"), 5)["message"]
    assert "no such collation sequence: german" in message
    assert "sid COLLATE BINARY AS sid" in message
    assert "[ledger.stamp]" in message
    # As it says:
    columns = ", ".join(f"{column} COLLATE BINARY AS {column}" for column in ("sid", "status", "expires_at", "owner"))
    place.execute(f"CREATE VIEW allocations AS SELECT {columns} FROM vm_allocations")
    stamp = 'table = "allocations"\n[ledger.stamp]\ntable = "vm_allocations"\n'
    place.configure(LEDGER_PROVISIONER, PERMISSIVE, ledger=stamp)
    assert tick_report(place.run("tick", "--once", "--json"), 0)["rows_released"] == 1
    assert tick_report(place.run("tick", "--once", "--json"), 0)["rows_expired"] == 0
    assert place.query("SELECT status COLLATE BINARY FROM vm_allocations ORDER BY expires_at COLLATE BINARY") == [
        ("Released",),
        ("Active",),
    ]
