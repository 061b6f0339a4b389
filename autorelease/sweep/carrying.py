"""Carries a plan out: makes the parts of a run, lets them work, and says what else went wrong."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from autorelease.deciding.judging import Judge, Versions
from autorelease.journal import Journal
from autorelease.rules.identities import Identities
from autorelease.sweep.acting import Means
from autorelease.sweep.again import Again
from autorelease.sweep.books import Books
from autorelease.sweep.crew import Crew
from autorelease.sweep.loop import Loop
from autorelease.sweep.misses import Misses
from autorelease.sweep.outbox import Outbox
from autorelease.sweep.rehearsing import Rehearser
from autorelease.sweep.stamping import Stamper
from autorelease.sweep.trouble import Trouble
from autorelease.sweep.verdicts import Charge
from autorelease.sweep.work import Works
from autorelease.sweep.worklist import Plan, Planlist

NOBODY = Identities(b"")


@dataclass(frozen=True, slots=True)
class Carried:
    """What went wrong beside the findings.

    down: provisioners, and why. unproven: the rows whose "not found" was not believed. lost: why ledger or journal were
    given up.
    """

    down: Mapping[str, str] = field(default_factory=dict)
    unproven: tuple[bytes, ...] = ()
    lost: str | None = None


def carry_out(
    judge: Judge[Journal], means: Means, run: str, plan: Plan, *, versions: Versions, vouched: Identities = NOBODY
) -> Carried:
    """Release what is planned; `means.watch` gets exactly one finding for each.

    versions: of ledger and journal, from before the plan was read. vouched: the rows whose misses an operator vouches
    for.
    Raises UnusableError, before any call, where the ledger would take no stamp at all.
    """
    if next(plan.to_release(), None) is None:
        return Carried()
    trouble = Trouble(means.monotonic)
    books = Books(Works(), Outbox(judge.journal, run, trouble), means.watch)
    crew = Crew(means)
    rehearser = Rehearser(judge, books, means, trouble)
    refused = rehearser.refused_of(plan)
    crew.prepare(plan.provisioners())
    misses = Misses(judge, books, crew, means, run, vouched)

    def charge() -> Charge:
        return Charge(judge.now, means.options.quarantine_after, means.jitter())

    loop = Loop(
        judge,
        means,
        books,
        crew,
        trouble,
        again=Again(judge, books, means, trouble, versions),
        rehearser=rehearser,
        stamper=Stamper(judge.ledger, books, crew, means, trouble, charge),
        misses=misses,
        shared_vms=plan.shared_vms(),
    )
    loop.run(Planlist(plan.to_release(), without=refused))
    return Carried(crew.down, tuple(misses.unproven), trouble.lost)
