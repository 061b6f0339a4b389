"""`upcoming`, `explain`, `health` and `doctor` as commands: their formats, schemas, exit codes and refusals."""

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.reports import footprint, schema
from tests.ledger.damaged import write_behind_the_index
from tests.support.here import run_here
from tests.support.journals import copy_journal
from tests.support.measured import run_measured
from tests.support.place import DAY, HOUR, LEDGER_PROVISIONER, NOW, PERMISSIVE, Place, Ran, allocation


@pytest.fixture
def here(tmp_path: Path) -> Place:
    """A place with a due row, two that end together tomorrow, and one that never expires."""
    place = Place(tmp_path)
    place.configure(LEDGER_PROVISIONER, PERMISSIVE)
    place.make_ledger(
        [
            allocation("due", NOW - DAY),
            allocation("b", NOW + DAY, owner="Eve", vm_ref="vm\tb"),
            allocation("a", NOW + DAY),
            allocation("far", NOW + 30 * DAY),
            allocation("never", None),
        ]
    )
    copy_journal(place.journal)
    return place


def checked(ran: Ran, name: str, code: int = 0) -> dict[str, Any]:
    """The one object on stdout, of its schema."""
    assert ran.code == code, ran
    found = ran.json()
    schema(name).validate(found)
    return found


def instant(text: str) -> datetime:
    """As JSON has it."""
    return datetime.fromisoformat(text)


@pytest.mark.parametrize("command", ["list-expired", "upcoming", "history", "health", "doctor", "holds"])
def test_a_format_is_taken_in_any_case(here: Place, command: str) -> None:
    assert run_here(here, command, "--format", "JSON").json()["schema"].startswith("autorelease.")


# --- upcoming ---------------------------------------------------------------------------------------------------------


def test_the_formats_of_what_is_upcoming_say_the_same(here: Place) -> None:
    found = checked(run_here(here, "upcoming", "--format", "json"), "upcoming")
    assert [row["sid"] for row in found["rows"]] == ["a", "b"]
    assert instant(found["until"]) - instant(found["now"]) == timedelta(hours=72)
    assert found["counts"] == {"expire": 2, "held": 0, "invalid": 0}
    day = datetime.fromtimestamp(NOW + DAY, UTC).date().isoformat()
    assert found["days"] == [{"day": day, "count": 2}]
    plain = run_here(here, "upcoming")
    header, *lines = plain.out.splitlines()
    assert header.split("\t") == list(found["rows"][0])
    assert lines[1].startswith("b\tEve\t\tdefault\tvm\\tb\tActive\t")
    assert "2 expire, 0 of them held" in plain.err
    assert "would refuse none of the hourly ticks" in plain.err
    table = run_here(here, "upcoming", "--format", "table")
    assert f"{day}  2  {'#' * 40}" in table.out.splitlines()
    assert table.out.splitlines()[-1] == "the guard would refuse none of the hourly ticks until then"
    assert table.err == ""


def test_upcoming_says_when_the_guard_will_refuse(here: Place) -> None:
    here.configure(LEDGER_PROVISIONER, "[guard]\nmax_percent = 100\nmax_releases = 1\n")
    found = checked(run_here(here, "upcoming", "--format", "json"), "upcoming")
    assert [reason["code"] for reason in found["guard"]["reasons"]] == ["max_releases"]
    at = instant(found["guard"]["refuses_at"])
    assert timedelta(0) <= at - datetime.fromtimestamp(NOW + DAY, UTC) <= timedelta(hours=1)
    said = f"the guard will refuse at {at:%Y-%m-%dT%H:%MZ}: max_releases: 2 first releases are planned, the limit is 1"
    assert said in run_here(here, "upcoming").err
    assert said in run_here(here, "upcoming", "--format", "table").out


def test_upcoming_names_what_ends_together_and_what_to_type(here: Place) -> None:
    here.configure(LEDGER_PROVISIONER, "[guard]\nmax_percent = 100\nmax_releases = 1\n")
    here.execute("UPDATE vm_allocations SET plan = 'big' WHERE sid = 'a'")
    ran = run_here(here, "upcoming", "--format", "table")
    assert "what ends together then: 1 of big, 1 of no plan" in ran.out
    assert ran.out.splitlines()[-1].endswith("autorelease tick --once --confirm N")


