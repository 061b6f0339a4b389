"""What was measured, as rows and as the page RESULTS.md: written, and read again by those who quote it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.running import HERE, Measured

RESULTS = HERE / "RESULTS.md"
NOT_MEASURED = "not measured"
# In MiB, of whatever is run.
MOST_MEMORY = 64
HEAD = "| what | beside | reached | budget | held |\n|---|---|--:|--:|---|\n"
CURVE_HEAD = "| rows | due | seconds | peak MiB |\n|--:|--:|--:|--:|\n"
MEASURED_HEAD = "| what | runs | median s | from, to | processor s | peak MiB |\n|---|--:|--:|--:|--:|--:|\n"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. reached: None: nobody could measure it. unit: has {} where the number stands.

    limit: the most that it may be; is_least: the least. None: there is none.
    """

    what: str
    beside: str
    reached: float | None
    unit: str = "{}\N{MULTIPLICATION SIGN}"
    limit: float | None = None
    is_least: bool = False

    @property
    def is_held(self) -> bool | None:
        """Whether it is within its limit; None: nobody can tell."""
        if self.reached is None or self.limit is None:
            return None
        return self.reached >= self.limit if self.is_least else self.reached <= self.limit

    def cells(self, *, is_judged: bool) -> list[str]:
        """What stands in the table. is_judged: the sizes are those that the limits were made for."""
        number = NOT_MEASURED if self.reached is None else self.unit.format(rounded(self.reached))
        bound = "at least" if self.is_least else "at most"
        limit = "" if self.limit is None else f"{bound} {self.unit.format(f'{self.limit:g}')}"
        held = {True: "yes", False: "no", None: ""}[self.is_held] if is_judged else ""
        return [self.what, self.beside, number, limit, held]


def compared(measured: Mapping[str, Measured], what: str, beside: str, limit: float | None = None) -> Row:
    """How many times as long one takes as the other; not measured where that one is not there."""
    reached = measured[what].seconds / measured[beside].seconds if beside in measured else None
    return Row(what, beside, reached, limit=limit)


def peak(measured: Mapping[str, Measured], what: str) -> Row:
    """The most memory that it had."""
    return Row(f"peak memory: {what}", "", measured[what].peak, "{} MiB", MOST_MEMORY)


@dataclass(frozen=True, slots=True)
class Point:
    """One run of the curve: the table's rows, those due, seconds, and peak memory in MiB."""

    rows: int
    due: int
    seconds: float
    peak: float


@dataclass(frozen=True, slots=True)
class Part:
    """What one program of this folder has found."""

    rows: Sequence[Row] = ()
    measured: Mapping[str, Measured] = field(default_factory=dict)
    curve: Sequence[Point] = ()


def rounded(number: float) -> str:
    """Three digits are more than a busy machine can tell."""
    size = abs(number)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 0.1 else 3
    return f"{number:.{digits}f}"


# --- written ----------------------------------------------------------------------------------------------------------


def table(head: str, lines: Sequence[Sequence[str]]) -> str:
    """A table of Markdown."""
    return head + "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def rows_table(parts: Sequence[Part], *, is_judged: bool) -> str:
    """The table of the budgets."""
    return table(HEAD, [row.cells(is_judged=is_judged) for part in parts for row in part.rows])


def measured_table(parts: Sequence[Part]) -> str:
    """What the ratios were made of."""
    lines = [
        (name, str(len(each.runs)), f"{each.seconds:.3f}", each.spread, f"{each.processor:.3f}", f"{each.peak:.1f}")
        for part in parts
        for name, each in part.measured.items()
    ]
    return table(MEASURED_HEAD, lines)


def curve_table(parts: Sequence[Part]) -> str:
    """The numbers of the picture."""
    points = [point for part in parts for point in part.curve]
    return table(
        CURVE_HEAD,
        [(f"{each.rows:,}", f"{each.due:,}", f"{each.seconds:.3f}", f"{each.peak:.1f}") for each in points],
    )


# --- read -------------------------------------------------------------------------------------------------------------


def lines_below(text: str, head: str) -> list[list[str]]:
    """The cells of the first table with that head."""
    found = re.search(re.escape(head) + r"((?:\|.*\|\n)*)", text)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in found[1].splitlines()] if found else []


def reached_rows(path: Path = RESULTS) -> dict[tuple[str, str], str]:
    """What the page says was reached, by what and beside what."""
    return {(what, beside): number for what, beside, number, *_ in lines_below(path.read_text("utf-8"), HEAD)}


def curve_points(path: Path = RESULTS) -> list[Point]:
    """The points that the page has."""
    lines = lines_below(path.read_text("utf-8"), CURVE_HEAD)
    return [
        Point(int(rows.replace(",", "")), int(due.replace(",", "")), float(seconds), float(peak))
        for rows, due, seconds, peak in lines
    ]


# --- one line of it ---------------------------------------------------------------------------------------------------


def replace_row(path: Path, row: Row) -> None:
    """Write this line in the place of the one with its name. Raises ValueError where the page has none."""
    text = path.read_text("utf-8")
    line = table("", [row.cells(is_judged=True)])
    pattern = re.compile(re.escape(f"| {row.what} | {row.beside} |") + ".*\n")
    if not pattern.search(text):
        raise ValueError(f"{path.name} has no line for {row.what}")
    path.write_text(pattern.sub(lambda _: line, text), encoding="utf-8")
