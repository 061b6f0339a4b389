"""Programs that work on the same files at the same time: ticks among each other, and who looks while others write."""

import fcntl
import os
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.e2e.reports import error_report, history, tick_report, wait_until
from tests.faults.underway import SIDS, Underway
from tests.support.place import Place, Ran

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
