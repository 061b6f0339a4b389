"""The state machine: what may happen to a ledger, its journal and a provider between, and in the midst of, our runs.

What is promised, and checked at every step against the world's own books (see `world`, `runs`, `reports`):

- A tick calls a provisioner only for a row that, as it was last looked at after its intent was durable, had expired
  before the tick's `now`, whose sid was not held when the intent was written, and whose VM no other row holds that is
  not to go, in whatever spelling. Whoever changes a row after that has lost the race; whoever holds one after that is
  told so. What was looked at before the process was suspended is looked at again.
- A row becomes Released by us only after an answer for that very (sid, expires_at, VM), and then its VM is gone. A
  provisioner that says "not found" of a VM that is there can break this only where it is believed: see `belief`.
- Two rows of one VM are never worked on at the same time.
- What was admitted once is no first try of the next tick; a confirmation covers the rows that it answers for alone.
- A conflict is one until somebody acknowledges it, and an acknowledgement forgets no call that is under way.
- A restored ledger loses renewals: rows that have expired in the copy are due. Rows that the journal knows as released
  are not touched.
- Once all is mended, everything that has expired is released or named: held, resurrected, invalid.
"""

import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from autorelease.journal import TickKind
from autorelease.model import ErrorCode, SkipReason
from autorelease.rules.guard import Limits
from tests.machine.engine import CANCELLED, HurriedEngine
from tests.machine.facts import Facts
from tests.machine.plans import is_not_later
from tests.machine.provider import Mood
from tests.machine.runs import Runs, in_another_thread
from tests.machine.script import Collaborator, Fault, Point, Script, Side
from tests.machine.world import EVERYTHING, RELEASED, World, is_live, is_spoiled, pair_of, vm_of
from tests.support.engine import Ticked

SIDS = tuple(f"vm-{number}" for number in range(8))
# Thousands of small files for a few seconds each.
MEMORY = Path("/dev/shm")  # noqa: S108
LAST = datetime(2150, 1, 1, tzinfo=UTC)
ROUNDS = 30
ROUND = timedelta(hours=25)
# What an expired row may still be when all is mended.
RESTS = {SkipReason.HELD, SkipReason.RESURRECTED}

# How long everything is held.
RED_BUTTON = timedelta(hours=2)
# Every so many ticks one is to release the first few alone.
LIMITED = 4
AGAIN = "-again"
MOVED = "-moved"
SPELLINGS = ("{0}", "{1}", " {0}", "{1}\t", "\u2009{0}")
sids = st.sampled_from(SIDS)
groups = st.sampled_from([SIDS, SIDS[:3], SIDS[2:6], SIDS[5:], SIDS[:1], SIDS[7:]])
offsets = st.sampled_from([timedelta(seconds=seconds) for seconds in (-3600, -86400, -1, 0, 1, 1800, 86400, 8 * 86400)])
pauses = st.sampled_from([timedelta(minutes=minutes) for minutes in (0, 10, 60, 60, 120, 24 * 60, 9 * 24 * 60)])
leaps = st.sampled_from([timedelta(minutes=9), timedelta(hours=5), timedelta(days=9), timedelta(days=500)])
provisioners = st.sampled_from(["default", "default", "other"])
points = st.one_of(
    [
        st.builds(Point, st.just(collaborator), st.sampled_from(Side), st.integers(1, most))
        for collaborator, most in (
            (Collaborator.LEDGER, 12),
            (Collaborator.JOURNAL, 20),
            (Collaborator.PROVISIONER, 6),
            (Collaborator.OPERATOR, 1),
        )
    ]
)


class HappensAt(NamedTuple):
    """Something that befalls a run: what, where, and to which of the rows that are due, or of all."""

    what: str
    point: Point
    which: int


