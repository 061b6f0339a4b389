"""Whether a provisioner's "not found" may be taken for "released". Pure.

With another project's token, region or URL a live VM is "not found", too: so a miss counts only from a provisioner that
has shown that it can release, and that does not answer with misses most of the time.
"""

from collections.abc import Sequence

from autorelease.model import Answer

WINDOW = 50
JUDGED_FROM = 10


def disbelief(answers: Sequence[Answer], *, has_released: bool, max_gone_percent: int) -> str | None:
    """Why misses cannot be believed, in words; None: they can.

    answers: the provisioner's last ones, this tick's included, at most WINDOW. has_released: it ever said RELEASED.
    """
    if not has_released:
        return "it has never released anything yet, so its 'not found' proves nothing"
    misses = sum(answer is Answer.MISS for answer in answers)
    if len(answers) >= JUDGED_FROM and misses * 100 > max_gone_percent * len(answers):
        return f"{misses} of its last {len(answers)} answers were 'not found', the limit is {max_gone_percent} %"
    return None
