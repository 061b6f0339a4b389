"""How much is tried: of what comes by chance a fifth in `make test`, and of what comes at every place in turn a part.

All of it in CI, and when a protection is taken away.
"""

import os

THOROUGH = "AUTORELEASE_THOROUGH"
QUICK_SHARE = 5
ORDINARY_EXAMPLES = 100


def is_thorough() -> bool:
    """Whether all of it is asked for."""
    return bool(os.environ.get(THOROUGH))


def examples(number: int = ORDINARY_EXAMPLES) -> int:
    """How many of so many examples are tried in this run."""
    return number if is_thorough() else -(-number // QUICK_SHARE)


def stride(number: int) -> int:
    """Of places that are tried in turn, after the first: each, or only one of so many."""
    return 1 if is_thorough() else number
