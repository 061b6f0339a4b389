"""A folder with a ledger, a configuration and a journal; and the ledgers of one run, each made once."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from bench.fleet import make_due, make_ledger
from bench.running import AUTORELEASE, Run, environment, expect, fail, run

STAMPS = 'kind = "ledger"'
CONFIGURATION = """
[ledger]
url = "sqlite:///allocations.db"
timestamps = "{timestamps}"
[release]
concurrency = {concurrency}
[guard]
max_releases = {limit}
max_percent = 100
[provisioners.default]
{provisioner}
"""
FILES = ("allocations.db", "journal.db")
# Of each at most five minutes are the audit's.
MOST_AUDITING_TICKS = 20
LIVE = "status <> 'Released'"


class Place:
    """One ledger of so many rows, so many of them live, and its journal. Nothing is due until `make_due`."""

    def __init__(self, folder: Path, rows: int, live: int, *, is_text: bool = False) -> None:
        self.folder, self.rows, self.live = folder, rows, live
        self.ledger = folder / "allocations.db"
        self.output = folder / "output"
        self._timestamps = "iso8601" if is_text else "epoch"
        folder.mkdir()
        make_ledger(self.ledger, rows, live, is_text=is_text)
        self.configure()
        subprocess.run(self.command("init"), env=environment(), capture_output=True, check=True)

    def configure(self, provisioner: str = STAMPS, *, concurrency: int = 8, limit: int = 10_000_000) -> None:
        """Write the configuration. provisioner: the keys of its section; limit: max_releases."""
        text = CONFIGURATION.format(
            timestamps=self._timestamps, provisioner=provisioner, concurrency=concurrency, limit=limit
        )
        (self.folder / "config.toml").write_text(text, encoding="utf-8")

    def make_due(self, due: int) -> None:
        """Let so many of the live rows have expired."""
        make_due(self.ledger, self.rows, self.live, due)
        expect(due, self.count(f"{LIVE} AND expires_at < {int(time.time())}"), f"{self.folder.name}: rows due")

    def audit(self) -> None:
        """Tick until the audit is over: the next is due in a day."""
        for _ in range(MOST_AUDITING_TICKS):
            self.run("tick", "--once", "--json")
            if self.report()["audited_at"] is not None:
                return
        fail(f"{self.folder.name}: the audit does not end")

    # --- runs -------------------------------------------------------------------------------------------------------

    def command(self, *arguments: str) -> list[str]:
        """The command line of autorelease here."""
        return [str(AUTORELEASE), "--log-level", "error", "--config", str(self.folder / "config.toml"), *arguments]

    def run(self, *arguments: str, code: int = 0) -> Run:
        """One measured run of autorelease, whose output stands in the file `output` then."""
        return run(self.command(*arguments), self.output, code=code)

    def report(self) -> Any:
        """What the last run wrote, as JSON."""
        with self.output.open(encoding="utf-8") as file:
            return json.load(file)

    def tick(self, counters: Mapping[str, object], *options: str, code: int = 0) -> Run:
        """One measured tick, whose report must have these counters."""
        ran = self.run("tick", "--once", "--json", *options, code=code)
        report = self.report()
        for name, wanted in counters.items():
            expect(wanted, report[name], f"{self.folder.name}: {name}")
        return ran

    def no_op(self) -> Run:
        """One measured tick with nothing due."""
        return self.tick({"rows_examined": self.live, "rows_expired": 0})

    def count(self, condition: str) -> int:
        """How many rows of the ledger are so."""
        with closing(sqlite3.connect(f"file:{self.ledger}?mode=ro", uri=True)) as connection:
            [count] = connection.execute(f"SELECT count(*) FROM vm_allocations WHERE {condition}").fetchone()
        return int(count)

    def due_sid(self) -> str:
        """The row that has been waiting longest."""
        with closing(sqlite3.connect(f"file:{self.ledger}?mode=ro", uri=True)) as connection:
            [sid] = connection.execute(f"SELECT sid FROM vm_allocations WHERE {LIVE} ORDER BY expires_at").fetchone()
        return str(sid)

    # --- the same again ---------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Remember ledger and journal as they are."""
        for name in FILES:
            shutil.copyfile(self.folder / name, self.folder / f"{name}.saved")

    def restore(self) -> None:
        """Ledger and journal as they were, written out now and not at somebody's first transaction."""
        for name in FILES:
            shutil.copyfile(self.folder / f"{name}.saved", self.folder / name)
            with (self.folder / name).open("rb") as file:
                os.fsync(file.fileno())

    def forget(self) -> None:
        """As before the first `save`, and with the usual configuration."""
        self.restore()
        for name in FILES:
            (self.folder / f"{name}.saved").unlink()
        self.configure()


class Fleets:
    """The ledgers of one run, each made when it is first wanted. Whoever is done leaves it as it was."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._places: dict[str, Place] = {}

    def of(self, rows: int, *, live: int | None = None, is_text: bool = False) -> Place:
        """So many rows; live: so many of them, else two of five. Audited: no tick of this day does it again."""
        live = rows * 2 // 5 if live is None else live
        name = f"{rows}-{live}{'-text' if is_text else ''}"
        if name not in self._places:
            self._places[name] = self.new(name, rows, live, is_text=is_text)
            began = time.monotonic()
            self._places[name].audit()
            sys.stderr.write(f"  audited in {time.monotonic() - began:.1f} s\n")
        return self._places[name]

    def new(self, name: str, rows: int, live: int, *, is_text: bool = False) -> Place:
        """A ledger of its own, not audited."""
        began = time.monotonic()
        place = Place(self.folder / name, rows, live, is_text=is_text)
        sys.stderr.write(f"  made {rows:,} rows in {time.monotonic() - began:.1f} s\n")
        return place
