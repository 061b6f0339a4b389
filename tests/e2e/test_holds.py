"""What is not to be released, by the installed command: `hold`, `unhold` and `holds`, of sids and of many."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.reports import footprint, history, listed, schema, sids, sweep, wait_until
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

TWO = '[provisioners.second]\nkind = "ledger"\n'
NO_GRACE = '[release]\nhold_grace = "0s"\n'
FAR = "2090-01-02T00:00:00Z"
BUTTON = ("hold", "--all", "--until", FAR, "--reason", "the provider is on fire")


@pytest.fixture
def filled(place: Place) -> Place:
    """Three due rows, one of them of another provisioner, and one that is invalid."""
    place.configure(LEDGER_PROVISIONER, TWO, PERMISSIVE)
    place.make_ledger(
        [
            allocation("a", NOW - 3 * DAY, owner="ann", vm_ref="vm-9"),
            allocation("b", NOW - 2 * DAY),
            allocation("c", NOW - DAY, provisioner="second"),
            allocation("strange", "soon"),
        ]
    )
    return place


def holds(place: Place) -> list[dict[str, Any]]:
    """What `holds` lists, by its schema."""
    ran = place.run("holds", "--format", "json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    schema("holds").validate(found)
    listed: list[dict[str, Any]] = found["holds"]
    return listed


def marks(place: Place) -> dict[str, str | None]:
    """The mark of each held sid."""
    return {hold["subject"]: hold["mark"] for hold in holds(place)}


# --- many sids --------------------------------------------------------------------------------------------------------


def test_many_are_held_and_unheld_at_once(filled: Place) -> None:
    ran = filled.run("hold", "a", "b", "a", "--reason", "fraud?")
    assert (ran.code, ran.out, ran.err) == (0, "a is held\nb is held\n", "")
    assert sids(listed(filled)) == {"c"}
    ran = filled.run("unhold", "a", "b")
    assert ran.code == 0
    assert [line.split(" ")[0] for line in ran.out.splitlines()] == ["a", "b"]
    assert [hold["state"] for hold in holds(filled)] == ["grace", "grace"]


def test_all_of_them_or_none(filled: Place) -> None:
    before = footprint(filled.folder)
    ran = filled.run("hold", "a", "x", "b", "y", "--reason", "r")
    assert (ran.code, ran.out) == (2, "")
    assert "no allocation 'x', 'y' is in the ledger. Nothing was done" in ran.err
    assert footprint(filled.folder) == before
    filled.run("hold", "a", "--reason", "r")
    ran = filled.run("unhold", "a", "b")
    assert (ran.code, ran.out) == (2, "")
    assert "'b' is not held. Nothing was done" in ran.err
    assert [hold["state"] for hold in holds(filled)] == ["held"]


# --- the red button ---------------------------------------------------------------------------------------------------


def test_the_red_button_and_back(filled: Place) -> None:
    ran = filled.run(*BUTTON)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        f"everything is held until {FAR}",
        "no tick before 2090-01-03T00:00:00Z releases any of it: release.hold_grace comes after the end",
    ]
    report = sweep(filled, code=0)
    assert (report["skipped"]["held"], report["rows_released"], report["rows_invalid"]) == (3, 0, 1)
    ran = filled.run("release", "a", "--yes")
    assert ran.code == 3
    assert "everything is held since" in ran.err
    assert "end that first: autorelease unhold --all" in ran.err
    health = filled.run("health")
    assert health.code == 0
    assert f"until {FAR}: the provider is on fire; no tick before 2090-01-03" in health.out
    assert "everything was held at" in filled.run("explain", "a").out
    [line] = [line for line in filled.run("doctor").out.splitlines() if "\tholds\t" in line]
    assert line.startswith("warn\t")
    assert "everything is held since" in line
    [event] = [each for each in history(filled)["events"] if each["event"] == "hold"]
    assert (event["sid"], event["reason"]) == (None, "the provider is on fire")
    filled.run("hold", "b", "--reason", "its own")
    ran = filled.run("unhold", "--all")
    assert ran.code == 0
    assert ran.out.startswith("everything is not held any more; no tick before ")
    filled.configure(LEDGER_PROVISIONER, TWO, PERMISSIVE, NO_GRACE)
    assert sweep(filled, code=3)["skipped"]["held"] == 1
    assert filled.released() == {"a", "c"}
    assert filled.run("unhold", "--all").code == 2


def test_all_of_one_provisioner(filled: Place) -> None:
    ran = filled.run("hold", "--provisioner", "second", "--reason", "moving house")
    assert (ran.code, ran.out) == (0, "everything of second is held\n")
    assert sweep(filled, code=3)["rows_released"] == 2
    [hold] = holds(filled)
    assert (hold["scope"], hold["subject"], hold["until"], hold["row"]) == ("provisioner", "second", None, None)
    # The section may be gone by the time that somebody ends it.
    filled.configure(LEDGER_PROVISIONER, PERMISSIVE)
    assert filled.run("unhold", "--provisioner", "second").code == 0
    assert filled.run("hold", "--provisioner", "second", "--reason", "r").code == 2


def test_the_red_button_needs_no_ledger(filled: Place) -> None:
    filled.ledger.rename(filled.ledger.with_name("elsewhere"))
    assert filled.run(*BUTTON).code == 0
    assert filled.run("unhold", "--all").code == 0


def stepping_place(place: Place) -> Path:
    """Two rows whose release says that it has begun, and waits to be told to go on; one call after the other."""
    body = f"touch {place.folder}/begun-$1; while [ ! -e {place.folder}/go-on ]; do sleep 0.02; done"
    section = command_provisioner([program(place.folder, body), "{sid}"])
    place.configure(section, PERMISSIVE, "[release]\nconcurrency = 1\n")
    place.make_ledger([allocation("first", NOW - DAY), allocation("second", NOW - HOUR)])
    return place.folder


def test_the_red_button_during_a_tick_stops_what_has_not_begun_and_names_what_has(place: Place) -> None:
    folder = stepping_place(place)
    with place.start("tick", "--once") as tick:
        wait_until((folder / "begun-first").exists)
        ran = place.run(*BUTTON)
        (folder / "go-on").touch()
        tick.communicate(timeout=60)
    assert (ran.code, tick.returncode) == (3, 0)
    [late] = [line for line in ran.out.splitlines() if "too late" in line]
    assert late.startswith("perhaps too late for this tick: first, whose release began at ")
    assert place.released() == {"first"}
    assert not (folder / "begun-second").exists()


def test_the_red_button_after_a_kill_says_what_was_cut_off(place: Place) -> None:
    folder = stepping_place(place)
    with place.start("tick", "--once") as tick:
        wait_until((folder / "begun-first").exists)
        tick.send_signal(signal.SIGKILL)
        tick.communicate(timeout=60)
        (folder / "go-on").touch()
    ran = place.run(*BUTTON)
    assert ran.code == 3
    assert "first: its release began at " in ran.out
    assert "too late" not in ran.out


# --- a hold outlives its row ------------------------------------------------------------------------------------------


def test_a_hold_that_was_made_for_somebody_else_says_so_everywhere(filled: Place) -> None:
    filled.run("hold", "a", "--reason", "ann's")
    assert marks(filled) == {"a": None}
    filled.execute("UPDATE vm_allocations SET vm_ref = ' VM-9', owner = 'ANN' WHERE sid = 'a'")
    assert marks(filled) == {"a": None}
    filled.execute("DELETE FROM vm_allocations WHERE sid = 'a'")
    assert marks(filled) == {"a": "row_gone"}
    assert "no row has this sid any more" in filled.run("explain", "a").out
    filled.insert([allocation("a", NOW - HOUR, owner="bob", vm_ref="vm-10")])
    [hold] = holds(filled)
    assert hold["mark"] == "other_vm"
    assert "vm_ref 'vm-9', and the row says 'vm-10' now; for owner 'ann', and the row says 'bob' now" in hold["note"]
    # It holds on until somebody has looked.
    [row] = [row for row in listed(filled, "--all")["rows"] if row["sid"] == "a"]
    assert row["decision"] == "skip"
    assert row["reason"].startswith("held: it was made for vm_ref 'vm-9'")
    assert "held for whom" in filled.run("explain", "a").out
    [line] = [line for line in filled.run("doctor").out.splitlines() if "\tholds\t" in line]
    assert line.startswith("warn\t")
    assert "autorelease unhold a" in line
    assert sweep(filled, code=3)["skipped"]["held"] == 1
    # A new one is made for whom it is.
    filled.run("hold", "a", "--reason", "bob's")
    assert marks(filled) == {"a": None}


def test_a_hold_of_a_row_that_nobody_can_read_is_of_that_sid(filled: Place) -> None:
    filled.run("hold", "strange", "--reason", "asked the owner")
    [hold] = holds(filled)
    assert hold["mark"] is None
    assert hold["row"].startswith("invalid: ")


def test_an_owner_that_is_no_text_is_no_trouble(filled: Place) -> None:
    filled.execute("UPDATE vm_allocations SET owner = CAST(X'ff41' AS TEXT) WHERE sid = 'a'")
    assert filled.run("hold", "a", "--reason", "r").code == 0
    assert marks(filled) == {"a": None}


def test_the_formats_of_holds_say_the_same(filled: Place) -> None:
    assert filled.run("holds").out.count("\n") == 1
    filled.run("hold", "a", "--until", "+72h", "--reason", "two\twords")
    filled.run(*BUTTON)
    everything, own = holds(filled)
    assert "." not in own["until"]
    assert (everything["scope"], everything["subject"], own["subject"]) == ("all", None, "a")
    table = filled.run("holds", "--format", "table").out
    assert "everything" in table
    assert table.split()[:2] == ["held", "state"]
    header, *lines = filled.run("holds").out.splitlines()
    assert header.split("\t") == list(everything)
    assert [line.split("\t")[0] for line in lines] == ["all", "sid"]
    assert lines[1].split("\t")[7] == "two\\twords"


# --- what is not understood -------------------------------------------------------------------------------------------

USAGE: dict[tuple[str, ...], str] = {
    ("hold", "--reason", "r"): "either SIDs, or --provisioner NAME, or --all",
    ("hold", "a", "--all", "--until", FAR, "--reason", "r"): "either SIDs, or --provisioner NAME, or --all",
    ("hold", "a", "--provisioner", "second", "--reason", "r"): "either SIDs, or --provisioner NAME, or --all",
    ("hold", "--all", "--reason", "r"): "--all wants --until TIME",
    ("hold", "--all", "--until", "2090-01-01", "--reason", "r"): "no time",
    ("hold", "--all", "--until", "2090-01-01T00:00:00", "--reason", "r"): "no time",
    ("hold", "--all", "--until", "+99999999999d", "--reason", "r"): "no time",
    ("hold", "--all", "--until", "+9999999d", "--reason", "r"): "no time",
    ("hold", "--all", "--until", "+0s", "--reason", "r"): "not in the future",
    ("hold", "--all", "--until", "2020-01-01T00:00:00Z", "--reason", "r"): "not in the future",
    ("hold", "--all", "--until", FAR, "--reason", " \t"): "--reason is empty",
    ("hold", "--all", "--until", FAR): "--reason",
    ("hold", "", "--reason", "r"): "a SID is empty",
    ("hold", "--provisioner", "third", "--reason", "r"): "those it has: default, second",
    ("hold", "--provisioner", "", "--reason", "r"): "those it has: default, second",
    ("unhold",): "either SIDs, or --provisioner NAME, or --all",
    ("unhold", "a", "--all"): "either SIDs, or --provisioner NAME, or --all",
    ("unhold", "--all"): "everything is not held",
    ("unhold", "--provisioner", "third"): "everything of third is not held",
    ("unhold", "a", "b"): "'a', 'b' are not held. Nothing was done",
}


def test_what_is_not_understood_is_one_line_and_changes_nothing(filled: Place) -> None:
    before = footprint(filled.folder)
    for arguments, message in USAGE.items():
        ran = filled.run(*arguments)
        assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1), (arguments, ran.err)
        assert message in ran.err, arguments
    assert footprint(filled.folder) == before
