"""What is listed is what would be done, and looking leaves no trace."""

import fcntl
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.e2e.reports import footprint, listed, sweep, tick_report
from tests.support.place import (
    DAY,
    LEDGER_PROVISIONER,
    NOW,
    Place,
    Ran,
    allocation,
    command_provisioner,
    fresh_environment,
    program,
)
from tests.support.thorough import is_thorough

# No type at all, so that every storage class stays what it is, and no key, so that sids can be shared.
UNTYPED = """
CREATE TABLE vm_allocations (sid, owner, plan, provisioner, vm_ref, vm_uid, status, expires_at, released_at)
"""
UNLIMITED = "[guard]\nmax_percent = 100\nmax_releases = 1000000\n"
MICROSECOND = timedelta(microseconds=1)

# The whole command in a process of its own, at another time. The first argument is that time.
RUNNER = """
import sys
from datetime import datetime
import autorelease.cli
import autorelease.cli.sweep
moment = datetime.fromisoformat(sys.argv[1])
autorelease.cli.sweep.clock = lambda: moment
"""
# The same, with the bound that narrows what SQL fetches moved by a second, to the wrong side.
MOVED = """
from datetime import timedelta
import autorelease.ledger.due as due
bound = due.certainly_unexpired_from
due.certainly_unexpired_from = lambda at, words: bound(at - timedelta(seconds=1), words)
"""
RUN = "sys.exit(autorelease.cli.run(sys.argv[2:]))\n"


def tick_at(place: Place, moment: datetime, changes: str = "") -> Ran:
    """Sweep as if it were `moment`."""
    arguments = ["--config", str(place.config), "--log-level", "error", "tick", "--once", "--json"]
    ran = subprocess.run(
        [sys.executable, "-c", RUNNER + changes + RUN, moment.isoformat(), *arguments],
        env=fresh_environment(place.folder),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return Ran(ran.returncode, ran.stdout, ran.stderr)


def stored_rows(place: Place) -> dict[int, tuple[Any, ...]]:
    """Every row as it is stored, bytes and all, by its row id."""
    connection = sqlite3.connect(f"file:{place.ledger}?mode=ro", uri=True)
    connection.text_factory = bytes
    try:
        return {row[0]: row[1:] for row in connection.execute("SELECT rowid, * FROM vm_allocations")}
    finally:
        connection.close()


def stamped_sids(before: dict[int, tuple[Any, ...]], after: dict[int, tuple[Any, ...]]) -> list[str]:
    """The sids of the rows that differ, each of which must be a stamped one."""
    changed = [row for row in after if before[row] != after[row]]
    assert before.keys() == after.keys()
    assert all(after[row][6] == b"Released" for row in changed)
    return [_as_text(before[row][0]) for row in changed]


def _as_text(sid: Any) -> str:
    return sid.decode("utf-8") if isinstance(sid, bytes) else str(sid)


def check_that_the_listing_is_what_a_tick_does(place: Place, moment: datetime, changes: str = "") -> list[str]:
    """The property: the sids listed at an instant are those that a tick at that instant stamps; gives them back."""
    before = stored_rows(place)
    found = listed(place, "--at", moment.isoformat())
    assert stored_rows(place) == before
    ran = tick_at(place, moment, changes)
    report = tick_report(ran, ran.code)
    assert ran.code in (0, 3), ran.err
    stamped = stamped_sids(before, stored_rows(place))
    assert Counter(row["sid"] for row in found["rows"]) == Counter(stamped)
    assert report["rows_released"] == len(stamped) == found["counts"]["release"]
    assert report["rows_invalid"] == found["counts"]["invalid"]
    return stamped


# --- generated ledgers ----------------------------------------------------------------------------------------------

CLOSE = [timedelta(0), MICROSECOND, timedelta(milliseconds=1), timedelta(milliseconds=999), timedelta(seconds=1)]
FAR = [timedelta(minutes=1), timedelta(hours=1), timedelta(days=1), timedelta(days=2), timedelta(days=400)]
distances = st.sampled_from([sign * distance for distance in (*CLOSE, *FAR) for sign in (-1, 1)])
moments = st.datetimes(
    min_value=datetime(2002, 1, 1),  # noqa: DTZ001 - the strategy wants naive bounds and adds the zone
    max_value=datetime(2190, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)
garbage: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.integers(min_value=-(2**63), max_value=2**63 - 1),
    st.floats(allow_nan=False),
    st.text(max_size=30),
    st.binary(max_size=12),
    st.sampled_from(
        ["2026-02-30T00:00:00Z", "2026-01-01", "20260101T000000Z", "2026-01-01T00:00:00z", "0", "", "never"]
    ),
)
surrogate_free = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
any_sid: st.SearchStrategy[Any] = st.one_of(
    st.integers(min_value=0, max_value=10**6),
    st.sampled_from(["vm-1", "VM-1", "vm-1 ", "1", "01", "ü", "-", "a\nb", "a\tb", "🜂"]),
    surrogate_free,
)


def seconds_since_epoch(instant: datetime) -> int:
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)


