"""What is drawn where it is narrow."""

import re

import pytest

from autorelease.render import terminal

LONG = "vm-" + "".join(f"{number:03d}." for number in range(40))


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    monkeypatch.setenv("NO_COLOR", "1")


def test_an_id_is_folded_and_never_cut() -> None:
    drawn = terminal.table(("sid", "vm_ref"), [{"sid": LONG, "vm_ref": f"[red]{LONG}"}], None, ())
    pieces = [line.split(" ")[0] for line in drawn.splitlines()[1:]]
    assert "".join(pieces) == LONG
    assert re.sub(r"\s", "", "".join(line.split(" ", 1)[1] for line in drawn.splitlines()[1:])) == f"[red]{LONG}"


def test_what_is_spare_is_left_out_in_its_order_and_named() -> None:
    rows = [{"sid": "a" * 20, "owner": "b" * 20, "plan": "c" * 20, "empty": None}]
    columns = ("sid", "owner", "plan", "empty")
    drawn = terminal.table(columns, rows, None, ("owner", "plan"))
    assert drawn.splitlines()[0].split() == ["sid", "plan"]
    assert "left out, for there is no room: owner (" in drawn
    assert "left out" not in terminal.table(columns[:2], rows, None, ("owner",))


def test_without_rows_the_headings_stand_there() -> None:
    assert terminal.table(("sid", "owner"), [], None, ()).split() == ["sid", "owner"]


def test_a_check_without_a_remedy_and_one_with() -> None:
    rows: list[dict[str, str | None]] = [
        {"state": "fail", "check": "a", "message": "word " * 20 + LONG, "remedy": "type " + LONG},
        {"state": "ok", "check": "longer", "message": "", "remedy": None},
    ]
    lines = terminal.checks(rows).splitlines()
    assert lines[0].startswith("fail  a       word word")
    assert f"              {LONG}" in lines
    assert f"              Do: type {LONG}" in lines
    assert lines[-1] == "1 fail, 1 ok"
