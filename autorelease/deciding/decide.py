"""Read ledger and journal, plan, and ask the guard. Listing, dry run and tick go the same way; nothing is changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from autorelease.deciding.spool import Spool
from autorelease.deciding.unfinished import Unfinished, unfinished_work
from autorelease.journal import JournalReader, TickStart
from autorelease.ledger import Ledger
from autorelease.model import Allocation, Census, InvalidRow, PlanSummary, Refusal
from autorelease.rules import guard
from autorelease.rules.expiry import find_expired
from autorelease.rules.plan import is_held, make_plan

# At most so many rows are named; all are counted.
LISTED = 1000
# More than the guard judges: some of their rows are gone from the table.
RELEASES_LOOKED_UP = 300
BEGINNING = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Decision:
    """Everything that is known before anything is done. The spool holds the plan itself; close it in the end."""

    now: datetime
    census: Census
    unfinished: Unfinished
    spool: Spool
    summary: PlanSummary
    rows_invalid: int
    invalid: Sequence[InvalidRow]
    facts: guard.Facts
    refusals: Sequence[Refusal]

    @property
    def rows_expired(self) -> int:
        """The expired rows, as the plan counts them."""
        planned = self.summary.first_tries + self.summary.repeats + sum(self.summary.skipped.values())
        return planned + len(self.unfinished.conflicts)


def decide(
    *,
    ledger: Ledger,
    journal: JournalReader,
    moment: guard.Moment,
    grace: timedelta,
    hold_grace: timedelta,
    limits: guard.Limits,
    is_hypothetical: bool = False,
) -> Decision:
    """Read ledger and journal, plan, and ask the guard. Changes nothing.

    is_hypothetical: the moment is a question, "what if it were then".
    """
    now = moment.now
    unfinished = unfinished_work(ledger, journal)
    held = [hold.sid for hold in journal.holds(_earlier(now, hold_grace)) if is_held(hold, now, hold_grace)]
    census = ledger.census(frozenset(held))
    spool = Spool()
    # What is in conflict is counted as such, and left alone until somebody has looked at it.
    in_conflict = {intent.sid for intent, _ in unfinished.conflicts}
    for page in ledger.due(now, grace):
        expired = [row for row in find_expired(page, now, grace=grace) if row.sid not in in_conflict]
        spool.add(make_plan(expired, journal.known(expired), now, hold_grace=hold_grace))
    for vm_refs in spool.due_vms():
        for holder in ledger.holders(vm_refs):
            spool.mark_owned_twice(holder.sid, holder.provisioner, holder.vm_ref)
    owned_twice, rows = spool.owned_twice(LISTED)
    summary = spool.summary(census.rows_examined)
    last = journal.last_admitted_tick()
    facts = guard.Facts(moment, moment_of(last.start) if last else None, _rewound(ledger, journal), is_hypothetical)
    return Decision(
        now=now,
        census=census,
        unfinished=unfinished,
        spool=spool,
        summary=summary,
        rows_invalid=census.rows_invalid + owned_twice,
        invalid=(*census.invalid, *rows)[:LISTED],
        facts=facts,
        refusals=guard.judge(summary, limits, facts),
    )


def moment_of(start: TickStart) -> guard.Moment:
    """When, and over which ledger, a tick was begun."""
    return guard.Moment(start.now, start.ledger, start.boot_id, start.boot_seconds)


def _earlier(now: datetime, duration: timedelta) -> datetime:
    # The configuration allows durations that reach back before the calendar.
    return now - min(duration, now - BEGINNING)


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
