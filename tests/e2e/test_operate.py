"""What an operator decides, by the installed command: hold, unhold, retry and release."""

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from autorelease.text import user_name
from tests.e2e.reports import error_report, footprint, history, listed, sids, sweep, tick_report, wait_until
from tests.support.place import (
    COMMAND,
    DAY,
    HOUR,
    LEDGER_PROVISIONER,
    NOW,
    PERMISSIVE,
    Place,
    allocation,
    command_provisioner,
    fresh_environment,
    program,
)
from tests.support.terminal import Shown, run_in_terminal

TWO = '[provisioners.second]\nkind = "ledger"\n'
BAD = b"\xff".decode("utf-8", "surrogateescape")


@pytest.fixture
def filled(place: Place) -> Place:
    """Two due rows, one that is paid for, and one that is invalid."""
    place.configure(LEDGER_PROVISIONER, TWO, PERMISSIVE)
    place.make_ledger(
        [
            allocation("due", NOW - 2 * DAY, owner="ann", vm_ref="vm-9"),
            allocation("second", NOW - DAY, provisioner="second"),
            allocation("paid", NOW + DAY),
            allocation("strange", "soon"),
        ]
    )
    return place


def actor() -> str:
    """Who we are where nothing in the environment says it."""
    uid = os.geteuid()
    return f"{user_name(uid)} (uid {uid})"


def events(place: Place, sid: str) -> list[tuple[str, str | None, str | None]]:
    """The events of one sid as (event, reason, evidence)."""
    return [(each["event"], each["reason"], each["evidence"]) for each in history(place, "--sid", sid)["events"]]


def statuses(place: Place) -> dict[str, str]:
    """The status of each sid in the ledger."""
    return dict(place.query("SELECT sid, status FROM vm_allocations"))


def untouched(place: Place) -> bool:
    """Whether neither ledger nor journal says that anything was begun."""
    return not place.released() and place.query("SELECT count(*) FROM ticks", database=place.journal) == [(0,)]


# --- hold and unhold --------------------------------------------------------------------------------------------------


def test_what_is_held_stays_until_the_hold_and_its_grace_are_over(filled: Place) -> None:
    ran = filled.run("hold", "due", "--reason", "payment is being looked into", environment={"SUDO_USER": "eve"})
    assert (ran.code, ran.out, ran.err) == (0, "due is held\n", "")
    uid = f"(uid {os.geteuid()})"
    assert events(filled, "due") == [("hold", "payment is being looked into", f"by eve {uid}")]
    assert [row["reason"] for row in listed(filled, "--all")["rows"] if row["sid"] == "due"] == ["held"]
    report = sweep(filled, code=3)
    assert (report["rows_released"], report["skipped"]["held"]) == (1, 1)
    # That of the one which was released, the held one's is far longer. NOW is when the tests began.
    assert DAY <= report["oldest_overdue_seconds"] <= DAY + time.time() - NOW
    ran = filled.run("unhold", "due", environment={"SUDO_USER": BAD})
    assert ran.code == 0
    assert ran.out.startswith("due is not held any more; no tick before ")
    # release.hold_grace is a day: nothing happens the moment somebody looks away.
    first = datetime.fromisoformat(ran.out.split(" before ")[1].split(" ")[0])
    assert abs(first - datetime.now(UTC) - timedelta(days=1)) < timedelta(minutes=2)
    assert sids(listed(filled)) == set()
    assert sids(listed(filled, "--at", "+25h")) == {"due", "paid"}
    assert events(filled, "due")[-1] == ("unhold", None, f"by \\udcff {uid}")
    again = filled.run("unhold", "due")
    assert (again.code, again.out) == (2, "")
    assert "'due' is not held" in again.err


def test_a_hold_with_an_end_follows_the_sid_across_renewals(filled: Place) -> None:
    ran = filled.run("hold", "paid", "--until", "2090-01-02T01:00:00+01:00", "--reason", "r")
    assert (ran.code, ran.out) == (0, "paid is held until 2090-01-02T00:00:00Z\n")
    filled.execute("UPDATE vm_allocations SET expires_at = ? WHERE sid = 'paid'", NOW - HOUR)
    assert "paid" not in sids(listed(filled))
    # And in its grace it is held on.
    assert "paid" not in sids(listed(filled, "--at", "2090-01-02T23:59:59Z"))
    assert "paid" in sids(listed(filled, "--at", "2090-01-03T00:00:00Z"))
    # A new hold takes the place of the old one.
    assert filled.run("hold", "paid", "--until", "+1h", "--reason", "r").code == 0
    assert "paid" in sids(listed(filled, "--at", "+26h"))


