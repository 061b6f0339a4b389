"""Arbitrary rows in a real sweep: each ends as an oracle of its own says, and every other byte stays what it was."""

import json
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.e2e.reports import schema, tick_report
from tests.e2e.test_garbage import UNTYPED, check_clean
from tests.fuzz.cases import ORDINARY_ROWS, ROWS_A_LEDGER, Case, are_plenty, ledgers, numbers, told
from tests.fuzz.oracle import END, FIRST, Fate, ends, fates, named, stamped_at
from tests.fuzz.values import NULL, ROLES, Meaning, Row, Stored, any_row, statement, text, word_of
from tests.support.here import run_here
from tests.support.place import LEDGER_PROVISIONER, NOW, PERMISSIVE, Place, Ran, command_provisioner, program

# Thousands of cases of lines that others measure: they would take twice as long.
pytestmark = pytest.mark.no_cover

PARTS = 4
WORDS = ("Released", "Terminated", "gone ", "it's over", "Straße")
NEVER: dict[str, list[tuple[int | float | str, ...]]] = {
    "epoch": [(), (0,), (0, "never", 1.5)],
    "epoch_ms": [(), (-1, "")],
    "iso8601": [(), ("9999-12-31", ""), ("infinity", 0)],
}
BESIDE = '[provisioners.second]\nkind = "ledger"\n'


def any_meaning(chance: Random, number: int) -> Meaning:
    """What the configuration of this ledger says; each kind of timestamp takes its turn."""
    kind, zone = [("epoch", None), ("epoch_ms", None), ("iso8601", None), ("iso8601", "Europe/Berlin")][number % 4]
    has_numbers = chance.random() < 0.25
    return Meaning(
        timestamps=kind,
        zone=zone,
        dates=chance.choice([None, "end", "start"]) if zone else None,
        released=3 if has_numbers else chance.choice(WORDS),
        inactive=chance.choice([(), (4,), (4, 5)] if has_numbers else [(), ("Cancelled",), ("", "0")]),
        live=chance.choice([(), (), (1,), (0, 1)] if has_numbers else [(), (), ("Active", "suspended")]),
        never=chance.choice(NEVER[kind]),
        where=chance.choice([None, None, "vps", 1]),
        has_deleted=chance.random() < 0.5,
        grace=chance.choice([0, 0, 172_800]),
    )


def sections(meaning: Meaning) -> str:
    """The lines of [ledger], and what stands after them."""
    words = [
        f"timestamps = {json.dumps(meaning.timestamps)}",
        f"released = {json.dumps(meaning.released, ensure_ascii=False)}",
        f"inactive = {json.dumps(meaning.inactive)}",
        f"live = {json.dumps(meaning.live)}",
        *([f"where = {{ kind = {json.dumps(meaning.where)} }}"] if meaning.where is not None else []),
        *([f"dates = {json.dumps(meaning.dates)}"] if meaning.dates else []),
        f"never = {json.dumps(meaning.never)}",
        *([f"timezone = {json.dumps(meaning.zone)}"] if meaning.zone else []),
        *(["columns = { deleted_at = 'deleted_at' }"] if meaning.has_deleted else []),
        f'[release]\ngrace = "{meaning.grace}s"\nconcurrency = 1\nattempts = 1',
    ]
    return "\n".join(words)


def stored_rows(place: Place) -> list[Row]:
    """Every row as it is stored, in the order of their making."""
    columns = ", ".join(f"typeof({role}), {role}" for role in ROLES)
    with closing(sqlite3.connect(f"file:{place.ledger}?mode=ro", uri=True)) as connection:
        connection.text_factory = bytes
        found = connection.execute(f"SELECT {columns} FROM vm_allocations ORDER BY rowid").fetchall()
    return [
        tuple(Stored(kind.decode(), value) for kind, value in zip(row[::2], row[1::2], strict=True)) for row in found
    ]


def fill(place: Place, rows: Sequence[Row]) -> None:
    """Make the ledger of these."""
    place.make_ledger(table=UNTYPED.replace("released_at", "released_at, deleted_at, kind"))
    insert, bound = statement(rows)
    with closing(sqlite3.connect(place.ledger)) as connection, connection:
        connection.executemany(insert, bound)


@contextmanager
def littered(place: Place, case: Case, *provisioners: str) -> Iterator[tuple[Place, Meaning, list[Row]]]:
    """A ledger of this case in a folder of its own, which is gone in the end; the journal is a new one."""
    chance = case.random()
    meaning = any_meaning(chance, case.number)
    with tempfile.TemporaryDirectory(dir=place.folder) as folder:
        here = Place(Path(folder))
        shutil.copyfile(place.journal, here.journal)
        here.configure(*(provisioners or (LEDGER_PROVISIONER, BESIDE, PERMISSIVE)), ledger=sections(meaning))
        fill(here, [any_row(chance, number, meaning, NOW) for number in range(ROWS_A_LEDGER)])
        rows = stored_rows(here)
        assert len(rows) == ROWS_A_LEDGER
        with told(case):
            yield here, meaning, rows


