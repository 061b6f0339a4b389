"""README.md and docs/scale.md get the numbers of RESULTS.md, and the picture is drawn anew.

    python bench/quote.py

A line of a table there whose first two cells are those of a line of RESULTS.md gets its number in the third.
"""

import re
from pathlib import Path

from bench.picture import draw
from bench.results import RESULTS, curve_points, reached_rows
from bench.running import HERE

ROOT = HERE.parent
PAGES = (ROOT / "README.md", ROOT / "docs" / "scale.md")
PICTURE = ROOT / "docs" / "pictures" / "curve.svg"
LINE = re.compile(r"^\| (?P<what>[^|]+) \|(?P<beside>[^|]*)\| (?P<number>[^|]+) \|$", re.MULTILINE)


def quoted(text: str, reached: dict[tuple[str, str], str]) -> str:
    """The page with the numbers that were reached."""

    def line(match: re.Match[str]) -> str:
        number = reached.get((match["what"], match["beside"].strip()))
        return match[0] if number is None else f"| {match['what']} |{match['beside']}| {number} |"

    return LINE.sub(line, text)


def quote(results: Path = RESULTS) -> None:
    """Bring the pages and the picture up to what was measured."""
    for page in PAGES:
        page.write_text(quoted(page.read_text("utf-8"), reached_rows(results)), encoding="utf-8")
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(draw(curve_points(results)), encoding="utf-8")


if __name__ == "__main__":
    quote()
