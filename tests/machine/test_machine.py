"""The state machine of the sweep, run; and nothing that it was made for may have failed to occur."""

import itertools
import logging
import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from autorelease.journal import TickKind
from autorelease.model import ErrorCode, Outcome, SkipReason
from tests.machine.belief import Answer
from tests.machine.grid import Cell, cells, run_cell
from tests.machine.machine import INTERRUPTIONS, MEMORY, Machine
from tests.machine.provider import Mood
from tests.machine.script import Collaborator, Side
from tests.support.engine import Engine
from tests.support.thorough import examples, is_thorough

logger = logging.getLogger(__name__)
WANTED = int(os.environ.get("AUTORELEASE_EXAMPLES", "0"))


class Part(NamedTuple):
    """What one process does. seeds: of so many times EXAMPLES, None for any; grid: the cells that are tried before.

    shows_all: nothing that can happen may be missing.
    """

    seeds: Sequence[int | None]
    grid: Sequence[Cell] = ()
    shows_all: bool = False


# One seed alone leaves out what is rare; as many examples as `make fuzz` asks for do not.
SEEDS = (3, 7, 11)
FIXED = Part(SEEDS, cells(is_whole=False), shows_all=True)
# Side by side, and as much of each as there is time for.
QUICK = [Part((), cells(is_whole=False)[::3]), Part(SEEDS[:1])]
PARTS = (
    [Part((None,)), Part((None,)), Part((), cells(is_whole=True))] if WANTED else [FIXED] if is_thorough() else QUICK
)
EXAMPLES = WANTED // 2 or examples(40)
STEPS = 30
GUARD = (
    "max_releases",
    "max_percent",
    "clock_backwards",
    "clock_gap",
    "clock_stepped",
    "ledger_rewound",
    "other_ledger",
    "confirm",
)
RULES = (
    *("allocate", "renew", "renew by another row", "move the VM", "settle", "cancel", "revive", "spoil", "delete"),
    *(
        "share",
        "copy",
        "restore",
        "change mood",
        "reconfigure",
        "acknowledge in mid-call",
        "confirm another plan",
        "lose the token",
        "sleep in the midst",
    ),
    *(
        "leap",
        "reboot",
        "move",
        "vanish",
        "hold",
        "unhold",
        "retry",
        "release",
        "tick",
        "tick in trouble",
        "race",
        "month ends",
    ),
    "confirm",
)
WORKED_WITH = (Collaborator.LEDGER, Collaborator.JOURNAL, Collaborator.PROVISIONER)
# What must befall ticks and orders alike, in the midst of work with each of those.
ANYWHERE = ("renew by another row", "move the VM", "retry")
OCCURS = (
    *(f"rule {rule}" for rule in RULES),
    *(f"outcome {outcome}" for outcome in Outcome),
    *(f"skipped {reason}" for reason in SkipReason if reason is not SkipReason.DRY_RUN),
    *(f"error {code}" for code in ErrorCode),
    *(f"refused {code}" for code in GUARD),
    *(
        f"{kind}: death {side} {collaborator}"
        for kind, side, collaborator in itertools.product(TickKind, Side, WORKED_WITH)
    ),
    *(
        f"{kind}: {what} at the {collaborator}"
        for kind, what, collaborator in itertools.product(TickKind, ANYWHERE, WORKED_WITH)
    ),
    *(f"release: {what} at the operator" for what in ANYWHERE),
    "release: death before operator",
    "stopped before its plan",
    "limited",
    "confirmed in part",
    "confirmed whole",
    *(f"mood {mood}" for mood in Mood if mood not in (Mood.CLOSED, Mood.MISSING)),
    *(f"exit {code}" for code in (0, 3, 5, 7, 8, 143)),
    *(f"interrupted by {what}" for what in INTERRUPTIONS),
    "fault",
    "a lie was believed",
    *(f"stamped by {answer}" for answer in Answer if answer is not Answer.PENDING),
    "vouched for",
    "asked, and there",
    "asked, and not there",
)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses and rescues that last milliseconds; a call is given up as soon as its own time-out is over."""
    monkeypatch.setattr("autorelease.sweep.trouble.PAUSE_SECONDS", 0.002)
    monkeypatch.setattr("autorelease.limits.STAMP_RESCUE", timedelta(seconds=0.03))
    monkeypatch.setattr("autorelease.limits.ABANDONED_AFTER", timedelta(0))
    monkeypatch.setattr("autorelease.rules.retry.FIRST_PAUSE_SECONDS", 0.001)


@pytest.mark.no_cover
@pytest.mark.timeout(0 if WANTED else 900)
@pytest.mark.parametrize("part", PARTS, ids=range(len(PARTS)))
def test_whatever_happens(quick: None, part: Part, tmp_path: Path) -> None:
    happened = Counter[str]()
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else tmp_path) as folder:
        template = Path(folder) / "template"
        template.mkdir()
        Engine(template)
        run_grid(template, happened, part.grid)
        for number in part.seeds:
            run_machine(template, happened, number)
    logger.warning("%d examples, %d steps: %s", happened["example"], happened["step"], happened)
    assert happened["example"] >= EXAMPLES * len(part.seeds) + len(part.grid)
    missing = [what for what in OCCURS if not happened[what]]
    # Other seeds in every run: what is rare may be missing by chance, and is told. The fixed ones must show all.
    assert not (missing and part.shows_all), missing
    logger.warning("did not occur: %s", missing)


def run_grid(template: Path, happened: Counter[str], grid: Sequence[Cell]) -> None:
    """Run these cells."""

    class Gridded(Machine):
        pass

    Gridded.template, Gridded.seen = template, happened
    for cell in grid:
        try:
            run_cell(Gridded, cell)
        except BaseException as error:
            error.add_note(f"in the cell {cell}")
            raise


def run_machine(template: Path, happened: Counter[str], number: int | None) -> None:
    """Run EXAMPLES of them. number: the seed; None: another in every run, and the shortest that fails is looked for."""

    class Counted(Machine):
        pass

    Counted.template, Counted.seen = template, happened
    if number is not None:
        seed(number)(Counted)
    run_state_machine_as_test(
        Counted,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            derandomize=number is not None,
            phases=[Phase.generate, *([Phase.shrink] if number is None else [])],
            database=None,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
