"""A question whose answer is known: VMs that are paid for must be there. Whoever does not find them looks elsewhere."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from itertools import islice

from autorelease.deciding.judging import Judge
from autorelease.journal import JournalReader
from autorelease.model import Allocation
from autorelease.provisioners import Probing, Provisioner, calls
from autorelease.rules.belief import CONTROLS, Control

# How many rows are looked at for those that must be there: a few, and more where those are held.
LOOKED_AT = (3 * CONTROLS, 1_000)


def ask_control(judge: Judge[JournalReader], name: str, provisioner: Provisioner, limit: timedelta) -> Control | None:
    """Ask this provisioner for some VMs of its own that are neither due nor held; None: it cannot be asked.

    Not for one whose release was begun and has no known end, or is in conflict: nobody can say that it must be there.
    limit: of one question. Raises UnusableError where ledger or journal cannot be read.
    """
    return ask_controls(judge, {name: provisioner}, limit).get(name)


def ask_controls(
    judge: Judge[JournalReader], provisioners: Mapping[str, Provisioner], limit: timedelta
) -> Mapping[str, Control]:
    """The same of several, all at the same time, so that of many that hang none waits for another.

    Who is missing cannot be asked.
    """
    rows, asked = {}, {}
    for name, provisioner in provisioners.items():
        if isinstance(provisioner, Probing):
            rows[name] = _paid_for(judge, name)
            asked[name] = (provisioner, rows[name])
    return {
        name: Control(len(rows[name])) if missed is None else Control(len(rows[name]), lost=missed.sid, why=missed.why)
        for name, missed in calls.first_not_there(asked, limit).items()
    }


def _paid_for(judge: Judge[JournalReader], name: str) -> Sequence[Allocation]:
    """Up to CONTROLS rows that are neither due nor held; read to the end before anybody is asked."""
    rows: list[Allocation] = []
    in_doubt = {intent.sid for intent in judge.journal.open_intents()}
    for at_most in LOOKED_AT:
        found = judge.ledger.paid_for(name, judge.now, at_most)
        rows = list(islice((row for row in found if row.sid not in in_doubt and _must_be_there(judge, row)), CONTROLS))
        if len(rows) == CONTROLS:
            break
    return rows


def _must_be_there(judge: Judge[JournalReader], row: Allocation) -> bool:
    # A hold of its own says that somebody is at this VM. One of everything says nothing of it: whoever presses the red
    # button because a provisioner finds nothing any more must not thereby end the question that shows it.
    return not judge.is_due(row) and not judge.is_held(judge.journal.hold_of(row.sid))
