"""The daily audit of a large ledger: its time, its memory, and how long it keeps another program from writing.

python bench/auditing.py
python bench/auditing.py --scale small
"""

from bench.beside import another_writes
from bench.part import main
from bench.place import Fleets, Place
from bench.results import Part, Row, peak
from bench.running import Run, fail, take_turns
from bench.sizes import Sizes, words

PAUSE = 0.02


def measure(fleets: Fleets, sizes: Sizes) -> Part:
    """The first tick of a journal audits, whatever it has to do besides."""
    place = fleets.new("audited", sizes.audited, sizes.audited)
    place.save()
    name = f"audit of {words(sizes.audited)} live rows, the whole tick"
    beside = f"{name}, while another program commits fifty times a second"
    waits: list[float] = []
    measured = take_turns({name: lambda: _audit(place), beside: lambda: _beside(place, waits)}, sizes.turns)
    rows = [
        Row(name, "", measured[name].seconds, "{} s", 10),
        peak(measured, name),
        Row(f"longest lock: {name}", "", max(waits), "{} s", 0.1),
    ]
    return Part(rows, measured)


def _audit(place: Place) -> Run:
    place.restore()
    return _tick(place)


def _beside(place: Place, waits: list[float]) -> Run:
    place.restore()
    with another_writes(place.ledger, PAUSE) as written:
        ran = _tick(place)
    waits.append(written.longest)
    return ran


def _tick(place: Place) -> Run:
    ran = place.tick({"rows_examined": place.live, "rows_expired": 0, "rows_invalid": 0})
    if place.report()["audited_at"] is None:
        fail("the audit did not come to its end")
    return ran


if __name__ == "__main__":
    main(measure, __doc__)
