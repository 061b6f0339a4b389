"""What audits have left to be reported, and what that adds to a census. Writes nothing."""

from collections.abc import Container, Mapping
from datetime import datetime

import msgspec
from msgspec.structs import replace

from autorelease.journal import Audited
from autorelease.ledger import Ledger
from autorelease.model import Census, InvalidRow

# So many are remembered by their sid; the others are counted as those without a sid are.
MOST_NAMED = 20_000


class Memory(msgspec.Struct, frozen=True):
    """What audits have left to be reported.

    at: when the last one ended; None: never. named: reasons by sid; unnamed: how many there are besides, with examples.
    problem: due rows that the index does not show. mended: remembered sids whose rows are not invalid any more.
    is_own: it was made just now, by whoever only reads.
    """

    at: datetime | None = None
    named: Mapping[str, str] = msgspec.field(default_factory=dict)
    unnamed: int = 0
    examples: tuple[tuple[str, str], ...] = ()
    problem: str | None = None
    mended: frozenset[str] = frozenset()
    is_own: bool = False


def name_of(ledger: Ledger, name: str | None) -> str:
    """What an audit is of: under other words other rows are invalid. name: of the file and table."""
    return f"{name or ''} {ledger.meaning()}"


def recalled(audited: Audited) -> Memory:
    """What the journal says."""
    last = audited.finished
    if last is None:
        return Memory(named=audited.invalid)
    return Memory(last.finished_at, audited.invalid, last.unnamed, last.examples, last.problem)


def looked_up(memory: Memory, ledger: Ledger, census: Census) -> Memory:
    """The same, once those that the census has not seen were looked up by their sid."""
    unseen = _unseen(memory, census)
    if not unseen:
        return memory
    invalid = ledger.invalid_among(unseen)
    seen = {sid: reason for sid, reason in memory.named.items() if sid not in set(unseen)}
    return replace(memory, named={**seen, **invalid}, mended=frozenset(unseen) - set(invalid))


def _unseen(memory: Memory, census: Census) -> list[str]:
    return [] if census.sids is None else [sid for sid in memory.named if sid not in census.sids]


def completed(census: Census, memory: Memory, held: Container[str]) -> Census:
    """The census, with what only the audit has found; nothing is counted twice."""
    unseen = _unseen(memory, census)
    others = max(0, memory.unnamed - census.rows_unnamed)
    if census.sids is None or len(memory.named) >= MOST_NAMED:
        # Not all are known by name, so that nobody can say of all whether both have found them.
        both = census.rows_invalid + len(unseen)
        others = max(both, len(memory.named) + memory.unnamed) - both
    if not unseen and not others:
        return census
    rows = [InvalidRow(sid, memory.named[sid]) for sid in unseen]
    if not census.rows_unnamed:
        rows += [InvalidRow(sid, reason) for sid, reason in memory.examples[:others]]
    return replace(
        census,
        rows_invalid=census.rows_invalid + len(unseen) + others,
        invalid=(*census.invalid, *rows),
        rows_acknowledged=census.rows_acknowledged + sum(sid in held for sid in unseen),
    )


def with_shared(memory: Memory, ledger: Ledger) -> Memory:
    """The same, with the rows that share their sid: where only a census that looks at every row has found them."""
    named = dict(memory.named)
    more = add_shared(named, ledger)
    return replace(memory, named=named, unnamed=memory.unnamed + more)


def add_shared(named: dict[str, str], ledger: Ledger) -> int:
    """Add them for as long as there is room; returns how many there was none for."""
    more = 0
    for row in ledger.sharing():
        if row.sid not in named and len(named) < MOST_NAMED:
            named[row.sid] = row.reason
        else:
            more += row.sid not in named
    return more
