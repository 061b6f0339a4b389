"""What a tick has to plan, and what the guard has to say of it, in the machine's own words."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from tests.machine.engine import CANCELLED, HurriedEngine
from tests.machine.facts import Anchor, Facts, Memory, Pair
from tests.machine.world import (
    RELEASED,
    Row,
    Run,
    World,
    is_live,
    is_resting,
    is_spoiled,
    pair_of,
    ref_of,
    vm_of,
)

# As the table of docs/guard.md has them.
BACKWARDS = timedelta(minutes=5)
STEP = timedelta(minutes=10)
GAP = timedelta(days=7)


# --- the plan ---------------------------------------------------------------------------------------------------------


def planned(world: World, run: Run) -> frozenset[Pair]:
    """What a tick over these rows has to release."""
    going = {sid for sid, row in run.rows.items() if _is_going(world, run, row)}
    staying = {vm_of(row) for sid, row in run.rows.items() if is_live(row) and sid not in going}
    rows = [run.rows[sid] for sid in going]
    return frozenset(pair_of(row) for row in rows if vm_of(row) not in staying and not is_resting(run, pair_of(row)))


def _is_going(world: World, run: Run, row: Row) -> bool:
    sid = row["sid"]
    is_left_alone = sid in run.held or sid in run.conflicts or pair_of(row) in run.facts.released
    return world.is_expired(row, run.now) and not is_left_alone


def conflicts_in(world: World, facts: Facts, rows: Mapping[str, Row], now: datetime) -> frozenset[str]:
    """The sids of which a release was begun that has no known end, while their rows have moved on; or had, once."""
    found = set()
    for memory in facts.memory.values():
        is_open = memory.run is not None
        if memory.is_conflict or (is_open and _has_moved_on(world, memory, rows.get(memory.pair[0]), now)):
            found.add(memory.pair[0])
    return frozenset(found)


def _has_moved_on(world: World, memory: Memory, row: Row | None, now: datetime) -> bool:
    if memory.is_missed:
        # Nothing of ours has gone.
        return False
    if row is None or row["status"] == CANCELLED:
        # After its RELEASED its own application has tidied up.
        return memory.accepted != "released"
    if row["status"] == RELEASED:
        return False
    if is_spoiled(row) or (pair_of(row), ref_of(row)) != (memory.pair, memory.ref):
        return True
    return not world.is_expired(row, now) and memory.accepted != "pending"


# --- the guard --------------------------------------------------------------------------------------------------------


def expected_refusals(world: World, run: Run) -> frozenset[str]:
    """The reasons to refuse a tick over these rows which nobody has changed meanwhile."""
    if run.confirms_refusal:
        assert run.answered is not None
        covered = run.first_tries & run.answered.pairs
        if run.first_tries and not covered:
            return _reasons(world, run, run.first_tries) | {"confirm"}
        left = _reasons(world, run, covered) - run.answered.codes
        # Whatever is refused once more is refused for all that stands: else two reasons could take turns for ever.
        return left | _reasons(world, run, run.first_tries) if left else left
    unanswering = {"confirm"} if run.confirm is not None and not run.is_confirmed else set()
    return _reasons(world, run, run.first_tries) | unanswering


def _reasons(world: World, run: Run, first_tries: frozenset[Pair]) -> frozenset[str]:
    repeats = run.planned - run.first_tries
    found = _of_size(world, run, len(first_tries))
    if run.facts.anchor is not None:
        found |= _of_clock(world.engine, run, run.facts.anchor, has_work=bool(first_tries or repeats))
        found |= _of_ledger(world, run, run.facts.anchor)
    return frozenset(found)


def _of_size(world: World, run: Run, first_tries: int) -> set[str]:
    limits, live = world.engine.limits, sum(is_live(row) for row in run.rows.values())
    found = {"max_releases"} if first_tries > limits.max_releases else set()
    is_judged = run.facts.anchor is None or first_tries >= limits.min_fleet
    return found | ({"max_percent"} if is_judged and first_tries * 100 > limits.max_percent * live else set())


def _of_clock(engine: HurriedEngine, run: Run, anchor: Anchor, *, has_work: bool) -> set[str]:
    since = run.now - anchor.now
    if since < -BACKWARDS:
        return {"clock_backwards"}
    found = {"clock_gap"} if since > GAP and has_work else set()
    return found | ({"clock_stepped"} if _has_stepped(engine, anchor, since) else set())


def _has_stepped(engine: HurriedEngine, anchor: Anchor, since: timedelta) -> bool:
    if engine.boot_id != anchor.boot_id or engine.boot_seconds is None or anchor.boot_seconds is None:
        return False
    return since - timedelta(seconds=engine.boot_seconds - anchor.boot_seconds) > STEP


def _of_ledger(world: World, run: Run, anchor: Anchor) -> set[str]:
    found = {"other_ledger"} if world.engine.ledger_name != anchor.ledger else set()
    existing = [(run.rows[sid], expires_at) for sid, expires_at in run.facts.releases if sid in run.rows]
    live_again = [row for row, expires_at in existing if is_live(row) and is_not_later(row["expires_at"], expires_at)]
    live_again = [row for row in live_again if not is_spoiled(row)]
    is_rewound = len(live_again) >= 3 and len(live_again) * 10 > len(existing)
    return found | ({"ledger_rewound"} if is_rewound else set())


def is_not_later(expires_at: object, released: int | None) -> bool:
    """Whether a row expires when its release says that it had, or before: a renewal is lost."""
    return isinstance(expires_at, int) and released is not None and expires_at <= released
