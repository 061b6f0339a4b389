"""Every fact and every decision about one allocation, in words: what is stored, what the rule makes of it, what the
journal remembers, and what a tick would do now.

Decides nothing itself: each verdict is asked of the function that a tick asks.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from autorelease.deciding.decide import Decision
from autorelease.inspect import in_words
from autorelease.journal import JournalReader, OpenIntent
from autorelease.ledger import Ledger
from autorelease.ledger.instants import read_instant
from autorelease.ledger.rows import StoredRow
from autorelease.ledger.values import Unreadable, Vocabulary, is_word, shown
from autorelease.model import Allocation, Attempts, Hold, InvalidRow, Known, Planned, RawValue, SkipReason, rfc3339
from autorelease.rules.expiry import find_expired
from autorelease.rules.plan import is_held
from autorelease.rules.retry import in_backoff

ALWAYS_SHOWN = ("sid", "status", "expires_at")
CLASSES = {int: "integer", float: "real", str: "text", bytes: "blob"}
Fact = tuple[str, str]


class Section(msgspec.Struct, frozen=True):
    """Some facts under a title; a fact is a name and what is to be said of it."""

    title: str
    facts: Sequence[Fact]


class Terms(msgspec.Struct, frozen=True):
    """How the configuration reads a row. columns: our word = the table's."""

    words: Vocabulary
    columns: Mapping[str, str]
    grace: timedelta
    hold_grace: timedelta


class Subject(msgspec.Struct, frozen=True):
    """What ledger and journal hold of one sid. intents: its releases whose end is unknown."""

    sid: str
    stored: Sequence[StoredRow]
    row: Allocation | InvalidRow | None
    hold: Hold | None
    remembered: Sequence[tuple[datetime | None, Known]]
    intents: Sequence[OpenIntent]
    has_events: bool

    @property
    def is_known(self) -> bool:
        """Whether ledger or journal have ever heard of it."""
        return bool(self.stored or self.hold or self.remembered or self.has_events)


def look_up(sid: str, ledger: Ledger, journal: JournalReader) -> Subject:
    """All that is stored of one sid, in one look at each."""
    return Subject(
        sid=sid,
        stored=ledger.stored(sid),
        row=ledger.read(sid),
        hold=journal.hold_of(sid),
        remembered=journal.remembered(sid),
        intents=[intent for intent in journal.open_intents() if intent.sid == sid],
        has_events=next(iter(journal.events(sid=sid)), None) is not None,
    )


def explain(
    subject: Subject, decision: Decision, events: Iterator[Mapping[str, Any]], terms: Terms
) -> Iterator[Section]:
    """The sections of the answer. decision: of the whole ledger, as of now."""
    yield from _stored(subject, terms)
    yield Section("The rule", list(_rule(subject, decision, terms)))
    yield Section("The journal", list(_remembered(subject, decision.now)))
    yield Section("A tick now", list(_tick(subject, decision, terms)))
    yield Section("Events", [(str(event["at"]), _event(event)) for event in events] or [("none", "")])


# --- what is stored ---------------------------------------------------------------------------------------------------


def _stored(subject: Subject, terms: Terms) -> Iterator[Section]:
    if not subject.stored:
        yield Section("The ledger", [("no row", f"has the sid {subject.sid}")])
    for row in subject.stored:
        values = {role: getattr(row, role) for role in StoredRow.__struct_fields__}
        facts = [
            (_name(role, terms), _raw(value))
            for role, value in values.items()
            if value is not None or role in ALWAYS_SHOWN
        ]
        yield Section("The ledger", facts)


def _name(role: str, terms: Terms) -> str:
    column = terms.columns[role]
    return role if column == role else f"{role} (column {column})"


def _raw(value: RawValue) -> str:
    if value is None:
        return "NULL"
    text = f"'{shown(value)}'" if isinstance(value, str) else shown(value)
    return f"{text} ({CLASSES[type(value)]})"


# --- the rule ---------------------------------------------------------------------------------------------------------


def _rule(subject: Subject, decision: Decision, terms: Terms) -> Iterator[Fact]:
    row, now = subject.row, decision.now
    if row is None:
        yield "not judged", "there is no row"
        return
    # A view may leave out what is released, and its expiry with it.
    yield from _expiry(row, terms) if subject.stored else ()
    if isinstance(row, InvalidRow):
        yield "invalid", f"{row.reason}: it is never released"
        return
    yield "not settled", _settled(row, terms.words)
    yield "expires_at known", "not looked at" if row.settled else "yes" if row.expires_at else "no: it never expires"
    if row.expires_at is not None:
        yield "expires_at + grace < now", _compared(row.expires_at, now, terms.grace)
    yield "expired", "yes" if _has_expired(row, now, terms) else "no"
    yield "not held", _held(subject.hold, now, terms.hold_grace)
    known = _known(subject, row)
    yield "not in backoff", _backoff(known.attempts, now)
    found = decision.spool.find(subject.sid)
    yield "due", "yes" if found is not None and found[0].skip is None and not found[1] else "no"


def _expiry(row: Allocation | InvalidRow, terms: Terms) -> Iterator[Fact]:
    if row.raw is None:
        return
    try:
        instant = read_instant(row.raw.expires_at, terms.words)
    except Unreadable as reason:
        yield "expires_at", f"cannot be read: {reason}"
        return
    yield "expires_at", f"{rfc3339(instant)}, {_here(instant)} here" if instant else "never"


