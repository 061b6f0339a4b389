"""Standard error waits for no reader: nobody is kept, the order stays, and what was not taken is counted."""

import errno
import fcntl
import os
import subprocess
import sys
import threading
import time
from logging import ERROR, INFO

import pytest

from autorelease import stderr
from autorelease.stderr import Queued, at_level

SOON = 10.0
ORDERED = [b"a\n", b"b\n", b"c\n"]


class Pipe:
    """A pipe that nobody reads until somebody does. Of one page, as far as the kernel lets us."""

    def __init__(self) -> None:
        self._ours, self.theirs = os.pipe()
        fcntl.fcntl(self.theirs, fcntl.F_SETPIPE_SZ, 4096)
        self._seen = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)

    def fill(self) -> None:
        """Until nothing fits any more."""
        os.set_blocking(self.theirs, False)
        try:
            while True:
                os.write(self.theirs, b"." * 512)
        except BlockingIOError:
            os.set_blocking(self.theirs, True)

    def read(self) -> None:
        """From now on all of it is read."""
        self._reader.start()

    def _read(self) -> None:
        while data := os.read(self._ours, 65536):
            self._seen += data

    def finish(self) -> list[bytes]:
        """The lines that were written after what it was filled with."""
        os.close(self.theirs)
        self._reader.join()
        os.close(self._ours)
        return bytes(self._seen).lstrip(b".").splitlines(keepends=True)


@pytest.fixture
def pipe() -> Pipe:
    """A full one."""
    made = Pipe()
    made.fill()
    return made


def log(queued: Queued, line: bytes, level: int = INFO) -> None:
    """Write one line of the log."""
    with at_level(level):
        queued.write(line)


def soon() -> float:
    """A monotonic instant that is never reached where all is well."""
    return time.monotonic() + SOON


def fail_at_first(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """As on a disk that is full for a while."""
    write, failures = os.write, iter(range(times))

    def full_for_a_while(descriptor: int, data: bytes) -> int:
        if next(failures, None) is not None:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", full_for_a_while)


def test_nobody_waits_for_a_reader_and_nothing_is_lost_that_had_room(pipe: Pipe) -> None:
    queued = Queued(pipe.theirs)

    def write() -> None:
        for number in range(3000):
            log(queued, b"%d\n" % number)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    writer.join(SOON)
    assert not writer.is_alive()
    assert queued.not_taken() == 3000
    pipe.read()
    queued.drain(soon())
    assert queued.not_taken() == 0
    assert pipe.finish() == [b"%d\n" % number for number in range(3000)]


def test_what_was_left_out_is_counted_once_somebody_reads(pipe: Pipe) -> None:
    queued = Queued(pipe.theirs, most_bytes=100)
    for number in range(50):
        log(queued, b"%02d info\n" % number)
    for number in range(8):
        log(queued, b"%d error\n" % number, ERROR)
    pipe.read()
    queued.drain(soon())
    lost = queued.not_taken()
    lines = pipe.finish()
    assert b"%d log lines were not taken\n" % lost in lines
    assert len(lines) == 58 - lost + 1
    assert [line for line in lines if b"error" in line] == [b"%d error\n" % number for number in range(8)]


def test_the_number_is_said_though_nothing_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.pipe()
    fail_at_first(monkeypatch, 1)
    queued = Queued(theirs)
    log(queued, b"only\n")
    queued.drain(soon())
    queued.drain(soon())
    os.close(theirs)
    assert os.read(ours, 65536) == b"1 log lines were not taken\n"
    os.close(ours)


def test_an_end_waits_no_longer_than_it_may(pipe: Pipe) -> None:
    queued = Queued(pipe.theirs)
    log(queued, b"nobody reads this\n")
    queued.drain(time.monotonic() + 0.05)
    assert queued.not_taken() == 1
    pipe.read()
    queued.drain(soon())
    assert pipe.finish() == [b"nobody reads this\n"]


def test_who_shares_it_may_have_made_it_nonblocking(pipe: Pipe) -> None:
    os.set_blocking(pipe.theirs, False)
    queued = Queued(pipe.theirs)
    for line in ORDERED:
        log(queued, line)
    pipe.read()
    queued.drain(soon())
    assert queued.not_taken() == 0
    assert not os.get_blocking(pipe.theirs)
    assert pipe.finish() == ORDERED


def test_it_is_left_blocking(pipe: Pipe) -> None:
    queued = Queued(pipe.theirs)
    log(queued, b"x\n")
    assert os.get_blocking(pipe.theirs)
    pipe.read()
    queued.drain(soon())
    pipe.finish()


def test_a_full_disk_loses_lines_and_no_more() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    queued = Queued(full)
    for line in ORDERED:
        log(queued, line)
    queued.drain(soon())
    os.close(full)
    assert queued.not_taken() == 3


def test_a_reader_that_is_gone_loses_lines_and_no_more() -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    queued = Queued(theirs)
    for line in ORDERED:
        log(queued, line)
    queued.drain(soon())
    os.close(theirs)
    assert queued.not_taken() == 3


def test_a_line_that_was_cut_off_is_not_continued_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.pipe()
    write, failures = os.write, iter([False, True])

    def full_after_a_while(descriptor: int, data: memoryview) -> int:
        if next(failures, False):
            raise OSError(28, "No space left on device")
        return write(descriptor, data)

    queued = Queued(theirs)
    monkeypatch.setattr(os, "write", full_after_a_while)
    log(queued, b"x" * stderr.AT_ONCE + b"never written\n")
    queued.drain(soon())
    log(queued, b"next\n")
    queued.drain(soon())
    os.close(theirs)
    assert os.read(ours, 65536) == b"x" * stderr.AT_ONCE + b"\n1 log lines were not taken\nnext\n"
    os.close(ours)


def test_without_a_thread_it_is_written_at_the_end(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_to_give(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    start = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", none_to_give)
    queued = Queued(pipe.theirs)
    log(queued, b"one\n")
    queued.drain(time.monotonic() + 0.05)
    assert queued.not_taken() == 1
    monkeypatch.setattr(threading.Thread, "start", start)
    pipe.read()
    monkeypatch.setattr(threading.Thread, "start", none_to_give)
    log(queued, b"two\n")
    queued.drain(soon())
    assert queued.not_taken() == 1
    monkeypatch.undo()
    assert pipe.finish() == [b"1 log lines were not taken\n", b"two\n"]


def test_a_copy_of_the_process_writes_for_itself() -> None:
    ours, theirs = os.pipe()
    queued = Queued(theirs)
    queued.be_direct()
    queued.write(b"at once\n")
    os.close(theirs)
    assert os.read(ours, 100) == b"at once\n"
    os.close(ours)


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ("raise ZeroDivisionError", "ZeroDivisionError"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("print('x' * 200000, file=sys.stderr)", "x" * 200000),
        ("sys.stderr.buffer.write(b'bytes')", "bytes"),
        ("os.fork() or print('from a copy', file=sys.stderr); os.wait() if os.getpid() == me else None", "from a copy"),
    ],
)
def test_what_a_process_says_at_its_end_is_shown(body: str, shown: str) -> None:
    script = f"import os, sys; from autorelease import stderr; stderr.take_over(); me = os.getpid(); {body}"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert shown in ran.stderr
