"""The locks that this process has on a file, as the kernel lists them."""

import os
from pathlib import Path


def own_locks(path: Path) -> list[str]:
    """What each of them is (READ or WRITE), with where it begins."""
    state = path.stat()
    place = f"{os.major(state.st_dev):02x}:{os.minor(state.st_dev):02x}:{state.st_ino}"
    rows = [line.split() for line in Path("/proc/locks").read_text("ascii").splitlines()]
    # A lock that somebody waits for has an arrow before it.
    return sorted(
        f"{row[3]} from {row[6]}"
        for row in rows
        if row[1] == "POSIX" and row[4] == str(os.getpid()) and row[5] == place
    )