def test_a_hold_says_of_an_invalid_row_that_somebody_knows_of_it(filled: Place) -> None:
    assert sweep(filled, code=3)["rows_invalid"] == 1
    assert filled.run("hold", "strange", "--reason", "asked the owner").code == 0
    report = sweep(filled, code=0)
    assert (report["rows_invalid"], [row["sid"] for row in report["invalid"]]) == (1, ["strange"])
    assert history(filled)["ticks"][0]["exit_code"] == 0
    filled.insert([allocation("stranger", "sooner")])
    assert sweep(filled, code=3)["rows_invalid"] == 2


def slow_place(place: Place) -> Path:
    """A place whose release program says that it has begun, and waits to be told to go on; returns the folder."""
    body = f"touch {place.folder}/begun; while [ ! -e {place.folder}/go-on ]; do sleep 0.02; done"
    place.configure(command_provisioner([program(place.folder, body)]), PERMISSIVE)
    place.make_ledger([allocation("due", NOW - DAY)])
    return place.folder


def test_a_hold_that_comes_too_late_is_made_and_says_so(place: Place) -> None:
    folder = slow_place(place)
    with place.start("tick", "--once") as tick:
        wait_until((folder / "begun").exists)
        ran = place.run("hold", "due", "--reason", "wait!")
        (folder / "go-on").touch()
        tick.communicate(timeout=60)
    assert (ran.code, tick.returncode) == (3, 0)
    assert ran.out.startswith("due is held\nperhaps too late for this tick: its release began at ")
    assert "autorelease history --sid due" in ran.out
    assert place.released() == {"due"}
    assert [event for event, _, _ in events(place, "due")] == ["intent", "hold", "outcome"]
    # For a tick that has ended nothing is too late.
    assert place.run("hold", "due", "--reason", "still").code == 0


USAGE: dict[tuple[str, ...], str] = {
    ("hold", "due", "--reason", " "): "--reason is empty",
    ("hold", "due", "--reason", "r", "--until", "2020-01-01T00:00:00Z"): "not in the future",
    ("hold", "due", "--reason", "r", "--until", "2090-01-01T00:00:00"): "no time",
    ("hold", "nobody", "--reason", "r"): "no allocation 'nobody'",
    ("hold", BAD, "--reason", "r"): "not valid UTF-8",
    ("unhold", "due"): "'due' is not held",
    ("retry",): "either SIDs, or --all",
    ("retry", "due", "nobody"): "no allocation 'nobody'",
    ("retry", "--provisioner", "third"): "those it has: default, second",
    ("release", "due"): "add --yes",
    ("release", "due", "--yes", "--confirm", "0"): "--confirm",
    ("release", "due", "nobody", "--yes"): "no allocation 'nobody'",
    ("release", "due", "--reason", BAD, "--yes"): "not valid UTF-8",
}


def test_what_is_not_understood_is_one_line_and_changes_nothing(filled: Place) -> None:
    before = footprint(filled.folder)
    for arguments, said in USAGE.items():
        ran = filled.run(*arguments)
        assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1), (arguments, ran.err)
        assert said in ran.err
    assert footprint(filled.folder) == before


def test_without_a_journal_nothing_is_decided(filled: Place) -> None:
    """One made anew would know of no hold and no failure."""
    filled.journal.unlink()
    before = footprint(filled.folder)
    for command in (
        *("hold due --reason r", "hold --all --until +1h --reason r", "unhold due", "unhold --all"),
        *("retry due", "retry --all", "release due --yes"),
    ):
        ran = filled.run(*command.split())
        assert (ran.code, ran.out) == (5, ""), command
        assert "autorelease init" in ran.err
    assert footprint(filled.folder) == before


# --- retry ------------------------------------------------------------------------------------------------------------


def failing(place: Place) -> None:
    """Two rows whose release has failed once, each through a provisioner of its own, which are well again."""
    sections = [command_provisioner([program(place.folder, "exit 1")])]
    sections.append(sections[0].replace(".default]", ".second]"))
    place.configure(*sections, PERMISSIVE)
    place.make_ledger([allocation("due", NOW - 2 * DAY), allocation("second", NOW - DAY, provisioner="second")])
    assert sweep(place, code=3)["rows_failed"] == 2
    assert sweep(place, code=3)["skipped"]["backoff"] == 2
    place.configure(LEDGER_PROVISIONER, TWO, PERMISSIVE)


