"""What a tick writes down before it does anything: what became of unfinished work, and what is left alone, and why."""

from collections.abc import Callable, Iterable
from datetime import datetime

from msgspec.structs import replace

from autorelease.deciding.unfinished import Unfinished
from autorelease.journal import Event, IntentChange, Journal, OpenIntent, Step
from autorelease.model import Outcome, Planned, ReleaseError, SkipReason

EVENTS_AT_ONCE = 500


class Notes:
    """Of one run. clock dates the events."""

    def __init__(self, journal: Journal, run: str, clock: Callable[[], datetime]) -> None:
        self._journal = journal
        self._run = run
        self._clock = clock

    def note_unfinished(self, unfinished: Unfinished) -> None:
        """What became of the releases that earlier runs began; a conflict that is known is written down already."""
        events = [self._outcome(intent, evidence=evidence) for intent, evidence in unfinished.released]
        events += [
            self._outcome(intent, error=finding.error)
            for intent, finding in unfinished.conflicts
            if not intent.is_known_conflict
        ]
        events += [self._void(intent) for intent in unfinished.void]
        for first in range(0, len(events), EVENTS_AT_ONCE):
            self._journal.record(self._run, events[first : first + EVENTS_AT_ONCE])

    def note_skips(self, skips: Iterable[tuple[Planned, SkipReason | None]]) -> None:
        """Those whose reason is another than the last one written."""
        events = []
        for planned, reason in skips:
            if planned.known.skipped != reason:
                events.append(self._skip(planned, reason))
            if len(events) >= EVENTS_AT_ONCE:
                self._journal.record(self._run, events)
                events.clear()
        if events:
            self._journal.record(self._run, events)

    def _outcome(self, intent: OpenIntent, *, evidence: str | None = None, error: ReleaseError | None = None) -> Event:
        return Event(
            step=Step.OUTCOME,
            at=self._clock(),
            sid=intent.sid,
            expires_at=intent.expires_at,
            provisioner=intent.provisioner,
            vm_ref=intent.vm_ref,
            outcome=Outcome.FAILED if error else Outcome.RELEASED,
            reason=error.code if error else None,
            evidence=evidence,
            error=error.message if error else None,
            intent=IntentChange.KEPT if error else IntentChange.CLOSED,
        )

    def _void(self, intent: OpenIntent) -> Event:
        event = replace(self._outcome(intent), step=Step.SKIP, outcome=Outcome.SKIPPED)
        return replace(event, reason=SkipReason.CHANGED)

    def _skip(self, planned: Planned, reason: SkipReason | None) -> Event:
        allocation = planned.allocation
        return Event(
            step=Step.SKIP,
            at=self._clock(),
            sid=allocation.sid,
            expires_at=allocation.expires_at,
            provisioner=allocation.provisioner,
            vm_ref=allocation.vm_ref,
            outcome=Outcome.SKIPPED,
            reason=reason,
        )
