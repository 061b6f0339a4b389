"""The first tick after an upgrade: what the landed program left in its journal is there still, and means the same."""

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from autorelease.inspect.health import judge
from autorelease.journal.schema import APPLICATION_ID
from autorelease.journal.schema import VERSION as PRESENT
from autorelease.journal.sqlite import SQLiteJournal, lock_path
from autorelease.sweep.edge.lock import locked
from autorelease.sweep.report import tick_object
from tests.e2e.reports import tick_report
from tests.support.engine import Scripted
from tests.support.landed import (
    DUE,
    HELD,
    NOW,
    OLD_TABLES,
    REFUSED_COUNT,
    SECTIONS,
    VERSION,
    calls,
    landed_engine,
    landed_place,
    old_rows,
    run_at_now,
    upgrade,
)
from tests.support.place import Place, command_provisioner
from tests.support.tools import tool

Rows = Mapping[str, Sequence[Mapping[str, Any]]]
TICK = ("tick", "--once", "--json")


@pytest.fixture
def landed(tmp_path: Path) -> Place:
    """As the landed program left it."""
    return landed_place(tmp_path)


def copy_of(place: Place, end: str = "") -> Path:
    """Where the copy of its journal is."""
    return place.journal.with_name(f"{place.journal.name}.v{VERSION}{end}")


