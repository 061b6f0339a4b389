"""Kills and terminations of the installed command, over and over, on one ledger after another.

The release program itself shoots, at a call of the test's choice: before it destroys, after it destroyed and before it
answers, or some milliseconds after it answered. Each chain is a ledger of its own, so that two processors share them.
"""

import signal
from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from tests.faults.chain import CONCURRENCY, PLANNED, Chain, Fate, Shot
from tests.support.place import Place

CHAINS = 4
KILLS = 27
TERMINATIONS = 6
# What each chain must have come to; all four: 100 kills, 80 of them between the first and the last call, 20 SIGTERM.
KILLED = 25
KILLED_IN_MID_WORK = 20
TERMINATED = 5
WHOLE_TICK_AFTER = 9
RENEWALS_AFTER = (10, 20)
WHENS = ("lost", "unanswered", "answered", "orphaned", "answered")
# Every call; and once more each after which there certainly are others, because most shots must come in mid-work.
CALLS = (*range(1, PLANNED + 1), *range(1, PLANNED - 2 * CONCURRENCY + 1))
LAST_CALLS = range(PLANNED - 2 * CONCURRENCY + 1, PLANNED + 1)
# What can be under way at once, and one group of what came back and is not stamped yet: no more than that either.
EXPOSED_BY_ONE_KILL = 2 * CONCURRENCY


def shots(chain: int) -> list[Shot]:
    """The shots at one chain. Together the chains hit every call of a tick, and every millisecond from 0 to 20."""
    kills = [kill(number) for number in range(chain * KILLS, (chain + 1) * KILLS)]
    terminations = [
        # Early, so that something is left that it must not begin.
        Shot("TERM", WHENS[number % len(WHENS)], 1 + number % (PLANNED // 2), number % 5)
        for number in range(chain * TERMINATIONS, (chain + 1) * TERMINATIONS)
    ]
    for place, shot in enumerate(terminations, start=1):
        kills.insert(place * len(kills) // (len(terminations) + 1), shot)
    return kills


def kill(number: int) -> Shot:
    """One of all the kills."""
    when, call = WHENS[number % len(WHENS)], CALLS[number * 7 % len(CALLS)]
    if when == "answered" and call in LAST_CALLS:
        # Some milliseconds after the last answers there may be nobody left to kill.
        call -= len(LAST_CALLS)
    return Shot("KILL", when, call, number * 8 % 21)


def test_the_shots_hit_everything() -> None:
    everything = [shot for chain in range(CHAINS) for shot in shots(chain)]
    kills = [shot for shot in everything if shot.signal == "KILL"]
    assert {shot.call for shot in kills} == set(range(1, PLANNED + 1))
    assert {shot.milliseconds for shot in kills if shot.when == "answered"} == set(range(21))
    for number in ("KILL", "TERM"):
        assert {shot.when for shot in everything if shot.signal == number} == set(WHENS)
    assert CHAINS * KILLED >= 100
    assert CHAINS * KILLED_IN_MID_WORK >= 80
    assert CHAINS * TERMINATED >= 20


@pytest.mark.parametrize("number", range(CHAINS))
def test_after_a_kill_anywhere_the_next_tick_converges(
    place: Place, number: int, record_property: Callable[[str, object], None]
) -> None:
    chain = Chain(place)
    chain.begin(wal=number % 2 == 1)
    fates: list[tuple[Shot, Fate]] = []
    for index, shot in enumerate(shots(number), start=1):
        chain.top_up()
        before = chain.check()
        fate = chain.shoot(shot)
        fates.append((shot, fate))
        exposed = chain.check() - before
        assert exposed <= EXPOSED_BY_ONE_KILL
        if shot.signal == "TERM" and fate.report is not None:
            # What was under way was waited for, and is stamped.
            assert exposed <= 0
            assert fate.report["skipped"]["deferred"] > 0
        if index in RENEWALS_AFTER:
            _renew_some(chain)
        if index % WHOLE_TICK_AFTER == 0:
            chain.sweep_whole()
    chain.sweep_whole()
    counts = _counts(fates)
    for name, count in counts.items():
        record_property(name, count)
    assert counts["killed"] >= KILLED
    assert counts["killed in mid-work"] >= KILLED_IN_MID_WORK
    assert counts["terminated"] >= TERMINATED
    assert all(counts[f"killed {when}"] > 0 for when in WHENS)
    ticks = chain.count_ticks()
    # A kill that came last may have hit a tick whose end was on record.
    assert counts["killed in mid-work"] <= ticks["crashed"] <= counts["killed"]
    assert (ticks["stopped"], ticks["running"]) == (counts["terminated"], 0)


def _counts(fates: Sequence[tuple[Shot, Fate]]) -> Counter[str]:
    """What the shots came to; `--junitxml` shows it, chain by chain."""
    counts: Counter[str] = Counter()
    for shot, fate in fates:
        if fate.code == -signal.SIGKILL:
            counts.update(["killed", f"killed {shot.when}", *["killed in mid-work"] * fate.was_in_mid_work])
        elif fate.code == 128 + signal.SIGTERM:
            counts.update(["terminated", f"terminated {shot.when}"])
        else:
            counts.update(["ended before the shot"])
    return counts


def _renew_some(chain: Chain) -> None:
    """Pay for some that are due: one that was never begun; of those that were, one that is gone and one that is not."""
    destroyed, begun = chain.destroyed(), chain.begun()
    for is_begun, is_gone in ((False, False), (True, True), (True, False)):
        for sid in sorted(chain.due()):
            if (sid in begun, chain.rows[sid].vm_ref in destroyed) == (is_begun, is_gone):
                chain.renew(sid)
                break
