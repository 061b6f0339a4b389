"""An operator's release of a few allocations, expired or not: their decision, carried out as the sweep's are.

No guard and no backoff; but what is held or not understood is left alone here, too. A hold that was ended has no grace
here: that one is for whoever does not know of it, and this is done by hand.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime

import msgspec
from msgspec.structs import replace

from autorelease.deciding.judging import NO_GRACE, UNKNOWN, Judge, Versions
from autorelease.deciding.unfinished import Moment, unfinished_work
from autorelease.errors import AutoreleaseError
from autorelease.identity import NO_VM, Holders, References, vm_of
from autorelease.journal import Journal, OpenIntent, TickStart
from autorelease.ledger import Ledger
from autorelease.model import (
    NOTHING_KNOWN,
    Allocation,
    Finding,
    InvalidRow,
    Outcome,
    Planned,
    Refusal,
    SkipReason,
)
from autorelease.rules.guard import reason_not_to_vouch
from autorelease.rules.identities import Identities, packed
from autorelease.rules.plan import is_held
from autorelease.sweep.acting import Means
from autorelease.sweep.carrying import NOBODY, Carried, carry_out
from autorelease.sweep.closing import close_run, close_with
from autorelease.sweep.report import Tally, TickReport, make_report
from autorelease.sweep.run import last_refusal


class Order(msgspec.Struct, frozen=True):
    """What is to become of the named rows. already: nothing is left to release.

    versions: of ledger and journal, from before they were read. shared: the VMs that several of them are of, as
    references says that they are compared.
    """

    planned: Sequence[Planned]
    held: Sequence[Planned]
    already: Sequence[Allocation]
    invalid: Sequence[InvalidRow]
    versions: Versions = UNKNOWN
    shared: frozenset[tuple[str | None, str]] = frozenset()
    references: References = References.FOLDED

    @property
    def rows(self) -> int:
        """How many are named, but for those that are not understood."""
        return len(self.planned) + len(self.held) + len(self.already)

    def to_release(self, provisioner: str | None = None) -> Iterator[Planned]:
        """What is to be released, by this provisioner or by all, as it was named."""
        return (item for item in self.planned if provisioner in (None, item.allocation.provisioner))

    def rest(self) -> Iterator[Planned]:
        """Nothing: all of them are to be released."""
        return iter(())

    def provisioners(self) -> Sequence[str]:
        """The names of the provisioners that it needs."""
        return sorted({item.allocation.provisioner for item in self.planned})

    def due_vms(self) -> Iterable[Sequence[str]]:
        """The references of the VMs that it is about."""
        return [[vm_of(item.allocation, self.references).reference for item in self.planned]]

    def shared_vms(self) -> frozenset[tuple[str | None, str]]:
        """The VMs that more than one of its rows are of."""
        return self.shared


def make_order(
    rows: Sequence[Allocation | InvalidRow],
    ledger: Ledger,
    journal: Journal,
    now: datetime,
    *,
    versions: Versions = UNKNOWN,
) -> Order:
    """Sort the named rows by what can be done with them. versions: from before anything was read."""
    readable = [row for row in rows if isinstance(row, Allocation)]
    live = [row for row in readable if not row.settled]
    known = journal.known(live)
    planned = [Planned(row, known.get((row.sid, row.expires_at), NOTHING_KNOWN)) for row in live]
    wanted = [item for item in planned if not is_held(item.known.hold, now, NO_GRACE)]
    invalid = _invalid([item.allocation for item in wanted], ledger)
    going = [item for item in wanted if item.allocation.sid not in invalid]
    vms = [vm_of(item.allocation, ledger.references) for item in going]
    count = Counter((vm.provisioner, vm.reference) for vm in vms)
    return Order(
        planned=going,
        held=[item for item in planned if is_held(item.known.hold, now, NO_GRACE)],
        already=[row for row in readable if row.settled],
        invalid=[*(row for row in rows if isinstance(row, InvalidRow)), *invalid.values()],
        versions=versions,
        references=ledger.references,
        shared=frozenset(key for key, rows_of_it in count.items() if rows_of_it > 1),
    )


def _invalid(wanted: Sequence[Allocation], ledger: Ledger) -> Mapping[str, InvalidRow]:
    """By sid, those without a VM, and those whose VM a live row holds that is not to go with them: we do not choose."""
    invalid = {row.sid: InvalidRow(row.sid, NO_VM) for row in wanted if not row.vm_ref}
    vms = {row.sid: vm_of(row, ledger.references) for row in wanted if row.vm_ref}
    found = ledger.holders(sorted({vm.reference for vm in vms.values()}))
    others = Holders(holder for holder in found if holder.sid not in vms)
    for row in wanted:
        other = others.of(vms[row.sid]) if row.sid in vms else None
        if other is not None:
            invalid[row.sid] = InvalidRow(row.sid, f"vm_ref {row.vm_ref!r} is also held by {other.name}")
    return invalid


def run_release(
    order: Order, judge: Judge[Journal], means: Means, start: TickStart, *, confirm: int | None = None
) -> TickReport:
    """Carry the order out, and keep a record of it like a tick's.

    judge: of the sweep; here the named rows are due whatever their expiry says, and a hold has no grace. confirm: the
    operator vouches for so many misses of the release before. Raises UnusableError, with the record closed in the
    journal, where nothing can be begun.
    """
    tally = Tally(start.now, judge.grace)
    named = frozenset(item.allocation.sid for item in order.planned)
    orderly = replace(judge, hold_grace=NO_GRACE, is_named=named.__contains__)
    refusal, vouched = _answer(confirm, judge.journal, start.now)
    judge.journal.open_tick(start)
    try:
        carried = _carry_out(order, orderly, _counting(tally, means), start.tick, vouched, refusal)
    except AutoreleaseError as error:
        close_with(judge.journal, start, means.clock, error)
        raise
    report = make_report(
        tally,
        tick=start.tick,
        started_at=start.started_at,
        finished_at=means.clock(),
        dry_run=False,
        rows_examined=order.rows + len(order.invalid),
        rows_expired=order.rows,
        rows_invalid=len(order.invalid),
        invalid=order.invalid,
        refused=[refusal] if refusal else (),
        down=carried.down,
        unproven=len(carried.unproven),
        stopped_by=means.stop.by,
        lost=carried.lost,
        is_ordered=True,
    )
    unproven = packed(carried.unproven) or None
    return close_run(judge.journal, start, report, confirmable=report.unproven or None, unproven=unproven)


def _counting(tally: Tally, means: Means) -> Means:
    def watch(finding: Finding) -> None:
        tally.add(finding)
        means.watch(finding)

    return replace(means, watch=watch)


def _answer(confirm: int | None, journal: Journal, now: datetime) -> tuple[Refusal | None, Identities]:
    """Why the operator's answer to the release before does not apply; and whose misses it vouches for."""
    if confirm is None:
        return None, NOBODY
    answered = last_refusal(journal.newest_release())
    refusal = reason_not_to_vouch(confirm, answered, now)
    return refusal, answered.rows if answered is not None and answered.rows is not None else NOBODY


