"""Many rows one after the other: each is read as it is read alone, whatever came before it."""

from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from autorelease.ledger.reading import Reader
from autorelease.ledger.rows import StoredRow, read_row
from autorelease.ledger.values import Vocabulary

NOON = 1_796_126_400
LATIN_1 = b"M\xfcller".decode("utf-8", "surrogateescape")
PLAIN = StoredRow("a", "Active", NOON, owner="Müller", plan="basic", vm_ref="vm-1", provisioner="default")
WORDS = {
    "as it is": Vocabulary(),
    "with a word for never": Vocabulary(never=(NOON, 0, "", "never"), inactive=frozenset({"Cancelled"})),
    "with live words": Vocabulary(live=frozenset({"Active", "2"}), inactive=frozenset({"Cancelled"})),
    "with a named vm_ref": Vocabulary(is_vm_ref_named=True),
    "in milliseconds": Vocabulary(timestamps="epoch_ms"),
    "in text": Vocabulary(timestamps="iso8601", timezone=ZoneInfo("Europe/Berlin"), dates="end"),
    "in numbers": Vocabulary(released=3, inactive=frozenset({4}), live=frozenset({1, 2})),
}

names = st.sampled_from(
    [
        None,
        None,
        "a",
        "vm-1",
        "",
        " ",
        "\t",
        "é",
        "Müller",
        "a\0b",
        "a\nb",
        "\u200b",
        LATIN_1,
        7,
        0,
        1.0,
        2.5,
        b"a",
        b"",
    ]
)
statuses = st.sampled_from(
    ["Active", "Active", "Active", "active", "Released", "released", "Cancelled", "", "é", LATIN_1, None, b"Active"]
) | st.sampled_from([1, 1.0, 2, 3, 3.0, 4, 5, "2", "3"])
expiries = st.one_of(
    st.integers(946_684_799, 946_684_801),
    st.integers(7_289_654_399, 7_289_654_401),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([NOON, NOON * 1000, float(NOON), NOON + 0.5, None, 0, float("inf"), b"", str(NOON), "never", ""]),
    st.sampled_from(["2026-12-01 12:00:00Z", "2026-12-01", "2026-12-01T12:00:00.5+02:00", "2026-10-25 02:30:00"]),
)
instants = st.sampled_from([None, None, None, None, 0, NOON, "", "never", b""])
rows = st.builds(
    StoredRow,
    sid=names,
    status=statuses,
    expires_at=expiries,
    released_at=instants,
    owner=names,
    plan=names,
    vm_ref=names,
    vm_uid=names,
    provisioner=names,
    deleted_at=instants,
)


@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS)
@given(stored=st.lists(rows, max_size=8))
@example(stored=[PLAIN, StoredRow("b", "Active", NOON, provisioner=0)])
@example(stored=[PLAIN, StoredRow("b", "Active", NOON, provisioner="")])
@example(stored=[PLAIN, StoredRow("b", "Active", NOON, vm_ref=" ")])
@example(stored=[PLAIN, StoredRow("b", "Active", NOON, owner=LATIN_1)])
@example(stored=[StoredRow("a", 1, NOON), StoredRow("b", 1.0, NOON)])
def test_a_row_is_read_as_it_is_read_alone(words: Vocabulary, stored: list[StoredRow]) -> None:
    reader = Reader(words)
    # Twice: what was judged before is known by then.
    for row in (*stored, *stored):
        found = reader.read(row)
        assert found == read_row(row, words)
        assert _kinds(found) == _kinds(read_row(row, words))


def _kinds(row: object) -> list[type]:
    return [type(getattr(row, name)) for name in row.__struct_fields__]  # type: ignore[attr-defined]
