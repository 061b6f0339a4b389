"""The command line that every part has: python bench/NAME.py [--scale small] [--folder DIR]."""

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType

from bench import results, sizes
from bench.place import Fleets
from bench.results import Part
from bench.running import BenchError
from bench.sizes import Sizes

Measure = Callable[[Fleets, Sizes], Part]
# By its meaning on a disk, where /tmp may be in memory.
TEMPORARY = Path("/var/tmp")  # noqa: S108
# For each turn of what takes long, so many of what takes no second.
QUICK, SOME = 7, 2


def parser(purpose: str | None) -> argparse.ArgumentParser:
    """The options that all have."""
    made = argparse.ArgumentParser(description=purpose, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--scale", choices=sizes.ALL, default="full", help="how large everything is")
    made.add_argument("--turns", type=int, help="how often that runs which takes long; what is quick runs oftener")
    made.add_argument(
        "--folder", type=Path, default=TEMPORARY, help="where to make the temporary folder: the disk that is measured"
    )
    return made


def chosen_sizes(chosen: argparse.Namespace) -> Sizes:
    """What the options ask for."""
    asked: Sizes = sizes.ALL[chosen.scale]
    turns: int | None = chosen.turns
    return asked if turns is None else replace(asked, turns=turns, some_turns=SOME * turns, quick_turns=QUICK * turns)


@contextmanager
def fleets(chosen: argparse.Namespace) -> Iterator[Fleets]:
    """What is made for one run, and removed again, also where somebody ends it."""

    def stop(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, stop)
    with tempfile.TemporaryDirectory(prefix="autorelease-bench-", dir=chosen.folder) as folder:
        yield Fleets(Path(folder).resolve())


@contextmanager
def ended_by_failure() -> Iterator[None]:
    """What is wrong is one line, and not a traceback."""
    try:
        yield
    except BenchError as error:
        sys.exit(f"bench: {error}")


def main(measure: Measure, purpose: str | None) -> None:
    """Measure this part alone, and show it."""
    chosen = parser(purpose).parse_args()
    with fleets(chosen) as made, ended_by_failure():
        part = measure(made, chosen_sizes(chosen))
    is_judged = chosen.scale == sizes.FULL.name
    print("\n".join(show(part, is_judged=is_judged)))


def show(part: Part, *, is_judged: bool) -> list[str]:
    """The tables that there are."""
    shown = [results.rows_table([part], is_judged=is_judged)] if part.rows else []
    shown += [results.measured_table([part])] if part.measured else []
    return [*shown, results.curve_table([part])] if part.curve else shown
