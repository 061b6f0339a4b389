"""When a "not found" may be taken for the end of a VM, in the machine's own words."""

from enum import StrEnum

from autorelease.model import Result
from tests.machine.facts import Facts
from tests.machine.world import Call, Run, World

WINDOW = 50
JUDGED_FROM = 10
IN_A_ROW = 5


class Answer(StrEnum):
    """What an answer is worth. EXPECTED: a miss that repeats what a killed run began."""

    RELEASED = "released"
    PENDING = "pending"
    PROOF = "proof"
    MISS = "miss"
    EXPECTED = "expected"


def answer_of(world: World, call: Call) -> Answer:
    """What this call was answered."""
    assert call.answer is not None
    if call.answer.result is not Result.ALREADY_RELEASED:
        return Answer.RELEASED if call.answer.result is Result.RELEASED else Answer.PENDING
    if call.answer.proof or _was_accepted(call) or _is_twin_gone(world, call):
        return Answer.PROOF
    return Answer.EXPECTED if _is_expected(world, call) else Answer.MISS


def _was_accepted(call: Call) -> bool:
    """Whether the provisioner has said RELEASED or PENDING of this very release before, by the same fingerprint."""
    memory, fingerprint = call.run.facts.memory.get(call.pair), call.run.fingerprints[call.ref[0]]
    return (
        memory is not None
        and None not in (memory.accepted, fingerprint)
        and (memory.ref, memory.under)
        == (
            call.ref,
            fingerprint,
        )
    )


def _is_twin_gone(world: World, call: Call) -> bool:
    calls = call.run.calls
    earlier = [one for one in calls[: calls.index(call)] if one.vm == call.vm and one.answer is not None]
    return any(answer_of(world, one) in (Answer.RELEASED, Answer.PROOF) for one in earlier)


def _is_expected(world: World, call: Call) -> bool:
    """Whether a run that was killed has left this release open, and had found nothing amiss."""
    facts, fingerprint = call.run.facts, call.run.fingerprints[call.ref[0]]
    memory = facts.memory.get(call.pair)
    if memory is None or memory.run is None or memory.ref != call.ref or fingerprint is None:
        return False
    if world.fingerprints.get(memory.run, {}).get(call.ref[0]) != fingerprint:
        return False
    # An operator's release, which takes no lock, cannot say of a run without an end that it was killed.
    killed = facts.crashed | facts.unfinished if call.run.is_tick else facts.crashed
    of_run = [answer for run, answer in facts.answers.get(fingerprint, ()) if run == memory.run]
    return memory.run in killed and (memory.run, call.pair[0]) not in facts.missed and not _ends_in_misses(of_run)


def _ends_in_misses(answers: list[str]) -> bool:
    return len(answers) >= IN_A_ROW and set(answers[:IN_A_ROW]) == {Answer.MISS}


def is_vouched(run: Run, call: Call) -> bool:
    """Whether the operator has answered for this very miss."""
    if not run.is_confirmed or run.answered is None or run.answered.codes:
        return False
    return (call.pair, run.fingerprints[call.ref[0]] or "") in run.answered.unproven


def is_believed(world: World, call: Call) -> bool:
    """Whether what this call was answered may be stamped, by all that the journal knows now."""
    answer = answer_of(world, call)
    if answer in (Answer.RELEASED, Answer.PROOF) or is_vouched(call.run, call):
        return True
    facts, fingerprint = world.facts(), call.run.fingerprints[call.ref[0]]
    if fingerprint not in facts.credits:
        return False
    found = [is_there for _, is_there in call.run.controls.get(call.ref[0], ())]
    if not all(found):
        return False
    # Of another run that is under way at the same time nobody here knows when it was heard.
    return answer is Answer.EXPECTED or not call.run.is_alone or _is_usual(world, facts, call, is_found=bool(found))


def _is_usual(world: World, facts: Facts, call: Call, *, is_found: bool) -> bool:
    given = facts.answers.get(str(call.run.fingerprints[call.ref[0]]), ())
    answers = [answer for _, answer in given[:WINDOW]]
    percent = 100 * answers.count(Answer.MISS) / max(len(answers), 1)
    if len(answers) >= JUDGED_FROM and percent > world.engine.options.max_gone_percent:
        return False
    of_run = {answer for run, answer in given if run == call.run.tick}
    return is_found or (of_run != {Answer.MISS} and not _ends_in_misses(answers))
