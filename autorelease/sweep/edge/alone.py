"""One tick at a time: by the lock, and by the processes of the ticks that the journal knows.

The lock alone stops nobody once its file is removed: whoever comes next makes another one. So a tick that has the lock
asks, too, whether the newest one in the journal still runs. And once it has written itself down it looks whether its
lock is in place: of two that both began while the file was removed, one at most goes on.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from autorelease.deciding.running import process_of
from autorelease.errors import AutoreleaseError, LockedError, UnusableError
from autorelease.journal import Journal, JournalReader, PastTick, TickStart
from autorelease.limits import LOCK_SLACK
from autorelease.model import rfc3339
from autorelease.processes import Life, find_life, is_running, own_process
from autorelease.sweep.edge.lock import Lock, locked

# How long a tick that has the lock may take until the journal knows of it.
STARTING_SECONDS = 3.0
ON_AN_OLDER_JOURNAL = (
    "another tick is running: it has the lock, and the journal is of an older version: either it is brought up to date "
    "at this moment, or that tick is one of the older program. Nothing was done"
)


@contextmanager
def alone(path: Path, journal: Journal, now: datetime) -> Iterator[Lock]:
    """Hold the lock for as long as the block runs. Whoever has written itself down asks `check_lock` before it acts.

    An older journal is brought up to date, which the lock is needed for.

    Raises LockedError where another tick runs, UnusableError where that one is long past its time.
    """
    with locked(path) as lock:
        if lock is None:
            raise LockedError(ON_AN_OLDER_JOURNAL) if journal.is_older() else _holder(journal, now)
        journal.bring_up_to_date()
        if (unlocked := _tick_without_lock(journal, now)) is not None:
            raise unlocked
        yield lock


def check_lock(lock: Lock) -> None:
    """Raise LockedError where the lock's file was removed or replaced: another tick may have begun beside this one."""
    if not lock.is_in_place():
        raise LockedError(
            f"{lock.path}: the lock was removed or replaced while this tick began, and another tick may be running. "
            "Nothing was done; the next tick does it. Leave that file where it is"
        )


def _holder(journal: JournalReader, now: datetime) -> AutoreleaseError:
    """What to say where another process has the lock."""
    newest = _newest_tick_once_it_lives(journal)
    if newest is None or newest.finished_at is not None:
        return LockedError("another tick is running: it has the lock and is only just starting. Nothing was done")
    start = newest.start
    if now > start.ends_by + LOCK_SLACK:
        return _hanging(start, "holds the lock and")
    return LockedError(f"another tick is running: {_described(start)}. Nothing was done")


def _tick_without_lock(journal: JournalReader, now: datetime) -> AutoreleaseError | None:
    """What to say where the newest tick still runs, although the lock was free; None where it does not."""
    newest = journal.newest_tick()
    if newest is None or newest.finished_at is not None or newest.start.pid == own_process().pid:
        return None
    start = newest.start
    life = find_life(process_of(start))
    if life is Life.GONE:
        return None
    if now <= start.ends_by + LOCK_SLACK:
        return LockedError(
            f"another tick is running, although its lock was removed: {_described(start)}. Nothing was done"
        )
    # Of a pid alone nobody knows whose it is by now; it must not keep everybody out for ever.
    return _hanging(start, "runs, although its lock was removed, and") if life is Life.RUNNING else None


def _hanging(start: TickStart, how: str) -> UnusableError:
    return UnusableError(
        f"another tick {how} is past its deadline: {_described(start)}, should have ended by {rfc3339(start.ends_by)}. "
        "Look at that process, and end it: the lock goes with it"
    )


def _described(start: TickStart) -> str:
    return f"tick {start.tick}, pid {start.pid} on {start.host}, started at {rfc3339(start.started_at)}"


def _newest_tick_once_it_lives(journal: JournalReader) -> PastTick | None:
    """The newest tick of the journal. Whoever has the lock writes itself down next, so that is waited for, a little.

    Until then the newest may be one that was killed: its pid would be the wrong one to look at, and its deadline none
    that somebody overran.
    """
    gives_up = time.monotonic() + STARTING_SECONDS
    while True:
        newest = journal.newest_tick()
        lives = newest is not None and newest.finished_at is None and is_running(process_of(newest.start))
        if lives or time.monotonic() >= gives_up:
            return newest
        time.sleep(0.05)
