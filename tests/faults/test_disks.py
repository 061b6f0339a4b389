"""A disk that is full or read-only, from the start or in mid-tick: nothing is lost, and afterwards all goes on."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.reports import error_report, tick_report
from tests.faults.disks import WAYS, Disk, Tmpfs, copy_back, namespace, tmpfs
from tests.faults.underway import SIDS, Underway
from tests.support.place import Place


@pytest.fixture(params=WAYS)
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    with WAYS[request.param](tmp_path / "disk") as made:
        yield made


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Tmpfs]:
    """A file system that can be mounted anew: as root may, else as whoever has a namespace may."""
    make = tmpfs if os.geteuid() == 0 else namespace
    with make(tmp_path / "disk") as made:
        yield made


# --- full -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["ledger", "journal"])
def test_a_disk_that_is_full_at_the_start(place: Place, disk: Disk, which: str) -> None:
    tick, database = on_disk(place, disk, which)
    before = (disk.seen / database.name).read_bytes()
    disk.fill()
    tick.before = disk.before_when_full
    message = error_report(tick.run(), 5)["message"]
    assert str(database) in message
    assert "room on it" in message
    assert tick.calls() == []
    assert (disk.seen / database.name).read_bytes() == before
    disk.make_room()
    tick.before = disk.before
    tick.go_on()
    assert tick_report(tick.run(), 0)["rows_released"] == len(SIDS)


@pytest.mark.parametrize("which", ["ledger", "journal"])
def test_a_disk_that_fills_up_in_mid_tick(place: Place, disk: Disk, which: str) -> None:
    tick, database = on_disk(place, disk, which)
    tick.start_and_stop_in_the_first_call()
    disk.fill(tick.pid)
    tick.go_on()
    tick.wait_for_log(f"nothing new is begun while the {which} cannot be used", str(database), "room on it")
    # What the journal cannot hold the ledger can.
    assert released(place, disk, which) == ({SIDS[0]} if which == "journal" else set())
    disk.make_room(tick.pid)
    tick.check_recovered()
    assert released(place, disk, which) == set(SIDS)


# Of the database on the disk no page fits where a limit on the size of files stands for a disk, and the other is small.
PAGES = {"ledger": 65536, "journal": 512}


def on_disk(place: Place, disk: Disk, which: str) -> tuple[Underway, Path]:
    """A tick to be, whose ledger or journal lies on the disk; and its path there."""
    database = place.ledger if which == "ledger" else place.journal
    path = disk.folder / database.name
    tick = Underway(place, before=disk.before, page_size=PAGES[which])
    tick.prepare(**{which: path})
    disk.take(database)
    return tick, path


def released(place: Place, disk: Disk, which: str) -> set[str]:
    """The sids that are Released in the ledger, wherever it is."""
    ledger = copy_back(place.ledger, disk, place.folder) if which == "ledger" else place.ledger
    found = place.query("SELECT sid FROM vm_allocations WHERE status = 'Released'", database=ledger)
    return {sid for (sid,) in found}


# --- read-only ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["ledger", "journal"])
def test_a_disk_that_is_mounted_read_only(place: Place, mounted: Tmpfs, which: str) -> None:
    tick, database = on_disk(place, mounted, which)
    before = (mounted.seen / database.name).read_bytes()
    mounted.remount("ro")
    ran = tick.run()
    message = error_report(ran, 5)["message"]
    assert str(database) in message
    assert "mounted read-only" in message
    assert tick.calls() == []
    # Looking needs no right to write.
    for arguments in (("list-expired",), ("history",)):
        assert tick.run(*arguments).code == 0
    assert (mounted.seen / database.name).read_bytes() == before
    mounted.remount("rw")
    tick.go_on()
    assert tick_report(tick.run(), 0)["rows_released"] == len(SIDS)
