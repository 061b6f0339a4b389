"""A question whose answer is known: VMs that are paid for must be there. Whoever does not find them looks elsewhere."""

from datetime import timedelta

from autorelease.deciding.judging import Judge
from autorelease.journal import JournalReader
from autorelease.provisioners import Probing, Provisioner, calls
from autorelease.rules.belief import CONTROLS, Control

# Some of those that are read are held.
READ = 3 * CONTROLS


def ask_control(judge: Judge[JournalReader], name: str, provisioner: Provisioner, limit: timedelta) -> Control | None:
    """Ask this provisioner for some VMs of its own that are neither due nor held; None: it cannot be asked.

    Not for one whose release was begun and has no known end, or is in conflict: nobody can say that it must be there.
    limit: of one question. Raises UnusableError where ledger or journal cannot be read.
    """
    if not isinstance(provisioner, Probing):
        return None
    asked, in_doubt = 0, {intent.sid for intent in judge.journal.open_intents()}
    for row in judge.ledger.paid_for(name, judge.now, READ):
        if asked == CONTROLS:
            break
        if row.sid in in_doubt or judge.is_due(row) or judge.is_held(judge.journal.hold_of(row.sid)):
            continue
        asked += 1
        if (why := calls.why_not_there(provisioner, row, limit)) is not None:
            return Control(asked, lost=row.sid, why=why)
    return Control(asked)
