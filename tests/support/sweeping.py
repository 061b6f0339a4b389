"""What tests of the sweep share: answers, errors, and another program's lock on a database."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from autorelease.errors import ProvisionerError, UnusableError
from autorelease.model import Allocation, Release, Result
from tests.support.engine import Wrapper

PENDING = Release(Result.PENDING, evidence="202")
MISS = Release(Result.ALREADY_RELEASED, evidence="404", proof=False)


def when(sid: str, action: Callable[[], object]) -> Callable[[Allocation], None]:
    """Do something while this sid is being released."""

    def before(allocation: Allocation) -> None:
        if allocation.sid == sid:
            action()

    return before


def retryable(message: str = "busy", **more: Any) -> ProvisionerError:
    """An error after which the same call may succeed."""
    return ProvisionerError(message, retryable=True, **more)


def timed_out() -> ProvisionerError:
    """A call that came to no end within its time."""
    return ProvisionerError("took too long", retryable=True, timed_out=True)


class Lock:
    """Another program's hold on a database."""

    def __init__(self, path: Path, kind: str = "IMMEDIATE") -> None:
        self._kind = kind
        self._connection = sqlite3.connect(path, isolation_level=None, timeout=10, check_same_thread=False)

    def take(self) -> None:
        """Hold it, from now on."""
        if not self._connection.in_transaction:
            self._connection.execute(f"BEGIN {self._kind}")

    def let_go(self) -> None:
        """Let others have it."""
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def close(self) -> None:
        """Be gone."""
        self._connection.close()


@contextmanager
def lock_on(path: Path, kind: str = "IMMEDIATE") -> Iterator[Lock]:
    """A lock that is not held yet."""
    lock = Lock(path, kind)
    try:
        yield lock
    finally:
        lock.close()


class Unlocking(Wrapper):
    """Lets the lock go after so many failed writes."""

    def __init__(self, inner: Any, method: str, lock: Lock, failures: int) -> None:
        super().__init__(inner)
        self._method = method
        self._lock = lock
        self._failures = failures
        self.failed = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return self._counted(found) if name == self._method else found

    def _counted(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **more: Any) -> Any:
            try:
                return method(*arguments, **more)
            except UnusableError:
                self.failed += 1
                if self.failed == self._failures:
                    self._lock.let_go()
                raise

        return counted
