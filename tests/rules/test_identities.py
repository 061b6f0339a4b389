"""What a plan is remembered by: sid and expiry, each row once, and nothing else."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autorelease.rules.identities import DIGEST_BYTES, Identities, identity, packed

EXPIRY = datetime(2026, 12, 1, 11, tzinfo=UTC)
ONE = identity("a", EXPIRY)


@pytest.mark.parametrize(
    "other",
    [
        identity("b", EXPIRY),
        identity("a", EXPIRY + timedelta(microseconds=1)),
        identity("a", None),
        identity("a ", EXPIRY),
        identity("A", EXPIRY),
        identity("a", EXPIRY, ""),
        identity("a", EXPIRY, "fingerprint"),
        identity(f"a1:{EXPIRY.isoformat()}", None),
    ],
)
def test_whatever_differs_is_another_row(other: bytes) -> None:
    assert other != ONE
    assert len(other) == DIGEST_BYTES


def test_parts_that_run_into_each_other_are_told_apart() -> None:
    assert identity("a", None, "bc", "d") != identity("a", None, "b", "cd")
    assert identity("a", None, "b") != identity("ab", None, "")


@pytest.mark.parametrize("sid", ["", "ä\u202e\n", "nul\x00byte", "\ud800", "x" * 100_000])
def test_any_sid_has_one(sid: str) -> None:
    assert identity(sid, EXPIRY) == identity(sid, EXPIRY)
    assert identity(sid, EXPIRY) in Identities(packed([identity(sid, EXPIRY)]))


@given(st.lists(st.binary(min_size=DIGEST_BYTES, max_size=DIGEST_BYTES)), st.binary(min_size=DIGEST_BYTES, max_size=16))
def test_what_is_packed_is_in_it_and_nothing_else_is(found: list[bytes], other: bytes) -> None:
    rows = Identities(packed(found))
    assert all(each in rows for each in found)
    assert (other in rows) is (other in found)
    assert len(rows) == len(set(found))


def test_none_of_them() -> None:
    assert packed([]) == b""
    assert ONE not in Identities(b"")
    assert len(Identities(b"")) == 0


def test_a_hundred_thousand_rows_take_sixteen_bytes_each() -> None:
    value = packed(identity(f"vm-{number}", EXPIRY) for number in range(100_000))
    assert len(value) == 1_600_000
    rows = Identities(value)
    assert identity("vm-99999", EXPIRY) in rows
    assert identity("vm-100000", EXPIRY) not in rows