@pytest.mark.parametrize(
    ("arguments", "out", "released"),
    [
        (("due",), "due: failures forgotten\n", {"due"}),
        (("second", "due"), "second: failures forgotten\ndue: failures forgotten\n", {"due", "second"}),
        (("--all",), "due: failures forgotten\nsecond: failures forgotten\n", {"due", "second"}),
        (("--provisioner", "second"), "second: failures forgotten\n", {"second"}),
    ],
    ids=["one", "two", "all", "of one provisioner"],
)
def test_what_is_to_be_tried_again_goes_with_the_next_tick(
    place: Place, arguments: tuple[str, ...], out: str, released: set[str]
) -> None:
    failing(place)
    ran = place.run("retry", *arguments)
    assert (ran.code, ran.out, ran.err) == (0, out, "")
    assert sweep(place, code=0 if len(released) == 2 else 3)["rows_released"] == len(released)
    assert place.released() == released
    [sid, *_] = sorted(released)
    assert ("retry", "failures forgotten", f"by {actor()}") in events(place, sid)


def test_where_nothing_has_failed_there_is_nothing_to_forget(filled: Place) -> None:
    assert filled.run("retry", "--all").out == "nothing waits after failures\n"
    ran = filled.run("retry", "due", "due")
    assert (ran.code, ran.out) == (0, "due: nothing to forget\n")


def test_a_conflict_is_acknowledged_by_its_sid_alone(place: Place) -> None:
    folder = slow_place(place)
    with place.start("tick", "--once", "--json") as tick:
        wait_until((folder / "begun").exists)
        place.execute("UPDATE vm_allocations SET expires_at = ?", NOW + DAY)
        (folder / "go-on").touch()
        tick.communicate(timeout=60)
    assert tick.returncode == 3
    place.execute("DELETE FROM vm_allocations")
    assert [error["code"] for error in sweep(place, code=3)["errors"]] == ["conflict"]
    assert place.run("retry", "--all").out == "nothing waits after failures\n"
    assert sweep(place, code=3)["rows_failed"] == 1
    ran = place.run("retry", "due")
    assert (ran.code, ran.out) == (0, "due: conflict acknowledged\n")
    assert sweep(place, code=0)["rows_expired"] == 0
    assert events(place, "due")[-1] == ("retry", "conflict acknowledged", f"by {actor()}")


# --- release ----------------------------------------------------------------------------------------------------------


def test_what_an_operator_orders_is_released_past_date_and_guard(filled: Place) -> None:
    filled.configure(LEDGER_PROVISIONER, TWO, "[guard]\nmax_releases = 0\n")
    sweep(filled, code=7)
    ran = filled.run("release", "paid", "due", "--reason", "fraud, ticket 4711", "--yes")
    assert ran.code == 0, ran.err
    assert "released          2" in ran.out
    assert statuses(filled) == {"due": "Released", "paid": "Released", "second": "Active", "strange": "Active"}
    order, refused = history(filled)["ticks"]
    assert (order["kind"], order["reason"], order["actor"], order["exit_code"]) == (
        "release",
        "fraud, ticket 4711",
        actor(),
        0,
    )
    assert (refused["kind"], refused["reason"]) == ("tick", None)
    # Once more, and there is nothing left to do.
    ran = filled.run("release", "paid", "--yes")
    assert ran.code == 0
    assert "already released  1" in ran.out


def test_what_is_held_or_invalid_is_left_alone_and_says_what_to_do(filled: Place) -> None:
    filled.run("hold", "due", "--reason", "a dispute")
    ran = filled.run("release", "due", "strange", "paid", "--yes")
    assert ran.code == 3
    assert "skipped           1  (held 1)" in ran.out
    assert "invalid: strange: " in ran.out
    assert "due is held since " in ran.err
    assert ": a dispute. To release it, end that first: autorelease unhold due\n" in ran.err
    assert filled.released() == {"paid"}
    # And that is enough.
    assert filled.run("unhold", "due").code == 0
    assert filled.run("release", "due", "--yes").code == 0
    assert filled.released() == {"paid", "due"}


