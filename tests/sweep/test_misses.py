""" "Not found": what is believed, and of whom."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from autorelease.errors import ExitCode
from autorelease.model import Allocation, Outcome
from autorelease.provisioners.memory import MemoryProvisioner, ProbingMemory
from tests.support.engine import RENEWED, Engine, Scripted, Wrapper
from tests.support.sweeping import MISS, lock_on, retryable, timed_out, when


def test_the_first_miss_ever_is_not_believed_until_it_is_confirmed(engine: Engine) -> None:
    engine.add("a", "b")
    provisioner = MemoryProvisioner()
    ticked = engine.tick(provisioner)
    assert (ticked.code, ticked.ends()) == (ExitCode.PROVISIONER_DOWN, {"a": "unproven", "b": "unproven"})
    assert engine.statuses() == {"a": "Active", "b": "Active"}
    assert (engine.open_intents(), engine.past_ticks()[-1]["confirmable"]) == (set(), 2)
    assert engine.events("a") == [
        ("intent", None, None),
        ("miss", None, None),
        ("outcome", "failed", "unproven"),
    ]
    engine.later()
    ticked = engine.tick(provisioner, confirm=2)
    assert (ticked.code, set(ticked.ends().values())) == (ExitCode.OK, {"already_released"})
    assert set(engine.statuses().values()) == {"Released"}


def test_a_wrong_number_of_misses_confirms_nothing(engine: Engine) -> None:
    engine.add("a", "b")
    engine.tick(MemoryProvisioner())
    assert engine.tick(MemoryProvisioner(), confirm=1).code == ExitCode.REFUSED
    assert set(engine.statuses().values()) == {"Active"}


def test_a_confirmation_vouches_for_so_many_misses_in_all(engine: Engine) -> None:
    """The operator looked at two VMs of one provisioner: two more of another are not what was confirmed."""
    engine.add("a", "b")
    provisioners = {"default": MemoryProvisioner(), "second": MemoryProvisioner()}
    assert engine.tick(provisioners).code == ExitCode.PROVISIONER_DOWN
    engine.add("c", "d", provisioner="second")
    ticked = engine.tick(provisioners, confirm=2)
    assert ticked.report.outcomes.get(Outcome.ALREADY_RELEASED, 0) <= 2
    assert len(engine.place.released()) <= 2


def test_a_miss_is_believed_once_the_provisioner_has_released(engine: Engine) -> None:
    engine.add("there", "missing")
    ticked = engine.tick(MemoryProvisioner(["there"]))
    assert (ticked.code, ticked.ends()) == (ExitCode.OK, {"there": "released", "missing": "already_released"})
    engine.add("there-too", "later")
    engine.later()
    assert engine.tick(MemoryProvisioner(["there-too"])).ends()["later"] == "already_released"
    assert engine.open_intents() == set()


def test_what_one_provisioner_released_says_nothing_of_another(engine: Engine) -> None:
    engine.add("there")
    engine.add("missing", provisioner="second")
    provisioners = {"default": MemoryProvisioner(["there"]), "second": MemoryProvisioner(fingerprint="another token")}
    ticked = engine.tick(provisioners)
    assert (ticked.code, ticked.ends()) == (ExitCode.PROVISIONER_DOWN, {"there": "released", "missing": "unproven"})


def test_what_it_released_under_another_fingerprint_is_no_credit(engine: Engine) -> None:
    engine.add("there")
    engine.tick(MemoryProvisioner(["there"], fingerprint="one project"))
    engine.add("there-too", "missing")
    ticked = engine.tick(MemoryProvisioner(["there-too"], fingerprint="another project"))
    # What it releases in this very tick is.
    assert ticked.ends() == {"there-too": "released", "missing": "already_released"}
    engine.add("lost")
    assert engine.tick(MemoryProvisioner(fingerprint="a third one")).ends() == {"lost": "unproven"}


@pytest.mark.parametrize("fingerprint", [None, "memory"])
def test_who_is_known_by_nothing_is_not_believed(engine: Engine, fingerprint: str | None) -> None:
    engine.add("there", "missing")
    ticked = engine.tick(MemoryProvisioner(["there"], fingerprint=fingerprint))
    assert ticked.ends()["missing"] == ("already_released" if fingerprint else "unproven")


def test_too_many_misses_are_not_believed_and_none_is_stamped(engine: Engine) -> None:
    there, missing = [f"there-{number}" for number in range(4)], [f"missing-{number}" for number in range(6)]
    engine.add(*there, *missing)
    ticked = engine.tick(MemoryProvisioner(there))
    assert ticked.code == ExitCode.PROVISIONER_DOWN
    assert (ticked.report.outcomes, ticked.report.unproven) == ({Outcome.RELEASED: 4, Outcome.FAILED: 6}, 6)
    assert engine.place.released() == set(there)
    assert "6 of its last 10 answers" in ticked.report.errors[0].message


def with_control(engine: Engine, vms: Sequence[str], *, before: Callable[[Allocation], None] | None = None) -> Any:
    """One that can be asked for the VM of a row that is paid for, and has it."""
    engine.add("paid", expires_at=RENEWED)
    return ProbingMemory([*vms, "paid"], before)


def test_fewer_than_ten_answers_are_not_judged_by_their_share(engine: Engine) -> None:
    missing = [f"missing-{number}" for number in range(8)]
    engine.add("there", *missing)
    ticked = engine.tick(with_control(engine, ["there"]))
    assert (ticked.code, len(engine.place.released())) == (ExitCode.OK, 9)


def test_half_of_the_answers_may_be_misses(engine: Engine) -> None:
    there, missing = [f"there-{number}" for number in range(5)], [f"missing-{number}" for number in range(5)]
    engine.add(*there, *missing)
    ticked = engine.tick(with_control(engine, there))
    assert (ticked.code, len(engine.place.released())) == (ExitCode.OK, 10)


# --- after a call without an end --------------------------------------------------------------------------------------


def test_a_miss_after_a_time_out_is_judged_like_any_other(engine: Engine, quick: None) -> None:
    engine.add("a")
    ticked = engine.tick(Scripted({"a": [timed_out(), MISS]}))
    assert (ticked.code, ticked.ends()) == (ExitCode.PROVISIONER_DOWN, {"a": "unproven"})
    # That a call was made whose end nobody knows stays on record.
    assert engine.open_intents() == {"a"}


def test_time_outs_turn_nothing_into_proof(engine: Engine) -> None:
    """Time-outs in a journal without a release; and then the address is wrong."""
    engine.configure(attempts=1, concurrency=1)
    engine.add(*"abcde")
    engine.tick(Scripted({sid: [timed_out()] for sid in "abcde"}))
    assert engine.open_intents() == set("abcde")
    engine.later(timedelta(days=2))
    ticked = engine.tick(MemoryProvisioner())
    assert (ticked.code, set(ticked.ends().values())) == (ExitCode.PROVISIONER_DOWN, {"unproven"})
    assert engine.place.released() == set()


def test_a_miss_after_a_mere_failure_is_not(engine: Engine, quick: None) -> None:
    engine.add("a")
    ticked = engine.tick(Scripted({"a": [retryable(), MISS]}))
    assert (ticked.code, ticked.ends()) == (ExitCode.PROVISIONER_DOWN, {"a": "unproven"})


def test_a_row_that_moved_on_before_its_miss_is_stamped(engine: Engine) -> None:
    engine.add("there", "missing")
    provisioner = Scripted({"missing": [MISS]}, before=when("missing", lambda: engine.renew("missing")))
    ticked = engine.tick(provisioner)
    assert (ticked.code, ticked.ends()) == (ExitCode.OK, {"there": "released", "missing": "changed"})
    assert (engine.statuses()["missing"], engine.open_intents()) == ("Active", set())


@pytest.mark.usefixtures("impatient")
def test_misses_are_not_lost_where_the_ledger_is_locked_at_their_judgement(engine: Engine) -> None:
    engine.add("there", "missing")
    with lock_on(engine.place.ledger) as lock:

        class Locking(Wrapper):
            def recent_answers(self, *arguments: Any) -> Any:
                lock.take()
                return self._inner.recent_answers(*arguments)

        ticked = engine.tick(MemoryProvisioner(["there"]), around_journal=Locking)
    assert (ticked.code, ticked.ends()) == (ExitCode.UNUSABLE, {"there": "released", "missing": "failed"})
    assert engine.open_intents() == set()
    engine.add("there-too")
    engine.later()
    ticked = engine.tick(MemoryProvisioner(["there-too"]))
    assert ticked.ends() == {"there-too": "released", "missing": "already_released"}
