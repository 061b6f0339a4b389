"""The sweep itself, by the installed command on real files: what is released, what is not, and how it is stamped."""

import re
import sqlite3
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.reports import history, listed, python_program, sids, sweep, wait_until
from tests.support.journals import copy_journal
from tests.support.place import (
    DAY,
    HOUR,
    LEDGER_PROVISIONER,
    NOW,
    PERMISSIVE,
    Place,
    allocation,
    command_provisioner,
    program,
)

# Where the day is another, and nothing can be said but ASCII.
ENVIRONMENTS: dict[str, dict[str, str]] = {"": {}, "far away": {"TZ": "Pacific/Kiritimati", "LC_ALL": "C"}}
T = "2026-01-15T12:00:00Z"
INSTANT = int(datetime(2026, 1, 15, 12, tzinfo=UTC).timestamp())


@pytest.fixture(params=ENVIRONMENTS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A configured place with an empty journal, in each of the environments."""
    made = Place(tmp_path, ENVIRONMENTS[request.param])
    made.configure(LEDGER_PROVISIONER, PERMISSIVE)
    copy_journal(made.journal)
    return made


def text(instant: float, pattern: str = "%Y-%m-%dT%H:%M:%SZ") -> str:
    """An instant as the given text, in UTC."""
    return datetime.fromtimestamp(instant, UTC).strftime(pattern)


# --- what is released ---------------------------------------------------------------------------------------------


def test_an_empty_ledger_is_fine(place: Place) -> None:
    place.make_ledger()
    report = sweep(place)
    assert report["status"] == "success"
    assert not any(value for name, value in report.items() if name.startswith("rows_"))
    assert not any(report["skipped"].values())
    assert report["oldest_overdue_seconds"] == 0


def test_only_what_has_expired_is_released(place: Place) -> None:
    untouched = [
        allocation("future", NOW + DAY),
        allocation("forever", None),
        allocation("settled", NOW - DAY, "Released", released_at=NOW - HOUR),
    ]
    place.make_ledger([allocation("expired", NOW - DAY), allocation("long-ago", NOW - 400 * DAY), *untouched])
    before = place.query("SELECT * FROM vm_allocations WHERE sid IN ('future', 'forever', 'settled') ORDER BY sid")
    report = sweep(place)
    assert place.released() == {"expired", "long-ago", "settled"}
    assert before == place.query(
        "SELECT * FROM vm_allocations WHERE sid IN ('future', 'forever', 'settled') ORDER BY sid"
    )
    assert report["rows_examined"] == 4
    assert report["rows_expired"] == report["rows_released"] == 2
    assert 400 * DAY <= report["oldest_overdue_seconds"] <= 400 * DAY + HOUR


def test_a_second_tick_finds_nothing_and_changes_nothing(place: Place) -> None:
    place.make_ledger([allocation("expired", NOW - DAY), allocation("future", NOW + DAY)])
    assert sweep(place)["rows_released"] == 1
    before = place.ledger.read_bytes()
    again = sweep(place)
    assert (again["rows_examined"], again["rows_expired"]) == (1, 0)
    assert place.ledger.read_bytes() == before


BOUNDARIES: dict[str, tuple[str, Any, str]] = {
    # kind, as stored, the very instant of its expiry
    "epoch": ("epoch", INSTANT, T),
    "epoch, a fraction": ("epoch", INSTANT + 0.25, "2026-01-15T12:00:00.250000Z"),
    "epoch_ms": ("epoch_ms", INSTANT * 1000 + 7, "2026-01-15T12:00:00.007000Z"),
    "iso8601": ("iso8601", T, T),
    "iso8601, microseconds": ("iso8601", "2026-01-15 12:00:00.000001+00:00", "2026-01-15T12:00:00.000001Z"),
    "iso8601, nanoseconds count up": ("iso8601", "2026-01-15 14:00:00.0000010001+02", "2026-01-15T12:00:00.000002Z"),
    "iso8601, another offset": ("iso8601", "2026-01-15T06:30:00-05:30", T),
}


@pytest.mark.parametrize("case", BOUNDARIES)
def test_at_the_very_instant_of_expiry_the_owner_still_has_the_vm(place: Place, case: str) -> None:
    kind, stored, instant = BOUNDARIES[case]
    place.configure(LEDGER_PROVISIONER, PERMISSIVE, ledger=f'timestamps = "{kind}"')
    place.make_ledger([allocation("edge", stored)])
    after = (datetime.fromisoformat(instant) + timedelta(microseconds=1)).isoformat()
    assert listed(place, "--at", instant)["rows"] == []
    assert sweep(place, "--dry-run", "--at", after)["skipped"]["dry_run"] == 1
    assert place.released() == set()


def test_grace_moves_the_boundary(place: Place) -> None:
    place.configure(LEDGER_PROVISIONER, PERMISSIVE, '[release]\ngrace = "24h"\n')
    place.make_ledger([allocation("in-grace", NOW - 23 * HOUR), allocation("out-of-grace", NOW - 25 * HOUR)])
    assert listed(place, "--at", text(NOW + HOUR))["counts"]["release"] == 1
    report = sweep(place)
    assert place.released() == {"out-of-grace"}
    assert HOUR <= report["oldest_overdue_seconds"] <= 2 * HOUR


NEVER: dict[str, tuple[str, list[Any]]] = {
    "epoch": ("never = [0, -1]", [0, -1, 0.0]),
    "epoch_ms": ("never = [253402300799000]", [253402300799000]),
    "iso8601": ('never = ["9999-12-31", "0000-00-00 00:00:00", ""]', ["9999-12-31", "0000-00-00 00:00:00", ""]),
}


@pytest.mark.parametrize("kind", NEVER)
def test_null_and_the_words_for_never_are_never_released(place: Place, kind: str) -> None:
    setting, words = NEVER[kind]
    place.configure(LEDGER_PROVISIONER, PERMISSIVE, ledger=f'timestamps = "{kind}"\n{setting}')
    place.make_ledger(allocation(f"never-{number}", word) for number, word in enumerate([None, *words]))
    report = sweep(place)
    assert (report["rows_examined"], report["rows_expired"], report["rows_invalid"]) == (len(words) + 1, 0, 0)
    assert listed(place, "--at", "2200-01-01T00:00:00Z", "--all")["rows"] == []


def test_a_word_for_never_that_is_not_configured_is_invalid_and_never_released(place: Place) -> None:
    place.make_ledger([allocation("zero", 0)])
    report = sweep(place, code=3)
    assert [row["sid"] for row in report["invalid"]] == ["zero"]
    assert place.released() == set()


def test_inactive_statuses_are_settled(place: Place) -> None:
    place.configure(LEDGER_PROVISIONER, PERMISSIVE, ledger='inactive = ["Cancelled", "Void"]')
    place.make_ledger(
        [
            allocation("cancelled", NOW - DAY, "Cancelled"),
            allocation("void", NOW - DAY, "Void"),
            allocation("suspended", NOW - DAY, "Suspended"),
        ]
    )
    report = sweep(place)
    assert report["rows_examined"] == report["rows_released"] == 1
    assert place.released() == {"suspended"}


def test_another_released_word_and_other_names(place: Place) -> None:
    place.configure(
        LEDGER_PROVISIONER,
        PERMISSIVE,
        ledger='table = "the \\"VMs\\""\nreleased = "gone!"\n[ledger.columns]\nsid = "id"\nstatus = "state; --"\n',
    )
    place.make_ledger(table='CREATE TABLE "the ""VMs""" (id INTEGER PRIMARY KEY, "state; --" TEXT, expires_at INTEGER)')
    place.execute('INSERT INTO "the ""VMs""" VALUES (7, ?, ?), (8, ?, ?)', "on", NOW - DAY, "gone!", NOW - DAY)
    assert sweep(place)["rows_released"] == 1
    assert place.query('SELECT * FROM "the ""VMs""" ORDER BY id') == [(7, "gone!", NOW - DAY), (8, "gone!", NOW - DAY)]


def test_one_bad_row_hides_no_other(place: Place) -> None:
    place.make_ledger(
        [
            allocation("text", "soon"),
            allocation("milliseconds", (NOW - DAY) * 1000),
            allocation("once", NOW - DAY, released_at=NOW - HOUR),
            allocation("nearly", NOW - DAY, "released"),
            allocation("reused", NOW - DAY, vm_ref="vm-1"),
            allocation("new-owner", NOW + DAY, vm_ref="vm-1"),
            allocation("good", NOW - DAY),
        ]
    )
    report = sweep(place, code=3)
    assert {row["sid"] for row in report["invalid"]} == {"text", "milliseconds", "once", "nearly", "reused"}
    assert all(row["reason"] for row in report["invalid"])
    assert (report["rows_examined"], report["rows_released"]) == (7, 1)
    assert place.released() == {"good"}


# --- how it is stamped ----------------------------------------------------------------------------------------------

SPELLINGS = [
    "2020-02-29T10:00:00Z",
    "2020-02-29 10:00:00Z",
    "2020-02-29 10:00:00 Z",
    "2020-02-29T10:00Z",
    "2020-02-29T10:00:00+02:00",
    "2020-02-29 10:00:00-09:30",
    "2020-02-29 10:00:00+05",
    "2020-02-29T10:00:00.5Z",
    "2020-02-29 10:00:00.123+00:00",
    "2020-02-29 10:00:00.123456 +14:00",
    "2020-02-29T10:00:00.123456789Z",
]


def shape(spelling: str) -> str:
    """A spelling with its date and time masked: what is left is separators, lengths and the offset."""
    clock, offset = spelling[:16], spelling[16:]
    fraction = re.match(r"(:\d\d)?(\.\d+)?", offset)
    assert fraction is not None
    return re.sub(r"\d", "0", clock + fraction[0]) + offset[fraction.end() :]


def instant_of(spelling: str) -> float:
    """The instant of one of these spellings, as epoch seconds."""
    match = re.fullmatch(r"(\S{10})[T ](\d\d:\d\d)(:\d\d)?(\.\d+)? ?(Z|[+-].+)", spelling)
    assert match is not None
    day, minutes, whole, fraction, offset = match.groups()
    offset = {"Z": "+00:00"}.get(offset, offset if ":" in offset else offset + ":00")
    moment = datetime.fromisoformat(f"{day}T{minutes}{whole or ':00'}{offset}")
    return moment.timestamp() + float(fraction or 0)


def test_released_at_is_written_as_the_row_writes_its_own_expiry(place: Place) -> None:
    place.configure(LEDGER_PROVISIONER, PERMISSIVE, ledger='timestamps = "iso8601"')
    place.make_ledger(allocation(f"vm-{number}", spelling) for number, spelling in enumerate(SPELLINGS))
    report = sweep(place)
    assert report["rows_released"] == len(SPELLINGS)
    begun, ended = (datetime.fromisoformat(report[name]).timestamp() for name in ("started_at", "finished_at"))
    for status, expires_at, released_at in place.query("SELECT status, expires_at, released_at FROM vm_allocations"):
        assert status == "Released"
        assert expires_at in SPELLINGS
        assert shape(released_at) == shape(expires_at)
        # Rounded down to the row's own precision: a minute, where that one writes no seconds.
        precision = 60 if expires_at == "2020-02-29T10:00Z" else 1
        assert begun - precision <= instant_of(released_at) <= ended


NUMBERS: dict[str, tuple[str, float]] = {
    "epoch": ("epoch", NOW - DAY),
    "epoch with a fraction": ("epoch", NOW - DAY + 0.5),
    "milliseconds": ("epoch_ms", (NOW - DAY) * 1000),
    "milliseconds as a real": ("epoch_ms", (NOW - DAY) * 1000.0),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_released_at_is_a_number_of_the_same_kind(place: Place, case: str) -> None:
    kind, expires_at = NUMBERS[case]
    place.configure(LEDGER_PROVISIONER, PERMISSIVE, ledger=f'timestamps = "{kind}"')
    place.make_ledger([allocation("vm", expires_at)])
    report = sweep(place)
    [(status, stored, released_at)] = place.query("SELECT status, expires_at, released_at FROM vm_allocations")
    assert (status, stored, type(stored)) == ("Released", expires_at, type(expires_at))
    assert type(released_at) is type(expires_at)
    begun, ended = (datetime.fromisoformat(report[name]).timestamp() for name in ("started_at", "finished_at"))
    assert begun - 1 <= released_at / (1000 if kind == "epoch_ms" else 1) <= ended


def test_a_ledger_without_released_at_gets_none(place: Place) -> None:
    place.make_ledger(table="CREATE TABLE vm_allocations (sid TEXT PRIMARY KEY, status TEXT, expires_at INTEGER)")
    place.insert([allocation("vm", NOW - DAY)])
    assert sweep(place)["rows_released"] == 1
    assert place.query("SELECT * FROM vm_allocations") == [("vm", "Released", NOW - DAY)]


# --- what changes between listing and acting ------------------------------------------------------------------------


def act_on_second(place: Place, statement: str) -> None:
    """Two due rows, one after the other; while the first is released, somebody runs `statement` on the ledger."""
    body = f"""
import os, sqlite3
with open({str(place.folder / "calls")!r}, "a") as calls:
    calls.write(os.environ["AUTORELEASE_SID"] + "\\n")
with sqlite3.connect({str(place.ledger)!r}) as ledger:
    ledger.execute({statement!r})
"""
    helper = python_program(place.folder, sys.executable, body)
    place.configure(command_provisioner([helper]), PERMISSIVE, "[release]\nconcurrency = 1\n")
    place.make_ledger([allocation("first", NOW - 2 * DAY), allocation("second", NOW - DAY)])


def calls(place: Place) -> list[str]:
    """The sids that the release program was called for."""
    return (place.folder / "calls").read_text(encoding="utf-8").split()


def test_released_by_somebody_else_between_listing_and_acting(place: Place) -> None:
    act_on_second(place, "UPDATE vm_allocations SET status = 'Released', released_at = 12345 WHERE sid = 'second'")
    report = sweep(place)
    assert (report["rows_released"], report["rows_already_released"]) == (1, 1)
    assert calls(place) == ["first"]
    assert place.query("SELECT released_at FROM vm_allocations WHERE sid = 'second'") == [(12345,)]
    assert history(place, "--sid", "second")["events"][-1]["outcome"] == "already_released"


def test_renewed_between_listing_and_acting(place: Place) -> None:
    act_on_second(place, f"UPDATE vm_allocations SET expires_at = {NOW + 30 * DAY} WHERE sid = 'second'")
    report = sweep(place)
    assert (report["rows_released"], report["skipped"]["renewed"]) == (1, 1)
    assert calls(place) == ["first"]
    assert place.released() == {"first"}


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE vm_allocations SET vm_ref = 'another-vm' WHERE sid = 'second'",
        "UPDATE vm_allocations SET status = 'Suspended' WHERE sid = 'second'",
        "DELETE FROM vm_allocations WHERE sid = 'second'",
    ],
)
def test_changed_between_listing_and_acting(place: Place, change: str) -> None:
    act_on_second(place, change)
    report = sweep(place)
    assert (report["rows_released"], report["skipped"]["changed"]) == (1, 1)
    assert calls(place) == ["first"]
    assert place.released() == {"first"}


