"""Which runs are under way, told by their processes: what they have begun is their own affair."""

from collections.abc import Collection

from autorelease import processes
from autorelease.journal import JournalReader, TickStart


def is_running(start: TickStart) -> bool:
    """Whether the process of a run still is."""
    return processes.is_running(processes.Process(start.pid, start.pid_started, start.pid_namespace, start.boot_id))


def running(journal: JournalReader) -> Collection[str]:
    """The runs that are under way now."""
    return frozenset(start.tick for start in journal.unfinished_runs() if is_running(start))
