"""One tick at a time, by its lock and by its process: real files, real processes."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from autorelease.errors import AutoreleaseError, LockedError, UnusableError
from autorelease.journal import TickKind, TickStart
from autorelease.journal.sqlite import SQLiteJournal, lock_path
from autorelease.processes import own_process
from autorelease.sweep.edge.alone import alone, check_lock
from tests.support.engine import Engine

SAYS = """
import sys
from autorelease.processes import own_process
process = own_process()
print(process.pid, process.started, process.namespace, process.boot_id, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """A place with a journal."""
    return Engine(tmp_path)


@pytest.fixture
def journal(engine: Engine) -> Iterator[SQLiteJournal]:
    """Its journal."""
    opened = SQLiteJournal(engine.place.journal, read_only=False)
    yield opened
    opened.close()


@pytest.fixture
def other(engine: Engine) -> Iterator[TickStart]:
    """What a process that runs would write down of its tick."""
    words = [sys.executable, "-c", SAYS]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid, started, namespace, boot = process.stdout.readline().split()
        yield replace(
            engine.start(), pid=int(pid), pid_started=int(started), pid_namespace=namespace, boot_id=boot, tick="other"
        )
        process.kill()


def why_not_alone(engine: Engine, journal: SQLiteJournal, late: timedelta = timedelta(0)) -> AutoreleaseError | None:
    """What keeps a tick from beginning; None: nothing does."""
    try:
        with alone(lock_path(engine.place.journal), journal, engine.now + late) as lock:
            check_lock(lock)
    except AutoreleaseError as error:
        return error
    return None


def test_a_tick_that_runs_without_its_lock_keeps_others_out(
    engine: Engine, journal: SQLiteJournal, other: TickStart
) -> None:
    journal.open_tick(other)
    refused = why_not_alone(engine, journal)
    assert isinstance(refused, LockedError)
    assert f"tick other, pid {other.pid} on {other.host}" in str(refused)
    hanging = why_not_alone(engine, journal, (other.ends_by - engine.now) + timedelta(minutes=11))
    assert isinstance(hanging, UnusableError)
    assert "is past its deadline: tick other" in str(hanging)


def test_one_that_ended_keeps_nobody_out(engine: Engine, journal: SQLiteJournal, other: TickStart) -> None:
    journal.open_tick(other)
    journal.close_tick(other.tick, engine.now, {"exit_code": 5, "error": "unusable", "message": "locked"})
    assert why_not_alone(engine, journal) is None


@pytest.mark.parametrize(
    "change",
    [
        {"pid_started": 1},
        {"pid_namespace": "pid:[1]"},
        {"boot_id": "another"},
        {"pid": 2**31 - 1},
        {"kind": TickKind.RELEASE},
    ],
    ids=str,
)
def test_what_is_not_that_tick_keeps_nobody_out(
    engine: Engine, journal: SQLiteJournal, other: TickStart, change: dict[str, object]
) -> None:
    """Another process with its pid, a pid of elsewhere; or an order, which takes no lock and runs beside ticks."""
    journal.open_tick(replace(other, **change))
    assert why_not_alone(engine, journal) is None


def test_a_pid_of_which_no_more_is_known_keeps_others_out_for_its_time(
    engine: Engine, journal: SQLiteJournal, other: TickStart
) -> None:
    journal.open_tick(replace(other, pid_started=None, pid_namespace=None))
    assert isinstance(why_not_alone(engine, journal), LockedError)
    assert why_not_alone(engine, journal, (other.ends_by - engine.now) + timedelta(minutes=11)) is None


def test_a_tick_is_not_kept_out_by_one_of_its_own_process(engine: Engine, journal: SQLiteJournal) -> None:
    """Or by a dead one whose pid it was given."""
    ours = own_process()
    journal.open_tick(replace(engine.start(), pid=ours.pid, pid_started=ours.started, boot_id=ours.boot_id))
    assert why_not_alone(engine, journal) is None


def test_a_lock_that_is_gone_when_the_tick_begins(engine: Engine, journal: SQLiteJournal) -> None:
    path = lock_path(engine.place.journal)
    with alone(path, journal, engine.now) as lock:
        check_lock(lock)
        path.unlink()
        with pytest.raises(LockedError, match=r"journal\.db\.lock: the lock was removed or replaced"):
            check_lock(lock)
        path.touch()
        with pytest.raises(LockedError):
            check_lock(lock)
