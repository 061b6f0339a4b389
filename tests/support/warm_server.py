"""A process that has loaded the installed command and has not begun: `python warm_server.py COMMAND CONTROL`.

For each start that comes over the socket of that number it forks, and the copy goes on as the command would: with the
same entry point, arguments, environment, folder and streams. It has one thread, has opened no database and has read
nothing of what a run depends on. Starts come from `tests.support.warm`.
"""

import gc
import io
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

# More than a socket takes at once.
MOST_BYTES = 2**20
STREAMS = (0, 1, 2)
NOT_OF_THE_COMMAND = ("autorelease.testing", "autorelease.__main__")


def next_start(control: socket.socket) -> dict[str, Any]:
    """Return in a copy of this process, for each start that is asked for; never in this process itself."""
    awake, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.set_wakeup_fd(wakes)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    running: dict[int, int] = {}
    ended: dict[int, int] = {}
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(awake, select.POLLIN)
    while True:
        try:
            ready = [descriptor for descriptor, _ in poll.poll()]
        except KeyboardInterrupt:
            # Somebody ends the whole run.
            os._exit(0)
        if awake in ready:
            os.read(awake, 4096)
            for answer, pid in _tell_ends(running):
                ended[answer] = pid
                # Whoever waits for it closes the other end.
                poll.register(answer, 0)
        for answer in ended.keys() & ready:
            poll.unregister(answer)
            os.close(answer)
            os.waitpid(ended.pop(answer), 0)
        if control.fileno() in ready:
            start = _received(control)
            if (pid := os.fork()) == 0:
                control.detach()
                return start
            *streams, answer = start["descriptors"]
            for descriptor in streams:
                os.close(descriptor)
            os.write(answer, f"{pid}\n".encode())
            running[pid] = answer


def _received(control: socket.socket) -> dict[str, Any]:
    message, descriptors, _, _ = socket.recv_fds(control, MOST_BYTES, len(STREAMS) + 1)
    if not message:
        # Whoever wanted starts has ended.
        os._exit(0)
    return {**json.loads(message), "descriptors": descriptors}


def _tell_ends(running: dict[int, int]) -> Iterator[tuple[int, int]]:
    """Write down how those that have ended did so.

    They are not reaped yet: until then their numbers are nobody else's.
    """
    for pid, answer in list(running.items()):
        if (end := os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
            code = end.si_status if end.si_code == os.CLD_EXITED else -end.si_status
            with suppress(BrokenPipeError):
                os.write(answer, f"{code}\n".encode())
            del running[pid]
            yield answer, pid


def become(start: dict[str, Any], command: str) -> None:
    """Have what a process of the command would have been given."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *streams, _ = start["descriptors"]
    for number, descriptor in zip(STREAMS, streams, strict=True):
        os.dup2(descriptor, number)
    os.closerange(max(STREAMS) + 1, os.sysconf("SC_OPEN_MAX"))
    os.umask(start["umask"])
    os.chdir(start["folder"])
    os.environ.clear()
    os.environ.update(start["environment"])
    time.tzset()
    sys.argv = [command, *start["arguments"]]
    sys.stdin = sys.__stdin__ = _stream(0, sys.stdin)  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = _stream(1, sys.stdout)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _stream(2, sys.stderr)  # type: ignore[misc]


def _stream(number: int, before: Any) -> io.TextIOWrapper:
    """What the interpreter makes of this descriptor when it starts."""
    is_input = number == 0
    binary: Any = open(number, "rb" if is_input else "wb", closefd=False)  # noqa: SIM115
    by_lines = number == 2 or binary.isatty()
    return io.TextIOWrapper(binary, before.encoding, before.errors, "\n", line_buffering=by_lines)


def load() -> None:
    """Load every module of the program, whether the command to come would or not: none does anything by that."""
    for module in walk_packages(autorelease.__path__, "autorelease."):
        if not module.name.startswith(NOT_OF_THE_COMMAND):
            import_module(module.name)
    # Made of the same definitions at every start: it is made once.
    typer.main.get_command = cache(typer.main.get_command)
    typer.main.get_command(import_module("autorelease.cli.app").app)
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    COMMAND, CONTROL = sys.argv[1:]
    # As for a script that lies beside the interpreter.
    sys.path[0] = str(Path(COMMAND).parent)
    import typer.main

    import autorelease
    from autorelease.cli import main

    load()
    become(next_start(socket.socket(fileno=int(CONTROL))), COMMAND)
    main()
