"""What the configuration says of the words of a table: what must go goes, and nothing else; dry runs show the same."""

import re
import sys
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.e2e.reports import listed, sids, sweep
from tests.support.place import (
    DAY,
    LEDGER_PROVISIONER,
    NOW,
    PERMISSIVE,
    Place,
    allocation,
    command_provisioner,
    program,
)

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


# --- dates without a time ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("meaning", "released"), [("end", "yesterday"), ("start", "yesterday today")])
def test_a_date_alone_is_what_the_configuration_says(place: Place, meaning: str, released: str) -> None:
    # In a zone where it is the middle of the day now, so that no midnight comes in between.
    hour = datetime.now(UTC).hour
    zone = f"Etc/GMT{hour - 12:+d}"
    today = datetime.now(ZoneInfo(zone)).date()
    days = {"yesterday": -1, "today": 0, "tomorrow": 1}
    rows = [allocation(name, f"{today + timedelta(days=ahead)}") for name, ahead in days.items()]
    rows += [allocation("instant", "2025-05-31T00:00:00Z"), allocation("none", "2025-02-30")]
    place.make_ledger(rows)
    place.configure(
        LEDGER_PROVISIONER,
        PERMISSIVE,
        ledger=f'timestamps = "iso8601"\ndates = "{meaning}"\ntimezone = "{zone}"\nnever = ["9999-12-31"]\n',
    )
    report = swept(place, *released.split(), "instant", code=3)
    assert [row["sid"] for row in report["invalid"]] == ["none"]
    stamped = dict(place.query("SELECT sid, released_at FROM vm_allocations WHERE status = 'Released'"))
    assert masked(stamped.pop("instant")) == "0000-00-00T00:00:00Z"
    assert stamped == dict.fromkeys(released.split(), f"{today}")


# --- what a table or a configuration lacks ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "code", "message"),
    [
        ('timestamps = "iso8601"\ndates = "end"\n', 4, 'dates = "end" needs timezone'),
        ('[ledger.columns]\ndeleted_at = "trashed_at"\n', 5, "no column 'trashed_at' for deleted_at"),
        (
            "where = { kinds = 1 }\n",
            5,
            "has no column 'kinds', which [ledger] where names. Columns there: sid",
        ),
    ],
    ids=["a day needs a clock", "a column of soft deletes", "a column of where"],
)
def test_what_such_words_need_must_be_there(place: Place, lines: str, code: int, message: str) -> None:
    place.make_ledger()
    place.configure(LEDGER_PROVISIONER, ledger=lines)
    ran = place.run("tick", "--once")
    assert ran.code == code
    assert message in ran.err
    assert str(place.config if code == 4 else place.ledger) in ran.err


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


# --- which rows are ours ----------------------------------------------------------------------------------------------

SERVICES = "CREATE TABLE vm_allocations (sid, kind, status TEXT, expires_at INTEGER, released_at INTEGER, vm_ref TEXT)"
OURS = 'where = { kind = "proxmox" }\n'


def service(sid: str | int, kind: Any, expires_at: int, **columns: Any) -> dict[str, Any]:
    """A row of a table of all services, in which the sid is of one kind alone."""
    return {**allocation(sid, expires_at), "kind": kind, **columns}


@pytest.mark.parametrize(
    "unique", ["", ", PRIMARY KEY (kind, sid)", ", UNIQUE (sid, kind)"], ids=["no key", "a primary key", "a key"]
)
@pytest.mark.parametrize("declared", ["sid INTEGER", "sid"])
def test_only_the_rows_that_where_admits_are_ours(place: Place, declared: str, unique: str) -> None:
    rows = [
        *(service(17, kind, GONE) for kind in ("proxmox", "domain", "Proxmox", "proxmox ", None, b"proxmox")),
        # A domain holds no VM, whatever its id is: nobody else has the VM 18.
        service(18, "proxmox", GONE),
        service(18, "domain", AHEAD),
        service(19, "domain", GONE, status=None),
        service(20, "domain", GONE, status="fraud"),
        service(21, "proxmox", AHEAD),
    ]
    place.make_ledger(rows, table=SERVICES.replace("sid", declared, 1).replace("vm_ref TEXT", f"vm_ref TEXT{unique}"))
    place.configure(LEDGER_PROVISIONER, PERMISSIVE, ledger=OURS + 'live = ["Active"]\n')
    report = swept(place, "17", "18")
    assert report["rows_examined"] == 3
    stamped = place.query("SELECT sid, kind FROM vm_allocations WHERE status = 'Released' OR released_at IS NOT NULL")
    assert sorted(stamped) == [(17, "proxmox"), (18, "proxmox")]
    told = place.run("doctor").out
    assert "Released 2 (released), Active 1 (live: released when its time is up)" in told
    assert "only rows with kind = 'proxmox'" in told
    assert ("the same sid" in told) == (not unique or declared == "sid")
    assert swept(place)["rows_examined"] == 1


