"""The doctor's look at the audit: when the whole ledger was last looked at, and what is remembered of it."""

from datetime import datetime, timedelta

from autorelease.deciding.remembered import Memory
from autorelease.inspect import Check, State, at_second, in_words, page
from autorelease.inspect.health import PAGES
from autorelease.journal import Audit, Audited

NAME = "audit"
UNUSABLE = page(PAGES[5])
# One that takes more than one tick ends some ticks after it was due.
LATE = timedelta(hours=6)


def check(audited: Audited, memory: Memory, now: datetime, every: timedelta) -> Check:
    """memory: of an audit that was made just now, where the ledger is small enough; else what the journal remembers."""
    if memory.problem is not None:
        return Check(NAME, State.FAIL, memory.problem, UNUSABLE)
    invalid = len(memory.named) + memory.unnamed
    last = audited.finished
    if memory.is_own:
        by_ticks = (
            f"the last of a tick ended at {at_second(last.finished_at)}"
            if last and last.finished_at
            else "no tick has made one yet"
        )
        return Check(NAME, State.OK, f"the whole ledger was looked at just now: {invalid} invalid; {by_ticks}")
    underway = _underway(audited.unfinished)
    if last is None or last.finished_at is None:
        message = f"the whole ledger was never looked at to its end{underway}"
        return Check(
            NAME, State.WARN, message, "each tick goes on with it for at most 5 minutes: autorelease tick --once"
        )
    message = (
        f"ended at {at_second(last.finished_at)}: {last.rows} rows, {last.live} of them live, {last.due} due, in "
        f"{in_words(timedelta(seconds=last.seconds))}; {invalid} invalid remembered{underway}"
    )
    age = now - last.finished_at
    if age > every + LATE:
        remedy = f"autorelease health, and {page('Is it healthy?')}: every tick goes on with an audit that is due"
        return Check(NAME, State.WARN, f"{in_words(age)} ago, and due every {in_words(every)}: {message}", remedy)
    return Check(NAME, State.OK, f"{message}{'; the next tick makes another' if age >= every else ''}")


def _underway(unfinished: Audit | None) -> str:
    if unfinished is None:
        return ""
    return f"; one is under way since {at_second(unfinished.started_at)}, {unfinished.rows} rows so far"
