"""Whether a provisioner's "not found" may be taken for "released". Pure.

With another project's token, region or URL a live VM is "not found", too. So a miss counts only from a provisioner that
has shown, under this very fingerprint, that it can release, that does not answer with misses most of the time, and that
finds the VMs which must be there. Where it cannot be asked for those, not everything that it says may be a miss.
"""

from collections.abc import Collection, Sequence

import msgspec

from autorelease.model import Answer

WINDOW = 50
JUDGED_FROM = 10
IN_A_ROW = 5
CONTROLS = 3


class Control(msgspec.Struct, frozen=True):
    """A question whose answer is known: VMs that are paid for must be there.

    asked: how many were asked for. lost: the sid of the first one that was not found. why: what was said instead.
    """

    asked: int
    lost: str | None = None
    why: str = ""


class Standing(msgspec.Struct, frozen=True):
    """What there is to judge a provisioner by, under its present fingerprint.

    has_credit: it has said RELEASED, or given proof, at least once. answers: the last WINDOW, newest first, this tick's
    included. of_this_tick: those that came in this tick, in any order; of many alike one will do. control: None where
    it cannot be asked. is_known: it can say what it is known by.
    """

    has_credit: bool
    answers: Sequence[Answer]
    of_this_tick: Collection[Answer]
    control: Control | None = None
    is_known: bool = True


def disbelief(standing: Standing, max_gone_percent: int) -> str | None:
    """Why misses cannot be believed, in words; None: they can."""
    return (
        disbelief_of_expected(standing)
        or _too_many(standing.answers, max_gone_percent)
        or (None if _is_controlled(standing.control) else _nothing_else(standing))
    )


def disbelief_of_expected(standing: Standing) -> str | None:
    """The same for a miss that repeats what a killed run began: the VM is gone by our own hand, as far as we know."""
    if not standing.is_known:
        return "it has no fingerprint, so that nothing which it has released before counts"
    if not standing.has_credit:
        return "it has never released anything yet as it is configured now, so its 'not found' proves nothing"
    control = standing.control
    if control is not None and control.lost is not None:
        return (
            f"it does not find the VM of {control.lost} either, which is paid for ({control.why}): "
            "it may be looking in the wrong place"
        )
    return None


def ends_in_misses(answers: Sequence[Answer]) -> bool:
    """Whether the newest answers are misses, so many in a row that none of them tells anything."""
    return len(answers) >= IN_A_ROW and all(answer is Answer.MISS for answer in answers[:IN_A_ROW])


def _too_many(answers: Sequence[Answer], max_gone_percent: int) -> str | None:
    misses = sum(answer is Answer.MISS for answer in answers)
    if len(answers) >= JUDGED_FROM and misses * 100 > max_gone_percent * len(answers):
        return f"{misses} of its last {len(answers)} answers were 'not found', the limit is {max_gone_percent} %"
    return None


def _is_controlled(control: Control | None) -> bool:
    return control is not None and control.asked > 0


def _nothing_else(standing: Standing) -> str | None:
    if all(answer is Answer.MISS for answer in standing.of_this_tick):
        return "all that it said in this tick was 'not found'"
    if ends_in_misses(standing.answers):
        return f"its last {IN_A_ROW} answers were all 'not found'"
    return None
