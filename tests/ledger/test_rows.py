"""What a row says: which are invalid and why, and what the words of the configuration make of the others."""

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from autorelease.ledger.rows import StoredRow, read_row
from autorelease.ledger.values import Vocabulary, shown
from autorelease.model import Allocation, InvalidRow, RawRow, RawValue

EPOCH = Vocabulary()
NOON = datetime(2026, 12, 1, 12, 0, tzinfo=UTC)
NOON_EPOCH = 1_796_126_400
LATIN_1 = b"M\xfcller".decode("utf-8", "surrogateescape")


# --- which rows are invalid -------------------------------------------------------------------------------------------

GOOD = StoredRow(sid="a", status="Active", expires_at=NOON_EPOCH)
INVALID: dict[str, tuple[dict[str, RawValue], str]] = {
    "sid NULL": ({"sid": None}, "sid is NULL"),
    "sid empty": ({"sid": ""}, "sid is empty"),
    "sid a real": ({"sid": 1.0}, "sid is neither text nor an integer"),
    "sid a blob": ({"sid": b"a"}, "sid is neither text nor an integer"),
    "sid undecodable": ({"sid": LATIN_1}, "sid is not valid UTF-8"),
    "status NULL": ({"status": None}, "status is NULL"),
    "status a number": ({"status": 1}, "status is not text"),
    "status a blob": ({"status": b"Active"}, "status is not text"),
    "status undecodable": ({"status": LATIN_1}, "status is not valid UTF-8"),
    "status in lower case": ({"status": "released"}, "but for case or space"),
    "status in upper case": ({"status": "RELEASED"}, "but for case or space"),
    "status with a space before": ({"status": " Released"}, "but for case or space"),
    "status with a newline behind": ({"status": "Released\n"}, "but for case or space"),
    "status with a space without break": ({"status": "Released\u00a0"}, "but for case or space"),
    "status with both": ({"status": "\treleaseD "}, "but for case or space"),
    "released once": ({"released_at": NOON_EPOCH}, "released_at is set"),
    "released once, at the epoch": ({"released_at": 0}, "released_at is set"),
    "released once, at no time": ({"released_at": ""}, "released_at is set"),
    "expiry as text": ({"expires_at": str(NOON_EPOCH)}, "where epoch takes numbers"),
    "expiry as a blob": ({"expires_at": b"\x00"}, "where epoch takes numbers"),
    "expiry infinite": ({"expires_at": float("inf")}, "not a finite number"),
    "expiry minus infinite": ({"expires_at": float("-inf")}, "not a finite number"),
    "expiry zero": ({"expires_at": 0}, "outside of 2000 to 2200"),
    "expiry in milliseconds": ({"expires_at": NOON_EPOCH * 1000}, "outside of 2000 to 2200"),
    "expiry before 2000": ({"expires_at": 946_684_799}, "outside of 2000 to 2200"),
    "expiry after 2200": ({"expires_at": 7_289_654_400}, "outside of 2000 to 2200"),
    "expiry beyond every calendar": ({"expires_at": 2**63 - 1}, "outside of 2000 to 2200"),
    "expiry beyond every calendar, a real": ({"expires_at": 1e300}, "outside of 2000 to 2200"),
    "vm_ref a real": ({"vm_ref": 1.5}, "vm_ref is neither text nor an integer"),
    "vm_ref a blob": ({"vm_ref": b"vm"}, "vm_ref is neither text nor an integer"),
    "vm_ref undecodable": ({"vm_ref": LATIN_1}, "vm_ref is not valid UTF-8"),
    "vm_uid undecodable": ({"vm_uid": LATIN_1}, "vm_uid is not valid UTF-8"),
    "provisioner undecodable": ({"provisioner": LATIN_1}, "provisioner is not valid UTF-8"),
    "provisioner a blob": ({"provisioner": b"x"}, "provisioner is neither text nor an integer"),
}