def test_a_vm_that_another_row_holds_too_is_left_alone(filled: Place) -> None:
    """One VM, two rows: whoever orders one of them may not know of the other."""
    filled.insert([allocation("new", NOW + DAY, vm_ref="vm-9")])
    ran = filled.run("release", "due", "--yes")
    assert ran.code == 3
    assert "invalid: due: vm_ref 'vm-9' is also held by 'new'" in ran.out
    assert filled.released() == set()


def test_what_came_back_with_an_old_backup_is_released_where_an_operator_says_so(filled: Place) -> None:
    sweep(filled, code=3)
    filled.execute("UPDATE vm_allocations SET status = 'Active', released_at = NULL WHERE sid = 'due'")
    assert sweep(filled, code=3)["skipped"]["resurrected"] == 1
    assert filled.run("release", "due", "--yes").code == 0
    assert filled.released() == {"due", "second"}
    assert sweep(filled, code=3)["rows_expired"] == 0


def test_a_provisioner_that_is_down_is_exit_8_here_too(place: Place) -> None:
    place.configure(command_provisioner([program(place.folder, "exit 77")]))
    place.make_ledger([allocation("due", NOW - DAY)])
    ran = place.run("release", "due", "--yes")
    assert (ran.code, place.released()) == (8, set())
    assert "down: default: " in ran.out


def unproven_place(place: Place) -> None:
    """A place whose program says of every VM that it is gone, which nobody believes yet."""
    body = "echo printed; exit 3"
    section = command_provisioner([program(place.folder, body), "{vm_ref}"]) + "already = [3]\n"
    place.configure(section, PERMISSIVE)
    place.make_ledger([allocation("a b", NOW - DAY), allocation("c", NOW - DAY)])


def test_the_report_of_a_release_as_json(place: Place) -> None:
    unproven_place(place)
    report = tick_report(place.run("release", "a b", "c", "--yes", "--json"), 8)
    assert (report["rows_expired"], {error["code"] for error in report["errors"]}) == (2, {"unproven"})
    error_report(place.run("release", "nobody", "--yes", "--json"), 2)


def test_what_to_type_after_misses_is_named_and_works(place: Place) -> None:
    unproven_place(place)
    ran = place.run("release", "a b", "c", "--yes")
    assert ran.code == 8
    assert "If they are gone: autorelease release 'a b' c --confirm 2" in ran.err
    ran = place.run("release", "a b", "c", "--yes", "--confirm", "1")
    assert ran.code == 7
    assert "named 2, not 1. Nothing was touched. Without --confirm" in ran.err
    # That answer was none: the next release names its misses anew.
    assert place.run("release", "a b", "c", "--yes", "--confirm", "2").code == 7
    assert place.run("release", "a b", "c", "--yes").code == 8
    ran = place.run("release", "a b", "c", "--yes", "--confirm", "2")
    assert (ran.code, place.released()) == (0, {"a b", "c"})


# --- the question -----------------------------------------------------------------------------------------------------


def asked(place: Place, *arguments: str, typed: str) -> Shown:
    """Order a release at a terminal, and type this."""
    variables = {**fresh_environment(place.folder), "TERM": "dumb"}
    command: list[str | Path] = [COMMAND, "--config", place.config, "release", *arguments]
    return run_in_terminal(command, variables, place.folder, columns=200, typed=typed)


def test_at_a_terminal_it_shows_the_rows_and_asks(filled: Place) -> None:
    ran = asked(filled, "due", "paid", typed="y\n")
    assert ran.code == 0
    lines = ran.out.splitlines()
    expires = datetime.fromtimestamp(NOW - 2 * DAY, UTC)
    assert lines[0] == f"due  ann  vm-9  default  Active  expires {expires:%Y-%m-%dT%H:%M:%SZ}"
    assert lines[1].startswith("paid  -  paid  default  Active  expires ")
    assert "Release 2 now? There is no undo. [y/N]:" in ran.err
    assert filled.released() == {"due", "paid"}


@pytest.mark.parametrize("typed", ["n\n", "\n", "\x04"], ids=["no", "nothing", "end of file"])
def test_whoever_does_not_say_yes_releases_nothing(filled: Place, typed: str) -> None:
    ran = asked(filled, "due", typed=typed)
    assert ran.code == 130
    assert "Traceback" not in ran.err
    assert untouched(filled)


def test_where_nothing_is_left_to_release_nothing_is_asked(filled: Place) -> None:
    filled.run("hold", "due", "--reason", "r")
    ran = asked(filled, "due", "strange", typed="")
    assert ran.code == 3
    assert "There is no undo" not in ran.out + ran.err
    assert filled.released() == set()
