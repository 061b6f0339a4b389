"""Holds of everything, and of all that a provisioner serves: they stop a release in every way that there is."""

from collections.abc import Sequence
from datetime import timedelta
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autorelease.errors import ExitCode
from autorelease.model import Allocation, Release, Result
from autorelease.provisioners.memory import MemoryProvisioner
from tests.support.engine import EXPIRED, RENEWED, Engine, Scripted
from tests.support.sweeping import MISS, retryable, when
from tests.support.thorough import examples

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """An empty ledger and an empty journal; one call after the other, and holds end at once."""
    made = Engine(tmp_path)
    made.configure(concurrency=1, hold_grace=timedelta(0))
    return made


def two_of_each(engine: Engine) -> dict[str, Scripted]:
    """Two due rows of each of two provisioners."""
    engine.add("a", "b")
    engine.add("c", "d", provisioner="second")
    return {"default": Scripted(), "second": Scripted()}


def test_while_everything_is_held_nothing_is_released(engine: Engine) -> None:
    provisioners = two_of_each(engine)
    engine.hold("", engine.now + HOUR)
    ticked = engine.tick(provisioners)
    assert (ticked.code, set(ticked.ends().values())) == (ExitCode.OK, {"held"})
    assert ticked.report.oldest_overdue_seconds == 0
    assert provisioners["default"].calls == provisioners["second"].calls == []
    assert engine.place.released() == set()
    engine.later(HOUR)
    assert set(engine.tick(provisioners).ends().values()) == {"released"}


def test_a_hold_of_one_provisioner_leaves_the_others_alone(engine: Engine) -> None:
    provisioners = two_of_each(engine)
    engine.hold("", provisioner="second")
    assert engine.tick(provisioners).ends() == {"a": "released", "b": "released", "c": "held", "d": "held"}
    engine.unhold("", provisioner="second")
    assert engine.tick(provisioners).ends() == {"c": "released", "d": "released"}


def test_the_red_button_in_mid_tick_stops_what_has_no_intent_yet(engine: Engine) -> None:
    provisioners = two_of_each(engine)
    begun: list[object] = []
    provisioners["default"] = Scripted(before=when("a", lambda: begun.append(engine.hold("", engine.now + HOUR))))
    ticked = engine.tick(provisioners)
    assert ticked.ends()["b"] == "held"
    assert engine.place.released() == set(provisioners["default"].calls) | set(provisioners["second"].calls)
    assert "b" not in engine.place.released()
    assert begun == [engine.now]
    assert engine.open_intents() == set()


def test_a_hold_of_a_provisioner_in_mid_tick(engine: Engine) -> None:
    engine.add("a", "b")
    provisioner = Scripted(before=when("a", lambda: engine.hold("", provisioner="default")))
    assert engine.tick(provisioner).ends() == {"a": "released", "b": "held"}
    assert provisioner.calls == ["a"]


def test_the_red_button_between_two_attempts(engine: Engine) -> None:
    engine.add("a")
    provisioner = Scripted({"a": [retryable()]}, before=lambda _: engine.hold("", engine.now + HOUR))
    assert (engine.tick(provisioner).ends(), provisioner.calls) == ({"a": "held"}, ["a"])


def test_they_end_softly_as_every_hold_does(engine: Engine) -> None:
    engine.configure(hold_grace=DAY)
    engine.add("a")
    engine.hold("", engine.now + HOUR)
    engine.later(HOUR + DAY - timedelta(microseconds=1))
    assert engine.tick(Scripted()).ends() == {"a": "held"}
    engine.later(timedelta(microseconds=1))
    assert engine.tick(Scripted()).ends() == {"a": "released"}


@pytest.mark.parametrize("first", ["of everything", "its own"])
def test_one_hold_does_not_end_the_other(engine: Engine, first: str) -> None:
    engine.add("a", "b")
    engine.hold("", engine.now + DAY)
    engine.hold("a")
    engine.unhold("" if first == "of everything" else "a")
    assert engine.tick(Scripted()).ends()["a"] == "held"
    engine.unhold("a" if first == "of everything" else "")
    assert engine.tick(Scripted()).ends()["a"] == "released"


def test_a_row_that_moves_to_another_provisioner_is_held_by_the_hold_of_that_one(engine: Engine) -> None:
    provisioners = two_of_each(engine)
    engine.hold("", provisioner="second")
    engine.place.execute("UPDATE vm_allocations SET provisioner = 'second' WHERE sid = 'a'")
    engine.place.execute("UPDATE vm_allocations SET provisioner = 'default' WHERE sid = 'c'")
    assert engine.tick(provisioners).ends() == {"a": "held", "b": "released", "c": "released", "d": "held"}


def test_an_operators_release_is_stopped_as_well(engine: Engine) -> None:
    engine.configure(hold_grace=DAY)
    engine.add("a", expires_at=RENEWED)
    engine.hold("", engine.now + HOUR)
    ticked = engine.release(MemoryProvisioner(["a"]), "a")
    assert (ticked.code, ticked.ends()) == (ExitCode.NOT_ALL_WELL, {"a": "held"})
    engine.unhold("")
    assert engine.release(MemoryProvisioner(["a"]), "a").ends() == {"a": "released"}


