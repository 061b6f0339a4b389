"""How large everything is: as the budgets mean it, as small as shows that all works, or as small as can be."""

from dataclasses import dataclass

# (rows of the ledger, due)
Grid = tuple[tuple[int, tuple[int, ...]], ...]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many rows, and how many turns.

    largest, middle, compared: rows of ledgers. due: of the largest, and of the middle one. down: due with a provisioner
    that is down. calls, waits: of programs. audited: live rows. turns: of what takes long; quick_turns: of what takes
    less than a second; some_turns: of what is between these.
    """

    name: str
    largest: int
    middle: int
    compared: int
    due: int
    down: int
    calls: int
    waits: int
    audited: int
    quick_turns: int
    some_turns: int
    turns: int
    curve: Grid


FULL = Sizes(
    name="full",
    largest=10_000_000,
    middle=1_000_000,
    compared=100_000,
    due=100_000,
    down=400_000,
    calls=2_000,
    waits=900,
    audited=1_000_000,
    quick_turns=21,
    some_turns=7,
    turns=3,
    curve=(
        (10_000, (0, 1_000)),
        (100_000, (0, 1_000)),
        (1_000_000, (0, 1_000, 100_000)),
        (10_000_000, (0, 1_000, 100_000)),
    ),
)
SMALL = Sizes(
    name="small",
    largest=100_000,
    middle=60_000,
    compared=55_000,
    due=2_000,
    down=24_000,
    calls=200,
    waits=96,
    audited=30_000,
    quick_turns=3,
    some_turns=1,
    turns=1,
    curve=((10_000, (0, 1_000)), (100_000, (0, 1_000, 10_000))),
)
# For the tests: nothing about speed is learnt from it.
TINY = Sizes(
    name="tiny",
    largest=1_000,
    middle=1_000,
    compared=100,
    due=100,
    down=400,
    calls=20,
    waits=32,
    audited=400,
    quick_turns=1,
    some_turns=1,
    turns=1,
    curve=((100, (0, 10)), (1_000, (0, 10, 100))),
)
ALL = {sizes.name: sizes for sizes in (FULL, SMALL, TINY)}


def words(number: int) -> str:
    """10,000,000 as people write it."""
    return f"{number:,}"
