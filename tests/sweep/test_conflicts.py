"""Conflicts: what becomes one, who may end it, and what of a release by the owner's own program is none."""

from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest

from autorelease.errors import ExitCode, ProvisionerError
from autorelease.inspect.health import judge
from autorelease.journal import TickKind
from autorelease.ledger.values import Vocabulary
from autorelease.model import Release, Result
from autorelease.provisioners.memory import MemoryProvisioner
from tests.support.engine import EXPIRED, RENEWED, Engine, Scripted, Wrapper
from tests.support.sweeping import MISS, PENDING, lock_on, retryable, timed_out, when

HOUR = timedelta(hours=1)
PROOF = Release(Result.ALREADY_RELEASED, evidence="terminated", proof=True)
DELETE = "DELETE FROM vm_allocations WHERE sid = 'a'"
CANCEL = "UPDATE vm_allocations SET status = 'Cancelled' WHERE sid = 'a'"


@pytest.fixture
def engine(engine: Engine) -> Engine:
    """A fleet with a status, beside the released one, of which nothing is left to release."""
    engine.words = Vocabulary(inactive=frozenset({"Cancelled"}))
    return engine


def problems(engine: Engine) -> set[str]:
    """What `health` complains of."""
    with closing(engine.open_journal()) as journal:
        return {problem.code for problem in judge(journal, engine.now, max_age=HOUR, max_overdue=HOUR).problems}


def stays_until_it_is_acknowledged(engine: Engine, sid: str = "a") -> None:
    """In every tick and in health, whatever else is forgotten; and in none after a retry of this sid."""
    for _ in range(2):
        engine.later()
        ticked = engine.tick(Scripted())
        assert (ticked.code, ticked.ends()[sid]) == (ExitCode.NOT_ALL_WELL, "conflict")
        assert "conflict" in problems(engine)
        with closing(engine.open_journal()) as journal:
            journal.forget_failures(engine.now, "tests", sid=None, provisioner=None)
            journal.forget_failures(engine.now, "tests", sid=None, provisioner="default")
    engine.retry(sid)
    assert "conflict" not in problems(engine)
    engine.later()
    assert engine.tick(Scripted()).ends().get(sid) in (None, "released", "already_released")
    assert not engine.is_open_conflict(sid)


# --- a memory of its own ----------------------------------------------------------------------------------------------


def test_a_retry_while_the_call_is_under_way_acknowledges_nothing(engine: Engine) -> None:
    engine.add("a")

    def renew_and_retry() -> None:
        engine.renew("a")
        engine.running = {"tick-1"}
        engine.retry("a")

    ticked = engine.tick(Scripted(before=when("a", renew_and_retry)))
    assert (ticked.code, ticked.ends()) == (ExitCode.NOT_ALL_WELL, {"a": "conflict"})
    engine.running = set()
    stays_until_it_is_acknowledged(engine)


def test_a_conflict_is_not_hidden_by_forgetting_failures(engine: Engine) -> None:
    engine.add("a")
    engine.tick(Scripted(before=when("a", lambda: engine.renew("a"))))
    stays_until_it_is_acknowledged(engine)


def test_a_conflict_stays_where_its_row_is_released_by_order_meanwhile(engine: Engine) -> None:
    """What the order released is what the row names now; what became of the first VM is still not known."""
    engine.add("a", vm_ref="web-1")
    engine.begin_and_lose("a", vm_ref="web-0")
    assert engine.tick(Scripted()).ends() == {"a": "conflict"}
    assert engine.release(Scripted(), "a").ends() == {"a": "released"}
    engine.later()
    [error] = engine.tick(Scripted()).report.errors
    # Nobody says of a release that it has no known end when its row is Released.
    assert "was a conflict, which nobody has acknowledged; the row is 'Released' now: look whether" in error.message
    assert error.message.endswith(f"then: autorelease retry {error.sid}")
    stays_until_it_is_acknowledged(engine)


