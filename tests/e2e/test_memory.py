"""The table is never loaded: memory does not grow with it."""

import sqlite3

import pytest

from tests.support.measured import run_measured
from tests.support.place import DAY, NOW, Place

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


@pytest.mark.parametrize(
    "arguments", [("list-expired",), ("list-expired", "--all", "--format", "json"), ("tick", "--once", "--json")]
)
def test_memory_does_not_grow_with_the_table(place: Place, arguments: tuple[str, ...]) -> None:
    place.configure('[provisioners.default]\nkind = "ledger"\n', "[guard]\nmax_releases = 100000\n")
    peaks = []
    for count in (SMALL, LARGE):
        place.ledger.unlink(missing_ok=True)
        fill(place, count)
        ran, peak_kib = run_measured(place, *arguments)
        assert ran.code == 0, ran.err[-1000:]
        peaks.append(peak_kib)
        shown = ran.out.count(f"vm-{count}-")
        assert shown == count // 100 or len(place.released()) == count // 100
    assert peaks[1] - peaks[0] < LIMIT_KIB, peaks