def test_renewed_while_its_release_is_under_way_is_a_conflict_until_somebody_looks(place: Place) -> None:
    act_on_second(place, f"UPDATE vm_allocations SET expires_at = {NOW + 30 * DAY} WHERE sid = 'first'")
    report = sweep(place, code=3)
    [error] = report["errors"]
    assert (error["sid"], error["code"]) == ("first", "conflict")
    assert place.released() == {"second"}
    # The VM may be gone while its owner pays: every further tick says so again.
    again = sweep(place, code=3)
    assert [(error["sid"], error["code"]) for error in again["errors"]] == [("first", "conflict")]
    assert (again["rows_expired"], again["rows_failed"]) == (1, 1)
    assert calls(place) == ["first", "second"]


# --- held back by the guard -----------------------------------------------------------------------------------------


def crowded(place: Place, *sections: str) -> None:
    """Eight of ten live rows are due, which the guard's own limits refuse."""
    place.configure(*(sections or (LEDGER_PROVISIONER,)))
    place.make_ledger(allocation(f"due-{number}", NOW - DAY * (9 - number)) for number in range(8))
    place.insert(allocation(f"later-{number}", NOW + DAY) for number in range(2))


def test_a_refusal_says_what_was_planned_why_and_what_to_type(place: Place) -> None:
    crowded(place, command_provisioner([program(place.folder, f"touch {place.folder}/ran")]))
    before = place.ledger.read_bytes()
    ran = place.run("tick", "--once")
    assert ran.code == 7
    assert "refused: max_percent: 8 of 10 live rows (80.0 %)" in ran.err
    assert "the limit is 50 %" in ran.err
    assert "due-0, due-1, due-2, due-3, due-4, …" in ran.err
    assert f"newest expired at {text(NOW - 2 * DAY)}" in ran.err
    assert "autorelease tick --once --confirm 8" in ran.err
    assert place.ledger.read_bytes() == before
    assert not (place.folder / "ran").exists()
    report = sweep(place, code=7)
    assert [refusal["code"] for refusal in report["refused"]] == ["max_percent"]
    assert report["skipped"]["refused"] == report["rows_expired"] == 8
    assert sweep(place, "--dry-run", code=7)["skipped"]["refused"] == 8
    guard = listed(place)["guard"]
    assert guard["admitted"] is False
    assert [reason["code"] for reason in guard["reasons"]] == ["max_percent"]
    assert place.ledger.read_bytes() == before