@pytest.mark.parametrize(
    "happens",
    [
        "UPDATE vm_allocations SET status = 'Released'",
        f"UPDATE vm_allocations SET expires_at = {EXPIRED}",
        "DELETE FROM vm_allocations",
        CANCEL,
    ],
    ids=["it is stamped", "it is as it was", "it is gone", "it is settled"],
)
def test_a_conflict_stays_whatever_becomes_of_its_row(engine: Engine, happens: str) -> None:
    """Somebody may have put the row right; that somebody has looked at the VM only they can say."""
    engine.add("a")
    assert engine.tick(Scripted(before=when("a", lambda: engine.renew("a")))).ends() == {"a": "conflict"}
    engine.place.execute(happens)
    stays_until_it_is_acknowledged(engine)


def test_a_retry_leaves_the_intent_of_a_call_that_is_under_way(engine: Engine) -> None:
    """An order for the row of a known conflict: acknowledging the one must not lose the other."""
    engine.add("a", vm_ref="web-1")
    engine.begin_and_lose("a", vm_ref="web-0")
    assert engine.tick(Scripted()).ends() == {"a": "conflict"}
    engine.later()

    def retry_and_delete() -> None:
        engine.running = {"tick-3"}
        engine.retry("a")
        engine.running = set()
        assert engine.open_intents() == {"a"}

    ticked = engine.release(Scripted({"a": [timed_out()] * 9}, before=when("a", retry_and_delete)), "a")
    assert ticked.ends() == {"a": "failed"}
    assert (engine.open_intents(), engine.is_open_conflict("a")) == ({"a"}, False)


def test_an_order_hides_no_conflict_that_no_tick_has_found_yet(engine: Engine) -> None:
    """The order is about the VM that the row names now; what was begun is about another one."""
    engine.add("a", vm_ref="web-1")
    engine.begin_and_lose("a", vm_ref="web-0")
    assert engine.release(Scripted(), "a").ends() == {"a": "released"}
    assert engine.open_intents() == set()
    stays_until_it_is_acknowledged(engine)


def test_an_order_for_another_vm_that_is_killed_explains_a_miss_of_that_one_alone(engine: Engine) -> None:
    engine.add("credit")
    assert engine.tick(Scripted()).ends() == {"credit": "released"}
    engine.configure(attempts=1)
    engine.add("a", vm_ref="web-1")
    engine.begin_and_lose("a", vm_ref="web-0")
    assert engine.release(Scripted({"a": [timed_out()]}), "a").ends() == {"a": "failed"}
    engine.retry("a")
    engine.later(timedelta(days=2))
    assert engine.tick(Scripted({"a": [MISS]})).ends() == {"a": "unproven"}


def test_a_conflict_of_one_time_says_nothing_of_a_release_of_another(engine: Engine) -> None:
    engine.add("a")
    engine.begin_and_lose("a", expires_at=EXPIRED - 3600)
    assert engine.tick(Scripted()).ends() == {"a": "conflict"}
    engine.retry("a")
    assert engine.tick(Scripted()).ends() == {"a": "released"}


# --- what was accepted of one VM proves nothing of another ------------------------------------------------------------


def test_what_was_accepted_of_one_vm_proves_nothing_of_another(engine: Engine) -> None:
    """The row names another VM now, somebody has acknowledged that, and the provisioner does not find the new one."""
    engine.add("a", vm_ref="web-1")
    engine.tick(Scripted({"a": [PENDING]}))
    engine.place.execute("UPDATE vm_allocations SET vm_ref = 'web-2' WHERE sid = 'a'")
    engine.later()
    assert engine.tick(Scripted()).ends() == {"a": "conflict"}
    engine.retry("a")
    engine.later()
    assert engine.tick(Scripted({"a": [MISS]})).ends() == {"a": "unproven"}
    assert engine.statuses() == {"a": "Active"}


