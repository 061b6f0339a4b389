"""The operator's table of allocations: what every kind of ledger can do.

Knows the model and the errors, never a provisioner, the journal or the tick. Only `open_ledger` imports a database.
"""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from enum import Enum, StrEnum, auto
from typing import TYPE_CHECKING, Protocol

import msgspec

from autorelease.errors import UnusableError
from autorelease.identity import Holder, References
from autorelease.model import Allocation, Census, InvalidRow, RawValue

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from autorelease.ledger.base import Base
    from autorelease.ledger.rows import StoredRow
    from autorelease.ledger.values import Vocabulary
    from autorelease.settings import Settings


# The reason of a row that is there, and is not one of ours.
NOT_ADMITTED = "[ledger] where does not admit it"


class StampResult(Enum):
    """What the compare-and-set of one stamp did. UNCHANGED: no row held the judged values any more."""

    STAMPED = auto()
    UNCHANGED = auto()


class Stamp(msgspec.Struct, frozen=True):
    """One allocation to be marked Released. at: the instant of confirmation."""

    allocation: Allocation
    at: datetime


class Column(msgspec.Struct, frozen=True):
    """A column of the table that we use. role: our word for it. declared: its type in the table's own definition."""

    role: str
    name: str
    declared: str


class Shape(msgspec.Struct, frozen=True):
    """What the table is like.

    absent: our words for the columns that it lacks. is_sid_unique: it lets no two rows have the same sid.
    expiries: how many live rows store their expiry in which class (null, integer, real, text, blob). is_view: it is
    one, which has no keys. base: what is stamped behind it; empty: nothing. is_base_key_unique: as is_sid_unique.
    """

    columns: Sequence[Column]
    absent: Sequence[str]
    is_sid_unique: bool
    expiries: Mapping[str, int]
    is_view: bool = False
    base: str = ""
    is_base_key_unique: bool = True


class Look(StrEnum):
    """What a tick looks for in the ledger. VM, ODD_VM: who holds one whose name is ASCII, or is not.

    STAMP: the row of the base table behind a row of a view. WHOLE: all rows of a view that is read in one piece.
    """

    DUE = "due"
    SID = "sid"
    VM = "vm"
    ODD_VM = "odd vm"
    STAMP = "stamp"
    WHOLE = "whole"


class Access(msgspec.Struct, frozen=True):
    """How the database finds what is looked for.

    how: in its own words. is_indexed: by an index that leaves out nearly all other rows; what is due, in order.
    has_settled: that index holds the settled rows as well, which are then passed by one after the other.
    remedy: the statement that makes the index which would help. milliseconds: what it took with real values; a look
    that takes long is broken off, so that it may take more.
    """

    look: Look
    how: str
    is_indexed: bool
    has_settled: bool
    remedy: str
    milliseconds: float


class Walked(msgspec.Struct, frozen=True):
    """One page of a walk over the whole table.

    rows: that it has; live, due: of these. invalid: the live rows of which we cannot be sure what they say, by
    themselves: not because of others with the same sid or VM. hidden: the sids of rows that an index by which a tick
    looks does not show; problem: which, and what to do about it, None: there is none. position: where the next page
    begins, None: this was the last one. ground: what that rests on.
    """

    ground: str
    rows: int
    live: int
    due: int
    invalid: Sequence[InvalidRow]
    hidden: Sequence[str]
    problem: str | None
    position: str | None


class QuickCensus(msgspec.Struct, frozen=True):
    """What a quick census is: of a ledger in which more than `live` rows are live, or that may have more than `rows`.

    It counts all live rows, and judges those alone whose expiry had passed by `now`, or is none that can be: what is
    wrong with the others matters later, and an audit finds it until then.
    """

    now: datetime
    live: int
    rows: int


