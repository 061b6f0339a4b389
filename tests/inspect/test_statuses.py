"""What the doctor says of the statuses: what each means, and how those differ that look the same."""

import pytest

from autorelease.inspect import State
from autorelease.inspect.statuses import spellings, statuses
from autorelease.ledger.values import Vocabulary
from tests.support.engine import RENEWED
from tests.support.patient import Patient
from tests.support.place import LEDGER_PROVISIONER

COMPOSED = "Gel\u00f6scht"
DECOMPOSED = "Gelo\u0308scht"


def test_statuses_are_told_with_their_meaning(patient: Patient) -> None:
    patient.configure_file(LEDGER_PROVISIONER, ledger='inactive = ["Gone"]\n')
    for sid, status in (("g", "Gone"), ("n", None), ("r", "released")):
        patient.place.execute("INSERT INTO vm_allocations (sid, status) VALUES (?, ?)", sid, status)
    check = patient.examined()["statuses"]
    assert check.state is State.OK
    for told in (
        "Active 1 (live: released when its time is up)",
        "Released 1 (released)",
        "Gone 1 (inactive: nothing to release)",
        "NULL 1 (not understood: status is NULL)",
        "released 1 (not understood: status 'released' is 'Released' but for case or space)",
    ):
        assert told in check.message


def test_a_released_status_that_no_row_has(patient: Patient) -> None:
    patient.configure_file(LEDGER_PROVISIONER, ledger='released = "Terminated"\n')
    check = patient.examined()["statuses"]
    assert check.state is State.WARN
    assert "no row says 'Terminated'" in check.message


def test_a_column_of_anything_but_statuses(patient: Patient) -> None:
    patient.add(*(f"many-{number}" for number in range(30)), expires_at=RENEWED)
    patient.configure_file(LEDGER_PROVISIONER, ledger='[ledger.columns]\nstatus = "owner"\n')
    patient.place.execute("UPDATE vm_allocations SET owner = sid")
    check = patient.examined()["statuses"]
    assert check.state is State.WARN
    assert "is this the right column?" in check.message


# --- spellings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "differences"),
    [
        (DECOMPOSED, "the Unicode form of a character"),
        ("gel\u00f6scht", "case"),
        (f"{COMPOSED} ", "the space around it"),
        (f"\u2003{COMPOSED}", "the space around it"),
        (f"\t{DECOMPOSED.upper()}", "the space around it and the Unicode form of a character and case"),
    ],
)
def test_a_status_that_is_a_configured_one_in_another_form(there: str, differences: str) -> None:
    words = Vocabulary(released=COMPOSED)
    found = [("Active", 9), (there, 3), (COMPOSED, 2)]
    check = spellings(found, words)
    assert check.state is State.WARN
    assert check.message == (
        f"{COMPOSED!a} (2 rows, configured as released) and {there!a} (3 rows, not configured) differ in {differences}"
    )
    assert "[ledger] inactive" in check.remedy
    # Where they are counted nobody takes the one for the other, either.
    message = statuses(found, words, shows_released=True).message
    assert f"{COMPOSED!a} 2 (released)" in message
    assert f"{there!a} 3 (not understood: " in message
    assert "Active 9 (live" in message


def test_a_configured_word_that_no_row_has() -> None:
    words = Vocabulary(inactive=frozenset({"Cancelled"}))
    check = spellings([("cancelled", 4), ("Released", 1)], words)
    assert check.state is State.WARN
    assert check.message.startswith("'Cancelled' (0 rows, configured as inactive) and 'cancelled' (4 rows, not")


def test_spellings_of_what_is_live_either_way() -> None:
    check = spellings([("Active", 4), ("active", 1), ("Released", 1)], Vocabulary())
    assert (check.state, check.remedy) == (State.OK, "")
    assert check.message == (
        "all of these are live: 'Active' (4 rows, not configured) and 'active' (1 row, not configured) differ in case"
    )


def test_statuses_of_which_none_looks_like_another() -> None:
    found = [("Active", 4), (None, 1), (b"active", 1), (7, 1), ("Released", 1)]
    check = spellings(found, Vocabulary(inactive=frozenset({"Gone"})))
    assert (check.state, check.message) == (
        State.OK,
        "no two statuses differ in case, space or Unicode form alone",
    )


def test_many_spellings_are_named_in_part() -> None:
    found = [("Active" + " " * number, 1) for number in range(9)]
    assert spellings(found, Vocabulary()).message.endswith("; …")


def test_a_view_may_leave_out_what_is_released() -> None:
    words = Vocabulary()
    assert statuses([("Active", 9)], words, shows_released=True).state is State.WARN
    assert statuses([("Active", 9)], words, shows_released=False).state is State.OK
