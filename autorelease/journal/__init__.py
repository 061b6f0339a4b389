"""Our own records: ticks, events, and what is known of each (sid, expires_at).

Knows the model and the errors, never the ledger, a provisioner or the tick. Only `open_journal` imports a database.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from autorelease.journal.records import (
    Audit,
    Audited,
    Begun,
    Event,
    GivenAnswer,
    IntentChange,
    OpenIntent,
    PastTick,
    Step,
    TickKind,
    TickStart,
)
from autorelease.model import Allocation, Answer, Hold, Known

if TYPE_CHECKING:
    from pathlib import Path

    from autorelease.settings import Settings

logger = logging.getLogger(__name__)

__all__ = [
    "Audit",
    "Audited",
    "Begun",
    "Event",
    "GivenAnswer",
    "IntentChange",
    "Journal",
    "JournalReader",
    "OpenIntent",
    "PastTick",
    "Step",
    "TickKind",
    "TickStart",
    "is_missing",
    "open_journal",
    "open_journal_reader",
]


class JournalReader(Protocol):
    """What a command that changes nothing needs. Every method raises UnusableError where the database cannot do it."""

    def version(self) -> int | None:
        """A number that changes whenever another connection has committed; None: that cannot be known."""

    def newest_tick(self) -> PastTick | None:
        """The last tick that was begun; an operator's release is none."""

    def newest_release(self) -> PastTick | None:
        """The last release of an operator that was begun."""

    def last_admitted_tick(self) -> PastTick | None:
        """The last tick that the guard let through, whatever its clock said."""

    def last_swept_tick(self) -> PastTick | None:
        """The last tick that ran through: whose exit code was 0 or 3."""

    def last_counted_tick(self) -> PastTick | None:
        """The last tick that ended with a report, and not with an error in place of one."""

    def recent_releases(self, limit: int) -> Sequence[tuple[str, datetime | None]]:
        """The (sid, expires_at) that ended as released or already released last, newest first; each sid once."""

    def hold_of(self, sid: str) -> Hold | None:
        """The newest hold of this sid itself, whether it has ended or not. What else applies to it: `holds_of`."""

    def holds_of(self, allocations: Sequence[Allocation]) -> Mapping[str, Hold]:
        """By sid, of the holds that apply to it, the one that ends last, whether it has ended or not.

        A hold is of a sid, of all that a provisioner serves, or of everything; of each the newest one counts. Absent:
        none applies.
        """

    def holds(self, ended_after: datetime) -> Sequence[Hold]:
        """The newest hold of each sid, of each provisioner and of everything, unless it had ended by then."""

    def known(self, allocations: Sequence[Allocation]) -> Mapping[tuple[str, datetime | None], Known]:
        """What is remembered of these (sid, expires_at); absent: nothing."""

    def remembered(self, sid: str) -> Sequence[tuple[datetime | None, Known]]:
        """All that is remembered of a sid, by its expiry then, without holds; oldest expiry first, never last."""

    def open_intents(self) -> Iterator[OpenIntent]:
        """The releases whose end is unknown, oldest first, and then the conflicts that stand alone; read in pages."""

    def unfinished_runs(self) -> Sequence[TickStart]:
        """The runs that never ended: those that are under way, and those that were killed since the last tick."""

    def audited(self, ledger: str) -> Audited:
        """What the audits of this ledger have left; ledger: its name, with all that an audit depends on."""

    def ticks(self, tick: str | None = None) -> Iterator[PastTick]:
        """The ticks, newest first; or this one alone."""

    def recent_answers(self, fingerprint: str, limit: int, run: str | None = None) -> Sequence[Answer]:
        """What was answered under this fingerprint last, newest first; run: in this run alone."""

    def credits(self) -> Sequence[tuple[str, datetime]]:
        """The fingerprints that have credit, each with the start of the tick that it was earned in; newest first."""

    def events(self, *, sid: str | None = None, tick: str | None = None) -> Iterator[Mapping[str, Any]]:
        """The events as `history` shows them, oldest first; `now` is that of their tick."""

    def close(self) -> None:
        """End all use of the database."""


