"""Another program that writes to the ledger while something is measured."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.running import HERE, PYTHON, environment, fail

# It shares the processor with what is measured: this share of what it meant to do it must have done.
LEAST_SHARE = 0.2


@dataclass(slots=True)
class Written:
    """writes: commits that were made; longest: the most seconds that a lock kept one waiting."""

    writes: int = 0
    longest: float = 0.0


@contextmanager
def another_writes(ledger: Path, pause: float) -> Iterator[Written]:
    """A commit every `pause` seconds meanwhile; what came of it is known at the end."""
    written = Written()
    command: list[str | Path] = [PYTHON, "-I", HERE / "writing.py", ledger, str(pause)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())
    try:
        if process.stdout is None or process.stdout.readline() != "writing\n":
            fail("the other program cannot write to the ledger")
        yield written
    finally:
        process.terminate()
        output, _ = process.communicate()
    writes, seconds, longest = output.split()
    written.writes, written.longest = int(writes), float(longest)
    if written.writes < LEAST_SHARE * float(seconds) / pause:
        fail(f"the other program made {writes} commits in {seconds} seconds")
