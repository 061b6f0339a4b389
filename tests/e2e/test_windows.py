"""Several provisioners in one tick of the installed command, each with programs of its own."""

import json
from collections.abc import Sequence

import pytest

from tests.support.place import DAY, HOUR, LEDGER_PROVISIONER, NOW, PERMISSIVE, Place, allocation, program

QUICK = [f"quick-{number:02}" for number in range(20)]
SLOW = [f"slow-{number}" for number in range(6)]


def section(name: str, argv: Sequence[object], *lines: str) -> str:
    """A `[provisioners.NAME]` of kind command."""
    return "\n".join(
        [f"[provisioners.{name}]", 'kind = "command"', f"argv = {json.dumps(list(map(str, argv)))}", *lines, ""]
    )


def add_both(place: Place) -> None:
    """More rows of the slow one than it has workers, all of them older than those of the quick one."""
    place.make_ledger(
        [
            *(allocation(sid, NOW - 2 * DAY, provisioner="slow") for sid in SLOW),
            *(allocation(sid, NOW - DAY, provisioner="quick") for sid in QUICK),
        ]
    )


def configure(place: Place, slow_does: str, *lines: str) -> None:
    """The quick program notes its calls, and the slow one does this, which may look at them."""
    called = place.folder / "called"
    called.touch()
    quick = program(place.folder, f'echo "$1" >> {called}', "quick")
    slow = program(place.folder, f"called={called}\n{slow_does}", "slow")
    place.configure(
        section("slow", [slow, "{sid}"], *lines),
        section("quick", [quick, "{sid}"]),
        '[release]\nconcurrency = 2\ntimeout = "60s"\n',
        PERMISSIVE,
    )


UNTIL_ALL_ARE_CALLED = 'while [ "$(wc -l < $called)" -lt 20 ]; do sleep 0.05; done\n'


def test_a_program_that_hangs_holds_up_no_other(place: Place) -> None:
    """No slow call ends before the last of the quick ones has begun."""
    configure(place, UNTIL_ALL_ARE_CALLED)
    add_both(place)
    ran = place.run("tick", "--once", "--json")
    assert (ran.code, ran.json()["rows_released"]) == (0, 26)


def test_a_program_that_wants_to_be_tried_again_holds_up_no_other(place: Place) -> None:
    configure(place, 'if [ "$(wc -l < $called)" -lt 20 ]; then exit 75; fi')
    add_both(place)
    ran = place.run("tick", "--once", "--json")
    assert set(QUICK) <= place.released()
    assert ran.json()["rows_released"] >= 20


def test_a_program_that_is_missing_holds_up_no_other_and_has_one_line(place: Place) -> None:
    configure(place, "exit 0")
    (place.folder / "slow").unlink()
    add_both(place)
    ran = place.run("tick", "--once")
    assert (ran.code, place.released()) == (8, set(QUICK))
    [line] = [line for line in ran.err.splitlines() if "slow" in line]
    assert "ERROR provisioner slow is down: the program" in line
    assert line.endswith("Rows left for the next tick, uncharged: 6. Look: autorelease doctor")


def test_a_section_says_how_many_of_its_calls_there_are_at_once(place: Place) -> None:
    """The second call would see the folder that the first one has made."""
    busy = place.folder / "busy"
    configure(place, f"mkdir {busy} || exit 1\n{UNTIL_ALL_ARE_CALLED}rmdir {busy}", "concurrency = 1")
    add_both(place)
    ran = place.run("tick", "--once", "--json")
    assert (ran.code, ran.json()["rows_released"]) == (0, 26), ran.out


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("concurrency = 0", "[provisioners.slow] 'concurrency': must be an integer from 1 to 256"),
        ("max_per_second = -1", "[provisioners.slow] 'max_per_second': must be a number above 0"),
        ("concurency = 4", "[provisioners.slow] has the unknown key 'concurency'. The nearest known key is 'concurr"),
    ],
)
@pytest.mark.parametrize("command", [("tick", "--once"), ("tick", "--once", "--dry-run"), ("list-expired",)])
def test_what_a_section_says_wrongly_is_named(place: Place, command: Sequence[str], line: str, said: str) -> None:
    configure(place, "exit 0", line)
    add_both(place)
    ran = place.run(*command)
    assert ran.code == 4
    assert f"config.toml: {said}" in ran.err


# --- rows that no section serves --------------------------------------------------------------------------------------


@pytest.fixture
def unserved(place: Place) -> Place:
    """One row that is served, one that will be due, and three that no section serves."""
    place.configure(LEDGER_PROVISIONER, PERMISSIVE)
    place.make_ledger(
        [
            allocation("fine", NOW - DAY),
            *(allocation(f"lost-{number}", NOW - DAY, provisioner="nowhere") for number in range(3)),
            allocation("soon", NOW + HOUR, provisioner="nowhere"),
        ]
    )
    return place


