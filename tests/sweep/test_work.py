"""One piece of work: one state at a time, and one end."""

from contextlib import closing

import pytest
from msgspec.structs import replace

from autorelease.errors import ExitCode, IdentityError, ProvisionerError
from autorelease.journal import Event
from autorelease.model import Known, Outcome, Planned
from autorelease.provisioners.memory import MemoryProvisioner
from autorelease.sweep.books import Books
from autorelease.sweep.outbox import Outbox
from autorelease.sweep.work import State, Works
from tests.support.engine import RENEWED, Engine, Scripted, made_allocation
from tests.support.sweeping import PENDING, Unlocking, lock_on, retryable


def planned(sid: str = "vm-1", known: Known | None = None) -> Planned:
    """A row to be released."""
    return Planned(made_allocation(sid), known or Known())


def test_a_work_begins_ready_and_is_where_it_was_moved_to() -> None:
    works = Works()
    first, second = works.add(planned("a")), works.add(planned("b"))
    assert (first.number, second.number, works.of(State.READY)) == (1, 2, [first, second])
    works.move(first, State.CALLED)
    assert (works.of(State.READY), works.of(State.CALLED), first.state) == ([second], [first], State.CALLED)
    assert works.count(State.READY, State.CALLED, State.MISSED) == 2


def test_each_provisioners_are_counted_by_themselves() -> None:
    works = Works()
    ours, others = works.add(planned("a")), works.add(Planned(made_allocation("b", provisioner="other")))
    works.move(ours, State.CALLED)
    assert works.count_of("default", State.READY, State.CALLED) == works.count_of("default", State.CALLED) == 1
    assert (works.count_of("other", State.READY), works.count_of("nobody", State.READY)) == (1, 0)
    works.move(others, State.SETTLED)
    assert works.count_of("other", *State) == 0


def test_each_state_keeps_the_order_in_which_it_was_reached() -> None:
    works = Works()
    first, second, third = [works.add(planned(sid)) for sid in "abc"]
    for work in (second, first, third):
        works.move(work, State.WAITING)
    works.move(second, State.READY)
    works.move(second, State.WAITING)
    assert works.of(State.WAITING) == [first, third, second]


def test_what_an_earlier_run_left_open_has_an_unknown_end() -> None:
    works = Works()
    assert works.add(planned(known=Known(intent=True))).end_unknown
    assert not works.add(planned()).end_unknown


@pytest.mark.parametrize("state", State)
def test_what_is_settled_stays_so(state: State) -> None:
    works = Works()
    work = works.add(planned("a"))
    works.move(work, State.SETTLED)
    with pytest.raises(IdentityError, match="'a' would be settled twice"):
        works.move(work, state)
    assert (work.state, list(works.unsettled())) == (State.SETTLED, [])


@pytest.mark.parametrize("state", [state for state in State if state is not State.SETTLED])
def test_what_is_left_in_any_state_is_a_bug_that_names_it(state: State) -> None:
    works = Works()
    works.move(works.add(planned("gone")), State.SETTLED)
    works.check_settled()
    for sid in "abcdefg":
        works.move(works.add(planned(sid)), state)
    with pytest.raises(IdentityError, match="7 releases came to no end: 'a', 'b', 'c', 'd', 'e', …"):
        works.check_settled()


def test_its_calls_take_milliseconds_or_none_has_come_back() -> None:
    work = Works().add(planned())
    assert work.milliseconds is None
    work.begun, work.over = 2.0, 2.5
    assert work.milliseconds == 500


# --- in a tick --------------------------------------------------------------------------------------------------------


def ends_as_a_bug(engine: Engine, *open_intents: str) -> None:
    """A tick whose sum is not right: an error that says so, in the journal too, and intents that stay open."""
    with pytest.raises(IdentityError) as raised:
        engine.tick(MemoryProvisioner("ab"), immediate=["default"])
    assert raised.value.exit_code == ExitCode.BUG
    assert engine.past_ticks()[-1]["exit_code"] == ExitCode.BUG
    assert engine.open_intents() == set(open_intents)


def test_a_second_end_is_a_bug(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    settle = Books.settle

    def settle_twice(books: Books, *arguments: object) -> None:
        settle(books, *arguments)  # type: ignore[arg-type]
        settle(books, *arguments)  # type: ignore[arg-type]

    engine.add("a", "b")
    monkeypatch.setattr(Books, "settle", settle_twice)
    ends_as_a_bug(engine, "a", "b")
    # The ledger is right, and the next tick finds it so.
    monkeypatch.undo()
    engine.later()
    assert engine.tick(MemoryProvisioner("ab")).code == ExitCode.OK
    assert engine.place.released() | {"a", "b"} == {"a", "b"}


def test_a_work_that_comes_to_no_end_is_a_bug(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its VM may be gone: the intent stays open, so that the next tick asks."""
    settle = Books.settle

    def lose(books: Books, work: object, verdict: object) -> None:
        if getattr(work, "allocation").sid != "b":  # noqa: B009 - it is an object to mypy
            settle(books, work, verdict)  # type: ignore[arg-type]
        else:
            books.works.move(work, State.READY)  # type: ignore[arg-type]
            engine.stop.wish("SIGTERM")

    engine.add("a", "b")
    monkeypatch.setattr(Books, "settle", lose)
    ends_as_a_bug(engine, "b")
    monkeypatch.undo()
    engine.later()
    assert engine.tick(MemoryProvisioner("ab")).code == ExitCode.OK
    assert engine.open_intents() == set()


def test_an_end_that_is_not_written_down_is_a_bug(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report and the journal must say the same."""
    monkeypatch.setattr("autorelease.sweep.outbox.Outbox.put", lambda *_: None)
    engine.add("a", "b")
    ends_as_a_bug(engine, "a", "b")


def test_a_second_end_that_is_written_down_is_a_bug(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    put = Outbox.put

    def put_another(outbox: Outbox, event: Event) -> None:
        put(outbox, event)
        put(outbox, replace(event, outcome=Outcome.PENDING))

    monkeypatch.setattr(Outbox, "put", put_another)
    engine.add("a", "b")
    ends_as_a_bug(engine)


def test_what_earlier_runs_left_is_none_of_what_is_counted(engine: Engine) -> None:
    for sid in ("stamped", "vanished", "renewed"):
        engine.begin_and_lose(sid)
    engine.add("stamped", "a", "b", "c")
    engine.add("renewed", expires_at=RENEWED)
    engine.mark_released("stamped")
    ticked = engine.tick(Scripted({"b": [PENDING], "c": [ProvisionerError("no")]}))
    assert (ticked.code, len(ticked.findings)) == (ExitCode.NOT_ALL_WELL, 5)
    with closing(engine.open_journal()) as journal:
        assert journal.outcomes(ticked.report.tick) == {"released": 2, "failed": 3, "pending": 1}


@pytest.mark.usefixtures("quick")
def test_what_was_left_at_the_end_is_written_down_as_soon_as_it_can_be(engine: Engine) -> None:
    """A wish to stop, an error that waits for its next attempt, and a journal that is locked just then."""
    engine.add("a")
    with lock_on(engine.place.journal) as lock:

        def stop_and_lock(_: object) -> None:
            engine.stop.wish("SIGTERM")
            lock.take()

        provisioner = Scripted({"a": [retryable()]}, before=stop_and_lock)
        ticked = engine.tick(provisioner, around_journal=lambda inner: Unlocking(inner, "record", lock, failures=3))
    assert (ticked.code, ticked.ends()) == (ExitCode.TERMINATED, {"a": "failed"})
    assert (engine.open_intents(), engine.failed_ticks()) == (set(), {"a": 1})