INTERRUPTIONS = (
    "renew",
    "renew by another row",
    "renew by another row",
    "move the VM",
    "move the VM",
    "suspend",
    "settle",
    "cancel",
    "delete",
    "spoil",
    "allocate",
    "hold",
    "hold everything",
    "unhold",
    "retry",
    "retry",
    "release",
    "leap back",
    "leap ahead",
    "second tick",
    "SIGTERM",
    "deadline",
)
RACES = (*INTERRUPTIONS, "die", "die")
ANSWERING = tuple(mood for mood in Mood if mood not in (Mood.CLOSED, Mood.MISSING))
FEW = (SIDS[:2], SIDS[3:6], SIDS[6:])
MANY = (SIDS[:4], SIDS[2:5], SIDS[4:])
# The call before it is the preflight.
FIRST_RELEASE = 2
# A tick of a few rows looks at its databases that often, and more.
NAPS = 40
# Where most can go wrong, as often as anywhere else.
in_first_call = st.builds(Point, st.just(Collaborator.PROVISIONER), st.sampled_from(Side), st.just(FIRST_RELEASE))
critical_points = st.booleans().flatmap(lambda is_anywhere: points if is_anywhere else in_first_call)
# What may become of a plan between its refusal and the answer.
replannings = st.tuples(
    st.sampled_from(["renew", "renew by another row", "move the VM", "settle", "delete", "hold", "allocate"]),
    st.integers(0, 7),
)
interruptions = st.builds(HappensAt, st.sampled_from(INTERRUPTIONS), points, st.integers(0, 7))


class Troubles(NamedTuple):
    """What befalls one run. mood: of a provisioner, for so many calls."""

    interruptions: Sequence[HappensAt]
    death: Point | None
    fault: Fault | None
    mood: tuple[str, Mood, int] | None


faults = st.builds(
    Fault,
    st.sampled_from([Collaborator.LEDGER, Collaborator.JOURNAL]),
    st.integers(1, 16),
    st.sampled_from([1, 2, 4, 10**6]),
)
moods = st.tuples(provisioners, st.sampled_from(Mood), st.sampled_from([1, 2, 6, 12, 40]))
nothing: st.SearchStrategy[None] = st.none()
deaths = nothing | points
no_interruptions: st.SearchStrategy[Sequence[HappensAt]] = st.just(())
troubles = st.one_of(
    [
        st.builds(Troubles, interruptions=happens, death=death, fault=fault, mood=mood)
        for happens, death, fault, mood in (
            (st.lists(interruptions, min_size=1, max_size=2), nothing, nothing, nothing),
            (st.lists(interruptions, max_size=1), nothing, nothing, moods),
            (no_interruptions, points, nothing, nothing),
            (st.lists(interruptions, max_size=1), points, nothing, nothing | moods),
            (st.lists(interruptions, max_size=1), nothing, faults, nothing | moods),
        )
    ]
)
# What is added to the number that the last refusal named; None: it is not answered.
answers = st.sampled_from([None, 0, 0, 0, 0, 1, -1])


