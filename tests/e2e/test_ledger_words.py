"""What the configuration says of the words of a table: what must go goes, and nothing else; dry runs show the same."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.e2e.reports import listed, sids, sweep
from tests.support.place import LEDGER_PROVISIONER, PERMISSIVE, Place, allocation

PAST = datetime(2025, 1, 31, 12, 0, tzinfo=UTC)


def swept(place: Place, *released: str, code: int = 0) -> dict[str, Any]:
    """A listing, a dry run and a sweep that agree, and release these rows alone."""
    assert sids(listed(place)) == set(released)
    dry = sweep(place, "--dry-run", code=code)
    report = sweep(place, code=code)
    for counter in ("rows_examined", "rows_invalid", "rows_expired"):
        assert dry[counter] == report[counter]
    assert report["rows_expired"] == report["rows_released"] == len(released)
    return report


# --- spellings of instants --------------------------------------------------------------------------------------------

SPELLINGS = [
    *("2025-01-31T12:00:00+0000", "2025-01-31 12:00:00 UTC", "2025-01-31 12:00:00 +0000 UTC", "2025-01-31t12:00:00z"),
    *("2025-01-31T12:00:00,500Z", "2025-01-31 12:00utc", "2025-01-31 14:00:00.123456789+0200"),
    *("2025-01-31 12:00:00.5 -00:00 utc", "2025-01-31 12:00:00 +00 UTC"),
]
CONTRADICTIONS = ["2025-01-31 12:00:00 +0200 UTC", "2025-01-31 12:00:00 -0001 UTC", "2025-01-31 13:00:00 +0100 CET"]


def test_every_spelling_of_one_meaning_is_read_and_written_back(place: Place) -> None:
    place.make_ledger(allocation(text, text) for text in [*SPELLINGS, *CONTRADICTIONS])
    place.configure(LEDGER_PROVISIONER, PERMISSIVE, ledger='timestamps = "iso8601"')
    report = swept(place, *SPELLINGS, code=3)
    assert {row["sid"] for row in report["invalid"]} == set(CONTRADICTIONS)
    stamped = dict(place.query("SELECT sid, released_at FROM vm_allocations WHERE status = 'Released'"))
    assert {sid: masked(written) for sid, written in stamped.items()} == {text: masked(text) for text in SPELLINGS}
    # Read again, as what it is: nothing in it is of another clock.
    now = datetime.now(UTC)
    place.execute("UPDATE vm_allocations SET status = 'Active', expires_at = released_at, released_at = NULL")
    place.execute("DELETE FROM vm_allocations WHERE expires_at IS NULL")
    rows = listed(place, "--all", "--at", "+1h")["rows"]
    assert len(rows) == len(SPELLINGS)
    for row in rows:
        assert timedelta(0) < now - datetime.fromisoformat(row["expires_at"]) < timedelta(minutes=5)


def masked(text: str) -> str:
    """A spelling, whatever instant it is of."""
    return re.sub("[0-9]", "0", text)


@pytest.mark.parametrize("text", SPELLINGS)
def test_to_the_very_instant_the_owner_still_has_the_vm(place: Place, text: str) -> None:
    place.make_ledger([allocation("a", text)])
    place.configure(LEDGER_PROVISIONER, PERMISSIVE, ledger='timestamps = "iso8601"')
    [row] = listed(place)["rows"]
    assert PAST <= datetime.fromisoformat(row["expires_at"]) < PAST + timedelta(seconds=1)
    assert sids(listed(place, "--at", row["expires_at"])) == set()
