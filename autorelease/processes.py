"""Which process this is, and whether another still runs: by what the kernel says of them (proc(5)). Changes nothing.

A pid alone says little: it is given to another process later, within a container often at once. So a process is known
by the time at which it began, too, and by the boot and the pid namespace in which its pid counts.
"""

import os
from enum import Enum
from pathlib import Path

import msgspec

PROC = Path("/proc")
# Of the fields of /proc/PID/stat, which are counted from 1, behind the second: the name in parentheses.
STATE = 3 - 3
STARTED = 22 - 3
# A zombie, and what is about to be none: they do nothing any more, and wait for their parent.
DEAD = frozenset({b"Z", b"X", b"x"})


class Process(msgspec.Struct, frozen=True):
    """A process as it can be written down.

    started: in clock ticks since the boot. namespace: where its pid counts, as `pid:[4026531836]`. boot_id: which boot
    of the machine. None: that could not be found out.
    """

    pid: int
    started: int | None = None
    namespace: str | None = None
    boot_id: str | None = None


class Life(Enum):
    """What can be said of a process. PERHAPS: a process has its pid, and nothing shows whether it is the same one."""

    GONE = "gone"
    PERHAPS = "perhaps"
    RUNNING = "running"


def own_process() -> Process:
    """This process."""
    found = _stat(PROC / "self")
    return Process(os.getpid(), found[1] if found else None, _own_namespace(), boot_id())


def is_running(process: Process) -> bool:
    """Whether it still runs, or may do so."""
    return find_life(process) is not Life.GONE


def find_life(process: Process) -> Life:
    """What can be said of this process from here.

    One of another boot is gone. One of another pid namespace cannot be seen, and counts as gone: or a container that
    ends in mid-work would keep out all that come after it. What could not be written down is not compared. Where
    /proc hides the process (hidepid=, ProcSubset=) or is that of another namespace, its pid alone is left: PERHAPS.
    """
    if _differ(process.boot_id, boot_id()) or _differ(process.namespace, _own_namespace()):
        return Life.GONE
    if not _exists(process.pid):
        return Life.GONE
    found = _stat(PROC / str(process.pid)) if _proc_is_ours() else None
    if found is None:
        # It may have ended meanwhile.
        return Life.PERHAPS if _exists(process.pid) else Life.GONE
    state, started = found
    if state in DEAD or (process.started is not None and process.started != started):
        return Life.GONE
    return Life.RUNNING if process.started is not None else Life.PERHAPS


def boot_id() -> str | None:
    """Which boot of the machine this is, as 32 hex digits; a confined service is told by its environment."""
    given = os.environ.get("AUTORELEASE_BOOT_ID")
    if not given:
        try:
            given = (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii")
        except OSError:
            return None
    return given.strip().replace("-", "").lower()


def _differ(written: str | None, ours: str | None) -> bool:
    return written is not None and ours is not None and written != ours


def _own_namespace() -> str | None:
    try:
        return str((PROC / "self/ns/pid").readlink())
    except OSError:
        return None


def _exists(pid: int) -> bool:
    if pid <= 0:
        # To kill(2) these are whole groups.
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        # Somebody else's, and there.
        return True
    return True


def _proc_is_ours() -> bool:
    """Whether the numbers in /proc are those of our own pid namespace; after `unshare --pid` alone they are not."""
    try:
        return str((PROC / "self").readlink()) == str(os.getpid())
    except OSError:
        return False


def _stat(folder: Path) -> tuple[bytes, int] | None:
    """State and start of a process; None where they cannot be read."""
    try:
        # Its name, in parentheses, may hold blanks and parentheses.
        fields = (folder / "stat").read_bytes().rpartition(b")")[2].split()
        return fields[STATE], int(fields[STARTED])
    except (OSError, ValueError, IndexError):
        return None
