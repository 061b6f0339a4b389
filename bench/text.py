"""A ledger whose expiries are text in ISO 8601, in a table that holds nobody to that: a tick with nothing to do.

python bench/text.py
python bench/text.py --scale small
"""

from bench.part import main
from bench.place import Fleets
from bench.results import Part, Row
from bench.running import take_turns
from bench.sizes import Sizes, words
from bench.start import NO_OP
from bench.start import ROWS as FEW


def measure(fleets: Fleets, sizes: Sizes) -> Part:
    """Beside a small ledger of the sample's schema."""
    large, small = fleets.of(sizes.middle, is_text=True), fleets.of(FEW)
    over = f"{NO_OP}, over {words(large.rows)} rows in ISO text without STRICT, index on the expiry"
    measured = take_turns({over: large.no_op, NO_OP: small.no_op}, sizes.some_turns, is_warm=True)
    more = measured[over].seconds - measured[NO_OP].seconds
    return Part([Row(over, NO_OP, more, "{} s more", 0.5)], measured)


if __name__ == "__main__":
    main(measure, __doc__)
