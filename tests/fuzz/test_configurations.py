"""Arbitrary configuration files: understood, or refused in words that name the file and the key; nothing else."""

import shutil
from collections import Counter
from pathlib import Path

import pytest

from tests.e2e.reports import error_report, schema, tick_report
from tests.e2e.test_garbage import LOG_LINE, RAW
from tests.fuzz.cases import ORDINARY_FILES, Case, are_plenty, files, numbers, told
from tests.fuzz.documents import Made, any_document
from tests.support.here import run_here
from tests.support.place import DAY, NOW, Place, Ran, allocation

# Thousands of cases of lines that others measure: they would take twice as long.
pytestmark = pytest.mark.no_cover

PARTS = 2
TICKED = (0, 3, 7, 8)
REFUSED = (4, 5)


@pytest.fixture
def kept(place: Place) -> Path:
    """What a folder has beside the configuration, to be put back before each case: a ledger, and what is none."""
    place.make_ledger(
        [
            *(allocation(f"due-{number}", NOW - DAY, owner="alma", vm_ref=f"vm-{number}") for number in range(3)),
            *(allocation(f"paid-{number}", NOW + DAY) for number in range(3)),
            allocation("gone", NOW - DAY, "Released", released_at=NOW - 5),
            allocation("odd", "soon"),
            allocation("cancelled", NOW - DAY, "Cancelled"),
        ]
    )
    place.execute("CREATE VIEW view_of_it AS SELECT * FROM vm_allocations")
    place.execute('CREATE TABLE "odd "" table\'" AS SELECT * FROM vm_allocations')
    (place.folder / "empty.db").touch()
    (place.folder / "broken.db").write_bytes(place.ledger.read_bytes()[:5000])
    (place.folder / "loop.db").symlink_to("loop.db")
    (place.folder / "folder").mkdir()
    copy = place.folder / "kept"
    copy.mkdir()
    for path in (place.ledger, place.journal):
        shutil.copyfile(path, copy / path.name)
    return copy


def put_back(place: Place, kept: Path) -> None:
    """Ledger and journal as they were; what a case has made beside them stays."""
    for path in kept.iterdir():
        shutil.copyfile(path, place.folder / path.name)


def check_said(ran: Ran) -> None:
    """No bug, nothing raw, and each line of the log is one."""
    assert ran.code != 1, ran.err
    assert "Traceback" not in ran.err
    assert not RAW.search(ran.out + ran.err)
    for line in ran.err.split("\n")[:-1]:
        assert LOG_LINE.match(line), line[:200]


def check_refusal(ran: Ran, place: Place, made: Made) -> None:
    """On exit 4 the message names the file, and the key where a key is at fault."""
    assert str(place.config) in ran.err
    if made.at_fault and "is not valid TOML" not in ran.err:
        # As Python would show it: escapes are doubled, and what is long is cut.
        assert made.at_fault[:30] in ran.err


def contents(place: Place) -> list[tuple[object, ...]]:
    """All rows of the ledger."""
    return [*place.query("SELECT * FROM vm_allocations"), *place.query('SELECT * FROM "odd "" table\'"')]


def check_tick(ran: Ran, place: Place, kept: Path, made: Made) -> None:
    """What a tick of an arbitrary configuration says is what it did."""
    check_said(ran)
    assert ran.code in (*TICKED, *REFUSED)
    untouched = (kept / place.ledger.name).read_bytes()
    if ran.code in REFUSED:
        error_report(ran, ran.code)
        assert place.ledger.read_bytes() == untouched
        return
    report = tick_report(ran, ran.code)
    after = contents(place)
    put_back(place, kept)
    changed = sum(old != new for old, new in zip(contents(place), after, strict=True))
    assert changed == report["rows_released"]


def try_out(place: Place, kept: Path, case: Case) -> tuple[int, int]:
    """A listing with the configuration of this case, and then a tick; returns how they ended."""
    made = any_document(case.random())
    put_back(place, kept)
    place.config.write_bytes(made.content)
    listed = run_here(place, "list-expired", "--format", "json", "--all")
    check_said(listed)
    assert listed.code in (0, *REFUSED)
    assert place.ledger.read_bytes() == (kept / place.ledger.name).read_bytes()
    if listed.code == 0:
        schema("list").validate(listed.json())
    if listed.code == 4:
        check_refusal(listed, place, made)
    if case.number % (8 if listed.code == 4 else 3):
        return listed.code, listed.code
    ticked = run_here(place, "tick", "--once", "--json")
    check_tick(ticked, place, kept, made)
    # A listing needs no section of a provisioner: who looks is told so row by row.
    is_unserved = "no provisioner is configured" in ticked.err
    assert (ticked.code == 4) == (listed.code == 4 or is_unserved)
    if case.number % 40 == 0:
        for command in ("doctor", "health", "upcoming"):
            looked = run_here(place, command)
            check_said(looked)
            assert looked.code in ((0, 9) if command == "doctor" else (0, 4, 5, 9))
    return listed.code, ticked.code


def test_there_are_enough_files() -> None:
    assert ORDINARY_FILES >= 1000
    assert files() >= 1000 or not are_plenty()


@pytest.mark.parametrize("part", range(PARTS))
def test_a_configuration_is_understood_or_refused_with_its_file_and_key(part: int, place: Place, kept: Path) -> None:
    ended: Counter[tuple[int, int]] = Counter()
    for case in numbers("files", files(), part, PARTS):
        with told(case):
            ended[try_out(place, kept, case)] += 1
    if are_plenty():
        assert ended.total() == len(range(part, files(), PARTS))
        assert {listed for listed, _ in ended} == {0, 4, 5}
        assert {ticked for _, ticked in ended} >= {3, 4, 5, 7}
