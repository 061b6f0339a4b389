"""The lock: one at a time, freed however its holder ends, and not inherited."""

import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from autorelease.errors import UnusableError
from autorelease.sweep.edge.lock import locked

HOLDER = """
import sys
from pathlib import Path
from autorelease.sweep.edge.lock import locked
with locked(Path(sys.argv[1])) as lock:
    print(lock is not None, flush=True)
    sys.stdin.read()
"""


def start_holder(path: Path) -> "subprocess.Popen[str]":
    """Another process that takes the lock and keeps it until its input ends."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    return holder


def test_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path) as first, locked(path) as second:
        assert first is not None
        assert second is None
    with locked(path) as again:
        assert again


def test_it_is_freed_by_an_exception(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with pytest.raises(KeyError), locked(path):
        raise KeyError
    with locked(path) as lock:
        assert lock


def test_another_process_holds_it_until_it_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with start_holder(path) as holder:
        with locked(path) as lock:
            assert lock is None
        holder.send_signal(signal.SIGKILL)
        holder.wait(30)
        with locked(path) as lock:
            assert lock


def test_a_child_does_not_keep_it(tmp_path: Path) -> None:
    """A release program that outlives its tick must not lock the next one out."""
    path = tmp_path / "lock"
    with locked(path) as lock:
        assert lock
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False)
    try:
        with locked(path) as again:
            assert again
    finally:
        child.communicate()


def test_the_file_is_made_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    before = os.umask(0)
    try:
        with locked(path):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_file_that_can_only_be_read_can_be_locked(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()
    path.chmod(0o440)
    with locked(path) as lock:
        assert lock


def test_a_lock_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(UnusableError, match="no-such-folder"), locked(tmp_path / "no-such-folder" / "lock"):
        pytest.fail("there is nothing to hold")


# --- a file that goes away --------------------------------------------------------------------------------------------


def test_a_lock_knows_whether_it_is_in_place(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path) as lock:
        assert lock is not None
        assert lock.is_in_place()
        path.rename(tmp_path / "elsewhere")
        assert not lock.is_in_place()
        path.touch()
        assert not lock.is_in_place()


REPLACES = """
import fcntl, sys
from pathlib import Path
from autorelease.sweep.edge.lock import locked
path, times = Path(sys.argv[1]), int(sys.argv[2])
flock = fcntl.flock
def late(descriptor, how):
    global times
    if times > 0:
        times -= 1
        path.unlink()
    flock(descriptor, how)
fcntl.flock = late
with locked(path) as lock:
    print(lock is not None and lock.is_in_place())
"""


@pytest.mark.parametrize(("times", "expected"), [(1, "True"), (9, "True"), (10_000, "removed again and again")])
def test_a_file_that_is_removed_before_it_is_locked_is_not_the_lock(tmp_path: Path, times: int, expected: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", REPLACES, tmp_path / "lock", str(times)], capture_output=True, text=True, check=False
    )
    assert expected in ended.stdout + ended.stderr


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EBADF, errno.EOPNOTSUPP, errno.EIO])
def test_a_file_system_that_does_not_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """As a network's, whose lock service does not run."""

    def refuse(descriptor: int, how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counted alone
    with pytest.raises(UnusableError) as caught, locked(tmp_path / "lock"):
        pytest.fail("there is nothing to hold")
    assert str(caught.value).startswith(f"{tmp_path / 'lock'}: the lock cannot be taken: {os.strerror(number)}: ")
    assert "local disk: [journal] url" in str(caught.value)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