def instant(written: str) -> Fraction:
    """An instant of a report, exactly."""
    moment = datetime.fromisoformat(written)
    return Fraction(int(moment.replace(microsecond=0).timestamp())) + Fraction(moment.microsecond, 10**6)


def swept(
    ran: Ran, rows: Sequence[Row], meaning: Meaning, configured: Sequence[str]
) -> tuple[dict[str, Any], list[Fate]]:
    """The report of a sweep, held against what must become of each row."""
    report = ran.json()
    expected = fates(rows, meaning, instant(report["now"]), configured)
    count = Counter(expected)
    code = 8 if count[Fate.UNSERVED] else 3 if count[Fate.INVALID] else 0
    tick_report(ran, code)
    assert report["rows_examined"] == len(rows) - count[Fate.SETTLED] - count[Fate.ELSEWHERE]
    assert report["rows_invalid"] == count[Fate.INVALID]
    assert report["rows_expired"] == count[Fate.RELEASED] + count[Fate.UNSERVED]
    assert report["rows_released"] == count[Fate.RELEASED]
    assert report["skipped"]["no_provisioner"] == count[Fate.UNSERVED]
    assert briefly(row["sid"] for row in report["invalid"]) == of_fate(rows, expected, Fate.INVALID)
    assert all(row["reason"] for row in report["invalid"])
    return report, expected


def briefly(sids: "Iterator[str]") -> Counter[str]:
    """Sids by their beginnings: what is no text is not shown for ever."""
    return Counter(sid[:100] for sid in sids)


def of_fate(rows: Sequence[Row], expected: Sequence[Fate], *wanted: Fate) -> Counter[str]:
    """The names of the rows with this fate."""
    return briefly(named(row) for row, fate in zip(rows, expected, strict=True) if fate in wanted)


