"""The doctor's line about the audit, in every state."""

from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from autorelease.deciding.remembered import Memory, recalled
from autorelease.inspect import Check, State
from autorelease.inspect.audit import check
from autorelease.journal import Audit, Audited

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
DAY = timedelta(hours=24)
LAST = Audit(
    ground="1",
    started_at=NOW - timedelta(hours=2),
    finished_at=NOW - timedelta(hours=1),
    rows=90_000,
    live=30_000,
    due=3,
    unnamed=1,
    seconds=12.4,
)
UNDERWAY = Audit(ground="1", started_at=NOW - timedelta(hours=1), rows=5000)


def line(audited: Audited, memory: Memory | None = None) -> Check:
    """What the doctor says."""
    found = check(audited, memory or recalled(audited), NOW, DAY)
    assert found.name == "audit"
    assert bool(found.remedy) == (found.state is not State.OK)
    return found


def test_it_says_when_how_much_how_long_and_how_many_are_remembered() -> None:
    found = line(Audited(LAST, None, {"a": "x", "b": "y"}))
    assert found.state is State.OK
    assert found.message == (
        "ended at 2026-12-01T11:00:00Z: 90000 rows, 30000 of them live, 3 due, in 12 s; 3 invalid remembered"
    )


def test_whether_it_is_due() -> None:
    found = line(Audited(replace(LAST, finished_at=NOW - DAY), UNDERWAY))
    assert found.state is State.OK
    assert "one is under way since 2026-12-01T11:00:00Z, 5000 rows so far" in found.message
    assert found.message.endswith("the next tick makes another")


def test_a_missing_one_and_an_old_one_are_warnings() -> None:
    assert line(Audited()).state is State.WARN
    assert "5000 rows so far" in line(Audited(None, UNDERWAY)).message
    old = line(Audited(replace(LAST, finished_at=NOW - 2 * DAY)))
    assert old.state is State.WARN
    assert old.message.startswith("2.0 d ago, and due every 24.0 h: ended at")


def test_a_small_ledger_was_looked_at_just_now() -> None:
    own = Memory(at=NOW, named={"a": "x"}, is_own=True)
    assert line(Audited(), own).message == (
        "the whole ledger was looked at just now: 1 invalid; no tick has made one yet"
    )
    assert line(Audited(LAST), own).message.endswith("the last of a tick ended at 2026-12-01T11:00:00Z")


def test_what_an_index_hides_is_a_fail() -> None:
    found = line(Audited(), Memory(problem="the index due does not show 1 row", is_own=True))
    assert (found.state, found.message) == (State.FAIL, "the index due does not show 1 row")
    assert line(Audited(replace(LAST, problem="hidden"))).state is State.FAIL
