"""What expires next, and the first tick that the guard will refuse: over real ledgers and journals."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from autorelease.deciding.decide import decide
from autorelease.errors import ProvisionerError
from autorelease.inspect.upcoming import Outlook, Upcoming, Window, full_hour, look_ahead, upcoming
from autorelease.model import RawRow
from autorelease.rules import guard
from tests.support.engine import NOW, RENEWED, Engine, Scripted

HOUR = timedelta(hours=1)
MIDNIGHT = datetime(2026, 12, 2, tzinfo=UTC)


class Seer(Engine):
    """Looks ahead as the command does."""

    def add_at(self, instant: datetime, *sids: str) -> None:
        """Live rows that all end at this instant."""
        self.place.insert({"sid": sid, "status": "Active", "expires_at": int(instant.timestamp())} for sid in sids)

    def seen(
        self, within: timedelta = 72 * HOUR, moment: guard.Moment | None = None
    ) -> tuple[Sequence[Upcoming], Outlook]:
        """The rows and the numbers."""
        here = moment or guard.Moment(self.now)
        window = Window(self.now, self.now + within, self.grace, self.hold_grace)
        ledger, journal = self.open_ledger(read_only=True), self.open_journal()
        decision = decide(
            replace(self.judge(ledger, journal), now=window.last_tick),
            replace(here, now=window.last_tick),
            self.limits,
            is_hypothetical=True,
        )
        ledger.close()
        journal.close()
        found = list(upcoming(decision, window)), look_ahead(decision, window, here, self.limits)
        decision.spool.close()
        return found

    def refusal(
        self, within: timedelta = 72 * HOUR, moment: guard.Moment | None = None
    ) -> tuple[datetime | None, list[str]]:
        """When and why the guard refuses first."""
        _, outlook = self.seen(within, moment)
        return outlook.refuses_at, [reason.code for reason in outlook.refusals]


@pytest.fixture
def seer(tmp_path: Path) -> Seer:
    """One whose journal has seen a tick."""
    made = Seer(tmp_path)
    made.tick(Scripted())
    return made


def sids(rows: Sequence[Upcoming]) -> list[str]:
    """In their order."""
    return [row.allocation.sid for row in rows]


def test_what_ends_within_the_window_soonest_first(seer: Seer) -> None:
    seer.add_at(NOW - HOUR, "over")
    seer.add_at(NOW + 72 * HOUR, "last")
    seer.add_at(NOW + 72 * HOUR + timedelta(seconds=1), "beyond")
    seer.add_at(NOW, "at this instant")
    seer.add_at(NOW + HOUR, "b", "a")
    rows, outlook = seer.seen()
    assert sids(rows) == ["at this instant", "a", "b", "last"]
    assert [row.ends_at - NOW for row in rows] == [0 * HOUR, HOUR, HOUR, 72 * HOUR]
    assert (outlook.expiring, outlook.held) == (4, 0)
    assert outlook.days == {date(2026, 12, 1): 3, date(2026, 12, 4): 1}


def test_grace_puts_the_end_off(seer: Seer) -> None:
    seer.configure(grace=2 * HOUR)
    seer.add_at(NOW - HOUR, "in its grace")
    seer.add_at(NOW - 3 * HOUR, "over")
    [row], _ = seer.seen()
    assert (row.allocation.sid, row.ends_at) == ("in its grace", NOW + HOUR)


def test_what_does_not_end_is_not_there(seer: Seer) -> None:
    seer.add_at(NOW + HOUR, "released", "invalid")
    seer.mark_released("released")
    seer.place.execute("UPDATE vm_allocations SET released_at = 1 WHERE sid = 'invalid'")
    seer.place.insert([{"sid": "never", "status": "Active", "expires_at": None}])
    rows, outlook = seer.seen()
    assert (list(rows), outlook.expiring, dict(outlook.days)) == ([], 0, {})


def test_what_is_held_is_told_and_not_released(seer: Seer) -> None:
    seer.limits = replace(seer.limits, max_releases=0)
    seer.add_at(NOW + HOUR, "a")
    seer.hold("a")
    rows, outlook = seer.seen()
    assert [row.note for row in rows] == ["held"]
    assert (outlook.expiring, outlook.held, outlook.refuses_at) == (1, 1, None)


def test_a_hold_that_ends_first_puts_the_release_off(seer: Seer) -> None:
    seer.limits = replace(seer.limits, max_releases=0)
    seer.configure(hold_grace=24 * HOUR)
    seer.add_at(NOW + HOUR, "a")
    seer.hold("a", until=NOW + timedelta(minutes=90))
    assert seer.refusal(24 * HOUR) == (None, [])
    # 90 minutes and 24 hours of grace, at the next full hour.
    assert seer.refusal() == (NOW + 26 * HOUR, ["max_releases"])


def test_the_first_hour_in_which_too_many_end_together(seer: Seer) -> None:
    seer.limits = replace(seer.limits, max_releases=2)
    seer.add_at(NOW + 2 * HOUR, "a", "b")
    seer.add_at(MIDNIGHT, "c", "d", "e")
    _, outlook = seer.seen()
    assert outlook.refuses_at == MIDNIGHT
    [reason] = outlook.refusals
    assert reason.message == "3 first releases are planned, the limit is 2"
    assert seer.refusal(timedelta(hours=11)) == (None, [])


def test_what_ends_within_one_hour_ends_together(seer: Seer) -> None:
    seer.limits = replace(seer.limits, max_releases=2)
    seer.add_at(NOW + timedelta(minutes=61), "a")
    seer.add_at(NOW + timedelta(minutes=120), "b")
    seer.add_at(NOW + timedelta(minutes=121), "c")
    assert seer.refusal() == (None, [])
    seer.add_at(NOW + timedelta(minutes=90), "d")
    assert seer.refusal() == (NOW + 2 * HOUR, ["max_releases"])


def test_what_was_released_before_is_not_live_any_more(seer: Seer) -> None:
    seer.limits = replace(seer.limits, max_percent=50, min_fleet=1)
    seer.add_at(NOW + HOUR, "a", "b")
    seer.add_at(NOW + 2 * HOUR, "c", "d")
    seer.add_at(NOW + 900 * HOUR, "e")
    # 2 of 5 are admitted; after that 2 of 3 are not.
    _, outlook = seer.seen()
    assert outlook.refuses_at == NOW + 2 * HOUR
    assert outlook.refusals[0].message.startswith("2 of 3 live rows")


def test_a_backlog_is_the_next_ticks(seer: Seer) -> None:
    seer.limits = replace(seer.limits, max_releases=1)
    seer.later(timedelta(minutes=20))
    seer.add_at(NOW - HOUR, "a")
    assert seer.refusal() == (None, [])
    seer.add_at(NOW + timedelta(minutes=30), "b")
    assert seer.refusal() == (NOW + HOUR, ["max_releases"])


def test_a_repeated_try_was_admitted_before(seer: Seer) -> None:
    seer.add_at(NOW - HOUR, "a")
    seer.tick(Scripted({"a": [ProvisionerError("broken")]}))
    seer.limits = replace(seer.limits, max_releases=0)
    assert seer.refusal() == (None, [])


def test_a_first_tick_is_judged_as_one(tmp_path: Path) -> None:
    seer = Seer(tmp_path)
    seer.limits = replace(seer.limits, max_percent=50)
    seer.add_at(NOW - HOUR, "a")
    assert seer.refusal() == (NOW, ["max_percent"])


def test_a_gap_since_the_last_tick_is_judged_at_the_next_and_not_again(seer: Seer) -> None:
    seer.later(8 * 24 * HOUR)
    seer.add_at(seer.now - HOUR, "a")
    assert seer.refusal() == (seer.now, ["clock_gap"])
    seer.tick(Scripted(), confirm=None)
    seer.tick(Scripted(), confirm=1)
    seer.add_at(seer.now + 9 * 24 * HOUR, "b")
    assert seer.refusal(10 * 24 * HOUR) == (None, [])


def test_another_ledger_is_refused_at_the_next_tick(tmp_path: Path) -> None:
    seer = Seer(tmp_path)
    journal = seer.open_journal()
    journal.open_tick(replace(seer.start(), ledger="one"))
    journal.note_plan("tick-1", b"", is_admitted=True)
    journal.close()
    assert seer.refusal(moment=guard.Moment(seer.now, "one")) == (None, [])
    assert seer.refusal(moment=guard.Moment(seer.now, "other")) == (seer.now, ["other_ledger"])


def test_the_clock_of_the_boot_goes_on_with_the_window(tmp_path: Path) -> None:
    """A tick in three days is no step of the clock: the boot clock will be three days further, too."""
    seer = Seer(tmp_path)
    journal = seer.open_journal()
    journal.open_tick(replace(seer.start(), boot_id="b", boot_seconds=100.0))
    journal.note_plan("tick-1", b"", is_admitted=True)
    journal.close()
    seer.add_at(NOW + 30 * HOUR, "a")
    assert seer.refusal(moment=guard.Moment(seer.now, None, "b", 100.0)) == (None, [])


def test_the_order_is_of_instants_and_not_of_their_spelling(tmp_path: Path) -> None:
    seer = Seer(tmp_path)
    seer.words = replace(seer.words, timestamps="iso8601")
    for sid, text in (("late", "2026-12-01 13:00:00-05:00"), ("early", "2026-12-01T14:00:00+01:00")):
        seer.place.insert([{"sid": sid, "status": "Active", "expires_at": text}])
    rows, _ = seer.seen()
    assert sids(rows) == ["early", "late"]
    assert rows[0].allocation.raw == RawRow("early", "Active", "2026-12-01T14:00:00+01:00")


@pytest.mark.parametrize(("minutes", "hours"), [(0, 0), (1, 1), (59, 1), (60, 1), (60.0001, 2)], ids=str)
def test_full_hours(minutes: float, hours: int) -> None:
    assert full_hour(NOW + timedelta(minutes=minutes)) == NOW + hours * HOUR


# --- rows that will be invalid ----------------------------------------------------------------------------------------


def test_a_row_that_shares_its_vm_is_listed_with_the_name_of_the_other(seer: Seer) -> None:
    """Left out it would be a surprise: nothing that expires is hidden."""
    seer.add("later", expires_at=RENEWED, vm_ref="vm")
    seer.place.insert(
        [{"sid": "shared", "status": "Active", "expires_at": int((NOW + HOUR).timestamp()), "vm_ref": "VM"}]
    )
    seer.add_at(NOW + 2 * HOUR, "sound")
    rows, outlook = seer.seen()
    assert [(row.allocation.sid, row.note, row.doubt) for row in rows] == [
        ("shared", None, "vm_ref 'VM' is also held by 'later'"),
        ("sound", None, None),
    ]
    assert (outlook.expiring, outlook.invalid) == (2, 1)
    assert sum(outlook.days.values()) == 2


def test_what_plans_end_together_at_the_hour_that_is_refused(seer: Seer) -> None:
    seer.limits = replace(seer.limits, max_releases=3)
    instant = int((NOW + HOUR).timestamp())
    seer.place.insert(
        [
            {"sid": f"{plan}-{number}", "status": "Active", "expires_at": instant, "plan": plan}
            for plan, count in (("big", 3), ("small", 1), (None, 2))
            for number in range(count)
        ]
    )
    seer.add_at(NOW - HOUR, "due before")
    _, outlook = seer.seen()
    assert outlook.refuses_at == NOW + HOUR
    assert list(outlook.plans) == [("big", 3), (None, 2), ("small", 1)]