def test_what_no_section_serves_is_seen_before_the_tick(unserved: Place) -> None:
    listed = unserved.run("list-expired", "--all", "--format", "json").json()
    assert listed["counts"] == {"release": 1, "skip": 3, "invalid": 0}
    assert {row["sid"]: row["reason"] for row in listed["rows"]} == {
        "fine": "expired",
        **{f"lost-{number}": "no_provisioner" for number in range(3)},
    }
    explained = unserved.run("explain", "lost-1").out
    assert "no_provisioner: the configuration has no section [provisioners.nowhere]" in explained
    upcoming = unserved.run("upcoming", "--format", "json").json()
    assert [(row["sid"], row["note"]) for row in upcoming["rows"]] == [("soon", "no_provisioner")]
    doctor = unserved.run("doctor", "--format", "json").json()
    [check] = [check for check in doctor["checks"] if check["check"] == "provisioner nowhere"]
    assert check["state"] == "fail"
    assert "3 expired rows name it" in check["message"]
    dry = unserved.run("tick", "--once", "--dry-run", "--json")
    assert (dry.code, dry.json()["exit_code"], dry.json()["skipped"]["no_provisioner"]) == (3, 3, 3)


def test_what_no_section_serves_is_left_alone_and_named_once(unserved: Place) -> None:
    ran = unserved.run("tick", "--once", "--json")
    report = ran.json()
    assert (ran.code, unserved.released()) == (8, {"fine"})
    assert (report["rows_expired"], report["rows_skipped"], report["skipped"]["no_provisioner"]) == (4, 3, 3)
    assert [down["provisioner"] for down in report["down"]] == ["nowhere"]
    [line] = [line for line in ran.err.splitlines() if "nowhere" in line]
    assert "has no section [provisioners.nowhere], and 3 expired rows name it" in line
    assert unserved.query("SELECT count(*) FROM attempts WHERE failed_ticks", database=unserved.journal) == [(0,)]
    events = unserved.run("history", "--sid", "lost-0", "--format", "json").json()["events"]
    assert [(event["outcome"], event["reason"]) for event in events] == [("skipped", "no_provisioner")]


def test_an_order_for_what_no_section_serves_releases_nothing(unserved: Place) -> None:
    ran = unserved.run("release", "soon", "--yes")
    assert (ran.code, unserved.released()) == (8, set())
    assert "no_provisioner 1" in ran.out
    assert "the configuration has no section [provisioners.nowhere]" in ran.out


def test_a_listing_without_any_section(unserved: Place) -> None:
    unserved.configure(PERMISSIVE)
    listed = unserved.run("list-expired", "--all", "--format", "json")
    assert listed.code == 0
    assert listed.json()["counts"] == {"release": 0, "skip": 4, "invalid": 0}
    assert {row["reason"] for row in listed.json()["rows"]} == {"no_provisioner"}
    for command in (("tick", "--once"), ("tick", "--once", "--dry-run")):
        ran = unserved.run(*command)
        assert (ran.code, unserved.released()) == (4, set())
        assert "no provisioner is configured" in ran.err


# --- the first few ----------------------------------------------------------------------------------------------------


def test_the_first_few_go_before_the_many(place: Place) -> None:
    place.configure(LEDGER_PROVISIONER, PERMISSIVE)
    place.make_ledger([allocation(f"vm-{number}", NOW - DAY + number) for number in range(5)])
    dry = place.run("tick", "--once", "--dry-run", "--limit", "2", "--json")
    assert (dry.code, dry.json()["skipped"]["dry_run"], dry.json()["skipped"]["deferred"]) == (3, 2, 3)
    ran = place.run("tick", "--once", "--limit", "2", "--json")
    assert (ran.code, ran.json()["status"], ran.json()["stopped_by"]) == (3, "partial", None)
    assert place.released() == {"vm-0", "vm-1"}
    assert "limited to 2. Rows left for the next tick: 3, the oldest is vm-2" in ran.err
    assert (place.run("tick", "--once").code, len(place.released())) == (0, 5)


@pytest.mark.parametrize("number", ["0", "-1", "1.5", "all", ""])
def test_a_limit_is_at_least_one(place: Place, number: str) -> None:
    place.configure(LEDGER_PROVISIONER, PERMISSIVE)
    place.make_ledger([allocation("a", NOW - DAY)])
    ran = place.run("tick", "--once", "--limit", number)
    assert (ran.code, place.released()) == (2, set())
    assert "--limit" in ran.err