def _carry_out(
    order: Order, judge: Judge[Journal], means: Means, run: str, vouched: Identities, refusal: Refusal | None
) -> Carried:
    for row in order.already:
        means.watch(Finding(row, Outcome.ALREADY_RELEASED, evidence=f"the row is {row.status!r}"))
    for item in order.held:
        means.watch(Finding(item.allocation, Outcome.SKIPPED, reason=SkipReason.HELD))
    if refusal is None:
        return carry_out(judge, means, run, order, versions=order.versions, vouched=vouched)
    for item in order.planned:
        means.watch(Finding(item.allocation, Outcome.SKIPPED, reason=SkipReason.REFUSED))
    return Carried()


def conflicts_of(
    sids: Sequence[str], ledger: Ledger, journal: Journal, moment: Moment
) -> tuple[Sequence[OpenIntent], Collection[str]]:
    """The open conflicts of these sids, which `retry` acknowledges; and those whose release is under way just now.

    What is under way can still come to any end: nobody can have looked at that yet.
    """
    found = [intent for intent, _ in unfinished_work(ledger, journal, moment).conflicts if intent.sid in sids]
    under_way = {intent.sid for intent in journal.open_intents() if intent.sid in sids and intent.run in moment.running}
    return [intent for intent in found if intent.is_known_conflict or intent.sid not in under_way], under_way