def test_max_releases_counts_first_tries(place: Place) -> None:
    crowded(place, LEDGER_PROVISIONER, "[guard]\nmax_percent = 100\nmax_releases = 7\n")
    assert [refusal["code"] for refusal in sweep(place, code=7)["refused"]] == ["max_releases"]
    place.execute("DELETE FROM vm_allocations WHERE sid = 'due-0'")
    assert sweep(place)["rows_released"] == 7


def test_a_confirmation_answers_one_refusal_once(place: Place) -> None:
    crowded(place)
    sweep(place, code=7)
    assert sweep(place, "--confirm", "8")["rows_released"] == 8
    # Forgotten in a crontab it stops the sweep at once, although the guard has nothing against this tick.
    again = sweep(place, "--confirm", "8", code=7)
    assert [refusal["code"] for refusal in again["refused"]] == ["confirm"]
    assert sweep(place)["rows_expired"] == 0


def test_a_confirmation_that_nothing_asked_for_is_refused(place: Place) -> None:
    place.make_ledger([allocation("due", NOW - DAY), allocation("later", NOW + DAY)])
    report = sweep(place, "--confirm", "1", code=7)
    assert [refusal["code"] for refusal in report["refused"]] == ["confirm"]
    assert place.released() == set()


def test_a_confirmation_with_another_number_is_refused_also_where_the_guard_would_admit(place: Place) -> None:
    crowded(place)
    sweep(place, code=7)
    report = sweep(place, "--confirm", "9", code=7)
    assert "named 8, not 9" in " ".join(refusal["message"] for refusal in report["refused"])
    place.configure(LEDGER_PROVISIONER, PERMISSIVE)
    assert [refusal["code"] for refusal in sweep(place, "--confirm", "7", code=7)["refused"]] == ["confirm"]
    assert place.released() == set()


