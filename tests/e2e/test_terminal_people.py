"""What people read on a terminal: units, whole seconds, states with colours; whatever the data is, and however wide.

What goes into a pipe has seconds and full precision, and none of this.
"""

import json
import re

import pytest

from tests.e2e.test_terminal import in_terminal, without_escapes
from tests.support.place import DAY, HOUR, LEDGER_PROVISIONER, NOW, PERMISSIVE, Place, allocation

# What a table, a terminal or a markup language could make something else of.
HOSTILE = {
    "markup": "[bold red]vm[/] [link=http://x]y[/link] [/nothing]",
    "emoji": ":smile:-:warning:-vm",
    "escape": "vm\x1b[2J\x1b]0;title\x07",
    "lines": "vm\nERROR refused\r\tvm",
    "wide": "東京" * 15,
    "reversed": "vm\u202e\u200bsid",
    "long": "vm-" + "".join(f"{number:03d}." for number in range(40)),
    "spaces": "a  b   c",
    "percent": "%s{sid}\\n$(reboot)",
}
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"
GREEN, YELLOW, RED = "\x1b[32m", "\x1b[33m", "\x1b[1;31m"


@pytest.fixture
def here(place: Place) -> Place:
    """One due row of each kind, overdue by 217 days and some hours."""
    place.configure(LEDGER_PROVISIONER, PERMISSIVE)
    place.make_ledger(
        [
            *(allocation(sid, NOW - 217 * DAY - 3 * HOUR) for sid in HOSTILE.values()),
            allocation("soon", NOW + 2 * DAY),
            allocation("invalid", (NOW - DAY) * 1000),
        ]
    )
    return place


