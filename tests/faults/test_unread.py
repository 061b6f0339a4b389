"""Whoever reads the log stops reading, or is gone: the work goes on, is complete, and says what nobody has taken."""

import fcntl
import json
import os
import pty
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.reports import history, wait_until
from tests.support.place import (
    COMMAND,
    DAY,
    LEDGER_PROVISIONER,
    NOW,
    PERMISSIVE,
    TABLE,
    Place,
    allocation,
    command_provisioner,
    fresh_environment,
    program,
)

MANY = 3000
GUARD = "[guard]\nmax_percent = 100\nmax_releases = 100000\n"
IN_TIME = 60
LONG = "x" * 3000
# As an operator's own rule: some rows take no stamp.
REFUSING = (
    f"{TABLE}; CREATE TRIGGER refuses BEFORE UPDATE ON vm_allocations WHEN old.sid LIKE 'bad-%' "
    "BEGIN SELECT raise(ABORT, 'not this one'); END"
)


class Unread:
    """The reading end of a pipe; nobody reads it until somebody asks for its text."""

    def __init__(self) -> None:
        self._ours, self.theirs = os.pipe()
        fcntl.fcntl(self.theirs, fcntl.F_SETPIPE_SZ, 4096)

    def close_theirs(self) -> None:
        """The process has its own copy."""
        os.close(self.theirs)

    def text(self) -> str:
        """Read it to its end, which is that of the process."""
        with os.fdopen(self._ours, "rb") as stream:
            return stream.read().decode()

    def leave(self) -> None:
        """Nobody will ever read it."""
        os.close(self._ours)


def start(place: Place, *arguments: str, out: int = subprocess.DEVNULL, err: int) -> "subprocess.Popen[str]":
    """Start the command with these files as its output."""
    return place.start(*arguments, stdout=out, stderr=err)


@contextmanager
def unread() -> Iterator[Unread]:
    """A pipe for one process."""
    made = Unread()
    try:
        yield made
    finally:
        made.leave()


def is_lock_free(place: Place) -> bool:
    """Whether a tick could begin now."""
    with Path(f"{place.journal}.lock").open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def wait_until_closed(place: Place, ticks: int = 1) -> None:
    """So many ticks have written their report down."""
    closed = "SELECT count(*) FROM ticks WHERE finished_at IS NOT NULL"
    wait_until(lambda: place.query(closed, database=place.journal) == [(ticks,)])


def outcomes(place: Place) -> dict[str, int]:
    """How many outcomes of each kind the journal has."""
    rows = place.query(
        "SELECT outcome, count(*) FROM events WHERE event = 'outcome' GROUP BY 1", database=place.journal
    )
    return dict(rows)


def test_a_log_that_nobody_reads_stops_nothing(place: Place) -> None:
    place.configure(LEDGER_PROVISIONER, GUARD)
    place.make_ledger(allocation(f"vm-{number}", NOW - DAY) for number in range(MANY))
    with unread() as pipe:
        process = start(place, "tick", "--once", out=subprocess.PIPE, err=pipe.theirs)
        pipe.close_theirs()
        out, _ = process.communicate(timeout=IN_TIME)
    assert process.returncode == 0
    assert is_lock_free(place)
    assert len(place.released()) == MANY
    assert outcomes(place) == {"released": MANY}
    [lost] = re.findall(r"^log lines that nobody took: (\d+)\.", out, re.MULTILINE)
    # What fits into a pipe of one page has been taken.
    assert MANY - 100 < int(lost) <= MANY


def test_errors_are_left_out_last_and_the_rest_is_counted(place: Place) -> None:
    place.configure(LEDGER_PROVISIONER, GUARD)
    place.make_ledger(table=TABLE)
    for statement in REFUSING.split("; ", 1)[1:]:
        place.execute(statement)
    place.insert(allocation(f"vm-{number}", NOW - 2 * DAY + number, vm_ref=f"{LONG}{number}") for number in range(2000))
    place.insert(allocation(f"bad-{number:02d}", NOW - DAY + number) for number in range(50))
    pipe = Unread()
    process = start(place, "tick", "--once", "--json", out=subprocess.PIPE, err=pipe.theirs)
    pipe.close_theirs()
    wait_until_closed(place)
    lines = pipe.text().splitlines()
    report = json.loads(process.communicate(timeout=IN_TIME)[0])
    assert process.returncode == 3
    assert (report["rows_released"], report["rows_failed"]) == (2000, 50)
    failed = [line for line in lines if " ERROR failed " in line]
    assert [re.findall(r"sid=(\S+)", line)[0] for line in failed] == [f"bad-{number:02d}" for number in range(50)]
    lost = [int(number) for line in lines for number in re.findall(r"WARNING (\d+) log lines were not taken", line)]
    assert sum(" INFO released " in line for line in lines) + sum(lost) == 2000
    assert sum(lost) > 300


