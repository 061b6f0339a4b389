"""The ledger in SQLite: the operator's own table, read in pages and stamped by compare-and-set.

Adds nothing to the operator's database. SQL narrows what is fetched, always to a superset of what the rule picks;
what a row says is decided in `rows`. One thread alone uses it.
"""

from autorelease.ledger.accesses import Accesses
from autorelease.ledger.census import Counting
from autorelease.ledger.paid import Paid
from autorelease.ledger.rehearsal import Rehearsal
from autorelease.ledger.shape import Shaped


class SQLiteLedger(Counting, Accesses, Paid, Shaped, Rehearsal):
    """See `autorelease.ledger.Ledger`."""