def test_the_red_button_while_the_operator_is_asked(engine: Engine) -> None:
    engine.add("a")
    provisioner = MemoryProvisioner(["a"])
    ticked = engine.release(provisioner, "a", meanwhile=lambda: engine.hold("", engine.now + HOUR))
    assert (ticked.ends(), provisioner.releases) == ({"a": "held"}, {})


def test_whose_other_row_is_held_by_its_provisioner_is_left_alone(engine: Engine) -> None:
    """Both rows are due, and of one VM: the other one stays, so that the VM does."""
    engine.add("a", vm_ref="web-1")
    engine.add("first", expires_at=EXPIRED - 60)

    def hold_both(_: Allocation) -> None:
        engine.add("b", vm_ref="web-1")
        engine.hold("", provisioner="default")

    assert engine.tick(Scripted(before=hold_both)).ends() == {"first": "released", "a": "held"}


def test_an_invalid_row_is_known_to_whoever_holds_everything(engine: Engine) -> None:
    engine.add("strange", released_at=5, expires_at=RENEWED)
    assert engine.tick(Scripted()).code == ExitCode.NOT_ALL_WELL
    # Of what cannot be understood nobody can say which provisioner it is of.
    engine.hold("", provisioner="default")
    assert engine.tick(Scripted()).code == ExitCode.NOT_ALL_WELL
    engine.hold("", engine.now + HOUR)
    ticked = engine.tick(Scripted())
    assert (ticked.code, ticked.report.rows_invalid, ticked.report.rows_acknowledged) == (ExitCode.OK, 1, 1)


class Blind(Scripted):
    """It finds nothing, and says so of VMs that are paid for, too."""

    def __init__(self, engine: Engine) -> None:
        answers = {
            sid: [Release(Result.RELEASED, evidence="204")] if sid == "credit" else [MISS] for sid in ("credit", "a")
        }
        super().__init__(answers, before=when("a", lambda: engine.hold("", engine.now + HOUR)))
        self.asked: list[str] = []

    def exists(self, allocation: Allocation) -> bool:
        """It is not there."""
        self.asked.append(allocation.sid)
        return False


def test_the_red_button_does_not_end_the_question_that_finds_a_blind_provisioner(engine: Engine) -> None:
    """Whoever presses it because nothing is found any more must not thereby have that believed."""
    engine.add("credit", expires_at=EXPIRED - 60)
    engine.add("paid", expires_at=RENEWED)
    engine.add("a")
    provisioner = Blind(engine)
    ticked = engine.tick(provisioner)
    assert (ticked.ends(), provisioner.asked) == ({"credit": "released", "a": "unproven"}, ["paid"])
    assert engine.statuses()["a"] == "Active"


# --- any holds, in any order ------------------------------------------------------------------------------------------

ROWS = {"a": "default", "b": "default", "c": "second", "d": "second"}
Ordered = tuple[str, tuple[str, str | None], int | None]
SUBJECTS = [*((sid, None) for sid in ROWS), ("", "default"), ("", "second"), ("", None)]
STEPS = st.lists(
    st.tuples(st.sampled_from(["hold", "unhold"]), st.sampled_from(SUBJECTS), st.sampled_from([None, 1, 2, 5])),
    max_size=8,
)


def ends_of(steps: Sequence[Ordered]) -> dict[tuple[str, str | None], float]:
    """The hour in which the newest hold of each ends; the steps are taken an hour apart."""
    ends: dict[tuple[str, str | None], float] = {}
    for hour, (what, subject, hours) in enumerate(steps):
        if what == "hold":
            ends[subject] = hour + hours if hours else inf
        elif ends.get(subject, -inf) > hour:
            ends[subject] = hour
    return ends


def order(engine: Engine, steps: Sequence[Ordered]) -> None:
    """Take these steps, an hour apart."""
    for hour, (what, (sid, provisioner), hours) in enumerate(steps):
        if what == "hold":
            engine.hold(sid, engine.now + hours * HOUR if hours else None, provisioner=provisioner)
        elif ends_of(steps[:hour]).get((sid, provisioner), -inf) > hour:
            engine.unhold(sid, provisioner=provisioner)
        engine.later(HOUR)


# Each example is a whole tick over files of its own.
@settings(deadline=None, max_examples=examples(40))
@given(steps=STEPS, grace=st.sampled_from([0, 1, 3]))
def test_what_is_released_is_what_no_hold_is_of(steps: Sequence[Ordered], grace: int) -> None:
    """By another reckoning than ours: of each hold the hour of its end, and until then it keeps all that it is of."""
    with TemporaryDirectory() as folder:
        engine = Engine(Path(folder))
        engine.configure(hold_grace=grace * HOUR)
        for row, provisioner in ROWS.items():
            engine.add(row, provisioner=provisioner)
        order(engine, steps)
        found = engine.tick({"default": Scripted(), "second": Scripted()}).ends()
    ends = ends_of(steps)
    for row, provisioner in ROWS.items():
        last = max(ends.get(each, -inf) for each in ((row, None), ("", provisioner), ("", None)))
        assert found[row] == ("released" if last + grace <= len(steps) else "held"), row
