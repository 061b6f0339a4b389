"""The lock's file is removed: by hand, by a clean-up, with its folder restored. Real ticks, in mid-call."""

import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.reports import error_report, history, tick_report, wait_until
from tests.faults.underway import SIDS, Underway
from tests.support.place import Place

ELSEWHERE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


def lock_of(place: Place) -> Path:
    return place.journal.with_name("journal.db.lock")


@pytest.fixture
def tick(place: Place) -> Iterator[Underway]:
    """A tick that stands still in its first call, and whose lock was removed."""
    made = Underway(place)
    made.prepare()
    made.start_and_stop_in_the_first_call()
    lock_of(place).unlink()
    yield made
    made.go_on()


def in_journal(place: Place, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(place.journal)) as journal, journal:
        journal.execute(statement, values)


def test_a_lock_that_is_removed_lets_no_second_tick_in(place: Place, tick: Underway) -> None:
    # The first makes a lock of its own, the second finds it.
    for _ in range(2):
        message = error_report(place.run("tick", "--once", "--json"), 6)["message"]
        assert "another tick is running, although its lock was removed: tick " in message
        assert f"pid {tick.pid} on " in message
    assert tick.calls() == [SIDS[0]]
    tick.go_on()
    tick.check_recovered()
    assert tick_report(place.run("tick", "--once", "--json"), 0)["rows_expired"] == 0
    tick.check_books(SIDS)
    assert [recorded["exit_code"] for recorded in history(place)["ticks"]] == [0, 0]


def test_a_lock_that_is_replaced_lets_no_second_tick_in(place: Place, tick: Underway) -> None:
    """As a backup is put back over the folder."""
    lock_of(place).touch()
    error_report(place.run("tick", "--once", "--json"), 6)
    assert tick.calls() == [SIDS[0]]
    tick.go_on()
    tick.check_recovered()


def test_one_that_was_killed_keeps_nobody_out(place: Place, tick: Underway) -> None:
    os.kill(tick.pid, signal.SIGKILL)
    # A zombie until then.
    tick.wait_for_end()
    tick.go_on()
    report = tick_report(place.run("tick", "--once", "--json"), 0)
    assert (report["rows_released"], report["rows_already_released"]) == (len(SIDS) - 1, 1)
    assert tick.finish().code == -signal.SIGKILL


def test_who_got_its_pid_keeps_nobody_out(place: Place, tick: Underway) -> None:
    """The pid in the journal lives, and is another process's."""
    os.kill(tick.pid, signal.SIGKILL)
    tick.finish()
    tick.go_on()
    in_journal(place, "UPDATE ticks SET pid = ?", os.getpid())
    tick_report(place.run("tick", "--once", "--json"), 0)
    assert place.released() == set(SIDS)


def test_one_that_hangs_is_not_run_over(place: Place, tick: Underway) -> None:
    in_journal(place, "UPDATE ticks SET ends_by = '2026-01-01T00:00:00.000000Z'")
    message = error_report(place.run("tick", "--once", "--json"), 5)["message"]
    assert "runs, although its lock was removed, and is past its deadline: tick " in message
    assert f"pid {tick.pid} on " in message
    assert tick.calls() == [SIDS[0]]
    tick.go_on()
    tick.check_recovered()


@pytest.mark.parametrize(("ends_by", "code"), [("9999-01-01", 6), ("2026-01-01", 0)])
def test_a_pid_of_which_nothing_else_is_known_keeps_others_out_for_a_time(
    place: Place, ends_by: str, code: int
) -> None:
    """As an earlier version wrote it down; or where /proc was hidden."""
    tick = Underway(place)
    tick.prepare()
    tick.go_on()
    tick_report(tick.run(), 0)
    in_journal(
        place,
        "UPDATE ticks SET finished_at = NULL, status = NULL, exit_code = NULL, report = NULL, pid = ?, ends_by = ?, "
        "pid_started = NULL, pid_namespace = NULL",
        os.getpid(),
        f"{ends_by}T00:00:00.000000Z",
    )
    assert place.run("tick", "--once").code == code


def test_one_of_another_boot_keeps_nobody_out(place: Place, tick: Underway) -> None:
    in_journal(place, "UPDATE ticks SET boot_id = 'another'")
    tick.go_on()
    tick.finish()
    in_journal(place, "UPDATE ticks SET finished_at = NULL, pid = ?, pid_started = NULL", os.getpid())
    assert place.run("tick", "--once").code == 0


