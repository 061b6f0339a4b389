"""Whose stamps are tried before anything is released, and what the ledger's answers mean.

Every try is taken back. It charges nobody and calls nobody: that is the executor's.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice

import msgspec

from autorelease.errors import UnusableError
from autorelease.ledger import Ledger, Stamp
from autorelease.model import Allocation, Planned

# So many of the oldest rows, and, where all of them are refused, so many more out of all the rest.
FIRST = 5
FURTHER = 5
NAMED = 5


class Rehearsed(msgspec.Struct, frozen=True):
    """What the rehearsal of a plan found. refused: rows and why; is_taken: the ledger would take the stamp of one."""

    refused: Sequence[tuple[Planned, str]]
    is_taken: bool

    def check(self) -> None:
        """Raise UnusableError where not one stamp would be taken: it is the table that refuses, not a row."""
        if self.is_taken or not self.refused:
            return
        sids = ", ".join(repr(planned.allocation.sid) for planned, _ in self.refused[:NAMED])
        more = ", …" if len(self.refused) > NAMED else ""
        raise UnusableError(
            f"nothing was released: all {len(self.refused)} rows whose stamp was tried ({sids}{more}) would be refused "
            f"by the ledger. The first: {self.refused[0][1]}"
        )


def of_plan(ledger: Ledger, plan: Callable[[], Iterable[Planned]], at: datetime) -> Rehearsed:
    """Try one stamp after the other until one is taken.

    plan: begins anew with each call. Raises UnusableError where the ledger as a whole is at fault.
    """
    refused: list[tuple[Planned, str]] = []
    for planned in candidates(plan):
        [refusal] = ledger.rehearse([Stamp(planned.allocation, at)])
        if refusal is None:
            return Rehearsed(refused, is_taken=True)
        refused.append((planned, _why(refusal)))
    return Rehearsed(refused, is_taken=False)


def candidates(plan: Callable[[], Iterable[Planned]]) -> Iterator[Planned]:
    """Whose stamps are tried, one after the other: the first rows of a plan, then some taken evenly from the rest."""
    yield from islice(plan(), FIRST)
    rest = sum(1 for _ in plan()) - FIRST
    wanted = {(number + 1) * rest // FURTHER - 1 for number in range(FURTHER)} if rest > FURTHER else range(rest)
    for place, planned in enumerate(islice(plan(), FIRST, None)):
        if place in wanted:
            yield planned


def of_group(
    ledger: Ledger, under_way: Sequence[Allocation], group: Sequence[Allocation], at: datetime
) -> Mapping[str, str]:
    """Why the ledger would refuse the stamps of those that are about to begin, by sid; who is not in it can go.

    under_way: whose calls have not come back yet. Their stamps come before: a unique index may have room for one alone.
    """
    if not group or not ledger.has_rules():
        return {}
    before = under_way if ledger.joins_rows() else ()
    refusals = ledger.rehearse([Stamp(allocation, at) for allocation in (*before, *group)])
    return {
        allocation.sid: _why(refusal)
        for allocation, refusal in zip(group, refusals[len(before) :], strict=True)
        if refusal is not None
    }


def _why(refusal: UnusableError) -> str:
    return f"not released, because its stamp would be refused. {refusal}"
