"""Ticks and operators' releases: begun, watched at every call, and their reports compared with the world."""

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from autorelease.errors import ProvisionerError, UnusableError
from autorelease.journal import Event
from autorelease.model import Allocation, Release
from autorelease.sweep.edge.stop import Stop
from autorelease.sweep.edge.workers import Workers
from tests.machine.facts import Facts, Intent
from tests.machine.provider import Mood, Provider
from tests.machine.reports import check_report, expected_refusals
from tests.machine.script import Collaborator, Killed, Script, Side, Stepped
from tests.machine.world import CANCELLED, Call, Note, Row, Run, World, is_live, is_spoiled, pair_of, vm_of
from tests.support.engine import Ticked

PATIENCE = timedelta(seconds=30)
NO_PATIENCE = timedelta(seconds=0.03)


class WatchedLedger(Stepped):
    """Notes what a run has read again, and lets nobody in between a stamp and the world's knowledge of it."""

    def __init__(self, inner: Any, script: Script, world: World, run: Run) -> None:
        super().__init__(inner, Collaborator.LEDGER, script)
        self._world = world
        self._run = run

    def made(self, name: str, method: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Make the call."""
        with self._world.lock:
            if name == "read":
                self._world.absorb()
                self._run.read[arguments[0]] = self._world.rows.get(arguments[0])
            return method(*arguments, **named)


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
            if name == "begin":
                self._begun(arguments[2])
        return result

    def _begun(self, intents: Sequence[Event]) -> None:
        for intent in intents:
            is_held = self._world.is_held(intent.sid, self._run.now, grace=self._run.is_tick)
            self._run.begun[intent.sid] = is_held
            if not is_held:
                self._run.under_way.add(intent.sid)


class Facade:
    """A provisioner as one run sees it."""

    def __init__(self, name: str, provider: Provider, script: Script, world: World, run: Run) -> None:
        self._name = name
        self._provider = provider
        self._script = script
        self._world = world
        self._run = run

    def preflight(self) -> None:
        """Two steps."""
        self._script.step(Collaborator.PROVISIONER, Side.BEFORE)
        self._provider.preflight()
        self._script.step(Collaborator.PROVISIONER, Side.AFTER)

    def release(self, allocation: Allocation) -> Release:
        """Two steps, with the truth and an answer in between."""
        self._script.begin_call()
        try:
            self._script.step(Collaborator.PROVISIONER, Side.BEFORE)
            call = self._world.begin_call(self._run, self._name, allocation)
            answer = self._answer(call, allocation)
            self._script.step(Collaborator.PROVISIONER, Side.AFTER)
        finally:
            self._run.under_way.discard(allocation.sid)
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


class Runs:
    """Runs of ours in the world. notes: what an operator has read of each tick that came to its end."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.notes: dict[str, Note] = {}

    def sweep(self, script: Script, confirm: int | None = None) -> Ticked | None:
        """Sweep once, with the lock; None: the tick died, or ended with an error."""
        run = self._begun(None)
        run.confirm = confirm
        run.answered = self.notes.get(run.facts.newest_tick or "")
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
                vms_of_others=self._vms_of_others(sids),
                conflicts=conflicts_in(facts, world.rows),
                held=frozenset(sid for sid in world.holds if world.is_held(sid, now)),
                instants={int(now.timestamp())},
            )
            world.active.append(run)
        return run

    def _vms_of_others(self, sids: frozenset[str] | None) -> Mapping[tuple[str, str], frozenset[str]]:
        """The VMs that belong to rows which are not to be released."""
        world, found = self.world, dict[tuple[str, str], frozenset[str]]()
        for sid, row in world.rows.items():
            is_due = world.is_expired(row, world.engine.now) and not world.is_held(sid, world.engine.now)
            if is_live(row) and not is_due and sids is None:
                found[vm_of(row)] = found.get(vm_of(row), frozenset()) | {sid}
        return found

    def _ended(self, run: Run, script: Script, go: Callable[[], Ticked]) -> Ticked | None:
        world, engine = self.world, self.world.engine
        outer, outer_options = engine.stop, engine.options
        stop = engine.stop = Stop(script.deadline)
        # Looked up when it is needed: the executor puts its own in there when the run is under way.
        script.wake = lambda: stop.on_wish()  # noqa: PLW0108
        hangs = any(provider.may_hang for provider in world.providers.values())
        engine.configure(timeout=NO_PATIENCE if hangs else PATIENCE)
        ticked: Ticked | None = None
        try:
            ticked = go()
        except Killed:
            # The threads of a dead process are dead, too.
            workers = getattr(stop.on_wish, "__self__", None)
            if isinstance(workers, Workers):
                workers.dismiss()
        except UnusableError:
            world.require(script.failed, "a database failed that was not made to")
        finally:
            script.finish()
            engine.stop, engine.options = outer, outer_options
        self._check(run, script, ticked)
        return ticked

    def _locked(self, run: Run, script: Script) -> Ticked:
        with self.world.engine.alone() as is_ours:
            self.world.require(is_ours, "nobody else can have the lock")
            return self.world.engine.tick(
                self._facades(run, script),
                confirm=run.confirm,
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
        )

    def _facades(self, run: Run, script: Script) -> dict[str, Facade]:
        return {
            name: Facade(name, provider, script, self.world, run)
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
            world.seen[f"death {script.death.side} {script.death.collaborator}"] += 1
        if script.failed:
            world.seen["fault"] += 1
        if ticked is None:
            return
        expected = expected_refusals(world, run) if run.is_tick else frozenset()
        check_report(world, run, ticked, expected)
        if run.is_tick:
            report = ticked.report
            planned = ticked.summary.first_tries if ticked.summary else None
            self.notes[report.tick] = Note(
                finished_at=report.finished_at,
                codes=frozenset(refusal.code for refusal in report.refused),
                count=planned if report.refused else report.unproven or None,
            )


def conflicts_in(facts: Facts, rows: Mapping[str, Row]) -> frozenset[str]:
    """The sids of which a release was begun that has no known end, while their rows have moved on."""
    found = set()
    for intent in facts.intents:
        row = rows.get(intent.pair[0])
        if row is None or is_spoiled(row) or row["status"] == CANCELLED or (is_live(row) and not _is_of(intent, row)):
            found.add(intent.pair[0])
    return frozenset(found)


def _is_of(intent: Intent, row: Row) -> bool:
    return (pair_of(row), vm_of(row)) == (intent.pair, (intent.provisioner, intent.vm_ref))


def in_another_thread(action: Callable[[], object]) -> None:
    """Do it there, and wait for it."""
    thread = threading.Thread(target=action)
    thread.start()
    thread.join()
