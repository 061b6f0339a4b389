"""What docs/scale.md says: a sweep over a million rows, beside the shortest programs that stamp the same rows.

Every contestant is a process of its own, and all take turns in the same run, so that a busy machine is busy for all of
them. Shown are medians; memory is the peak of the process, as the kernel counted it. Everything is made in a temporary
folder and removed again.

    python bench/million.py
    python bench/million.py --rows 30000 --due 300 --runs 1
"""

import argparse
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
AUTORELEASE = Path(sys.executable).parent / "autorelease"
CONFIGURATION = """
[ledger]
url = "sqlite:///allocations.db"
[guard]
max_releases = {limit}
max_percent = 100
[provisioners.default]
kind = "ledger"
"""


@dataclass(slots=True)
class Measured:
    """The runs of one contestant: seconds, and peak memory in KiB."""

    seconds: list[float] = field(default_factory=list)
    peaks: list[int] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The middle of its times."""
        return statistics.median(self.seconds)

    @property
    def peak(self) -> float:
        """The middle of its peaks, in MiB."""
        return statistics.median(self.peaks) / 1024


class Bench:
    """The folder, the contestants and their results."""

    def __init__(self, folder: Path, rows: int, due: int) -> None:
        self.folder = folder
        self.rows = rows
        self.due = due
        self.template = folder / "template.db"
        self.results: dict[str, Measured] = {}

    def prepare(self) -> None:
        """Make the ledger that every run starts from."""
        subprocess.run([sys.executable, HERE / "fleet.py", self.template, str(self.rows), str(self.due)], check=True)
        due = self._count(self.template, f"status <> 'Released' AND expires_at < {int(time.time())}")
        if due != self.due:
            sys.exit(f"bench: {due} rows are due where {self.due} were expected")

    def sweep(self) -> None:
        """One turn of all that stamp, each on a ledger of its own."""
        place = self._place("sweep")
        tick: list[str | Path] = [AUTORELEASE, *self._options(place), "tick", "--once"]
        self._measure("autorelease tick --once", tick)
        self._check(place)
        self._measure("autorelease tick --once, nothing due", tick)
        shutil.rmtree(place)
        for group in (1, 100):
            place = self._place("raw")
            name = "raw loop, a transaction for each row" if group == 1 else f"raw loop, {group} rows a transaction"
            loop: list[str | Path] = [sys.executable, "-I", HERE / "raw_loop.py", place / "allocations.db", str(group)]
            self._measure(name, loop)
            self._check(place)
            shutil.rmtree(place)

    def start_up(self) -> None:
        """One turn of all that do nothing."""
        place = self.folder / "small"
        if not place.exists():
            subprocess.run([AUTORELEASE, "init", place], check=True, capture_output=True)
            (place / "config.toml").write_text(CONFIGURATION.format(limit=1), encoding="utf-8")
        self._measure("autorelease tick --once, empty ledger", [AUTORELEASE, *self._options(place), "tick", "--once"])
        self._measure("a typer command that does nothing", [sys.executable, HERE / "typer_alone.py", "--once"])
        self._measure("python -I -c pass", [sys.executable, "-I", "-c", "pass"])

    def show(self) -> None:
        """The results, and the ratios that docs/scale.md quotes."""
        print(f"\n{self.rows} rows, {self.due} due, Python {sys.version.split()[0]}, SQLite {sqlite3.sqlite_version}")
        print(f"{'':42}{'median s':>10}{'of n':>6}{'spread s':>16}{'peak MiB':>10}")
        for name, measured in self.results.items():
            spread = f"{min(measured.seconds):.3f}-{max(measured.seconds):.3f}"
            print(f"{name:42}{measured.median:10.3f}{len(measured.seconds):6}{spread:>16}{measured.peak:10.1f}")
        tick, by_row, by_group = (
            self.results[name]
            for name in (
                "autorelease tick --once",
                "raw loop, a transaction for each row",
                "raw loop, 100 rows a transaction",
            )
        )
        idle, empty, typer, python = (
            self.results[name]
            for name in (
                "autorelease tick --once, nothing due",
                "autorelease tick --once, empty ledger",
                "a typer command that does nothing",
                "python -I -c pass",
            )
        )
        print("\nratios of medians")
        print(f"  tick / raw loop, row by row        {tick.median / by_row.median:6.2f}")
        print(f"  tick / raw loop, 100 rows a time   {tick.median / by_group.median:6.2f}")
        print(f"  peak memory, tick / raw, 100 rows  {tick.peak / by_group.peak:6.2f}")
        print(f"  nothing due, all rows / no rows    {idle.median / empty.median:6.2f}")
        print(f"  no-op tick / no-op typer           {empty.median / typer.median:6.2f}")
        print(f"  no-op tick / python -I -c pass     {empty.median / python.median:6.2f}")

    def _place(self, name: str) -> Path:
        """A fresh copy of the ledger, with a configuration and a journal."""
        place = self.folder / name
        place.mkdir()
        (place / "config.toml").write_text(CONFIGURATION.format(limit=self.rows), encoding="utf-8")
        shutil.copyfile(self.template, place / "allocations.db")
        subprocess.run([AUTORELEASE, *self._options(place), "init"], check=True, capture_output=True)
        # What was just copied is written out now, and not at somebody's first transaction.
        os.sync()
        return place

    def _options(self, place: Path) -> Sequence[str]:
        return ["--log-level", "error", "--config", str(place / "config.toml")]

    def _measure(self, name: str, command: Sequence[str | Path]) -> None:
        ran = subprocess.run(
            [sys.executable, "-I", "-S", HERE / "measure.py", *command], stdout=subprocess.PIPE, text=True, check=True
        )
        seconds, code, peak = ran.stdout.split()
        if code != "0":
            sys.exit(f"bench: {name}: exit {code}")
        measured = self.results.setdefault(name, Measured())
        measured.seconds.append(float(seconds))
        measured.peaks.append(int(peak))
        print(f"{name:42}{float(seconds):10.3f} s")

    def _check(self, place: Path) -> None:
        """A quick program that did not do its work would win."""
        live = self._count(place / "allocations.db", "status <> 'Released'")
        expected = (self.rows + 2) // 3 - self.due
        if live != expected:
            sys.exit(f"bench: {live} live rows are left where {expected} were expected")

    def _count(self, path: Path, condition: str) -> int:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        [count] = connection.execute(f"SELECT count(*) FROM vm_allocations WHERE {condition}").fetchone()
        connection.close()
        return int(count)


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--due", type=int, default=10_000, help="how many of them have expired")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to make the temporary folder: the disk that is measured")
    chosen = parser.parse_args()
    if not (0 < chosen.due <= chosen.rows // 3 and chosen.runs > 0):
        parser.error("at most a third of the rows is live, so at most so many can be due")
    with tempfile.TemporaryDirectory(prefix="autorelease-bench-", dir=chosen.folder) as folder:
        bench = Bench(Path(folder), chosen.rows, chosen.due)
        bench.prepare()
        for _ in range(chosen.runs):
            bench.sweep()
            for _ in range(3):
                bench.start_up()
        bench.show()


if __name__ == "__main__":
    main()