def as_shown(sid: str) -> str:
    """What is not printable, as its escape."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in sid)


def without_space(text: str) -> str:
    """What is left of folded cells, one after the other."""
    return re.sub(r"\s", "", text)


def column(out: str, name: str) -> str:
    """The cells of a column of a table, one under the other; wide characters take two places."""
    head, *lines = without_escapes(out).splitlines()
    start = head.index(name)
    ends = re.compile(r"\S+\s*").match(head, start)
    width = (ends.end() if ends else len(head)) - start
    return "".join(line[start : start + width].strip() if line.isascii() else line for line in lines)


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize("command", [("list-expired",), ("list-expired", "--all"), ("history", "--tick", "TICK")])
def test_no_id_is_cut_and_no_data_is_taken_for_more(command: tuple[str, ...], columns: int, here: Place) -> None:
    if "TICK" in command:
        assert here.run("tick", "--once").code == 3
        tick = json.loads(here.run("history", "--format", "json").out)["ticks"][0]["tick"]
        command = (*command[:-1], tick)
    ran = in_terminal(here, *command, columns=columns)
    assert ran.code == 0
    # Only colours and styles: nothing that moves, clears or names anything.
    assert set(re.findall(r"\x1b(.)", ran.out)) <= {"["}
    assert set(re.findall(r"\x1b\[[0-9;?]*([A-Za-z])", ran.out)) <= {"m"}
    assert not set("\a\r\t\u202e\u200b") & set(ran.out)
    assert "…" not in ran.out
    shown = column(ran.out, "sid")
    for kind in ("markup", "emoji", "escape", "lines", "reversed", "long", "percent"):
        assert without_space(as_shown(HOSTILE[kind])) in without_space(shown), kind
    assert "東" in ran.out


@pytest.mark.parametrize("columns", [80, 200])
def test_durations_have_a_unit_and_times_end_at_the_second(columns: int, here: Place) -> None:
    ran = in_terminal(here, "list-expired", columns=columns)
    out = without_escapes(ran.out)
    assert "217 d" in out
    assert "overdue_seconds" not in out
    ran = in_terminal(here, "upcoming", "--rows", columns=columns)
    assert re.search(r"\b(2\.0 d|4[78]\.\d h)\b", without_escapes(ran.out))
    tick = without_escapes(in_terminal(here, "tick", "--once", columns=columns).out)
    assert "oldest overdue    217 d" in tick
    assert re.search(r"^took +[0-9.]+ (ms|s)$", tick, re.MULTILINE)
    ran = in_terminal(here, "history", columns=300)
    assert re.search(rf"{TIME}Z", ran.out)
    for command in (("history",), ("history", "--sid", "soon"), ("explain", HOSTILE["long"]), ("health",), ("doctor",)):
        ran = in_terminal(here, *command, columns=columns)
        assert not re.search(rf"{TIME}\.\d", without_escapes(ran.out)), command


def test_pipes_have_seconds_and_full_precision(here: Place) -> None:
    header, first, *_ = here.run("list-expired").out.splitlines()
    row = dict(zip(header.split("\t"), first.split("\t"), strict=True))
    assert int(row["overdue_seconds"]) >= 217 * DAY
    assert here.run("tick", "--once").code == 3
    assert re.search(rf"\t{TIME}\.\d{{6}}Z\t", here.run("history").out)
    assert re.search(r"\.\d{6}Z +intent", here.run("explain", HOSTILE["long"]).out)
    for command in (("tick", "--once", "--dry-run"), ("doctor",), ("explain", "soon"), ("history",), ("health",)):
        assert "\x1b" not in here.run(*command, environment={"TERM": "xterm-256color"}).out


def test_states_have_a_colour_and_a_word(here: Place) -> None:
    listed = in_terminal(here, "list-expired", "--all", columns=200).out
    assert f"{GREEN}release" in listed
    assert f"{RED}invalid" in listed
    assert f"{YELLOW}tick" in in_terminal(here, "tick", "--once").out
    assert f"{YELLOW}partial" in in_terminal(here, "history", columns=200).out
    doctor = in_terminal(here, "doctor").out
    assert f"{GREEN}ok" in doctor
    assert f"{YELLOW}warn" in doctor
    assert f"{GREEN}healthy" in in_terminal(here, "health").out
    assert f"{RED}stale" in in_terminal(here, "health", "--max-age", "0s").out
    explained = in_terminal(here, "explain", "invalid").out
    assert re.search(rf"^{re.escape(RED)} +would +report it as invalid", explained, re.MULTILINE)


# A line of each state that a command shows here.
WORDS = {
    "list-expired --all": (r"a  b   c .* release +expired *", r"invalid .* invalid +expires_at *"),
    "tick --once": (r"tick \S+: partial \(exit 3\)",),
    "history": (r"\S+ +partial +3 .*",),
    "doctor": (r"ok    configuration .*", r"warn  index .*"),
    "health": (r"healthy: the last tick ran through, .*",),
    "explain invalid": (r"  invalid +expires_at .*: it is never released", r"  would +report it as invalid"),
}


@pytest.mark.parametrize(("command", "words"), WORDS.items(), ids=WORDS)
def test_without_colours_the_words_are_all_there(command: str, words: tuple[str, ...], here: Place) -> None:
    # A listing is of what no tick has released yet; a history, and what is healthy, is of a tick that was.
    if command in ("history", "health"):
        assert here.run("tick", "--once").code == 3
    ran = in_terminal(here, *command.split(), NO_COLOR="1")
    assert "\x1b" not in ran.out
    for line in words:
        assert re.search(f"^{line}$", ran.out, re.MULTILINE), line


def test_what_is_left_out_for_want_of_room_is_named(here: Place) -> None:
    ran = in_terminal(here, "list-expired", columns=80)
    assert "left out, for there is no room: " in ran.out
    assert "left out" not in in_terminal(here, "list-expired", columns=400).out


def test_a_remedy_is_one_line_that_can_be_copied(here: Place) -> None:
    ran = in_terminal(here, "doctor", columns=80, NO_COLOR="1")
    lines = [line.strip() for line in ran.out.splitlines()]
    [remedy] = [line for line in lines if line.startswith('Do: CREATE INDEX "vm_allocations_due"')]
    assert remedy.endswith(";")
    assert len(remedy) > 80
    # The others are broken between words, and begin under the first of them.
    assert all(len(line) <= 80 for line in ran.out.splitlines() if "Do: " not in line and "/" not in line)
    assert re.search(r"^\d+ warn, \d+ ok$", ran.out, re.MULTILINE)