@st.composite
def spelt(draw: st.DrawFn, kind: str, instant: datetime) -> Any:
    """An instant as a ledger of this kind could hold it, which rounds it to what the spelling can say."""
    units = {"epoch": 1, "epoch_ms": 1000}.get(kind)
    if units is not None:
        exact = (instant - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(seconds=1) * units
        return draw(st.sampled_from([int(exact), float(int(exact)), exact, int(exact) + 1]))
    hours = draw(st.integers(min_value=-14, max_value=14))
    minutes = draw(st.sampled_from([0, 30, 45]))
    ahead = timedelta(hours=hours, minutes=minutes if hours >= 0 else -minutes)
    local = instant + ahead
    sign = "-" if ahead < timedelta(0) else "+"
    offset = (
        f"{sign}{abs(hours):02d}:{minutes:02d}" if ahead else draw(st.sampled_from(["Z", "+00:00", "+00", "-00:00"]))
    )
    fraction = draw(st.sampled_from(["", ".%f", ".%f000", ".%f001"])).replace("%f", f"{local.microsecond:06d}")
    separator, space = draw(st.sampled_from("T ")), draw(st.sampled_from(["", " "]))
    return f"{local:%Y-%m-%d}{separator}{local:%H:%M:%S}{fraction}{space}{offset}"


@st.composite
def rows(draw: st.DrawFn, kind: str, moment: datetime) -> dict[str, Any]:
    """A row about which most is right, close to the moment or far from it."""
    instant = moment + draw(distances)
    expires_at = draw(spelt(kind, instant)) if draw(st.integers(0, 5)) else draw(garbage)
    return {
        "sid": draw(any_sid) if draw(st.integers(0, 9)) else draw(garbage),
        "status": draw(st.sampled_from(["Active"] * 6 + ["Released", "released ", "Cancelled", "", None, 7])),
        "expires_at": expires_at,
        "released_at": draw(garbage) if not draw(st.integers(0, 9)) else None,
        "vm_ref": draw(st.sampled_from([None] * 6 + ["vm-1", 1, "x", b"\xff"])),
        "owner": draw(garbage) if not draw(st.integers(0, 9)) else None,
    }


@st.composite
def ledgers(draw: st.DrawFn, kind: str) -> tuple[datetime, list[dict[str, Any]]]:
    """A moment and a ledger of many rows about it."""
    moment = draw(moments)
    # A fixed few around the moment, so that no ledger is without something due and something that just is not.
    fixed = [
        {"sid": f"fixed {distance}", "status": "Active", "expires_at": draw(spelt(kind, moment + distance))}
        for distance in (-timedelta(days=1), -MICROSECOND, timedelta(0), MICROSECOND, timedelta(days=1))
    ]
    return moment, [*draw(st.lists(rows(kind, moment), min_size=20, max_size=80)), *fixed]


@pytest.mark.parametrize("kind", ["epoch", "epoch_ms", "iso8601"])
@settings(
    max_examples=6 if is_thorough() else 2,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)
@given(data=st.data())
def test_what_is_listed_is_what_a_tick_does(place: Place, kind: str, data: st.DataObject) -> None:
    moment, generated = data.draw(ledgers(kind))
    with tempfile.TemporaryDirectory(dir=place.folder) as folder:
        # A copy of a fresh journal for each ledger: making one takes longer than the whole sweep.
        shutil.copy(place.journal, folder)
        here = Place(Path(folder))
        here.configure(
            LEDGER_PROVISIONER,
            UNLIMITED,
            ledger=f'timestamps = "{kind}"\ninactive = ["Cancelled"]\nnever = [0, "never"]',
        )
        here.make_ledger(generated, table=UNTYPED)
        assert f"fixed {-timedelta(days=1)}" in check_that_the_listing_is_what_a_tick_does(here, moment)


def test_the_property_can_fail(place: Place) -> None:
    """With the SQL bound moved by a second a tick no longer finds the row that has just expired."""
    moment = datetime(2026, 1, 15, 12, 0, 0, 500_000, tzinfo=UTC)
    ledger = [allocation("just", seconds_since_epoch(moment)), allocation("long-ago", 1_600_000_000)]
    place.configure(LEDGER_PROVISIONER, UNLIMITED)
    place.make_ledger(ledger)
    with pytest.raises(AssertionError, match="Counter"):
        check_that_the_listing_is_what_a_tick_does(place, moment, MOVED)
    assert place.released() == {"long-ago"}


# --- no trace -------------------------------------------------------------------------------------------------------

LOOKS = [
    ("list-expired",),
    ("list-expired", "--at", "+72h", "--all", "--format", "json"),
    ("tick", "--once", "--dry-run", "--json"),
]


def check_no_trace(place: Place) -> None:
    """Look in every way there is; the folder, and every byte in it, stays what it was."""
    before = footprint(place.folder)
    for arguments in LOOKS:
        ran = place.run(*arguments)
        assert ran.code == 0, ran.err
        assert footprint(place.folder) == before, arguments
    assert place.released() == set()


def test_looking_leaves_no_trace(place: Place) -> None:
    place.make_ledger([allocation("due", NOW - DAY), allocation("later", NOW + DAY)])
    check_no_trace(place)


def test_looking_after_a_tick_leaves_no_trace(place: Place) -> None:
    place.make_ledger([allocation("due", NOW - DAY)])
    sweep(place)
    place.execute("UPDATE vm_allocations SET status = 'Active', released_at = NULL, expires_at = ?", NOW - 2 * DAY)
    check_no_trace(place)


def test_looking_without_a_journal_makes_none(place: Place) -> None:
    place.make_ledger([allocation("due", NOW - DAY)])
    for path in place.folder.glob("journal.db*"):
        path.unlink()
    check_no_trace(place)


def test_looking_at_a_wal_ledger_at_rest_leaves_no_trace(place: Place) -> None:
    place.make_ledger([allocation("due", NOW - DAY)], wal=True)
    assert not list(place.folder.glob("*-wal"))
    check_no_trace(place)


def test_looking_at_a_wal_ledger_in_use_leaves_no_trace(place: Place) -> None:
    place.make_ledger([allocation("due", NOW - DAY)], wal=True)
    connection = sqlite3.connect(place.ledger)
    with connection:
        connection.execute("INSERT INTO vm_allocations (sid, status, expires_at) VALUES ('new', 'Active', 1700000000)")
    try:
        assert {path.suffix for path in place.folder.glob("allocations.*")} == {".db", ".db-wal", ".db-shm"}
        check_no_trace(place)
        # What is in the -wal alone is seen, too.
        assert listed(place)["counts"]["release"] == 2
    finally:
        connection.close()


def leave_crashed(place: Place, *ends: str) -> None:
    """Make the ledger what a kill of its program would leave: these files, with one row in the -wal alone."""
    place.make_ledger([allocation("due", NOW - DAY)], wal=True)
    connection = sqlite3.connect(place.ledger)
    with connection:
        connection.execute("INSERT INTO vm_allocations (sid, status, expires_at) VALUES ('new', 'Active', 1700000000)")
    for end in ("", *ends):
        shutil.copy(f"{place.ledger}{end}", place.folder / f"crashed.db{end}")
    connection.close()
    place.ledger.unlink()
    place.ledger = place.folder / "crashed.db"
    place.configure(LEDGER_PROVISIONER, UNLIMITED)


def test_looking_at_a_wal_ledger_whose_program_crashed_leaves_no_trace(place: Place) -> None:
    leave_crashed(place, "-wal", "-shm")
    check_no_trace(place)
    assert listed(place)["counts"]["release"] == 2


def test_looking_at_a_wal_without_its_shm_changes_nothing_that_is_there(place: Place) -> None:
    """As a backup that forgot the -shm. SQLite needs one to read the -wal, and to remove it is not ours: by then
    another program may use it. It must be one that the ledger's owner can use.
    """
    leave_crashed(place, "-wal")
    before = footprint(place.folder)
    assert listed(place)["counts"]["release"] == 2
    after = footprint(place.folder)
    assert after.keys() - before.keys() <= {"crashed.db-shm"}
    assert {name: after[name] for name in before} == before
    for shared in place.folder.glob("crashed.db-shm"):
        assert shared.stat().st_uid == place.ledger.stat().st_uid
        assert shared.stat().st_mode == place.ledger.stat().st_mode


def test_looking_asks_no_provisioner_and_takes_no_lock(place: Place) -> None:
    script = program(place.folder, f"touch {place.folder}/ran")
    place.configure(command_provisioner([script]), UNLIMITED)
    place.make_ledger([allocation("due", NOW - DAY)])
    with place.journal.with_name("journal.db.lock").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        check_no_trace(place)
    # Not even whether the program is there is asked: that is what a tick begins with.
    script.unlink()
    check_no_trace(place)
