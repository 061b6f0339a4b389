"""The installed command itself: every command of it, and every exit code that a start of its own can show.

Most other tests start it by a process that has loaded it already. What ends it by a signal or by a bug is a real start
wherever it is tried.
"""

import fcntl
from collections.abc import Callable

import pytest

from autorelease.cli.app import app
from autorelease.errors import ExitCode
from tests.support.place import DAY, LEDGER_PROVISIONER, NOW, PERMISSIVE, Place, allocation, command_provisioner

pytestmark = pytest.mark.usefixtures("real_starts")

DUE = allocation("due", NOW - DAY)
# In an order in which each ends well, with a word of what it shows.
COMMANDS = {
    ("hold", "due", "--reason", "a dispute"): "due",
    ("holds",): "a dispute",
    ("unhold", "due"): "due",
    ("retry", "due"): "due",
    ("explain", "due"): "due",
    ("list-expired",): "due",
    ("tick", "--once"): "success",
    ("history",): "success",
    ("upcoming",): "later",
    ("health",): "",
    ("doctor",): "config.toml",
    ("release", "later", "--yes", "--reason", "it is wished"): "later",
}


def test_every_command_does_its_work(place: Place) -> None:
    place.configure(LEDGER_PROVISIONER, PERMISSIVE, '[release]\nhold_grace = "0s"\n')
    place.journal.unlink()
    assert place.run("init").code == 0
    place.make_ledger([DUE, allocation("later", NOW + DAY)])
    for arguments, word in COMMANDS.items():
        ran = place.run(*arguments)
        assert ran.code == 0, (arguments, ran)
        assert word in ran.out + ran.err, (arguments, ran)
    assert place.released() == {"due", "later"}
    names = {command.name for command in app.registered_commands}
    assert {arguments[0] for arguments in COMMANDS} | {"init"} == names


def has_an_invalid_row(place: Place) -> None:
    """One row cannot be read."""
    place.insert([allocation("invalid", "soon")])


def has_no_configuration(place: Place) -> None:
    """The file is not there."""
    place.config.unlink()


def has_no_ledger(place: Place) -> None:
    """The file is not there."""
    place.ledger.unlink()


def is_refused(place: Place) -> None:
    """One is due, and none may be."""
    place.configure(LEDGER_PROVISIONER, "[guard]\nmax_releases = 0\n")


def is_down(place: Place) -> None:
    """Its program is missing."""
    place.configure(command_provisioner([place.folder / "missing"]), PERMISSIVE)


TICK = ("tick", "--once")
ENDS: dict[ExitCode, tuple[Callable[[Place], object], tuple[str, ...]]] = {
    ExitCode.OK: (lambda _: None, TICK),
    ExitCode.USAGE: (lambda _: None, ("nonsense",)),
    ExitCode.NOT_ALL_WELL: (has_an_invalid_row, TICK),
    ExitCode.CONFIGURATION: (has_no_configuration, TICK),
    ExitCode.UNUSABLE: (has_no_ledger, TICK),
    ExitCode.REFUSED: (is_refused, TICK),
    ExitCode.PROVISIONER_DOWN: (is_down, TICK),
    ExitCode.UNHEALTHY: (lambda _: None, ("health",)),
}


@pytest.mark.parametrize("code", ENDS)
def test_every_exit_code_is_that_of_the_process(place: Place, code: ExitCode) -> None:
    prepare, arguments = ENDS[code]
    place.make_ledger([DUE])
    prepare(place)
    assert place.run(*arguments).code == code


def test_so_is_that_of_a_tick_beside_another(place: Place) -> None:
    place.make_ledger([DUE])
    with (place.folder / "journal.db.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert place.run(*TICK).code == ExitCode.LOCKED
