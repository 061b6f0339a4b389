"""One measured run of a program, and several programs that take turns.

A busy machine is busy for all who take turns: of these, medians and ratios can be compared, seconds cannot.
"""

import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

HERE = Path(__file__).resolve().parent
PYTHON = Path(sys.executable)
AUTORELEASE = PYTHON.parent / "autorelease"
KIB = 1024


class BenchError(Exception):
    """A program did not do its work: whatever it took for that, it has won nothing."""


def fail(message: str) -> NoReturn:
    """Give this part up."""
    raise BenchError(message)


def expect(wanted: object, found: object, what: str) -> None:
    """Give this part up where the work was not done as it should be."""
    if wanted != found:
        fail(f"{what}: {found} where {wanted} was expected")


def environment() -> dict[str, str]:
    """What every program gets: nothing of the user's that would change what autorelease does."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AUTORELEASE_", "PYTHON"))}
    return kept | {"LANG": "C.UTF-8"}


@dataclass(frozen=True, slots=True)
class Run:
    """One run: its seconds, those of the processor (with all that it started and waited for), its peak in MiB."""

    seconds: float
    processor: float
    peak: float


def run(command: Sequence[str | Path], output: Path, *, code: int = 0) -> Run:
    """Run it to its end. output: the file that gets what it writes. code: how it has to end."""
    ended = subprocess.run(
        [PYTHON, "-I", "-S", HERE / "measure.py", output, *command],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        fail(f"{command[0]}: {ended.stderr[-1000:]}")
    # The program's own standard error stands in the same pipe, before that of measure.py: which writes none.
    seconds, processor, found, peak = ended.stdout.split()
    if int(found) != code:
        fail(f"{' '.join(map(str, command))}: exit {found} where {code} was expected\n{ended.stderr[-2000:]}")
    return Run(float(seconds), float(processor), int(peak) / KIB)


@dataclass(slots=True)
class Measured:
    """The runs of one program, and their medians."""

    runs: list[Run] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """The middle of its times."""
        return statistics.median(each.seconds for each in self.runs)

    @property
    def processor(self) -> float:
        """The middle of the processor's times."""
        return statistics.median(each.processor for each in self.runs)

    @property
    def peak(self) -> float:
        """The middle of its peaks, in MiB."""
        return statistics.median(each.peak for each in self.runs)

    @property
    def spread(self) -> str:
        """The quickest and the slowest, in seconds."""
        times = [each.seconds for each in self.runs]
        return f"{min(times):.3f} to {max(times):.3f}"


# Makes ready what is not measured, runs, and looks whether the work was done.
Contestant = Callable[[], Run]


def take_turns(contestants: Mapping[str, Contestant], turns: int, *, is_warm: bool = False) -> dict[str, Measured]:
    """All of them by turns, every other time from the last to the first; is_warm: a first turn does not count."""
    measured = {name: Measured() for name in contestants}
    for turn in range(-1 if is_warm else 0, turns):
        for name in list(contestants)[:: -1 if turn % 2 else 1]:
            each = contestants[name]()
            if turn >= 0:
                measured[name].runs.append(each)
                sys.stderr.write(f"  {each.seconds:9.3f} s  {each.peak:7.1f} MiB  {name}\n")
    return measured
