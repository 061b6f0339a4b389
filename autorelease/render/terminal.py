"""What is drawn on a terminal: tables, checks, a progress bar. The only place that knows rich.

Data is never read as markup, and never cut: half a sid is worse than a tall row.
"""

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from textwrap import TextWrapper

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from autorelease.render.people import (
    HEALTHY,
    WELL,
    WRONG,
    Row,
    cell,
    for_people,
    heading,
    is_nothing,
    style,
    style_of,
)

STATES = ("fail", "warn", "ok")
LONGEST_STATE = max(map(len, STATES))
NARROWEST = 30
# A column that is wider than this is folded before others are left out for it.
WIDE = 40
GAP = 2


def table(columns: Sequence[str], rows: Sequence[Row], state: str | None, spare: Sequence[str]) -> str:
    """Rows as a table. state: the column whose words have colours. spare: what is left out first where it is narrow."""
    console = _console()
    wanted = [
        name for name in columns if name == columns[0] or not rows or not all(is_nothing(row.get(name)) for row in rows)
    ]
    shown = _fitting(wanted, rows, spare, console.width)
    drawn = Table(header_style="bold", box=None, pad_edge=False)
    for name in shown:
        drawn.add_column(heading(name), overflow="fold")
    for row in rows:
        drawn.add_row(
            *(
                Text(for_people(name, row.get(name)), overflow="fold", style=style(row[name]) if name == state else "")
                for name in shown
            )
        )
    left_out = [heading(name) for name in wanted if name not in shown]
    return _drawn(console, drawn) + (_left_out(left_out) if left_out else "")


def _fitting(wanted: Sequence[str], rows: Sequence[Row], spare: Sequence[str], width: int) -> Sequence[str]:
    """The columns for which there is room."""
    widths = {
        name: max([len(heading(name)), *(min(len(for_people(name, row.get(name))), WIDE) for row in rows)])
        for name in wanted
    }
    shown = list(wanted)
    for name in spare:
        if sum(widths[each] + GAP for each in shown) - GAP <= width:
            break
        if name in shown:
            shown.remove(name)
    return shown


def _left_out(names: Sequence[str]) -> str:
    return f"\nleft out, for there is no room: {', '.join(names)} (a wider terminal, or --format plain, shows them)\n"


def checks(rows: Sequence[Row]) -> str:
    """Each check, with what to do on a line of its own that can be copied; and how many are of which state."""
    console = _console()
    names = max((len(cell(row["check"])) for row in rows), default=0)
    indent = " " * (LONGEST_STATE + names + 2 * GAP)
    room = max(console.width - len(indent), NARROWEST)
    lines = [part for row in rows for part in _check(row, names, indent, room)]
    counted = Counter(str(row["state"]) for row in rows)
    total = ", ".join(f"{counted[state]} {state}" for state in STATES if counted[state])
    return "".join(_drawn(console, line) for line in [*lines, Text(), Text(total)])


def _check(row: Row, names: int, indent: str, room: int) -> Iterator[Text]:
    first, *more = _wrapped(cell(row["message"]), room)
    yield Text.assemble(
        (cell(row["state"]).ljust(LONGEST_STATE), style(row["state"])),
        (f"  {cell(row['check']).ljust(names)}", "bold"),
        f"  {first}",
    )
    yield from (Text(f"{indent}{line}") for line in more)
    if row["remedy"]:
        yield Text(f"{indent}Do: {cell(row['remedy'])}")


def _wrapped(text: str, width: int) -> Sequence[str]:
    """Lines of whole words."""
    wrapper = TextWrapper(
        width, break_long_words=False, break_on_hyphens=False, expand_tabs=False, replace_whitespace=False
    )
    return wrapper.wrap(text) or [""]


def coloured(line: str, state: str) -> str:
    """One line, drawn as the word of its state is."""
    return _drawn(_console(), Text(cell(line), style=style(state)))


def facts(title: str, named: Sequence[tuple[str, str]], width: int) -> str:
    """A title, and under it the facts; width: of the longest name."""
    console = _console()
    lines = [Text(cell(title), style="bold")]
    lines += [Text(f"  {cell(name).ljust(width)}  {cell(text)}".rstrip(), style=style_of(text)) for name, text in named]
    return "".join(_drawn(console, line) for line in lines)


def state_line(line: str) -> str:
    """A line whose beginning, up to the colon, is a state."""
    state, colon, rest = line.partition(":")
    drawn = Text.assemble((cell(state + colon), WELL if state == HEALTHY else WRONG), cell(rest))
    return _drawn(_console(), drawn)


def _console() -> Console:
    # Without colours rich would still write bold: NO_COLOR means no escapes at all.
    return Console(highlight=False, color_system=None if os.environ.get("NO_COLOR") else "auto")


def _drawn(console: Console, drawing: RenderableType) -> str:
    with console.capture() as captured:
        # A line that is longer than the terminal is wide is for the terminal to break: it can be copied as one.
        console.print(drawing, soft_wrap=isinstance(drawing, Text))
    return captured.get()


@contextmanager
def progress(total: int | None, what: str) -> Iterator[Callable[[], None]]:
    """A bar on stderr; yields the function that moves it on. total None: nobody knows how much there is."""
    with ExitStack() as stack:
        try:
            bar = stack.enter_context(Progress(console=Console(file=sys.stderr), transient=True))
        except RuntimeError:
            # A machine that has no thread to give still has work to do.
            yield lambda: None
            return
        task = bar.add_task(escape(what), total=total)
        yield lambda: bar.advance(task)
