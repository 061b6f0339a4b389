"""On what it was measured: the machine and the versions, and nothing that says whose machine it is."""

import os
import platform
import re
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

GIB_IN_KIB = 1024 * 1024


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0))


def facts() -> Iterator[tuple[str, str]]:
    """What they are called, and what they are."""
    yield "date", datetime.now(UTC).date().isoformat()
    yield "cores", str(cores())
    yield "processor", _found(Path("/proc/cpuinfo"), r"model name\s*: (.*)") or platform.machine()
    memory = _found(Path("/proc/meminfo"), r"MemTotal:\s*(\d+) kB")
    yield "memory", f"{int(memory) / GIB_IN_KIB:.0f} GiB" if memory else "unknown"
    # Its number alone: what stands behind it may name who built it.
    yield "kernel", f"{platform.system()} {re.split(r'[^0-9.]', platform.release())[0]}"
    yield "Python", platform.python_version()
    yield "SQLite", sqlite3.sqlite_version
    for package in ("typer", "autorelease"):
        yield package, version(package)


def _found(path: Path, pattern: str) -> str | None:
    found = re.search(pattern, path.read_text("utf-8")) if path.exists() else None
    return found[1] if found else None