@pytest.mark.parametrize(("changes", "reason"), INVALID.values(), ids=INVALID.keys())
def test_a_row_that_is_not_certain_is_invalid_and_says_why(changes: dict[str, RawValue], reason: str) -> None:
    row = msgspec.structs.replace(GOOD, **changes)
    judged = read_row(row, EPOCH)
    assert isinstance(judged, InvalidRow)
    assert reason in judged.reason
    assert judged.raw == RawRow(row.sid, row.status, row.expires_at)
    judged.sid.encode("utf-8")


def test_the_words_of_the_configuration_decide_what_is_nearly_released() -> None:
    words = Vocabulary(released="Straße", inactive=frozenset({"STRASSE"}))
    assert isinstance(read_row(msgspec.structs.replace(GOOD, status="strasse"), words), InvalidRow)
    listed = read_row(msgspec.structs.replace(GOOD, status="STRASSE"), words)
    assert isinstance(listed, Allocation)
    assert listed.settled
    assert not listed.released


@pytest.mark.parametrize(
    "status",
    [
        *("cancelled", "CANCELLED", "Cancelled ", "\tCancelled\x1f", "Cancelled\u00a0", "\u2003cancelled\u2029"),
        *("\uff23ancelled", "Gelo\u0308scht", "gel\u00f6scht", "GELO\u0308SCHT\n", "Relea\u017fed", "\uff32eleased"),
    ],
    ids=ascii,
)
def test_a_status_that_is_nearly_one_of_the_settled_is_not_certain(status: str) -> None:
    words = Vocabulary(inactive=frozenset({"Cancelled", "Gel\u00f6scht"}))
    judged = read_row(msgspec.structs.replace(GOOD, status=status), words)
    assert isinstance(judged, InvalidRow)
    assert "status" in judged.reason


def test_two_words_that_look_the_same_are_shown_as_they_are() -> None:
    words = Vocabulary(inactive=frozenset({"Gel\u00f6scht"}))
    judged = read_row(msgspec.structs.replace(GOOD, status="Gelo\u0308scht"), words)
    assert isinstance(judged, InvalidRow)
    assert judged.reason == r"status 'Gelo\u0308scht' is 'Gel\xf6scht' but for the form of its characters"


def test_words_that_are_all_configured_are_all_meant_although_they_are_alike() -> None:
    """Nobody lists two spellings by mistake: each is settled, and only a third one is in doubt."""
    words = Vocabulary(inactive=frozenset({"Cancelled", "cancelled", "released", "Gel\u00f6scht", "Gelo\u0308scht"}))
    for status in ("Released", *words.inactive):
        judged = read_row(msgspec.structs.replace(GOOD, status=status), words)
        assert isinstance(judged, Allocation)
        assert (judged.settled, judged.released) == (True, status == "Released")
    for status in ("CANCELLED", "RELEASED", "GEL\u00d6SCHT"):
        assert isinstance(read_row(msgspec.structs.replace(GOOD, status=status), words), InvalidRow)


@pytest.mark.parametrize("nothing", [None, "", " ", "\u00a0\t"], ids=repr)
def test_where_the_column_is_named_a_row_without_vm_ref_has_no_vm(nothing: RawValue) -> None:
    judged = read_row(msgspec.structs.replace(GOOD, vm_ref=nothing), Vocabulary(is_vm_ref_named=True))
    assert isinstance(judged, Allocation)
    assert (judged.sid, judged.vm_ref, judged.expires_at) == ("a", "", NOON)


def invalid(words: Vocabulary, **changes: RawValue) -> str:
    """The reason for which this row is invalid."""
    judged = read_row(msgspec.structs.replace(GOOD, **changes), words)
    assert isinstance(judged, InvalidRow)
    return judged.reason


def valid(words: Vocabulary, **changes: RawValue) -> Allocation:
    """What this row says, which is certain."""
    judged = read_row(msgspec.structs.replace(GOOD, **changes), words)
    assert isinstance(judged, Allocation)
    return judged


