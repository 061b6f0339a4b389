"""Every fact and every decision about one allocation, in words: what is stored, what the rule makes of it, what the
journal remembers, and what a tick would do now.

Decides nothing itself: each verdict is asked of the function that a tick asks.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from autorelease.deciding.single import Single
from autorelease.identity import NO_VM
from autorelease.inspect.clauses import clauses
from autorelease.inspect.subject import Fact, Subject, Terms, has_expired
from autorelease.journal import PastTick
from autorelease.ledger.rows import StoredRow
from autorelease.ledger.values import shown
from autorelease.model import Allocation, InvalidRow, Known, Planned, RawValue, SkipReason, rfc3339
from autorelease.rules.retry import in_backoff

ALWAYS_SHOWN = ("sid", "status", "expires_at")
CLASSES = {int: "integer", float: "real", str: "text", bytes: "blob"}


class Section(msgspec.Struct, frozen=True):
    """Some facts under a title; a fact is a name and what is to be said of it."""

    title: str
    facts: Sequence[Fact]


def explain(subject: Subject, single: Single, events: Iterator[Mapping[str, Any]], terms: Terms) -> Iterator[Section]:
    """The sections of the answer. single: what is decided of it, as of now."""
    yield from _stored(subject, terms)
    yield Section("The rule", list(clauses(subject, single, terms)))
    if subject.stored:
        yield Section("The VM", list(_vm(subject, single.now, terms)))
    yield Section("The journal", list(_remembered(subject, single.now, terms)))
    yield Section("A tick now", list(_tick(subject, single, terms)))
    yield Section("Events", [(_at(event, terms), _event(event)) for event in events] or [("none", "")])


# --- what is stored ---------------------------------------------------------------------------------------------------


def _stored(subject: Subject, terms: Terms) -> Iterator[Section]:
    if not subject.stored:
        yield Section("The ledger", [("row", f"none has the sid {subject.sid}")])
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


# --- the VM -----------------------------------------------------------------------------------------------------------


def _vm(subject: Subject, now: datetime, terms: Terms) -> Iterator[Fact]:
    row = subject.row
    if isinstance(row, Allocation):
        uid = f", vm_uid {row.vm_uid!r}" if row.vm_uid else ""
        yield "named", f"{row.vm_ref!r} of provisioner {row.provisioner}{uid}" if row.vm_ref else NO_VM
    for sid, other in subject.others:
        yield (
            "also held by",
            f"{'a row without a readable sid' if sid is None else repr(sid)}, {_other(other, now, terms)}",
        )
    if not subject.others:
        yield "also held by", "no other live row"


def _other(row: Allocation | InvalidRow | None, now: datetime, terms: Terms) -> str:
    if row is None:
        return "which nobody can read"
    if isinstance(row, InvalidRow):
        return f"which is invalid: {row.reason}"
    if row.expires_at is None:
        return "which never expires"
    spelled = terms.spelled(row.expires_at)
    return f"which expired at {spelled}, too" if has_expired(row, now, terms) else f"which expires at {spelled}"


# --- the journal ------------------------------------------------------------------------------------------------------


def _remembered(subject: Subject, now: datetime, terms: Terms) -> Iterator[Fact]:
    for expires_at, known in subject.remembered:
        yield f"for {terms.spelled(expires_at) if expires_at else 'never'}", _memory(known, now, terms)
    for intent in subject.intents:
        what = "conflict" if intent.is_known_conflict else "open intent"
        yield (
            what,
            f"a release of {intent.vm_ref} by {intent.provisioner} was begun at {terms.spelled(intent.begun_at)}",
        )
    if not subject.remembered and not subject.intents:
        yield "releases", "none was ever tried"


def _memory(known: Known, now: datetime, terms: Terms) -> str:
    parts = ["recorded as released"] if known.released else []
    if known.attempts is not None:
        tries = known.attempts
        parts.append(f"{tries.failed_ticks} failed ticks, {tries.pending_ticks} pending")
        parts += ["in quarantine"] if tries.quarantined else []
        parts.append(
            f"next try at {terms.spelled(tries.next_attempt_at)}"
            if in_backoff(tries, now) and tries.next_attempt_at
            else "next try with the next tick"
        )
        parts += [f"last error: {tries.last_error}"] if tries.last_error else []
    parts += ["a release was begun, its end is unknown"] if known.intent else []
    parts += [f"left alone: {known.skipped}"] if known.skipped else []
    return "; ".join(parts) or "never tried"


# --- a tick now -------------------------------------------------------------------------------------------------------


def _tick(subject: Subject, single: Single, terms: Terms) -> Iterator[Fact]:
    yield "would", _would(subject, single, terms)
    if single.planned is not None and single.planned.skip is None and single.doubt is None:
        yield "admission", _admission(single.planned)
    # It judges a whole plan, which nobody has made here.
    yield "the guard", "is asked by every tick; what it says of all that is due now: autorelease list-expired"
    if subject.newest is not None:
        yield "the last tick", _verdict(subject.newest, terms)


def _admission(planned: Planned) -> str:
    if planned.first_try:
        return "not yet: it is a first try, which the guard counts"
    if planned.known.attempts is not None or planned.known.intent:
        return "it was tried before: the guard does not count it again"
    return "the newest admitted plan had it, and did not reach it: the guard does not count it again"


def _verdict(newest: PastTick, terms: Terms) -> str:
    """What the guard said of the last tick that was begun."""
    tick = f"{newest.start.tick}, at {terms.spelled(newest.start.now)}"
    reasons = "; ".join(f"{refusal['code']}: {refusal['message']}" for refusal in _refused(newest))
    if reasons:
        return f"{tick}, was refused: {reasons}"
    if newest.finished_at is None:
        return f"{tick}, has not ended"
    return f"{tick}, was not refused, and ended with exit code {newest.exit_code}"


def _refused(newest: PastTick | None) -> Sequence[Mapping[str, str]]:
    return (newest.report or {}).get("refused") or () if newest is not None else ()


def _would(subject: Subject, single: Single, terms: Terms) -> str:
    if single.conflict is not None and single.conflict.error is not None:
        return f"report the conflict: {single.conflict.error.message}"
    if subject.row is None:
        return "do nothing: there is no row"
    if isinstance(subject.row, InvalidRow):
        return "report it as invalid"
    if single.planned is None:
        return _nothing(subject.row, terms)
    unless = ", unless the guard refuses that tick as it refused the last one" if _refused(subject.newest) else ""
    return _planned(single.planned, single.doubt, unless)


def _planned(planned: Planned, invalid: str | None, unless: str) -> str:
    if invalid is not None:
        return f"report it as invalid: {invalid}"
    if planned.skip is SkipReason.NO_PROVISIONER:
        name = planned.allocation.provisioner
        return f"leave it alone: {planned.skip}: the configuration has no section [provisioners.{name}]"
    if planned.skip is not None:
        return f"leave it alone: {planned.skip}"
    return f"{'release it, for the first time' if planned.first_try else 'try again to release it'}{unless}"


def _nothing(row: Allocation, terms: Terms) -> str:
    if row.settled:
        return "do nothing: it is settled"
    if row.expires_at is None:
        return "do nothing: it never expires"
    return (
        f"do nothing: it has not expired; the first tick after {terms.spelled(row.expires_at + terms.grace)} tries it"
    )


def _at(event: Mapping[str, Any], terms: Terms) -> str:
    # In full it stands there as it is stored.
    at = str(event["at"])
    return at if terms.spelled is rfc3339 else terms.spelled(datetime.fromisoformat(at).astimezone(UTC))


def _event(event: Mapping[str, Any]) -> str:
    names = ("event", "outcome", "reason", "evidence", "error")
    parts = " ".join(str(event[name]) for name in names if event[name] is not None)
    return f"{parts} ({event['tick']})" if event["tick"] else parts
