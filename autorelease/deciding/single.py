"""What a tick would do with one row: decided as in a whole plan, of that row and of those that hold its VM alone.

The guard judges whole plans, and is not asked here. Changes nothing.
"""

from collections.abc import Collection, Sequence
from contextlib import closing
from datetime import datetime

import msgspec

from autorelease.deciding.decide import admission_of, plan_of
from autorelease.deciding.judging import Judge
from autorelease.deciding.unfinished import Moment, unfinished_work
from autorelease.journal import JournalReader
from autorelease.model import Allocation, Finding, InvalidRow, Planned


class Single(msgspec.Struct, frozen=True):
    """What is decided of one sid.

    conflict: what became of a release of it that nobody saw the end of. planned: what is planned; None: nothing, it is
    not due. doubt: why it is invalid all the same.
    """

    now: datetime
    conflict: Finding | None = None
    planned: Planned | None = None
    doubt: str | None = None


def decide_single(
    judge: Judge[JournalReader],
    ledger_name: str | None,
    sid: str,
    rows: Sequence[Allocation | InvalidRow | None],
    *,
    running: Collection[str] = (),
) -> Single:
    """rows: that of this sid, and those that hold its VM as well, as they are now. ledger_name: of the file and table.

    running: the runs that are under way.
    """
    due = [row for row in rows if isinstance(row, Allocation) and not row.settled]
    unfinished = unfinished_work(
        judge.ledger, judge.journal, Moment(judge.now, judge.grace, running), {sid, *(row.sid for row in due)}
    )
    admitted = admission_of(judge.journal.last_admitted_tick(), ledger_name)
    with closing(plan_of(judge, [due], unfinished, admitted)) as spool:
        planned, doubt = spool.find(sid) or (None, None)
    conflicts = (finding for intent, finding in unfinished.conflicts if intent.sid == sid)
    return Single(judge.now, next(conflicts, None), planned, doubt)