def test_where_live_statuses_are_listed_any_other_is_invalid() -> None:
    words = Vocabulary(inactive=frozenset({"Cancelled"}), live=frozenset({"Active", "Suspended", "Gelöscht?"}))
    assert not valid(words, status="Suspended").settled
    assert valid(words, status="Cancelled").settled
    for status in ("fraud", "in_review", ""):
        reason = invalid(words, status=status)
        assert repr(status) in reason
        assert "ledger.live" in reason
    assert "'active' is 'Active' but for case" in invalid(words, status="active")
    assert "'Active' but for case" in invalid(words, status="Active ")
    assert "form of its characters" in invalid(words, status="Gelo\u0308scht?")


NUMBERED = Vocabulary(released=3, inactive=frozenset({4, 5}))


def test_statuses_can_be_numbers() -> None:
    assert (valid(NUMBERED, status=3).released, valid(NUMBERED, status=3).status) == (True, "3")
    assert (valid(NUMBERED, status=4).settled, valid(NUMBERED, status=4).released) == (True, False)
    assert not valid(NUMBERED, status=1).settled
    assert valid(NUMBERED, status=1).raw.status == 1
    for status in ("3", 3.0, "Active", b"3"):
        assert "status is not an integer" in invalid(NUMBERED, status=status)
    assert "status is NULL" in invalid(NUMBERED, status=None)
    assert "ledger.live" in invalid(msgspec.structs.replace(NUMBERED, live=frozenset({1})), status=2)


@pytest.mark.parametrize("status", ["Active", "Released", "released", None, 7, LATIN_1], ids=ascii)
def test_a_row_that_is_deleted_has_nothing_left_to_release(status: RawValue) -> None:
    judged = valid(EPOCH, status=status, deleted_at=NOON_EPOCH, released_at=1, expires_at="x")
    assert (judged.settled, judged.released, judged.expires_at) == (True, status == "Released", None)
    judged.status.encode("utf-8")


BLANKS = [
    *(
        0,
        0.0,
        "",
        "0",
        "0000-00-00",
        "0000-00-00 00:00:00",
        " ",
        "\t",
        " 0 ",
        "0.0",
        "NULL",
        "None",
        "false",
        "No",
        "-",
    ),
    *("0001-01-01T00:00:00Z", "0001-01-01 00:00:00+00:00", -62_135_596_800, "1970-01-01 00:00:00", "00:00:00", "never"),
]


@pytest.mark.parametrize("value", [b"", b"\0", b"0"])
def test_bytes_that_look_like_nothing_are_no_deletion(value: bytes) -> None:
    reason = invalid(EPOCH, deleted_at=value)
    assert "make it NULL" in reason
    assert valid(EPOCH, deleted_at=b"\1").settled


@pytest.mark.parametrize("blank", BLANKS, ids=repr)
def test_what_looks_like_nothing_is_not_set_only_where_it_is_listed(blank: int | float | str) -> None:
    """Every row of a table with such a default would be settled without a word."""
    for role in ("deleted_at", "released_at"):
        reason = invalid(EPOCH, **{role: blank})
        assert f"{role} is " in reason
        assert "ledger.never" in reason
    listed = Vocabulary(never=(blank,))
    assert not valid(listed, deleted_at=blank, released_at=blank).settled
    assert valid(listed, deleted_at="2026-12-01").settled
    assert "released_at is set" in invalid(listed, released_at=1)


VALID: dict[str, dict[str, RawValue]] = {
    "plain": {},
    "sid an integer": {"sid": 5},
    "sid zero": {"sid": 0},
    "sid negative": {"sid": -3},
    "sid with strange characters": {"sid": "a'b\"c;--\n\t\x00🚀"},
    "sid very long": {"sid": "x" * 100_000},
    "sid a space": {"sid": " "},
    "another status": {"status": "Suspended"},
    "status empty": {"status": ""},
    "status that begins like released": {"status": "Released by hand"},
    "no expiry": {"expires_at": None},
    "expiry with a fraction": {"expires_at": NOON_EPOCH + 0.5},
    "first instant of 2000": {"expires_at": 946_684_800},
    "last instant of 2200": {"expires_at": 7_289_654_399},
    "owner undecodable": {"owner": LATIN_1},
    "plan a blob": {"plan": b"\xff\x00"},
    "owner a real": {"owner": 1.5},
    "vm_ref empty": {"vm_ref": ""},
    "vm_ref an integer": {"vm_ref": 100},
}


