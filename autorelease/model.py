"""The words of the field as data: frozen, slotted, without behaviour that touches the world.

Imports nothing of ours. Instants are aware UTC `datetime`s, durations `timedelta`s. gc=False: many, and free of cycles.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Literal

import msgspec

RawValue = int | float | str | bytes | None
DEFAULT_PROVISIONER = "default"


class RawRow(msgspec.Struct, frozen=True, gc=False):
    """The stored values a decision rests on, for the compare-and-set of the stamp."""

    sid: RawValue
    status: RawValue
    expires_at: RawValue


class Allocation(msgspec.Struct, frozen=True, gc=False):
    """One VM held by one owner until `expires_at`.

    expires_at: rounded up to a microsecond; None: never.
    settled: nothing is left to release: released, or of an inactive status.
    vm_ref: the provisioner's own id of the VM; where there is none, the sid. Where there is none in a column that the
    configuration names: '', there is no VM, and it is never released.
    """

    sid: str
    status: str
    expires_at: datetime | None
    settled: bool
    vm_ref: str
    raw: RawRow
    released: bool = False
    provisioner: str = DEFAULT_PROVISIONER
    vm_uid: str | None = None
    owner: str | None = None
    plan: str | None = None

    @property
    def token(self) -> str:
        """The fencing token `sid@expires_at` (RFC 3339, six digits)."""
        return f"{self.sid}@{rfc3339(self.expires_at, digits=6) if self.expires_at else 'never'}"

    def judged(self) -> tuple[object, ...]:
        """Everything a release depends on; two readings that differ here are not the same allocation."""
        raw = (self.raw.sid, self.raw.status, self.raw.expires_at)
        return (
            *raw,
            *map(type, raw),
            self.expires_at,
            self.settled,
            self.provisioner,
            self.vm_ref,
            self.vm_uid,
        )


class InvalidRow(msgspec.Struct, frozen=True):
    """A live row of which we cannot be sure what it says: never released, always reported.

    has_sid: whether somebody can ask for it by that; else it stands for what is stored there.
    """

    sid: str
    reason: str
    raw: RawRow | None = None
    has_sid: bool = True


class Result(StrEnum):
    """What a provisioner says of one allocation."""

    RELEASED = "released"
    ALREADY_RELEASED = "already_released"
    PENDING = "pending"


class Answer(StrEnum):
    """What a provisioner answered, for judging whether its "not found" can be believed. An error is no answer."""

    RELEASED = "released"
    PROOF = "proof"
    PENDING = "pending"
    MISS = "miss"


class Release(msgspec.Struct, frozen=True):
    """A provisioner's answer. proof: it saw this very VM gone; False for a mere "not found" (a miss)."""

    result: Result
    evidence: str = ""
    proof: bool = True


class Outcome(StrEnum):
    """What became of one expired allocation in one tick."""

    RELEASED = "released"
    ALREADY_RELEASED = "already_released"
    PENDING = "pending"
    SKIPPED = "skipped"
    FAILED = "failed"


class SkipReason(StrEnum):
    """Why an expired allocation was left alone."""

    HELD = "held"
    BACKOFF = "backoff"
    RENEWED = "renewed"
    CHANGED = "changed"
    RESURRECTED = "resurrected"
    DEFERRED = "deferred"
    REFUSED = "refused"
    DRY_RUN = "dry_run"
    NO_PROVISIONER = "no_provisioner"


class ErrorCode(StrEnum):
    """The kinds of `FAILED`."""

    FAILED = "failed"
    CONFLICT = "conflict"
    UNPROVEN = "unproven"


class Attempts(msgspec.Struct, frozen=True):
    """What the journal remembers of earlier ticks' tries at one (sid, expires_at).

    failed_ticks: ticks that ended in an error since the last success or `retry`; pending_ticks: that ended `pending`.
    next_attempt_at: no try before this instant; None: at once.
    """

    failed_ticks: int = 0
    pending_ticks: int = 0
    next_attempt_at: datetime | None = None
    quarantined: bool = False
    last_error: str | None = None


class MadeFor(msgspec.Struct, frozen=True):
    """Whose VM a sid stood for when its hold was made: a sid may be given to somebody else later."""

    provisioner: str
    vm_ref: str
    vm_uid: str | None = None
    owner: str | None = None


