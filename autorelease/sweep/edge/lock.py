"""A lock on a file beside the journal, for one tick at a time, which the kernel frees however the process ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from autorelease.errors import UnusableError

MODE = 0o640
# Each is lost only where somebody removes the file in the very moment between.
MOST_TRIES = 10


class Lock(msgspec.Struct, frozen=True):
    """A lock that is held."""

    path: Path
    descriptor: int

    def is_in_place(self) -> bool:
        """Whether the path still names the file that is locked: else whoever comes next locks another one."""
        try:
            there = self.path.stat()
        except FileNotFoundError:
            return False
        return os.path.samestat(there, os.fstat(self.descriptor))


@contextmanager
def locked(path: Path) -> Iterator[Lock | None]:
    """Hold the lock for as long as the block runs; yields None, at once, where another process holds it.

    Raises UnusableError where the file cannot be opened, or cannot be locked.
    """
    for _ in range(MOST_TRIES):
        lock = Lock(path, _open(path))
        try:
            is_ours = _try_to_lock(lock)
            if not is_ours or lock.is_in_place():
                yield lock if is_ours else None
                return
        finally:
            os.close(lock.descriptor)
    raise UnusableError(f"{path}: the lock is removed again and again: find out by whom, and leave it where it is")


def _open(path: Path) -> int:
    try:
        # Read-only, so that whoever may read may also lock; O_CLOEXEC, so that no child of a tick keeps it.
        return os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, MODE)
    except OSError as error:
        raise UnusableError(
            f"{path}: the lock cannot be opened: {error.strerror}: check the rights of its folder"
        ) from error


def _try_to_lock(lock: Lock) -> bool:
    try:
        fcntl.flock(lock.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise UnusableError(
            f"{lock.path}: the lock cannot be taken: {error.strerror}: this file system does not lock, or its lock "
            "service does not run. Move the journal, whose lock it is, to a local disk: [journal] url"
        ) from error
    return True
