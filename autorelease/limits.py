"""How long things may take that no configuration says: what acts, what looks on and what the units allow must agree."""

from datetime import timedelta

# An adapter enforces its own time-out; this much later its call is given up.
ABANDONED_AFTER = timedelta(seconds=10)
# While the ledger or the journal cannot be written, what was earned is tried for this long.
STAMP_RESCUE = timedelta(seconds=60)
# A judgement that is older than this is no judgement any more: a call that rests on it is not made.
JUDGED_FOR = timedelta(seconds=2)
# Who holds the lock for longer than this after its deadline hangs.
LOCK_SLACK = timedelta(minutes=10)
