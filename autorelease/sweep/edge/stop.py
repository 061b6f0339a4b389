"""The wish to stop: a signal, or the deadline of the tick. Once made it stays."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from autorelease.errors import (
    AutoreleaseError,
    ExitCode,
    HungUpError,
    InterruptedTickError,
    TerminatedError,
    UnusableError,
)

SIGNALS = {
    signal.SIGHUP: ExitCode.HUNG_UP,
    signal.SIGINT: ExitCode.INTERRUPTED,
    signal.SIGTERM: ExitCode.TERMINATED,
}
DEADLINE = "deadline"
ERRORS: dict[str, type[AutoreleaseError]] = {
    "SIGHUP": HungUpError,
    "SIGINT": InterruptedTickError,
    "SIGTERM": TerminatedError,
}


class Stop:
    """Whether to begin nothing new, and why. by: a signal's name or `deadline`."""

    def __init__(self, is_past_deadline: Callable[[], bool] = lambda: False) -> None:
        self.by: str | None = None
        self.on_wish: Callable[[], None] = lambda: None
        self._is_past_deadline = is_past_deadline

    def wished(self) -> bool:
        """Whether to stop now."""
        if self.by is None and self._is_past_deadline():
            self.by = DEADLINE
        return self.by is not None

    def wish(self, by: str) -> None:
        """Ask to stop; the first reason stays. Safe in a signal handler."""
        if self.by is None or self.by == DEADLINE:
            self.by = by
        self.on_wish()


def error_of(stop: Stop) -> AutoreleaseError:
    """What a run ends with that was stopped before it had decided anything."""
    if stop.by in ERRORS:
        return ERRORS[stop.by]()
    return UnusableError(
        "the deadline of the tick passed before its plan was made: nothing was released. `autorelease doctor` names "
        "the index that the ledger lacks; or raise release.deadline"
    )


@contextmanager
def stopped_by_signals(stop: Stop) -> Iterator[None]:
    """Let SIGTERM, SIGINT and SIGHUP ask to stop; a second SIGINT ends the process at once."""

    def on_signal(number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and stop.by == signal.SIGINT.name:
            os._exit(ExitCode.INTERRUPTED)
        stop.wish(signal.Signals(number).name)

    # What is ignored stays ignored: nohup means it.
    heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, on_signal) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
