"""One tick at a time: a lock on a file beside the journal, which the kernel frees however the process ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from autorelease.errors import UnusableError

MODE = 0o640


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold the lock for as long as the block runs; yields False, at once, where another process holds it.

    Raises UnusableError where the file cannot be opened.
    """
    try:
        # Read-only, so that whoever may read may also lock; O_CLOEXEC, so that no child of a tick keeps it.
        descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, MODE)
    except OSError as error:
        raise UnusableError(
            f"{path}: the lock cannot be opened: {error.strerror}: check the rights of its folder"
        ) from error
    try:
        yield _try_to_lock(descriptor)
    finally:
        os.close(descriptor)


def _try_to_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
