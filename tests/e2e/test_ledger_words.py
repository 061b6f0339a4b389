"""What the configuration says of the words of a table: what must go goes, and nothing else; dry runs show the same."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.e2e.reports import listed, sids, sweep
from tests.support.place import DAY, LEDGER_PROVISIONER, NOW, PERMISSIVE, Place, allocation

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


def table(columns: str) -> str:
    """A table with these columns beside the three that are needed."""
    return f"CREATE TABLE vm_allocations (sid TEXT PRIMARY KEY, expires_at, {columns})"


def statuses(place: Place) -> dict[str, Any]:
    """The status of each sid."""
    return dict(place.query("SELECT sid, status FROM vm_allocations"))


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


# --- what is not set --------------------------------------------------------------------------------------------------

GONE = NOW - 30 * DAY
AHEAD = NOW + 30 * DAY
NOT_YET: list[tuple[str, Any, str]] = [
    ("TEXT NOT NULL DEFAULT ''", "", "''"),
    ("INTEGER NOT NULL DEFAULT 0", 0, "0"),
    ("datetime NOT NULL DEFAULT '0000-00-00 00:00:00'", "0000-00-00 00:00:00", '"0000-00-00 00:00:00"'),
]


@pytest.mark.parametrize(("declared", "blank", "listed"), NOT_YET)
def test_a_released_at_that_stands_for_nothing_is_not_set(place: Place, declared: str, blank: Any, listed: str) -> None:
    rows = [
        allocation("due", GONE, released_at=blank),
        allocation("paid", AHEAD, released_at=blank),
        allocation("once", GONE, released_at=GONE),
        allocation("gone", GONE, "Released", released_at=GONE),
    ]
    place.make_ledger(rows, table=table(f"status TEXT, released_at {declared}"))
    place.configure(LEDGER_PROVISIONER, PERMISSIVE)
    assert {row["sid"]: "ledger.never" in row["reason"] for row in sweep(place, code=3)["invalid"]} == {
        "due": True,
        "paid": True,
        "once": False,
    }
    place.configure(LEDGER_PROVISIONER, PERMISSIVE, ledger=f"never = [{listed}]")
    report = swept(place, "due", code=3)
    assert [row["sid"] for row in report["invalid"]] == ["once"]
    assert report["rows_examined"] == 3
    [(released_at,)] = place.query("SELECT released_at FROM vm_allocations WHERE sid = 'due'")
    assert int(released_at) >= NOW
    assert swept(place, code=3)["rows_invalid"] == 1


def test_a_table_can_be_said_to_have_no_such_column(place: Place) -> None:
    """A released_at of another meaning, an owner that is no owner: neither is read, or written."""
    columns = "status TEXT, released_at TEXT, vm_ref TEXT, vm_uid BLOB, provisioner BLOB, owner TEXT, plan TEXT"
    others = {"released_at": "in a shop", "vm_ref": "x", "vm_uid": b"x", "provisioner": b"x", "owner": "y", "plan": "z"}
    place.make_ledger([allocation("a", GONE, **others), allocation("b", AHEAD, **others)], table=table(columns))
    place.configure(
        LEDGER_PROVISIONER,
        PERMISSIVE,
        ledger="[ledger.columns]\n" + "".join(f'{role} = ""\n' for role in others),
    )
    [row] = listed(place)["rows"]
    assert (row["vm_ref"], row["owner"], row["plan"], row["provisioner"]) == ("a", None, None, "default")
    assert swept(place, "a")["rows_invalid"] == 0
    assert place.query("SELECT DISTINCT released_at FROM vm_allocations") == [("in a shop",)]


def test_a_soft_delete_settles_a_row_whatever_its_status_says(place: Place) -> None:
    rows = [
        allocation("due", GONE),
        allocation("deleted", GONE, deleted_at="2026-01-01 00:00:00"),
        allocation("deleted, unreadable", "x", None, deleted_at=1),
        allocation("blank", GONE, deleted_at=""),
        # The VM of a deleted row is nobody's: whoever got its name loses it in time.
        allocation("again", GONE, vm_ref="deleted"),
    ]
    place.make_ledger(rows, table=table("status TEXT, vm_ref TEXT, deleted_at TEXT"))
    place.configure(LEDGER_PROVISIONER, PERMISSIVE, ledger='[ledger.columns]\ndeleted_at = "deleted_at"\n')
    report = swept(place, "due", "again", code=3)
    assert report["rows_examined"] == 3
    assert [row["sid"] for row in report["invalid"]] == ["blank"]
    told = place.run("explain", "deleted").out
    assert "deleted_at is set" in told
    assert place.run("release", "deleted", "--yes").code == 0
    assert statuses(place)["deleted"] == "Active"


def test_a_column_of_soft_deletes_must_be_there(place: Place) -> None:
    place.make_ledger()
    place.configure(LEDGER_PROVISIONER, ledger='[ledger.columns]\ndeleted_at = "trashed_at"\n')
    ran = place.run("tick", "--once")
    assert ran.code == 5
    assert "no column 'trashed_at' for deleted_at" in ran.err


# --- statuses ---------------------------------------------------------------------------------------------------------


def test_only_what_is_listed_as_live_is_live(place: Place) -> None:
    rows = [
        allocation("active", GONE),
        allocation("suspended", GONE, "Suspended"),
        allocation("fraud", GONE, "fraud"),
        allocation("paid fraud", AHEAD, "fraud"),
        allocation("lower", GONE, "active"),
        allocation("cancelled", GONE, "Cancelled"),
    ]
    place.make_ledger(rows)
    place.configure(LEDGER_PROVISIONER, PERMISSIVE, ledger='inactive = ["Cancelled"]\nlive = ["Active", "Suspended"]\n')
    report = swept(place, "active", "suspended", code=3)
    reasons = {row["sid"]: row["reason"] for row in report["invalid"]}
    assert reasons.keys() == {"fraud", "paid fraud", "lower"}
    assert "'fraud'" in reasons["fraud"]
    assert "ledger.live" in reasons["fraud"]
    assert "'active' is 'Active'" in reasons["lower"]
    assert "ledger.live" in place.run("doctor").out


@pytest.mark.parametrize("declared", ["INTEGER", "INT NOT NULL CHECK (status IN (0, 1, 2, 3, 4))", ""])
def test_statuses_may_be_numbers(place: Place, declared: str) -> None:
    rows = [
        *(allocation(f"live {number}", GONE, number) for number in (0, 1)),
        allocation("paid", AHEAD, 1),
        allocation("odd", GONE, 2),
        allocation("released", GONE, 3, released_at=GONE),
        allocation("inactive", GONE, 4),
    ]
    place.make_ledger(rows, table=table(f"status {declared}, released_at INTEGER"))
    place.configure(LEDGER_PROVISIONER, PERMISSIVE, ledger="released = 3\ninactive = [4]\nlive = [0, 1]\n")
    report = swept(place, "live 0", "live 1", code=3)
    assert [row["sid"] for row in report["invalid"]] == ["odd"]
    assert statuses(place) == {"live 0": 3, "live 1": 3, "paid": 1, "odd": 2, "released": 3, "inactive": 4}
    assert swept(place, code=3)["rows_examined"] == 2
    assert "3 3 (released)" in place.run("doctor").out


def test_a_number_is_not_its_text(place: Place) -> None:
    """Neither way: no row is taken for released, or stamped with what the table turns into something else."""
    place.make_ledger([allocation("a", GONE, 1), allocation("b", GONE, "3")], table=table("status TEXT"))
    place.configure(LEDGER_PROVISIONER, PERMISSIVE, ledger="released = 3\n")
    report = swept(place, code=3)
    assert {row["sid"] for row in report["invalid"]} == {"a", "b"}
    place.configure(LEDGER_PROVISIONER, PERMISSIVE, ledger='released = "3"\n')
    assert swept(place, "a")["rows_invalid"] == 0
    assert statuses(place) == {"a": "3", "b": "3"}
    place.ledger.unlink()
    place.make_ledger([allocation("a", GONE, 1), allocation("b", GONE, 3)], table=table("status INTEGER"))
    report = swept(place, code=3)
    assert {row["sid"] for row in report["invalid"]} == {"a", "b"}
    assert all("status is not text" in row["reason"] for row in report["invalid"])
