"""A folder with a configuration, a ledger and a journal, and the installed command run in it as a real process."""

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import warm
from tests.support.started import Started

COMMAND = Path(sys.executable).parent / "autorelease"
NOW = int(time.time())
HOUR = 3600
DAY = 24 * HOUR

TABLE = """
CREATE TABLE vm_allocations (sid TEXT PRIMARY KEY, owner TEXT, plan TEXT, provisioner TEXT, vm_ref TEXT, vm_uid TEXT,
    status TEXT, expires_at, released_at)
"""
LEDGER_PROVISIONER = '[provisioners.default]\nkind = "ledger"\n'
# A first tick judges max_percent of the smallest fleet: most tests are about something else.
PERMISSIVE = "[guard]\nmax_percent = 100\n"


@dataclass(frozen=True, slots=True)
class Ran:
    """How a run of the command ended."""

    code: int
    out: str
    err: str

    def json(self) -> dict[str, Any]:
        """Its output as the one JSON object that it must be."""
        found: dict[str, Any] = json.loads(self.out)
        return found


class Place:
    """One installation in a folder of its own. environment: of every run, beside what a fresh one has."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.environment = environment or {}
        self.config = folder / "config.toml"
        self.ledger = folder / "allocations.db"
        self.journal = folder / "journal.db"

    def configure(self, *sections: str, ledger: str = "") -> None:
        """Write the configuration: [ledger] with these further lines, then these sections."""
        head = f'[ledger]\nurl = "sqlite:///{self.ledger.name}"\n{ledger}\n'
        self.config.write_text(head + "\n".join(sections), encoding="utf-8")

    def make_ledger(self, rows: Iterable[Mapping[str, Any]] = (), *, table: str = TABLE, wal: bool = False) -> None:
        """Make the ledger with these rows; a row names its columns."""
        connection = sqlite3.connect(self.ledger)
        if wal:
            connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(table)
        connection.commit()
        connection.close()
        self.insert(rows)

    def insert(self, rows: Iterable[Mapping[str, Any]], table: str = "vm_allocations") -> None:
        """Add rows to the ledger."""
        with sqlite3.connect(self.ledger) as connection:
            for row in rows:
                columns = ", ".join(f'"{name}"' for name in row)
                places = ", ".join("?" for _ in row)
                connection.execute(f'INSERT INTO "{table}" ({columns}) VALUES ({places})', list(row.values()))
        connection.close()

    def query(self, statement: str, *values: Any, database: Path | None = None) -> list[tuple[Any, ...]]:
        """Read from the ledger, or from another database."""
        connection = sqlite3.connect(f"file:{database or self.ledger}?mode=ro", uri=True)
        try:
            return connection.execute(statement, values).fetchall()
        finally:
            connection.close()

    def execute(self, statement: str, *values: Any) -> None:
        """Change the ledger, as the operator's own application would."""
        with sqlite3.connect(self.ledger) as connection:
            connection.execute(statement, values)
        connection.close()

    def released(self) -> set[str]:
        """The sids whose status is Released."""
        return {sid for (sid,) in self.query("SELECT sid FROM vm_allocations WHERE status = 'Released'")}

    def run(self, *arguments: str, environment: Mapping[str, str] | None = None, user: int | None = None) -> Ran:
        """Run the installed command in a fresh environment of PATH, HOME and LANG."""
        words: list[str | Path] = ["--config", self.config, *arguments]
        return run_in(self.folder, words, {**self.environment, **(environment or {})}, user=user)

    def start(
        self, *arguments: str, stdout: int = subprocess.PIPE, stderr: int = subprocess.PIPE
    ) -> "subprocess.Popen[str]":
        """Start the installed command and return at once."""
        words: list[str | Path] = ["--config", self.config, *arguments]
        variables = {**fresh_environment(self.folder), **self.environment}
        if warm.can_start(variables):
            return Started(COMMAND, words, variables, self.folder, stdout=stdout, stderr=stderr)
        return subprocess.Popen(
            [COMMAND, *words], env=variables, cwd=self.folder, stdout=stdout, stderr=stderr, text=True
        )


def run_in(
    folder: Path, words: Sequence[str | Path], environment: Mapping[str, str], *, user: int | None = None
) -> Ran:
    """Run the installed command in this folder, in a fresh environment and this one."""
    variables = {**fresh_environment(folder), **environment}
    if user is None and warm.can_start(variables):
        ended = warm.run(COMMAND, words, variables, folder)
    else:
        ended = subprocess.run(
            [COMMAND, *words],
            env=variables,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=warm.SECONDS,
            user=user,
            group=user,
            extra_groups=[] if user is not None else None,
        )
    return Ran(ended.returncode, ended.stdout, ended.stderr)


def fresh_environment(home: Path) -> dict[str, str]:
    """What a process of nobody's in particular has; and, where coverage is measured, word of that."""
    measured = {name: value for name, value in os.environ.items() if name == "COVERAGE_PROCESS_CONFIG"}
    return {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", **measured}


def allocation(sid: str | int, expires_at: Any, status: Any = "Active", **columns: Any) -> dict[str, Any]:
    """One row for `Place.insert`."""
    return {"sid": sid, "status": status, "expires_at": expires_at, **columns}


def program(folder: Path, body: str, name: str = "release-vm") -> Path:
    """A POSIX shell script that stands for the operator's own release program."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def command_provisioner(argv: Sequence[object], *lines: str) -> str:
    """A `[provisioners.default]` section of kind command."""
    words = ", ".join(json.dumps(str(word)) for word in argv)
    return "\n".join(["[provisioners.default]", 'kind = "command"', f"argv = [{words}]", *lines, ""])
