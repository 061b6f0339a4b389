"""The place that the first landed program left: its ledger, and a journal of version 2 with every state in it.

`tests/journal/landed/journal.sql` says what is in it, and how it was made. What it says holds at NOW.
"""

import os
import sqlite3
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from autorelease.journal.schema import bring_up_to_date
from autorelease.rules.guard import Limits
from tests.faults.clocks import set_to
from tests.support.engine import Engine
from tests.support.place import COMMAND, Place, Ran, command_provisioner, fresh_environment, program

FOLDER = Path(__file__).parent.parent / "journal" / "landed"
NOW = datetime(2026, 12, 2, 11, tzinfo=UTC)
VERSION = 2
# The newest tick was refused, naming this number.
REFUSED_COUNT = 6
DUE = tuple(f"due-{number}" for number in range(1, REFUSED_COUNT + 1))
HELD = ("held", "held-until", "lapsed", "unheld")
OLD_TABLES = ("ticks", "events", "attempts", "holds")
SECTIONS = "[release]\nquarantine_after = 2\nattempts = 1\n[guard]\nmax_releases = 5\n"


def landed_place(folder: Path) -> Place:
    """Make it in this folder; its release program writes down what it is called for, and succeeds."""
    if sqlite3.sqlite_version_info < (3, 37):
        pytest.skip(f"the tables of the landed program are STRICT: SQLite {sqlite3.sqlite_version} cannot read them")
    place = Place(folder)
    _load(place.ledger, "ledger.sql")
    _load(place.journal, "journal.sql")
    with sqlite3.connect(place.journal) as connection:
        connection.execute("UPDATE ticks SET ledger = ?", (ledger_name(place),))
    connection.close()
    script = program(folder, f"echo \"$1\" >> '{folder}/calls'")
    place.configure(SECTIONS, command_provisioner([script, "{vm_ref}"]))
    return place


def _load(path: Path, name: str) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640))
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript((FOLDER / name).read_text(encoding="utf-8"))
    connection.close()


def ledger_name(place: Place) -> str:
    """What a journal calls the ledger of this place."""
    return f"{os.path.realpath(place.ledger)} table vm_allocations"


def upgrade(place: Place) -> None:
    """Take the steps that the journal's tables lack, as the first tick of the present program does."""
    connection = sqlite3.connect(place.journal, isolation_level=None)
    bring_up_to_date(connection)
    connection.close()


def landed_engine(place: Place) -> Engine:
    """Ticks over it in this process, with its configuration, at NOW."""
    engine = Engine(place.folder)
    engine.now = NOW
    engine.limits = Limits(max_releases=5, max_percent=50, min_fleet=20)
    engine.configure(quarantine_after=2, attempts=1, hold_grace=timedelta(hours=24))
    engine.ledger_name = ledger_name(place)
    return engine


def run_at_now(place: Place, *arguments: str, later: timedelta = timedelta(0), before: Sequence[str] = ()) -> Ran:
    """Run the installed command as if it were NOW, or later than that. before: what it is started with."""
    completed = subprocess.run(
        [*set_to(NOW + later), *before, COMMAND, "--config", place.config, *arguments],
        env=fresh_environment(place.folder),
        cwd=place.folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return Ran(completed.returncode, completed.stdout, completed.stderr)


def calls(place: Place) -> set[str]:
    """The VMs that the release program was called for."""
    path = place.folder / "calls"
    return set(path.read_text(encoding="utf-8").split()) if path.exists() else set()


def old_rows(journal: Path) -> dict[str, Sequence[dict[str, Any]]]:
    """All rows of the tables that the landed program knows, by table; each as its columns."""
    connection = sqlite3.connect(f"file:{journal}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    try:
        return {
            table: [dict(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY rowid")]
            for table in OLD_TABLES
        }
    finally:
        connection.close()
