"""A clock that is set while the sweep is in use: between two ticks, and while one runs."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest

from tests.e2e.reports import tick_report
from tests.faults.clocks import Steered, off_by
from tests.faults.underway import SIDS, Underway
from tests.support.here import run_here
from tests.support.place import DAY, HOUR, NOW, Place, allocation

DUE = ("due-1", "due-2")
REBOOTED = ("env", f"AUTORELEASE_BOOT_ID={'c' * 32}")


@dataclass(frozen=True, slots=True)
class Wrong:
    """A clock that is not what it should be. words: what else is another then. due: what would be due by it."""

    offset: str
    codes: Sequence[str]
    due: Sequence[str] = DUE
    words: Sequence[str] = ()

    def before(self) -> list[str]:
        """What to start a command with, so that it has this clock."""
        return [*self.words, *off_by(self.offset)]


CLOCKS: Mapping[str, Wrong] = {
    "set back": Wrong("-2h", ["clock_backwards"]),
    "set forward": Wrong("+3h", ["clock_stepped"], due=(*DUE, "soon")),
    "set far forward": Wrong("+30d", ["clock_gap", "clock_stepped"], due=(*DUE, "soon", "later")),
    "far ahead after a reboot": Wrong("+30d", ["clock_gap"], due=(*DUE, "soon", "later"), words=REBOOTED),
}


def after_a_tick(place: Place) -> Underway:
    """A ledger after its first tick, with rows that are due, that come due, and one that is held."""
    tick = Underway(place)
    tick.prepare()
    tick.go_on()
    assert tick_report(run_here(place, "tick", "--once", "--json"), 0)["rows_released"] == len(SIDS)
    place.insert(allocation(sid, NOW - 3 * DAY + number) for number, sid in enumerate((*DUE, "held")))
    place.insert([allocation("soon", NOW + HOUR), allocation("later", NOW + 10 * DAY)])
    assert run_here(place, "hold", "held", "--reason", "an operator's wish").code == 0
    return tick


def refuse(tick: Underway, wrong: Wrong) -> None:
    """A tick under a wrong clock touches nothing."""
    ledger, calls = _digest(tick.place), tick.calls()
    tick.before = wrong.before()
    report = tick_report(tick.run(), 7)
    assert [refusal["code"] for refusal in report["refused"]] == wrong.codes
    assert (report["skipped"]["refused"], report["skipped"]["held"]) == (len(wrong.due), 1)
    assert (_digest(tick.place), tick.calls(), tick.begun()) == (ledger, calls, set())


def _digest(place: Place) -> str:
    return hashlib.sha256(place.ledger.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", CLOCKS)
def test_under_a_wrong_clock_nothing_is_touched_and_a_right_one_needs_no_word(place: Place, name: str) -> None:
    tick = after_a_tick(place)
    # What is refused is refused again, and no tick that was refused is one to compare with.
    for _ in range(2):
        refuse(tick, CLOCKS[name])
    tick.before = ()
    assert tick_report(tick.run(), 0)["rows_released"] == len(DUE)
    tick.check_books([*SIDS, *DUE])
    assert tick_report(run_here(place, "tick", "--once", "--json"), 0)["rows_expired"] == 1
    tick.check_books([*SIDS, *DUE])


@pytest.mark.parametrize("name", ["set back", "set forward"])
def test_who_says_that_a_clock_is_right_is_believed(place: Place, name: str) -> None:
    """And from then on it is this clock that others are compared with."""
    tick, wrong = after_a_tick(place), CLOCKS[name]
    refuse(tick, wrong)
    ran = tick.run("tick", "--once", "--json", "--confirm", str(len(wrong.due)))
    assert tick_report(ran, 0)["rows_released"] == len(wrong.due)
    place.insert([allocation("another", NOW - 3 * DAY)])
    refuse(tick, Wrong("+0", ["clock_stepped" if name == "set back" else "clock_backwards"], due=["another"]))
    tick.before = wrong.before()
    assert tick_report(tick.run(), 0)["rows_released"] == 1
    tick.check_books([*SIDS, *wrong.due, "another"])


@pytest.mark.parametrize("offset", ["+30d", "-30d"])
def test_a_clock_that_is_set_while_a_tick_runs_changes_nothing_of_it(place: Place, offset: str) -> None:
    """What is due was decided by the instant at which it began; time-outs and the deadline are of another clock."""
    clock = Steered(place.folder / "clock")
    clock.set_off_by("+0")
    tick = Underway(place, clock.words())
    tick.prepare()
    place.insert([allocation("soon", NOW + HOUR), allocation("later", NOW + 10 * DAY)])
    tick.start_and_stop_in_the_first_call()
    clock.set_off_by(offset)
    tick.go_on()
    report = tick_report(tick.finish(), 0)
    assert (report["rows_released"], report["stopped_by"]) == (len(SIDS), None)
    # The clock was another indeed, by which the end is dated.
    began, ended = (datetime.fromisoformat(report[name]) for name in ("now", "finished_at"))
    assert abs(ended - began) > timedelta(days=29)
    tick.check_books(SIDS)
    clock.set_off_by("+0")
    report = tick_report(tick.run(), 0)
    assert (report["rows_expired"], report["refused"]) == (0, [])
    tick.check_books(SIDS)