class Hold(msgspec.Struct, frozen=True):
    """An operator's word that something is not to be released, across all renewals.

    sid: which one; '': it is of no one sid, but of all that this `provisioner` serves, or, where that is None, of
    everything. until: it ends by itself; None: it does not. ended_at: it was ended by hand. made_for: of a sid, what
    its row named then; None: not written down, or nobody could read it.
    """

    sid: str
    held_at: datetime
    until: datetime | None
    reason: str
    actor: str
    ended_at: datetime | None = None
    provisioner: str | None = None
    made_for: MadeFor | None = None

    @property
    def scope(self) -> Literal["sid", "provisioner", "all"]:
        """What it is of."""
        return "sid" if self.sid else "all" if self.provisioner is None else "provisioner"

    @property
    def ends_at(self) -> datetime | None:
        """When it ends or ended; None: nobody has said so."""
        return self.ended_at or self.until


class Known(msgspec.Struct, frozen=True, gc=False):
    """All that the journal knows about one (sid, expires_at) and a plan needs.

    attempts: of earlier ticks; None: it was never tried. hold: of those that apply to it, the one that ends last.
    intent: a release was begun and its end never recorded. intent_run: the run that first left it so, under the
    fingerprint intent_under ('': under none; None: not written down).
    is_orphaned: that run was killed, so that its call's answer was never written down. accepted: the provisioner said
    RELEASED or PENDING, and accepted_under is its fingerprint then. released: the journal has recorded it as released.
    skipped: the reason of the last recorded skip. is_admitted: the newest admitted plan had it, and did not reach it.
    """

    attempts: Attempts | None = None
    hold: Hold | None = None
    intent: bool = False
    intent_run: str | None = None
    intent_under: str | None = None
    is_orphaned: bool = False
    accepted: Answer | None = None
    accepted_under: str | None = None
    released: bool = False
    skipped: str | None = None
    is_admitted: bool = False

    @property
    def may_be_gone(self) -> bool:
        """Whether a release was begun that may have gone through unheard. After a "not found" nothing of ours has."""
        return self.intent and self.intent_run != ""


NOTHING_KNOWN = Known()


class Planned(msgspec.Struct, frozen=True, gc=False):
    """One expired allocation and what a tick will do with it. skip None: release it."""

    allocation: Allocation
    known: Known = NOTHING_KNOWN
    skip: SkipReason | None = None

    @property
    def first_try(self) -> bool:
        """Whether it is new to the guard: no tick has tried it, or was admitted to."""
        return self.known.attempts is None and not self.known.intent and not self.known.is_admitted


class PlanSummary(msgspec.Struct, frozen=True):
    """The plan in numbers, which is all that the guard judges."""

    first_tries: int
    repeats: int
    skipped: Mapping[SkipReason, int]
    live_rows: int
    first_sids: Sequence[str] = ()
    newest_expires_at: datetime | None = None


class Refusal(msgspec.Struct, frozen=True):
    """One reason of the guard to refuse a tick. answers_nothing: its --confirm answered no refusal."""

    code: str
    message: str
    answers_nothing: bool = False


class Census(msgspec.Struct, frozen=True):
    """The ledger's live rows in numbers, and those that cannot be understood.

    rows_acknowledged: how many of the invalid ones are held, so that somebody knows of them. rows_unnamed: how many of
    them have no sid that could be asked for; sids: those of the others, None where they are very many. is_quick: what
    matters later was not looked at.
    """

    rows_examined: int
    rows_invalid: int
    invalid: Sequence[InvalidRow]
    rows_acknowledged: int = 0
    truncated: bool = False
    rows_unnamed: int = 0
    sids: frozenset[str] | None = frozenset()
    is_quick: bool = False


class ReleaseError(msgspec.Struct, frozen=True):
    """One failed allocation, as reported."""

    sid: str
    provisioner: str
    code: ErrorCode
    message: str
    retryable: bool
    attempts: int
    next_attempt_at: datetime | None


class Finding(msgspec.Struct, frozen=True, gc=False):
    """The end of one expired allocation in one tick; exactly one for each.

    evidence: what the provisioner said. quarantined: it has failed so often that it is tried once a day.
    """

    allocation: Allocation
    outcome: Outcome
    reason: SkipReason | None = None
    evidence: str = ""
    error: ReleaseError | None = None
    quarantined: bool = False
    duration_ms: int | None = None


# Each instant of a row is written several times on its way through a tick.
@lru_cache(maxsize=4096)
def rfc3339(instant: datetime, *, digits: int = 0) -> str:
    """An aware UTC instant as RFC 3339 with `Z`; digits: 0 or 6 of the fraction (0 keeps one that is there)."""
    timespec = "microseconds" if digits or instant.microsecond else "seconds"
    return instant.isoformat(timespec=timespec).removesuffix("+00:00") + "Z"
