"""The programs behind what is said of speed run, write what can be read again, and leave nothing behind."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from bench import auditing, command, curve, everything, explain, large, start, suite, sweep, text
from bench.picture import draw
from bench.quote import quoted
from bench.results import Part, Point, Row, curve_points, reached_rows, replace_row
from bench.running import BenchError, Measured, Run
from bench.running import run as measured
from bench.sizes import ALL
from tests.docs.documents import ROOT
from tests.support.place import fresh_environment

TITLE = "{http://www.w3.org/2000/svg}title"
TIMES = "\N{MULTIPLICATION SIGN}"
POINTS = [Point(rows, due, rows / 1000, 20.5 + due / 100) for rows in (100, 1000) for due in (0, 10, 100)]


def run(folder: Path, name: str, *options: str) -> "subprocess.CompletedProcess[str]":
    """One of the programs, in this folder."""
    return subprocess.run(
        [sys.executable, ROOT / "bench" / f"{name}.py", *options],
        cwd=folder,
        env=fresh_environment(folder),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


# --- how it is written and read again ---------------------------------------------------------------------------------


def parts() -> list[Part]:
    measured = {"a": Measured([Run(1.0, 0.5, 20.0), Run(3.0, 0.5, 22.0), Run(2.0, 0.7, 21.0)])}
    rows = [
        Row("a", "b", 2.0, limit=1.5),
        Row("a", "c", None, limit=1),
        Row("rate", "d", 0.8, "{} of it", 0.7, is_least=True),
    ]
    return [Part(rows, measured), Part(curve=POINTS)]


def test_what_was_measured_is_read_again_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "results.md"
    path.write_text(everything.page(parts(), "full"), encoding="utf-8")
    assert reached_rows(path) == {
        ("a", "b"): f"2.00{TIMES}",
        ("a", "c"): "not measured",
        ("rate", "d"): "0.80 of it",
        (suite.WHAT, ""): "not measured",
    }
    assert curve_points(path) == POINTS
    assert "| a | 3 | 2.000 | 1.000 to 3.000 | 0.500 | 21.0 |" in path.read_text("utf-8")


def test_a_budget_is_held_or_not_and_of_what_is_not_measured_nobody_knows() -> None:
    held = [row.is_held for row in parts()[0].rows]
    assert held == [False, None, True]
    assert [row.cells(is_judged=True)[-1] for row in parts()[0].rows] == ["no", "", "yes"]
    assert {row.cells(is_judged=False)[-1] for row in parts()[0].rows} == {""}


def test_one_line_is_written_anew_and_only_where_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "results.md"
    path.write_text(everything.page(parts(), "full"), encoding="utf-8")
    replace_row(path, suite.row(140.0))
    assert reached_rows(path)[(suite.WHAT, "")] == "140 s"
    with pytest.raises(ValueError, match="has no line"):
        replace_row(path, replace(suite.row(140.0), what="something else"))


def test_a_page_gets_the_numbers_of_its_lines_and_keeps_the_others() -> None:
    page = "| what | beside | reached |\n|---|---|--:|\n| a | b | ? |\n| c | | 7 |\n| other | d | 1 |\n"
    told = quoted(page, {("a", "b"): "2", ("c", ""): "3"})
    assert told == page.replace("?", "2").replace("| 7 |", "| 3 |")


def test_the_picture_has_every_point_and_is_drawn_for_light_and_dark() -> None:
    picture = draw(POINTS)
    drawn = ET.fromstring(picture)  # noqa: S314 - our own
    titles = [title.text or "" for title in drawn.iter(TITLE)]
    assert len([title for title in titles if "rows" in title and "MiB" in title]) == 2 * len(POINTS)
    assert "prefers-color-scheme: dark" in picture
    with pytest.raises(ValueError, match="3 lines"):
        draw([Point(100, due, 1.0, 1.0) for due in range(4)])


# --- the programs -----------------------------------------------------------------------------------------------------


def test_a_part_measures_and_cleans_up(tmp_path: Path) -> None:
    ended = run(tmp_path, "sweep", "--scale", "tiny", "--folder", ".")
    assert ended.returncode == 0, ended.stderr
    what = [line.split(" | ")[0] for line in ended.stdout.splitlines() if TIMES in line or " MiB | " in line]
    assert len(what) == 3
    assert "100 due of 1,000 rows" in what[0]
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_does_not_do_its_work_wins_nothing(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="exit 1 where 0 was expected"):
        measured([Path("/bin/sh"), "-c", "exit 1"], tmp_path / "output")


def test_there_are_no_other_sizes(tmp_path: Path) -> None:
    ended = run(tmp_path, "everything", "--scale", "huge")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert set(ALL) == {"full", "small", "tiny"}


def test_every_part_is_in_the_whole() -> None:
    assert set(everything.PARTS) == {auditing, command, curve, explain, large, start, sweep, text}
