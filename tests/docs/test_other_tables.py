"""README's tables of other shapes: what the comment behind each row says is what a tick does with it."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.docs.documents import README, fences, run_sql, section
from tests.e2e.reports import listed, tick_report
from tests.support.place import Place

HEADING = "Tables of other shapes"
SHAPES = re.findall(r"^### (.*)$", section(README, HEADING), re.MULTILINE)
ROW = re.compile(
    r"VALUES \((?P<sid>[0-9]+), .*\); +-- (?P<end>released|left alone|invalid): (?P<why>.*)$", re.MULTILINE
)
ALLOWED = 25


class Row(NamedTuple):
    """A row of an example, and what its comment says."""

    sid: str
    end: str
    why: str


def rows_of(shape: str) -> list[Row]:
    [sql] = fences(section(README, shape), "sql")
    return [Row(*match.group("sid", "end", "why")) for match in ROW.finditer(sql.body)]


def follow(shape: str, folder: Path) -> Place:
    """A ledger and a configuration as the example has them; what it does not show is that of the first example."""
    [first] = fences(section(README, "Your own table"), "toml")
    [sql] = fences(section(README, shape), "sql")
    [toml] = fences(section(README, shape), "toml")
    [url] = re.findall(r"^url = .*$", first.body, re.MULTILINE)
    provisioner = first.body[first.body.index("[provisioners.default]") :]
    place = Place(folder)
    run_sql(folder / "panel.db", sql.body)
    place.config.write_text(toml.body.replace("[ledger]\n", f"[ledger]\n{url}\n", 1) + "\n" + provisioner, "utf-8")
    assert place.run("init").code == 0
    return place


@pytest.mark.parametrize("shape", SHAPES)
def test_a_tick_does_with_each_row_what_its_comment_says(shape: str, tmp_path: Path) -> None:
    rows = rows_of(shape)
    place = follow(shape, tmp_path)
    expected = {end: {row.sid for row in rows if row.end == end} for end in ("released", "left alone", "invalid")}
    before = {row["sid"]: row for row in listed(place, "--all")["rows"]}
    assert set(before) == expected["released"] | expected["invalid"]
    for row in rows:
        if (at := re.search(r"expired at (\S+)", row.why)) is not None:
            assert before[row.sid]["expires_at"] == at[1]
    report = tick_report(place.run("tick", "--once", "--json"), 3 if expected["invalid"] else 0)
    assert report["rows_released"] == len(expected["released"])
    assert {row["sid"] for row in report["invalid"]} == expected["invalid"]
    assert {row["sid"] for row in listed(place, "--all")["rows"]} == expected["invalid"], (
        "the others have come to an end"
    )


def test_there_are_such_tables_and_each_is_short() -> None:
    assert SHAPES
    for shape in SHAPES:
        assert {"released", "left alone"} <= {row.end for row in rows_of(shape)}
        [sql] = fences(section(README, shape), "sql")
        assert len(rows_of(shape)) == sql.body.count("--"), "each comment is understood"
        assert len(section(README, shape).strip().splitlines()) < ALLOWED
