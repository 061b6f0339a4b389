"""How a dry run grows with the ledger, and with what is due: the table and the picture of docs/scale.md.

python bench/curve.py
python bench/curve.py --scale small --picture curve.svg
"""

from pathlib import Path

from bench import part, sizes
from bench.large import dry_run
from bench.picture import draw
from bench.place import Fleets
from bench.results import Part, Point
from bench.running import take_turns
from bench.sizes import Sizes, words


def measure(fleets: Fleets, sizes: Sizes) -> Part:
    """Each ledger with each number of rows due."""
    return Part(curve=[_point(fleets, sizes, rows, due) for rows, dues in sizes.curve for due in dues])


def _point(fleets: Fleets, sizes: Sizes, rows: int, due: int) -> Point:
    place = fleets.of(rows)
    place.make_due(due)
    name = f"dry run, {words(due)} due of {words(rows)} rows"
    measured = take_turns({name: lambda: dry_run(place, due)}, sizes.turns, is_warm=True)[name]
    place.make_due(0)
    return Point(rows, due, measured.seconds, measured.peak)


def main() -> None:
    """Measure, show, and draw if that is asked for."""
    options = part.parser(__doc__)
    options.add_argument("--picture", type=Path, help="draw it into this file")
    chosen = options.parse_args()
    with part.fleets(chosen) as made, part.ended_by_failure():
        found = measure(made, part.chosen_sizes(chosen))
    print("\n".join(part.show(found, is_judged=chosen.scale == sizes.FULL.name)))
    if chosen.picture:
        chosen.picture.write_text(draw(found.curve), encoding="utf-8")


if __name__ == "__main__":
    main()
