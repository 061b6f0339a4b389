"""The lock: one at a time, freed however its holder ends, and not inherited."""

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
with locked(Path(sys.argv[1])) as is_ours:
    print(is_ours, flush=True)
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
        assert (first, second) == (True, False)
    with locked(path) as again:
        assert again


def test_it_is_freed_by_an_exception(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with pytest.raises(KeyError), locked(path):
        raise KeyError
    with locked(path) as is_ours:
        assert is_ours


def test_another_process_holds_it_until_it_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with start_holder(path) as holder:
        with locked(path) as is_ours:
            assert not is_ours
        holder.send_signal(signal.SIGKILL)
        holder.wait(30)
        with locked(path) as is_ours:
            assert is_ours


def test_a_child_does_not_keep_it(tmp_path: Path) -> None:
    """A release program that outlives its tick must not lock the next one out."""
    path = tmp_path / "lock"
    with locked(path) as is_ours:
        assert is_ours
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
    with locked(path) as is_ours:
        assert is_ours


def test_a_lock_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(UnusableError, match="no-such-folder"), locked(tmp_path / "no-such-folder" / "lock"):
        pytest.fail("there is nothing to hold")
