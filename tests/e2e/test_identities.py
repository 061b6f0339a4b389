"""One VM in two spellings, and a status in another: whoever pays keeps the VM, and both rows are named."""

from typing import Any

import pytest

from tests.e2e.reports import listed, sids, sweep
from tests.support.place import (
    DAY,
    HOUR,
    NOW,
    PERMISSIVE,
    TABLE,
    Place,
    allocation,
    command_provisioner,
    program,
)

UNTYPED = "CREATE TABLE vm_allocations (sid, owner, plan, provisioner, vm_ref, vm_uid, status, expires_at, released_at)"
NOCASE = TABLE.replace("vm_ref TEXT", "vm_ref TEXT COLLATE NOCASE").replace("sid TEXT", "sid TEXT COLLATE NOCASE")
WITHOUT = "CREATE TABLE vm_allocations (sid PRIMARY KEY, status TEXT, expires_at, released_at)"


def destroyed(place: Place) -> list[str]:
    """The VMs that the release program was called for."""
    calls = place.folder / "calls"
    return calls.read_text(encoding="utf-8").splitlines() if calls.exists() else []


def configure(place: Place, ledger: str = "") -> None:
    """A release program that writes down what it is called for."""
    script = program(place.folder, f'printf "%s\\n" "$1" >> {place.folder}/calls')
    second = f'[provisioners.second]\nkind = "command"\nargv = ["{script}", "{{vm_ref}}"]\n'
    place.configure(command_provisioner([script, "{vm_ref}"]), second, PERMISSIVE, ledger=ledger)


def refs(expired: Any, paid: Any, **columns: Any) -> list[dict[str, Any]]:
    """An expired row and one that is paid for, by their vm_refs; the columns are those of the second."""
    return [allocation("a", NOW - DAY, vm_ref=expired), allocation("b2", NOW + DAY, vm_ref=paid, **columns)]


SAME: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "case": (TABLE, refs("WEB-1", "web-1")),
    "case, in a column that knows none": (NOCASE, refs("WEB-1", "web-1")),
    "a space behind": (TABLE, refs("web-1", "web-1 ")),
    "a tab before": (TABLE, refs("web-1", "\tweb-1")),
    "a space without break": (TABLE, refs("web-1\u00a0", "web-1")),
    "composed and decomposed": (TABLE, refs("b\u00fccher", "bu\u0308cher")),
    "full width": (TABLE, refs("\uff37\uff25\uff22-1", "web-1")),
    "a number and its text with a space": (UNTYPED, refs(7, " 7")),
    "a number and a real": (UNTYPED, refs("7", 7.0)),
    "a blob of the same letters": (UNTYPED, refs("WEB-1", b"web-1")),
    "a uid that one of them lacks": (TABLE, refs("WEB-1", "web-1", vm_uid="u-1")),
    "a provisioner in another case": (TABLE, refs("WEB-1", "web-1", provisioner="Default")),
    "of a row whose expiry nobody can read": (
        TABLE,
        [allocation("a", NOW - DAY, vm_ref="WEB-1"), allocation("b2", "soon", vm_ref="web-1")],
    ),
    "of a row whose status nobody can read": (
        TABLE,
        [allocation("a", NOW - DAY, vm_ref="WEB-1"), allocation("b2", NOW - DAY, "released", vm_ref="web-1")],
    ),
    "the sid that stands for it": (
        TABLE,
        [allocation("WEB-1", NOW - DAY), allocation("b2", NOW + DAY, vm_ref="web-1")],
    ),
    "two sids that stand for it": (TABLE, [allocation("b2", NOW + DAY, vm_ref=""), allocation("B2 ", NOW - DAY)]),
    "two sids, and no other column": (WITHOUT, [allocation("WEB-1", NOW - DAY), allocation("web-1", NOW + DAY)]),
}


@pytest.mark.parametrize("name", SAME)
def test_a_vm_that_is_paid_for_under_another_spelling_stays(place: Place, name: str) -> None:
    table, rows = SAME[name]
    configure(place)
    place.make_ledger([*rows, allocation("good", NOW - HOUR)], table=table)
    [expired] = [row["sid"] for row in rows if row["expires_at"] == NOW - DAY and row["status"] == "Active"]
    [paying] = [row["sid"] for row in rows if row["sid"] != expired]
    assert sids(listed(place, "--all"), "invalid") >= {expired}
    report = sweep(place, code=3)
    [reason] = [row["reason"] for row in report["invalid"] if row["sid"] == expired]
    assert reason.endswith(f" is also held by {paying!r}")
    assert (report["rows_expired"], report["rows_released"]) == (1, 1)
    assert (place.released(), destroyed(place)) == ({"good"}, ["good"])
    ordered = place.run("release", "--reason", "because", "--yes", expired)
    assert (ordered.code, f"is also held by {paying!r}" in ordered.out) == (3, True), ordered
    assert destroyed(place) == ["good"]


DIFFERENT: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "a zero in front": ("", refs("7", "07")),
    "two uids": ("", [allocation("a", NOW - DAY, vm_ref="web", vm_uid="u-1"), *refs("", "web", vm_uid="u-2")[1:]]),
    "another provisioner": ("", refs("web-1", "web-1", provisioner="second")),
    "a settled row": ("", refs("web-1", "WEB-1", status="Released")),
    "references that are exact": ('references = "exact"\n', refs("WEB-1", "web-1")),
    "a row in which nothing stands for a vm_ref": (
        '[ledger.columns]\nvm_ref = "vm_ref"\n',
        [allocation("a", NOW - DAY, vm_ref="17"), allocation("17", NOW + DAY)],
    ),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_two_vms_are_two(place: Place, name: str) -> None:
    ledger, rows = DIFFERENT[name]
    configure(place, ledger)
    place.make_ledger(rows)
    assert sweep(place)["rows_released"] == 1
    assert destroyed(place) == [rows[0]["vm_ref"]]