def version_in(path: Path) -> int:
    """The version of a journal's tables."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        [(version,)] = connection.execute("PRAGMA user_version").fetchall()
        [(identity,)] = connection.execute("PRAGMA application_id").fetchall()
        [(state,)] = connection.execute("PRAGMA integrity_check").fetchall()
    assert (identity, state) == (APPLICATION_ID, "ok")
    return int(version)


def check_nothing_is_lost(before: Rows, after: Rows) -> None:
    """Every row of before is there with every value that it had; what came later comes behind it."""
    for table in OLD_TABLES:
        kept = [
            {name: new[name] for name in old}
            for old, new in zip(before[table], after[table][: len(before[table])], strict=True)
        ]
        assert kept == before[table], table


def files(place: Place) -> set[str]:
    """The names of all that is in its folder."""
    return {path.name for path in place.folder.iterdir()}


def check_untouched(place: Place, before: bytes, names: set[str]) -> None:
    """Its journal is what it was, nothing was copied, and nothing was released."""
    assert place.journal.read_bytes() == before
    assert files(place) - {lock_path(place.journal).name} == names - {lock_path(place.journal).name}
    assert calls(place) == set()


# --- who brings it up to date -----------------------------------------------------------------------------------------


def test_a_tick_copies_the_journal_and_then_takes_the_steps(landed: Place) -> None:
    before, names = old_rows(landed.journal), files(landed)
    ran = run_at_now(landed, *TICK)
    tick_report(ran, 7)
    assert str(copy_of(landed)) in ran.err
    assert (version_in(copy_of(landed)), version_in(landed.journal)) == (VERSION, PRESENT)
    assert copy_of(landed).stat().st_mode & 0o777 == 0o640
    assert old_rows(copy_of(landed)) == before
    check_nothing_is_lost(before, old_rows(landed.journal))
    # The rollback journal, which stays as an empty file, and the lock are beside every journal.
    assert files(landed) - names == {"journal.db.v2", "journal.db.lock", "journal.db-journal"}


def test_init_does_it_too_and_releases_nothing(landed: Place) -> None:
    before = old_rows(landed.journal)
    ran = landed.run("init")
    assert ran.code == 0
    assert str(copy_of(landed)) in ran.out
    assert (version_in(copy_of(landed)), version_in(landed.journal)) == (VERSION, PRESENT)
    assert copy_of(landed).stat().st_mode & 0o777 == 0o640
    after = old_rows(landed.journal)
    check_nothing_is_lost(before, after)
    assert {table: len(rows) for table, rows in after.items()} == {table: len(rows) for table, rows in before.items()}
    assert calls(landed) == set()
    again = landed.run("init")
    assert again.code == 2
    assert "overwrites nothing" in again.err


@pytest.mark.parametrize("arguments", [TICK, ("init",)], ids=["tick", "init"])
def test_while_another_tick_has_the_lock_nobody_does(landed: Place, arguments: Sequence[str]) -> None:
    before, names = landed.journal.read_bytes(), files(landed)
    with locked(lock_path(landed.journal)) as is_ours:
        assert is_ours
        # What is due does not matter, and so no other clock is needed.
        ran = landed.run(*arguments)
    assert ran.code == 6
    check_untouched(landed, before, names)


LOOKING = {
    "list-expired": (("list-expired", "--all"), 5),
    "a dry run": (("tick", "--once", "--dry-run"), 5),
    "history": (("history",), 5),
    "upcoming": (("upcoming",), 5),
    "explain": (("explain", "held"), 5),
    "holds": (("holds",), 5),
    "health": (("health",), 9),
    "doctor": (("doctor",), 9),
}
ACTING = {
    "hold": (("hold", "due-1", "--reason", "because"), 5),
    "the red button": (("hold", "--all", "--until", "+12h", "--reason", "because"), 5),
    "unhold": (("unhold", "held"), 5),
    "retry": (("retry", "quarantined"), 5),
    "retry of all": (("retry", "--all"), 5),
    "release": (("release", "due-1", "--yes"), 5),
}


@pytest.mark.parametrize("name", [*LOOKING, *ACTING])
def test_all_others_leave_it_alone_and_name_who_does(landed: Place, name: str) -> None:
    before, names = landed.journal.read_bytes(), files(landed)
    arguments, code = {**LOOKING, **ACTING}[name]
    ran = landed.run(*arguments)
    assert ran.code == code
    assert "is of an older version: the next tick brings it up to date" in ran.out + ran.err
    assert "autorelease init" in ran.out + ran.err
    check_untouched(landed, before, names)


# --- the copy ---------------------------------------------------------------------------------------------------------


def test_an_earlier_copy_keeps_its_name(landed: Place) -> None:
    copy_of(landed).write_text("of last year", encoding="utf-8")
    copy_of(landed, ".1").symlink_to("nowhere")
    assert landed.run("init").code == 0
    assert copy_of(landed).read_text(encoding="utf-8") == "of last year"
    assert copy_of(landed, ".1").is_symlink()
    assert version_in(copy_of(landed, ".2")) == VERSION


def test_a_copy_that_was_never_finished_is_no_hindrance(landed: Place) -> None:
    unfinished = copy_of(landed, ".unfinished")
    unfinished.write_text("half of it", encoding="utf-8")
    assert landed.run("init").code == 0
    assert not unfinished.exists()
    assert version_in(copy_of(landed)) == VERSION


@pytest.mark.parametrize("arguments", [TICK, ("init",)], ids=["tick", "init"])
def test_without_room_for_the_copy_nothing_is_changed(landed: Place, arguments: Sequence[str]) -> None:
    before, names = landed.journal.read_bytes(), files(landed)
    size = len(before) // 2
    ran = run_at_now(landed, *arguments, before=[tool("prlimit", "util-linux"), f"--fsize={size}"])
    assert ran.code == 5
    assert "Make room" in ran.err
    check_untouched(landed, before, names)
    assert run_at_now(landed, *arguments).code in (0, 7)


def test_the_copy_can_be_put_back(landed: Place) -> None:
    """The way back, as docs/upgrade.md has it; the program of then finds what it left."""
    before = old_rows(landed.journal)
    assert landed.run("init").code == 0
    copy_of(landed).replace(landed.journal)
    assert version_in(landed.journal) == VERSION
    assert old_rows(landed.journal) == before


# --- what it means afterwards -----------------------------------------------------------------------------------------


def test_every_state_means_what_it_meant(landed: Place) -> None:
    """The guard admits so many now: all that may be released is, and nothing else."""
    landed.configure(
        SECTIONS.replace("max_releases = 5", "max_releases = 10"),
        command_provisioner([landed.folder / "release-vm", "{vm_ref}"]),
    )
    report = tick_report(run_at_now(landed, *TICK), 3)
    assert report["rows_released"] == len(DUE) + 1
    assert calls(landed) == {f"vm-{sid}" for sid in (*DUE, "begun")}
    assert {reason: count for reason, count in report["skipped"].items() if count} == {
        "held": len(HELD),
        "backoff": 1,
        "resurrected": 1,
    }
    assert [(error["sid"], error["code"]) for error in report["errors"]] == [("conflict", "conflict")]
    assert report["rows_quarantined"] == 1


def test_each_sid_ends_as_it_would_have_before(landed: Place) -> None:
    upgrade(landed)
    engine = landed_engine(landed)
    engine.limits = type(engine.limits)(max_releases=10, max_percent=50, min_fleet=20)
    assert engine.tick(Scripted()).ends() == {
        **dict.fromkeys((*DUE, "begun"), "released"),
        **dict.fromkeys(HELD, "held"),
        "quarantined": "backoff",
        "returned": "resurrected",
        "conflict": "conflict",
    }


def test_a_refused_tick_repeats_nothing_and_forgets_nothing(landed: Place) -> None:
    upgrade(landed)
    engine = landed_engine(landed)
    ticked = engine.tick(Scripted())
    assert [refusal["code"] for refusal in tick_object(ticked.report)["refused"]] == ["max_releases"]
    assert engine.open_intents() == {"begun", "conflict"}


def test_its_health_names_the_conflict_and_the_quarantine(landed: Place) -> None:
    upgrade(landed)
    journal = SQLiteJournal(landed.journal, read_only=True)
    health = judge(journal, NOW, max_age=timedelta(hours=2), max_overdue=timedelta(hours=2))
    journal.close()
    assert (health.conflicts, health.quarantined) == (1, 1)
    assert {problem.code for problem in health.problems} >= {"conflict", "refused"}


def test_the_conflict_can_be_acknowledged(landed: Place) -> None:
    upgrade(landed)
    engine = landed_engine(landed)
    engine.retry("conflict")
    assert engine.open_intents() == {"begun"}
    assert "conflict" not in engine.tick(Scripted()).ends()


def test_a_refusal_of_before_is_not_confirmed_by_its_number(landed: Place) -> None:
    """It did not write down whom it had planned: the same number may be of others."""
    ran = run_at_now(landed, *TICK, "--confirm", str(REFUSED_COUNT))
    report = tick_report(ran, 7)
    assert "confirm" in [refusal["code"] for refusal in report["refused"]]
    assert "look again" in ran.err.lower()
    assert report["rows_released"] == 0
    assert calls(landed) == set()


def test_the_refusal_of_the_tick_after_it_can_be_confirmed(landed: Place) -> None:
    tick_report(run_at_now(landed, *TICK), 7)
    ran = run_at_now(landed, *TICK, "--confirm", str(REFUSED_COUNT), later=timedelta(minutes=5))
    report = tick_report(ran, 3)
    assert report["rows_released"] == len(DUE) + 1
    assert calls(landed) == {f"vm-{sid}" for sid in (*DUE, "begun")}


def test_the_holds_of_before_are_listed_and_the_red_button_works(landed: Place) -> None:
    """Nobody wrote down what they were made for: there is nothing to differ from."""
    assert landed.run("init").code == 0
    listed = run_at_now(landed, "holds", "--format", "json").json()["holds"]
    assert {(hold["scope"], hold["subject"], hold["mark"]) for hold in listed} == {("sid", sid, None) for sid in HELD}
    ran = run_at_now(landed, "hold", "--all", "--until", "+12h", "--reason", "because")
    assert ran.code == 0
    assert tick_report(run_at_now(landed, *TICK), 3)["rows_released"] == 0
    assert calls(landed) == set()
