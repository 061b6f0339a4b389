"""Which runs are under way, told by their processes: what they have begun is their own affair."""

from collections.abc import Collection
from datetime import datetime

from autorelease import processes
from autorelease.journal import JournalReader, TickStart
from autorelease.limits import LOCK_SLACK


def is_running(start: TickStart, now: datetime) -> bool:
    """Whether the process of a run still is, and is not so long past its time that it counts as gone."""
    if now > start.ends_by + LOCK_SLACK:
        return False
    return processes.is_running(process_of(start))


def process_of(start: TickStart) -> processes.Process:
    """The process that began this run."""
    return processes.Process(start.pid, start.pid_started, start.pid_namespace, start.boot_id)


def running(journal: JournalReader, now: datetime) -> Collection[str]:
    """The runs that are under way at `now`."""
    return frozenset(start.tick for start in journal.unfinished_runs() if is_running(start, now))