def test_nor_in_an_order_nor_after_it(engine: Engine) -> None:
    engine.configure(attempts=1)
    engine.add("a", vm_ref="web-1")
    engine.tick(Scripted({"a": [PENDING]}))
    engine.place.execute("UPDATE vm_allocations SET vm_ref = 'web-2' WHERE sid = 'a'")
    engine.later()
    assert engine.release(Scripted({"a": [MISS]}), "a").ends() == {"a": "unproven"}
    assert engine.release(Scripted({"a": [timed_out()]}), "a").ends() == {"a": "failed"}
    engine.later(timedelta(days=2))
    assert engine.tick(Scripted({"a": [MISS]})).ends()["a"] != "already_released"
    assert engine.statuses() == {"a": "Active"}


def test_what_a_killed_run_began_for_one_vm_explains_no_miss_of_another(engine: Engine) -> None:
    engine.add("credit")
    assert engine.tick(Scripted()).ends() == {"credit": "released"}
    engine.add("a", vm_ref="web-2")
    engine.begin_and_lose("a", vm_ref="web-1")
    with closing(engine.open_journal()) as journal:
        # Marks the run as crashed, and does nothing more.
        journal.open_tick(engine.start())
    assert engine.release(Scripted({"a": [MISS]}), "a").ends() == {"a": "unproven"}


def test_what_was_accepted_before_it_was_released_proves_nothing_of_a_row_that_came_back(engine: Engine) -> None:
    engine.add("a")
    engine.tick(Scripted({"a": [PENDING]}))
    engine.later()
    assert engine.tick(Scripted()).ends() == {"a": "released"}
    engine.place.execute("UPDATE vm_allocations SET status = 'Active', released_at = NULL")
    assert engine.release(Scripted({"a": [MISS]}), "a").ends() == {"a": "unproven"}


def test_not_found_after_it_was_accepted_is_proven(engine: Engine) -> None:
    engine.add("a")
    engine.tick(Scripted({"a": [PENDING]}))
    engine.later()
    ticked = engine.tick(Scripted({"a": [MISS]}))
    assert (ticked.code, ticked.ends()) == (ExitCode.OK, {"a": "already_released"})


def test_but_not_where_it_is_another_provisioner_now(engine: Engine) -> None:
    engine.add("a")

    class Accepting(MemoryProvisioner):
        def release(self, _: Any) -> Release:
            return PENDING

    engine.tick(Accepting(fingerprint="one project"))
    engine.later()
    assert engine.tick(MemoryProvisioner(fingerprint="another project")).ends() == {"a": "unproven"}


# --- live, and not expired --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("expires_at", [RENEWED, None])
def test_an_order_that_was_killed_leaves_a_conflict_though_its_row_has_not_expired(
    engine: Engine, expires_at: int | None
) -> None:
    engine.add("a", expires_at=RENEWED)
    engine.place.execute("UPDATE vm_allocations SET expires_at = ? WHERE sid = 'a'", expires_at)
    with pytest.raises(KeyboardInterrupt):
        engine.release(MemoryProvisioner(["a"]), "a", around_ledger=killed_at_the_stamp)
    # While its process lives it is the order's own affair.
    engine.running = {"tick-1"}
    assert engine.tick(Scripted()).ends() == {}
    engine.running = set()
    engine.later()
    ticked = engine.tick(Scripted())
    assert (ticked.code, ticked.ends()) == (ExitCode.NOT_ALL_WELL, {"a": "conflict"})
    assert "the row has not expired" in ticked.report.errors[0].message
    engine.later()
    assert engine.tick(Scripted()).ends() == {"a": "conflict"}
    assert "conflict" in problems(engine)
    engine.retry("a")
    engine.later()
    assert engine.tick(Scripted()).ends() == {}


def test_what_a_killed_order_has_left_can_be_acknowledged_before_any_tick_has_come(engine: Engine) -> None:
    """No conflict is written down by then, and the order's run has no end yet."""
    engine.add("a", expires_at=RENEWED)
    with pytest.raises(KeyboardInterrupt):
        engine.release(MemoryProvisioner(["a"]), "a", around_ledger=killed_at_the_stamp)
    engine.retry("a")
    assert engine.open_intents() == set()
    assert engine.tick(Scripted()).ends() == {}