@pytest.mark.parametrize("written", ["true", "1"])
@pytest.mark.parametrize("declared", ["bool NOT NULL", "INTEGER", ""])
def test_a_truth_is_one(place: Place, written: str, declared: str) -> None:
    place.make_ledger(
        [{**allocation(f"{is_ours!r}", GONE), "is_ours": is_ours} for is_ours in (True, False, 1.5)],
        table=table(f"status TEXT, is_ours {declared}"),
    )
    place.configure(LEDGER_PROVISIONER, PERMISSIVE, ledger=f"where = {{ is_ours = {written} }}\n")
    assert swept(place, "True")["rows_examined"] == 1


def test_a_row_that_is_not_ours_cannot_be_named(place: Place) -> None:
    place.make_ledger([service("dns", "domain", GONE), service("vm", "proxmox", GONE)], table=SERVICES)
    place.configure(LEDGER_PROVISIONER, PERMISSIVE, ledger=OURS)
    for arguments in (("release", "dns", "--yes"), ("hold", "dns", "--reason", "x"), ("explain", "dns")):
        ran = place.run(*arguments)
        assert ran.code == 2
        assert "'dns' is in the table, but [ledger] where does not admit it" in ran.err
    assert "is in the ledger" in place.run("release", "nobody", "--yes").err
    assert place.run("release", "vm", "dns", "--yes").code == 2
    assert statuses(place) == {"dns": "Active", "vm": "Active"}


def test_where_that_admits_nothing_shows(place: Place) -> None:
    place.make_ledger([service("a", "Proxmox", GONE)], table=SERVICES)
    place.configure(LEDGER_PROVISIONER, PERMISSIVE, ledger=OURS)
    assert swept(place)["rows_examined"] == 0
    assert "no row of the table is one that [ledger] where admits" in place.run("doctor").out


def sqlite(place: Place, statement: str) -> str:
    """A line of a shell script that changes the ledger."""
    script = place.folder / "change.py"
    script.write_text(
        f"import sqlite3\nconnection = sqlite3.connect({str(place.ledger)!r})\n"
        f"connection.execute({statement!r})\nconnection.commit()\n",
        encoding="utf-8",
    )
    return f"'{sys.executable}' '{script}'"


def test_a_row_that_is_ours_no_more_is_not_called(place: Place) -> None:
    """Judged again before its call: the first release makes the second row one of another kind."""
    place.make_ledger([service("a", "proxmox", GONE), service("b", "proxmox", GONE + 1)], table=SERVICES)
    moved = sqlite(place, "UPDATE vm_allocations SET kind = 'domain' WHERE sid = 'b'")
    script = program(place.folder, f'echo "$AUTORELEASE_SID" >> {place.folder}/called\n{moved}')
    place.configure(command_provisioner([script, "{vm_ref}"]), PERMISSIVE, "[release]\nconcurrency = 1\n", ledger=OURS)
    report = sweep(place)
    assert (report["rows_released"], report["skipped"]["changed"]) == (1, 1)
    assert (place.folder / "called").read_text("utf-8") == "a\n"
    assert statuses(place) == {"a": "Released", "b": "Active"}


def test_a_row_that_stops_being_ours_while_its_vm_goes_is_a_conflict(place: Place) -> None:
    """It is live, and somebody may pay for it: the stamp does not meet it, and nobody calls that tidied up."""
    place.make_ledger([service("a", "proxmox", GONE)], table=SERVICES)
    script = program(place.folder, sqlite(place, "UPDATE vm_allocations SET kind = 'domain', expires_at = 4000000000"))
    place.configure(command_provisioner([script, "{vm_ref}"]), PERMISSIVE, ledger=OURS)
    report = sweep(place, code=3)
    assert [error["code"] for error in report["errors"]] == ["conflict"]
    assert statuses(place) == {"a": "Active"}
