"""Read ledger and journal, plan, and ask the guard. Listing, dry run and tick go the same way; nothing is changed."""

from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime

import msgspec
from msgspec.structs import replace

from autorelease.deciding import audit, remembered
from autorelease.deciding.judging import Judge
from autorelease.deciding.spool import Spool
from autorelease.deciding.unfinished import Moment, Unfinished, unfinished_work
from autorelease.errors import StopReadingError
from autorelease.journal import JournalReader, PastTick, TickStart
from autorelease.ledger import Ledger, QuickCensus
from autorelease.model import NOTHING_KNOWN, Allocation, Census, InvalidRow, Known, PlanSummary, Refusal
from autorelease.rules import guard
from autorelease.rules.expiry import find_expired
from autorelease.rules.identities import Identities, identity
from autorelease.rules.plan import earliest_end_in_force, make_plan

# At most so many rows are named; all are counted.
LISTED = 1000
# More than the guard judges: some of their rows are gone from the table.
RELEASES_LOOKED_UP = 300


class Decision(msgspec.Struct, frozen=True):
    """Everything that is known before anything is done. The spool holds the plan itself; close it in the end.

    census: the quick look alone; memory: what audits have left beside it. unowned: the due rows that are invalid for
    their VM, and the first of them. held: the sids that are held.
    """

    now: datetime
    census: Census
    memory: remembered.Memory
    held: Container[str]
    unowned: tuple[int, Sequence[InvalidRow]]
    unfinished: Unfinished
    spool: Spool
    summary: PlanSummary
    facts: guard.Facts
    refusals: Sequence[Refusal]

    @property
    def seen(self) -> Census:
        """The census, with what only audits have found."""
        return remembered.completed(self.census, self.memory, self.held)

    @property
    def rows_invalid(self) -> int:
        """All that are invalid, by themselves or for their VM."""
        return self.seen.rows_invalid + self.unowned[0]

    @property
    def invalid(self) -> Sequence[InvalidRow]:
        """The first of them."""
        return (*self.seen.invalid, *self.unowned[1])[:LISTED]

    @property
    def rows_expired(self) -> int:
        """The expired rows, as the plan counts them."""
        planned = self.summary.first_tries + self.summary.repeats + sum(self.summary.skipped.values())
        return planned + len(self.unfinished.conflicts)


OwnAudit = Callable[[Census], remembered.Memory | None]


def decide(
    judge: Judge[JournalReader],
    moment: guard.Moment,
    limits: guard.Limits,
    *,
    running: Collection[str] = (),
    is_hypothetical: bool = False,
    is_stopped: Callable[[], bool] = lambda: False,
    audited: OwnAudit = lambda _: None,
) -> Decision:
    """Read ledger and journal, plan, and ask the guard. Changes nothing.

    running: the runs that are under way besides this one. is_hypothetical: the moment is a question, "what if it were
    then". audited: what an audit has found just now, of a ledger of this census; None: what the journal remembers.
    Raises StopReadingError as soon as somebody wants it to stop.
    """
    with judge.ledger.interrupted_when(is_stopped):
        return _decide(judge, moment, limits, running, is_hypothetical, audited, is_stopped)


def _decide(
    judge: Judge[JournalReader],
    moment: guard.Moment,
    limits: guard.Limits,
    running: Collection[str],
    is_hypothetical: bool,  # noqa: FBT001 - handed on
    audited: OwnAudit,
    is_stopped: Callable[[], bool],
) -> Decision:
    ledger, journal = judge.ledger, judge.journal
    unfinished = unfinished_work(ledger, journal, Moment(judge.now, judge.grace, running))
    held, last = _held(judge), journal.last_admitted_tick()
    anchor, rewound = moment_of(last.start) if last else None, _rewound(ledger, journal)
    facts = guard.Facts(moment, anchor, rewound, is_hypothetical)
    with ExitStack() as unless_decided:
        admitted = admission_of(last, moment.ledger)
        spool = plan_of(judge, ledger.due(judge.now, judge.grace), unfinished, admitted, is_stopped)
        unless_decided.callback(spool.close)
        # Behind what is due: of that it needs to judge no row once more.
        census = ledger.census(held, QuickCensus(judge.now, audit.SMALL_LIVE, audit.SMALL_TABLE))
        memory = audited(census) or remembered.recalled(journal.audited(remembered.name_of(ledger, moment.ledger)))
        if memory.is_own and census.is_quick:
            memory = remembered.with_shared(memory, ledger)
        memory = remembered.looked_up(memory, ledger, census)
        summary = spool.summary(census.rows_examined)
        decision = Decision(
            now=judge.now,
            census=census,
            memory=memory,
            held=held,
            unowned=spool.invalid(LISTED),
            unfinished=unfinished,
            spool=spool,
            summary=summary,
            facts=facts,
            refusals=guard.judge(summary, limits, facts),
        )
        # Whoever is given it has the spool to close.
        unless_decided.pop_all()
    return decision


