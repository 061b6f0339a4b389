"""What a person at a terminal sees, and that nothing of it gets into a pipe."""

import re

import pytest

from tests.support.place import COMMAND, DAY, NOW, PERMISSIVE, Place, allocation, command_provisioner, fresh_environment
from tests.support.place import program as make_program
from tests.support.terminal import Shown, run_in_terminal

COLUMNS = [
    "sid",
    "owner",
    "plan",
    "provisioner",
    "vm_ref",
    "status",
    "expires_at",
    "overdue_seconds",
    "decision",
    "reason",
]
# For people the unit stands with the number.
HEADINGS = ["overdue" if name == "overdue_seconds" else name for name in COLUMNS]
LONG = "vm-" + "".join(f"{number:03d}." for number in range(60))
ESCAPE = "\x1b"


def in_terminal(place: Place, *arguments: str, columns: int = 80, **environment: str) -> Shown:
    """Run the command in a terminal of this width."""
    variables = {**fresh_environment(place.folder), "TERM": "xterm-256color", **environment}
    return run_in_terminal([COMMAND, "--config", place.config, *arguments], variables, place.folder, columns=columns)


def without_escapes(text: str) -> str:
    """What is left on the screen."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


@pytest.fixture
def shown(place: Place) -> Place:
    """Rows that a table could spoil."""
    place.make_ledger(
        [
            allocation(LONG, NOW - 2 * DAY),
            allocation("markup", NOW - DAY, owner="[bold]Ann[/bold]", plan="[red]", vm_ref=":smile:"),
        ]
    )
    return place


def test_a_table_in_a_terminal(shown: Place) -> None:
    ran = in_terminal(shown, "list-expired", columns=300)
    assert ran.code == 0
    assert ESCAPE + "[" in ran.out
    lines = without_escapes(ran.out).splitlines()
    assert lines[0].split() == HEADINGS
    assert "\t" not in ran.out
    [markup] = [line for line in lines if line.startswith("markup")]
    assert markup.split()[1:5] == ["[bold]Ann[/bold]", "[red]", "default", ":smile:"]
    # Below the table stands what the guard would say.
    assert "2 to release" in lines[-1]
    assert "the guard would admit it" in lines[-1]


def test_no_color_means_no_escapes(shown: Place) -> None:
    ran = in_terminal(shown, "list-expired", columns=300, NO_COLOR="1")
    assert ran.code == 0
    assert ESCAPE not in ran.out + ran.err
    assert ran.out.splitlines()[0].split() == HEADINGS


def test_a_dumb_terminal_gets_no_escapes(shown: Place) -> None:
    ran = in_terminal(shown, "list-expired", columns=300, TERM="dumb")
    assert ESCAPE not in ran.out + ran.err


def test_a_long_sid_is_folded_and_never_cut(shown: Place) -> None:
    ran = in_terminal(shown, "list-expired", "--at", "+0s", columns=100)
    assert ran.code == 0
    assert "…" not in ran.out
    # The first column, piece by piece, down to the next row.
    pieces = [line.split(" ")[0] for line in without_escapes(ran.out).splitlines() if line[:1] not in ("", " ")]
    assert LONG in "".join(pieces)


def test_in_a_pipe_it_is_plain(shown: Place) -> None:
    ran = shown.run("list-expired", environment={"TERM": "xterm-256color"})
    assert ESCAPE not in ran.out + ran.err
    lines = [line.split("\t") for line in ran.out.splitlines()]
    assert lines[0] == COLUMNS
    assert [line[0] for line in lines[1:]] == [LONG, "markup"]
    assert lines[2][1] == "[bold]Ann[/bold]"
    # Rows alone: what the guard would say goes to stderr.
    assert "the guard would admit it" in ran.err


def test_history_in_a_terminal(shown: Place) -> None:
    assert in_terminal(shown, "tick", "--once").code == 0
    ran = in_terminal(shown, "history", columns=400)
    assert ran.code == 0
    assert without_escapes(ran.out).split()[:3] == ["tick", "started_at", "finished_at"]
    events = in_terminal(shown, "history", "--sid", "markup", columns=400)
    assert "outcome" in without_escapes(events.out)


def test_a_tick_in_a_terminal_shows_its_progress_on_stderr(place: Place) -> None:
    # Each takes longer than the bar's own pause between two pictures.
    place.configure(
        command_provisioner([make_program(place.folder, "sleep 0.3")]), PERMISSIVE, "[release]\nconcurrency = 2\n"
    )
    place.make_ledger(allocation(f"vm-{number}", NOW - DAY) for number in range(4))
    ran = in_terminal(place, "tick", "--once")
    assert ran.code == 0
    assert "releasing" in without_escapes(ran.err)
    assert "releasing" not in ran.out
    assert "released          4" in without_escapes(ran.out)
    # The bar takes the place of a log line for each.
    assert "INFO" not in ran.err


def test_a_tick_without_work_shows_no_progress(place: Place) -> None:
    place.make_ledger([allocation("later", NOW + DAY)])
    ran = in_terminal(place, "tick", "--once")
    assert (ran.code, ran.err) == (0, "")


def test_errors_in_a_terminal_are_lines_and_no_boxes(place: Place) -> None:
    for arguments, code in ((("tick",), 2), (("--unknown",), 2), (("list-expired",), 5)):
        ran = in_terminal(place, *arguments)
        assert (ran.code, ran.out) == (code, "")
        assert not set("╭╰│┃") & set(ran.err)
        assert len(ran.err.splitlines()) == 1
