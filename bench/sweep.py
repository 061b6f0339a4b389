"""A sweep of `kind = "ledger"` beside the shortest loop that stamps the same rows; and one whose provisioner is down.

python bench/sweep.py
python bench/sweep.py --scale small
"""

from bench.part import main
from bench.place import LIVE, STAMPS, Fleets, Place
from bench.results import Part, compared, peak
from bench.running import HERE, PYTHON, Run, expect, run, take_turns
from bench.sizes import Sizes, words

GROUP = 500
# No such program: its provisioner is down.
DOWN = 'kind = "command"\nargv = ["/nonexistent/release-vm", "{vm_ref}"]'


def measure(fleets: Fleets, sizes: Sizes) -> Part:
    """Each of them on the same ledger, as it was before."""
    place = fleets.of(sizes.middle)
    place.save()
    stamping, down = _stamping(place, sizes), _down(place, sizes)
    place.forget()
    return Part([*stamping.rows, *down.rows], {**stamping.measured, **down.measured})


def _stamping(place: Place, sizes: Sizes) -> Part:
    sweep = f'sweep, `kind = "ledger"`, {words(sizes.due)} due of {words(place.rows)} rows, durable and journalled'
    loop = f"a raw loop in groups of {GROUP}, durable"
    measured = take_turns({sweep: lambda: _sweep(place, sizes.due), loop: lambda: _loop(place, sizes.due)}, sizes.turns)
    return Part([compared(measured, sweep, loop, 10), peak(measured, sweep)], measured)


def _sweep(place: Place, due: int) -> Run:
    _renewed(place, due)
    ran = place.tick({"rows_expired": due, "rows_released": due})
    _expect_stamped(place, due)
    return ran


def _loop(place: Place, due: int) -> Run:
    _renewed(place, due)
    ran = run([PYTHON, "-I", HERE / "raw_loop.py", place.ledger, str(GROUP)], place.output)
    _expect_stamped(place, due)
    return ran


def _renewed(place: Place, due: int) -> None:
    place.restore()
    place.make_due(due)


def _expect_stamped(place: Place, due: int) -> None:
    expect(place.live - due, place.count(LIVE), "live rows left")
    expect(place.rows, place.count(f"{LIVE} OR released_at IS NOT NULL"), "rows that say when they were released")


def _down(place: Place, sizes: Sizes) -> Part:
    name = f"tick with {words(sizes.down)} due of {words(place.rows)} rows, the provisioner down"
    place.configure(DOWN)
    measured = take_turns({name: lambda: _deferred(place, sizes.down)}, 1)
    place.configure(STAMPS)
    return Part([peak(measured, name)], measured)


def _deferred(place: Place, due: int) -> Run:
    _renewed(place, due)
    ran = place.tick({"rows_expired": due, "rows_skipped": due}, code=8)
    expect(due, place.report()["skipped"]["deferred"], "rows deferred")
    expect(place.live, place.count(LIVE), "live rows left")
    return ran


if __name__ == "__main__":
    main(measure, __doc__)
