"""How much is tried by chance: a fifth of it in `make test`, all of it in CI, and when a protection is taken away."""

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
