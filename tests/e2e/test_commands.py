"""The commands one by one: what they make, what they show in which format, and what they refuse."""

import csv
import io
import json
import os
import re
import shlex
import sqlite3
import stat
import subprocess
from pathlib import Path

import pytest

from autorelease import __version__
from tests.e2e.reports import footprint, history, listed, sids, sweep
from tests.support.place import (
    COMMAND,
    DAY,
    LEDGER_PROVISIONER,
    NOW,
    PERMISSIVE,
    Place,
    Ran,
    allocation,
    fresh_environment,
    run_in,
)

LISTING = [
    "sid",
    "owner",
    "plan",
    "provisioner",
    "vm_ref",
    "status",
    "expires_at",
    "overdue_seconds",
    "decision",
    "reason",
]


def run(folder: Path, *arguments: str | Path, **environment: str) -> Ran:
    """Run the command without naming a configuration."""
    return run_in(folder, arguments, environment)


def mode(path: Path) -> int:
    """The rights of a file."""
    return stat.S_IMODE(path.stat().st_mode)


# --- init -----------------------------------------------------------------------------------------------------------


def test_init_makes_the_journal_that_the_configuration_names(tmp_path: Path) -> None:
    place = Place(tmp_path)
    (tmp_path / "records").mkdir()
    place.configure(LEDGER_PROVISIONER, '[journal]\nurl = "sqlite:///records/ours.db"\n')
    ran = place.run("init")
    assert ran.code == 0
    journal = tmp_path / "records" / "ours.db"
    assert str(journal) in ran.out
    assert mode(journal) == 0o640
    assert mode(journal.with_name("ours.db.lock")) == 0o640
    # No WAL: who may only read the journal could not open it.
    assert journal.read_bytes()[18:20] == b"\x01\x01"
    before = journal.read_bytes()
    again = place.run("init")
    assert again.code == 2
    assert str(journal) in again.err
    assert journal.read_bytes() == before
    # It made the journal alone.
    assert not place.ledger.exists()


def test_init_does_not_make_the_journals_folder(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.configure(LEDGER_PROVISIONER, '[journal]\nurl = "sqlite:///records/ours.db"\n')
    ran = place.run("init")
    assert ran.code == 5
    assert str(tmp_path / "records" / "ours.db") in ran.err
    assert not (tmp_path / "records").exists()


def test_init_without_a_configuration(tmp_path: Path) -> None:
    ran = run(tmp_path, "init", AUTORELEASE_CONFIG=str(tmp_path / "nowhere.toml"))
    assert ran.code == 4
    assert str(tmp_path / "nowhere.toml") in ran.err


def test_init_of_a_new_folder(tmp_path: Path) -> None:
    ran = run(tmp_path, "init", "new/place")
    assert ran.code == 0
    place = Place(tmp_path / "new" / "place")
    assert mode(place.folder) == 0o750
    assert {path.name: mode(path) for path in place.folder.iterdir() if path.suffix in (".db", ".toml", ".lock")} == {
        "config.toml": 0o640,
        "allocations.db": 0o640,
        "journal.db": 0o640,
        "journal.db.lock": 0o640,
    }
    assert place.query("SELECT count(*) FROM vm_allocations") == [(0,)]
    assert str(place.config) in ran.out.replace("new/place", str(place.folder))
    assert "list-expired" in ran.out
    assert sweep(place)["rows_examined"] == 0
    # The table is one that keeps garbage out, and has the index that makes a sweep quick.
    for wrong in ("('a', 'Paused', 1, NULL)", "('a', NULL, 1, NULL)", "('a', 'Active', 'soon', NULL)"):
        with pytest.raises(sqlite3.IntegrityError):
            place.execute(f"INSERT INTO vm_allocations (sid, status, expires_at, released_at) VALUES {wrong}")
    [(plan,)] = [
        row[3:]
        for row in place.query(
            "EXPLAIN QUERY PLAN SELECT sid FROM vm_allocations WHERE status <> 'Released' AND expires_at < 7 "
            "ORDER BY expires_at, sid"
        )
    ]
    assert "vm_allocations_due" in plan


def test_init_of_a_sample(tmp_path: Path) -> None:
    ran = run(tmp_path, "init", "demo", "--sample")
    assert ran.code == 0
    place = Place(tmp_path / "demo")
    found = listed(place, "--all")
    said = re.search(r"(\d+) sample rows: (\d+) have expired, (\d+) are invalid", ran.out)
    assert said is not None
    rows, expired, invalid = map(int, said.groups())
    assert place.query("SELECT count(*) FROM vm_allocations") == [(rows,)]
    assert (found["counts"]["release"], found["counts"]["invalid"]) == (expired, invalid)
    assert sweep(place, code=3)["rows_released"] == expired


@pytest.mark.parametrize("present", ["config.toml", "allocations.db", "journal.db"])
def test_init_overwrites_nothing(tmp_path: Path, present: str) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / present).write_text("precious")
    before = footprint(tmp_path)
    ran = run(tmp_path, "init", "there", "--sample")
    assert ran.code == 2
    assert present in ran.err
    assert footprint(tmp_path) == before


