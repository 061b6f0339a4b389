"""Between the look and the call: another process has the journal just then, or the tick's own process stands still."""

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from autorelease import limits
from tests.e2e.reports import tick_report, wait_until
from tests.faults.underway import SIDS, Underway
from tests.support.place import Place

FAR = 4_000_000_000
# Longer than a judgement may grow old.
STOPPED_SECONDS = 5
# What happens meanwhile, in the ledger or in the journal, and what becomes of b.
HAPPENINGS = {
    "a renewal, booked as a new row": (
        "INSERT INTO vm_allocations (sid, status, expires_at, vm_ref) VALUES ('b2', 'Active', {far}, 'B')",
        "changed",
    ),
    "a row of somebody else that names this VM": (
        "UPDATE vm_allocations SET vm_ref = 'b' WHERE sid = 'paid'",
        "changed",
    ),
    "a renewal of the row itself": ("UPDATE vm_allocations SET expires_at = {far} WHERE sid = 'b'", "renewed"),
    "another VM in the row": ("UPDATE vm_allocations SET vm_ref = 'other' WHERE sid = 'b'", "changed"),
    "a hold": (
        "INSERT INTO holds (sid, held_at, reason, actor) VALUES ('b', '2026-01-01T00:00:00.000000Z', 'r', 'x')",
        "held",
    ),
}


def stopped_in_the_first_call(place: Place) -> Underway:
    """A tick whose first release is under way; besides its rows there is one that is paid for."""
    tick = Underway(place)
    tick.prepare()
    place.insert([{"sid": "paid", "status": "Active", "expires_at": FAR, "vm_ref": "vm-paid"}])
    tick.start_and_stop_in_the_first_call()
    return tick


@contextmanager
def write_lock(path: Path) -> Iterator[sqlite3.Connection]:
    """Another process's write lock on a database; what it executes is there when it lets go."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection
        connection.execute("COMMIT")


def waits_for_a_lock(pid: int) -> bool:
    """Whether the main thread sleeps, as SQLite does between two tries, and nothing else in a tick."""
    return "nanosleep" in Path(f"/proc/{pid}/wchan").read_text(encoding="utf-8")


def can_be_seen_waiting() -> bool:
    """Whether this machine says what a process waits for; where the kernel hides that, it says 0 of each."""
    with subprocess.Popen(["sleep", "5"]) as sleeping:
        ends = time.monotonic() + 1
        try:
            while not (is_seen := waits_for_a_lock(sleeping.pid)) and time.monotonic() < ends:
                time.sleep(0.01)
        except OSError:
            return False
        finally:
            sleeping.kill()
    return is_seen


@pytest.mark.skipif(not can_be_seen_waiting(), reason="NOT CHECKED: /proc does not say what a process waits for")
@pytest.mark.parametrize("kind", HAPPENINGS)
def test_what_happens_while_the_intents_cannot_be_written(place: Place, kind: str) -> None:
    """The rows were looked at; the journal belongs to somebody else for a while; then the intents are written."""
    statement, end = HAPPENINGS[kind]
    tick = stopped_in_the_first_call(place)
    with write_lock(place.journal) as journal:
        tick.go_on()
        wait_until(lambda: place.released() == {"a"} and waits_for_a_lock(tick.pid))
        (journal.execute if end == "held" else place.execute)(statement.format(far=FAR))
    report = tick_report(tick.finish(), 0)
    assert tick.calls() == [sid for sid in SIDS if sid != "b"]
    assert (report["rows_released"], report["skipped"][end]) == (3, 1)
    assert tick.begun() == set()
    assert place.released() == {"a", "c", "d"}


STOPS_BEFORE_THE_FIRST_CALL = """
import os, signal, threading
start = threading.Thread.start
def stopping(self):
    # The intents are durable, and the first call is about to be made.
    if self.name == "release-1":
        os.kill(os.getpid(), signal.SIGSTOP)
    start(self)
threading.Thread.start = stopping
"""


def is_stopped(pid: int) -> bool:
    """Whether the process stands still."""
    state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    return state == "T"


@pytest.mark.parametrize("renews", [True, False])
def test_a_process_that_was_stopped_between_intents_and_call_judges_again(place: Place, *, renews: bool) -> None:
    (place.folder / "sitecustomize.py").write_text(STOPS_BEFORE_THE_FIRST_CALL, encoding="utf-8")
    tick = Underway(place, before=["env", f"PYTHONPATH={place.folder}"])
    tick.prepare()
    tick.go_on()
    tick.start()
    wait_until(lambda: is_stopped(tick.pid))
    assert (tick.begun(), tick.calls()) == ({"a"}, [])
    if renews:
        place.execute(f"UPDATE vm_allocations SET expires_at = {FAR} WHERE sid = 'a'")
    assert limits.JUDGED_FOR.total_seconds() < STOPPED_SECONDS
    time.sleep(STOPPED_SECONDS)
    os.kill(tick.pid, signal.SIGCONT)
    report = tick_report(tick.finish(), 0)
    assert tick.calls() == [sid for sid in SIDS if not renews or sid != "a"]
    if renews:
        assert report["skipped"]["renewed"] == 1
    assert tick.begun() == set()
