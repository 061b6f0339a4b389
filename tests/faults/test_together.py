"""Programs that work on the same files at the same time: ticks among each other, and who looks while others write."""

import fcntl
import os
import re
import sqlite3
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import IO

import pytest

from tests.e2e.reports import error_report, history, tick_report, wait_until
from tests.faults.underway import SIDS, Underway
from tests.support.place import COMMAND, DAY, NOW, Place, Ran, allocation, fresh_environment

TICKS = 8


# --- ticks ----------------------------------------------------------------------------------------------------------


def test_of_eight_ticks_at_once_one_works(place: Place) -> None:
    tick = Underway(place)
    tick.prepare()
    processes = [place.start("tick", "--once", "--json") for _ in range(TICKS)]
    wait_until(lambda: [process.poll() for process in processes].count(None) == 1 and tick.calls() != [])
    tick.go_on()
    rans = {}
    for process in processes:
        out, err = process.communicate(timeout=60)
        rans[process.pid] = Ran(process.returncode, out, err)
    [worked] = [pid for pid, ran in rans.items() if ran.code == 0]
    report = tick_report(rans[worked], 0)
    assert report["rows_released"] == len(SIDS)
    for pid in rans.keys() - {worked}:
        message = error_report(rans[pid], 6)["message"]
        assert f"pid {worked} on " in message
        assert f"started at {report['started_at']}" in message
    tick.check_books(SIDS)
    assert tick_report(tick.run(), 0)["rows_expired"] == 0
    tick.check_books(SIDS)
    # Who was turned away is not in the journal.
    assert [recorded["status"] for recorded in history(place)["ticks"]] == ["success", "success"]


def test_a_tick_that_was_killed_is_not_taken_for_the_one_that_has_the_lock(place: Place) -> None:
    """Which may not have come as far as the journal; the killed one is long past its deadline."""
    tick = Underway(place)
    tick.prepare()
    tick.start_and_stop_in_the_first_call()
    os.kill(tick.pid, 9)
    killed = tick.pid
    assert tick.finish().code == -9
    tick.go_on()
    _in_journal(place, "UPDATE ticks SET ends_by = '2026-01-01T00:00:00.000000Z'")
    lock = place.journal.with_name("journal.db.lock")
    with lock.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        turned_away = place.start("tick", "--once", "--json")
        wait_until(lambda: _has_open(turned_away.pid, lock) or turned_away.poll() is not None)
        # What whoever has the lock writes down first; here that is this process.
        same = "now, started_at, host, version, actor, admitted, kind"
        _in_journal(
            place,
            f"INSERT INTO ticks ({same}, tick, ends_by, pid) SELECT {same}, 'new', '9999-01-01T00:00:00.000000Z', ? "
            "FROM ticks",
            os.getpid(),
        )
        out, err = turned_away.communicate(timeout=60)
    message = error_report(Ran(turned_away.returncode, out, err), 6)["message"]
    assert f"pid {os.getpid()} on " in message
    assert f"pid {killed} " not in message
    # This process lives on, and its tick is over.
    _in_journal(place, "UPDATE ticks SET finished_at = started_at WHERE tick = 'new'")
    report = tick_report(tick.run(), 0)
    assert (report["rows_released"], report["rows_already_released"]) == (len(SIDS) - 1, 1)


def _in_journal(place: Place, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(place.journal)) as journal, journal:
        journal.execute(statement, values)


def _has_open(pid: int, path: Path) -> bool:
    """Whether this process has this file open."""
    try:
        return any(path.samefile(entry) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.exists())
    except FileNotFoundError:
        return False


# --- who looks, and who writes ----------------------------------------------------------------------------------------

ROWS = 1_500
# Of the 64 KiB that a pipe holds; the listing of so many rows is longer.
NEARLY_FULL = 56 * 1024
LISTINGS = (
    ("list-expired",),
    ("list-expired", "--format", "json"),
    ("list-expired", "--format", "csv"),
    ("upcoming",),
    ("upcoming", "--format", "json"),
)


@pytest.mark.parametrize("wal", [False, True], ids=["rollback journal", "WAL"])
def test_a_listing_that_is_paused_in_a_pipe_keeps_nobody_from_writing(place: Place, *, wal: bool) -> None:
    """As one in a pager: all of them at the same time, each after its first line."""
    place.make_ledger(wal=wal)
    place.insert(allocation(f"expired-{number}-", NOW - 2 * DAY + number) for number in range(ROWS))
    place.insert(allocation(f"upcoming-{number}-", NOW + DAY + number) for number in range(ROWS))
    with ExitStack() as stack:
        paused = {words: stack.enter_context(_paused(place, *words)) for words in LISTINGS}
        # At once: within the patience of another program, which would else be told that it is locked.
        with closing(sqlite3.connect(place.ledger, timeout=2, isolation_level=None)) as ledger:
            ledger.execute("BEGIN IMMEDIATE")
            ledger.execute("UPDATE vm_allocations SET expires_at = ? WHERE sid LIKE '%-1_9_-'", (NOW + 30 * DAY,))
            ledger.execute("DELETE FROM vm_allocations WHERE sid LIKE '%-1_8_-'")
            ledger.execute("INSERT INTO vm_allocations (sid, status, expires_at) VALUES ('new', 'Active', ?)", (NOW,))
            ledger.execute("COMMIT")
            if wal:
                # Neither held back nor incomplete.
                assert ledger.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)
        for words, listing in paused.items():
            assert listing.process.poll() is None
            kind = "expired" if words[0] == "list-expired" else "upcoming"
            # What it has decided to show it shows, once each and in its order.
            expected = [f"{kind}-{number}-" for number in range(ROWS)]
            # Each row names its sid twice, as its vm_ref too.
            found = [sid for sid, _ in groupby(re.findall(rf"\b{kind}-\d+-", listing.rest()))]
            assert found == expected
            assert listing.process.returncode == 0


@dataclass(slots=True)
class Paused:
    """A command whose output nobody reads on."""

    process: "subprocess.Popen[bytes]"
    first: bytes

    def rest(self) -> str:
        """Read on to its end; returns all that it has said."""
        out, _ = self.process.communicate(timeout=120)
        return (self.first + out).decode()


@contextmanager
def _paused(place: Place, *words: str) -> Iterator[Paused]:
    """Read the first line alone, and wait until the pipe is full."""
    with (place.folder / "err").open("ab") as log:
        process = subprocess.Popen(
            [COMMAND, "--config", place.config, *words],
            env=fresh_environment(place.folder),
            stdout=subprocess.PIPE,
            stderr=log,
            bufsize=0,
        )
    try:
        pipe = process.stdout
        assert pipe is not None
        first = pipe.readline()
        wait_until(lambda: _unread(pipe) > NEARLY_FULL or process.poll() is not None)
        yield Paused(process, first)
    finally:
        process.kill()
        process.communicate()


def _unread(pipe: IO[bytes]) -> int:
    """How many bytes wait in a pipe."""
    answer = fcntl.ioctl(pipe.fileno(), termios.FIONREAD, b"\0" * 4)
    return int.from_bytes(answer, sys.byteorder)
