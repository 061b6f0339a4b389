"""Every exception has one exit code, and every exit code one meaning."""

import pytest

from autorelease import errors
from autorelease.errors import AutoreleaseError, ExitCode, IdentityError, ProvisionerDown, ProvisionerError
from autorelease.sqlitefile import StampRefusedError

# The contract's section 6, written down a second time.
CODES = {
    "OK": 0,
    "BUG": 1,
    "USAGE": 2,
    "NOT_ALL_WELL": 3,
    "CONFIGURATION": 4,
    "UNUSABLE": 5,
    "LOCKED": 6,
    "REFUSED": 7,
    "PROVISIONER_DOWN": 8,
    "UNHEALTHY": 9,
    "HUNG_UP": 129,
    "INTERRUPTED": 130,
    "TERMINATED": 143,
}
CLASSES = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
# What may reach an operator's eyes; the others only end something in silence.
SHOWN = [kind for kind in CLASSES if issubclass(kind, AutoreleaseError | ProvisionerError)]
OURS = [kind for kind in CLASSES if issubclass(kind, AutoreleaseError)]


def test_the_exit_codes_are_those_of_the_contract() -> None:
    assert {code.name: code.value for code in ExitCode} == CODES


def test_an_exit_code_belongs_to_one_class() -> None:
    owners = [kind for kind in OURS if "exit_code" in vars(kind)]
    assert len({kind.exit_code for kind in owners}) == len(owners)
    assert all("error" in vars(kind) for kind in owners)


def test_the_word_for_an_error_means_one_thing() -> None:
    words = [kind.error for kind in OURS if "error" in vars(kind)]
    assert len(set(words)) == len(words)


@pytest.mark.parametrize("kind", SHOWN)
def test_the_docstrings_first_line_is_the_default_message(kind: type[Exception]) -> None:
    assert kind.__doc__
    assert str(kind()) == kind.__doc__.splitlines()[0]
    assert str(kind("the disk is full")) == "the disk is full"


def test_there_are_errors_of_both_kinds() -> None:
    assert {IdentityError, ProvisionerDown} <= set(SHOWN)


def test_a_counter_that_does_not_add_up_is_a_bug() -> None:
    assert IdentityError().exit_code is ExitCode.BUG


def test_a_refused_stamp_is_an_unusable_ledger_where_nobody_takes_it_as_one_row() -> None:
    assert StampRefusedError("no").exit_code is ExitCode.UNUSABLE


def test_a_provisioners_error_says_whether_to_try_again() -> None:
    plain = ProvisionerError("no")
    assert (plain.retryable, plain.retry_after_seconds, plain.timed_out) == (False, None, False)
    told = ProvisionerDown("later", retryable=True, retry_after_seconds=3.5, timed_out=True)
    assert (told.retryable, told.retry_after_seconds, told.timed_out) == (True, 3.5, True)
    # A call that timed out may have gone through; so may one that was cut off.
    cut_off = ProvisionerError("reset by peer", end_unknown=True)
    assert [error.end_unknown for error in (plain, told, cut_off)] == [False, True, True]
    assert not isinstance(plain, AutoreleaseError)
