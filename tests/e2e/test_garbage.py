"""Rows that mean harm, or nothing: never run, never shown raw, one line each, and never a bug."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.reports import listed, sids, sweep, tick_report
from tests.support.place import (
    DAY,
    LEDGER_PROVISIONER,
    NOW,
    PERMISSIVE,
    Place,
    Ran,
    command_provisioner,
    program,
)

UNTYPED = """
CREATE TABLE vm_allocations (sid, owner, plan, provisioner, vm_ref, vm_uid, status, expires_at, released_at)
"""
LOG_LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (DEBUG|INFO|WARNING|ERROR) ")
# Escape, other controls, the separators that some take for the end of a line, and what reorders or hides text.
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")

LINE_ENDS = "a\nb\rc\r\nd\x0be\x0cf\x1cg\x85h\u2028i\u2029j"
TEXTS = [
    "$(touch CANARY)",
    "`touch CANARY`",
    "; touch CANARY #",
    "| touch CANARY",
    "&& touch CANARY",
    "'; touch CANARY; '",
    '"; touch CANARY; "',
    "\n touch CANARY\n",
    "${IFS}touch${IFS}CANARY",
    "'; DROP TABLE vm_allocations; --",
    '" OR 1=1; --',
    LINE_ENDS,
    "tab\tin\tit",
    "\x1b[31mred\x1b[0m\x1b]0;title\x07",
    "\x9b2J",
    "\u202egnp.elif\u202c",
    "zero\u200bwidth\ufeff",
    "[bold red]markup[/]",
    "{sid} {vm_ref} %s %(sid)s %n",
    '"quoted", with, commas',
    "=HYPERLINK(1)",
    "-rf",
    "--help",
    "../../etc/passwd",
    "a\x00b",
    " ",
    "NULL",
    "🜂 ü 漢字 " + "e\u0301",
]
BYTES = [b"\xff\xfe", b"ok\xc3", b"\x00", b"\x1b[31m"]
HUGE = "x" * 1_000_000


def harmless(text: str, folder: Path) -> str:
    """The canary of this test's own."""
    return text.replace("CANARY", str(folder / "canary"))


def garbage_rows(folder: Path) -> list[dict[str, Any]]:
    """Every nasty value in every column, and one good row."""
    good = {"status": "Active", "expires_at": NOW - DAY, "owner": "somebody"}
    values: list[Any] = [*(harmless(text, folder) for text in TEXTS), *BYTES, HUGE]
    rows: list[dict[str, Any]] = [{**good, "sid": "good"}, {**good, "sid": None}, {**good, "sid": ""}]
    for number, value in enumerate(values):
        rows.append({**good, "sid": value})
        rows += [
            {**good, "sid": f"{column}-{number}", column: value}
            for column in ("owner", "plan", "vm_ref", "status", "expires_at")
        ]
    rows += [
        {**good, "sid": f"invalid-{number}", "expires_at": value} for number, value in enumerate((2.5e300, -1, b""))
    ]
    rows += [{**good, "sid": f"infinite-{sign}", "expires_at": float(f"{sign}inf")} for sign in "+-"]
    return rows


def make_undecodable(place: Place) -> None:
    """Text that is no UTF-8, which no binding can make."""
    good = f"'Active', {NOW - DAY}"
    place.execute(f"INSERT INTO vm_allocations (sid, status, expires_at) VALUES (CAST(x'6dff' AS TEXT), {good})")
    for column in ("owner", "plan", "vm_ref"):
        place.execute(
            f"INSERT INTO vm_allocations (sid, {column}, status, expires_at) "
            f"VALUES ('undecodable-{column}', CAST(x'c328' AS TEXT), {good})"
        )
    for values in (
        "'undecodable-expiry', 'Active', CAST(x'32ff' AS TEXT)",
        f"'undecodable-status', CAST(x'ff' AS TEXT), {NOW}",
    ):
        place.execute(f"INSERT INTO vm_allocations (sid, status, expires_at) VALUES ({values})")


@pytest.fixture
def littered(place: Place) -> Place:
    """A ledger full of them, and a release program that is given them, says them again, and fails for some."""
    script = program(place.folder, 'printf "%s\\n" "$@"; cat; case "$1" in *1*) exit 1;; esac')
    words = [script, "{vm_ref}", "{owner}"]
    place.configure(
        command_provisioner(words, "allow_dash = true"), PERMISSIVE, "[release]\nattempts = 1\nconcurrency = 2\n"
    )
    place.make_ledger(garbage_rows(place.folder), table=UNTYPED)
    make_undecodable(place)
    return place


def check_clean(ran: Ran, place: Place, *, log: str = "text") -> None:
    """Nothing was run, nothing broke, nothing raw came out, and every line of the log is one."""
    assert ran.code != 1
    assert "Traceback" not in ran.err
    assert not (place.folder / "canary").exists()
    assert not RAW.search(ran.out)
    assert not RAW.search(ran.err)
    for line in ran.err.split("\n")[:-1]:
        if log == "json":
            assert isinstance(json.loads(line), dict)
        else:
            assert LOG_LINE.match(line), line[:200]


