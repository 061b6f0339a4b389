"""A command in a pseudo-terminal: what a person at a screen would see."""

import fcntl
import os
import pty
import struct
import subprocess
import termios
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.support import warm
from tests.support.place import COMMAND

LINES = 50


@dataclass(frozen=True, slots=True)
class Shown:
    """What was written to each of the two terminals, and how the command ended."""

    code: int
    out: str
    err: str


class _Screen:
    """One terminal, read until its last writer is gone."""

    def __init__(self, columns: int) -> None:
        self._ours, self.theirs = pty.openpty()
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, columns, 0, 0))
        self._seen = bytearray()
        self._reader = threading.Thread(target=self._read)

    def start(self) -> None:
        """Begin to read, once the command has its own copy of the terminal."""
        os.close(self.theirs)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._ours, 65536)
            except OSError:
                # Linux says EIO, and not end of file, once nobody holds the other side any more.
                return
            if not data:
                return
            self._seen += data

    def finish(self) -> str:
        """All that was written, with plain line ends."""
        self._reader.join()
        os.close(self._ours)
        return self._seen.decode("utf-8").replace("\r\n", "\n")


def run_in_terminal(
    command: Sequence[str | Path],
    environment: Mapping[str, str],
    folder: Path,
    *,
    columns: int = 80,
    typed: str | None = None,
) -> Shown:
    """Run a command whose stdout and stderr are a terminal each, so that the two can be told apart.

    typed: what is typed on its keyboard, ahead of any question; None: it has none.
    """
    out, err = _Screen(columns), _Screen(columns)
    with _keyboard(typed) as stdin:
        wait = _start(command, environment, folder, (stdin, out.theirs, err.theirs))
        out.start()
        err.start()
        code = wait()
    return Shown(code, out.finish(), err.finish())


def _start(
    command: Sequence[str | Path], environment: Mapping[str, str], folder: Path, streams: tuple[int, int, int]
) -> Callable[[], int]:
    """Start it; returns what waits for its end."""
    program, *words = command
    if program == COMMAND and warm.can_start(environment):
        return partial(warm.wait, warm.start(COMMAND, words, environment, folder, streams))
    stdin, stdout, stderr = streams
    process = subprocess.Popen(command, env=environment, cwd=folder, stdin=stdin, stdout=stdout, stderr=stderr)
    return partial(process.wait, timeout=warm.SECONDS)


@contextmanager
def _keyboard(typed: str | None) -> Iterator[int]:
    if typed is None:
        with open(os.devnull, "rb") as nothing:  # noqa: PTH123
            yield nothing.fileno()
        return
    ours, theirs = pty.openpty()
    try:
        os.write(ours, typed.encode())
        yield theirs
    finally:
        os.close(theirs)
        os.close(ours)
