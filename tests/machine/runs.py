"""Ticks and operators' releases: begun, watched at every call, and their reports compared with the world."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from autorelease.errors import AutoreleaseError, ExitCode, ProvisionerError, UnusableError
from autorelease.journal import Event, IntentChange
from autorelease.model import Allocation, ErrorCode, Release
from autorelease.sweep.edge.stop import Stop
from autorelease.sweep.edge.workers import Workers
from tests.machine.engine import HurriedEngine
from tests.machine.facts import Facts, Pair
from tests.machine.plans import conflicts_in, planned
from tests.machine.provider import Mood, Provider, plainly
from tests.machine.reports import check_report
from tests.machine.script import Collaborator, Killed, Script, Side, Stepped
from tests.machine.world import Call, Note, Run, World, is_live, pair_in_journal
from tests.support.engine import Ticked

PATIENCE = timedelta(seconds=30)
# Long enough for a thread to begin, on a machine that has much to do.
NO_PATIENCE = timedelta(seconds=0.1)


class WatchedLedger(Stepped):
    """Notes what a run has read again, and lets nobody in between a stamp and the world's knowledge of it."""

    def __init__(self, inner: Any, script: Script, world: World, run: Run) -> None:
        super().__init__(inner, Collaborator.LEDGER, script)
        self._world = world
        self._run = run

    def made(self, name: str, method: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Make the call."""
        with self._world.lock:
            if name in ("version", "holders"):
                self._world.look(self._run)
            elif name in ("read", "read_many"):
                self._world.absorb()
                sids = [arguments[0]] if name == "read" else arguments[0]
                self._run.read.update({sid: self._world.rows.get(sid) for sid in sids})
            result = method(*arguments, **named)
            if name == "stamp":
                # By what is known now a "not found" was believed.
                self._world.absorb()
            return result


class WatchedJournal(Stepped):
    """Notes who was held when an intent was written."""

    def __init__(self, inner: Any, script: Script, world: World, run: Run) -> None:
        super().__init__(inner, Collaborator.JOURNAL, script)
        self._world = world
        self._run = run

    def made(self, name: str, method: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Make the call."""
        with self._world.lock:
            result = method(*arguments, **named)
            if name in ("open_tick", "note_plan"):
                # What was read for the plan is not read again.
                self._run.read.clear()
            if name in ("begin", "record"):
                self._ended(arguments[1])
            if name == "begin":
                self._begun(arguments[2])
        return result

    def _ended(self, events: Sequence[Event]) -> None:
        for event in events:
            if event.intent is IntentChange.CLOSED:
                self._run.under_way.pop(event.sid, None)

    def _begun(self, intents: Sequence[Event]) -> None:
        vms = [(intent.provisioner, plainly(intent.vm_ref)) for intent in intents]
        both = [vm for vm, count in Counter([*vms, *self._run.in_flight]).items() if count > 1]
        self._world.require(not both, "two releases at once of one VM:", both)
        for intent in intents:
            is_held = self._world.is_held(intent.sid, self._run.now, grace=self._run.is_tick)
            self._run.begun[intent.sid] = is_held
            if not is_held:
                self._run.looks[intent.sid] = []
                self._run.under_way[intent.sid] = pair_in_journal(intent.sid, intent.expires_at)


class Facade:
    """A provisioner as one run sees it."""

    def __init__(self, name: str, provider: Provider, script: Script, world: World, run: Run, naps: "Naps") -> None:
        self._naps = naps
        self._name = name
        self._provider = provider
        self._script = script
        self._world = world
        self._run = run

    def fingerprint(self) -> str | None:
        """By what it is known."""
        return self._run.fingerprints[self._name]

    def preflight(self) -> None:
        """Two steps."""
        self._script.step(Collaborator.PROVISIONER, Side.BEFORE)
        self._provider.preflight()
        self._script.step(Collaborator.PROVISIONER, Side.AFTER)

    def release(self, allocation: Allocation) -> Release:
        """Two steps, with the truth and an answer in between."""
        self._script.begin_call()
        naps = self._naps.known()
        call: Call | None = None
        try:
            # Whoever acts from now on is too late: the call is made.
            call = self._world.begin_call(self._run, self._name, allocation, naps)
            self._script.step(Collaborator.PROVISIONER, Side.BEFORE)
            answer = self._answer(call, allocation)
            self._script.step(Collaborator.PROVISIONER, Side.AFTER)
        finally:
            if call is not None:
                self._run.in_flight.remove(call.vm)
            self._run.under_way.pop(allocation.sid, None)
            self._script.end_call()
        return answer

    def _answer(self, call: Call, allocation: Allocation) -> Release:
        mood = self._provider.next_mood()
        self._world.seen[f"mood {mood}"] += 1
        try:
            call.answer = self._provider.answer(mood, allocation)
        except Exception as error:
            call.error = str(error)
            call.end_unknown = isinstance(error, ProvisionerError) and error.timed_out
            if mood is Mood.HANGING and not self._provider.is_immediate:
                self._script.over.wait()
            raise
        return call.answer

    def close(self) -> None:
        """Nothing to give back."""


class ProbingFacade(Facade):
    """One that can tell, besides, whether a VM is there."""

    def exists(self, allocation: Allocation) -> bool:
        """No step: nothing is changed. Only for whom somebody pays may it be asked."""
        with self._world.lock:
            self._world.absorb()
            row = self._world.rows.get(allocation.sid)
            is_paid_for = row is not None and is_live(row) and not self._world.is_to_go(self._run, row)
            # What an operator has named and two rows hold is not to go, and is there.
            is_left = row is not None and self._run.sids is not None and not self._world.is_expired(row, self._run.now)
            is_known = is_paid_for or is_left or allocation.sid in self._run.touched
            self._world.require(is_known, "asked for a VM that need not be there:", allocation.sid)
            found = self._run.controls.setdefault(self._name, [])
            found.append((allocation.sid, False))
            is_there = self._provider.exists(allocation)
            found[-1] = (allocation.sid, is_there)
        self._world.seen[f"asked, and {'there' if is_there else 'not there'}"] += 1
        return is_there


class Naps:
    """The time since boot, as a process sees it that is suspended now and then; each thread knows what it has seen."""

    def __init__(self, world: World, engine: HurriedEngine) -> None:
        self._world = world
        self._seen = threading.local()
        engine.boottime = self._seconds

    def _seconds(self) -> float:
        self._seen.naps = self._world.naps
        return self._world.naps * 3.0

    def known(self) -> int | None:
        """How many naps this thread has seen when it asked last; None: it has never asked."""
        naps: int | None = getattr(self._seen, "naps", None)
        return naps


class Runs:
    """Runs of ours in the world. notes: what an operator has read of each tick that came to its end."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.notes: dict[str, Note] = {}
        self._naps = Naps(world, world.engine)

    def sweep(self, script: Script, confirm: int | None = None, at_most: int | None = None) -> Ticked | None:
        """Sweep once, with the lock; None: the tick died, or ended with an error."""
        run = self._begun(None)
        run.confirm, run.at_most = confirm, at_most
        run.answered = self.notes.get(run.facts.newest_tick or "")
        is_answer_known = confirm is None or run.answered is None or run.answered.is_exact
        is_anchor_known = run.facts.anchor is None or run.facts.anchor.tick not in self.world.vague_plans
        run.is_plan_known = is_answer_known and is_anchor_known
        return self._ended(run, script, lambda: self._locked(run, script))

    def release(self, script: Script, sids: frozenset[str]) -> Ticked | None:
        """An operator releases these; None: as above."""
        run = self._begun(sids)
        return self._ended(run, script, lambda: self._released(run, script))

    def last_note(self) -> Note | None:
        """What an operator has read of the newest tick."""
        return self.notes.get(self.world.facts().newest_tick or "")

    def _begun(self, sids: frozenset[str] | None) -> Run:
        world = self.world
        with world.lock:
            world.absorb()
            now, facts = world.engine.now, world.facts()
            run = Run(
                now=now,
                sids=sids,
                rows=dict(world.rows),
                facts=facts,
                conflicts=conflicts_in(world, facts, world.rows, now),
                held=frozenset(sid for sid in {*world.rows, *world.holds} if world.is_held(sid, now)),
                admitted=self._admitted_before(facts),
                fingerprints={name: provider.fingerprint for name, provider in world.providers.items()},
                instants={int(now.timestamp())},
            )
            run.planned = planned(world, run) if sids is None else frozenset()
            self._meet(run)
            world.active.append(run)
        return run

    def _admitted_before(self, facts: Facts) -> frozenset[Pair]:
        """What the newest admitted tick had planned; of another ledger the same names are other VMs."""
        if facts.anchor is None or facts.anchor.ledger != self.world.engine.ledger_name:
            return frozenset()
        return self.world.plans.get(facts.anchor.tick, frozenset())

    def _meet(self, run: Run) -> None:
        """Two runs at once: each has what is in the other's hands touched."""
        for other in self.world.active:
            self.world.touch_with(other, run.sids or frozenset())
            self.world.touch_with(run, other.sids or frozenset(self.world.rows))

    def _ended(self, run: Run, script: Script, go: Callable[[], Ticked]) -> Ticked | None:
        world, engine = self.world, self.world.engine
        outer, outer_options, outer_started = engine.stop, engine.options, engine.started
        engine.started = partial(self._started, run)
        stop = engine.stop = Stop(script.deadline)
        # Looked up when it is needed: the executor puts its own in there when the run is under way.
        script.wake = lambda: stop.on_wish()  # noqa: PLW0108
        hangs = any(provider.may_hang for provider in world.providers.values())
        engine.configure(timeout=NO_PATIENCE if hangs else PATIENCE)
        run.is_hurried = hangs
        ticked: Ticked | None = None
        try:
            ticked = go()
        except Killed:
            # The threads of a dead process are dead, too.
            workers = getattr(stop.on_wish, "__self__", None)
            if isinstance(workers, Workers):
                workers.dismiss()
        except AutoreleaseError as error:
            self._check_end(run, script, stop, error)
        finally:
            script.finish()
            engine.stop, engine.options, engine.started = outer, outer_options, outer_started
            engine.running.discard(run.tick)
        self._check(run, script, ticked)
        return ticked

    def _check_end(self, run: Run, script: Script, stop: Stop, error: AutoreleaseError) -> None:
        """A run may end with an error where a database was made to fail, or where it was stopped before its plan."""
        self.world.seen[f"exit {int(error.exit_code)}"] += 1
        if isinstance(error, UnusableError) and script.failed:
            return
        is_of_wish = error.exit_code is (ExitCode.TERMINATED if stop.by == "SIGTERM" else ExitCode.UNUSABLE)
        self.world.require(stop.by is not None and is_of_wish, "it ended for no reason:", repr(error), stop.by)
        self.world.require(not run.calls, "it says that nothing was released:", run.calls)
        self.world.seen["stopped before its plan"] += 1

    def _started(self, run: Run, tick: str) -> None:
        run.tick = tick
        self.world.fingerprints[tick] = run.fingerprints
        self.world.engine.running.add(tick)

    def _locked(self, run: Run, script: Script) -> Ticked:
        with self.world.engine.alone() as is_ours:
            self.world.require(is_ours, "nobody else can have the lock")
            return self.world.engine.tick(
                self._facades(run, script),
                confirm=run.confirm,
                at_most=run.at_most,
                immediate=["other"],
                around_ledger=lambda inner: WatchedLedger(inner, script, self.world, run),
                around_journal=lambda inner: WatchedJournal(inner, script, self.world, run),
            )

    def _released(self, run: Run, script: Script) -> Ticked:
        assert run.sids is not None
        return self.world.engine.release(
            self._facades(run, script),
            *sorted(run.sids),
            immediate=["other"],
            around_ledger=lambda inner: WatchedLedger(inner, script, self.world, run),
            around_journal=lambda inner: WatchedJournal(inner, script, self.world, run),
            meanwhile=lambda: script.step(Collaborator.OPERATOR, Side.BEFORE),
        )

    def _facades(self, run: Run, script: Script) -> dict[str, Facade]:
        return {
            name: (ProbingFacade if provider.can_be_asked else Facade)(
                name, provider, script, self.world, run, self._naps
            )
            for name, provider in self.world.providers.items()
            if not provider.is_missing
        }

    def _check(self, run: Run, script: Script, ticked: Ticked | None) -> None:
        world = self.world
        with world.lock:
            world.absorb()
            world.active.remove(run)
        assert not world.violations, world.violations
        if script.died and script.death is not None:
            world.seen[f"{script.kind}: death {script.death.side} {script.death.collaborator}"] += 1
        if script.failed:
            world.seen["fault"] += 1
        run.has_failed = script.failed
        if run.is_tick:
            world.plans[run.tick] = self._admitted(run)
            world.vague_plans |= {run.tick} if run.touched else set()
        if ticked is None:
            return
        check_report(world, run, ticked)
        # What could not be written down is known to nobody else.
        if run.is_tick and ticked.report.lost is None:
            self.notes[ticked.report.tick] = self._note(run, ticked)

    def _admitted(self, run: Run) -> frozenset[Pair]:
        """What is admitted by this tick, where it is; of those that somebody has changed meanwhile nobody knows."""
        untried = frozenset(pair for pair in run.planned if not run.facts.was_tried(pair))
        if not run.confirms_refusal or run.answered is None:
            return untried
        return frozenset(pair for pair in untried if not run.is_first_try(pair) or pair in run.answered.pairs)

    def _note(self, run: Run, ticked: Ticked) -> Note:
        report = ticked.report
        first_tries = ticked.summary.first_tries if ticked.summary else None
        is_in_vain = run.confirm is not None and not run.has_something_to_answer
        unproven = [
            finding.allocation
            for finding in ticked.findings
            if finding.error is not None and finding.error.code is ErrorCode.UNPROVEN
        ]
        return Note(
            finished_at=report.finished_at,
            codes=frozenset(refusal.code for refusal in report.refused),
            # Else a confirmation that sits in a crontab would name its number itself.
            count=None if is_in_vain else first_tries if report.refused else report.unproven or None,
            pairs=frozenset(pair for pair in run.planned if not run.facts.was_tried(pair)),
            is_exact=not run.touched,
            unproven=frozenset(
                (pair_in_journal(row.sid, row.expires_at), run.fingerprints[row.provisioner] or "") for row in unproven
            ),
        )


def in_another_thread(action: Callable[[], object]) -> None:
    """Do it there, and wait for it."""
    thread = threading.Thread(target=action)
    thread.start()
    thread.join()
