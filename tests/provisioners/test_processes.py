"""A program that runs is never left alone: whatever is refused to us, it is watched to its end, or ended."""

import errno
import gc
import os
import pty
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from autorelease.errors import ProvisionerDown, ProvisionerError
from autorelease.provisioners.processes import Ended, run
from tests.e2e.reports import sweep, wait_until
from tests.support import refusing
from tests.support.place import (
    COMMAND,
    DAY,
    NOW,
    PERMISSIVE,
    Place,
    allocation,
    command_provisioner,
    fresh_environment,
    program,
)

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}
QUICKLY = timedelta(seconds=0.2)


def ran(folder: Path, body: str, *, timeout: float = 60, document: bytes = b"{}") -> Ended:
    """How a shell script of this body ended."""
    return run([str(program(folder, body))], ENVIRONMENT, document, timedelta(seconds=timeout), QUICKLY)


def is_gone(folder: Path) -> bool:
    """Whether the process that has written its number there has ended, zombies included."""
    number = (folder / "pid").read_text().strip()
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def descriptors() -> list[Path]:
    """The open files of this process, and one more that lists them."""
    return sorted(Path("/proc/self/fd").iterdir())


# --- nobody to ask ----------------------------------------------------------------------------------------------------

ASKS = 'echo begun; if read -r password < /dev/tty; then echo "got $password"; else echo "no terminal"; exit 9; fi'


def test_a_program_cannot_ask_at_the_terminal_of_whoever_started_the_tick(place: Place) -> None:
    """It would be stopped there, and reported as slow; what is typed for it would be shown."""
    place.configure(command_provisioner([program(place.folder, ASKS)]), PERMISSIVE, '[release]\ntimeout = "20s"\n')
    place.make_ledger([allocation("a", NOW - DAY)])
    started = time.monotonic()
    pid, terminal = pty.fork()
    if pid == 0:  # pragma: no cover - the other process, which becomes the command
        os.execve(  # noqa: S606 - without a shell, as it should be
            COMMAND,
            [str(COMMAND), "--config", str(place.config), "tick", "--once", "--json"],
            fresh_environment(place.folder),
        )
    shown = b""
    while time.monotonic() < started + 60:
        try:
            shown += os.read(terminal, 65536) if select.select([terminal], [], [], 1)[0] else b""
        except OSError:
            break
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 3
    assert time.monotonic() - started < 15
    [(message,)] = place.query("SELECT error FROM events WHERE error IS NOT NULL", database=place.journal)
    assert message.startswith("the command failed (exit 9): begun\n")
    assert message.endswith("no terminal")


# --- what a kernel or a container refuses -----------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
def test_a_program_that_cannot_be_ended_says_that_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that became root: the kernel lets us signal it no more."""

    def refuse(*_: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("os.killpg", refuse)
    monkeypatch.setattr("autorelease.provisioners.processes.DEAD_WITHIN_SECONDS", 0.1)
    with pytest.raises(ProvisionerError, match="still running") as raised:
        ran(tmp_path, f"echo $$ > {tmp_path}/pid; exec sleep 60", timeout=0.5)
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    assert (raised.value.still_running, raised.value.timed_out, raised.value.end_unknown) == (True, True, True)
    # It was left behind, which Python warns of once nothing holds it any more.
    del raised
    gc.collect()


@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOSYS])
def test_a_tick_whose_kernel_refuses_pidfd_open(place: Place, error: int) -> None:
    """As the filters of older containers do: every program is watched all the same."""
    body = "case $1 in gone) exit 3 ;; bad) echo no; exit 1 ;; slow) echo $$ > {0}/pid; exec sleep 60 ;; esac; cat"
    script = program(place.folder, body.format(place.folder))
    place.configure(
        command_provisioner([script, "{sid}"], "already = [3]"), PERMISSIVE, '[release]\ntimeout = "1s"\nattempts = 1\n'
    )
    place.make_ledger(allocation(sid, NOW - DAY) for sid in ("good", "good-2", "gone", "bad", "slow"))
    ended = subprocess.run(
        [sys.executable, "-P", refusing.__file__, str(error), COMMAND, "--config", place.config, "tick", "--once"],
        env=fresh_environment(place.folder),
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert (ended.returncode, "Traceback" in ended.stderr) == (3, False), ended.stderr
    assert place.released() == {"good", "good-2", "gone"}
    assert "failed sid=bad" in ended.stderr
    assert "took longer than 1 s" in ended.stderr
    assert is_gone(place.folder)


@pytest.fixture
def no_descriptor(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A real refusal of the real call: when it is made no file is left to be had."""
    real = os.pidfd_open
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    def open_none(pid: int) -> int:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
        try:
            return real(pid)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)

    monkeypatch.setattr(os, "pidfd_open", open_none)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("no_descriptor")
def test_without_a_descriptor_of_the_child_it_is_watched_all_the_same(tmp_path: Path) -> None:
    before = descriptors()
    assert ran(tmp_path, "wc -c; exit 3", document=b"x" * 500_000) == Ended(3, "500000", timed_out=False)
    assert ran(tmp_path, "echo last words; kill -KILL $$") == Ended(-9, "last words", timed_out=False)
    started = time.monotonic()
    assert ran(tmp_path, f"echo $$ > {tmp_path}/pid; echo on; exec sleep 60", timeout=0.3).timed_out
    assert is_gone(tmp_path)
    assert time.monotonic() - started < 10
    assert descriptors() == before


