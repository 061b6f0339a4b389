"""A ledger of ten million rows: a tick with nothing to do, and what is shown of a hundred thousand that are due.

python bench/large.py
python bench/large.py --scale small
"""

from bench.part import main
from bench.place import Fleets, Place
from bench.results import Part, Row, compared, peak
from bench.running import HERE, PYTHON, Contestant, Run, expect, run, take_turns
from bench.sizes import Sizes, words
from bench.start import NO_OP


def measure(fleets: Fleets, sizes: Sizes) -> Part:
    """First with nothing due, then with what is due."""
    large, small = fleets.of(sizes.largest), fleets.of(sizes.compared)
    idle, looking = _idle(large, small, sizes), _looking(large, sizes)
    return Part([*idle.rows, *looking.rows], {**idle.measured, **looking.measured})


def _idle(large: Place, small: Place, sizes: Sizes) -> Part:
    over, below = (f"{NO_OP}, over {words(place.rows)} rows, no audit due" for place in (large, small))
    count = f"one `count(*)` of {words(large.live)} live rows by the index"
    contestants: dict[str, Contestant] = {over: large.no_op, below: small.no_op, count: lambda: _count(large)}
    measured = take_turns(contestants, sizes.quick_turns, is_warm=True)
    ratio = measured[over].seconds / (measured[below].seconds + measured[count].seconds)
    beside = f"the same over {words(small.rows)} rows, and one `count(*)` by the index"
    return Part([Row(over, beside, ratio, limit=1.15)], measured)


def _count(place: Place) -> Run:
    """The count alone, without the start of a process."""
    ran = run([PYTHON, "-I", HERE / "counting.py", place.ledger], place.output)
    seconds, rows = place.output.read_text("ascii").split()
    expect(place.live, int(rows), "rows counted by the index")
    return Run(float(seconds), float(seconds), ran.peak)


def _looking(place: Place, sizes: Sizes) -> Part:
    place.make_due(sizes.due)
    of = f"{words(sizes.due)} due of {words(place.rows)} rows"
    dry, listing, raw = f"dry run, {of}", f"`list-expired --format json`, {of}", "a raw read of those rows as JSON"
    measured = take_turns(
        {
            dry: lambda: dry_run(place, sizes.due),
            listing: lambda: _list(place, sizes.due),
            raw: lambda: _read(place, sizes.due),
        },
        sizes.turns,
    )
    place.make_due(0)
    rows = [compared(measured, dry, raw, 4), compared(measured, listing, raw, 4), peak(measured, dry)]
    return Part(rows, measured)


def dry_run(place: Place, due: int) -> Run:
    """One measured dry run, which must plan all that is due."""
    ran = place.tick({"rows_examined": place.live, "rows_expired": due, "dry_run": True}, "--dry-run")
    expect(due, place.report()["skipped"]["dry_run"], "rows that a dry run would release")
    return ran


def _list(place: Place, due: int) -> Run:
    ran = place.run("list-expired", "--format", "json")
    listed = place.report()
    expect((due, due), (listed["counts"]["release"], len(listed["rows"])), "rows listed")
    return ran


def _read(place: Place, due: int) -> Run:
    ran = run([PYTHON, "-I", HERE / "raw_read.py", place.ledger], place.output)
    expect(due, len(place.report()), "rows of the raw read")
    return ran


if __name__ == "__main__":
    main(measure, __doc__)
