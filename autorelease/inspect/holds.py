"""The holds that are in force or in their grace, each with what became of its row. Only reads.

A sid may be given to somebody else: a hold that was made for another VM than its row names now says so. It holds on all
the same, until somebody has looked.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from shlex import quote
from typing import Any

import msgspec

from autorelease.identity import References, vm_named, vm_of
from autorelease.inspect import Check, State
from autorelease.journal import JournalReader
from autorelease.ledger import Ledger
from autorelease.model import Allocation, Hold, InvalidRow, MadeFor, rfc3339
from autorelease.rules.plan import earliest_end_in_force, is_held
from autorelease.text import folded, plain

GONE = "no row has this sid any more"
MOST_SIDS = 5


class Mark(StrEnum):
    """Why somebody should look at a hold."""

    ROW_GONE = "row_gone"
    OTHER_VM = "other_vm"


class FoundHold(msgspec.Struct, frozen=True):
    """One hold, and what became of its row. row: of a sid alone. note: what the mark says, for people."""

    hold: Hold
    row: Allocation | InvalidRow | None = None
    mark: Mark | None = None
    note: str | None = None


def find_holds(ledger: Ledger, journal: JournalReader, now: datetime, hold_grace: timedelta) -> Sequence[FoundHold]:
    """All that keeps something from being released at `now`; those of many first."""
    earliest = earliest_end_in_force(now, hold_grace)
    holds = [hold for hold in journal.holds(earliest) if is_held(hold, now, hold_grace)]
    rows = ledger.read_many([hold.sid for hold in holds if hold.sid])
    found = [_found(hold, rows.get(hold.sid), ledger.references) for hold in holds]
    return sorted(found, key=lambda each: each.hold.scope == "sid")


def _found(hold: Hold, row: Allocation | InvalidRow | None, references: References) -> FoundHold:
    if hold.scope != "sid":
        return FoundHold(hold)
    if row is None:
        return FoundHold(hold, row, Mark.ROW_GONE, GONE)
    note = difference(hold, row, references)
    return FoundHold(hold, row, Mark.OTHER_VM if note else None, note)


def made_for(row: Allocation | InvalidRow) -> MadeFor | None:
    """What a hold of this row is made for; None: nobody can read which VM it is of."""
    if isinstance(row, InvalidRow):
        return None
    uid, owner = (plain(text) if text else None for text in (row.vm_uid, row.owner))
    return MadeFor(row.provisioner, row.vm_ref, uid, owner)


def difference(hold: Hold, row: Allocation | InvalidRow, references: References) -> str | None:
    """What the row names now that this hold was not made for; None: nothing, or that cannot be known."""
    of = hold.made_for
    if of is None or isinstance(row, InvalidRow):
        return None
    then, now = vm_named(of.provisioner, of.vm_ref, of.vm_uid, references), vm_of(row, references)
    differing = [
        f"{name} {before!r}, and the row says {after!r} now"
        for name, before, after, is_other in (
            ("provisioner", of.provisioner, row.provisioner, then.provisioner != now.provisioner),
            ("vm_ref", of.vm_ref, row.vm_ref, then.reference != now.reference),
            ("vm_uid", of.vm_uid, row.vm_uid, None not in (then.uid, now.uid) and then.uid != now.uid),
            ("owner", of.owner, row.owner, _is_other(of.owner, row.owner)),
        )
        if is_other
    ]
    return f"it was made for {'; for '.join(differing)}" if differing else None


def _is_other(before: str | None, after: str | None) -> bool:
    return bool(before and after) and folded(before or "") != folded(plain(after))


# --- in words ---------------------------------------------------------------------------------------------------------


def subject(hold: Hold) -> str:
    """What is held."""
    if hold.scope == "all":
        return "everything"
    return hold.sid or f"everything of {hold.provisioner}"


def in_a_sentence(hold: Hold, now: datetime) -> str:
    """What is or was held, since when, by whom, until when, and why."""
    until = f", until {_second(hold.ends_at)}" if hold.ends_at else ""
    verb = "was" if hold.ends_at is not None and hold.ends_at <= now else "is"
    return f"{subject(hold)} {verb} held since {_second(hold.held_at)} by {hold.actor}{until}: {hold.reason}"


def _second(instant: datetime) -> str:
    return rfc3339(instant.replace(microsecond=0))


def how_to_end(hold: Hold) -> str:
    """What to type to end this hold."""
    if hold.scope == "all":
        return "autorelease unhold --all"
    return f"autorelease unhold {quote(hold.sid) if hold.sid else '--provisioner ' + quote(str(hold.provisioner))}"


def releases_from(hold: Hold, hold_grace: timedelta) -> datetime | None:
    """Before when no tick releases what is held; None: nobody has said when that ends."""
    if hold.ends_at is None:
        return None
    # An end in the year 9999 has no later instant.
    latest = datetime.max.replace(tzinfo=hold.ends_at.tzinfo)
    return hold.ends_at + min(hold_grace, latest - hold.ends_at)


def check(found: Sequence[FoundHold], now: datetime) -> Check:
    """The line of the doctor."""
    marked = [each for each in found if each.mark is not None]
    of_many = [in_a_sentence(each.hold, now) for each in found if each.hold.scope != "sid"]
    if not found:
        return Check("holds", State.OK, "nothing is held")
    message = "; ".join([f"{len(found)} in force, or in their grace", *of_many])
    if not marked:
        return Check("holds", State.WARN if of_many else State.OK, message, how_to_list(of_many))
    named = "; ".join(f"{each.hold.sid}: {each.note}" for each in marked[:MOST_SIDS])
    more = "; …" if len(marked) > MOST_SIDS else ""
    message += f"; {len(marked)} may not be of whom they were made for ({named}{more})"
    return Check("holds", State.WARN, message, f"autorelease holds; then: {how_to_end(marked[0].hold)}")


def how_to_list(of_many: Sequence[str]) -> str:
    """What to type to look at them, where there is something to be looked at."""
    return "autorelease holds" if of_many else ""


def rows_of(found: Sequence[FoundHold], now: datetime, hold_grace: timedelta) -> Iterator[dict[str, Any]]:
    """As `holds` shows them."""
    for each in found:
        hold, row = each.hold, each.row
        has_ended = hold.ends_at is not None and hold.ends_at <= now
        ready = releases_from(hold, hold_grace)
        yield {
            "scope": hold.scope,
            "subject": hold.sid or hold.provisioner,
            "since": rfc3339(hold.held_at),
            "until": rfc3339(hold.ends_at) if hold.ends_at else None,
            "state": "grace" if has_ended else "held",
            "releases_from": rfc3339(ready) if ready else None,
            "by": hold.actor,
            "reason": hold.reason,
            "row": _state(row, now) if row is not None else None,
            "mark": str(each.mark) if each.mark else None,
            "note": each.note,
        }


def table_of(found: Sequence[FoundHold], now: datetime, hold_grace: timedelta) -> Iterator[dict[str, Any]]:
    """The same for people: what is held in words, and no instant beyond its second."""
    for each, row in zip(found, rows_of(found, now, hold_grace), strict=True):
        ends_at = each.hold.ends_at
        state = f"grace until {row['releases_from'][:19]}Z" if row["state"] == "grace" else row["state"]
        yield row | {"held": subject(each.hold), "state": state, "until": _second(ends_at) if ends_at else "unheld"}


def _state(row: Allocation | InvalidRow, now: datetime) -> str:
    if isinstance(row, InvalidRow):
        return f"invalid: {row.reason}"
    if row.settled or row.expires_at is None:
        return f"{row.status}, {'settled' if row.settled else 'never expires'}"
    past = row.expires_at < now
    return f"{row.status}, {'expired' if past else 'expires'} {rfc3339(row.expires_at)}"