@pytest.mark.usefixtures("no_descriptor")
def test_without_a_descriptor_a_grandchild_that_holds_the_output_is_not_waited_for(tmp_path: Path) -> None:
    started = time.monotonic()
    try:
        assert ran(tmp_path, f"sleep 300 & echo $! > {tmp_path}/pid; exit 4").status == 4
        assert time.monotonic() - started < 30
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


BREAKS = ("waitid", "waitpid", "read", "write")


@pytest.mark.parametrize("call", BREAKS)
@pytest.mark.usefixtures("no_descriptor")
def test_whatever_fails_once_it_runs_the_program_is_ended(tmp_path: Path, call: str) -> None:
    """A child that nobody watches would destroy its VM some time later, whatever the row says by then."""
    before = descriptors()
    body = f"echo $$ > {tmp_path}/pid; echo begun; read -r line; exec sleep 60"
    if call == "waitpid":
        body = f"echo $$ > {tmp_path}/pid; exit 0"

    def refused(*_: object) -> None:
        breaking.undo()
        wait_until(lambda: (tmp_path / "pid").exists() and bool((tmp_path / "pid").read_text()))
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    script = str(program(tmp_path, body))
    breaking = pytest.MonkeyPatch()
    if call == "write":
        # What the pipe has room for is written before the program runs.
        breaking.setattr("autorelease.provisioners.pipes.os", Refusing(call, refused, times=1))
    elif call == "read":
        # Popen itself reads, before the program runs.
        breaking.setattr("autorelease.provisioners.processes.os", Refusing(call, refused))
    else:
        breaking.setattr(os, call, refused)
    with pytest.raises(ProvisionerError, match=r"could not be watched to its end: it is ended \(OSError") as raised:
        run([script], ENVIRONMENT, b"{}\n" + b" " * 100_000, timedelta(seconds=60), QUICKLY)
    assert raised.value.end_unknown
    assert not isinstance(raised.value, ProvisionerDown)
    assert is_gone(tmp_path)
    assert descriptors() == before


class Refusing:
    """The module `os`, one call of which does something else after it was made some times."""

    def __init__(self, call: str, instead: object, times: int = 0) -> None:
        self._call = call
        self._instead = instead
        self._times = times

    def __getattr__(self, name: str) -> object:
        if name == self._call:
            self._times -= 1
            if self._times < 0:
                return self._instead
        return getattr(os, name)


@pytest.mark.parametrize("call", ["pipe", "set_blocking", "write"])
def test_what_fails_before_the_program_runs_starts_none(
    tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = descriptors()

    def refused(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("autorelease.provisioners.pipes.os", Refusing(call, refused))
    with pytest.raises(ProvisionerError, match="cannot be started") as raised:
        ran(tmp_path, f"touch {tmp_path}/ran")
    assert (raised.value.not_called, raised.value.end_unknown) == (True, False)
    assert not (tmp_path / "ran").exists()
    assert descriptors() == before


def test_what_is_more_than_a_pipe_holds_is_listened_to(tmp_path: Path) -> None:
    """It is written before anybody listens, and again while it is waited for."""
    ended = ran(tmp_path, "head -c 300000 /dev/zero | tr '\\0' x; echo end; exit 3")
    assert (ended.status, len(ended.output), ended.output[-4:]) == (3, 4095, "xend")


def test_a_process_that_cannot_learn_how_its_children_end_starts_none(place: Place) -> None:
    """Python takes every one of them for ended with 0; that is what a release answers."""
    place.configure(
        command_provisioner([program(place.folder, f"touch {place.folder}/ran; exit 1")]),
        PERMISSIVE,
    )
    place.make_ledger([allocation("a", NOW - DAY)])
    begin = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    ended = subprocess.run(
        # By Python itself: in a path with a space a shell stands between, which heeds SIGCHLD again.
        [sys.executable, "-c", begin, sys.executable, COMMAND, "--config", place.config, "tick", "--once"],
        env=fresh_environment(place.folder),
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert (ended.returncode, place.released()) == (8, set()), ended.stderr
    assert "down: default: SIGCHLD is ignored" in ended.stdout
    assert not (place.folder / "ran").exists()
    assert sweep(place, code=3)["rows_failed"] == 1


def test_a_child_whose_end_somebody_else_was_given_is_no_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a library of a plugin waits for every child that there is."""
    real = os.pidfd_open

    def taken(pid: int) -> int:
        descriptor = real(pid)
        os.waitpid(pid, 0)
        return descriptor

    monkeypatch.setattr(os, "pidfd_open", taken)
    with pytest.raises(ProvisionerError, match="ChildProcessError") as raised:
        ran(tmp_path, "exit 1")
    assert raised.value.end_unknown


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN])
def test_what_this_machine_lacks_is_charged_to_no_row(
    tmp_path: Path, error: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(*_: object, **__: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(subprocess.Popen, "_execute_child", lacking)
    with pytest.raises(ProvisionerDown, match=os.strerror(error)):
        ran(tmp_path, "exit 0")


# The number of the highest descriptor there may be: one that nobody has reached by then.
HIGHEST = 255


def test_where_no_file_can_be_opened_no_program_is_started(tmp_path: Path) -> None:
    # What is given back in the midst of it would be a place to open another.
    gc.collect()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (HIGHEST + 1, before[1]))
    taken = list[int]()
    try:
        # The limit is of numbers, which have gaps.
        with suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(2):
            os.close(taken.pop())
        with pytest.raises(ProvisionerDown, match="no program can be started on this machine now"):
            ran(tmp_path, "exit 0")
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
