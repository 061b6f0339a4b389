"""The sections of the file, each key with its default. What is not here is not understood."""

from typing import Annotated, Any, Literal

import msgspec

from autorelease.settings.values import Count, Duration, Finite, Name, Percent, PositiveDuration, Word, Zone
from autorelease.text import folded


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the file: frozen, strict about types, closed to unknown keys."""


class Columns(Section, frozen=True):
    """`[ledger.columns]`: our word = the table's column; '': the table has none."""

    sid: Name = "sid"
    status: Name = "status"
    expires_at: Name = "expires_at"
    released_at: Word = "released_at"
    owner: Word = "owner"
    plan: Word = "plan"
    vm_ref: Word = "vm_ref"
    vm_uid: Word = "vm_uid"
    provisioner: Word = "provisioner"
    deleted_at: Word = ""

    def __post_init__(self) -> None:
        # One column as both sid and vm_ref is fine; a status that is also the expiry is not.
        names = (self.sid, self.status, self.expires_at, self.released_at, self.deleted_at)
        given = [name.lower() for name in names if name]
        if len(set(given)) < len(given):
            raise ValueError("sid, status, expires_at, released_at and deleted_at must be different columns")

    def by_role(self) -> dict[str, str]:
        """Our word -> the table's column. Left out: what the table is said not to have."""
        return {role: name for role, name in msgspec.structs.asdict(self).items() if name}


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
    released: Name | int = "Released"
    inactive: tuple[Word | int, ...] = ()
    live: tuple[Word | int, ...] = ()
    where: dict[Name, bool | int | Word] = msgspec.field(default_factory=dict)
    references: Literal["folded", "exact"] = "folded"
    never: tuple[int | Finite | Word, ...] = ()
    timestamps: Literal["epoch", "epoch_ms", "iso8601"] = "epoch"
    dates: Literal["end", "start"] | None = None
    timezone: Zone | None = None
    stamp: bool | BaseTable = True
    columns: Columns = Columns()

    def __post_init__(self) -> None:
        if isinstance(self.stamp, BaseTable):
            _check_base(self.stamp, self.columns)
        if self.released in self.inactive:
            raise ValueError(f"inactive must not list {self.released!r}, which is the released status")
        kinds = {type(word) for word in (self.released, *self.inactive, *self.live)}
        if len(kinds) > 1:
            raise ValueError(
                "released, inactive and live must be all text, or all integers, as the column of the status"
            )
        self._check_live()
        self._check_where()
        self._check_dates()

    def _check_live(self) -> None:
        """Nobody can have meant a live status that could be taken for a settled one."""
        settled = {_form(word): word for word in (*self.inactive, self.released)}
        for word in self.live:
            if (other := settled.get(_form(word))) is not None:
                name = "the released status" if other == self.released else "one of inactive"
                alike = "is" if word == other else f"could be taken for {other!r},"
                raise ValueError(f"live must not list {word!r}, which {alike} {name}")

    def _check_dates(self) -> None:
        """A day has its beginning and its end by the clock of some place."""
        if self.dates and self.timestamps != "iso8601":
            raise ValueError(f'dates = "{self.dates}" goes only with timestamps = "iso8601": a number is no date')
        if self.dates and self.timezone is None:
            raise ValueError(
                f'dates = "{self.dates}" needs timezone, in which the day begins and ends: "Europe/Berlin"'
            )

    def _check_where(self) -> None:
        """The stamp must not make a row one that is not ours."""
        stamped = {self.columns.status.lower(): "status", self.columns.released_at.lower(): "released_at"}
        names = [name.lower() for name in self.where]
        for name in names:
            if name in stamped:
                raise ValueError(
                    f"where must not name {name!r}: a release changes the {stamped[name]}. Statuses are for released, "
                    "inactive and live"
                )
            if names.count(name) > 1:
                raise ValueError(f"where names the column {name!r} twice")

    @property
    def is_stamped(self) -> bool:
        """Whether we write the status; False: the provisioner's own application does."""
        return self.stamp is not False


def _check_base(base: BaseTable, columns: Columns) -> None:
    released_at = columns.released_at if base.released_at is None else base.released_at
    names = [name.lower() for name in (base.sid or columns.sid, base.status or columns.status, released_at) if name]
    if len(set(names)) < len(names):
        raise ValueError("stamp: sid, status and released_at must be three different columns of its table")


def _form(word: str | int) -> str:
    """What all spellings of a status have in common."""
    return folded(str(word))


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
