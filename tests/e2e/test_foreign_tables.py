"""Ledgers that other programs made: described by the configuration alone, and nothing but the stamp changes in them."""

import re
import sqlite3
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.e2e.reports import listed, sids, sweep
from tests.support.foreign import BERLIN_WALL_CLOCK, FOREIGN_TABLES, ForeignTable
from tests.support.place import LEDGER_PROVISIONER, PERMISSIVE, Place

# With a fraction that every spelling can say in its own way.
NOW = datetime.now(UTC).replace(microsecond=123_000)
DUE = [timedelta(seconds=2), timedelta(hours=3), timedelta(days=45, microseconds=456), timedelta(days=900)]
NOT_DUE = [timedelta(hours=1), timedelta(days=2), timedelta(days=900)]


def fill(place: Place, foreign: ForeignTable, instants: list[datetime | None]) -> None:
    """Make the table as its program does, and a row for each instant."""
    connection = sqlite3.connect(place.ledger)
    if foreign.wal:
        connection.execute("PRAGMA journal_mode = WAL")
    for statement in foreign.statements:
        connection.execute(statement)
    connection.commit()
    connection.close()
    released_at = foreign.spell(NOW - timedelta(days=1))
    place.insert(
        [
            *(
                {
                    foreign.sid: foreign.identity(number),
                    foreign.status: foreign.active,
                    foreign.expires_at: foreign.spell(instant) if instant else None,
                    **foreign.row(number),
                }
                for number, instant in enumerate(instants)
            ),
            {
                foreign.sid: foreign.identity(99),
                foreign.status: foreign.released,
                foreign.expires_at: foreign.spell(NOW - timedelta(days=2)),
                foreign.released_at: released_at,
                **foreign.row(99),
            },
        ],
        table=foreign.table,
    )
    head = f'table = "{foreign.table}"\nreleased = "{foreign.released}"\n'
    place.configure(LEDGER_PROVISIONER, PERMISSIVE, ledger=head + foreign.settings)


def contents(place: Place, foreign: ForeignTable) -> dict[Any, dict[str, Any]]:
    """Every row by its sid, each value with its storage class."""
    connection = sqlite3.connect(f"file:{place.ledger}?mode=ro", uri=True)
    try:
        names = [name for _, name, *_ in connection.execute(f'PRAGMA table_info("{foreign.table}")')]
        selected = ", ".join(f'"{name}", typeof("{name}")' for name in names)
        found = {}
        for row in connection.execute(f'SELECT {selected} FROM "{foreign.table}"'):
            pairs = zip(row[::2], row[1::2], strict=True)
            values = dict(zip(names, pairs, strict=True))
            found[values[foreign.sid][0]] = values
        return found
    finally:
        connection.close()


def schema_of(place: Place) -> tuple[Any, ...]:
    """All that the database says of itself."""
    pragmas = (
        "journal_mode",
        "user_version",
        "application_id",
        "auto_vacuum",
        "page_size",
        "encoding",
        "schema_version",
    )
    return (
        place.query("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name"),
        [place.query(f"PRAGMA {name}") for name in pragmas],
        place.query("PRAGMA integrity_check"),
    )


@pytest.mark.parametrize("name", FOREIGN_TABLES)
def test_a_foreign_table_is_swept_and_nothing_but_the_stamp_changes(place: Place, name: str) -> None:
    foreign = FOREIGN_TABLES[name]
    instants: list[datetime | None] = [*(NOW - ago for ago in DUE), *(NOW + ahead for ahead in NOT_DUE), None]
    fill(place, foreign, instants)
    before, schema_before = contents(place, foreign), schema_of(place)
    due = {foreign.identity(number) for number in range(len(DUE))}
    assert sids(listed(place)) == {str(sid) for sid in due}
    report = sweep(place)
    assert report["rows_examined"] == len(instants)
    assert (report["rows_released"], report["rows_invalid"]) == (len(DUE), 0)
    after = contents(place, foreign)
    assert before.keys() == after.keys()
    began = datetime.fromisoformat(report["started_at"])
    ended = datetime.fromisoformat(report["finished_at"])
    for sid, row in after.items():
        if sid not in due:
            assert row == before[sid]
            continue
        status, (released_at, storage) = row.pop(foreign.status), row.pop(foreign.released_at)
        assert status == (foreign.released, "text")
        pattern, storage_before = before[sid][foreign.expires_at]
        assert storage == storage_before
        assert spelling(released_at) == spelling(pattern)
        assert began - foreign.precision < foreign.read(released_at) <= ended
        assert row.items() <= before[sid].items()
        assert len(row) == len(before[sid]) - 2
    assert schema_of(place) == schema_before
    assert sweep(place)["rows_expired"] == 0


def spelling(stored: Any) -> str:
    """The shape of an instant: its digits masked."""
    return re.sub(r"\d", "0", str(stored))


SPRING = "2024-03-31T02:30:00"
AUTUMN = "2024-10-27T02:30:00"


# As stored, and the last instant at which the owner still has the VM.
CHANGES_OF_THE_CLOCK = {
    # The clock went from 02:00 to 03:00, this time never was: read as winter time it is 01:30 UTC, the later one.
    SPRING: "2024-03-31T01:30:00Z",
    "2024-03-31T01:59:59": "2024-03-31T00:59:59Z",
    "2024-03-31T03:00:00": "2024-03-31T01:00:00Z",
    # The clock went from 03:00 back to 02:00, this time was twice: 00:30 and 01:30 UTC.
    AUTUMN: "2024-10-27T01:30:00Z",
    "2024-10-27T01:59:59": "2024-10-26T23:59:59Z",
    "2024-10-27T03:00:00": "2024-10-27T02:00:00Z",
}


def test_over_the_changes_of_the_clock_the_later_reading_holds(place: Place) -> None:
    foreign = BERLIN_WALL_CLOCK
    fill(place, foreign, [])
    place.insert(
        (
            {foreign.sid: stored, foreign.status: foreign.active, foreign.expires_at: stored}
            for stored in CHANGES_OF_THE_CLOCK
        ),
        table=foreign.table,
    )
    assert {row["sid"]: row["expires_at"] for row in listed(place)["rows"]} == CHANGES_OF_THE_CLOCK
    # The earlier reading has passed by an hour, and the owner still has it.
    assert AUTUMN not in sids(listed(place, "--at", "2024-10-27T01:30:00Z"))
    assert AUTUMN in sids(listed(place, "--at", "2024-10-27T01:30:00.000001Z"))
    assert SPRING not in sids(listed(place, "--at", "2024-03-31T01:30:00Z"))
    assert sweep(place)["rows_released"] == len(CHANGES_OF_THE_CLOCK)


def test_naive_text_without_a_time_zone_is_nobodys_guess(place: Place) -> None:
    foreign = FOREIGN_TABLES["Django"]
    fill(place, foreign, [NOW - timedelta(days=1)])
    head = f'table = "{foreign.table}"\nreleased = "{foreign.released}"\n'
    place.configure(LEDGER_PROVISIONER, PERMISSIVE, ledger=head + foreign.settings.replace('timezone = "UTC"\n', ""))
    report = sweep(place, code=3)
    assert (report["rows_invalid"], report["rows_released"]) == (1, 0)
    assert "timezone" in report["invalid"][0]["reason"]