def test_exact_references_that_are_the_same_are_one_vm(place: Place) -> None:
    configure(place, 'references = "exact"\n')
    place.make_ledger(refs("WEB-1", "WEB-1"))
    assert sweep(place, code=3)["rows_released"] == 0
    assert destroyed(place) == []


def test_two_rows_that_are_both_due_keep_nothing_from_each_other(place: Place) -> None:
    configure(place)
    place.make_ledger([allocation("a", NOW - DAY, vm_ref="WEB-1"), allocation("b", NOW - DAY, vm_ref="web-1")])
    assert sids(listed(place)) == {"a", "b"}
    assert sweep(place)["rows_invalid"] == 0


def test_a_row_that_is_held_keeps_its_vm_and_is_named(place: Place) -> None:
    configure(place)
    place.make_ledger([allocation("a", NOW - DAY, vm_ref="WEB-1"), allocation("b", NOW - DAY, vm_ref="web-1")])
    assert place.run("hold", "b", "--reason", "because").code == 0
    report = sweep(place, code=3)
    assert report["invalid"] == [{"sid": "a", "reason": "vm_ref 'WEB-1' is also held by 'b'"}]
    assert (report["skipped"]["held"], destroyed(place)) == (1, [])


# --- a column that is named -------------------------------------------------------------------------------------------

NAMED = '[ledger.columns]\nvm_ref = "vm_ref"\n'


@pytest.mark.parametrize("nothing", [None, "", " "], ids=repr)
def test_where_the_column_is_named_no_sid_stands_for_a_vm(place: Place, nothing: str | None) -> None:
    """Service 17 without a VM is not VM 17 of somebody else; and an order still being set up is nobody's trouble."""
    configure(place, NAMED)
    place.make_ledger([allocation("17", NOW - DAY, vm_ref=nothing), allocation("18", NOW + DAY, vm_ref=nothing)])
    [row] = [row for row in listed(place, "--all")["rows"] if row["decision"] == "invalid"]
    assert (row["sid"], "vm_ref is NULL or empty" in row["reason"]) == ("17", True)
    report = sweep(place, code=3)
    assert [row["sid"] for row in report["invalid"]] == ["17"]
    assert (report["rows_examined"], report["rows_invalid"], report["rows_expired"]) == (2, 1, 0)
    assert "is NULL or empty" in place.run("explain", "17").out
    for sid in ("17", "18"):
        ordered = place.run("release", "--reason", "because", "--yes", sid)
        assert (ordered.code, "vm_ref is NULL or empty" in ordered.out) == (3, True), ordered
    assert (place.released(), destroyed(place)) == (set(), [])


def test_an_order_that_is_still_being_set_up_is_nobodys_trouble(place: Place) -> None:
    configure(place, NAMED)
    place.make_ledger([allocation("18", NOW + DAY), allocation("19", None), allocation("20", NOW - DAY, "Released")])
    assert sweep(place)["rows_invalid"] == 0


def test_where_the_column_is_not_named_the_sid_stands_for_the_vm(place: Place) -> None:
    configure(place)
    place.make_ledger([allocation("17", NOW - DAY)])
    assert sweep(place)["rows_released"] == 1
    assert destroyed(place) == ["17"]


# --- a status that is nearly one --------------------------------------------------------------------------------------

NEARLY = {
    "case": "cancelled",
    "all of it in another case": "CANCELLED",
    "a space behind": "Cancelled ",
    "a line end": "Cancelled\r\n",
    "a space without break": "Cancelled\u00a0",
    "a space of no width to speak of": "\u200aCancelled",
    "full width": "\uff23ancelled",
    "decomposed": "Gelo\u0308scht",
    "decomposed, in another case": "GELO\u0308SCHT",
    "composed, in another case": "gel\u00f6scht",
    "nearly the released word": "terminated ",
    "the long s": "Stra\u017f\u017fe",
}


@pytest.mark.parametrize("status", NEARLY.values(), ids=NEARLY.keys())
def test_a_status_that_is_nearly_a_settled_one_is_nobodys_to_release(place: Place, status: str) -> None:
    configure(place, 'released = "Terminated"\ninactive = ["Cancelled", "Gel\u00f6scht", "Stra\u00dfe"]\n')
    place.make_ledger([allocation("a", NOW - DAY, status), allocation("live", NOW + DAY)])
    report = sweep(place, code=3)
    [row] = report["invalid"]
    assert (row["sid"], row["reason"].startswith("status ")) == ("a", True)
    assert (report["rows_examined"], report["rows_invalid"]) == (2, 1)
    assert destroyed(place) == []


def test_two_words_that_are_alike_and_both_configured_are_both_settled(place: Place) -> None:
    configure(place, 'inactive = ["Cancelled", "cancelled", "released"]\n')
    words = ("Cancelled", "cancelled", "released", "Released")
    place.make_ledger(allocation(word, NOW - DAY, word, vm_ref=word) for word in words)
    report = sweep(place)
    assert (report["rows_examined"], report["rows_invalid"]) == (0, 0)
