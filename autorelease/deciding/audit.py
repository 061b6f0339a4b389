"""The audit: a slow look at every row of the ledger, beside the quick one of each tick. It changes no row.

It finds what the quick one may not: rows that a damaged index hides, and invalid rows that no statement asked for. What
it found is remembered until it is mended. Whoever only reads writes nothing down, and audits for itself where that is
cheap.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta

import msgspec
from msgspec.structs import replace

from autorelease.deciding import remembered
from autorelease.deciding.judging import Judge
from autorelease.deciding.remembered import Memory, add_shared, looked_up, name_of, recalled
from autorelease.errors import StopReadingError
from autorelease.journal import Audit, Audited, Journal, JournalReader
from autorelease.ledger import Ledger, Walked
from autorelease.model import Census

# Where no more rows are live, and the table is no larger, a look at all of it is made every time.
SMALL_LIVE = 20_000
SMALL_TABLE = 200_000
LONGEST = timedelta(minutes=5)
# Of those without a sid so many are shown.
EXAMPLES = 20
# What was found since is looked for again where the process is killed.
NOTED_EVERY_SECONDS = 5.0


class Limits(msgspec.Struct, frozen=True):
    """How often a large ledger is audited, how long at once, and whether something else wants it to stop."""

    every: timedelta
    longest: timedelta
    is_stopped: Callable[[], bool]


class Clocks(msgspec.Struct, frozen=True):
    """wall: dates the audit; monotonic: measures it."""

    wall: Callable[[], datetime]
    monotonic: Callable[[], float] = time.monotonic


# --- in a tick -------------------------------------------------------------------------------------------------------


def after_sweep(
    judge: Judge[Journal], memory: Memory, name: str | None, census: Census, limits: Limits, clocks: Clocks
) -> Memory:
    """Forget what is mended, and audit if it is time for that; returns what the tick has to report.

    memory: as it was before the sweep. name: of the file and table.
    """
    if memory.mended:
        judge.journal.forget_invalid(memory.mended)
    found = audit(judge, name_of(judge.ledger, name), census, limits, clocks)
    return looked_up(found, judge.ledger, census)


# --- the audit itself -------------------------------------------------------------------------------------------------


def is_small(audit: Audit) -> bool:
    """Whether the ledger was one that is looked at every time."""
    return audit.live <= SMALL_LIVE and audit.rows <= SMALL_TABLE


def is_time(audited: Audited, census: Census, now: datetime, every: timedelta) -> bool:
    """Whether a tick of this census is to audit."""
    last = audited.finished
    if last is None or last.finished_at is None or audited.unfinished is not None or last.problem is not None:
        return True
    is_old = not last.finished_at <= now < last.finished_at + every
    # Also what has just become a large one: until now a census looked at all of it.
    was_small = is_small(last) or (census.rows_examined <= SMALL_LIVE and last.rows <= SMALL_TABLE)
    return is_old or was_small


def audit(judge: Judge[Journal], name: str, census: Census, limits: Limits, clocks: Clocks) -> Memory:
    """Go on with the audit, or begin one, if it is time for that; returns what is to be reported from now on.

    What was found is durable when this returns. Raises UnusableError where ledger or journal cannot be used.
    """
    journal = judge.journal
    before = journal.audited(name)
    if limits.is_stopped() or not is_time(before, census, clocks.wall(), limits.every):
        return recalled(before)
    ends = clocks.monotonic() + limits.longest.total_seconds()

    def is_enough() -> bool:
        return limits.is_stopped() or clocks.monotonic() >= ends

    noted, found = clocks.monotonic(), dict[str, str]()
    pages = _pages(judge, _resumed(judge.ledger, before, clocks), clocks, remembered.MOST_NAMED)
    for state, named in _ended_by_shared(judge.ledger, pages, limits.is_stopped) if census.is_quick else pages:
        found.update(named)
        is_over = state.finished_at is not None or is_enough()
        if is_over or clocks.monotonic() - noted >= NOTED_EVERY_SECONDS:
            journal.note_audit(name, state, found)
            noted, found = clocks.monotonic(), {}
        if is_over:
            break
    return recalled(journal.audited(name))


def own_audit(judge: Judge[JournalReader], name: str, clocks: Clocks, census: Census | None) -> Memory | None:
    """An audit by who only reads; None where the ledger is too large for that. census: what is known of it."""
    last = judge.journal.audited(name).finished
    # Begun all the same it would come to so many rows before it was given up.
    has_too_many = census is not None and census.rows_examined > SMALL_LIVE
    if has_too_many or (last is not None and not is_small(last)):
        return None
    found: dict[str, str] = {}
    for state, named in _pages(judge, _begun(judge.ledger, clocks), clocks, remembered.MOST_NAMED):
        found.update(named)
        if not is_small(state):
            return None
    return Memory(state.finished_at, found, state.unnamed, state.examples, state.problem, is_own=True)


Pages = Iterator[tuple[Audit, Mapping[str, str]]]


def _ended_by_shared(ledger: Ledger, pages: Pages, is_stopped: Callable[[], bool]) -> Pages:
    """Behind the last page, and before the audit is over, the rows that share their sid.

    That is one look, which nobody can go on with: no limit of time ends it. Where it is stopped, the last page is still
    to come.
    """
    before: Audit | None = None
    for state, named in pages:
        if state.finished_at is None:
            before = state
            yield state, named
            continue
        found = dict(named)
        try:
            with ledger.interrupted_when(is_stopped):
                more = add_shared(found, ledger)
        except StopReadingError:
            if before is not None:
                yield before, {}
            return
        yield replace(state, unnamed=state.unnamed + more), found


def _begun(ledger: Ledger, clocks: Clocks) -> Audit:
    return Audit(ground=ledger.ground(), started_at=clocks.wall())


def _resumed(ledger: Ledger, audited: Audited, clocks: Clocks) -> Audit:
    begun = _begun(ledger, clocks)
    before = audited.unfinished
    return before if before is not None and before.ground == begun.ground else begun


def _pages(judge: Judge[JournalReader], state: Audit, clocks: Clocks, room: int) -> Pages:
    """After each page how far it has come, and the reasons of its invalid rows by sid. room: for so many of these."""
    while state.finished_at is None:
        began = clocks.monotonic()
        page = judge.ledger.walk(state.position, judge.now, judge.grace, judge.is_due)
        if page.ground != state.ground:
            # Rows may have other numbers now: what was passed by may not be what was looked at.
            state = Audit(ground=page.ground, started_at=clocks.wall())
            yield state, {}
            continue
        all_named = {row.sid: row.reason for row in page.invalid if row.has_sid}
        named = dict(list(all_named.items())[:room])
        room -= len(named)
        state = _advanced(state, page, clocks.monotonic() - began)
        state = replace(state, unnamed=state.unnamed + len(all_named) - len(named))
        if page.position is None:
            state = replace(state, finished_at=clocks.wall())
        yield state, named


def _advanced(state: Audit, page: Walked, seconds: float) -> Audit:
    unnamed = [(row.sid, row.reason) for row in page.invalid if not row.has_sid]
    return replace(
        state,
        position=page.position,
        rows=state.rows + page.rows,
        live=state.live + page.live,
        due=state.due + page.due,
        unnamed=state.unnamed + len(unnamed),
        examples=(*state.examples, *unnamed)[:EXAMPLES],
        seconds=state.seconds + seconds,
        problem=state.problem or page.problem,
    )
