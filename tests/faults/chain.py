"""Ticks of the installed command over one ledger, shot at by the very program that they call; and books of our own.

The release program notes which VM it was called for, in which order, and which it destroyed when. What ledger and
journal say is held against that, and against what this side knows of every row.
"""

import json
import os
import shutil
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.e2e.reports import check_tick, tick_report, wait_until
from tests.support.here import run_here
from tests.support.place import (
    COMMAND,
    DAY,
    PERMISSIVE,
    Place,
    Ran,
    allocation,
    command_provisioner,
    fresh_environment,
    program,
)

CONCURRENCY = 4
# How many rows are due in every tick.
PLANNED = 20
NEVER = float("inf")
TICK = ("tick", "--once", "--json")
ENDED = ("released", "already_released")

# It numbers its calls by making files that must not be there yet; in `gone` is what is not there any more. `shot` says
# SIGNAL WHEN CALL SECONDS. A lost call destroys nothing; an orphaned one destroys although nobody listens any more.
PEER = """
cd '{folder}' || exit 1
set -C
call=1
until echo "$1" > "calls/$call"; do call=$((call + 1)); done 2> /dev/null
read -r signal when at seconds < shot
[ "$call" = "$at" ] || when=never
case $when in lost | orphaned) kill -s "$signal" $PPID; true > fired ;; esac
[ $when$signal = lostKILL ] && exit 1
answer=0
if true 2> /dev/null > "gone/$1"; then
    echo "$1 $(date +%s%N)" >> destroyed
else
    answer=3
fi
case $when in
    unanswered) kill -s "$signal" $PPID; true > fired ;;
    answered) (sleep "$seconds"; kill -s "$signal" $PPID; true > fired) < /dev/null > /dev/null 2>&1 & ;;
esac
exit $answer
"""
# Whether a VM is there.
EXISTS = """
test -e '{folder}'/gone/"$1" && exit 3
exit 0
"""


@dataclass(frozen=True, slots=True)
class Shot:
    """When a tick is shot at.

    when: `lost` (before its call destroys, and the call is lost), `orphaned` (before it destroys, which it then does),
    `unanswered` (after it destroyed), `answered` (so many milliseconds after it answered). call: 1 is the first.
    """

    signal: str
    when: str
    call: int
    milliseconds: int = 0


@dataclass(frozen=True, slots=True)
class Fate:
    """How a tick ended. calls: the VMs that it called for. left: how many due rows it had not called for."""

    code: int
    calls: list[str]
    left: int
    report: dict[str, Any] | None

    @property
    def was_in_mid_work(self) -> bool:
        """Whether it ended between its first and its last call."""
        return bool(self.calls) and self.left > 0


@dataclass(slots=True)
class Row:
    """What this side knows of a row. Its VM may be destroyed after `due_from` and before `off_limits_from`, in ns."""

    columns: Mapping[str, Any]
    due_from: float
    off_limits_from: float = NEVER

    @property
    def vm_ref(self) -> str:
        """The name of its VM."""
        return str(self.columns["vm_ref"])

    def is_due(self, now: int) -> bool:
        """Whether a tick of this `now` must release it."""
        return self.due_from < now < self.off_limits_from