def test_of_two_ticks_that_began_beside_each_other_one_goes_on(place: Place) -> None:
    """The file is removed after the first has its lock, and before the journal knows of it: both believe to be alone.

    The first is held up by a lock on the journal, which lets it read there and not write.
    """
    first, second = Underway(place), Underway(place)
    first.prepare()
    with closing(sqlite3.connect(place.journal, isolation_level=None)) as journal:
        journal.execute("BEGIN IMMEDIATE")
        first.start()
        wait_until(lambda: is_locked(lock_of(place)))
        lock_of(place).unlink()
        second.start()
        wait_until(lambda: is_locked(lock_of(place)))
        journal.execute("ROLLBACK")
    first.go_on()
    codes = sorted(each.finish().code for each in (first, second))
    # Whoever came second finds the other in the journal, or the other finds that its lock is gone; or both.
    assert codes[1] == 6
    assert sorted(first.calls()) in ([], list(SIDS))
    assert first.calls() == (list(SIDS) if codes[0] == 0 else [])


def is_locked(path: Path) -> bool:
    """Whether somebody holds a lock on this file. Asks the kernel (proc(5)): whoever tried it would be in the way."""
    try:
        inode = path.stat().st_ino
    except FileNotFoundError:
        return False
    lines = Path("/proc/locks").read_text("utf-8").splitlines()
    return any(line.split()[1] == "FLOCK" and line.split()[5].endswith(f":{inode}") for line in lines)


# --- containers -------------------------------------------------------------------------------------------------------


def begun_within(place: Place, *before: str) -> Underway:
    """A tick in mid-call that another container has, in a pid namespace of its own. before: words to start it with."""
    if shutil.which("unshare") is None or subprocess.run([*ELSEWHERE, "true"], check=False).returncode:
        pytest.skip(f"NOT CHECKED: {' '.join(ELSEWHERE)} is not allowed here")
    tick = Underway(place, before=[*ELSEWHERE, *before])
    tick.prepare()
    tick.start_and_stop_in_the_first_call()
    return tick


def pids(place: Place) -> list[tuple[int, str]]:
    """The pid of each tick, in its own namespace."""
    return place.query("SELECT pid, pid_namespace FROM ticks ORDER BY seq", database=place.journal)


@pytest.mark.parametrize("is_removed", [False, True])
def test_of_a_container_that_was_killed_the_next_one_takes_over(place: Place, *, is_removed: bool) -> None:
    """Each tick is the first process of its container: all of them have the same pid, 1."""
    killed = begun_within(place)
    if is_removed:
        lock_of(place).unlink()
    os.kill(first_process(killed), signal.SIGKILL)
    assert killed.finish().code != 0
    killed.go_on()
    wait_until(lambda: not is_locked(lock_of(place)))
    report = tick_report(killed.run(), 0)
    assert (report["rows_released"], report["rows_already_released"]) == (len(SIDS) - 1, 1)
    assert killed.calls() == [SIDS[0], *SIDS]
    assert [tick["status"] for tick in history(place)["ticks"]] == ["success", "crashed"]
    # The number of a namespace is given to another one later, and at once: it may be the same, too.
    assert [pid for pid, _ in pids(place)] == [1, 1]


def test_the_first_process_of_a_container_can_be_stopped(place: Place) -> None:
    """To such a process a signal does nothing that it does not wait for."""
    tick = begun_within(place)
    os.kill(pid := first_process(tick), signal.SIGTERM)
    wait_until(lambda: not is_pending(signal.SIGTERM, pid))
    tick.go_on()
    report = tick_report(tick.finish(), 143)
    assert (report["rows_released"], report["skipped"]["deferred"]) == (1, len(SIDS) - 1)
    assert pids(place)[0][0] == 1


@pytest.fixture
def contained(place: Place) -> Underway:
    """A tick that is not the first process of its container: `sh` is."""
    return begun_within(place, "sh", "-c", '"$@"; exit $?', "sh")


def test_within_a_container_a_removed_lock_lets_no_second_tick_in(place: Place, contained: Underway) -> None:
    lock_of(place).unlink()
    [(pid, namespace)] = pids(place)
    assert 1 < pid < 10
    inside = _first_child_in(namespace)
    within = ["nsenter", "--target", str(inside), "--pid", "--mount", "--"]
    second = Underway(place, before=within)
    message = error_report(second.run(), 6)["message"]
    assert f"pid {pid} on " in message
    contained.go_on()
    contained.check_recovered()


def first_process(tick: Underway) -> int:
    """The pid here of what is pid 1 there: the one child of what has made the namespace."""
    [pid] = Path(f"/proc/{tick.pid}/task/{tick.pid}/children").read_text("utf-8").split()
    return int(pid)


def is_pending(number: signal.Signals, pid: int) -> bool:
    """Whether a process has not yet taken notice of a signal that was sent to it (proc(5), ShdPnd)."""
    lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
    [pending] = [int(line.split()[1], 16) for line in lines if line.startswith("ShdPnd:")]
    return bool(pending >> (number - 1) & 1)


def _first_child_in(namespace: str) -> int:
    """A process of that namespace, by its pid here."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if str((folder / "ns/pid").readlink()) == namespace:
                return int(folder.name)
        except OSError:
            continue
    raise AssertionError(namespace)