def edge(rows: Sequence[Row], meaning: Meaning, chance: Random) -> list[str]:
    """A moment to ask about: the very instant of the end of a row, or the least that there is after it."""
    within = [end for end in ends(rows, meaning) if FIRST <= end < END - 1]
    if not within:
        return []
    end = chance.choice(within) + Fraction(chance.randrange(2), 10**6)
    moment = datetime.fromtimestamp(int(end // 1), UTC).replace(microsecond=int(end % 1 * 10**6))
    return ["--at", moment.isoformat()]


def check_listing(
    place: Place, rows: Sequence[Row], meaning: Meaning, configured: Sequence[str], chance: Random
) -> None:
    """The listing shows each row that is to be released and each that is invalid, a line for each and nothing raw."""
    at = edge(rows, meaning, chance)
    ran = run_here(place, "list-expired", "--all", "--format", "json", *at)
    check_clean(ran, place)
    assert ran.code == 0
    found = ran.json()
    schema("list").validate(found)
    expected = fates(rows, meaning, instant(found["now"]), configured)
    listed = {
        decision: briefly(row["sid"] for row in found["rows"] if row["decision"] == decision)
        for decision in ("release", "invalid")
    }
    assert listed["release"] == of_fate(rows, expected, Fate.RELEASED)
    assert listed["invalid"] == of_fate(rows, expected, Fate.INVALID)
    plain = run_here(place, "list-expired", "--all", *at)
    check_clean(plain, place)
    lines = plain.out.split("\n")[:-1]
    assert plain.out.splitlines() == lines
    assert {line.count("\t") for line in lines} == {9}
    decisions = Counter(line.split("\t")[8] for line in lines)
    assert decisions["release"] == sum(listed["release"].values())
    assert decisions["invalid"] == sum(listed["invalid"].values())


def is_date(value: Stored) -> bool:
    """Whether a text, which is some instant, is a bare date."""
    return value.kind == "text" and isinstance(value.value, bytes) and len(value.value) == len("2026-12-01")


def check_stored(
    before: Sequence[Row], after: Sequence[Row], expected: Sequence[Fate], meaning: Meaning, report: dict[str, Any]
) -> None:
    """What was to be released is stamped; of every other row, and of every other column, each byte is what it was."""
    started, finished = instant(report["started_at"]), instant(report["finished_at"])
    for old, new, fate in zip(before, after, expected, strict=True):
        if fate is not Fate.RELEASED:
            assert new == old, fate
            continue
        was, now = dict(zip(ROLES, old, strict=True)), dict(zip(ROLES, new, strict=True))
        assert now["status"] == word_of(meaning.released)
        assert now["released_at"].kind == was["expires_at"].kind
        # Text may have no seconds, and an hour that comes twice is read as the later one; a date may be all there is.
        late, early = (86_400, 86_400) if meaning.dates and is_date(was["expires_at"]) else (3600, 60)
        assert started - early <= stamped_at(new, meaning) <= finished + late
        assert {**now, "status": 0, "released_at": 0} == {**was, "status": 0, "released_at": 0}


# --- the sweeps -------------------------------------------------------------------------------------------------------


def test_there_are_enough_rows() -> None:
    assert ORDINARY_ROWS >= 3000
    assert ledgers() * ROWS_A_LEDGER >= 3000 or not are_plenty()


@pytest.mark.parametrize("part", range(PARTS))
def test_rows_end_as_they_must_and_nothing_else_is_touched(
    part: int, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: Counter[Fate] = Counter()
    configured = ("default", "second")
    for case in numbers("rows", ledgers(), part, PARTS):
        # In some, pages end in the middle of what is equal, or odd.
        monkeypatch.setattr("autorelease.ledger.due.PAGE_ROWS", 7 if case.number % 3 == 0 else 2000)
        with littered(place, case) as (here, meaning, before):
            check_listing(here, before, meaning, configured, case.random())
            assert stored_rows(here) == before
            ran = run_here(here, "tick", "--once", "--json")
            check_clean(ran, here)
            report, expected = swept(ran, before, meaning, configured)
            check_stored(before, stored_rows(here), expected, meaning, report)
            seen.update(expected)
    if are_plenty():
        assert set(seen) == set(Fate)
        assert seen.total() == len(range(part, ledgers(), PARTS)) * ROWS_A_LEDGER


def test_the_installed_command_ends_rows_in_the_same_way(place: Place) -> None:
    """What is run in this process elsewhere is no other thing."""
    for case in numbers("installed", 2, 0, 1):
        with littered(place, case) as (here, meaning, before):
            plain = here.run("list-expired", "--all")
            check_clean(plain, here)
            assert plain.code == 0
            ran = here.run("--log-format", "json", "tick", "--once", "--json")
            check_clean(ran, here, log="json")
            report, expected = swept(ran, before, meaning, ("default", "second"))
            assert plain.out.count("\n") == 1 + report["rows_expired"] + report["rows_invalid"]
            check_stored(before, stored_rows(here), expected, meaning, report)
            # What is left is left again, and nothing more is said to be released.
            after = stored_rows(here)
            again = run_here(here, "tick", "--once", "--json").json()
            assert (again["rows_released"], again["rows_invalid"]) == (0, report["rows_invalid"])
            assert stored_rows(here) == after


def test_what_the_guard_refuses_stays_as_it_is(place: Place) -> None:
    for case in numbers("refused", 3, 0, 1):
        with littered(place, case, LEDGER_PROVISIONER, "[guard]\nmax_releases = 2\n") as (here, meaning, before):
            ran = run_here(here, "tick", "--once", "--json")
            check_clean(ran, here)
            report = tick_report(ran, 7)
            count = Counter(fates(before, meaning, instant(report["now"]), ("default",)))
            assert report["rows_invalid"] == count[Fate.INVALID]
            assert report["skipped"]["refused"] == count[Fate.RELEASED] > 2
            assert report["skipped"]["no_provisioner"] == count[Fate.UNSERVED]
            assert stored_rows(here) == before


LONGEST = 131_071


def can_be_an_argument(row: Row) -> bool:
    """Whether a program can be given the name of this VM, and will not take it for an option."""
    named_by = dict(zip(ROLES, row, strict=True))
    name = named_by["sid"] if named_by["vm_ref"] in (NULL, text("")) else named_by["vm_ref"]
    said = name.value if isinstance(name.value, bytes) else str(name.value).encode()
    return not said.startswith(b"-") and b"\x00" not in said and len(said) <= LONGEST


def test_a_program_is_given_exactly_what_is_to_be_released(place: Place) -> None:
    log = place.folder / "given"
    script = program(place.folder, f"printf '%s\\0' \"$AUTORELEASE_SID\" >> {log}")
    configured = command_provisioner([script, "{vm_ref}"])
    for case in numbers("programs", 2, 0, 1):
        log.write_bytes(b"")
        with littered(place, case, configured, PERMISSIVE) as (here, meaning, before):
            ran = run_here(here, "tick", "--once", "--json")
            check_clean(ran, here)
            report = ran.json()
            expected = fates(before, meaning, instant(report["now"]), ("default",))
            fitting = [
                Fate.RELEASED if fate is Fate.RELEASED and can_be_an_argument(row) else Fate.UNSERVED
                for row, fate in zip(before, expected, strict=True)
            ]
            tick_report(ran, 8 if Fate.UNSERVED in expected else 3)
            assert report["rows_released"] == fitting.count(Fate.RELEASED)
            assert report["rows_failed"] == expected.count(Fate.RELEASED) - report["rows_released"]
            check_stored(before, stored_rows(here), fitting, meaning, report)
            given = Counter(log.read_text("utf-8").split("\0")[:-1])
            # A sid that no variable can hold is left out of the environment.
            wanted = of_fate(before, fitting, Fate.RELEASED)
            assert briefly(iter(given.elements())) - wanted == Counter({"": given[""]})
            assert given.total() == wanted.total()
