"""One provisioner as the doctor sees it: real programs, and a journal that real ticks have filled."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from autorelease.inspect import Check, State
from autorelease.inspect.provisioners import examine_provisioner
from autorelease.rules.guard import Moment
from autorelease.settings import load_settings
from tests.support.journals import copy_journal
from tests.support.place import DAY, NOW, PERMISSIVE, Place, allocation, command_provisioner, program


@pytest.fixture
def here(tmp_path: Path) -> Place:
    """A place with one due row, and one that is paid for."""
    place = Place(tmp_path)
    place.make_ledger([allocation("due", NOW - DAY), allocation("paid", NOW + DAY)])
    copy_journal(place.journal)
    return place


def examined(place: Place) -> dict[str, Check]:
    """Every line by its name."""
    settings = load_settings(place.config, None, {})
    checks = list(examine_provisioner(settings, Moment(datetime.now(UTC)), "default"))
    assert all(check.remedy for check in checks if check.state is not State.OK)
    return {check.name: check for check in checks}


def released_by(place: Place, body: str, *more: str) -> str:
    """Configure a program, let a tick use it, and say what it is called."""
    path = program(place.folder, body)
    place.configure(command_provisioner([path, "{vm_ref}"]), *more, PERMISSIVE)
    return str(path)


def test_one_that_has_released_something(here: Place) -> None:
    path = released_by(here, "exit 0")
    found = examined(here)
    assert found["credit"].state is State.WARN
    assert found["last answers"].message == "none under what it is known by now"
    assert here.run("tick", "--once").code == 0
    found = examined(here)
    assert {check.state for check in found.values()} == {State.OK}
    assert f"SHA-256 of {path} = " in found["known by"].message
    assert found["credit"].message.startswith("it has released something as it is configured now, first at 20")
    assert found["last answers"].message == "the newest first: 1 released"
    assert "cannot be asked" in found["provisioner default"].message


def test_a_changed_program_has_no_credit_and_the_change_is_named(here: Place) -> None:
    path = released_by(here, "exit 0")
    assert here.run("tick", "--once").code == 0
    released_by(here, "exit 0 # as before")
    check = examined(here)["credit"]
    assert check.state is State.WARN
    assert f"SHA-256 of {path} was " in check.message


def test_answers_that_nobody_would_believe(here: Place) -> None:
    """A program that says of all but the first that it is not found."""
    body = 'case "$1" in due) exit 0;; *) exit 9;; esac'
    path = program(here.folder, body)
    section = command_provisioner([path, "{vm_ref}"]) + "already = [9]\n"
    here.configure(section, PERMISSIVE)
    assert here.run("tick", "--once").code == 0
    here.insert([allocation(f"lost-{number}", NOW - DAY) for number in range(5)])
    assert here.run("tick", "--once").code == 8
    check = examined(here)["last answers"]
    assert check.state is State.WARN
    assert check.message.startswith("the newest first: 5 miss, 1 released; a 'not found' would not be believed: ")


def test_one_that_does_not_find_a_vm_that_is_paid_for(here: Place) -> None:
    look = program(here.folder, "exit 9", "look")
    path = program(here.folder, "exit 0")
    here.configure(command_provisioner([path, "{vm_ref}"]) + f'already = [9]\nexists = ["{look}"]\n')
    check = examined(here)["provisioner default"]
    assert check.state is State.FAIL
    assert "does not find the VM of paid" in check.message


def test_one_that_nobody_could_be_asked_of(here: Place) -> None:
    here.execute("DELETE FROM vm_allocations WHERE sid = 'paid'")
    look = program(here.folder, "exit 9", "look")
    here.configure(command_provisioner([look, "{vm_ref}"]) + f'already = [9]\nexists = ["{look}"]\n')
    check = examined(here)["provisioner default"]
    assert (check.state, check.message) == (
        State.OK,
        "can be used; no row is paid for by whose VM it could be tried",
    )


def test_one_that_cannot_be_used(here: Place) -> None:
    here.configure(command_provisioner(["/no/such/program"]))
    found = examined(here)
    assert list(found) == ["options", "preflight"]
    assert found["preflight"].state is State.FAIL


def test_without_a_journal_nobody_can_say_what_it_is_worth(here: Place) -> None:
    released_by(here, "exit 0")
    here.journal.write_text("dear diary")
    check = examined(here)["credit"]
    assert check.state is State.WARN
    assert check.message.startswith("nobody can say: ")


def test_no_secret_of_its_options_is_shown(here: Place) -> None:
    path = program(here.folder, "exit 0")
    here.configure(command_provisioner([path, "--token=hunter2", "{vm_ref}"]))
    found = examined(here)
    assert "hunter2" not in str([replace(check) for check in found.values()])
    assert "--token=***" in found["known by"].message