def test_a_confirmation_goes_stale(place: Place) -> None:
    crowded(place)
    sweep(place, code=7)
    with sqlite3.connect(place.journal) as journal:
        journal.execute("UPDATE ticks SET finished_at = ?", (text(NOW - 25 * HOUR, "%Y-%m-%dT%H:%M:%S.000000Z"),))
    journal.close()
    report = sweep(place, "--confirm", "8", code=7)
    assert "older than 24 h" in " ".join(refusal["message"] for refusal in report["refused"])
    assert place.released() == set()


def test_a_confirmation_covers_the_rows_that_the_refused_tick_had_planned_and_no_other(place: Place) -> None:
    crowded(place)
    sweep(place, code=7)
    place.execute("UPDATE vm_allocations SET expires_at = ? WHERE sid = 'later-0'", NOW - HOUR)
    report = sweep(place, "--confirm", "8", code=3)
    assert (report["rows_released"], report["skipped"]["refused"]) == (8, 1)
    assert place.released() == {f"due-{number}" for number in range(8)}


def test_a_confirmation_of_which_no_row_is_left_releases_nothing(place: Place) -> None:
    crowded(place)
    sweep(place, code=7)
    place.execute("UPDATE vm_allocations SET expires_at = ? WHERE sid LIKE 'due-%'", NOW + DAY)
    place.execute("UPDATE vm_allocations SET expires_at = ? WHERE sid LIKE 'later-%'", NOW - HOUR)
    report = sweep(place, "--confirm", "8", code=7)
    assert "none of the rows" in " ".join(refusal["message"] for refusal in report["refused"])
    assert place.released() == set()


