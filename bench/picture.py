"""The curve as an SVG picture, made by hand: two panels with logarithmic axes, light and dark as the reader has it."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from bench.results import Point

WIDTH, HEIGHT = 800, 390
PANEL_WIDTH, PANEL_HEIGHT, TOP, GAP, LEFT = 310, 230, 82, 90, 62
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .title { font-weight: 600; font-size: 15px }
  .faint { fill: #59636e }
  .paper { fill: #ffffff }
  .grid { stroke: #d1d9e0; stroke-width: 1 }
  polyline { fill: none; stroke-width: 2 }
  .line0 { stroke: #0969da } .mark0 { fill: #0969da }
  .line1 { stroke: #bc4c00 } .mark1 { fill: #bc4c00 }
  .line2 { stroke: #8250df } .mark2 { fill: #8250df }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc }
    .faint { fill: #9198a1 }
    .paper { fill: #0d1117 }
    .grid { stroke: #3d444d }
    .line0 { stroke: #58a6ff } .mark0 { fill: #58a6ff }
    .line1 { stroke: #f0883e } .mark1 { fill: #f0883e }
    .line2 { stroke: #bc8cff } .mark2 { fill: #bc8cff }
  }
"""
COLOURS = 3
HEAD = (
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
    'role="img" aria-labelledby="title">'
)


@dataclass(frozen=True, slots=True)
class Axis:
    """A logarithmic axis from one power of `base` to another; start, end: where these stand in the picture."""

    base: int
    low: int
    high: int
    start: float
    end: float

    def place(self, value: float) -> float:
        """Where a value stands."""
        share = (math.log(value, self.base) - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        """The powers of the base."""
        return [float(self.base) ** power for power in range(self.low, self.high + 1)]


@dataclass(frozen=True, slots=True)
class Panel:
    """One of the two. value: what it shows of a point; label: how a value is written."""

    title: str
    base: int
    value: Callable[[Point], float]
    label: Callable[[float], str]


PANELS = (
    Panel("time of a dry run", 10, lambda point: point.seconds, lambda value: f"{value:g} s"),
    Panel("its peak memory", 2, lambda point: point.peak, lambda value: f"{value:g} MiB"),
)


def draw(points: Sequence[Point]) -> str:
    """The whole picture. points: at least two numbers of rows, at most three of those due."""
    dues = sorted({point.due for point in points})
    if not 1 <= len(dues) <= COLOURS:
        raise ValueError(f"there are colours for {COLOURS} lines")
    parts = [
        HEAD,
        '<title id="title">Time and memory of a dry run, by the rows of the ledger and those due</title>',
        f"<style>{STYLE}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}"/>',
        *_legend(dues),
    ]
    for number, panel in enumerate(PANELS):
        parts += _panel(panel, points, dues, LEFT + number * (PANEL_WIDTH + GAP))
    return "\n".join([*parts, "</svg>", ""])


def _legend(dues: Sequence[int]) -> Iterator[str]:
    for number, due in enumerate(dues):
        across = LEFT + number * 150
        yield _mark(number, across, 22, "")
        yield _text(across + 12, 26.5, f"{due:,} rows due" if due else "nothing due")


def _panel(panel: Panel, points: Sequence[Point], dues: Sequence[int], left: float) -> Iterator[str]:
    bottom = TOP + PANEL_HEIGHT
    across = _axis(10, [point.rows for point in points], left, left + PANEL_WIDTH)
    up = _axis(panel.base, [panel.value(point) for point in points], bottom, TOP)
    yield _text(left, TOP - 18, panel.title, kind="title")
    for value in up.ticks():
        yield _line(left, up.place(value), left + PANEL_WIDTH, up.place(value))
        yield _text(left - 8, up.place(value) + 4.5, panel.label(value), anchor="end")
    for value in across.ticks():
        yield _line(across.place(value), TOP, across.place(value), bottom)
        yield _text(across.place(value), bottom + 20, _count(value), anchor="middle")
    yield _text(left + PANEL_WIDTH / 2, bottom + 42, "rows of the ledger", anchor="middle", kind="faint")
    for number, due in enumerate(dues):
        yield from _curve(panel, number, [point for point in points if point.due == due], across, up)


def _axis(base: int, values: Sequence[float], start: float, end: float) -> Axis:
    low, high = (math.log(extreme(values), base) for extreme in (min, max))
    # A power that is met exactly must not be missed by what a logarithm is rounded to.
    first, last = math.floor(low + 1e-9), math.ceil(high - 1e-9)
    return Axis(base, first, max(last, first + 1), start, end)


def _curve(panel: Panel, number: int, points: Sequence[Point], across: Axis, up: Axis) -> Iterator[str]:
    places = [(across.place(point.rows), up.place(panel.value(point))) for point in points]
    yield f'<polyline class="line{number}" points="{" ".join(f"{x},{y}" for x, y in places)}"/>'
    for point, (x, y) in zip(points, places, strict=True):
        label = f"{point.rows:,} rows, {point.due:,} due: {point.seconds:.3f} s, {point.peak:.1f} MiB"
        yield _mark(number, x, y, label)


def _mark(number: int, x: float, y: float, label: str) -> str:
    """Each line has a mark of its own, for those who do not see the colours."""
    title = f"<title>{escape(label)}</title>" if label else ""
    if number == 0:
        return f'<circle class="mark0" cx="{x}" cy="{y}" r="5">{title}</circle>'
    if number == 1:
        return f'<rect class="mark1" x="{x - 4.5:.1f}" y="{y - 4.5:.1f}" width="9" height="9">{title}</rect>'
    corners = f"{x:.1f},{y - 6:.1f} {x - 5.5:.1f},{y + 4.5:.1f} {x + 5.5:.1f},{y + 4.5:.1f}"
    return f'<polygon class="mark2" points="{corners}">{title}</polygon>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", kind: str = "") -> str:
    name = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{name}>{escape(text)}</text>'


def _line(x: float, y: float, to_x: float, to_y: float) -> str:
    return f'<line class="grid" x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}"/>'


def _count(value: float) -> str:
    """10 M, 100 k."""
    if value >= 1_000_000:
        return f"{value / 1_000_000:g} M"
    return f"{value / 1_000:g} k" if value >= 1_000 else f"{value:g}"
