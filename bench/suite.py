"""Time `make test`, and write its line into RESULTS.md. No part of `make bench`: it takes minutes.

python bench/suite.py
"""

import subprocess
import sys
import time

from bench.machine import cores
from bench.results import RESULTS, Row, replace_row
from bench.running import HERE, environment

WHAT = "`make test`, no coverage"
UNIT = "{} s"
LIMIT = 150


def row(seconds: float | None) -> Row:
    """The line; None: nobody has measured it."""
    return Row(WHAT, "", seconds, UNIT, LIMIT)


def main() -> None:
    """Run the tests, which must pass, and note how long they took. The installation is not among it."""
    root = HERE.parent
    subprocess.run(["make", "test", "TESTS=tests/test_text.py"], cwd=root, env=environment(), check=True)
    began = time.monotonic()
    ended = subprocess.run(["make", "test"], cwd=root, env=environment(), check=False)
    seconds = time.monotonic() - began
    if ended.returncode:
        sys.exit("bench: the tests do not pass")
    print(f"make test: {seconds:.1f} s on {cores()} cores")
    replace_row(RESULTS, row(seconds))


if __name__ == "__main__":
    main()
