"""Whether the sweep is alive, as the journal alone tells: a real one, left behind by real ticks."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from autorelease.errors import ProvisionerDown, ProvisionerError
from autorelease.inspect.health import Health, health_object, judge, lines
from autorelease.journal import TickKind
from autorelease.journal.sqlite import SQLiteJournal
from autorelease.model import Release, Result
from tests.e2e.reports import schema
from tests.support.engine import EXPIRED, Engine, Scripted

HOURS = timedelta(hours=1)
MINUTES = timedelta(minutes=1)
MISS = Release(Result.ALREADY_RELEASED, evidence="404", proof=False)


class Patient(Engine):
    """An engine whose health is asked for as a user would who may only read the journal."""

    def health(self, *, max_age: timedelta = 2 * HOURS, max_overdue: timedelta = 2 * HOURS) -> Health:
        """The health at the present time."""
        journal = SQLiteJournal(self.place.journal, read_only=True)
        try:
            found = judge(journal, self.now, max_age=max_age, max_overdue=max_overdue)
        finally:
            journal.close()
        schema("health").validate(health_object(found, self.now))
        # One line for each; each with its code first, and a remedy.
        printed = [line for line in lines(found, self.now) if not line.startswith("paused: ")]
        assert [line.split(":")[0] for line in printed] == (codes(found) or ["healthy"])
        assert all(problem.remedy for problem in found.problems)
        return found


def codes(health: Health) -> list[str]:
    """What is wrong."""
    return [problem.code for problem in health.problems]


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    """A ledger without rows and a journal without ticks."""
    return Patient(tmp_path)


def failing(sid: str, times: int = 99) -> Scripted:
    """A provisioner that cannot release this one."""
    return Scripted({sid: [ProvisionerError("broken")] * times})


def test_a_sweep_that_ran_through_is_healthy(patient: Patient) -> None:
    patient.add("a")
    patient.tick(Scripted())
    patient.later(119 * MINUTES)
    found = patient.health()
    assert codes(found) == []
    [line] = lines(found, patient.now)
    assert line == "healthy: the last tick ran through, and ended at 2026-12-01T12:00:00Z"


def test_what_a_tick_has_released_is_not_overdue_any_more(patient: Patient) -> None:
    patient.add("old", expires_at=EXPIRED - 86_400)
    assert patient.tick(Scripted()).report.oldest_overdue_seconds > 86_400
    patient.later(30 * MINUTES)
    found = patient.health()
    assert (codes(found), found.overdue) == ([], 30 * MINUTES)


def test_a_journal_without_a_tick(patient: Patient) -> None:
    found = patient.health()
    assert codes(found) == ["stale"]
    assert "none ever has" in found.problems[0].message
    assert found.overdue is None


def test_no_tick_within_the_limit(patient: Patient) -> None:
    patient.tick(Scripted())
    patient.later(2 * HOURS + MINUTES)
    found = patient.health()
    assert codes(found) == ["stale", "overdue"]
    assert "ended at 2026-12-01T12:00:00Z" in found.problems[0].message
    assert "systemctl list-timers" in found.problems[0].remedy
    assert codes(patient.health(max_age=3 * HOURS)) == ["overdue"]
    assert codes(patient.health(max_age=3 * HOURS, max_overdue=3 * HOURS)) == []


def test_a_tick_with_errors_has_run_through(patient: Patient) -> None:
    patient.add("a")
    assert patient.tick(failing("a")).code == 3
    assert codes(patient.health()) == []


def test_ticks_that_do_not_run_through_are_none(patient: Patient) -> None:
    patient.tick(Scripted())
    patient.add("a")
    for _ in range(3):
        patient.later()
        assert patient.tick(Scripted({"a": [ProvisionerDown("no route")] * 9})).code == 8
    found = patient.health()
    assert codes(found) == ["stale", "overdue"]
    assert "exit code 8" in found.problems[0].message
    assert "Exit 8" in found.problems[0].remedy


def test_what_is_left_behind_is_overdue_and_grows_older(patient: Patient) -> None:
    patient.add("a", expires_at=EXPIRED - 1800)
    patient.tick(failing("a"))
    assert patient.health().overdue == 90 * MINUTES
    patient.later(31 * MINUTES)
    found = patient.health()
    assert (codes(found), found.overdue) == (["overdue"], 121 * MINUTES)
    assert "list-expired" in found.problems[0].remedy


def test_what_no_provisioner_serves_is_left_behind_too(patient: Patient) -> None:
    patient.add("a", provisioner="nowhere", expires_at=EXPIRED - 86_400)
    assert patient.tick(Scripted()).code == 8
    assert "overdue" in codes(patient.health())


def test_what_is_held_is_not_overdue(patient: Patient) -> None:
    patient.add("a", expires_at=EXPIRED - 86_400)
    patient.hold("a")
    patient.tick(Scripted())
    assert codes(patient.health()) == []


def test_a_pause_is_a_line_and_no_problem(patient: Patient) -> None:
    patient.add("a", expires_at=EXPIRED - 86_400)
    patient.tick(failing("a"))
    assert codes(patient.health()) == ["overdue"]
    # Also before the next tick: nobody expects that anything is released now.
    patient.hold("", patient.now + 3 * HOURS)
    found = patient.health()
    assert (codes(found), found.overdue) == ([], timedelta(0))
    assert [line.partition(": ")[0] for line in lines(found, patient.now)] == ["paused", "healthy"]
    [pause, _] = lines(found, patient.now)
    assert "by tests, until 2026-12-01T15:00:00Z: because" in pause
    assert (paused := health_object(found, patient.now)["paused"]) is not None
    assert (paused["by"], paused["until"], paused["reason"]) == ("tests", "2026-12-01T15:00:00Z", "because")
    patient.later()
    patient.tick(Scripted())
    assert codes(patient.health()) == []
    patient.later(3 * HOURS)
    assert patient.health().paused is None
    assert codes(patient.health()) == ["stale", "overdue"]


def test_a_pause_hides_no_sweep_that_has_died(patient: Patient) -> None:
    patient.tick(Scripted())
    patient.hold("", patient.now + 9 * HOURS)
    patient.later(3 * HOURS)
    assert codes(patient.health()) == ["stale"]


def test_a_pause_of_one_provisioner_or_sid_is_none(patient: Patient) -> None:
    patient.tick(Scripted())
    patient.hold("", provisioner="default")
    patient.hold("a")
    assert patient.health().paused is None


def test_what_is_held_is_not_in_quarantine(patient: Patient) -> None:
    patient.configure(quarantine_after=1)
    patient.add("a")
    patient.tick(failing("a"))
    patient.hold("a")
    patient.tick(Scripted())
    assert codes(patient.health()) == []


def test_quarantine(patient: Patient) -> None:
    patient.configure(quarantine_after=1)
    patient.add("a")
    patient.tick(failing("a"))
    found = patient.health()
    assert (codes(found), found.quarantined) == (["quarantined"], 1)


def test_a_conflict_until_it_is_acknowledged(patient: Patient) -> None:
    patient.add("a")
    patient.begin_and_lose("a")
    patient.renew("a")
    patient.tick(Scripted())
    found = patient.health()
    assert (codes(found), found.conflicts) == (["conflict"], 1)
    journal = patient.open_journal()
    journal.acknowledge(list(journal.open_intents()), patient.now, "tests")
    journal.close()
    assert codes(patient.health()) == []


def test_an_open_intent_alone_is_no_conflict(patient: Patient) -> None:
    patient.tick(Scripted())
    patient.begin_and_lose("a")
    assert codes(patient.health()) == []


def test_answers_that_are_not_believed(patient: Patient) -> None:
    patient.add("a", "b")
    assert patient.tick(Scripted({"a": [MISS], "b": [MISS]})).code == 8
    found = patient.health()
    assert (codes(found), found.unproven) == (["stale", "unproven"], 2)


def test_the_guard_refuses(patient: Patient) -> None:
    patient.tick(Scripted())
    patient.add("a")
    patient.limits = type(patient.limits)(max_releases=0, max_percent=100, min_fleet=20)
    assert patient.tick(Scripted()).code == 7
    found = patient.health()
    assert codes(found) == ["refused"]
    assert "max_releases: 1 first releases are planned" in found.problems[0].message
    assert "Exit 7" in found.problems[0].remedy


def test_a_tick_past_its_deadline(patient: Patient) -> None:
    patient.tick(Scripted())
    journal = patient.open_journal()
    journal.open_tick(patient.start())
    journal.close()
    patient.later(55 * MINUTES)
    assert codes(patient.health()) == []
    patient.later(timedelta(seconds=1))
    found = patient.health()
    assert codes(found) == ["hanging"]
    assert "tick-2 (pid 1 on here)" in found.problems[0].message


def test_a_tick_of_the_future(patient: Patient) -> None:
    patient.tick(Scripted())
    patient.later(-5 * MINUTES)
    assert codes(patient.health()) == []
    patient.later(-MINUTES)
    found = patient.health()
    assert codes(found) == ["clock"]
    assert found.overdue == timedelta(0)


def test_an_operators_release_is_no_sign_of_life(patient: Patient) -> None:
    journal = patient.open_journal()
    start = replace(patient.start(), kind=TickKind.RELEASE)
    journal.open_tick(start)
    journal.close_tick(start.tick, patient.now, {"status": "success", "exit_code": 0})
    journal.close()
    assert codes(patient.health()) == ["stale"]


def test_a_journal_that_breaks_under_the_question_is_a_problem(patient: Patient) -> None:
    patient.tick(Scripted())
    journal = SQLiteJournal(patient.place.journal, read_only=True)
    patient.place.journal.write_bytes(b"no database" * 1000)
    found: Any = judge(journal, patient.now, max_age=HOURS, max_overdue=HOURS)
    journal.close()
    assert codes(found) == ["journal"]