class Ledger(Protocol):
    """Used by one thread alone. Every method raises UnusableError where the database cannot do it."""

    @property
    def references(self) -> References:
        """How the ids of its VMs are compared."""

    def census(self, acknowledged: Container[str] = frozenset(), quick: QuickCensus | None = None) -> Census:
        """Count the live rows and judge those that look wrong; acknowledged: sids of whose rows somebody knows.

        quick: when not all of them need be judged; None: never. What `due` has handed on is not judged once more by a
        quick one, unless somebody has written since.
        """

    def due(self, now: datetime, grace: timedelta) -> Iterator[Sequence[Allocation]]:
        """Pages of readable live allocations: a superset of what has expired, in no order that anybody may rely on.

        One whose key changes meanwhile may come twice.
        """

    def walk(
        self, position: str | None, now: datetime, grace: timedelta, is_due: Callable[[Allocation], bool]
    ) -> Walked:
        """Judge the live rows of one page of the table's own key; position None: the first.

        No index and no condition on what a row says stands between the table and the judgement. Each row that is due
        is looked up as `due` and `read` would find it, and each live one as `holders` would, in the same transaction,
        which lasts no longer than a moment.
        """

    def ground(self) -> str:
        """What a position in a walk rests on: it is good for as long as this is the same."""

    def meaning(self) -> str:
        """Which columns and words a row is judged by, in short."""

    def invalid_among(self, sids: Sequence[str]) -> Mapping[str, str]:
        """Of the live rows with these sids, those that are invalid: their reasons by sid."""

    def sharing(self) -> Iterator[InvalidRow]:
        """The live rows that are invalid because another row has the same sid, and not by themselves."""

    def holders(self, references: Sequence[str], besides: Sequence[RawValue] = ()) -> Iterator[Holder]:
        """The live rows, readable or not, whose VM has one of these references, of whatever provisioner and uid.

        references: as a `VM` has them. besides: sids as they are stored, whose own rows need not be among those that
        are found. Asked in groups: a look costs nearly the same for one and for five hundred.
        """

    def paid_for(self, provisioner: str, now: datetime, limit: int) -> Sequence[Allocation]:
        """Some readable live rows of this provisioner whose expiry is ahead, or never comes; the latest first."""

    def version(self) -> int | None:
        """A number that changes whenever somebody else has written; None: nobody can say."""

    def read(self, sid: str) -> Allocation | InvalidRow | None:
        """The allocation with this sid as it is now; None: no such row. One that is not ours is NOT_ADMITTED."""

    def read_many(self, sids: Sequence[str]) -> Mapping[str, Allocation | InvalidRow]:
        """The rows with these sids as they are now, in one look; one that is shared by several is any of them."""

    def stored(self, sid: str) -> "Sequence[StoredRow]":
        """The rows that somebody could mean by this sid, as they are stored; two stand for any number above one."""

    def statuses(self, limit: int) -> Sequence[tuple[RawValue, int]]:
        """The statuses of the rows of ours, with how many rows have each; the most frequent ones, at most `limit`."""

    def shape(self) -> Shape:
        """What the table is like."""

    def accesses(self, now: datetime, grace: timedelta) -> Sequence[Access]:
        """How each look of a tick is done, and how long it takes; in the order of `Look`."""

    def has_rules(self) -> bool:
        """Whether the table's own rules could refuse one row's stamp and take another's; in doubt they could."""

    def joins_rows(self) -> bool:
        """Whether they could refuse the stamp of one row because of another row's; in doubt they could."""

    def rehearse(self, stamps: Sequence[Stamp]) -> Sequence[UnusableError | None]:
        """Do these stamps, one upon the other, inside a transaction that is rolled back.

        Returns for each why the table's own rules refuse it, None where they do not. A row that has changed since it
        was judged is refused by nobody. Raises UnusableError where no stamp at all can be done.
        """

    def stamp(self, stamps: Sequence[Stamp]) -> Sequence[StampResult]:
        """Mark all as Released in one durable transaction; raises, with nothing changed, where one of them fails."""

    def interrupted_when(self, is_stopped: Callable[[], bool]) -> AbstractContextManager[None]:
        """Let a look that is under way, or comes, end with StopReadingError as soon as this is so."""

    def close(self) -> None:
        """End all use of the database."""


def open_ledger(settings: "Settings", *, read_only: bool) -> Ledger:
    """Open and check the ledger that the settings name.

    Raises UnusableError (exit 5) for a missing file, table or column, and for a file that reading would harm.
    """
    from autorelease.ledger.sqlite import SQLiteLedger

    return SQLiteLedger(
        settings.ledger_path,
        settings.ledger.table,
        settings.ledger.columns.by_role(),
        words=vocabulary(settings),
        named=settings.named_columns(),
        base=_base(settings),
        is_stamped=settings.ledger.is_stamped,
        read_only=read_only,
    )


def _base(settings: "Settings") -> "Base | None":
    """The table behind a view, as configured; what is not named there is named as in the view."""
    from autorelease.ledger.base import Base

    stamp, columns = settings.ledger.stamp, settings.ledger.columns
    if isinstance(stamp, bool):
        return None
    return Base(
        table=stamp.table,
        sid=stamp.sid or columns.sid,
        status=stamp.status or columns.status,
        released_at=columns.released_at if stamp.released_at is None else stamp.released_at,
        released=settings.ledger.released if stamp.released is None else stamp.released,
        may_lack_released_at=stamp.released_at is None,
    )


def vocabulary(settings: "Settings") -> "Vocabulary":
    """The meaning of stored values, as configured."""
    from autorelease.ledger.values import Vocabulary

    ledger = settings.ledger
    return Vocabulary(
        released=ledger.released,
        inactive=frozenset(ledger.inactive),
        live=frozenset(ledger.live),
        references=References(ledger.references),
        is_vm_ref_named="vm_ref" in settings.named_columns(),
        never=ledger.never,
        timestamps=ledger.timestamps,
        timezone=_zone(ledger.timezone) if ledger.timezone else None,
        dates=ledger.dates,
        # SQLite has no truth but 1 and 0.
        where=tuple((name, int(value) if isinstance(value, bool) else value) for name, value in ledger.where.items()),
    )


def _zone(name: str) -> "ZoneInfo":
    from zoneinfo import ZoneInfo

    return ZoneInfo(name)
