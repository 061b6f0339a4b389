"""Ledger and journal that break, go away, or are in somebody else's hands while a tick works on them."""

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from autorelease import limits, sqlitefile
from tests.e2e.reports import error_report, tick_report
from tests.e2e.unprivileged import words_without_override
from tests.faults import hurried
from tests.faults.disks import Limit
from tests.faults.underway import SIDS, Underway, made_place
from tests.support.place import Place

NOTHING_NEW = "nothing new is begun while the {} cannot be used"
FIRST, *OTHERS = SIDS


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Another program has this database for itself."""
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        connection.close()


# --- locked ---------------------------------------------------------------------------------------------------------


def test_the_waits_that_are_cut_short_here() -> None:
    assert sqlitefile.BUSY_SECONDS == 10
    assert timedelta(seconds=60) == limits.STAMP_RESCUE


def test_a_ledger_and_a_journal_that_are_locked_in_mid_tick(place: Place, tmp_path: Path) -> None:
    """For longer than the busy time-out; both at the same time, because that takes its time."""
    another = made_place(tmp_path / "another")
    before = hurried.words(busy=1)
    ticks = {"ledger": Underway(place, before), "journal": Underway(another, before)}
    for tick in ticks.values():
        tick.prepare()
        tick.start_and_stop_in_the_first_call()
    with locked(place.ledger), locked(another.journal):
        for tick in ticks.values():
            tick.go_on()
        for which, tick in ticks.items():
            path = getattr(tick.place, which)
            tick.wait_for_log(NOTHING_NEW.format(which), str(path), "held it for 1 s")
            assert tick.calls() == [FIRST]
    for tick in ticks.values():
        tick.check_recovered()


# --- missing rights -------------------------------------------------------------------------------------------------


def test_a_folder_that_is_closed_in_mid_tick(place: Place) -> None:
    """SQLite makes its rollback journal there."""
    theirs = place.folder / "theirs"
    theirs.mkdir()
    tick = Underway(place, before=words_without_override())
    tick.prepare(ledger=theirs / "allocations.db")
    place.ledger = place.ledger.rename(theirs / "allocations.db")
    before = place.ledger.read_bytes()
    tick.start_and_stop_in_the_first_call()
    theirs.chmod(0o555)
    try:
        tick.go_on()
        tick.wait_for_log(
            NOTHING_NEW.format("ledger"), str(place.ledger), "check the rights of the file and its folder"
        )
        assert place.ledger.read_bytes() == before
        assert tick.calls() == [FIRST]
    finally:
        theirs.chmod(0o755)
    tick.check_recovered()


def test_a_journal_whose_folder_must_not_be_written(place: Place) -> None:
    ours = place.folder / "ours"
    ours.mkdir()
    tick = Underway(place, before=words_without_override())
    tick.prepare(journal=ours / "journal.db")
    for path in place.folder.glob("journal.db*"):
        path.rename(ours / path.name)
    before = place.ledger.read_bytes()
    ours.chmod(0o555)
    try:
        message = error_report(tick.run(), 5)["message"]
        assert f"{ours}: the folder of the journal cannot be written" in message
        assert "chmod g+w" in message
        assert tick.run("history").code == 0
    finally:
        ours.chmod(0o755)
    assert (tick.calls(), place.ledger.read_bytes()) == ([], before)
    tick.go_on()
    assert tick_report(tick.run(), 0)["rows_released"] == len(SIDS)


# --- damaged from the start -----------------------------------------------------------------------------------------


def damage_tables(journal: Path) -> None:
    """Overwrite every page but the first, which says that it is a journal."""
    size = journal.stat().st_size
    with journal.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (size - 4096))


def cut_off(journal: Path) -> None:
    """Leave half of it, as a copy that was interrupted."""
    os.truncate(journal, journal.stat().st_size // 2)


@pytest.mark.parametrize("damage", [damage_tables, cut_off])
def test_a_journal_that_is_damaged(place: Place, damage: Callable[[Path], None]) -> None:
    tick = Underway(place)
    tick.prepare()
    backup = place.journal.read_bytes()
    damage(place.journal)
    before, broken = place.ledger.read_bytes(), place.journal.read_bytes()
    message = error_report(tick.run(), 5)["message"]
    assert str(place.journal) in message
    assert "damaged: restore it from a backup" in message
    listed = tick.run("list-expired")
    assert (listed.code, "damaged" in listed.err) == (5, True)
    # Nothing is released without its record, and nothing is made better by guessing.
    assert (tick.calls(), place.ledger.read_bytes(), place.journal.read_bytes()) == ([], before, broken)
    place.journal.write_bytes(backup)
    tick.go_on()
    assert tick_report(tick.run(), 0)["rows_released"] == len(SIDS)


# --- broken for good ------------------------------------------------------------------------------------------------


def limit_files(tick: Underway) -> None:
    """A full disk, for this process: not one page fits into a rollback journal."""
    database = tick.place.ledger if tick.page_size > 4096 else tick.place.journal
    limit = Limit(tick.place.folder)
    limit.measure(database)
    limit.fill(tick.pid)


def remove(path: Path) -> None:
    path.rename(path.with_name(f"{path.name}.removed"))


def put_back(path: Path) -> None:
    path.with_name(f"{path.name}.removed").replace(path)


def back_up(path: Path) -> None:
    shutil.copy2(path, path.with_name(f"{path.name}.backup"))


def restore(path: Path) -> None:
    path.with_name(f"{path.name}.backup").replace(path)


def overwrite(path: Path) -> None:
    path.write_bytes(b"\xa5" * path.stat().st_size)


@dataclass(frozen=True, slots=True)
class ForGood:
    """Something that breaks in mid-tick and is not mended before the tick has given up.

    which: what breaks. breaks: how. said: words of the log. mended: how, before the next tick. page_size: the ledger's.
    """

    which: str
    breaks: Callable[[Underway], None]
    said: str
    mended: Callable[[Underway], None] = lambda _: None
    page_size: int = 4096

    def path(self, place: Place) -> Path:
        """The file that breaks."""
        return place.ledger if self.which == "ledger" else place.journal


def of(which: str, change: Callable[[Path], None]) -> Callable[[Underway], None]:
    """Change this file."""
    return lambda tick: change(tick.place.ledger if which == "ledger" else tick.place.journal)


BREAKAGES: dict[str, ForGood] = {
    "the ledger's disk is full": ForGood("ledger", limit_files, "room on it", page_size=65536),
    "the journal's disk is full": ForGood("journal", limit_files, "room on it", page_size=512),
    "the ledger is removed": ForGood("ledger", of("ledger", remove), "was removed or replaced", of("ledger", put_back)),
    "the journal is removed": ForGood(
        "journal", of("journal", remove), "was removed or replaced", of("journal", put_back)
    ),
    "a backup is moved to the ledger's place": ForGood("ledger", of("ledger", restore), "was removed or replaced"),
    "the ledger is overwritten": ForGood(
        "ledger", of("ledger", overwrite), "restore it from a backup", of("ledger", restore)
    ),
    "the journal is overwritten": ForGood(
        "journal", of("journal", overwrite), "restore it from a backup", of("journal", restore)
    ),
}


def test_what_breaks_in_mid_tick_for_good_is_carried_over(tmp_path: Path) -> None:
    """A tick keeps trying for a while what was earned: all of them at the same time."""
    ticks = {name: begin(tmp_path / str(number), breakage) for number, (name, breakage) in enumerate(BREAKAGES.items())}
    for name, breakage in BREAKAGES.items():
        tick = ticks[name]
        breakage.breaks(tick)
        tick.go_on()
    for name, breakage in BREAKAGES.items():
        tick = ticks[name]
        tick.wait_for_log(NOTHING_NEW.format(breakage.which), str(breakage.path(tick.place)), breakage.said)
        check_given_up(tick, breakage)
    for name, breakage in BREAKAGES.items():
        tick = ticks[name]
        breakage.mended(tick)
        check_carried_over(tick, breakage)


def begin(folder: Path, breakage: ForGood) -> Underway:
    """A tick in its first call; the ledger has a backup of before, and the journal one that has the intent."""
    place = made_place(folder)
    tick = Underway(place, hurried.words(rescue=timedelta(seconds=3)), breakage.page_size)
    tick.prepare()
    back_up(place.ledger)
    tick.start_and_stop_in_the_first_call()
    back_up(place.journal)
    return tick


def check_given_up(tick: Underway, breakage: ForGood) -> None:
    report = tick_report(tick.finish(), 5)
    assert tick.calls() == [FIRST]
    assert report["skipped"]["deferred"] == len(OTHERS)
    if breakage.which == "ledger":
        [error] = report["errors"]
        assert (error["sid"], error["retryable"]) == (FIRST, True)
        assert "released at the provisioner" in error["message"]
    else:
        assert report["rows_released"] == 1


def check_carried_over(tick: Underway, breakage: ForGood) -> None:
    """The next tick finds the VM gone and expected that; or the row Released, and writes the outcome."""
    report = tick_report(tick.run(), 0)
    was_stamped = breakage.which == "journal"
    assert report["rows_released"] == len(OTHERS)
    assert report["rows_already_released"] == (0 if was_stamped else 1)
    assert tick.calls() == [FIRST, *OTHERS] if was_stamped else sorted(tick.calls()) == [FIRST, *SIDS]
    assert tick.place.released() == set(SIDS)
    steps = tick.place.query("SELECT event, outcome FROM events WHERE sid = ?", FIRST, database=tick.place.journal)
    assert steps[-1] == ("outcome", "released" if was_stamped else "already_released")
