"""One run of a program: begun in a session of its own, fed, listened to, and never left alone.

Knows nothing of what an exit status means. Whatever goes wrong once the program runs, the program is ended: nobody else
would do it, and it destroys VMs.
"""

import contextlib
import errno
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import IO

import msgspec

from autorelease.errors import ProvisionerDown, ProvisionerError
from autorelease.text import kind_and_reason

TAIL_BYTES = 4096
# Of the bytes of a character all but the first (RFC 3629).
CONTINUATIONS = bytes(range(0x80, 0xC0))
# Where the kernel does not say when a child ends, it is asked this often.
ASK_EVERY_SECONDS = 0.05
# After SIGKILL a process is gone at once, unless it belongs to somebody else or is stuck in the kernel.
DEAD_WITHIN_SECONDS = 2.0
# What this machine lacks has nothing to do with the row.
LACKING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)


class Ended(msgspec.Struct, frozen=True):
    """How a run ended. status: negative for a signal; output: its tail; timed_out: we ended it."""

    status: int
    output: str
    timed_out: bool


def check_ends_can_be_known() -> None:
    """Raise ProvisionerDown where the kernel throws the exit statuses of our children away.

    It does so in a process that was started with SIGCHLD ignored (wait(2), NOTES).
    """
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        raise ProvisionerDown(
            "SIGCHLD is ignored in this process, so that no exit status of a program can be known: "
            "start autorelease from something that does not ignore it"
        )


def run(
    argv: Sequence[str],
    environment: Mapping[str, str],
    document: bytes,
    timeout: timedelta,
    kill_after: timedelta,
) -> Ended:
    """Run a program with this document as its standard input; past its time end it: TERM, a while, KILL.

    Raises ProvisionerDown or ProvisionerError where it cannot be started, and ProvisionerError (`end_unknown`) where it
    could not be watched to its end.
    """
    check_ends_can_be_known()
    process = _started(argv, environment)
    try:
        conversation = _Conversation(process, document)
        return conversation.until(time.monotonic() + timeout.total_seconds(), kill_after)
    except BaseException as error:
        is_gone = _put_an_end_to(process)
        if isinstance(error, ProvisionerError) or not isinstance(error, Exception):
            raise
        now = "it is ended" if is_gone else "it cannot be ended, and is still running"
        raise ProvisionerError(
            f"the command could not be watched to its end: {now} ({kind_and_reason(error)})",
            end_unknown=True,
            still_running=not is_gone,
        ) from error


