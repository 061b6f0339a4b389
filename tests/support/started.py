"""A start of the installed command that goes on while a test does something else: to the test it is what Popen makes.

Where a process that has loaded the command can take the start, it does: what comes is a process of its own all the
same, which can be stopped, killed and looked at.
"""

import os
import select
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.support import warm

LONGEST_LINE = 100


class Started(subprocess.Popen[str]):
    """One that was started warm. stdout, stderr: as of Popen, or a descriptor."""

    def __init__(
        self,
        command: Path,
        arguments: Sequence[str | Path],
        environment: Mapping[str, str],
        folder: Path,
        *,
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
    ) -> None:
        self.args = [command, *arguments]
        self.stdin = None
        self.stdout, out = _stream(stdout)
        self.stderr, err = _stream(stderr)
        try:
            self._answer = warm.start(command, arguments, environment, folder, (0, out, err))
        finally:
            for given, descriptor in ((stdout, out), (stderr, err)):
                if given < 0:
                    os.close(descriptor)
        self.pid = int(self._read())
        self.returncode: int | Any = None

    def __del__(self) -> None:
        """Nobody waits for it any more."""
        if getattr(self, "returncode", 0) is None:
            os.close(self._answer)

    def _read(self) -> bytes:
        """What there is to know next: its number, and then how it ended; each comes at once."""
        return os.read(self._answer, LONGEST_LINE).partition(b"\n")[0]

    def wait_for_end(self, timeout: float | None = None) -> None:
        """Wait until it has ended. Until `wait`, its number is nobody else's."""
        if self.returncode is None and not select.select([self._answer], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended; returns its exit code."""
        self.wait_for_end(timeout)
        if self.returncode is None:
            self.returncode = int(self._read())
            os.close(self._answer)
        return int(self.returncode)

    def poll(self) -> int | None:
        """Its exit code, if it has ended."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def send_signal(self, sig: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, sig)

    def communicate(self, _: Any = None, timeout: float | None = warm.SECONDS) -> tuple[Any, Any]:
        """Wait for the end of what it writes, and for its own; returns what was captured."""
        streams = [stream for stream in (self.stdout, self.stderr) if stream is not None]
        found = warm.read_all([stream.fileno() for stream in streams], timeout or warm.SECONDS)
        self.wait(timeout)
        texts: dict[Any, str] = {stream: warm.text(found[stream.fileno()]) for stream in streams}
        for stream in streams:
            stream.close()
        return texts.get(self.stdout), texts.get(self.stderr)


def _stream(given: int) -> tuple[Any, int]:
    """Our end of a stream, where we have one; and the end that the process is given."""
    if given == subprocess.PIPE:
        ours, theirs = os.pipe()
        return os.fdopen(ours, encoding="utf-8"), theirs
    return None, os.open(os.devnull, os.O_WRONLY) if given == subprocess.DEVNULL else given


def wait_for_end(process: "subprocess.Popen[str]") -> None:
    """Wait until it has ended. Until its `wait`, its number is nobody else's."""
    if isinstance(process, Started):
        process.wait_for_end()
    else:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
