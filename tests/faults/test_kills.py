"""Kills and terminations of the installed command, over and over, on one ledger after another: ticks, and orders.

The release program itself shoots, at a call of the test's choice: before it destroys, after it destroyed and before it
answers, or some milliseconds after it answered. Each chain is a ledger of its own, so that two processors share them.
Nobody ever types `--confirm`: its first tick, which nobody shoots at, gives a provisioner the credit that it needs.
"""

import logging
import os
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from math import ceil

import pytest

from tests.e2e.reports import tick_report
from tests.faults.chain import CONCURRENCY, PLANNED, Chain, Fate, Shot
from tests.faults.orders import DUE, ORDERED, OrderedChain
from tests.support.place import Place

logger = logging.getLogger(__name__)
# Of each kind of shot; `make kills` asks for more.
WANTED = int(os.environ.get("AUTORELEASE_KILLS", "0"))
KILLS_OF_EACH = WANTED or 9
WHENS = ("lost", "orphaned", "unanswered", "answered")
KILLS = KILLS_OF_EACH * len(WHENS)
KILLS_A_CHAIN = 30
CHAINS = max(4, ceil(KILLS / KILLS_A_CHAIN))
TERMINATIONS = max(2 * CHAINS, KILLS // 8)
# A shot that comes when all is done has ended nothing.
TERMINATED_PERCENT = 90
WHOLE_TICK_AFTER = 9
RENEWALS_AFTER = (5, 10, 20)
# Every call; and once more each after which there certainly are others, because most shots must come in mid-work.
CALLS = (*range(1, PLANNED + 1), *range(1, PLANNED - 2 * CONCURRENCY + 1))
LAST_CALLS = range(PLANNED - 2 * CONCURRENCY + 1, PLANNED + 1)
# What can be under way at once, and one group of what came back and is not stamped yet: no more than that either.
EXPOSED_BY_ONE_KILL = 2 * CONCURRENCY
HARMLESS = 3
# Orders that are killed, of every kind of shot as many.
ORDERS = WANTED or 8
ORDER_CHAINS = ceil(ORDERS / KILLS_A_CHAIN)


def shots(chain: int) -> list[Shot]:
    """The shots at one chain. All of them together hit every call of a tick, and every millisecond from 0 to 20."""
    kills = [kill(number) for number in range(chain, KILLS, CHAINS)]
    terminations = [
        # Early, so that something is left that it must not begin.
        Shot("TERM", WHENS[number % len(WHENS)], 1 + number % (PLANNED // 2), number % 5)
        for number in range(chain, TERMINATIONS, CHAINS)
    ]
    for place, shot in enumerate(terminations, start=1):
        kills.insert(place * len(kills) // (len(terminations) + 1), shot)
    return kills


def kill(number: int) -> Shot:
    """One of all the kills."""
    round_of_all, of_this_kind = number // len(CALLS), number // len(WHENS)
    # Each chain has every kind, and each kind every call.
    when = WHENS[(number + number // CHAINS) % len(WHENS)]
    call = CALLS[(number * 7 + round_of_all) % len(CALLS)]
    if when == "answered" and call in LAST_CALLS:
        # Some milliseconds after the last answers there may be nobody left to kill.
        call -= len(LAST_CALLS)
    return Shot("KILL", when, call, of_this_kind * 8 % 21)


def test_the_shots_hit_everything() -> None:
    everything = [shot for chain in range(CHAINS) for shot in shots(chain)]
    kills = [shot for shot in everything if shot.signal == "KILL"]
    assert len(kills) == KILLS
    assert {shot.call for shot in kills} == set(range(1, PLANNED + 1))
    for chain in range(CHAINS):
        assert {shot.when for shot in shots(chain) if shot.signal == "KILL"} == set(WHENS)
    assert {shot.when for shot in everything if shot.signal == "TERM"} == set(WHENS)
    if len(CALLS) < KILLS_OF_EACH:
        assert {shot.milliseconds for shot in kills if shot.when == "answered"} == set(range(21))
        for when in set(WHENS) - {"answered"}:
            assert {shot.call for shot in kills if shot.when == when} == set(range(1, PLANNED + 1))


@pytest.mark.timeout(0 if WANTED else 900)
@pytest.mark.parametrize("number", range(CHAINS))
def test_after_a_kill_anywhere_the_next_tick_converges(
    place: Place, number: int, record_property: Callable[[str, object], None]
) -> None:
    chain = Chain(place)
    chain.begin(wal=number % 2 == 1, can_be_asked=number // 2 % 2 == 1)
    chain.add_due(HARMLESS)
    chain.sweep_whole()
    fates: list[tuple[Shot, Fate]] = []
    for index, shot in enumerate(shots(number), start=1):
        chain.top_up()
        before = chain.check()
        fate = chain.shoot(shot)
        fates.append((shot, fate))
        exposed = chain.check() - before
        assert exposed <= EXPOSED_BY_ONE_KILL
        if shot.signal == "TERM" and fate.report is not None:
            # What was under way was waited for, and is stamped; so is what a kill has left behind.
            assert exposed <= 0
            assert fate.report["skipped"]["deferred"] > 0
        if index in RENEWALS_AFTER:
            _renew_some(chain)
        if index % WHOLE_TICK_AFTER == 0:
            chain.sweep_whole()
    chain.sweep_whole()
    _check_counts(chain, fates, record_property)


# --- orders -----------------------------------------------------------------------------------------------------------


def order_shots(chain: int) -> list[Shot]:
    """The shots at the orders of one chain: all kinds in turn, at calls after which others come."""
    calls = ORDERED - CONCURRENCY
    # An order is soon over: it is shot at some milliseconds later at most.
    # The second order names first what is not due. In the first chain its first call is lost, so that a VM stands.
    turns = range(-1, len(range(chain, ORDERS, ORDER_CHAINS)) - 1)
    return [
        Shot("KILL", WHENS[(chain + turn) % len(WHENS)], 1 + turn * 5 % calls, max(turn, 0) * 3 % 8) for turn in turns
    ]


@pytest.mark.timeout(0 if WANTED else 900)
@pytest.mark.parametrize("number", range(ORDER_CHAINS))
def test_after_a_killed_order_ticks_and_orders_converge(
    place: Place, number: int, record_property: Callable[[str, object], None]
) -> None:
    chain = OrderedChain(place)
    chain.begin(wal=number % 2 == 1, can_be_asked=number // 2 % 2 == 1)
    chain.add_due(HARMLESS)
    chain.sweep_whole()
    fates: list[tuple[Shot, Fate]] = []
    concerned = dict.fromkeys(BETWEEN_ORDERS, 0)
    for index, shot in enumerate(order_shots(number)):
        chain.top_up()
        early, due = chain.add_early(), sorted(chain.due() - chain.begun())[:DUE]
        before = chain.check()
        # What is named first is begun first.
        sids = [*early, *due] if index % 2 else [*due, *early]
        fates.append((shot, chain.shoot_order(shot, sids)))
        assert chain.check() - before <= EXPOSED_BY_ONE_KILL
        do_between = BETWEEN_ORDERS[index % len(BETWEEN_ORDERS)]
        concerned[do_between] += do_between(chain)
    chain.sweep_whole()
    counts = _counts(fates)
    for name, count in counts.items():
        record_property(name, count)
    logger.warning("shots at orders: %s; acknowledged: %d", dict(sorted(counts.items())), len(chain.acknowledged))
    # Before its answer a call is certainly under way, with others to come; some milliseconds later all may be done.
    assert counts["killed in mid-work"] >= sum(shot.when != "answered" for shot, _ in fates)
    if number % len(WHENS) == 0 and len(fates) > len(BETWEEN_ORDERS):
        assert all(concerned.values()), concerned


def _order_again(chain: OrderedChain) -> int:
    """What a killed order has left behind is a conflict, once a tick has come; the next order does it."""
    chain.sweep_whole()
    if sids := sorted(chain.conflicts):
        ran = chain.order_again(sids)
        assert ran.code == 0, ran
        assert (chain.begun(), chain.live() & set(sids)) == (set(), set())
    # A tick has named it: only who has looked at it ends it.
    for sid in sids:
        chain.acknowledge(sid)
    return len(sids)


def _acknowledge(chain: OrderedChain) -> int:
    """It is known; also before any tick has come.

    Only where the VM stands: while a row is paid for whose VM is gone, nobody is believed who does not find it.
    """
    gone = chain.destroyed()
    standing = [sid for sid in sorted(chain.conflicts) if chain.rows[sid].vm_ref not in gone][:1]
    for sid in standing:
        chain.acknowledge(sid)
    chain.sweep_whole()
    return len(standing)


def _hold(chain: OrderedChain) -> int:
    """A hold that is made after the kill and ended after the next tick."""
    gone = chain.destroyed()
    [sid, *_] = sorted(sid for sid in chain.due() - chain.begun() if chain.rows[sid].vm_ref not in gone)
    chain.hold(sid)
    chain.sweep_whole()
    chain.unhold(sid)
    return 1


# Each returns how many rows it concerned.
BETWEEN_ORDERS: Sequence[Callable[[OrderedChain], int]] = (_order_again, _acknowledge, _hold)


# --- what it came to --------------------------------------------------------------------------------------------------


def _check_counts(
    chain: Chain, fates: Sequence[tuple[Shot, Fate]], record_property: Callable[[str, object], None]
) -> None:
    counts = _counts(fates)
    for name, count in counts.items():
        record_property(name, count)
    logger.warning("shots: %s; conflicts: %d", dict(sorted(counts.items())), len(chain.conflicts))
    shot = Counter(shot.signal for shot, _ in fates)
    # Before its answer a call is certainly under way; some milliseconds later all may be done.
    certain = [each for each, _ in fates if each.signal == "KILL" and each.when != "answered"]
    assert counts["killed"] >= len(certain)
    assert counts["killed in mid-work"] >= sum(each.call not in LAST_CALLS for each in certain)
    assert counts["terminated"] * 100 >= shot["TERM"] * TERMINATED_PERCENT
    assert all(counts[f"killed {when}"] > 0 for when in WHENS)
    ticks = chain.count_ticks()
    # A kill that came last may have hit a tick whose end was on record.
    assert counts["killed in mid-work"] <= ticks["crashed"] <= counts["killed"]
    assert (ticks["stopped"], ticks["running"]) == (counts["terminated"], 0)


def test_without_credit_a_kill_ends_in_a_tick_that_says_what_to_type(place: Place) -> None:
    chain = Chain(place)
    chain.begin(soon=0)
    chain.add_due(1)
    # Nothing has ever come back from this provisioner.
    assert chain.shoot(Shot("KILL", "unanswered", 1)).code == -signal.SIGKILL
    ran = chain.run_tick()
    [error] = tick_report(ran, 8)["errors"]
    assert error["code"] == "unproven"
    assert "tick --once --confirm 1" in ran.err
    assert chain.sweep_whole("--confirm", "1")["rows_already_released"] == 1


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
