"""What the pages say of speed is what was measured."""

from pathlib import Path

import pytest

from bench import suite
from bench.picture import draw
from bench.quote import PAGES, PICTURE
from bench.results import RESULTS, curve_points, reached_rows
from bench.sizes import FULL
from tests.docs.documents import README, SCALE, section

TIMES = "\N{MULTIPLICATION SIGN}"


def rows_of_three(page: str) -> list[tuple[str, str, str]]:
    """Every line of the tables whose head says what was measured."""
    found, is_inside = [], False
    for line in page.splitlines():
        cells = tuple(cell.strip() for cell in line.strip("|").split("|"))
        is_inside = line.startswith("|") and (is_inside or cells == ("what", "beside", "reached"))
        if is_inside and len(cells) == 3 and cells != ("what", "beside", "reached") and set(cells[0]) != {"-"}:
            found.append((cells[0], cells[1], cells[2]))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_number_that_is_quoted_was_measured(page: Path) -> None:
    reached = reached_rows()
    told = rows_of_three(page.read_text("utf-8"))
    assert len(told) > 5
    assert [(what, beside, reached.get((what, beside))) for what, beside, _ in told] == told


def test_no_other_line_of_readme_compares() -> None:
    text = README.read_text("utf-8")
    assert TIMES not in text.replace(section(README, "How fast it is"), "")
    assert {line[2] for line in rows_of_three(text)} == {
        line[2] for line in rows_of_three(section(README, "How fast it is"))
    }


def test_the_page_on_speed_says_all_that_was_measured() -> None:
    told = {(what, beside) for what, beside, _ in rows_of_three(SCALE.read_text("utf-8"))}
    assert told == reached_rows().keys() - {(suite.WHAT, "")}


def test_the_picture_is_the_one_of_what_was_measured() -> None:
    assert PICTURE.read_text("utf-8") == draw(curve_points())
    assert {(point.rows, point.due) for point in curve_points()} == {
        (rows, due) for rows, dues in FULL.curve for due in dues
    }


def test_the_results_are_those_of_the_full_sizes() -> None:
    page = RESULTS.read_text("utf-8")
    assert "| sizes | full |" in page
    for fact in ("date", "cores", "processor", "memory", "kernel", "Python", "SQLite", "typer", "autorelease"):
        assert f"\n| {fact} | " in page
