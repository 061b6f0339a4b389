"""Clocks that are wrong for one process: faketime(1) stands for a clock that somebody, or a bad battery, has set.

Only the wall clock is another; the monotonic clock and the time since boot stay what they are.
"""

import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest

from tests.support.tools import tool

# The library for programs with threads; files keep the times that the kernel gives them.
FAKETIME = ("env", "NO_FAKE_STAT=1", "faketime", "-m", "--exclude-monotonic", "-f")


def off_by(offset: str) -> list[str]:
    """What to start a command with, so that its clock is off by this: +3h, -2h, +30d."""
    _need_faketime()
    return [*FAKETIME, offset]


def set_to(instant: datetime) -> list[str]:
    """What to start a command with, so that its clock begins at this instant."""
    _need_faketime()
    return ["env", "TZ=UTC", *FAKETIME, f"@{instant.astimezone(UTC):%Y-%m-%d %H:%M:%S}"]


@dataclass(frozen=True, slots=True)
class Steered:
    """A clock that can be set while a process runs."""

    file: Path

    def set_off_by(self, offset: str) -> None:
        """From now on it is off by this."""
        made = self.file.with_suffix(".new")
        made.write_text(f"{offset}\n", encoding="ascii")
        made.replace(self.file)

    def words(self) -> list[str]:
        """What to start a command with, so that it has this clock."""
        _need_faketime()
        # An offset in its environment would come before the file.
        return [*FAKETIME, "+0", "env", "-u", "FAKETIME", f"FAKETIME_TIMESTAMP_FILE={self.file}", "FAKETIME_NO_CACHE=1"]


def _need_faketime() -> None:
    tool("faketime", "faketime")
    if (complaint := _complaint()) is not None:
        pytest.skip(f"needs faketime(1) to give a process another clock, and here it cannot: {complaint}")


@cache
def _complaint() -> str | None:
    """Why there is no other clock here."""
    tried = subprocess.run([*FAKETIME, "-2d", "true"], capture_output=True, text=True, check=False)
    return tried.stderr.strip() if tried.returncode else None