def test_a_sweep_over_garbage(littered: Place) -> None:
    ran = littered.run("tick", "--once", "--json")
    check_clean(ran, littered)
    report = tick_report(ran, 3)
    released = {
        sid for (sid,) in littered.query("SELECT CAST(sid AS BLOB) FROM vm_allocations WHERE status = 'Released'")
    }
    # A row that says nothing certain is untouched, and what is merely strange is not held up by it.
    assert {b"owner-0", b"[bold red]markup[/]"} <= released
    assert not {b"", b"m\xff", b"undecodable-vm_ref", b"undecodable-expiry", b"undecodable-status"} & released
    assert littered.query("SELECT count(*) FROM vm_allocations WHERE sid IS NULL AND status = 'Released'") == [(0,)]
    invalid = {row["sid"] for row in report["invalid"]}
    assert {"NULL", "", "undecodable-vm_ref", "undecodable-expiry", "undecodable-status"} <= invalid
    # And it stays so: what failed waits, the rest is done.
    again = littered.run("tick", "--once")
    check_clean(again, littered)
    assert again.code == 3
    for arguments in ((), ("--format", "json"), ("--tick", report["tick"]), ("--sid", LINE_ENDS)):
        shown = littered.run("history", *arguments)
        check_clean(shown, littered)
        assert shown.code == 0
    events = littered.run("history", "--tick", report["tick"]).out.split("\n")
    assert {line.count("\t") for line in events[:-1]} == {10}


def test_the_log_as_json(littered: Place) -> None:
    ran = littered.run("--log-format", "json", "--log-level", "debug", "tick", "--once")
    check_clean(ran, littered, log="json")
    assert ran.code == 3
    said = {line["sid"] for line in map(json.loads, ran.err.splitlines()) if "sid" in line}
    # Whole, and as it is: JSON needs no escapes of ours.
    assert {LINE_ENDS, HUGE, "\x1b[31mred\x1b[0m\x1b]0;title\x07"} <= said


def test_listings_of_garbage(littered: Place) -> None:
    found = listed(littered, "--all")
    assert {LINE_ENDS, HUGE, "a\x00b", " "} <= sids(found)
    count = len(found["rows"])
    plain = littered.run("list-expired", "--all", "--format", "plain")
    check_clean(plain, littered)
    lines = plain.out.split("\n")[:-1]
    assert len(lines) == count + 1
    assert plain.out.splitlines() == lines
    assert {line.count("\t") for line in lines} == {9}
    # Never cut, however long.
    assert any(line.startswith(HUGE + "\t") for line in lines)
    table = littered.run("list-expired", "--all", "--format", "csv")
    check_clean(table, littered)
    before = csv.field_size_limit(2 * len(HUGE))
    try:
        cells = list(csv.reader(io.StringIO(table.out)))
    finally:
        csv.field_size_limit(before)
    assert len(cells) == len(table.out.split("\n")) - 1 == count + 1
    assert {len(row) for row in cells} == {10}
    # A table folds what is long, which takes a minute for a megabyte: nobody looks at that.
    wide = " OR ".join(f"length({column}) > 1000" for column in ("sid", "owner", "plan", "vm_ref", "status"))
    littered.execute(f"DELETE FROM vm_allocations WHERE {wide}")
    drawn = littered.run("list-expired", "--all", "--format", "table")
    check_clean(drawn, littered)
    assert "[bold red]markup[/]" in re.sub(r"\s", "", drawn.out).replace("boldred", "bold red")


def test_values_reach_the_program_as_they_are(place: Place) -> None:
    """As an argument, in its environment and on its standard input; a shell sees none of them on the way."""
    values = [text for text in TEXTS if "\x00" not in text]
    script = program(
        place.folder,
        'printf "%s" "$1" > "$2"; printf "%s" "$AUTORELEASE_VM_REF" > "$2.environment"; cat > "$2.json"',
    )
    place.configure(command_provisioner([script, "{vm_ref}", "{owner}"], "allow_dash = true"), PERMISSIVE)
    place.make_ledger(
        {
            "sid": f"vm-{number}",
            "status": "Active",
            "expires_at": NOW - DAY,
            "vm_ref": text,
            "owner": str(place.folder / f"given-{number}"),
        }
        for number, text in enumerate(values)
    )
    assert sweep(place)["rows_released"] == len(values)
    for number, text in enumerate(values):
        given = place.folder / f"given-{number}"
        assert given.read_bytes() == text.encode()
        assert given.with_name(given.name + ".environment").read_bytes() == text.encode()
        document = json.loads(given.with_name(given.name + ".json").read_text(encoding="utf-8"))
        assert (document["sid"], document["vm_ref"]) == (f"vm-{number}", text)


