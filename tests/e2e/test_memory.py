"""The table is never loaded: memory does not grow with it."""

import os
import sqlite3
import subprocess
from pathlib import Path

import pytest

from tests.support.place import COMMAND, DAY, NOW, Place, fresh_environment

SMALL, LARGE = 10_000, 200_000
LIMIT_KIB = 10 * 1024


def fill(place: Place, count: int) -> None:
    """One row in a hundred is due. The journal has seen none of their sids before."""
    place.make_ledger()
    with sqlite3.connect(place.ledger) as ledger:
        ledger.executemany(
            "INSERT INTO vm_allocations (sid, owner, plan, vm_ref, status, expires_at) VALUES (?, ?, ?, ?, ?, ?)",
            (
                (
                    f"vm-{count}-{number:07d}",
                    f"customer-{number % 997}",
                    "basic",
                    f"ref-{number:07d}",
                    "Active",
                    expiry(number),
                )
                for number in range(count)
            ),
        )
    ledger.close()


def expiry(number: int) -> int:
    return NOW - DAY - number if number % 100 == 0 else NOW + DAY + number


def peak_kib(place: Place, *arguments: str | Path) -> int:
    """The largest resident size of one run of the command."""
    with (place.folder / "out").open("wb") as out, (place.folder / "err").open("wb") as err:
        process = subprocess.Popen(
            [COMMAND, "--config", place.config, *arguments], env=fresh_environment(place.folder), stdout=out, stderr=err
        )
        _, status, usage = os.wait4(process.pid, 0)
        # Collected by wait4, of which Popen knows nothing.
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, (place.folder / "err").read_text()[-1000:]
    return usage.ru_maxrss


@pytest.mark.parametrize(
    "arguments", [("list-expired",), ("list-expired", "--all", "--format", "json"), ("tick", "--once", "--json")]
)
def test_memory_does_not_grow_with_the_table(place: Place, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    place.configure('[provisioners.default]\nkind = "ledger"\n', "[guard]\nmax_releases = 100000\n")
    peaks = []
    for count in (SMALL, LARGE):
        place.ledger.unlink(missing_ok=True)
        fill(place, count)
        peaks.append(peak_kib(place, *arguments))
        shown = (place.folder / "out").read_text().count(f"vm-{count}-")
        assert shown == count // 100 or len(place.released()) == count // 100
    assert peaks[1] - peaks[0] < LIMIT_KIB, peaks
