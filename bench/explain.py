"""`explain` of one row of a large ledger, of which many are due and the last plan was refused.

python bench/explain.py
python bench/explain.py --scale small
"""

from bench.part import main
from bench.place import Fleets, Place
from bench.results import Part, compared
from bench.running import Run, fail, take_turns
from bench.sizes import Sizes, words
from bench.start import NO_OP
from bench.start import ROWS as FEW

REFUSED = 7


def measure(fleets: Fleets, sizes: Sizes) -> Part:
    """Beside a tick with nothing to do over a small ledger."""
    large, small = fleets.of(sizes.middle), fleets.of(FEW)
    large.save()
    large.configure(limit=1)
    large.make_due(sizes.due)
    large.tick({"rows_expired": sizes.due, "status": "refused"}, code=REFUSED)
    sid = large.due_sid()
    what = f"`explain SID` in {words(large.rows)} rows, {words(sizes.due)} of them due"
    measured = take_turns({what: lambda: _explain(large, sid), NO_OP: small.no_op}, sizes.some_turns, is_warm=True)
    large.forget()
    return Part([compared(measured, what, NO_OP, 1.3)], measured)


def _explain(place: Place, sid: str) -> Run:
    ran = place.run("explain", sid)
    if sid not in place.output.read_text("utf-8"):
        fail("explain does not name the row")
    return ran


if __name__ == "__main__":
    main(measure, __doc__)
