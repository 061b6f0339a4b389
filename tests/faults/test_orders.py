"""An operator's release of a row that has not expired, killed in its call. Real processes."""

import json
import os
import signal
from collections.abc import Iterator

import pytest

from tests.e2e.reports import history, tick_report, wait_until
from tests.faults.underway import Underway
from tests.support.place import DAY, NOW, Place, allocation

FAR = NOW + 300 * DAY


@pytest.fixture
def order(place: Place) -> Iterator[Underway]:
    """A release of the only row, which is paid for; its VM is gone, and its call has not come back."""
    made = Underway(place)
    made.prepare()
    place.execute("DELETE FROM vm_allocations")
    place.insert([allocation("paid", FAR)])
    made.start("release", "paid", "--yes", "--reason", "fraud")
    wait_until(lambda: made.calls() == ["paid"])
    yield made
    made.go_on()


def codes(place: Place, code: int) -> list[str]:
    """The errors of a tick that ends with this exit code."""
    return [error["code"] for error in tick_report(place.run("tick", "--once", "--json"), code)["errors"]]


def problems(place: Place) -> list[str]:
    """What `health` complains of."""
    return [problem["code"] for problem in json.loads(place.run("health", "--format", "json").out)["problems"]]


def conflicts_line(place: Place) -> str:
    """What `doctor` says of conflicts."""
    lines = place.run("doctor", "--format", "plain").out.splitlines()
    [line] = [line for line in lines if "\tconflicts\t" in f"\t{line}"]
    return line


def kill(order: Underway) -> None:
    """The releasing process alone: its program ends by itself."""
    os.kill(order.pid, signal.SIGKILL)
    assert order.finish().code == -signal.SIGKILL


def test_while_the_order_lives_its_row_is_its_own_affair(place: Place, order: Underway) -> None:
    assert codes(place, 0) == []
    assert "none is open" in conflicts_line(place)
    assert "is under way just now" in place.run("retry", "paid").out
    order.go_on()
    assert order.finish().code == 0
    assert codes(place, 0) == []
    assert place.released() == {"paid"}


def test_an_order_that_was_killed_leaves_a_conflict_that_stays(place: Place, order: Underway) -> None:
    """The VM is gone, and its owner pays until the row's far end: else nobody would ever be told."""
    kill(order)
    for _ in range(2):
        assert codes(place, 3) == ["conflict"]
        assert "conflict" in problems(place)
        assert "1 open (paid)" in conflicts_line(place)
        place.run("retry", "--all")
        place.run("retry", "--provisioner", "default")
    assert place.query("SELECT status FROM vm_allocations") == [("Active",)]
    assert place.run("retry", "paid").out == "paid: conflict acknowledged\n"
    assert codes(place, 0) == []
    assert "conflict" not in problems(place)
    assert "none is open" in conflicts_line(place)
    assert [tick["status"] for tick in history(place)["ticks"]].count("crashed") == 1


def test_the_next_order_finishes_what_the_killed_one_began(place: Place, order: Underway) -> None:
    kill(order)
    order.go_on()
    # Its "not found" is not believed of a program that has never released anything.
    assert place.run("release", "paid", "--yes").code == 8
    assert codes(place, 3) == ["conflict"]
    assert place.released() == set()