@pytest.mark.parametrize("changes", VALID.values(), ids=VALID.keys())
def test_strange_is_not_invalid(changes: dict[str, RawValue]) -> None:
    row = msgspec.structs.replace(GOOD, **changes)
    judged = read_row(row, EPOCH)
    assert isinstance(judged, Allocation)
    assert (judged.sid, judged.settled) == (str(row.sid), False)
    assert judged.raw == RawRow(row.sid, row.status, row.expires_at)
    assert f"{judged.owner}{judged.plan}".encode()


def test_all_that_an_allocation_says() -> None:
    row = StoredRow(
        sid=7,
        status="Active",
        expires_at=NOON_EPOCH,
        owner="Eve",
        plan="basic",
        vm_ref=100,
        vm_uid="uid",
        provisioner="ovh",
    )
    assert read_row(row, EPOCH) == Allocation(
        sid="7",
        status="Active",
        expires_at=NOON,
        settled=False,
        vm_ref="100",
        raw=RawRow(7, "Active", NOON_EPOCH),
        provisioner="ovh",
        vm_uid="uid",
        owner="Eve",
        plan="basic",
    )


@pytest.mark.parametrize("nothing", [None, ""], ids=repr)
def test_what_is_not_there_has_its_substitute(nothing: RawValue) -> None:
    judged = read_row(msgspec.structs.replace(GOOD, vm_ref=nothing, vm_uid=nothing, provisioner=nothing), EPOCH)
    assert isinstance(judged, Allocation)
    assert (judged.vm_ref, judged.vm_uid, judged.provisioner) == ("a", None, "default")


def test_zero_is_a_reference_like_any_other() -> None:
    judged = read_row(msgspec.structs.replace(GOOD, vm_ref=0, vm_uid=0, provisioner=0), EPOCH)
    assert isinstance(judged, Allocation)
    assert (judged.vm_ref, judged.vm_uid, judged.provisioner) == ("0", "0", "0")


@pytest.mark.parametrize("expires_at", [None, "nonsense", b"\xff", float("inf"), NOON_EPOCH])
@pytest.mark.parametrize("status", ["Released", "Cancelled"])
def test_of_a_settled_row_the_expiry_is_not_even_looked_at(status: str, expires_at: RawValue) -> None:
    row = msgspec.structs.replace(GOOD, status=status, expires_at=expires_at, released_at=1)
    judged = read_row(row, Vocabulary(inactive=frozenset({"Cancelled"})))
    assert isinstance(judged, Allocation)
    assert (judged.settled, judged.released, judged.expires_at) == (True, status == "Released", None)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, "NULL"), (b"\x00\xff", "x'00ff'"), (5, "5"), (1.5, "1.5"), ("a", "a"), (LATIN_1, "M\ufffdller")],
)
def test_any_value_can_be_shown(value: RawValue, expected: str) -> None:
    assert shown(value) == expected


stored_text = st.text() | st.binary().map(lambda stored: stored.decode("utf-8", "surrogateescape"))


@given(st.none() | st.integers() | st.floats() | stored_text | st.binary(), st.integers(10, 60))
@example("x" * 1000, 20)
@example(b"x" * 1000, 20)
@example(10**400, 20)
def test_what_is_shown_is_short_and_can_be_encoded(value: RawValue, limit: int) -> None:
    shown(value, limit).encode("utf-8")
    assert len(shown(value, limit)) <= limit + len("x''")
