"""The rule, clause by clause, as it is for one allocation. Each verdict is asked of the function that a tick asks."""

from collections.abc import Iterator
from datetime import datetime

from autorelease.deciding.single import Single
from autorelease.inspect import in_words
from autorelease.inspect.held import not_held, own_hold
from autorelease.inspect.subject import Fact, Subject, Terms, has_expired
from autorelease.ledger.instants import read_instant
from autorelease.ledger.values import Unreadable, Vocabulary, is_word
from autorelease.model import Allocation, Attempts, InvalidRow, Known
from autorelease.rules.retry import in_backoff


def clauses(subject: Subject, single: Single, terms: Terms) -> Iterator[Fact]:
    """Each clause of the rule, and what it says of this row."""
    row, now = subject.row, single.now
    if row is None:
        yield "not judged", "there is no row"
        yield from own_hold(subject.holding, now, terms.hold_grace, terms.spelled)
        return
    # A view may leave out what is released, and its expiry with it.
    yield from _expiry(row, terms) if subject.stored else ()
    if isinstance(row, InvalidRow):
        yield "invalid", f"{row.reason}: it is never released"
        yield from own_hold(subject.holding, now, terms.hold_grace, terms.spelled)
        return
    yield "not settled", _settled(row, terms.words)
    yield "expires_at known", "not looked at" if row.settled else "yes" if row.expires_at else "no: it never expires"
    if row.expires_at is not None:
        yield "expires_at + grace < now", _compared(row.expires_at, now, terms)
    yield "expired", "yes" if has_expired(row, now, terms) else "no"
    yield "not held", not_held(subject.holding, now, terms.hold_grace, terms.spelled)
    yield from own_hold(subject.holding, now, terms.hold_grace, terms.spelled)
    known = _known(subject, row)
    yield "not in backoff", _backoff(known.attempts, now, terms)
    yield "due", _due(single)


def _due(single: Single) -> str:
    if single.doubt:
        return f"no: {single.doubt}"
    return "no" if single.planned is None or single.planned.skip is not None else "yes"


def _expiry(row: Allocation | InvalidRow, terms: Terms) -> Iterator[Fact]:
    if row.raw is None:
        return
    try:
        instant = read_instant(row.raw.expires_at, terms.words)
    except Unreadable as reason:
        yield "expires_at", f"cannot be read: {reason}"
        return
    yield "expires_at", f"{terms.spelled(instant)}, {_here(instant)} here" if instant else "never"


def _here(instant: datetime) -> str:
    return f"{instant.astimezone():%Y-%m-%d %H:%M:%S %Z}"


def _settled(row: Allocation, words: Vocabulary) -> str:
    if row.released:
        return f"no: {row.status!r} is the released status"
    if row.settled and not is_word(row.raw.status, words.inactive):
        return "no: deleted_at is set"
    return f"no: {row.status!r} is one of inactive" if row.settled else f"yes: {row.status!r}"


def _compared(expires_at: datetime, now: datetime, terms: Terms) -> str:
    ends_at = expires_at + terms.grace
    sides = f"{terms.spelled(expires_at)} + {in_words(terms.grace)} < {terms.spelled(now)}"
    return (
        f"yes: {sides}, by {in_words(now - ends_at)}"
        if ends_at < now
        else f"no: not {sides}, in {in_words(ends_at - now)}"
    )


def _known(subject: Subject, row: Allocation) -> Known:
    return next((known for expires_at, known in subject.remembered if expires_at == row.expires_at), Known())


def _backoff(attempts: Attempts | None, now: datetime, terms: Terms) -> str:
    if attempts is None or not in_backoff(attempts, now) or attempts.next_attempt_at is None:
        return "yes"
    return f"no: next try at {terms.spelled(attempts.next_attempt_at)}, in {in_words(attempts.next_attempt_at - now)}"
