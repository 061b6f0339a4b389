"""Kills and terminations of the installed command, over and over, on one ledger after another.

The release program itself shoots, at a call of the test's choice: before it destroys, after it destroyed and before it
answers, or some milliseconds after it answered. Each chain is a ledger of its own, so that two processors share them.
"""

import signal

import pytest

from tests.faults.chain import CONCURRENCY, PLANNED, Chain, Shot
from tests.support.place import Place

CHAINS = 4
KILLS = 29
TERMINATIONS = 6
# What each chain must have come to; all four: 100 kills, 80 of them between the first and the last call, 20 SIGTERM.
KILLED = 25
KILLED_IN_MID_WORK = 20
TERMINATED = 5
WHOLE_TICK_AFTER = 7
RENEWALS_AFTER = (10, 20)
WHENS = ("lost", "unanswered", "answered", "orphaned", "answered")
# What can be under way at once, and one group of what came back and is not stamped yet: no more than that either.
EXPOSED_BY_ONE_KILL = 2 * CONCURRENCY


def shots(chain: int) -> list[Shot]:
    """The shots at one chain. Together the chains hit every call of a tick, and every millisecond from 0 to 20."""
    kills = [
        Shot("KILL", WHENS[number % len(WHENS)], 1 + number * 7 % PLANNED, number * 8 % 21)
        for number in range(chain * KILLS, (chain + 1) * KILLS)
    ]
    terminations = [
        # Early, so that something is left that it must not begin.
        Shot("TERM", WHENS[number % len(WHENS)], 1 + number % (PLANNED // 2), number % 5)
        for number in range(chain * TERMINATIONS, (chain + 1) * TERMINATIONS)
    ]
    for place, shot in enumerate(terminations, start=1):
        kills.insert(place * len(kills) // (len(terminations) + 1), shot)
    return kills


def test_the_shots_hit_everything() -> None:
    everything = [shot for chain in range(CHAINS) for shot in shots(chain)]
    kills = [shot for shot in everything if shot.signal == "KILL"]
    assert {shot.call for shot in kills} == set(range(1, PLANNED + 1))
    assert {shot.milliseconds for shot in kills if shot.when == "answered"} == set(range(21))
    assert {shot.when for shot in everything if shot.signal == "TERM"} == set(WHENS)
    assert CHAINS * KILLED >= 100
    assert CHAINS * KILLED_IN_MID_WORK >= 80
    assert CHAINS * TERMINATED >= 20


@pytest.mark.parametrize("number", range(CHAINS))
def test_after_a_kill_anywhere_the_next_tick_converges(place: Place, number: int) -> None:
    chain = Chain(place)
    chain.begin(wal=number % 2 == 1)
    fates = []
    for index, shot in enumerate(shots(number), start=1):
        chain.top_up()
        before = chain.check()
        fate = chain.shoot(shot)
        fates.append(fate)
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
    killed = [fate for fate in fates if fate.code == -signal.SIGKILL]
    in_mid_work = [fate for fate in killed if fate.was_in_mid_work]
    terminated = [fate for fate in fates if fate.code == 143]
    assert len(killed) >= KILLED
    assert len(in_mid_work) >= KILLED_IN_MID_WORK
    assert len(terminated) >= TERMINATED
    ticks = chain.count_ticks()
    # A kill that came last may have hit a tick whose end was on record.
    assert len(in_mid_work) <= ticks["crashed"] <= len(killed)
    assert (ticks["stopped"], ticks["running"]) == (len(terminated), 0)


def _renew_some(chain: Chain) -> None:
    """Pay for some that are due: one that was never begun; of those that were, one that is gone and one that is not."""
    destroyed, begun = chain.destroyed(), chain.begun()
    for is_begun, is_gone in ((False, False), (True, True), (True, False)):
        for sid in sorted(chain.due()):
            if (sid in begun, chain.rows[sid].vm_ref in destroyed) == (is_begun, is_gone):
                chain.renew(sid)
                break