@dataclass(slots=True)
class Chain:
    """One ledger, one journal, and all that ever happened to them.

    held: the expired sids that an operator holds. conflicts: those that are live and not to go, after a release of them
    began; acknowledged: those of which an operator has said that this is known.
    """

    place: Place
    rows: dict[str, Row] = field(default_factory=dict)
    held: set[str] = field(default_factory=lambda: {"held"})
    conflicts: set[str] = field(default_factory=set)
    acknowledged: set[str] = field(default_factory=set)

    # --- the operator's side ----------------------------------------------------------------------------------------

    def begin(self, *, wal: bool = False, can_be_asked: bool = False, soon: int = 10) -> None:
        """Make configuration, ledger and release program; many rows must be left alone.

        can_be_asked: the provisioner can tell, besides, whether a VM is there. soon: how many rows come due while the
        chain runs, one a second.
        """
        folder = self.place.folder
        lines = ["already = [3]"]
        if can_be_asked:
            lines.append(f'exists = ["{program(folder, EXISTS.format(folder=folder), "has-vm")}", "{{vm_ref}}"]')
        self.place.configure(
            command_provisioner([program(folder, PEER.format(folder=folder)), "{vm_ref}"], *lines),
            PERMISSIVE,
            f'[release]\nconcurrency = {CONCURRENCY}\nhold_grace = "0s"\n',
            ledger='timestamps = "epoch_ms"',
        )
        for name in ("calls", "gone", "copies"):
            (folder / name).mkdir()
        (folder / "destroyed").touch()
        self.place.make_ledger(wal=wal)
        now = time.time_ns() // 10**6
        self.add({f"later-{number}": now + (number + 1) * DAY * 1000 for number in range(10)})
        self.add({f"soon-{number}": now + 1000 * number for number in range(soon)})
        self.add({"forever": None, "invalid": "when it is over", "held": now - DAY * 1000}, off_limits_from=0)
        self.add({"settled": now - DAY * 1000}, off_limits_from=0, status="Released", released_at=now)
        assert run_here(self.place, "hold", "held", "--reason", "an operator's wish").code == 0

    def add(self, expiries: Mapping[str, Any], *, off_limits_from: float = NEVER, **columns: Any) -> None:
        """Add a row for each sid, with what its expires_at holds."""
        for sid, expires_at in expiries.items():
            plain = {"owner": f"Zoë {sid}", "plan": None, "vm_ref": f"ref-{sid}", "vm_uid": ""}
            due_from = expires_at * 10**6 if isinstance(expires_at, int) else NEVER
            self.rows[sid] = Row({**allocation(sid, expires_at), **plain, **columns}, due_from, off_limits_from)
        self.place.insert(self.rows[sid].columns for sid in expiries)

    def due(self) -> set[str]:
        """The sids that a tick would have to release now."""
        now = time.time_ns()
        return {sid for sid in self.live() if self.rows[sid].is_due(now)}

    def live(self) -> set[str]:
        """The sids whose rows say that something is left to release."""
        with self._copy_of(self.place.ledger) as ledger:
            return {sid for (sid,) in ledger.execute("SELECT sid FROM vm_allocations WHERE status = 'Active'")}

    def top_up(self) -> None:
        """Let there be `PLANNED` rows to release whose VMs still stand."""
        destroyed = self.destroyed()
        standing = [sid for sid in self.due() if self.rows[sid].vm_ref not in destroyed]
        self.add_due(PLANNED - len(standing))

    def add_due(self, count: int) -> None:
        """Add so many rows that are due."""
        now, first = time.time_ns() // 10**6, len(self.rows)
        self.add({f"vm-{number}": now - 1000 * (1 + number) for number in range(first, first + count)})

    def renew(self, sid: str) -> None:
        """What the operator's own application does when a period is paid for: from now on its VM is off limits."""
        row = self.rows[sid]
        renewed = time.time_ns() // 10**6 + 30 * DAY * 1000
        self.place.execute("UPDATE vm_allocations SET expires_at = ? WHERE sid = ?", renewed, sid)
        row.columns = {**row.columns, "expires_at": renewed}
        row.off_limits_from = time.time_ns()
        if sid in self.begun():
            self.conflicts.add(sid)

    def begun(self) -> set[str]:
        """The sids whose release was begun, and whose end the journal does not know."""
        return {sid for (sid,) in self._in_journal("SELECT sid FROM attempts WHERE intent_at > ''")}

    def _in_journal(self, statement: str) -> list[tuple[Any, ...]]:
        with self._copy_of(self.place.journal) as journal:
            return journal.execute(statement).fetchall()

    # --- shooting ---------------------------------------------------------------------------------------------------

    def shoot(self, shot: Shot) -> Fate:
        """Run a tick that is shot at, and wait until nothing of it is left."""
        planned = len(self.due())
        code = self.shoot_at(shot, *TICK)
        said = (self.place.folder / "out").read_text(encoding="utf-8")
        calls = self.calls()
        report = check_tick(json.loads(said), code) if code >= 0 else None
        return Fate(code, calls, planned - len(calls), report)

    def shoot_at(self, shot: Shot, *arguments: str) -> int:
        """Run a command that is shot at, and wait until nothing of it is left; returns its exit code."""
        folder = self.place.folder
        self._aim(shot)
        # A real start: what it begins names the folder in its command line from the first moment, as it does itself.
        with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
            process = subprocess.Popen(
                [COMMAND, "--config", self.place.config, *arguments],
                env=fresh_environment(folder),
                stdout=out,
                stderr=err,
            )
        # Reaped only after the shot, which could else hit another process of the same number.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        if (folder / "calls" / str(shot.call)).exists():
            wait_until((folder / "fired").exists)
        code = process.wait()
        self._wait_for_orphans()
        assert "Traceback" not in (folder / "err").read_text(encoding="utf-8")
        return code

    def run_tick(self, *arguments: str) -> Ran:
        """Run a tick that nobody shoots at."""
        return self.run_whole(*TICK, *arguments)

    def run_whole(self, *arguments: str) -> Ran:
        """Run a command that nobody shoots at."""
        self._aim(Shot("TERM", "never", 0))
        return self.place.run(*arguments)

    def sweep_whole(self, *arguments: str) -> dict[str, Any]:
        """Run such a tick, and check that it has put everything right."""
        # One row is invalid.
        report = tick_report(self.run_tick(*arguments), 3)
        self._check_converged(report)
        return report

    def _aim(self, shot: Shot) -> None:
        folder = self.place.folder
        shutil.rmtree(folder / "calls")
        (folder / "calls").mkdir()
        (folder / "fired").unlink(missing_ok=True)
        line = f"{shot.signal} {shot.when} {shot.call} {shot.milliseconds / 1000}\n"
        (folder / "shot").write_text(line, encoding="utf-8")

    def calls(self) -> list[str]:
        """The VMs that the last command has called for, in order."""
        numbered = sorted((self.place.folder / "calls").iterdir(), key=lambda path: int(path.name))
        return [path.read_text(encoding="utf-8").strip() for path in numbered]

    def _wait_for_orphans(self) -> None:
        """Wait until no process names this folder: a release program outlives the tick that called it."""
        mark = os.fsencode(self.place.folder) + b"/"
        # One that is just being replaced by the program that it begins has no command line yet.
        wait_until(lambda: not any(mark in line or not line for line in _command_lines()))

    # --- what must hold ---------------------------------------------------------------------------------------------

    def destroyed(self) -> dict[str, int]:
        """The VMs that the release program has destroyed, each once, with the instant in nanoseconds."""
        lines = (self.place.folder / "destroyed").read_text(encoding="utf-8").splitlines()
        found = {vm_ref: int(instant) for vm_ref, instant in map(str.split, lines)}
        assert len(found) == len(lines)
        return found

    def check(self) -> int:
        """Hold the files against what is known, at any moment at which nothing runs.

        Returns how many VMs are gone whose rows do not say so. It looks at copies: whoever opens a database that was
        being written rolls it back, and that is left to the next tick.
        """
        with self._copy_of(self.place.ledger) as ledger, self._copy_of(self.place.journal) as journal:
            for database in (ledger, journal):
                assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            self._check_rows(ledger)
            self._check_destroyed(journal)
            return len(self._exposed(ledger))

    @contextmanager
    def _copy_of(self, database: Path) -> Iterator[sqlite3.Connection]:
        copy = self.place.folder / "copies" / database.name
        for end in ("", "-journal", "-wal"):
            source, target = database.with_name(database.name + end), copy.with_name(copy.name + end)
            target.unlink(missing_ok=True)
            if source.exists():
                shutil.copy(source, target)
        connection = sqlite3.connect(copy)
        try:
            yield connection
        finally:
            connection.close()

    def _exposed(self, ledger: sqlite3.Connection) -> set[str]:
        rows = ledger.execute("SELECT vm_ref FROM vm_allocations WHERE status = 'Released'")
        return set(self.destroyed()) - {vm_ref for (vm_ref,) in rows}

    def _check_rows(self, ledger: sqlite3.Connection) -> None:
        """Nothing is lost, nothing else has changed, and what is Released was destroyed before that was written."""
        destroyed = self.destroyed()
        cursor = ledger.execute("SELECT * FROM vm_allocations")
        names = [name for name, *_ in cursor.description]
        found = {row["sid"]: row for row in (dict(zip(names, values, strict=True)) for values in cursor)}
        assert set(found) == set(self.rows)
        for sid, known in self.rows.items():
            expected = {**dict.fromkeys(names), **known.columns}
            if found[sid]["status"] != expected["status"]:
                assert found[sid]["status"] == "Released"
                assert destroyed[known.vm_ref] // 10**6 <= found[sid]["released_at"]
                expected |= {name: found[sid][name] for name in ("status", "released_at")}
            assert found[sid] == expected

    def _check_destroyed(self, journal: sqlite3.Connection) -> None:
        """Only what had expired and was not held was destroyed, and the journal had an intent of each before that."""
        begun = {
            sid: _nanoseconds(at)
            for sid, at in journal.execute("SELECT sid, min(at) FROM events WHERE event = 'intent' GROUP BY sid")
        }
        sids = {row.vm_ref: sid for sid, row in self.rows.items()}
        for vm_ref, at in self.destroyed().items():
            sid = sids[vm_ref]
            assert self.rows[sid].is_due(at), f"{sid} was destroyed although it was paid for or held"
            assert begun[sid] < at

    def _check_converged(self, report: dict[str, Any]) -> None:
        """Every row that was due is Released or named, and the journal explains every change."""
        now = _nanoseconds(report["now"])
        found = {error["sid"]: error["code"] for error in report["errors"]}
        assert found == dict.fromkeys(self.conflicts, "conflict"), report["errors"]
        assert report["skipped"] == {**dict.fromkeys(report["skipped"], 0), "held": len(self.held)}
        statuses = dict(self.place.query("SELECT sid, status FROM vm_allocations"))
        assert {sid for sid, row in self.rows.items() if row.is_due(now) and statuses[sid] != "Released"} == set()
        self.check()
        steps: dict[str, list[tuple[str, str | None]]] = {}
        for sid, *step in self._in_journal("SELECT sid, event, outcome FROM events WHERE tick <> '' ORDER BY id"):
            steps.setdefault(sid, []).append((step[0], step[1]))
        released = {sid for sid, status in statuses.items() if status == "Released"} - {"settled"}
        assert {sid for sid, of_sid in steps.items() if of_sid[-1][1] in ENDED} == released
        assert all(("intent", None) in steps[sid] for sid in released)
        assert self.begun() == self.conflicts
        gone = self.destroyed()
        assert {
            sid for sid, row in self.rows.items() if row.vm_ref in gone
        } <= released | self.conflicts | self.acknowledged

    def count_ticks(self) -> Counter[str]:
        """How many ticks of each status the journal holds."""
        # Not held against its schema, which takes longer than a tick does.
        return Counter(tick["status"] for tick in run_here(self.place, "history", "--format", "json").json()["ticks"])


def _nanoseconds(text: str) -> int:
    instant = datetime.fromisoformat(text)
    return int(instant.timestamp()) * 10**9 + instant.microsecond * 1000


def _command_lines() -> Iterator[bytes]:
    """Of all processes that run a program: neither of the kernel's own, nor of what has ended."""
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            try:
                line = (process / "cmdline").read_bytes()
                (process / "exe").readlink()
            except OSError:
                continue
            yield line
