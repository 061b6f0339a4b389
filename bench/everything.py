"""All that RESULTS.md, docs/scale.md and README.md say of speed, in one run: `make bench`.

    python bench/everything.py                  writes RESULTS.md, and what quotes it
    python bench/everything.py --scale small    shows whether all works, and writes nothing
    python bench/everything.py --turns 1 --write bench/RESULTS.md

Every contestant is a process of its own, and those of one comparison take turns. Everything is made in a temporary
folder and removed again; it needs 5 GB there, and 2 GB of memory for what is read again and again to stay in.
"""

import sys
import time
from pathlib import Path

from bench import auditing, command, curve, explain, large, part, sizes, start, suite, sweep, text
from bench.machine import facts
from bench.place import Fleets
from bench.quote import quote
from bench.results import RESULTS, Part, curve_table, measured_table, rows_table, table
from bench.running import BenchError
from bench.sizes import Sizes

PARTS = (start, large, curve, text, explain, sweep, command, auditing)
INTRODUCTION = """\
# What was measured

`make bench` writes this page: nothing in it was typed. The contestants of one comparison took turns in the same run.
Of each run was seen that it did its work. Ratios are those of medians. Under *budget* stands what is aimed at.

"""
MEASURED = """
## The runs behind it

Seconds depend on the machine and on what else it did; compare ratios.

"""
CURVE = """
## A dry run, by the rows of the ledger and by those due

"""


def measure(fleets: Fleets, chosen: Sizes) -> tuple[list[Part], list[str]]:
    """All parts, and what is wrong with those that did not come to their end: the others do."""
    found, wrong = [], []
    for each in PARTS:
        name = each.__name__.rpartition(".")[2]
        sys.stderr.write(f"{name}\n")
        began = time.monotonic()
        try:
            found.append(each.measure(fleets, chosen))
        except BenchError as error:
            wrong.append(f"{name}: {error}")
            sys.stderr.write(f"{wrong[-1]}\n")
        sys.stderr.write(f"{name} took {time.monotonic() - began:.0f} s\n")
    return found, wrong


def page(parts: list[Part], scale: str) -> str:
    """The whole page."""
    on = [("sizes", scale), *facts()]
    # What nobody has measured in this run does not stand here from an earlier one.
    all_parts = [*parts, Part([suite.row(None)])]
    return "".join(
        [
            INTRODUCTION,
            table("| | |\n|---|---|\n", on),
            "\n",
            rows_table(all_parts, is_judged=scale == sizes.FULL.name),
            MEASURED,
            measured_table(parts),
            CURVE,
            curve_table(parts),
        ]
    )


def main() -> None:
    """Measure, show, and write where that is asked for or everything had its full size."""
    options = part.parser(__doc__)
    options.add_argument("--write", type=Path, help="write the page into this file")
    chosen = options.parse_args()
    with part.fleets(chosen) as made:
        parts, wrong = measure(made, part.chosen_sizes(chosen))
    found = page(parts, chosen.scale)
    print(found)
    if wrong:
        # Half of it is no page: its lines would be missed by nobody.
        sys.exit("\n".join(["bench: nothing is written", *wrong]))
    is_whole = chosen.scale == sizes.FULL.name and chosen.turns is None
    if target := chosen.write or (RESULTS if is_whole else None):
        target.write_text(found, encoding="utf-8")
        if target.resolve() == RESULTS:
            quote()


if __name__ == "__main__":
    main()