def test_upcoming_lists_each_row_where_it_is_told_to(here: Place) -> None:
    here.execute("UPDATE vm_allocations SET vm_ref = 'VM-FAR' WHERE sid = 'a'")
    here.execute("UPDATE vm_allocations SET vm_ref = 'vm-far' WHERE sid = 'far'")
    said = "invalid: vm_ref 'VM-FAR' is also held by 'far'"
    table = run_here(here, "upcoming", "--format", "table")
    assert "VM-FAR" not in table.out
    assert "2 expire, 0 of them held, 1 invalid: reported, and not released" in table.out
    assert "VM-FAR" in run_here(here, "upcoming", "--rows", "--format", "table").out
    assert said in run_here(here, "upcoming").out
    found = checked(run_here(here, "upcoming", "--format", "json"), "upcoming")
    assert [row["note"] for row in found["rows"]] == [said, None]
    assert found["counts"]["invalid"] == 1


def test_upcoming_of_a_held_row_and_of_another_window(here: Place) -> None:
    assert run_here(here, "hold", "far", "--reason", "because").code == 0
    assert len(checked(run_here(here, "upcoming", "--within", "1h", "--format", "json"), "upcoming")["rows"]) == 0
    found = checked(run_here(here, "upcoming", "--within", "31d", "--format", "json"), "upcoming")
    assert {row["sid"]: row["note"] for row in found["rows"]} == {"a": None, "b": None, "far": "held"}
    assert found["counts"] == {"expire": 3, "held": 1, "invalid": 0}


@pytest.mark.parametrize("within", ["3", "soon", "-1h", "367d", "99999d"])
def test_a_window_that_is_none(within: str, here: Place) -> None:
    ran = run_here(here, "upcoming", f"--within={within}")
    assert (ran.code, ran.out) == (2, "")
    assert len(ran.err.splitlines()) == 1


def test_upcoming_needs_no_memory_of_the_table(here: Place) -> None:
    """Its plan waits in a file: ten thousand times the rows take little more memory."""

    def peak_kib() -> int:
        ran, kib = run_measured(here, "upcoming", "--format", "json")
        assert ran.code == 0
        return kib

    few = peak_kib()
    with closing(sqlite3.connect(here.ledger)) as connection, connection:
        connection.execute(
            "INSERT INTO vm_allocations (sid, status, expires_at) WITH RECURSIVE n (i) AS "
            "(SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) SELECT 'n' || i, 'Active', ? FROM n",
            (NOW + 2 * HOUR,),
        )
    assert peak_kib() < few + 16 * 1024


# --- explain ----------------------------------------------------------------------------------------------------------


def test_explain_shows_its_sections(here: Place) -> None:
    before = footprint(here.folder)
    ran = run_here(here, "explain", "b")
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[0].startswith("b, at 20")
    assert [line for line in lines if line and line[0].isupper()] == [
        "The ledger",
        "The rule",
        "The VM",
        "The journal",
        "A tick now",
        "Events",
    ]
    assert "  vm_ref      'vm\\tb' (text)" in lines
    assert any(line.startswith("  would      do nothing: it has not expired") for line in lines)
    assert footprint(here.folder) == before


@pytest.mark.parametrize("sid", ["nobody", "", "\udcff"])
def test_explain_of_a_sid_that_nobody_knows(sid: str, here: Place) -> None:
    ran = run_here(here, "explain", sid)
    assert (ran.code, ran.out) == (2, "")
    assert len(ran.err.splitlines()) == 1


def test_explain_without_a_journal_says_so(here: Place) -> None:
    here.journal.unlink()
    ran = run_here(here, "explain", "due")
    assert ran.code == 0
    assert "no journal yet" in ran.err
    assert not here.journal.exists()


INDEXED = """
CREATE TABLE vm_allocations (sid TEXT NOT NULL, owner TEXT, plan TEXT, provisioner TEXT, vm_ref TEXT, vm_uid TEXT,
    status TEXT, expires_at INTEGER, released_at INTEGER)
"""
HIDDEN = "INSERT INTO vm_allocations (sid, status, expires_at) VALUES ('hidden', 'Active', 1700000000)"
MANY = """
WITH RECURSIVE counted (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM counted WHERE n < 20001)
INSERT INTO vm_allocations (sid, status, expires_at) SELECT 'many-' || n, 'Active', 4000000000 FROM counted
"""


