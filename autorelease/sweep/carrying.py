"""Carries a plan out: makes the parts of a run, lets them work, and says what else went wrong."""

from collections import Counter
from collections.abc import Mapping

import msgspec

from autorelease.deciding.judging import Judge, Versions
from autorelease.errors import UnusableError
from autorelease.journal import Journal
from autorelease.rules.identities import Identities
from autorelease.sweep.acting import Means
from autorelease.sweep.again import Again
from autorelease.sweep.answering import Answering
from autorelease.sweep.books import Books
from autorelease.sweep.choosing import Chooser
from autorelease.sweep.crew import Crew
from autorelease.sweep.looks import Looks
from autorelease.sweep.loop import Loop
from autorelease.sweep.misses import Misses
from autorelease.sweep.outbox import Outbox
from autorelease.sweep.rehearsing import Rehearser
from autorelease.sweep.stamping import Stamper
from autorelease.sweep.trouble import Trouble
from autorelease.sweep.verdicts import Charge
from autorelease.sweep.vms import VMs
from autorelease.sweep.windows import Windows
from autorelease.sweep.work import Works
from autorelease.sweep.worklist import Plan, Planlist, Worklist

NOBODY = Identities(b"")


class Carried(msgspec.Struct, frozen=True):
    """What went wrong beside the findings.

    down: provisioners, and why. unproven: the rows whose "not found" was not believed. lost: why ledger or journal were
    given up.
    """

    down: Mapping[str, str] = msgspec.field(default_factory=dict)
    unproven: tuple[bytes, ...] = ()
    lost: str | None = None


def carry_out(
    judge: Judge[Journal], means: Means, run: str, plan: Plan, *, versions: Versions, vouched: Identities = NOBODY
) -> Carried:
    """Release what is planned; `means.watch` gets exactly one finding for each.

    versions: of ledger and journal, from before the plan was read. vouched: the rows whose misses an operator vouches
    for.
    Raises UnusableError, before any call, where the ledger would take no stamp at all; IdentityError where not every
    row came to exactly one end that is written down.
    """
    if next(plan.to_release(), None) is None:
        return Carried()
    before = judge.journal.outcomes(run)
    trouble = Trouble(means.monotonic)
    books = Books(Works(), Outbox(judge.journal, run, trouble), means.watch)
    crew = Crew(means)
    rehearser = Rehearser(judge, books, means, trouble)
    refused = rehearser.refused_of(plan)
    crew.prepare(plan.provisioners())
    misses = Misses(judge, books, crew, means, run, vouched)
    again = Again(judge, books, means, trouble, Looks(judge.ledger, plan.due_vms, means.monotonic), versions)
    vms = VMs(judge.ledger.references, plan.shared_vms())
    worklist = Planlist(plan, without=refused)
    loop = _loop(
        judge, means, books, crew, trouble, again=again, rehearser=rehearser, misses=misses, vms=vms, worklist=worklist
    )
    loop.run(worklist)
    crew.log_down()
    lost = trouble.lost or _why_unchecked(books, judge.journal, run, before)
    return Carried(crew.down, tuple(misses.unproven), lost)


def _loop(
    judge: Judge[Journal],
    means: Means,
    books: Books,
    crew: Crew,
    trouble: Trouble,
    *,
    again: Again,
    rehearser: Rehearser,
    misses: Misses,
    vms: VMs,
    worklist: Worklist,
) -> Loop:
    def charge() -> Charge:
        return Charge(judge.now, means.options.quarantine_after, means.jitter())

    windows = Windows(means)
    return Loop(
        judge,
        means,
        books,
        crew,
        trouble,
        again=again,
        rehearser=rehearser,
        stamper=Stamper(judge.ledger, books, crew, means, trouble, charge),
        misses=misses,
        answering=Answering(judge, means, books, crew, misses, vms),
        chooser=Chooser(worklist, means, books, crew, trouble, windows, vms),
        windows=windows,
    )


def _why_unchecked(books: Books, journal: Journal, run: str, before: Mapping[str, int]) -> str | None:
    """Compare what was reported with what is written down. Why that cannot be read; None: it can, and is the same."""
    try:
        after = Counter(journal.outcomes(run))
    except UnusableError as error:
        return str(error)
    books.check_written(after - Counter(before))
    return None
