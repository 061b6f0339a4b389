"""Standard error: what is written to it waits in a bounded queue, and a thread of its own writes it.

Whoever reads it may stop reading: a full pipe, a paused terminal, a log service that hangs. A write would stand still
for as long, and with it a tick and its lock. So nobody here waits for a reader, but for a little at the end. The
descriptor stays as it was: other processes share it, and O_NONBLOCK would be theirs, too.
"""

import atexit
import io
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from logging import CRITICAL, INFO
from typing import TextIO

from autorelease.backlog import MOST_BYTES, Backlog, Chunk, lines_beyond

END_SECONDS = 5.0
# PIPE_BUF of Linux: where a pipe is ready for writing, so much fits (pipe(7)).
AT_ONCE = 4096
TAKEN_AT_ONCE = 2**16
LINGER_SECONDS = 0.01

_level = threading.local()


class Queued(io.RawIOBase):
    """A file that takes everything at once. describe: the line that says how many lines were not taken."""

    def __init__(self, descriptor: int, most_bytes: int = MOST_BYTES) -> None:
        super().__init__()
        self.describe: Callable[[int], str] = "{} log lines were not taken\n".format
        self._descriptor = descriptor
        self._backlog = Backlog(most_bytes)
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._in_hand: Sequence[Chunk] = ()
        self._written_of_it = 0
        self._is_hurried = False
        self._is_mid_line = False
        self._described = 0
        self._is_direct = False

    def fileno(self) -> int:
        """The descriptor that is written to."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: "bytes | bytearray | memoryview[int]", /) -> int:  # type: ignore[override]
        """Take all of it; what waits too long is left out by its level."""
        if self._is_direct:
            return os.write(self._descriptor, data)
        chunk = bytes(data)
        level = getattr(_level, "number", None)
        # A line of the log is one, with its traceback; of anything else each line is.
        lines = chunk.count(b"\n") if level is None else 1
        with self._changed:
            is_first = not len(self._backlog)
            self._backlog.put(chunk, INFO if level is None else level, lines)
            if is_first:
                self._start()
                self._changed.notify_all()
        return len(chunk)

    def not_taken(self) -> int:
        """How many lines were not written so far, or wait."""
        if self._is_direct:
            return 0
        with self._changed:
            return self._backlog.lost + self._backlog.lines() + lines_beyond(self._in_hand, self._written_of_it)

    def drain(self, until: float) -> None:
        """Wait until all is written, and how many lines were lost; no longer than until this monotonic instant."""
        if self._is_direct:
            return
        with self._changed:
            if self._backlog.lost > self._described:
                # Before anything the number is written, be it before nothing.
                self._backlog.put(b"", CRITICAL, 0)
            self._start()
            if self._thread is not None:
                self._is_hurried = True
                self._changed.notify_all()
                self._changed.wait_for(self._is_idle, max(0.0, until - time.monotonic()))
                self._is_hurried = False
                return
        self._write_here(until)

    def be_direct(self) -> None:
        """Write at once from now on, and wait for the reader."""
        self._is_direct = True

    def _is_idle(self) -> bool:
        return not self._in_hand and not len(self._backlog)

    def _start(self) -> None:
        if self._thread is None and len(self._backlog):
            thread = threading.Thread(target=self._work, name="stderr", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                # This machine has no thread to give: the next line tries again.
                return
            self._thread = thread

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._backlog.__len__)
                # One turn for each line would take the other threads' time from them.
                self._changed.wait_for(lambda: self._is_hurried, LINGER_SECONDS)
                chunks = self._taken()
            self._pass_on(chunks)

    def _taken(self) -> Sequence[Chunk]:
        self._written_of_it = 0
        self._in_hand = self._backlog.take(TAKEN_AT_ONCE)
        return self._in_hand

    def _write_here(self, until: float) -> None:
        # Without a thread: only as far as it does not block.
        while len(self._backlog) and time.monotonic() < until:
            self._pass_on(self._taken(), until)

    def _pass_on(self, chunks: Sequence[Chunk], until: float | None = None) -> None:
        lost = self._backlog.lost
        if lost == self._described or self._is_written([(self.describe(lost - self._described).encode(), 0)], until):
            self._described = lost
            self._is_written(chunks, until)
        else:
            self._written_of_it = 0
        with self._changed:
            self._backlog.lost += lines_beyond(chunks, self._written_of_it)
            self._in_hand = ()
            self._changed.notify_all()

    def _is_written(self, chunks: Sequence[Chunk], until: float | None) -> bool:
        """Write as much as can be; whether it was all of it."""
        data = b"".join(data for data, _ in chunks)
        begin = b"\n" if self._is_mid_line else b""
        rest = memoryview(begin + data)
        self._written_of_it = 0
        while rest:
            if until is not None and not self._is_ready(until):
                break
            try:
                written = os.write(self._descriptor, rest[:AT_ONCE])
            except BlockingIOError:
                # Somebody who shares it has set O_NONBLOCK.
                self._is_ready(until)
                continue
            except OSError:
                break
            self._is_mid_line = rest[written - 1] != ord("\n")
            rest = rest[written:]
            self._written_of_it = len(data) - len(rest)
        else:
            # Whoever wrote it knows whether more is to come.
            self._is_mid_line = False
        return not rest

    def _is_ready(self, until: float | None) -> bool:
        import select

        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        return bool(poll.poll(None if until is None else max(0.0, until - time.monotonic()) * 1000))


class _State:
    """What stderr is in this process. queued None: it was not taken over."""

    queued: Queued | None = None
    before: TextIO | None = None
    patience: float = END_SECONDS


def take_over() -> None:
    """From now on sys.stderr waits for no reader."""
    before = sys.stderr
    queued = Queued(before.fileno())
    _State.before, _State.queued = before, queued
    sys.stderr = io.TextIOWrapper(queued, encoding=before.encoding, errors="backslashreplace", write_through=True)
    # A copy of this process has none of its threads.
    os.register_at_fork(after_in_child=queued.be_direct)
    # Where the interpreter ends by itself, as after an interrupt while it still begins.
    atexit.register(not_taken_at_end)


def describe_lost(line: Callable[[int], str]) -> None:
    """Say how the number of lines that were not taken is written."""
    if _State.queued is not None:
        _State.queued.describe = line


@contextmanager
def at_level(number: int) -> Iterator[None]:
    """What this thread writes now is a line of the log, of this level."""
    _level.number = number
    try:
        yield
    finally:
        _level.number = None


@contextmanager
def directly() -> Iterator[None]:
    """What is written now is for somebody who is waited for anyway."""
    if _State.queued is None or _State.before is None:
        yield
        return
    _State.queued.drain(time.monotonic() + END_SECONDS)
    with redirect_stderr(_State.before):
        yield
        sys.stderr.flush()


def not_taken_at_end() -> int:
    """How many lines nobody has taken. Waits for the reader, all in all for `END_SECONDS`: the work is over."""
    if _State.queued is None:
        return 0
    began = time.monotonic()
    _State.queued.drain(began + _State.patience)
    _State.patience = max(0.0, _State.patience - (time.monotonic() - began))
    return _State.queued.not_taken()


def wait_from_now_on() -> None:
    """Whoever writes once more, at the end of all, writes at once."""
    if _State.queued is not None:
        _State.queued.be_direct()