def hide_one(here: Place) -> None:
    """A row that is in the table, and not in the index by which a sid is looked up."""
    here.ledger.unlink()
    here.make_ledger([allocation("seen", NOW + DAY)], table=INDEXED)
    here.execute("CREATE UNIQUE INDEX by_sid ON vm_allocations (sid)")
    write_behind_the_index(here.ledger, "by_sid", lambda connection: connection.execute(HIDDEN))


@pytest.mark.parametrize("sid", ["hidden", "seen"])
def test_nothing_is_explained_by_an_index_that_hides_rows(here: Place, sid: str) -> None:
    hide_one(here)
    ran = run_here(here, "explain", sid)
    assert (ran.code, ran.out) == (5, "")
    for part in (str(here.ledger), "the index by_sid", "1 row (hidden)", 'REINDEX "by_sid";'):
        assert part in ran.err
    here.execute("REINDEX by_sid")
    mended = run_here(here, "explain", sid)
    assert (mended.code, f"'{sid}' (text)" in mended.out) == (0, True), mended


def test_of_a_large_ledger_the_last_audit_says_that_an_index_hides_rows(here: Place) -> None:
    hide_one(here)
    here.execute(MANY)
    assert run_here(here, "tick", "--once").code == 5
    unknown = run_here(here, "explain", "nobody")
    assert (unknown.code, "no allocation 'nobody' is in the ledger" in unknown.err) == (2, True), unknown
    seen = run_here(here, "explain", "seen")
    assert seen.code == 0
    for ran in (unknown, seen):
        assert "the index by_sid" in ran.err
        assert "the ledger was not looked at just now; its last audit ended at" in ran.err


# --- health -----------------------------------------------------------------------------------------------------------


def test_health_before_and_after_a_tick(here: Place) -> None:
    before = run_here(here, "health")
    assert before.code == 9
    assert before.out.startswith("stale: no tick has run through in the last 2.0 h: none ever has. Do: ")
    assert checked(run_here(here, "health", "--format", "json"), "health", 9)["newest_tick"] is None
    assert run_here(here, "tick", "--once").code == 0
    after = run_here(here, "health")
    assert after.code == 0
    assert after.out.startswith("healthy: ")
    assert after.out.count("\n") == 1
    found = checked(run_here(here, "health", "--format", "json"), "health")
    assert found["newest_tick"] == found["swept_tick"]
    assert run_here(here, "health", "--max-age", "0s").code == 9


@pytest.mark.parametrize("option", ["--max-age", "--max-overdue"])
def test_health_with_a_limit_that_is_none(option: str, here: Place) -> None:
    ran = run_here(here, "health", option, "2")
    assert (ran.code, ran.out) == (2, "")


def test_health_without_a_journal_or_with_a_broken_one(here: Place) -> None:
    here.journal.unlink()
    missing = run_here(here, "health")
    assert missing.code == 9
    assert missing.out.startswith("journal: ")
    assert "The journal is lost" in missing.out
    assert not here.journal.exists()
    here.journal.write_text("dear diary")
    found = checked(run_here(here, "health", "--format", "json"), "health", 9)
    [problem] = found["problems"]
    assert problem["code"] == "journal"
    # It is there: whoever makes another one loses what is in it.
    assert "Exit 5" in problem["remedy"]


def test_health_asks_the_journal_alone(here: Place) -> None:
    assert run_here(here, "tick", "--once").code == 0
    here.ledger.unlink()
    assert run_here(here, "health").code == 0


# --- doctor -----------------------------------------------------------------------------------------------------------