class Journal(JournalReader, Protocol):
    """The whole journal, for a tick. Used by one thread alone."""

    def is_older(self) -> bool:
        """Whether its tables are those of an older version, in which nothing but `bring_up_to_date` is of use."""

    def bring_up_to_date(self) -> "Path | None":
        """Give an older journal the tables of the present version; the caller holds the lock of a tick.

        Returns the copy that was made of it before; None: it was up to date.
        """

    def open_tick(self, start: TickStart, running: Collection[str] = ()) -> None:
        """Begin a tick; every older run that never ended is marked as crashed, but for those that are `running`.

        An operator's release runs beside a tick, without its lock, and says nothing about others.
        """

    def note_plan(self, tick: str, identities: bytes, *, is_admitted: bool) -> None:
        """Note what this tick plans to release for the first time, and whether the guard let it through."""

    def close_tick(
        self,
        tick: str,
        finished_at: datetime,
        report: Mapping[str, Any],
        *,
        confirmable: int | None = None,
        unproven: bytes | None = None,
    ) -> None:
        """End a tick with its report, or with the error object of one that could not go on."""

    def kinds_of_answers(self, fingerprint: str, run: str) -> frozenset[Answer]:
        """Which of the answers there are were given under this fingerprint in this run."""

    def has_credit(self, fingerprint: str) -> bool:
        """Whether under this fingerprint something was ever released, or proven to be gone."""

    def has_missed(self, run: str, sids: Sequence[str]) -> frozenset[str]:
        """Those of these sids that this run has written down a "not found" for."""

    def outcomes(self, run: str) -> Mapping[str, int]:
        """How many outcomes of each kind this run has written down."""

    def record(self, tick: str, events: Sequence[Event], answers: Sequence[GivenAnswer] = ()) -> None:
        """Write all of these, durably, in one transaction."""

    def begin(
        self,
        tick: str,
        events: Sequence[Event],
        intents: Sequence[Event],
        *,
        is_held: Callable[[Hold], bool],
        answers: Sequence[GivenAnswer] = (),
    ) -> frozenset[str]:
        """Write these events, and the intents of all that is not held, durably, in one transaction.

        Returns the sids that are held. A hold that another process makes comes before all of it or after all of it.
        """

    def note_audit(self, ledger: str, audit: Audit, invalid: Mapping[str, str]) -> None:
        """Write down how far an audit has come, and what it has found since it was last noted, in one transaction.

        invalid: reasons by sid. One that is finished takes the place of all earlier ones, of other ledgers, too.
        """

    def forget_invalid(self, sids: Iterable[str]) -> None:
        """Forget these invalid rows: they are mended, settled, or gone."""

    def hold(self, *holds: Hold) -> Sequence[Begun]:
        """Make these holds, all or none, each in the place of an earlier one of the same.

        Returns what a run has begun by now that has not ended: for that run the hold comes too late.
        """

    def end_holds(
        self, sids: Sequence[str], at: datetime, actor: str, *, provisioner: str | None = None
    ) -> Sequence[str]:
        """End the holds of these sids, all or none; returns those that are not held, which is why none was ended.

        The sid '' stands for the hold of this provisioner; where that is None, for that of everything.
        """

    def forget_failures(self, at: datetime, actor: str, *, sid: str | None, provisioner: str | None) -> Sequence[str]:
        """Forget backoff and quarantine, of one sid, of one provisioner's, or of all; returns the sids it changed."""

    def acknowledge(self, intents: Sequence[OpenIntent], at: datetime, actor: str) -> None:
        """Close these conflicts, and the intents behind them: somebody has looked at them."""

    def prune(self, before: datetime) -> None:
        """Forget ticks and events that are older; what is known of each (sid, expires_at) stays."""


def open_journal(settings: "Settings", *, may_be_older: bool = False) -> Journal:
    """Open the journal that the settings name, to write in it; `init` alone makes one.

    may_be_older: for who brings it up to date next. Raises UnusableError (exit 5) where it is missing: one made anew in
    silence would have forgotten every failure and every refusal.
    """
    from autorelease.journal.sqlite import SQLiteJournal

    return SQLiteJournal(settings.journal_path, read_only=False, may_be_older=may_be_older)


def open_journal_reader(settings: "Settings") -> JournalReader:
    """Open the journal read-only; where there is none, an empty one, which is said on stderr."""
    from autorelease.journal.empty import EmptyJournal
    from autorelease.journal.sqlite import SQLiteJournal

    if not is_missing(settings.journal_path):
        return SQLiteJournal(settings.journal_path, read_only=True)
    logger.warning(
        "there is no journal yet: reading on as if it were empty. Make one: autorelease init",
        extra={"facts": {"journal": str(settings.journal_path)}},
    )
    return EmptyJournal()


def is_missing(path: "Path") -> bool:
    """Whether no file is there; one that cannot be seen is there, and opening it says why it cannot."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False