def test_a_confirmation_covers_a_plan_that_has_shrunk(place: Place) -> None:
    crowded(place)
    sweep(place, code=7)
    place.execute("UPDATE vm_allocations SET expires_at = ? WHERE sid = 'due-0'", NOW + DAY)
    assert sweep(place, "--confirm", "8")["rows_released"] == 7


def test_a_confirmation_does_not_cover_a_new_reason(place: Place) -> None:
    crowded(place)
    sweep(place, code=7)
    place.configure(LEDGER_PROVISIONER, "[guard]\nmax_releases = 3\n")
    report = sweep(place, "--confirm", "8", code=7)
    assert [refusal["code"] for refusal in report["refused"]] == ["max_releases", "max_percent"]
    assert place.released() == set()


def test_after_the_first_tick_a_small_plan_is_not_judged_by_its_share(place: Place) -> None:
    place.configure(LEDGER_PROVISIONER)
    place.make_ledger([allocation("later", NOW + DAY)])
    assert sweep(place)["rows_expired"] == 0
    place.execute("UPDATE vm_allocations SET expires_at = ?", NOW - DAY)
    assert sweep(place)["rows_released"] == 1


# --- wrong usage ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [""], indirect=True)
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("tick",), "autorelease.timer"),
        (("tick", "--dry-run"), "autorelease.timer"),
        (("tick", "--once", "--at", T), "--dry-run"),
        (("tick", "--once", "--dry-run", "--confirm", "1"), "--confirm"),
        (("tick", "--once", "--confirm", "-1"), "--confirm"),
        (("tick", "--once", "--dry-run", "--at", "2026-01-15T12:00:00"), "RFC 3339"),
        (("list-expired", "--at", "2026-01-15 12:00"), "RFC 3339"),
        (("list-expired", "--at", "2026-01-15"), "RFC 3339"),
        (("list-expired", "--at", "tomorrow"), "RFC 3339"),
        (("list-expired", "--at", "+3 days"), "RFC 3339"),
        (("list-expired", "--at", "1768478400"), "RFC 3339"),
    ],
)
def test_wrong_usage_is_exit_2_and_says_how(place: Place, arguments: tuple[str, ...], said: str) -> None:
    place.make_ledger([allocation("due", NOW - DAY)])
    ran = place.run(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert place.released() == set()


def test_times_relative_to_now(place: Place) -> None:
    place.make_ledger([allocation("in-two-days", NOW + 2 * DAY), allocation("in-four-days", NOW + 4 * DAY)])
    assert sids(listed(place, "--at", "+72h")) == {"in-two-days"}
    assert sweep(place, "--dry-run", "--at", "+72h")["rows_expired"] == 1
    assert listed(place)["rows"] == []


def ran_listing(place: Place) -> list[tuple[str, str, str]]:
    """What the listing says of all rows: sid, decision and reason."""
    return [(row["sid"], row["decision"], row["reason"]) for row in listed(place, "--all")["rows"]]


def test_without_a_provisioner_nothing_is_ever_released(place: Place) -> None:
    place.configure(PERMISSIVE)
    place.make_ledger([allocation("due", NOW - DAY)])
    for arguments in (("tick", "--once"), ("tick", "--once", "--dry-run")):
        ran = place.run(*arguments)
        assert ran.code == 4
        assert f"{place.config}: no provisioner is configured" in ran.err
        assert "[provisioners.default]" in ran.err
    # Who only looks learns why.
    assert ran_listing(place) == [("due", "skip", "no_provisioner")]
    assert place.released() == set()


def test_a_row_of_a_provisioner_that_is_not_configured_is_left_and_said(place: Place) -> None:
    place.make_ledger([allocation("due", NOW - DAY), allocation("other", NOW - DAY, provisioner="rack-2")])
    report = sweep(place, code=8)
    assert [down["provisioner"] for down in report["down"]] == ["rack-2"]
    assert report["skipped"]["no_provisioner"] == 1
    assert place.released() == {"due"}


# --- the release program --------------------------------------------------------------------------------------------


def test_a_failure_of_one_stops_no_other_and_waits_before_the_next_try(place: Place) -> None:
    script = f'echo "$1" >> {place.folder}/calls; echo "no such rack" >&2; test "$1" != vm-2'
    place.configure(command_provisioner([program(place.folder, script), "{vm_ref}"]), PERMISSIVE)
    place.make_ledger(allocation(f"a-{number}", NOW - DAY, vm_ref=f"vm-{number}") for number in range(4))
    report = sweep(place, code=3)
    assert (report["rows_released"], report["rows_failed"]) == (3, 1)
    [error] = report["errors"]
    assert (error["sid"], error["code"], error["retryable"], error["attempts"]) == ("a-2", "failed", False, 1)
    assert "no such rack" in error["message"]
    assert place.released() == {"a-0", "a-1", "a-3"}
    again = sweep(place, code=3)
    assert again["skipped"]["backoff"] == 1
    assert sorted(calls(place)) == ["vm-0", "vm-1", "vm-2", "vm-3"]


def test_a_retryable_failure_is_tried_again_in_the_same_tick(place: Place) -> None:
    marker = place.folder / "tried"
    place.configure(
        command_provisioner([program(place.folder, f"test -e {marker} && exit 0; touch {marker}; exit 75")]), PERMISSIVE
    )
    place.make_ledger([allocation("vm", NOW - DAY)])
    assert sweep(place)["rows_released"] == 1


def test_not_found_is_no_proof(place: Place) -> None:
    place.configure(command_provisioner([program(place.folder, "exit 3")], "already = [3]"), PERMISSIVE)
    place.make_ledger([allocation("vm", NOW - DAY), allocation("vm-2", NOW - DAY)])
    report = sweep(place, code=8)
    assert {error["code"] for error in report["errors"]} == {"unproven"}
    assert place.released() == set()
    confirmed = sweep(place, "--confirm", "2")
    assert confirmed["rows_already_released"] == 2
    assert place.released() == {"vm", "vm-2"}


def test_the_table_refuses_the_stamp_before_any_vm_is_touched(place: Place) -> None:
    place.configure(command_provisioner([program(place.folder, f"touch {place.folder}/ran")]), PERMISSIVE)
    place.make_ledger([allocation("vm", NOW - DAY)])
    place.execute(
        "CREATE TRIGGER no BEFORE UPDATE ON vm_allocations BEGIN SELECT RAISE(ABORT, 'this table is frozen'); END"
    )
    before = place.ledger.read_bytes()
    ran = place.run("tick", "--once")
    assert ran.code == 5
    assert "this table is frozen" in ran.err
    assert not (place.folder / "ran").exists()
    assert place.ledger.read_bytes() == before


def test_a_row_that_becomes_due_while_the_tick_runs_waits_for_the_next(place: Place, tmp_path: Path) -> None:
    """`now` is read once: a row whose time comes during the tick is not of this one."""
    go = tmp_path / "go"
    script = program(
        place.folder,
        f"touch {place.folder}/started; for turn in $(seq 1200); do test -e {go} && exit 0; sleep 0.05; done; exit 1",
    )
    place.configure(command_provisioner([script]), PERMISSIVE, "[release]\nconcurrency = 1\n")
    place.make_ledger([allocation("first", NOW - DAY), allocation("second", NOW + DAY)])
    running = place.start("tick", "--once", "--json")
    wait_until((place.folder / "started").exists)
    place.execute("UPDATE vm_allocations SET expires_at = ? WHERE sid = 'second'", NOW - 1)
    go.touch()
    out, err = running.communicate(timeout=60)
    assert running.returncode == 0, err
    assert '"rows_expired": 1' in out
    assert place.released() == {"first"}
    assert sweep(place)["rows_released"] == 1