def test_init_overwrites_no_folder_that_is_in_use(tmp_path: Path) -> None:
    assert run(tmp_path, "init", "there").code == 0
    before = footprint(tmp_path)
    assert run(tmp_path, "init", "there", "--sample").code == 2
    assert footprint(tmp_path) == before


def test_init_takes_a_folder_that_is_there_with_other_things(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "notes.txt").write_text("precious")
    assert run(tmp_path, "init", "there").code == 0
    assert (tmp_path / "there" / "notes.txt").read_text() == "precious"


def test_init_where_a_file_is(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("precious")
    ran = run(tmp_path, "init", "there")
    assert ran.code in (2, 5)
    assert "there" in ran.err
    assert "Traceback" not in ran.err
    assert (tmp_path / "there").read_text() == "precious"


def test_a_sample_needs_a_folder(place: Place) -> None:
    assert place.run("init", "--sample").code == 2


# --- list-expired ---------------------------------------------------------------------------------------------------


@pytest.fixture
def filled(place: Place) -> Place:
    """Two due rows, a later one, and one that is invalid."""
    place.make_ledger(
        [
            allocation("first", NOW - 2 * DAY, owner='Ann, "the boss"', plan="basic", vm_ref="vm-9"),
            allocation("second", NOW - DAY),
            allocation("later", NOW + DAY),
            allocation("strange", "soon"),
        ]
    )
    return place


def test_the_formats_of_the_listing_say_the_same(filled: Place) -> None:
    rows = listed(filled, "--at", "2090-01-01T00:00:00Z")["rows"]
    expected = [["" if row[name] is None else str(row[name]) for name in LISTING] for row in rows]
    assert [row[0] for row in expected] == ["first", "second", "later"]
    plain = filled.run("list-expired", "--at", "2090-01-01T00:00:00Z", "--format", "plain")
    assert [line.split("\t") for line in plain.out.splitlines()] == [LISTING, *expected]
    cells = filled.run("list-expired", "--at", "2090-01-01T00:00:00Z", "--format", "csv")
    assert list(csv.reader(io.StringIO(cells.out))) == [LISTING, *expected]
    table = filled.run("list-expired", "--at", "2090-01-01T00:00:00Z", "--format", "table")
    assert "first" in table.out
    assert {ran.code for ran in (plain, cells, table)} == {0}
    # In a pipe the default is plain.
    assert filled.run("list-expired", "--at", "2090-01-01T00:00:00Z").out == plain.out


def test_all_adds_what_is_left_alone_and_never_the_unexpired(filled: Place) -> None:
    some, every = listed(filled), listed(filled, "--all")
    assert sids(some) == sids(every) == {"first", "second"}
    assert {row["sid"] for row in some["rows"]} == {"first", "second"}
    assert {row["sid"] for row in every["rows"]} == {"first", "second", "strange"}
    [strange] = [row for row in every["rows"] if row["decision"] == "invalid"]
    assert "expires_at is text" in strange["reason"]


def test_the_listing_ends_with_0_also_where_the_guard_would_refuse(filled: Place) -> None:
    filled.configure(LEDGER_PROVISIONER, "[guard]\nmax_releases = 1\n")
    ran = filled.run("list-expired")
    assert ran.code == 0
    assert "the guard would refuse it" in ran.err
    assert "max_releases" in ran.err


# --- history --------------------------------------------------------------------------------------------------------


def test_the_formats_of_the_history_say_the_same(filled: Place) -> None:
    report = sweep(filled, code=3)
    sweep(filled, "--confirm", "1", code=7)
    ticks = history(filled)["ticks"]
    plain = filled.run("history", "--format", "plain")
    header, *lines = [line.split("\t") for line in plain.out.splitlines()]
    assert [line[header.index("tick")] for line in lines] == [tick["tick"] for tick in ticks]
    assert [line[header.index("status")] for line in lines] == ["refused", "partial"]
    assert lines[1][header.index("rows_released")] == "2"
    assert filled.run("history").out == plain.out
    table = filled.run("history", "--format", "table", environment={"COLUMNS": "400"})
    assert [line.split()[0] for line in table.out.splitlines()[1:]] == [tick["tick"] for tick in ticks]
    events = filled.run("history", "--sid", "first")
    header, *lines = [line.split("\t") for line in events.out.splitlines()]
    assert [line[header.index("event")] for line in lines] == ["intent", "outcome"]
    of_tick = filled.run("history", "--tick", report["tick"], "--format", "plain")
    assert len(of_tick.out.splitlines()) == 1 + len(history(filled, "--tick", report["tick"])["events"])
    both = history(filled, "--tick", report["tick"], "--sid", "second")
    assert {event["sid"] for event in both["events"]} == {"second"}
    assert [tick["tick"] for tick in both["ticks"]] == [report["tick"]]


@pytest.mark.parametrize("arguments", [("--sid", "nobody"), ("--tick", "20260101T000000Z-000000"), ("--format", "csv")])
def test_what_the_history_does_not_know_is_exit_2(filled: Place, arguments: tuple[str, ...]) -> None:
    sweep(filled, code=3)
    ran = filled.run("history", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert len(ran.err.splitlines()) == 1


def test_an_allocation_without_a_history_is_known_all_the_same(filled: Place) -> None:
    found = history(filled, "--sid", "later")
    assert (found["ticks"], found["events"]) == ([], [])


def test_the_history_of_a_new_journal_is_empty(place: Place) -> None:
    assert history(place) == {"schema": "autorelease.history/1", "ticks": [], "events": []}


# --- the command itself ---------------------------------------------------------------------------------------------


def test_the_version(tmp_path: Path) -> None:
    ran = run(tmp_path, "--version")
    assert (ran.code, ran.out, ran.err) == (0, f"autorelease {__version__}\n", "")


def command_names(folder: Path) -> list[str]:
    """Every command there is, by the help of the whole."""
    return re.findall(r"^  ([a-z-]+)  ", run(folder, "--help").out.partition("Commands:\n")[2], re.MULTILINE)


@pytest.mark.parametrize("command", [(), ("tick",), ("init",)])
def test_help_may_be_asked_for_in_short(command: tuple[str, ...], tmp_path: Path) -> None:
    long, short = (run(tmp_path, *command, flag) for flag in ("--help", "-h"))
    assert long == short
    assert (long.code, long.err) == (0, "")
    assert "Usage: autorelease" in long.out


def test_help_names_the_commands(tmp_path: Path) -> None:
    assert {"tick", "list-expired", "history", "doctor", "init"} <= set(command_names(tmp_path))


def test_the_help_of_every_command_has_an_example_that_the_command_understands(tmp_path: Path) -> None:
    for name in command_names(tmp_path):
        shown = run(tmp_path, name, "--help")
        example = re.search(r"^  Example: (autorelease .*(?:\n  \S.*)*)", shown.out, re.MULTILINE)
        assert example, f"{name} --help has no example"
        # It is read as far as the configuration, which is not there, and so changes nothing.
        program, *words = shlex.split(example[1])
        assert (program, words[0]) == ("autorelease", name)
        ran = run(tmp_path, *words, AUTORELEASE_CONFIG=str(tmp_path / "none.toml"))
        assert ran.code == {"init": 0, "doctor": 9}.get(name, 4), f"{example[0]}: {ran.err}"


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nonsense",),
        ("--nonsense",),
        ("tick", "--once", "--nonsense"),
        ("tick", "--once", "surplus"),
        ("list-expired", "--format", "xml"),
        ("list-expired", "--at"),
        ("--log-level", "loud", "history"),
        ("--log-format", "xml", "history"),
        ("--quiet", "--log-level", "info", "history"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(place: Place, arguments: tuple[str, ...]) -> None:
    place.make_ledger()
    ran = place.run(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert len(ran.err.splitlines()) == 1
    assert "Traceback" not in ran.err


def test_a_wrong_word_in_the_environment_is_named(place: Place) -> None:
    place.make_ledger()
    for variable in ("AUTORELEASE_LOG_LEVEL", "AUTORELEASE_LOG_FORMAT"):
        ran = place.run("list-expired", environment={variable: "loud"})
        assert ran.code == 2
        assert variable in ran.err


def test_the_log_as_json(place: Place) -> None:
    place.make_ledger([allocation("due", NOW - DAY), allocation("strange", "soon")])
    ran = place.run("--log-format", "json", "tick", "--once")
    lines = [json.loads(line) for line in ran.err.splitlines()]
    [released] = [line for line in lines if line["message"] == "released"]
    assert (released["level"], released["sid"], released["evidence"]) == ("info", "due", "stamp")
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", line["at"]) for line in lines)
    by_environment = place.run("tick", "--once", environment={"AUTORELEASE_LOG_FORMAT": "json"})
    assert all(json.loads(line) for line in by_environment.err.splitlines())
    # The flag beats the environment.
    by_flag = place.run("--log-format", "text", "tick", environment={"AUTORELEASE_LOG_FORMAT": "json"})
    assert " ERROR " in by_flag.err


def test_the_level_of_the_log(place: Place) -> None:
    place.make_ledger([allocation("due", NOW - DAY)])
    said = {level: place.run("--log-level", level, "list-expired").err for level in ("debug", "info", "warning")}
    assert "the guard would admit it" in said["info"]
    assert "the guard would admit it" in said["debug"]
    assert said["warning"] == ""
    assert place.run("list-expired", environment={"AUTORELEASE_LOG_LEVEL": "error"}).err == ""
    quiet = place.run("--log-level", "warning", "tick", "--once")
    assert (quiet.code, quiet.err) == (0, "")


def test_quiet_says_nothing_where_the_exit_code_is_0(place: Place) -> None:
    place.make_ledger([allocation("due", NOW - DAY), allocation("kept", NOW + DAY)])
    for arguments in (
        ("hold", "kept", "--reason", "why"),
        ("unhold", "kept"),
        ("tick", "--once"),
        ("release", "kept", "--yes"),
        ("retry", "due"),
        ("health",),
    ):
        ran = place.run("-q", *arguments)
        assert (ran.code, ran.out, ran.err) == (0, "", ""), arguments
    assert place.released() == {"due", "kept"}
    # What is asked for is shown; so is an object.
    assert place.run("--quiet", "history").out.startswith("tick\t")
    assert place.run("-q", "tick", "--once", "--json").json()["exit_code"] == 0
    assert json.loads(place.run("-q", "health", "--format", "json").out)["problems"] == []


def test_quiet_shows_what_is_not_well(place: Place) -> None:
    place.make_ledger([allocation("strange", "soon")])
    ran = place.run("-q", "tick", "--once")
    assert (ran.code, ran.err) == (3, "")
    assert "invalid: strange: " in ran.out
    assert place.run("-q", "health", "--max-age", "0s").out.startswith("stale: ")
    beats = place.run("-q", "list-expired", environment={"AUTORELEASE_LOG_LEVEL": "debug"})
    assert beats.err == ""


def test_words_of_choice_are_taken_in_any_case(place: Place) -> None:
    place.make_ledger([allocation("due", NOW - DAY)])
    ran = place.run("--log-level", "INFO", "--log-format", "Json", "list-expired", "--format", "JSON")
    assert ran.json()["schema"] == "autorelease.list/1"
    capitals = {"AUTORELEASE_LOG_LEVEL": "INFO", "AUTORELEASE_LOG_FORMAT": "JSON"}
    ran = place.run("tick", "--once", environment=capitals)
    assert {json.loads(line)["level"] for line in ran.err.splitlines()} == {"info"}
    for arguments in (
        ("history", "--format", "Plain"),
        ("upcoming", "--format", "PLAIN"),
        ("health", "--format", "Json"),
    ):
        assert place.run(*arguments).code in (0, 9)


def test_flag_beats_environment_beats_file(place: Place) -> None:
    for name in ("file", "environment", "flag"):
        place.ledger = place.folder / f"{name}.db"
        place.make_ledger([allocation(f"by-{name}", NOW - DAY)])
    place.ledger = place.folder / "file.db"
    place.configure(LEDGER_PROVISIONER, PERMISSIVE)
    environment = {"AUTORELEASE_LEDGER": f"sqlite:///{place.folder}/environment.db"}
    flag = ("--ledger", f"sqlite:///{place.folder}/flag.db")
    for arguments, given, expected in (((), {}, "file"), ((), environment, "environment"), (flag, environment, "flag")):
        ran = place.run(*arguments, "list-expired", environment=given)
        assert [line.split("\t")[0] for line in ran.out.splitlines()[1:]] == [f"by-{expected}"]
    config = place.folder / "other.toml"
    config.write_text(place.config.read_text())
    by_environment = run(place.folder, "list-expired", AUTORELEASE_CONFIG=str(config))
    assert by_environment.code == 0
    place.config.unlink()
    beaten = run(place.folder, "--config", place.config, "list-expired", AUTORELEASE_CONFIG=str(config))
    assert beaten.code == 4


def test_paths_in_the_file_are_relative_to_the_file(place: Place, tmp_path: Path) -> None:
    place.make_ledger([allocation("due", NOW - DAY)])
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    # The current folder holds another ledger of the same name, which is not meant, and a configuration, which neither.
    decoy = Place(elsewhere)
    decoy.make_ledger([allocation("decoy", NOW - DAY)])
    decoy.configure(LEDGER_PROVISIONER, PERMISSIVE)
    ran = run(elsewhere, "--config", os.path.relpath(place.config, elsewhere), "list-expired")
    assert [line.split("\t")[0] for line in ran.out.splitlines()[1:]] == ["due"]
    assert run(elsewhere, "list-expired", HOME=str(elsewhere)).code == 4


def test_started_as_a_module(place: Place) -> None:
    place.make_ledger([allocation("due", NOW - DAY)])
    python = COMMAND.parent / "python"
    ran = subprocess.run(
        [python, "-m", "autorelease", "--config", place.config, "tick"],
        env=fresh_environment(place.folder),
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 2
