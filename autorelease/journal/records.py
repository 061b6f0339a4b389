"""What the journal is given to write down, and what it gives back."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from autorelease.model import Answer, Attempts


class Step(StrEnum):
    """The kinds of events."""

    INTENT = "intent"
    ATTEMPT = "attempt"
    MISS = "miss"
    OUTCOME = "outcome"
    SKIP = "skip"
    HOLD = "hold"
    UNHOLD = "unhold"
    RETRY = "retry"


class TickKind(StrEnum):
    """What a run is: the sweep, or an operator's `release` of a few, which the guard does not look back at."""

    TICK = "tick"
    RELEASE = "release"


class IntentChange(StrEnum):
    """What an event does to the memory that a release was begun and has no known end.

    OPENED: it is begun; where an earlier run left it open, that run stays its own. KEPT: as it was. MISSED: kept, but
    a "not found" which repeats it is expected no more. CLOSED: it has an end, or never was one.
    """

    OPENED = "opened"
    KEPT = "kept"
    MISSED = "missed"
    CLOSED = "closed"


class GivenAnswer(msgspec.Struct, frozen=True):
    """What a provisioner answered, under which fingerprint."""

    fingerprint: str
    answer: Answer


class Event(msgspec.Struct, frozen=True):
    """One line of the history of an allocation, and what is to be remembered of it.

    expires_at: as judged. attempts: the new memory of tries; None: as it was. accepted: the provisioner said RELEASED
    or PENDING. fingerprint: what it was known by then, or when the release was begun ('': by nothing).
    """

    step: Step
    at: datetime
    sid: str
    expires_at: datetime | None
    provisioner: str
    vm_ref: str
    outcome: str | None = None
    reason: str | None = None
    evidence: str | None = None
    error: str | None = None
    duration_ms: int | None = None
    attempts: Attempts | None = None
    intent: IntentChange = IntentChange.KEPT
    accepted: Answer | None = None
    fingerprint: str | None = None


class TickStart(msgspec.Struct, frozen=True):
    """What is written down before a tick does anything.

    ledger: which file and table. boot_id, boot_seconds: which boot, and how long ago. reason: an operator's, for a
    release. pid_started: when the process began, in clock ticks since the boot; pid_namespace: where its pid counts.
    """

    tick: str
    now: datetime
    started_at: datetime
    ends_by: datetime
    pid: int
    host: str
    version: str
    actor: str
    boot_id: str | None
    boot_seconds: float | None = None
    ledger: str | None = None
    kind: TickKind = TickKind.TICK
    reason: str | None = None
    pid_started: int | None = None
    pid_namespace: str | None = None


class Begun(msgspec.Struct, frozen=True):
    """A release that a run has begun, and of which neither the release nor the run has an end yet."""

    sid: str
    at: datetime
    run: str


class PastTick(msgspec.Struct, frozen=True):
    """A tick in the journal. report: the object of `tick --json`, None where it never ended.

    confirmable: the number that `--confirm` answers it with; None: there is nothing to confirm.
    admission: the identities of the rows that it planned to release for the first time, of an admitted or a refused
    tick; unproven: those whose "not found" it did not believe. None: not written down, or not needed any more.
    """

    start: TickStart
    finished_at: datetime | None
    status: str | None
    exit_code: int | None
    admitted: bool
    report: Mapping[str, Any] | None
    confirmable: int | None = None
    admission: bytes | None = None
    unproven: bytes | None = None


class OpenIntent(msgspec.Struct, frozen=True):
    """A release that was begun in an earlier run and whose end is unknown, or a conflict that nobody has acknowledged.

    run: the one that called last. accepted: it was told RELEASED or PENDING. is_missed: it was told "not found", and
    the run ended before anybody had judged that.
    """

    sid: str
    expires_at: datetime | None
    provisioner: str
    vm_ref: str
    begun_at: datetime
    is_known_conflict: bool = False
    run: str | None = None
    accepted: Answer | None = None
    is_missed: bool = False


class Audit(msgspec.Struct, frozen=True):
    """One look at every row of a ledger, which may take several ticks.

    position: where it goes on, as the ledger says it, which holds for as long as its `ground` is the same. rows, live,
    due: that were looked at, with the live ones and the due ones among them. unnamed: the invalid rows that have no
    sid to be remembered by; examples: what stands in its place, and the reason, of the first. seconds: how long it
    took. problem: rows that the ledger's own index does not show; None: none were found.
    """

    ground: str
    started_at: datetime
    finished_at: datetime | None = None
    position: str | None = None
    rows: int = 0
    live: int = 0
    due: int = 0
    unnamed: int = 0
    examples: tuple[tuple[str, str], ...] = ()
    seconds: float = 0.0
    problem: str | None = None


class Audited(msgspec.Struct, frozen=True):
    """What the audits of a ledger have left: the last that was finished, the one that is under way.

    invalid: the reasons by sid, of all that was found to be invalid and not found to be mended since.
    """

    finished: Audit | None = None
    unfinished: Audit | None = None
    invalid: Mapping[str, str] = msgspec.field(default_factory=dict)