class Machine(RuleBasedStateMachine):
    """See above. template: a folder with an empty ledger and an empty journal. seen: counts what has ever happened."""

    template: ClassVar[Path]
    seen: ClassVar[Counter[str]]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=self.template.parent))
        shutil.copytree(self.template, self.folder, dirs_exist_ok=True)
        self.engine = HurriedEngine(self.folder)
        self.world = World(self.engine)
        self.world.seen = self.seen
        self.runs = Runs(self.world)
        self.copies: list[tuple[bytes, Mapping[str, Any]]] = []
        self.is_sound = False
        self._ticks = 0

    @initialize(
        concurrency=st.sampled_from([1, 1, 1, 3]),
        limits=st.sampled_from([Limits(100, 100, 20), Limits(100, 100, 20), Limits(4, 100, 3), Limits(100, 70, 3)]),
        grace=st.sampled_from([timedelta(0), timedelta(0), timedelta(minutes=30)]),
        hold_grace=st.sampled_from([timedelta(0), timedelta(hours=24)]),
        attempts=st.sampled_from([1, 3]),
        can_be_asked=st.booleans(),
        remembers=st.booleans(),
    )
    def configure(self, limits: Limits, *, can_be_asked: bool, remembers: bool, **options: Any) -> None:
        """The configuration, the providers, and a first fleet."""
        for provider in self.world.providers.values():
            provider.can_be_asked, provider.remembers = can_be_asked, remembers
        self.seen["example"] += 1
        self.engine.limits = limits
        self.engine.configure(quarantine_after=2, **options)
        for sid in SIDS:
            self._allocate(sid, timedelta(hours=SIDS.index(sid)))
        self.is_sound = True

    # --- the operator's own application -----------------------------------------------------------------------------

    @rule(group=groups, offset=offsets, provisioner=provisioners)
    def allocate(self, group: Sequence[str], offset: timedelta, provisioner: str) -> None:
        """VMs are sold, or sold again, for the same period."""
        self._see("allocate")
        for sid in group:
            self._allocate(sid, offset, provisioner)

    def _allocate(self, sid: str, offset: timedelta, provisioner: str = "default", vm_ref: str | None = None) -> None:
        row = {
            "sid": sid,
            "owner": f"owner of {sid}",
            "plan": "small",
            "provisioner": None if provisioner == "default" else provisioner,
            "vm_ref": vm_ref,
            "vm_uid": None,
            "status": "Active",
            "expires_at": int((self.engine.now + offset).timestamp()),
            "released_at": None,
        }
        self.world.put(row)
        name, ref = vm_of(row)
        self.world.providers[name].create(ref)

    @rule(
        what=st.sampled_from(["renew", "renew by another row", "move the VM", "settle", "cancel", "revive", "spoil"]),
        sid=sids,
    )
    def change_row(self, what: str, sid: str) -> None:
        """A period is paid for, in this row or a new one; a VM is moved; somebody else stamps, or makes live again."""
        self._see(what)
        self._change(what, sid)

    @rule(sid=sids)
    def delete(self, sid: str) -> None:
        """A row goes."""
        self._see("delete")
        self._change("delete", sid)

    @rule(sid=sids, offset=offsets)
    def share(self, sid: str, offset: timedelta) -> None:
        """A row names another's VM."""
        self._see("share")
        self._allocate(sid, offset, vm_ref=SIDS[SIDS.index(sid) - 1])

    def _change(self, what: str, sid: str) -> None:
        row = self.world.rows.get(sid)
        if what == "renew" and row is not None and is_live(row):
            self.world.change(sid, expires_at=int((self.engine.now + timedelta(days=3)).timestamp()))
        elif what == "renew by another row" and row is not None:
            # Some panels book every period as a row of its own, and not all of them write a name in the same way.
            spelling = SPELLINGS[len(self.world.rows) % len(SPELLINGS)]
            provisioner, ref = vm_of(row)
            again = sid if sid.endswith(AGAIN) else sid + AGAIN
            self._allocate(again, timedelta(days=3), provisioner, spelling.format(ref, ref.upper()))
        elif what == "move the VM" and row is not None:
            provisioner, ref = vm_of(row)
            moved = ref.removesuffix(MOVED) if ref.endswith(MOVED) else ref + MOVED
            self.world.change(sid, vm_ref=moved)
            self.world.providers[provisioner].create(moved)
        elif what == "revive":
            self.world.change(sid, status="Active", released_at=None)
        elif what == "settle":
            self.world.change(sid, status=RELEASED, released_at=1)
        elif what == "cancel":
            self.world.change(sid, status=CANCELLED)
        elif what == "spoil":
            self.world.change(sid, status="Active", released_at=1)
        elif what == "delete":
            self.world.delete(sid)

    @rule(which=st.none() | st.integers(0, 2))
    def copy_or_restore(self, which: int | None) -> None:
        """A backup of the ledger is made; or an old one is put in its place."""
        if which is None or not self.copies:
            self._see("copy")
            self.copies.append((self.engine.place.ledger.read_bytes(), dict(self.world.rows)))
            return
        self._see("restore")
        self.world.restore(*self.copies[which % len(self.copies)])

    # --- the provider and the host ----------------------------------------------------------------------------------

    @rule(mood=moods)
    def change_mood(self, mood: tuple[str, Mood, int]) -> None:
        """The provisioner breaks, is mended, slow, or lies."""
        self._change_mood(*mood)

    def _change_mood(self, provisioner: str, mood: Mood, calls: int) -> None:
        self._see("change mood")
        self.world.providers[provisioner].set_mood(mood, calls)

    @rule(
        what=st.sampled_from(["leap", "leap", "reboot", "move", "vanish", "vanish", "reconfigure"]),
        leap=leaps,
        is_backwards=st.booleans(),
        sid=sids,
    )
    def happen(self, what: str, leap: timedelta, sid: str, *, is_backwards: bool) -> None:
        """The clock is wrong, or set right; another boot; the ledger is moved; a VM goes by itself; another program."""
        self._see(what)
        if what == "leap":
            self._set_clock(self.engine.now - leap if is_backwards else self.engine.now + leap)
        elif what == "reboot":
            self.engine.boot_id, self.engine.boot_seconds = f"{self.engine.boot_id}'", 1.0
        elif what == "move":
            self.engine.ledger_name = f"{self.engine.ledger_name}'"
        elif what == "reconfigure":
            for provider in self.world.providers.values():
                provider.fingerprint = None if is_backwards else f"{provider.fingerprint}'"
        else:
            for provider in self.world.providers.values():
                provider.vanish(sid)

    def _wait(self, pause: timedelta) -> None:
        assert self.engine.boot_seconds is not None
        self.engine.boot_seconds += pause.total_seconds()
        self._set_clock(self.engine.now + pause)
        for provider in self.world.providers.values():
            provider.pass_time()

    def _set_clock(self, now: datetime) -> None:
        self.world.set_clock(min(now, LAST))

    # --- operators and ticks ----------------------------------------------------------------------------------------

    @rule(
        what=st.sampled_from(["hold", "unhold", "retry"]), group=groups, until=st.none() | st.just(timedelta(hours=2))
    )
    def operate(self, what: str, group: Sequence[str], until: timedelta | None) -> None:
        """Hold some; end holds; acknowledge conflicts and forget failures."""
        self._see(what)
        for sid in group:
            self._operate(what, sid, until)

    def _operate(self, what: str, sid: str, until: timedelta | None = None) -> None:
        if what == "hold":
            self.world.hold(sid, self.engine.now + until if until is not None else None)
        elif what == "unhold":
            self.world.unhold(sid)
        else:
            self.world.retry(sid)

    @rule(group=groups, troubles=troubles)
    def release(self, group: Sequence[str], troubles: Troubles) -> None:
        """An operator releases some now."""
        self._see("release")
        self._release(frozenset(group), self._script(troubles, TickKind.RELEASE))

    def _release(self, sids: frozenset[str], script: Script) -> None:
        there = sids & self.world.rows.keys()
        if there:
            self.is_sound = False
            self.runs.release(script, there)
            self.is_sound = True

    @rule(pause=pauses, answer=answers)
    def tick(self, pause: timedelta, answer: int | None) -> None:
        """A tick, and nothing in its way."""
        self._see("tick")
        self._wait(pause)
        self._sweep(Script(), self._confirmation(answer), self._limit())

    @rule(pause=pauses, answer=answers, troubles=troubles)
    def tick_in_trouble(self, pause: timedelta, answer: int | None, troubles: Troubles) -> None:
        """A tick in the midst of which other things happen, or that dies."""
        self._see("tick in trouble")
        self._wait(pause)
        self._sweep(self._script(troubles), self._confirmation(answer), self._limit())

    def _limit(self) -> int | None:
        """How many a tick is to release at most. Not by chance: all that chance decides stays as it was."""
        self._ticks += 1
        return self._ticks // LIMITED if self._ticks % LIMITED == 0 else None

    @rule(group=groups, provisioner=provisioners, answer=answers, troubles=troubles)
    def month_ends(self, group: Sequence[str], provisioner: str, answer: int | None, troubles: Troubles) -> None:
        """Plans end together, and a tick comes."""
        self._see("month ends")
        for sid in group:
            self._allocate(sid, timedelta(minutes=-59), provisioner)
        self._wait(timedelta(hours=1))
        self._sweep(self._script(troubles), self._confirmation(answer))

    @rule(
        what=st.sampled_from(RACES),
        kind=st.sampled_from(TickKind),
        point=critical_points,
        group=st.sampled_from(FEW),
        which=st.integers(0, 7),
        mood=st.sampled_from(ANSWERING),
    )
    def race(self, what: str, kind: TickKind, point: Point, group: Sequence[str], which: int, mood: Mood) -> None:
        """At any point of a run, somebody acts on a row that is due; or the process dies there."""
        self._see("race")
        self._let_expire(group)
        is_death = what == "die"
        happens = [] if is_death else [HappensAt(what, point, which)]
        script = self._script(Troubles(happens, point if is_death else None, None, ("default", mood, 1)), kind)
        self._run(frozenset(group), script)

    def _let_expire(self, group: Sequence[str]) -> None:
        self._operate("unhold", EVERYTHING)
        for sid in group:
            self._operate("unhold", sid)
            self._allocate(sid, timedelta(minutes=-59))
        self._wait(timedelta(hours=1))

    def _run(self, group: frozenset[str], script: Script) -> None:
        if script.kind is TickKind.TICK:
            self._sweep(script, self._confirmation(0))
        else:
            self._release(group, script)

    @rule(
        group=st.sampled_from(MANY),
        changes=st.lists(replannings, min_size=1, max_size=3),
        answer=answers,
        troubles=troubles,
    )
    def confirm_another_plan(
        self, group: Sequence[str], changes: Sequence[tuple[str, int]], answer: int | None, troubles: Troubles
    ) -> None:
        """A plan is refused for its size; it is another one by the time that its number is confirmed."""
        self._see("confirm another plan")
        self._let_expire(group)
        limits, self.engine.limits = self.engine.limits, Limits(1, 100, 20)
        self._sweep(Script())
        for what, which in changes:
            if what == "hold":
                self._operate("hold", group[which % len(group)])
            elif what == "allocate":
                self._allocate(SIDS[which], timedelta(seconds=-which))
            else:
                self._change(what, group[which % len(group)])
        self._sweep(self._script(troubles), self._confirmation(answer))
        self.engine.limits = limits

    @rule(group=st.sampled_from(FEW), after=st.sampled_from([Collaborator.LEDGER, Collaborator.JOURNAL]))
    def sleep_in_the_midst(self, group: Sequence[str], after: Collaborator) -> None:
        """The process is suspended after each look at one of its databases."""
        self._see("sleep in the midst")
        for one in group:
            self._allocate(one, timedelta(minutes=-59))
        self._wait(timedelta(hours=1))
        script = Script()
        for number in range(2, NAPS):
            nap = HappensAt("suspend", Point(after, Side.AFTER, number), 0)
            script.add(nap.point, partial(self._interrupt, script, nap, group[0]))
        self._sweep(script, self._confirmation(0))

    @rule(group=st.sampled_from(FEW), is_asked=st.booleans(), answer=answers)
    def lose_the_token(self, group: Sequence[str], answer: int | None, *, is_asked: bool) -> None:
        """For the time of a tick a provisioner finds nothing of what is there."""
        self._see("lose the token")
        provider = self.world.providers["default"]
        provider.can_be_asked = is_asked
        for sid in group:
            self._operate("unhold", sid)
            self._allocate(sid, timedelta(minutes=-59))
        self._wait(timedelta(hours=1))
        self._change_mood("default", Mood.LYING, 40)
        self._sweep(Script(), self._confirmation(answer))
        self._change_mood("default", Mood.WELL, 0)

    @rule(
        side=st.sampled_from(Side),
        kind=st.sampled_from(TickKind),
        point=critical_points,
        group=st.sampled_from(FEW),
        death=deaths,
    )
    def acknowledge_in_mid_call(
        self, side: Side, kind: TickKind, point: Point, group: Sequence[str], death: Point | None
    ) -> None:
        """An operator who has looked at a conflict says so while a run is under way that has that row in hand, too."""
        self._see("acknowledge in mid-call")
        first, *others = group
        self._let_expire([first])
        self._sweep(Script(death=Point(Collaborator.PROVISIONER, side, FIRST_RELEASE)), self._confirmation(0))
        self._change("cancel", first)
        self._sweep(Script())
        self._change("revive", first)
        self._let_expire(others)
        troubles = Troubles([HappensAt("retry", point, 0)], death, None, None)
        self._run(frozenset(group), self._script(troubles, kind, first))

    def _confirmation(self, answer: int | None) -> int | None:
        note = self.runs.last_note()
        if answer is None or note is None or note.count is None:
            return None
        self._see("confirm")
        return note.count + answer

    def _sweep(self, script: Script, confirm: int | None = None, at_most: int | None = None) -> Ticked | None:
        self.is_sound = False
        # No two ticks have the same instant.
        self._wait(timedelta(seconds=1))
        ticked = self.runs.sweep(script, confirm, at_most)
        self.is_sound = True
        return ticked

    def _script(self, troubles: Troubles, kind: TickKind = TickKind.TICK, target: str | None = None) -> Script:
        """What befalls a run. target: whom it befalls; None: whoever is due."""
        due = [sid for sid, row in sorted(self.world.rows.items()) if self.world.is_expired(row, self.engine.now)]
        targets = [target] if target is not None else due or SIDS
        script = Script(kind, death=troubles.death, fault=troubles.fault)
        if troubles.mood is not None:
            self._change_mood(*troubles.mood)
        for happens in troubles.interruptions:
            sid = targets[happens.which % len(targets)]
            script.add(happens.point, partial(self._interrupt, script, happens, sid))
        return script

    def _interrupt(self, script: Script, happens: HappensAt, sid: str) -> None:
        what = happens.what
        self.seen[f"interrupted by {what}"] += 1
        self.seen[f"{script.kind}: {what} at the {happens.point.collaborator}"] += 1
        if what in ("hold", "unhold", "retry"):
            self._operate(what, sid)
        elif what == "hold everything":
            self.world.hold(EVERYTHING, self.engine.now + RED_BUTTON)
        elif what == "allocate":
            self._allocate(sid, timedelta(hours=-1))
        elif what == "release":
            self._release(frozenset({sid}), Script(TickKind.RELEASE))
        elif what in ("leap back", "leap ahead"):
            self._set_clock(self.engine.now + timedelta(hours=-3 if what == "leap back" else 3))
        elif what == "suspend":
            self.world.naps += 1
        elif what == "second tick":
            in_another_thread(self._be_locked_out)
        elif what == "SIGTERM":
            self.engine.stop.wish(what)
        elif what == "deadline":
            script.is_past_deadline = True
        else:
            self._change(what, sid)

    def _be_locked_out(self) -> None:
        if any(run.is_tick for run in self.world.active):
            with self.engine.alone() as is_ours:
                self.world.require(not is_ours, "two ticks at once")

    def _see(self, name: str) -> None:
        self.seen[f"rule {name}"] += 1

    # --- at every step, and in the end ------------------------------------------------------------------------------

    @invariant()
    def nothing_is_lost(self) -> None:
        """The ledger is what the world knows it to be."""
        self.seen["step"] += 1
        self.world.absorb()

    def teardown(self) -> None:
        """Once all is mended, everything that has expired is released or named."""
        try:
            if self.is_sound and not self.world.violations:
                self._converge()
        finally:
            self.world.close()
            shutil.rmtree(self.folder)

    def _converge(self) -> None:
        for name, provider in self.world.providers.items():
            provider.set_mood(Mood.WELL, 0)
            provider.fingerprint = provider.fingerprint or name
        confirm, ticked = None, None
        for number in range(ROUNDS):
            if number == ROUNDS // 2:
                self._put_rewound_right()
            ticked = self._sweep(Script(), confirm)
            assert ticked is not None, "nothing was made to fail"
            if self._is_quiet(ticked):
                self._check_all_is_named(ticked)
                return
            confirm = self._answer(ticked)
            if confirm is None:
                self._wait(ROUND)
        raise AssertionError(f"all is mended, and it does not end: {ticked}")

    def _is_quiet(self, ticked: Ticked) -> bool:
        return not ticked.report.refused and all(finding.reason in RESTS for finding in ticked.findings)

    def _answer(self, ticked: Ticked) -> int | None:
        """What an operator does about it; returns the number to confirm."""
        for error in ticked.report.errors:
            if error.code is ErrorCode.CONFLICT:
                self.world.retry(error.sid)
        note = self.runs.last_note()
        return note.count if note is not None else None

    def _put_rewound_right(self) -> None:
        """A ledger that stays rewound is refused as often as misses are answered: its rows must be put right."""
        for sid, expires_at in self.world.facts().releases:
            row = self.world.rows.get(sid)
            if row is not None and is_live(row) and is_not_later(row["expires_at"], expires_at):
                self.world.change(sid, status=RELEASED, released_at=1)

    def _check_all_is_named(self, ticked: Ticked) -> None:
        named = {finding.allocation.sid for finding in ticked.findings}
        invalid = {row.sid for row in ticked.report.invalid}
        refs = Counter(vm_of(row) for row in self.world.rows.values() if is_live(row))
        facts = self.world.facts()
        assert {intent.pair[0] for intent in facts.intents} <= self._left_alone(named | invalid, facts)
        assert not facts.conflicts
        for sid, row in self.world.rows.items():
            if is_spoiled(row):
                assert sid in invalid, row
            elif sid in invalid:
                assert refs[vm_of(row)] > 1, row
            elif sid in named:
                assert self.world.is_held(sid, self.engine.now) or pair_of(row) in facts.released, row
            else:
                assert not self.world.is_expired(row, self.engine.now), row

    def _left_alone(self, named: set[str], facts: Facts) -> set[str]:
        """Whose intents may stay open: what is named, and what was accepted of a release before its time."""
        accepted = {memory.pair[0] for memory in facts.intents if memory.accepted == "pending"}
        return named | {sid for sid in accepted if not self.world.is_expired(self.world.rows[sid], self.engine.now)}
