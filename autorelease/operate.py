"""An operator's release of a few allocations, expired or not: their decision, by the same executor as the sweep.

No guard and no backoff; but what is held or not understood is left alone here, too. A hold that was ended has no grace
here: that one is for whoever does not know of it, and this is done by hand.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from autorelease.deciding.unfinished import unfinished_work
from autorelease.errors import AutoreleaseError, UnusableError
from autorelease.journal import Journal, OpenIntent, TickStart
from autorelease.ledger import Ledger
from autorelease.model import (
    NOTHING_KNOWN,
    Allocation,
    Finding,
    Hold,
    InvalidRow,
    Outcome,
    Planned,
    SkipReason,
    TickReport,
)
from autorelease.provisioners import Registered
from autorelease.rules.plan import is_held
from autorelease.sweep.edge.stop import Stop
from autorelease.sweep.executor import Executor, Options
from autorelease.sweep.report import Tally, make_report, tick_object
from autorelease.sweep.run import close_with

NO_GRACE = timedelta(0)


@dataclass(frozen=True, slots=True)
class Order:
    """What is to become of the named rows. already: nothing is left to release."""

    to_release: Sequence[Planned]
    held: Sequence[Planned]
    already: Sequence[Allocation]
    invalid: Sequence[InvalidRow]

    @property
    def rows(self) -> int:
        """How many are named, but for those that are not understood."""
        return len(self.to_release) + len(self.held) + len(self.already)


def make_order(rows: Sequence[Allocation | InvalidRow], ledger: Ledger, journal: Journal, now: datetime) -> Order:
    """Sort the named rows by what can be done with them."""
    readable = [row for row in rows if isinstance(row, Allocation)]
    live = [row for row in readable if not row.settled]
    known = journal.known(live)
    planned = [Planned(row, known.get((row.sid, row.expires_at), NOTHING_KNOWN)) for row in live]
    wanted = [item for item in planned if not is_held(item.known.hold, now, NO_GRACE)]
    owned_twice = _owned_twice([item.allocation for item in wanted], ledger)
    return Order(
        to_release=[item for item in wanted if item.allocation.sid not in owned_twice],
        held=[item for item in planned if is_held(item.known.hold, now, NO_GRACE)],
        already=[row for row in readable if row.settled],
        invalid=[*(row for row in rows if isinstance(row, InvalidRow)), *owned_twice.values()],
    )


def _owned_twice(wanted: Sequence[Allocation], ledger: Ledger) -> Mapping[str, InvalidRow]:
    """Those whose VM is held by a live row that is not to go with them, by sid: two owners, we do not choose."""
    going = {row.sid for row in wanted}
    others = {
        (holder.provisioner, holder.vm_ref): "one without a readable sid" if holder.sid is None else repr(holder.sid)
        for holder in ledger.holders(sorted({row.vm_ref for row in wanted}))
        if holder.sid not in going
    }
    return {
        row.sid: InvalidRow(row.sid, f"vm_ref {row.vm_ref!r} is also held by another live row, {other}")
        for row in wanted
        # A holder whose provisioner nobody can read may be of this one.
        if (other := others.get((row.provisioner, row.vm_ref)) or others.get((None, row.vm_ref))) is not None
    }


def run_release(
    order: Order,
    *,
    ledger: Ledger,
    journal: Journal,
    provisioners: Mapping[str, Registered],
    start: TickStart,
    options: Options,
    stop: Stop,
    clock: Callable[[], datetime],
    jitter: Callable[[], float],
    watch: Callable[[Finding], None] = lambda _: None,
) -> TickReport:
    """Carry the order out, and keep a record of it like a tick's.

    Raises UnusableError, with the record closed in the journal, where nothing can be begun.
    """
    tally = Tally(start.now, options.grace)

    def found(finding: Finding) -> None:
        tally.add(finding)
        watch(finding)

    def held(hold: Hold) -> bool:
        return is_held(hold, start.now, NO_GRACE)

    executor = Executor(
        ledger=ledger,
        journal=journal,
        provisioners=provisioners,
        tick=start.tick,
        now=start.now,
        options=options,
        stop=stop,
        is_due=lambda row: not row.settled,
        is_held=held,
        found=found,
        clock=clock,
        jitter=jitter,
    )
    journal.open_tick(start)
    try:
        _carry_out(order, executor, found)
    except AutoreleaseError as error:
        close_with(journal, start, clock, error)
        raise
    report = make_report(
        tally,
        tick=start.tick,
        started_at=start.started_at,
        finished_at=clock(),
        dry_run=False,
        rows_examined=order.rows + len(order.invalid),
        rows_expired=order.rows,
        rows_invalid=len(order.invalid),
        invalid=order.invalid,
        down=executor.down,
        unproven=executor.unproven,
        stopped_by=stop.by,
        lost=executor.lost,
        is_ordered=True,
    )
    try:
        journal.close_tick(start.tick, report.finished_at, tick_object(report))
    except UnusableError as error:
        return replace(report, lost=str(error))
    return report


def _carry_out(order: Order, executor: Executor, found: Callable[[Finding], None]) -> None:
    for row in order.already:
        found(Finding(row, Outcome.ALREADY_RELEASED, evidence=f"the row is {row.status!r}"))
    for item in order.held:
        found(Finding(item.allocation, Outcome.SKIPPED, reason=SkipReason.HELD))
    if order.to_release:
        executor.rehearse(order.to_release[0], sorted({item.allocation.provisioner for item in order.to_release}))
        executor.execute(order.to_release)


def conflicts_of(sids: Sequence[str], ledger: Ledger, journal: Journal) -> Sequence[OpenIntent]:
    """The open conflicts of these sids: what `retry` acknowledges."""
    return [intent for intent, _ in unfinished_work(ledger, journal).conflicts if intent.sid in sids]