def test_a_signal_is_heard_while_nobody_reads(place: Place) -> None:
    place.configure(
        command_provisioner([program(place.folder, "sleep 0.1"), "{sid}"]), GUARD, "[release]\nconcurrency = 4\n"
    )
    place.make_ledger(allocation(f"vm-{number:04d}", NOW - DAY, vm_ref=LONG) for number in range(1000))
    with unread() as pipe:
        process = start(place, "tick", "--once", err=pipe.theirs)
        pipe.close_theirs()
        # Ten lines are more than the pipe takes.
        wait_until(lambda: len(place.released()) >= 10)
        process.send_signal(signal.SIGTERM)
        assert process.wait(IN_TIME) == 143
    assert is_lock_free(place)
    [tick] = history(place)["ticks"]
    assert (tick["status"], tick["stopped_by"], tick["rows_expired"]) == ("stopped", "SIGTERM", 1000)
    assert tick["rows_released"] == len(place.released())


def test_a_report_that_nobody_reads_keeps_no_lock(place: Place) -> None:
    place.make_ledger([allocation("vm-1", NOW - DAY)])
    for ticks, arguments in ((1, ()), (3, ("--json",))):
        pipe = Unread()
        os.set_blocking(pipe.theirs, False)
        os.write(pipe.theirs, b" " * 4096)
        os.set_blocking(pipe.theirs, True)
        process = start(place, "tick", "--once", *arguments, out=pipe.theirs, err=subprocess.DEVNULL)
        pipe.close_theirs()
        wait_until_closed(place, ticks)
        # A second one begins, and none says that another is running.
        assert place.run("tick", "--once").code == 0
        assert process.poll() is None
        assert pipe.text().strip()
        assert process.wait(IN_TIME) == 0


def test_a_command_that_says_what_is_wrong_ends_though_nobody_reads_it(place: Place) -> None:
    place.config.write_text("nonsense", encoding="utf-8")
    with unread() as pipe:
        os.write(pipe.theirs, b" " * 4096)
        process = start(place, "health", err=pipe.theirs)
        pipe.close_theirs()
        assert process.wait(IN_TIME) == 4


def test_a_full_disk_or_a_reader_that_is_gone_changes_no_exit_code(place: Place) -> None:
    place.make_ledger([allocation("vm-1", NOW - DAY), allocation("vm-2", "soon")])
    gone, theirs = os.pipe()
    os.close(gone)
    full = os.open("/dev/full", os.O_WRONLY)
    for sid, descriptor in (("vm-3", full), ("vm-4", theirs)):
        place.insert([allocation(sid, NOW - DAY)])
        process = start(place, "tick", "--once", out=subprocess.PIPE, err=descriptor)
        out, _ = process.communicate(timeout=IN_TIME)
        os.close(descriptor)
        # What the report says of the row that nobody can read.
        assert process.returncode == 3
        assert "log lines that nobody took: " in out
    assert place.released() == {"vm-1", "vm-3", "vm-4"}


def test_a_closed_stderr_changes_nothing(place: Place) -> None:
    place.make_ledger([allocation("vm-1", NOW - DAY)])
    ran = subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" "$@" 2>&-', COMMAND, "--config", place.config, "tick", "--once"],
        env=fresh_environment(place.folder),
        capture_output=True,
        check=False,
        timeout=IN_TIME,
    )
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert place.released() == {"vm-1"}


def test_a_slow_reader_gets_all_of_it(place: Place) -> None:
    place.make_ledger(allocation(f"vm-{number:02d}", NOW - DAY + number, vm_ref=LONG) for number in range(20))
    pipe = Unread()
    process = start(place, "tick", "--once", err=pipe.theirs)
    pipe.close_theirs()
    wait_until_closed(place)
    lines = [line for line in pipe.text().splitlines() if " released " in line]
    assert process.wait(IN_TIME) == 0
    assert len(lines) == 20
    assert sorted(lines, key=lambda line: line.split("sid=")[1]) == lines


def test_a_paused_terminal_stops_no_tick(place: Place) -> None:
    place.configure(LEDGER_PROVISIONER, GUARD)
    place.make_ledger(allocation(f"vm-{number}", NOW - DAY, vm_ref=LONG[:300]) for number in range(200))
    ours, theirs = pty.openpty()
    process = start(place, "--log-level", "info", "tick", "--once", err=theirs)
    os.close(theirs)
    assert process.wait(IN_TIME) == 0
    os.close(ours)
    assert len(place.released()) == 200
    assert is_lock_free(place)


def test_the_bar_and_the_lines_of_the_log_share_a_terminal(place: Place) -> None:
    place.configure(
        command_provisioner([program(place.folder, "sleep 0.2")]), PERMISSIVE, "[release]\nconcurrency = 2\n"
    )
    place.make_ledger(allocation(f"vm-{number}", NOW - DAY) for number in range(6))
    ours, theirs = pty.openpty()
    seen = bytearray()

    def read() -> None:
        try:
            while data := os.read(ours, 65536):
                seen.extend(data)
        except OSError:
            return

    reader = threading.Thread(target=read)
    process = start(place, "--log-level", "info", "tick", "--once", err=theirs)
    os.close(theirs)
    reader.start()
    assert process.wait(IN_TIME) == 0
    reader.join()
    os.close(ours)
    shown = seen.decode()
    assert "releasing" in shown
    assert [shown.count(f"sid=vm-{number}") for number in range(6)] == [1] * 6
