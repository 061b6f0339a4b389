"""One run of a program: begun in a session of its own, fed, listened to, and never left alone.

Knows nothing of what an exit status means. Whatever goes wrong once the program runs, the program is ended: nobody else
would do it, and it destroys VMs.
"""

import contextlib
import errno
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta

import msgspec

from autorelease.errors import ProvisionerDown, ProvisionerError
from autorelease.provisioners.pipes import READ_BYTES, Pipes, events
from autorelease.text import kind_and_reason

TAIL_BYTES = 4096
# Of the bytes of a character all but the first (RFC 3629).
CONTINUATIONS = bytes(range(0x80, 0xC0))
# Where the kernel does not say when a child ends, it is asked this often.
ASK_EVERY_SECONDS = 0.05
# A child that ends as soon as this is not listened to before: each look at its output would cost a turn of this thread.
UNHEARD_SECONDS = 0.02
# After SIGKILL a process is gone at once, unless it belongs to somebody else or is stuck in the kernel.
DEAD_WITHIN_SECONDS = 2.0
# What this machine lacks has nothing to do with the row.
LACKING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)


class ProgramMissing(ProvisionerDown):
    """A program, or what it names behind #!, is not there, or may not be executed."""


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
    pipes = Pipes(document)
    try:
        process = _started(argv, environment, pipes)
        return _watched(process, pipes, timeout, kill_after)
    finally:
        pipes.close()


def _watched(process: "subprocess.Popen[bytes]", pipes: Pipes, timeout: timedelta, kill_after: timedelta) -> Ended:
    try:
        return _Conversation(process, pipes).until(time.monotonic() + timeout.total_seconds(), kill_after)
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


def _started(argv: Sequence[str], environment: Mapping[str, str], pipes: Pipes) -> "subprocess.Popen[bytes]":
    try:
        stdin, stdout = pipes.open()
        # A session of its own: it has no terminal to ask on, and its children end with it. In /, so that it holds no
        # mount busy.
        return subprocess.Popen(  # noqa: S603 - a list, no shell; only whole elements come from a row
            argv,
            env=environment,
            cwd="/",
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except (PermissionError, FileNotFoundError, NotADirectoryError) as error:
        raise ProgramMissing(f"the program {argv[0]!r} cannot be started: {error.strerror}") from error
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
    finally:
        pipes.close_theirs()


def _put_an_end_to(process: "subprocess.Popen[bytes]") -> bool:
    """Kill a program that nobody watches any more, with its group.

    False: it is still there, as one that became another user's may be.
    """
    if process.returncode is None:
        _signal_group(process, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(DEAD_WITHIN_SECONDS)
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

    def __init__(self, process: "subprocess.Popen[bytes]", pipes: Pipes) -> None:
        self._process = process
        self._pipes = pipes
        self._tail = b""
        self._child: int | None = None
        self._is_output_over = False

    def until(self, deadline: float, kill_after: timedelta) -> Ended:
        """Wait for the end; past the deadline (of the monotonic clock) end the child."""
        self._child = _descriptor_of(self._process)
        try:
            timed_out = not self._ended_by(deadline)
            if timed_out:
                self._end(kill_after)
            status = self._status()
            self._read()
        finally:
            if self._child is not None:
                os.close(self._child)
        return Ended(status, _text(self._tail), timed_out)

    def _ended_by(self, deadline: float) -> bool:
        return self._ended_soon(deadline) or self._ended_listened_to(deadline)

    def _ended_soon(self, deadline: float) -> bool:
        """Whether it ends before its output is worth a look: what it writes until then, the pipe keeps."""
        if self._child is None or self._pipes.rest:
            return False
        return bool(events({self._child: select.POLLIN}, min(deadline - time.monotonic(), UNHEARD_SECONDS)))

    def _ended_listened_to(self, deadline: float) -> bool:
        while (left := deadline - time.monotonic()) > 0:
            for ready in events(self._wanted(), left if self._child is not None else min(left, ASK_EVERY_SECONDS)):
                if ready == self._child:
                    return True
                if ready == self._pipes.stdin:
                    self._pipes.feed()
                else:
                    self._read_some()
            if self._child is None and self._is_over():
                return True
        return False

    def _wanted(self) -> Mapping[int, int]:
        """What is waited for, by descriptor."""
        wanted = {} if self._child is None else {self._child: select.POLLIN}
        if self._pipes.stdout is not None and not self._is_output_over:
            wanted[self._pipes.stdout] = select.POLLIN
        if self._pipes.stdin is not None:
            wanted[self._pipes.stdin] = select.POLLOUT
        return wanted

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

    def _read_some(self) -> bool:
        """Keep the tail of what is there; False: there is no more for now."""
        if self._pipes.stdout is None or self._is_output_over:
            return False
        try:
            data = os.read(self._pipes.stdout, READ_BYTES)
        except BlockingIOError:
            return False
        self._is_output_over = not data
        self._tail = (self._tail + data)[-TAIL_BYTES:]
        return bool(data)

    def _read(self) -> None:
        # Bounded: a grandchild that escaped the group could write for ever.
        for _ in range(64):
            if not self._read_some():
                return
