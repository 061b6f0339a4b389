"""The sections of the file, each key with its default. What is not here is not understood."""

from typing import Annotated, Any, Literal

import msgspec

from autorelease.settings.values import Count, Duration, Finite, Name, Percent, PositiveDuration, Word, Zone


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the file: frozen, strict about types, closed to unknown keys."""


class Columns(Section, frozen=True):
    """`[ledger.columns]`: our word = the table's column."""

    sid: Name = "sid"
    status: Name = "status"
    expires_at: Name = "expires_at"
    released_at: Name = "released_at"
    owner: Name = "owner"
    plan: Name = "plan"
    vm_ref: Name = "vm_ref"
    vm_uid: Name = "vm_uid"
    provisioner: Name = "provisioner"

    def __post_init__(self) -> None:
        # One column as both sid and vm_ref is fine; a status that is also the expiry is not.
        roles = [name.lower() for name in (self.sid, self.status, self.expires_at, self.released_at)]
        if len(set(roles)) < len(roles):
            raise ValueError("sid, status, expires_at and released_at must be four different columns")

    def by_role(self) -> dict[str, str]:
        """Our word -> the table's column."""
        return msgspec.structs.asdict(self)


class BaseTable(Section, frozen=True):
    """`[ledger.stamp]`: the table behind a view, in its own names; a name that is not there is that of the view."""

    table: Name
    sid: Name | None = None
    status: Name | None = None
    released_at: Word | None = None
    released: int | Name | None = None


class LedgerSettings(Section, frozen=True):
    """`[ledger]`: the operator's table, and the words it is written in."""

    url: Name | None = None
    table: Name = "vm_allocations"
    released: Name = "Released"
    inactive: tuple[Word, ...] = ()
    references: Literal["folded", "exact"] = "folded"
    never: tuple[int | Finite | Word, ...] = ()
    timestamps: Literal["epoch", "epoch_ms", "iso8601"] = "epoch"
    audit_every: PositiveDuration = PositiveDuration(hours=24)
    timezone: Zone | None = None
    stamp: bool | BaseTable = True
    columns: Columns = Columns()

    def __post_init__(self) -> None:
        if isinstance(self.stamp, BaseTable):
            _check_base(self.stamp, self.columns)
        if self.released in self.inactive:
            raise ValueError(f"inactive must not list {self.released!r}, which is the released status")

    @property
    def is_stamped(self) -> bool:
        """Whether we write the status; False: the provisioner's own application does."""
        return self.stamp is not False


def _check_base(base: BaseTable, columns: Columns) -> None:
    released_at = columns.released_at if base.released_at is None else base.released_at
    names = [name.lower() for name in (base.sid or columns.sid, base.status or columns.status, released_at) if name]
    if len(set(names)) < len(names):
        raise ValueError("stamp: sid, status and released_at must be three different columns of its table")


class JournalSettings(Section, frozen=True):
    """`[journal]`: our own records."""

    url: Name | None = None
    keep: PositiveDuration = PositiveDuration(days=400)


class Release(Section, frozen=True):
    """`[release]`: how releases are carried out."""

    grace: Duration = Duration(0)
    hold_grace: Duration = Duration(hours=24)
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=256)] = 8
    timeout: PositiveDuration = PositiveDuration(seconds=30)
    deadline: PositiveDuration = PositiveDuration(minutes=45)
    attempts: Annotated[int, msgspec.Meta(ge=1, le=100)] = 3
    quarantine_after: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 5


class Guard(Section, frozen=True):
    """`[guard]`: the limits that refuse a tick."""

    max_releases: Count = 1000
    max_percent: Percent = 50
    min_fleet: Count = 20
    max_gone_percent: Percent = 50
    max_clock_gap: PositiveDuration = PositiveDuration(days=7)


class File(Section, frozen=True):
    """The whole file. A provisioner's own keys are checked by its kind."""

    ledger: LedgerSettings = LedgerSettings()
    journal: JournalSettings = JournalSettings()
    release: Release = Release()
    guard: Guard = Guard()
    provisioners: dict[Name, dict[str, Any]] = msgspec.field(default_factory=dict)
