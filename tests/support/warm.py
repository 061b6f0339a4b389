"""Starts of the installed command by a process that has loaded it already: most of what a start costs is its imports.

It is a process of its own all the same, with its own streams, folder, end and exit code. Who looks at the start itself,
at /proc or at what is loaded, or gives an environment that the interpreter reads as it starts, takes the real one.
"""

import atexit
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from tests.support import warm_server

# Set: all starts are real ones.
REAL_STARTS = "AUTORELEASE_REAL_STARTS"
# What the interpreter looks at when it starts: there is a process that has started so for each of these.
OF_THE_START = {"LANG", "LC_ALL", "TZ"}
PLAIN = {"PATH", "HOME", "USER", "SUDO_USER", "COLUMNS", "TERM", "NO_COLOR"}
OURS = "AUTORELEASE_"
SECONDS = 120
# Its number, and how it ended.
ANSWER_LINES = 2
Startup = frozenset[tuple[str, str]]


class _Server:
    """The process that takes starts. It ends when the socket is closed, thus at the latest with this process."""

    def __init__(self, command: Path, startup: Startup) -> None:
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, warm_server.__file__, command, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={"PATH": os.environ["PATH"], **dict(startup)},
                stdin=subprocess.DEVNULL,
                cwd="/",
            )
        atexit.register(self.close)

    def close(self) -> None:
        """Let it end, and wait for that."""
        self.control.close()
        self._process.wait()


_server = cache(_Server)


def can_start(environment: Mapping[str, str]) -> bool:
    """Whether a start in this environment is the same as a real one."""
    known = OF_THE_START | PLAIN
    return not os.environ.get(REAL_STARTS) and all(name in known or name.startswith(OURS) for name in environment)


def run(
    command: Path, arguments: Sequence[str | Path], environment: Mapping[str, str], folder: Path
) -> "subprocess.CompletedProcess[str]":
    """As subprocess.run would, with captured output: wait for the end of the command, and of what it has written."""
    (ours_out, out), (ours_err, err) = os.pipe(), os.pipe()
    try:
        answer = start(command, arguments, environment, folder, (0, out, err))
    finally:
        os.close(out)
        os.close(err)
    written, complained, ended = _read([ours_out, ours_err, answer])
    return subprocess.CompletedProcess([command, *arguments], _code(ended), text(written), text(complained))


def start(
    command: Path,
    arguments: Sequence[str | Path],
    environment: Mapping[str, str],
    folder: Path,
    streams: tuple[int, int, int],
) -> int:
    """Start it with these standard streams. Returns a descriptor for `wait`."""
    what = {
        "arguments": [os.fspath(word) for word in arguments],
        "environment": dict(environment),
        "folder": str(folder),
        "umask": _umask(),
    }
    startup = frozenset((name, value) for name, value in environment.items() if name in OF_THE_START)
    ours, theirs = os.pipe()
    try:
        socket.send_fds(_server(command, startup).control, [json.dumps(what).encode()], [*streams, theirs])
    finally:
        os.close(theirs)
    return ours


def wait(started: int) -> int:
    """Wait for the end; returns its exit code as subprocess does."""
    [ended] = _read([started])
    return _code(ended)


def _code(answer: bytes) -> int:
    _, code = answer.split()
    return int(code)


def _umask() -> int:
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


def _read(descriptors: Sequence[int]) -> list[bytes]:
    """All that comes from each of these, until its end. The last begins with the number of the process."""
    found = {descriptor: bytearray() for descriptor in descriptors}
    try:
        _fill(found, SECONDS, answer=descriptors[-1])
    except BaseException:
        # Whoever gives up waiting leaves nothing behind that runs. Where it has ended, its number is still its own.
        match found[descriptors[-1]].split():
            case [pid, *_]:
                os.kill(int(pid), signal.SIGKILL)
        raise
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    return [bytes(found[descriptor]) for descriptor in descriptors]


def read_all(descriptors: Sequence[int], seconds: float) -> Mapping[int, bytearray]:
    """All that comes from each of these, until its end."""
    found = {descriptor: bytearray() for descriptor in descriptors}
    _fill(found, seconds)
    return found


def _fill(found: Mapping[int, bytearray], seconds: float, *, answer: int | None = None) -> None:
    until = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        for descriptor in found:
            selector.register(descriptor, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(max(0.0, until - time.monotonic()))
            if not ready:
                raise TimeoutError(f"the command did not end in its time; it wrote {list(found.values())}")
            for key, _ in ready:
                data = os.read(key.fd, 2**16)
                found[key.fd].extend(data)
                # Its server keeps an answer open until nobody waits for it any more.
                if not data or (key.fd == answer and found[answer].count(b"\n") == ANSWER_LINES):
                    selector.unregister(key.fd)


def text(data: bytes | bytearray) -> str:
    """What was written, as text."""
    return data.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