def test_a_dash_is_refused_unless_allowed(place: Place) -> None:
    place.configure(command_provisioner([program(place.folder, f"touch {place.folder}/ran"), "{vm_ref}"]), PERMISSIVE)
    place.make_ledger([{"sid": "vm", "status": "Active", "expires_at": NOW - DAY, "vm_ref": "-rf"}])
    [error] = sweep(place, code=3)["errors"]
    assert "allow_dash" in error["message"]
    assert error["retryable"] is False
    assert not (place.folder / "ran").exists()


def test_every_text_that_is_no_utf8_is_reported(place: Place) -> None:
    """A row that cannot be read is not released, so it must be counted: else it is left behind and nobody knows."""
    place.make_ledger(table=UNTYPED)
    broken = ("ff", "6dff", "c328", "80", "e28228", "616200ff", "c3", "eda080", "f5808080")
    expected = 0
    for column in ("sid", "status", "vm_ref", "vm_uid", "provisioner"):
        for number, stored in enumerate(broken):
            values = {"sid": f"'{column}-{number}'", "status": "'Active'", "expires_at": f"{NOW - DAY}"}
            values[column] = f"CAST(x'{stored}' AS TEXT)"
            names = ", ".join(values)
            place.execute(f"INSERT INTO vm_allocations ({names}) VALUES ({', '.join(values.values())})")
            expected += 1
    ran = place.run("tick", "--once", "--json")
    assert place.released() == set()
    assert ran.json()["rows_invalid"] == expected
    tick_report(ran, 3)


@pytest.mark.parametrize(
    "holder",
    [
        "NULL, NULL, 'web-1'",
        "CAST(x'ff' AS TEXT), '', 'web-1'",
        "'other', CAST(x'ff' AS TEXT), 'web-1'",
        "7.0, x'', ''",
    ],
)
def test_a_vm_that_a_row_holds_which_nobody_can_read_is_left_alone(place: Place, holder: str) -> None:
    """It is no reason to fail, either: what else is due goes."""
    place.make_ledger(
        [
            *(
                {"sid": sid, "status": "Active", "expires_at": NOW - DAY, "vm_ref": "web-1"}
                for sid in ("None", "b'first'", "1.5")
            ),
            {"sid": "seven", "status": "Active", "expires_at": NOW - DAY, "vm_ref": 7},
            {"sid": "good", "status": "Active", "expires_at": NOW - DAY},
        ],
        table=UNTYPED,
    )
    names = "sid, provisioner, vm_ref, status, expires_at"
    place.execute(f"INSERT INTO vm_allocations ({names}) VALUES ({holder}, 'Active', {NOW + DAY})")
    report = sweep(place, code=3)
    kept = {"None", "b'first'", "1.5"} if "web-1" in holder else {"seven"}
    assert place.released() == {"None", "b'first'", "1.5", "seven", "good"} - kept
    assert {row["sid"] for row in report["invalid"]} >= kept


def test_a_provisioner_of_zero_is_none_by_default(place: Place) -> None:
    """Only NULL and the empty text are."""
    place.configure(LEDGER_PROVISIONER, '[provisioners.0]\nkind = "ledger"\n', PERMISSIVE)
    place.make_ledger(
        [
            {"sid": "first", "status": "Active", "expires_at": NOW - DAY, "provisioner": 0, "vm_ref": "web-1"},
            {"sid": "other", "status": "Active", "expires_at": NOW + DAY, "provisioner": 0, "vm_ref": "web-1"},
            {"sid": "third", "status": "Active", "expires_at": NOW - DAY, "vm_ref": "web-1"},
        ],
        table=UNTYPED,
    )
    sweep(place, code=3)
    assert place.released() == {"third"}


def test_only_the_exact_word_is_released(place: Place) -> None:
    """What is nearly the word is nobody's to release: it is invalid, and its row stays as it is."""
    nearly: list[Any] = ["released", "RELEASED ", "\tReleased\n", "\u2003Released", b"Released", 1, None]
    place.make_ledger(
        [
            *(
                {"sid": f"nearly-{number}", "status": status, "expires_at": NOW - DAY}
                for number, status in enumerate(nearly)
            ),
            {"sid": "exactly", "status": "Released", "expires_at": NOW - DAY},
            {"sid": "another-word", "status": "Rel\x00eased", "expires_at": NOW - DAY},
        ],
        table=UNTYPED,
    )
    report = sweep(place, code=3)
    assert {row["sid"] for row in report["invalid"]} == {f"nearly-{number}" for number in range(len(nearly))}
    assert place.released() == {"exactly", "another-word"}
    stored = place.query("SELECT status FROM vm_allocations WHERE sid LIKE 'nearly-%' ORDER BY sid")
    assert [status for (status,) in stored] == nearly
