"""The doctor's look at the indexes: each look of a tick, measured on the real ledger. The statement that makes an index
which is missing is shown, and never run.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime

from autorelease.inspect import Check, State
from autorelease.ledger import Access, Ledger, Look
from autorelease.ledger.rows import StoredRow, read_row
from autorelease.ledger.values import Vocabulary
from autorelease.model import InvalidRow, RawValue
from autorelease.settings import Settings

# A tick asks again who holds a VM before each call, for as long as that is cheaper than this.
SLOW_MILLISECONDS = 50
LEAST_MILLISECONDS = 0.1
# No look is let to take longer, whatever it would have taken.
BROKEN_OFF_MILLISECONDS = 100
# So many settled rows are passed by in no time.
FEW_SETTLED = 10_000
NAMES = {
    Look.DUE: "index",
    Look.SID: "index of sids",
    Look.VM: "index of VMs",
    Look.ODD_VM: "index of odd VMs",
    Look.STAMP: "index of stamps",
    Look.WHOLE: "one piece",
}
LOOKED_FOR = {
    Look.DUE: "what is due",
    Look.SID: "rows by their sid",
    Look.VM: "the other rows of a VM",
    Look.ODD_VM: "the other rows of a VM whose name is not plain ASCII",
    Look.STAMP: "the row to be stamped, in the table behind the view,",
    Look.WHOLE: "all live rows",
}


def indexes(
    ledger: Ledger, statuses: Sequence[tuple[RawValue, int]], words: Vocabulary, now: datetime, settings: Settings
) -> Iterator[Check]:
    """One line for each look. statuses: the most frequent ones, with how many rows have each."""
    settled = sum(number for status, number in statuses if _is_settled(status, words))
    for access in ledger.accesses(now, settings.release.grace):
        yield _index(access, settled)


def _index(access: Access, settled: int) -> Check:
    name, took = NAMES[access.look], _took(access.milliseconds)
    looked_for = f"looking for {LOOKED_FOR[access.look]} takes {took}"
    if access.look is Look.WHOLE:
        message = f"the view is read in one piece, and no writer gets its turn meanwhile: {looked_for} ({access.how})"
        return Check(name, State.WARN, message, access.remedy)
    if not access.is_indexed:
        return Check(name, _state(access), f"there is none: {looked_for} ({access.how})", access.remedy)
    if access.has_settled and settled > FEW_SETTLED:
        message = f"it holds {settled} settled rows as well, which every tick passes by: {looked_for} ({access.how})"
        return Check(name, _state(access), message, access.remedy)
    return Check(name, State.OK, f"{looked_for} ({access.how})")


def _state(access: Access) -> State:
    return State.FAIL if access.milliseconds > SLOW_MILLISECONDS else State.WARN


def _took(milliseconds: float) -> str:
    if milliseconds >= BROKEN_OFF_MILLISECONDS:
        return f"more than {BROKEN_OFF_MILLISECONDS} ms"
    if milliseconds < LEAST_MILLISECONDS:
        return f"less than {LEAST_MILLISECONDS} ms"
    return f"{milliseconds:.1f} ms" if milliseconds < 10 else f"{milliseconds:.0f} ms"  # noqa: PLR2004 - two digits


def _is_settled(status: RawValue, words: Vocabulary) -> bool:
    row = read_row(StoredRow("1", status, None), words)
    return not isinstance(row, InvalidRow) and row.settled
