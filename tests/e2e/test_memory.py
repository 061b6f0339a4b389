"""The table is never loaded: memory does not grow with it."""

import sqlite3

import pytest

from tests.support.measured import run_measured
from tests.support.place import DAY, NOW, Place, command_provisioner
from tests.support.thorough import is_thorough

SMALL, LARGE = 10_000, 200_000 if is_thorough() else 100_000
# Beyond what the caches of SQLite hold of a plan.
FEW_DUE, MANY_DUE = 20_000, 60_000 if is_thorough() else 40_000
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


def fill_with_due(place: Place, count: int) -> None:
    """All of them are due."""
    place.make_ledger()
    with sqlite3.connect(place.ledger) as ledger:
        ledger.executemany(
            "INSERT INTO vm_allocations (sid, owner, vm_ref, status, expires_at) VALUES (?, ?, ?, 'Active', ?)",
            ((f"vm-{n:07}", f"customer-{n % 997}", f"ref-{n:07}", NOW - DAY - n) for n in range(count)),
        )
    ledger.close()


def test_memory_does_not_grow_with_what_is_left_for_the_next_tick(place: Place) -> None:
    """Half of it is beyond the limit, half of a provisioner that is down: written down as left, and forgotten."""
    place.configure(
        command_provisioner([place.folder / "missing"]),
        "[guard]\nmax_releases = 1000000\nmax_percent = 100\n",
    )
    peaks = []
    for count in (FEW_DUE, MANY_DUE):
        place.ledger.unlink(missing_ok=True)
        fill_with_due(place, count)
        ran, peak_kib = run_measured(place, "tick", "--once", "--json", "--limit", str(count // 2))
        assert (ran.code, ran.json()["skipped"]["deferred"]) == (8, count)
        assert len(ran.err.splitlines()) == 2
        peaks.append(peak_kib)
    [(written,)] = place.query("SELECT count(*) FROM events WHERE reason = 'deferred'", database=place.journal)
    assert written == MANY_DUE
    # What is admitted with the plan is kept in a few bytes for each.
    assert peaks[1] - peaks[0] < LIMIT_KIB, peaks