def _started(argv: Sequence[str], environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    try:
        # A session of its own: it has no terminal to ask on, and its children end with it. In /, so that it holds no
        # mount busy.
        return subprocess.Popen(  # noqa: S603 - a list, no shell; only whole elements come from a row
            argv,
            env=environment,
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except (PermissionError, FileNotFoundError, NotADirectoryError) as error:
        raise ProvisionerDown(f"the program {argv[0]!r} cannot be started: {error.strerror}") from error
    except OSError as error:
        if error.errno == errno.ENOEXEC:
            raise ProvisionerDown(
                f"the program {argv[0]!r} cannot be run: it is none for this machine, and does not begin with #!"
            ) from error
        if error.errno in LACKING:
            raise ProvisionerDown(f"no program can be started on this machine now: {error.strerror}") from error
        # E2BIG is about this row's values; anything else may be over in a moment.
        raise ProvisionerError(
            f"the command cannot be started: {error.strerror}",
            retryable=error.errno != errno.E2BIG,
            not_called=True,
        ) from error


def _put_an_end_to(process: "subprocess.Popen[bytes]") -> bool:
    """Kill a program that nobody watches any more, with its group, and give back what we hold of it.

    False: it is still there, as one that became another user's may be.
    """
    if process.returncode is None:
        _signal_group(process, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(DEAD_WITHIN_SECONDS)
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
    return process.returncode is not None


def _signal_group(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    # ESRCH: all are gone. EPERM: all belong to another user, as of a program that became root.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _descriptor_of(process: "subprocess.Popen[bytes]") -> int | None:
    """What becomes readable when the process ends; None: there is no such thing here.

    Old container runtimes refuse the call (EPERM), old kernels do not have it (ENOSYS), files may be used up (EMFILE).
    """
    try:
        return os.pidfd_open(process.pid)
    except (AttributeError, OSError):
        return None


def _text(tail: bytes) -> str:
    """The end of an output, which may have been cut in the midst of a character: what is left of that is left out."""
    if len(tail) == TAIL_BYTES:
        tail = tail[:3].lstrip(CONTINUATIONS) + tail[3:]
    return tail.decode("utf-8", "replace").strip()


class _Conversation:
    """Feeds a child its input and keeps the tail of its output until it ends, or is ended.

    It waits for the child and not for the end of its output: a grandchild may hold the pipe open for ever.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", document: bytes) -> None:
        assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - both are PIPE
        self._process = process
        self._document = document
        self._tail = b""
        self._stdin: IO[bytes] = process.stdin
        self._stdout: IO[bytes] = process.stdout
        # Not epoll, which takes a file of its own and may not get one.
        self._selector = selectors.PollSelector()
        self._child: int | None = None

    def until(self, deadline: float, kill_after: timedelta) -> Ended:
        """Wait for the end; past the deadline (of the monotonic clock) end the child."""
        try:
            self._listen()
            timed_out = not self._ended_by(deadline)
            if timed_out:
                self._end(kill_after)
            status = self._status()
            self._read()
        finally:
            self._close()
        return Ended(status, _text(self._tail), timed_out)

    def _listen(self) -> None:
        os.set_blocking(self._stdin.fileno(), False)
        os.set_blocking(self._stdout.fileno(), False)
        self._selector.register(self._stdout, selectors.EVENT_READ)
        self._selector.register(self._stdin, selectors.EVENT_WRITE)
        self._child = _descriptor_of(self._process)
        if self._child is not None:
            self._selector.register(self._child, selectors.EVENT_READ)

    def _ended_by(self, deadline: float) -> bool:
        while (left := deadline - time.monotonic()) > 0:
            for key, _ in self._selector.select(left if self._child is not None else min(left, ASK_EVERY_SECONDS)):
                if key.fileobj is self._stdin:
                    self._write()
                elif key.fileobj is self._stdout:
                    self._read_some()
                else:
                    return True
            if self._child is None and self._is_over():
                return True
        return False

    def _is_over(self) -> bool:
        # It stays a zombie: as long as it is one, its number is nobody else's, and its group can be signalled.
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def _end(self, kill_after: timedelta) -> None:
        _signal_group(self._process, signal.SIGTERM)
        self._ended_by(time.monotonic() + kill_after.total_seconds())
        # The child may have ended by now, and its own children not.
        _signal_group(self._process, signal.SIGKILL)
        if not self._ended_by(time.monotonic() + DEAD_WITHIN_SECONDS):
            raise ProvisionerError(
                "the command took too long and cannot be ended: it is still running, perhaps as another user",
                timed_out=True,
                still_running=True,
            )

    def _status(self) -> int:
        # Popen.wait would say 0 of a child whose end somebody else was given: that is no release.
        _, status = os.waitpid(self._process.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        return self._process.returncode

    def _write(self) -> None:
        try:
            written = os.write(self._stdin.fileno(), self._document[:65536])
            self._document = self._document[written:]
        except BrokenPipeError:
            self._document = b""
        if not self._document:
            self._selector.unregister(self._stdin)
            self._stdin.close()

    def _read_some(self) -> bool:
        """Keep the tail of what is there; False: there is no more for now."""
        try:
            data = os.read(self._stdout.fileno(), 65536)
        except BlockingIOError:
            return False
        if not data and self._stdout in [key.fileobj for key in self._selector.get_map().values()]:
            self._selector.unregister(self._stdout)
        self._tail = (self._tail + data)[-TAIL_BYTES:]
        return bool(data)

    def _read(self) -> None:
        # Bounded: a grandchild that escaped the group could write for ever.
        for _ in range(64):
            if not self._read_some():
                return

    def _close(self) -> None:
        self._selector.close()
        if self._child is not None:
            os.close(self._child)
        for stream in (self._stdin, self._stdout):
            if not stream.closed:
                stream.close()