@pytest.mark.parametrize("end", ["stamped", "missed"])
def test_what_an_order_under_way_has_stamped_or_missed_it_writes_down_itself(engine: Engine, end: str) -> None:
    engine.add("a")
    engine.begin_and_lose("a", run="an-order", kind=TickKind.RELEASE)
    if end == "stamped":
        engine.mark_released("a")
    else:
        engine.note_miss("a", run="an-order")
        engine.renew("a")
    engine.running = {"an-order"}
    before = engine.events("a")
    assert engine.tick(Scripted()).ends() == {}
    assert (engine.events("a"), engine.open_intents()) == (before, {"a"})
    # Once it is gone, nobody else will.
    engine.running = set()
    engine.later()
    assert engine.tick(Scripted()).ends() == {}
    written = ("outcome", "released", None) if end == "stamped" else ("skip", "skipped", "changed")
    assert (engine.events("a"), engine.open_intents()) == ([*before, written], set())


def killed_at_the_stamp(inner: Any) -> Any:
    """A ledger whose first stamp never comes: the process is killed, and does nothing more."""

    class Killing(Wrapper):
        def stamp(self, _: object) -> None:
            raise KeyboardInterrupt

    return Killing(inner)


def test_an_order_that_is_pending_is_none(engine: Engine) -> None:
    engine.add("a", expires_at=RENEWED)
    assert engine.release(Scripted({"a": [PENDING]}), "a").ends() == {"a": "pending"}
    for _ in range(2):
        engine.later()
        assert engine.tick(Scripted()).ends() == {}
    assert "conflict" not in problems(engine)


@pytest.mark.parametrize("end", [timed_out(), ProvisionerError("connection reset", end_unknown=True)])
def test_an_order_that_ended_without_knowing_is_one(engine: Engine, end: ProvisionerError) -> None:
    engine.configure(attempts=1)
    engine.add("a", expires_at=RENEWED)
    assert engine.release(Scripted({"a": [end]}), "a").ends() == {"a": "failed"}
    engine.later()
    assert engine.tick(Scripted()).ends() == {"a": "conflict"}
    stays_until_it_is_acknowledged(engine)


def test_an_order_that_failed_for_certain_is_none(engine: Engine) -> None:
    engine.add("a", expires_at=RENEWED)
    assert engine.release(Scripted({"a": [ProvisionerError("no")]}), "a").ends() == {"a": "failed"}
    engine.later()
    assert engine.tick(Scripted()).ends() == {}


# --- its own application tidies up ------------------------------------------------------------------------------------


@pytest.mark.parametrize("stamps", [True, False])
@pytest.mark.parametrize("tidies_up", [DELETE, CANCEL])
@pytest.mark.parametrize(("answer", "end"), [(None, "released"), (PROOF, "already_released")])
def test_a_row_that_its_own_application_settles_or_deletes_was_released(
    engine: Engine, tidies_up: str, answer: Release | None, end: str, *, stamps: bool
) -> None:
    engine.configure(stamps=stamps)
    engine.add("a", "b")
    tidy = Scripted({"a": [answer]} if answer else {}, before=when("a", lambda: engine.place.execute(tidies_up)))
    tidy._before = both(tidy._before, when("b", lambda: engine.mark_released("b")))
    ticked = engine.tick(tidy)
    assert (ticked.code, ticked.ends()) == (ExitCode.OK, {"a": end, "b": "released"})
    assert engine.open_intents() == set()
    engine.later()
    assert engine.tick(Scripted()).ends() == {}


def both(first: Callable[[Any], object], second: Callable[[Any], object]) -> Callable[[Any], object]:
    """One after the other."""
    return lambda allocation: (first(allocation), second(allocation))


