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
