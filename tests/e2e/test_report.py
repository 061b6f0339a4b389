"""What the command prints for machines: one object, of its schema, whatever happened."""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.reports import check_tick, error_report, history, listed, schema, sids, sweep, tick_report
from tests.support.place import (
    DAY,
    LEDGER_PROVISIONER,
    NOW,
    PERMISSIVE,
    Place,
    allocation,
    command_provisioner,
    program,
)

REASONS = {"held", "backoff", "renewed", "changed", "resurrected", "deferred", "refused", "dry_run", "no_provisioner"}


@contextmanager
def held_lock(place: Place) -> Iterator[None]:
    """The lock of the journal, held as another tick would."""
    with place.journal.with_name("journal.db.lock").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.mark.parametrize("name", ["tick", "error", "list", "history"])
def test_the_schemas_are_schemas_that_can_fail(name: str) -> None:
    assert not schema(name).is_valid({})
    assert not schema(name).is_valid({"schema": "something else"})


def test_a_successful_tick(place: Place) -> None:
    place.make_ledger([allocation("due", NOW - DAY), allocation("later", NOW + DAY)])
    ran = place.run("tick", "--once", "--json")
    report = tick_report(ran, 0)
    assert report["schema"] == "autorelease.tick/1"
    assert set(report["skipped"]) == REASONS
    assert (report["dry_run"], report["stopped_by"], report["truncated"]) == (False, None, False)
    assert (report["refused"], report["down"], report["errors"], report["invalid"]) == ([], [], [], [])
    assert report["started_at"] <= report["finished_at"]
    # The log goes to stderr, so that stdout is the report alone.
    assert "released sid=due" in ran.err


def test_every_kind_of_end_in_one_tick(place: Place) -> None:
    script = program(place.folder, 'case "$1" in fine*) exit 0;; gone*) exit 3;; broken*) exit 1;; esac; exit 77')
    place.configure(
        command_provisioner([script, "{sid}"], "already = [3]", "retry = []"),
        PERMISSIVE,
        "[release]\nconcurrency = 1\n",
    )
    place.make_ledger(
        allocation(f"{name}-{number}", NOW - DAY) for name in ("fine", "gone", "broken", "x-down") for number in (1, 2)
    )
    place.insert([allocation("strange", "yesterday"), allocation("later", NOW + DAY)])
    report = sweep(place, code=8)
    ends = {name: report[f"rows_{name}"] for name in ("expired", "released", "already_released", "failed", "skipped")}
    assert ends == {"expired": 8, "released": 2, "already_released": 2, "failed": 2, "skipped": 2}
    assert [down["provisioner"] for down in report["down"]] == ["default"]
    assert {error["sid"] for error in report["errors"]} == {"broken-1", "broken-2"}
    assert all(error["next_attempt_at"] > report["now"] for error in report["errors"])
    assert (report["rows_examined"], report["rows_invalid"]) == (10, 1)
    assert place.released() == {"fine-1", "fine-2", "gone-1", "gone-2"}


def test_a_dry_run_reports_too(place: Place) -> None:
    place.make_ledger([allocation("due", NOW - DAY), allocation("strange", "yesterday")])
    report = sweep(place, "--dry-run", code=3)
    assert (report["dry_run"], report["skipped"]["dry_run"], report["rows_released"]) == (True, 1, 0)


def test_errors_and_invalid_rows_are_cut_at_a_thousand_but_counted_to_the_last(place: Place) -> None:
    place.make_ledger(allocation(f"strange-{number:04d}", "yesterday") for number in range(1001))
    report = sweep(place, code=3)
    assert (report["rows_invalid"], len(report["invalid"]), report["truncated"]) == (1001, 1000, True)


def test_the_listing(place: Place) -> None:
    place.make_ledger(
        [
            allocation("due", NOW - DAY, owner="alice", plan="basic", vm_ref="vm-9"),
            allocation("bare", NOW - 2 * DAY),
            allocation("strange", "yesterday"),
            allocation("later", NOW + DAY),
        ]
    )
    found = listed(place)
    assert found["counts"] == {"release": 2, "skip": 0, "invalid": 1}
    assert found["guard"] == {"admitted": True, "reasons": []}
    bare, due = found["rows"]
    assert (bare["sid"], bare["vm_ref"], bare["owner"]) == ("bare", "bare", None)
    assert DAY <= due.pop("overdue_seconds") <= DAY + 3600
    assert due.pop("expires_at").endswith("Z")
    assert due == {
        "sid": "due",
        "owner": "alice",
        "plan": "basic",
        "provisioner": "default",
        "vm_ref": "vm-9",
        "status": "Active",
        "decision": "release",
        "reason": "expired",
    }
    every = listed(place, "--all")
    assert sids(every) == {"due", "bare"}
    assert sids(every, "invalid") == {"strange"}
    assert "later" not in json.dumps(every)


def test_the_listing_shows_what_is_skipped(place: Place) -> None:
    place.configure(command_provisioner([program(place.folder, "exit 1")]), PERMISSIVE)
    place.make_ledger([allocation("due", NOW - DAY)])
    sweep(place, code=3)
    assert listed(place)["rows"] == []
    found = listed(place, "--all")
    assert found["counts"] == {"release": 0, "skip": 1, "invalid": 0}
    assert [(row["sid"], row["reason"]) for row in found["rows"]] == [("due", "backoff")]


def test_the_history_holds_the_reports(place: Place) -> None:
    place.make_ledger([allocation("due", NOW - DAY)])
    first = sweep(place)
    second = sweep(place)
    found = history(place)
    assert [tick["tick"] for tick in found["ticks"]] == [second["tick"], first["tick"]]
    for report, tick in zip((second, first), found["ticks"], strict=True):
        assert report.items() <= tick.items()
        assert {"host", "version", "actor"} <= tick.keys()
        check_tick({name: tick[name] for name in report}, 0)
    one = history(place, "--tick", first["tick"])
    assert [event["event"] for event in one["events"]] == ["intent", "outcome"]
    assert {event["sid"] for event in one["events"]} == {"due"}
    assert one["events"] == history(place, "--sid", "due")["events"]


def test_a_tick_that_could_not_begin_is_in_the_history_too(place: Place) -> None:
    ran = place.run("tick", "--once", "--json")
    assert error_report(ran, 5)["error"] == "unusable"
    [tick] = history(place)["ticks"]
    assert (tick["exit_code"], tick["finished_at"] is not None) == (5, True)


def test_wrong_usage_is_an_error_object(place: Place) -> None:
    for arguments in (
        ("tick", "--json"),
        ("tick", "--once", "--json", "--at", "+1h"),
        ("tick", "--once", "--json", "--unknown-option"),
        ("tick", "--once", "--json", "--confirm", "many"),
    ):
        found = error_report(place.run(*arguments), 2)
        assert found["error"] == "usage"


def test_a_wrong_configuration_is_an_error_object(place: Place) -> None:
    place.configure(LEDGER_PROVISIONER, "[guards]\n")
    found = error_report(place.run("tick", "--once", "--json"), 4)
    assert found["error"] == "configuration"
    assert str(place.config) in found["message"]


def test_another_tick_is_an_error_object(place: Place) -> None:
    place.make_ledger([allocation("due", NOW - DAY)])
    with held_lock(place):
        found = error_report(place.run("tick", "--once", "--json"), 6)
    assert found["error"] == "locked"
    assert place.released() == set()
    # That one did nothing at all, and left no tick behind.
    assert history(place)["ticks"] == []