class _Everything:
    """What a hold of everything is of."""

    def __contains__(self, _: object) -> bool:
        return True


def _held(judge: Judge[JournalReader]) -> Container[str]:
    """The sids that somebody holds. Not those of a provisioner: of a row that is invalid nobody knows whose it is."""
    known = judge.journal.holds(earliest_end_in_force(judge.now, judge.hold_grace))
    holds = [hold for hold in known if judge.is_held(hold)]
    if any(hold.scope == "all" for hold in holds):
        return _Everything()
    return frozenset(hold.sid for hold in holds if hold.scope == "sid")


def admission_of(last: PastTick | None, ledger: str | None) -> Identities:
    """The rows of the newest admitted plan; none where it was about another ledger, whose sids are other VMs."""
    is_of_this_ledger = last is not None and last.start.ledger in (None, ledger)
    return Identities((last.admission if last and is_of_this_ledger else None) or b"")


def plan_of(
    judge: Judge[JournalReader],
    pages: Iterable[Sequence[Allocation]],
    unfinished: Unfinished,
    admitted: Identities,
    is_stopped: Callable[[], bool] = lambda: False,
) -> Spool:
    """The plan of what has expired of these rows. Whoever is given it closes it."""
    with ExitStack() as unless_whole:
        spool = Spool(judge.ledger.references)
        unless_whole.callback(spool.close)
        with spool.interrupted_when(is_stopped):
            _fill(spool, judge, pages, unfinished, admitted, is_stopped)
        unless_whole.pop_all()
    return spool


def _fill(
    spool: Spool,
    judge: Judge[JournalReader],
    pages: Iterable[Sequence[Allocation]],
    unfinished: Unfinished,
    admitted: Identities,
    is_stopped: Callable[[], bool],
) -> None:
    # What is in conflict is counted as such, and left alone until somebody has looked at it.
    in_conflict = {intent.sid for intent, _ in unfinished.conflicts}
    for page in pages:
        # Between pages nothing of SQLite's is under way that would hear it.
        if is_stopped():
            raise StopReadingError
        expired = [row for row in find_expired(page, judge.now, grace=judge.grace) if row.sid not in in_conflict]
        known = _admitted_before(expired, judge.journal.known(expired), admitted)
        spool.add(make_plan(expired, known, judge.now, hold_grace=judge.hold_grace, provisioners=judge.provisioners))
    for references, sids in spool.due_vms_and_sids():
        # Each row holds its own VM, and goes.
        spool.mark_owned_twice(judge.ledger.holders(references, sids))


KnownByRow = Mapping[tuple[str, datetime | None], Known]


def _admitted_before(rows: Sequence[Allocation], known: KnownByRow, admitted: Identities) -> KnownByRow:
    """What is known, with a mark at what the newest admitted plan had: it was admitted once, reached or not."""
    if not len(admitted):
        return known
    keys = [(row.sid, row.expires_at) for row in rows if identity(row.sid, row.expires_at) in admitted]
    return {**known, **{key: replace(known.get(key, NOTHING_KNOWN), is_admitted=True) for key in keys}}


def moment_of(start: TickStart) -> guard.Moment:
    """When, and over which ledger, a tick was begun."""
    return guard.Moment(start.now, start.ledger, start.boot_id, start.boot_seconds)


def _rewound(ledger: Ledger, journal: JournalReader) -> guard.Rewound:
    """Look the journal's last releases up in the ledger."""
    released = dict(journal.recent_releases(RELEASES_LOOKED_UP))
    rows = ledger.read_many(list(released))
    existing = [(rows[sid], expires_at) for sid, expires_at in released.items() if sid in rows]
    existing = existing[: guard.REWOUND_WINDOW]
    return guard.Rewound(len(existing), sum(_is_live_again(row, expires_at) for row, expires_at in existing))


def _is_live_again(row: Allocation | InvalidRow, released: datetime | None) -> bool:
    """Whether a row that was released with this expiry is live as it was then, or as it was before a renewal.

    With a later expiry it is an allocation like any other: its owner came back.
    """
    if not isinstance(row, Allocation) or row.settled or row.expires_at is None or released is None:
        return False
    return row.expires_at <= released
