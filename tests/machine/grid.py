"""One thing after the other at one point after the other: what chance may leave out.

A cell of the grid is a run, a point of it, and what happens there; then all is mended, and must converge. The ordinary
suite takes one point of each kind, a long run all of them.
"""

import itertools
from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

from autorelease.journal import TickKind
from autorelease.rules.guard import Limits
from tests.machine.machine import FEW, RACES, SIDS, Machine, Troubles
from tests.machine.provider import Mood
from tests.machine.script import Collaborator, Point, Side

# How many calls a run over three rows makes on each, one after the other; the first two come before anything is begun.
CALLS = {
    TickKind.TICK: {Collaborator.LEDGER: 16, Collaborator.JOURNAL: 20, Collaborator.PROVISIONER: 4},
    TickKind.RELEASE: {Collaborator.LEDGER: 12, Collaborator.JOURNAL: 8, Collaborator.PROVISIONER: 4},
}
# Coprime to all of those, so that what happens is at ever other points.
STRIDE = 7
SHOWN = Point(Collaborator.OPERATOR, Side.BEFORE, 1)
NOTHING = Troubles((), None, None, None)


class Cell(NamedTuple):
    """What happens to a run, and where."""

    what: str
    kind: TickKind
    point: Point


def cells(*, is_whole: bool) -> Sequence[Cell]:
    """The grid; or of each kind of cell one, at a point that differs from kind to kind."""
    kinds = itertools.product(dict.fromkeys(RACES), TickKind, CALLS[TickKind.TICK])
    # An operator is shown the plan of an order alone, and once.
    found = [Cell(what, TickKind.RELEASE, SHOWN) for what in dict.fromkeys(RACES)]
    for index, (what, kind, collaborator) in enumerate(kinds):
        numbers = range(1, CALLS[kind][collaborator] + 1)
        points = [Point(collaborator, side, number) for side in Side for number in numbers]
        chosen = points if is_whole else [points[index * STRIDE % len(points)]]
        found.extend(Cell(what, kind, point) for point in chosen)
    return found


def run_cell(made: type[Machine], cell: Cell) -> None:
    """Let it happen, on a machine that has released something before."""
    machine = made()
    try:
        machine.configure(
            limits=Limits(100, 100, 20),
            can_be_asked=False,
            remembers=True,
            concurrency=1,
            grace=timedelta(0),
            hold_grace=timedelta(0),
            attempts=3,
        )
        machine.month_ends(group=SIDS[7:], provisioner="default", answer=None, troubles=NOTHING)
        if cell.what == "retry":
            machine.acknowledge_in_mid_call(side=Side.AFTER, kind=cell.kind, point=cell.point, group=FEW[1], death=None)
        else:
            machine.race(what=cell.what, kind=cell.kind, point=cell.point, group=FEW[1], which=1, mood=Mood.WELL)
        machine.nothing_is_lost()
    finally:
        machine.teardown()