def _here(instant: datetime) -> str:
    return f"{instant.astimezone():%Y-%m-%d %H:%M:%S %Z}"


def _settled(row: Allocation, words: Vocabulary) -> str:
    if row.released:
        return f"no: {row.status!r} is the released status"
    if row.settled and not is_word(row.raw.status, words.inactive):
        return "no: deleted_at is set"
    return f"no: {row.status!r} is one of inactive" if row.settled else f"yes: {row.status!r}"


def _compared(expires_at: datetime, now: datetime, grace: timedelta) -> str:
    ends_at = expires_at + grace
    sides = f"{rfc3339(expires_at)} + {in_words(grace)} < {rfc3339(now)}"
    return (
        f"yes: {sides}, by {in_words(now - ends_at)}"
        if ends_at < now
        else f"no: not {sides}, in {in_words(ends_at - now)}"
    )


def _has_expired(row: Allocation, now: datetime, terms: Terms) -> bool:
    return any(find_expired([row], now, grace=terms.grace))


def _held(hold: Hold | None, now: datetime, hold_grace: timedelta) -> str:
    if hold is None:
        return "yes: it was never held"
    ended = hold.ends_at is not None and hold.ends_at <= now
    ends = (
        "without an end" if hold.ends_at is None else f"{'which ended' if ended else 'until'} {rfc3339(hold.ends_at)}"
    )
    told = f"held at {rfc3339(hold.held_at)} by {hold.actor}, {ends}: {hold.reason}"
    if not is_held(hold, now, hold_grace):
        return f"yes: {told}"
    more = f"; and {in_words(hold_grace)} of grace after that" if hold.ends_at is not None else ""
    return f"no: {told}{more}"


def _known(subject: Subject, row: Allocation) -> Known:
    return next((known for expires_at, known in subject.remembered if expires_at == row.expires_at), Known())


def _backoff(attempts: Attempts | None, now: datetime) -> str:
    if attempts is None or not in_backoff(attempts, now) or attempts.next_attempt_at is None:
        return "yes"
    return f"no: next try at {rfc3339(attempts.next_attempt_at)}, in {in_words(attempts.next_attempt_at - now)}"


# --- the journal ------------------------------------------------------------------------------------------------------


def _remembered(subject: Subject, now: datetime) -> Iterator[Fact]:
    for expires_at, known in subject.remembered:
        yield f"for {rfc3339(expires_at) if expires_at else 'never'}", _memory(known, now)
    for intent in subject.intents:
        what = "conflict" if intent.is_known_conflict else "open intent"
        yield what, f"a release of {intent.vm_ref} by {intent.provisioner} was begun at {rfc3339(intent.begun_at)}"
    if not subject.remembered and not subject.intents:
        yield "nothing", "was ever tried"


def _memory(known: Known, now: datetime) -> str:
    said = ["recorded as released"] if known.released else []
    if known.attempts is not None:
        tries = known.attempts
        said.append(f"{tries.failed_ticks} failed ticks, {tries.pending_ticks} pending")
        said += ["in quarantine"] if tries.quarantined else []
        said.append(
            f"next try at {rfc3339(tries.next_attempt_at)}"
            if in_backoff(tries, now) and tries.next_attempt_at
            else "next try with the next tick"
        )
        said += [f"last error: {tries.last_error}"] if tries.last_error else []
    said += ["a release was begun, its end is unknown"] if known.intent else []
    said += [f"left alone: {known.skipped}"] if known.skipped else []
    return "; ".join(said) or "never tried"


# --- a tick now -------------------------------------------------------------------------------------------------------


def _tick(subject: Subject, decision: Decision, terms: Terms) -> Iterator[Fact]:
    yield "would", _would(subject, decision, terms)
    if not decision.refusals:
        yield "the guard", "would admit that tick"
    for refusal in decision.refusals:
        yield "the guard", f"would refuse that tick: {refusal.code}: {refusal.message}"


def _would(subject: Subject, decision: Decision, terms: Terms) -> str:
    for intent, finding in decision.unfinished.conflicts:
        if intent.sid == subject.sid and finding.error is not None:
            return f"report the conflict: {finding.error.message}"
    if subject.row is None:
        return "do nothing: there is no row"
    if isinstance(subject.row, InvalidRow):
        return "report it as invalid"
    found = decision.spool.find(subject.sid)
    return _planned(*found, decision) if found is not None else _nothing(subject.row, terms)


def _planned(planned: Planned, invalid: str | None, decision: Decision) -> str:
    if invalid is not None:
        return f"report it as invalid: {invalid}"
    if planned.skip is not None or decision.refusals:
        return f"leave it alone: {planned.skip or SkipReason.REFUSED}"
    return "release it, for the first time" if planned.first_try else "try again to release it"


def _nothing(row: Allocation, terms: Terms) -> str:
    if row.settled:
        return "do nothing: it is settled"
    if row.expires_at is None:
        return "do nothing: it never expires"
    return f"do nothing: it has not expired; the first tick after {rfc3339(row.expires_at + terms.grace)} tries it"


def _event(event: Mapping[str, Any]) -> str:
    names = ("event", "outcome", "reason", "evidence", "error")
    said = " ".join(str(event[name]) for name in names if event[name] is not None)
    return f"{said} ({event['tick']})" if event["tick"] else said