def test_an_order_whose_row_is_deleted_by_its_application_is_released(engine: Engine) -> None:
    engine.add("a", expires_at=RENEWED)
    ticked = engine.release(Scripted(before=when("a", lambda: engine.place.execute(DELETE))), "a")
    assert (ticked.code, ticked.ends()) == (ExitCode.OK, {"a": "released"})


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("tidies_up", [DELETE, CANCEL])
def test_the_same_where_the_ledger_could_not_be_stamped_in_the_first_tick(engine: Engine, tidies_up: str) -> None:
    """RELEASED was written down, and then the tick gave up, or was killed: the next one finds the row tidied up."""
    engine.add("a")
    with lock_on(engine.place.ledger) as lock:
        ticked = engine.tick(Scripted(before=when("a", lock.take)))
    assert (ticked.code, ticked.ends(), engine.open_intents()) == (ExitCode.UNUSABLE, {"a": "failed"}, {"a"})
    engine.place.execute(tidies_up)
    engine.later()
    ticked = engine.tick(Scripted())
    assert (ticked.code, ticked.ends()) == (ExitCode.OK, {})
    assert engine.events("a")[-1] == ("outcome", "released", None)
    assert engine.open_intents() == set()


@pytest.mark.parametrize("tidies_up", [DELETE, CANCEL])
def test_the_same_where_its_application_stamps_and_is_slow(engine: Engine, tidies_up: str) -> None:
    engine.configure(stamps=False)
    engine.add("a")
    assert engine.tick(Scripted()).ends() == {"a": "pending"}
    engine.place.execute(tidies_up)
    engine.later()
    assert engine.tick(Scripted()).code == ExitCode.OK
    assert engine.events("a")[-1] == ("outcome", "released", None)


@pytest.mark.parametrize("tidies_up", [DELETE, CANCEL])
def test_what_was_only_accepted_and_is_gone_is_a_conflict(engine: Engine, tidies_up: str) -> None:
    engine.add("a")
    assert engine.tick(Scripted({"a": [PENDING]})).ends() == {"a": "pending"}
    engine.place.execute(tidies_up)
    engine.later()
    assert engine.tick(Scripted()).ends() == {"a": "conflict"}


@pytest.mark.parametrize("tidies_up", [DELETE, CANCEL])
def test_a_believed_miss_of_a_row_that_is_gone_has_released_nothing(engine: Engine, tidies_up: str) -> None:
    engine.configure(concurrency=1)
    engine.add("there", "a")
    provisioner = MemoryProvisioner(["there"], before=when("a", lambda: engine.place.execute(tidies_up)))
    ticked = engine.tick(provisioner)
    assert (ticked.code, ticked.ends()) == (ExitCode.OK, {"there": "released", "a": "changed"})
    assert (engine.open_intents(), engine.events("a")[-1]) == (set(), ("skip", "skipped", "changed"))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "happens",
    [
        f"UPDATE vm_allocations SET expires_at = {RENEWED} WHERE sid = 'a'",
        "UPDATE vm_allocations SET vm_ref = 'another' WHERE sid = 'a'",
        "UPDATE vm_allocations SET vm_ref = 'a', sid = 'a2' WHERE sid = 'a'",
        "UPDATE vm_allocations SET status = 'released ' WHERE sid = 'a'",
        CANCEL,
        DELETE,
    ],
)
def test_after_a_call_without_an_end_every_change_is_a_conflict(engine: Engine, happens: str) -> None:
    engine.add("a")
    ticked = engine.tick(Scripted({"a": [timed_out()]}, before=when("a", lambda: engine.place.execute(happens))))
    assert ticked.ends() == {"a": "conflict"}
    assert (engine.open_intents(), engine.is_open_conflict("a")) == ({"a"}, True)


@pytest.mark.usefixtures("quick")
def test_after_a_mere_failure_it_is_none(engine: Engine) -> None:
    engine.add("a")
    ticked = engine.tick(Scripted({"a": [retryable()]}, before=when("a", lambda: engine.place.execute(DELETE))))
    assert (ticked.code, ticked.ends()) == (ExitCode.OK, {"a": "changed"})
    assert engine.open_intents() == set()