def test_the_formats_of_the_doctor_say_the_same(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(here.folder))
    assert run_here(here, "tick", "--once").code == 0
    before = footprint(here.folder)
    found = checked(run_here(here, "doctor", "--format", "json"), "doctor")
    assert footprint(here.folder) == before
    header, *lines = [line.split("\t") for line in run_here(here, "doctor").out.splitlines()]
    assert header == ["state", "check", "message", "remedy"]
    names = [check["check"] for check in found["checks"]] + ["setting"] * len(found["settings"])
    assert [line[1] for line in lines] == names
    assert f'config = "{here.config}" (flag)' in [line[2] for line in lines]
    assert "configuration" in run_here(here, "doctor", "--format", "table").out


def test_the_doctor_shows_first_what_fails_and_of_the_settings_those_that_are_written_down(here: Place) -> None:
    here.journal.unlink()
    found = checked(run_here(here, "doctor", "--format", "json"), "doctor", 9)
    states = [check["state"] for check in found["checks"]]
    assert states == sorted(states, key=["fail", "warn", "ok"].index)
    assert states[0] == "fail"
    assert {each["key"] for each in found["settings"]} == {
        "config",
        "ledger.url",
        "provisioners.default.kind",
        "guard.max_percent",
    }
    every = checked(run_here(here, "doctor", "--settings", "--format", "json"), "doctor", 9)
    assert {each["from"] for each in every["settings"]} == {"flag", "file", "default"}
    assert "release.deadline" in {each["key"] for each in every["settings"]}
    plain = run_here(here, "doctor", "--settings").out
    assert 'ok\tsetting\trelease.deadline = "45m" (default)\t' in plain.splitlines()


def test_the_doctor_looks_for_damage_when_it_is_told_to(here: Place) -> None:
    found = checked(run_here(here, "doctor", "--format", "json"), "doctor")
    assert not [check for check in found["checks"] if "integrity" in check["check"]]
    found = checked(run_here(here, "doctor", "--deep", "--format", "json"), "doctor")
    assert {check["check"]: check["state"] for check in found["checks"] if "integrity" in check["check"]} == {
        "integrity of the ledger": "ok",
        "integrity of the journal": "ok",
    }


def test_the_doctor_of_one_provisioner(here: Place) -> None:
    here.configure(LEDGER_PROVISIONER, '[provisioners.other]\nkind = "command"\nargv = ["/no/such"]\ntoken = "a"\n')
    found = checked(run_here(here, "doctor", "--provisioner", "default", "--format", "json"), "doctor")
    assert [check["check"] for check in found["checks"]] == ["options", "preflight", "known by", "provisioner default"]
    assert [each["key"] for each in found["settings"]] == ["provisioners.default.kind"]
    # What is wrong with one is nothing to the other.
    found = checked(run_here(here, "doctor", "--provisioner", "other", "--format", "json"), "doctor", 9)
    assert (found["checks"][0]["check"], found["checks"][0]["state"]) == ("options", "fail")
    ran = run_here(here, "doctor", "--provisioner", "othr")
    assert (ran.code, ran.out) == (2, "")
    assert "has no section [provisioners.othr]; those it has: default, other" in ran.err
    ran = run_here(here, "doctor", "--provisioner", "other", "--deep")
    assert (ran.code, ran.out) == (2, "")


def test_the_doctor_fails_with_9(here: Place) -> None:
    here.ledger.unlink()
    found = checked(run_here(here, "doctor", "--format", "json"), "doctor", 9)
    assert {check["state"] for check in found["checks"] if check["check"] == "ledger"} == {"fail"}


def test_the_doctor_of_a_configuration_that_cannot_be_used(here: Place) -> None:
    here.config.write_text("[ledger\n", encoding="utf-8")
    found = checked(run_here(here, "doctor", "--format", "json"), "doctor", 9)
    assert found["settings"] == []
    assert (found["checks"][0]["check"], found["checks"][0]["state"]) == ("configuration", "fail")


def test_the_doctor_tells_flag_and_environment_apart(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def origins(*options: str) -> dict[str, str]:
        found = run_here(here, *options, "doctor", "--format", "json").out
        return {each["key"]: each["from"] for each in json.loads(found)["settings"]}

    url = f"sqlite:///{here.ledger}"
    assert origins()["ledger.url"] == "file"
    assert origins("--ledger", url)["ledger.url"] == "flag"
    monkeypatch.setenv("AUTORELEASE_LEDGER", url)
    assert origins()["ledger.url"] == "environment"
