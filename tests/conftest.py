"""Fixtures that every test may use."""

import os
import shutil
import signal
from contextlib import suppress
from importlib import import_module
from itertools import groupby
from math import ceil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.support import warm
from tests.support.journals import copy_journal
from tests.support.place import LEDGER_PROVISIONER, PERMISSIVE, Place
from tests.support.thorough import examples

# A host that is busy with others is no fault of an example. A test may ask for more of them, or for fewer.
settings.register_profile("patient", deadline=None, max_examples=examples())
settings.load_profile("patient")

HERE = Path(__file__).parent
# Measuring its coverage makes a process half as slow again. These go through every command and every shape of its
# output; what the others find out about the same lines they find out by their results.
MEASURED = ("e2e/test_commands", "e2e/test_report", "inspect/")
# Some of these take many seconds each: begun last, one would let the other processors wait.
LONG = ("machine/", "e2e/test_memory", "test_demo", "fuzz/", "faults/", "e2e/test_unusable")
# So much of the others comes among them: many of them wait, and what waits is best done beside what works.
AMONG_THEM = 0.7

# A suite that a shell has put in the background finds these ignored, and so would every process that it starts.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)

# A quarter of the suite's time would be the disk's flushes, and what a disk does when it is full is tried on disks of
# the tests' own.
MEMORY = Path("/dev/shm")  # noqa: S108 - each run has a folder of its own there
NEEDED_BYTES = 4 * 2**30
TEMPORARY = "PYTEST_DEBUG_TEMPROOT"


def pytest_configure(config: pytest.Config) -> None:
    """Let the tests' folders be in memory, where there is enough of it and nobody has named another place.

    Where coverage is measured, every start of the command is a real one.
    """
    if config.getoption("cov_source", None):
        os.environ[warm.REAL_STARTS] = "1"
    if TEMPORARY not in os.environ and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > NEEDED_BYTES:
        os.environ[TEMPORARY] = str(MEMORY)


def pytest_report_header() -> str:
    """Where they are, and how the command is started."""
    starts = "real, all of them" if os.environ.get(warm.REAL_STARTS) else "of a process that has loaded it, mostly"
    return (
        f"folders of the tests: {os.environ.get(TEMPORARY, 'on disk, as usual')} ({TEMPORARY})\n"
        f"starts of the command: {starts} ({warm.REAL_STARTS})"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Where several processes load all of the tests, each begins with others of them.

    Rewriting their assertions takes seconds, and is done by whoever comes to a file first; the others find it done.
    """
    share: dict[str, Any] | None = getattr(session.config, "workerinput", None)
    if share is None or session.config.args != session.config.getini("testpaths"):
        return
    files = sorted(HERE.rglob("test_*.py"))
    first = len(files) * int(share["workerid"].removeprefix("gw")) // share["workercount"]
    for path in files[first:] + files[:first]:
        # What cannot be loaded is told of when it is collected.
        with suppress(Exception, pytest.skip.Exception):
            import_module(".".join(path.relative_to(HERE.parent).with_suffix("").parts))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put one of those that take long before each of the other modules, while there are any; all else is random."""
    long = [item for item in items if _place_among_the_long(item) < len(LONG)]
    others = [item for item in items if _place_among_the_long(item) == len(LONG)]
    long.sort(key=_place_among_the_long)
    modules = [list(tests) for _, tests in groupby(others, key=lambda item: item.path)]
    # What modules have in common is made once.
    at_once = ceil(len(long) / max(1, AMONG_THEM * len(modules)))
    items.clear()
    for tests in modules:
        items.extend([*long[:at_once], *tests])
        del long[:at_once]
    items.extend(long)


def _place_among_the_long(item: pytest.Item) -> int:
    """The first of LONG that it belongs to; after them all, if it is none of these."""
    name = item.nodeid.removeprefix("tests/")
    return next((place for place, long in enumerate(LONG) if name.startswith(long)), len(LONG))


@pytest.fixture(autouse=True)
def _measured(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not request.path.relative_to(HERE).as_posix().startswith(MEASURED):
        monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)


@pytest.fixture
def real_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every start is one of the installed command itself."""
    monkeypatch.setenv(warm.REAL_STARTS, "1")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A configured place with an empty journal; the ledger is the test's to make."""
    made = Place(tmp_path)
    made.configure(LEDGER_PROVISIONER, PERMISSIVE)
    # As `init` does, which has tests of its own: a process less for every test.
    copy_journal(made.journal)
    return made
