"""How many cases there are, and which: each is made from a seed and its number alone, so that any one can be had again.

A plain generator and no Hypothesis: a case is a whole ledger or a whole file, and their number is a promise.
"""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.support.thorough import is_thorough

CASES = "AUTORELEASE_FUZZ_CASES"
SEED = "AUTORELEASE_FUZZ_SEED"
ONLY = "AUTORELEASE_FUZZ_ONLY"
ORDINARY_SEED = "as always"

ROWS_A_LEDGER = 150
ORDINARY_ROWS = 3300
ORDINARY_FILES = 1000
ORDINARY_LINES = 500
# Of these, where not all is asked for.
QUICK_SHARE = 3
# Of this many asked for, so many are rows; a file or a command line takes many times as long as a row.
ROWS_FOR_A_FILE = 20
ROWS_FOR_A_LINE = 20


@dataclass(frozen=True, slots=True)
class Case:
    """One case. kind: rows, files or lines."""

    kind: str
    number: int

    def random(self) -> random.Random:
        """Its own source of chance."""
        return random.Random(f"{seed()}/{self.kind}/{self.number}")  # noqa: S311 - no secret


def seed() -> str:
    """What all cases are made from."""
    return os.environ.get(SEED) or ORDINARY_SEED


def asked_for() -> int | None:
    """How many cases somebody asked for; None: as many as in every run of the tests."""
    given = os.environ.get(CASES)
    return int(given) if given else None


def ordinary(count: int) -> int:
    """How many of so many there are in every run of the tests: a third, or all in CI."""
    return count if is_thorough() else -(-count // QUICK_SHARE)


def ledgers() -> int:
    """How many ledgers full of rows."""
    rows = asked_for() or ordinary(ORDINARY_ROWS)
    return -(-rows // ROWS_A_LEDGER)


def files() -> int:
    """How many configuration files."""
    asked = asked_for()
    return ordinary(ORDINARY_FILES) if asked is None else -(-asked // ROWS_FOR_A_FILE)


def lines() -> int:
    """How many command lines."""
    asked = asked_for()
    return ordinary(ORDINARY_LINES) if asked is None else -(-asked // ROWS_FOR_A_LINE)


def are_plenty() -> bool:
    """Whether there are so many cases that every kind of end must be among them."""
    return ONLY not in os.environ and lines() >= ORDINARY_LINES


def numbers(kind: str, count: int, part: int, parts: int) -> Iterator[Case]:
    """The cases of one part of several; or the one alone that was asked for, in whichever part it is."""
    only = os.environ.get(ONLY)
    if only is None:
        yield from (Case(kind, number) for number in range(part, count, parts))
    elif int(only) % parts == part:
        yield Case(kind, int(only))


@contextmanager
def told(case: Case) -> Iterator[None]:
    """Say of a failure which case it is, and how to have it again."""
    try:
        yield
    except Exception as error:
        error.add_note(
            f"{case.kind} {case.number}; to have it again: {SEED}={seed()!r} {ONLY}={case.number} "
            "python -m pytest tests/fuzz"
        )
        raise
