"""The tables of the plan's temporary database, and the checks that are joins of them. Text alone; asks nothing.

Every condition on the rows of the plan has its one name here.
"""

from autorelease.deciding.columns import FACTS, RARE, RECORD
from autorelease.model import SkipReason

# What is found out of a row, for the checks and for the order.
FOUND = ("repeated", "vm", "vm_provisioner", "vm_unique")
WITH_FACTS = (*RECORD, *FACTS, *FOUND)
WITHOUT_FACTS = tuple(name for name in WITH_FACTS if name not in FACTS)
# Of a row of which nothing is known, that is to be released, and whose VM has no uid: most are such.
BARE = tuple(name for name in WITHOUT_FACTS if name not in (*RARE, "vm_unique"))
# held_by: the row of `staying` that holds the same VM. uncovered: nobody has answered for it.
PLAN = f"CREATE TABLE plan ({', '.join(WITH_FACTS)}, held_by, uncovered DEFAULT 0, UNIQUE (sid))"
# The rows that hold VMs of the plan and do not go, each VM once: a placeholder has more holders than anybody can use.
STAYING = (
    "CREATE TABLE staying (number INTEGER PRIMARY KEY, vm, vm_provisioner, vm_unique, sid)",
    "CREATE INDEX staying_vms ON staying (vm, vm_provisioner, vm_unique)",
)
# The values of RECORD, and the number of a row of which the journal knows anything. Of most rows it knows nothing, so
# that its many columns are asked for where there is something in them.
READ = f"{', '.join(RECORD)}, CASE WHEN intent IS NOT NULL THEN rowid END"
READ_FACTS = f"SELECT {', '.join(FACTS)} FROM plan WHERE rowid = ?"
# Each is made when it is first needed, which is when all rows are in: sorted once, and not at all where nobody asks.
DUE = "skip IS NULL AND vm IS NOT NULL"
INDEXES = {
    "vms": f"plan (vm, vm_provisioner) WHERE {DUE}",
    "execution": f"plan (provisioner, repeated, expires, sid, held_by, uncovered) WHERE {DUE}",
    "skips": "plan (expires, sid) WHERE skip IS NOT NULL",
    "expiries": "plan (expires, sid)",
}
TO_RELEASE = f"{DUE} AND held_by IS NULL AND NOT uncovered"
INVALID = "skip IS NULL AND (vm IS NULL OR held_by IS NOT NULL)"
# A row that is released by this tick, or by a later one: what is in backoff is overdue all the same.
TO_GO = f"skip IS NULL OR skip = '{SkipReason.BACKOFF.value}'"


def _held(condition: str) -> str:
    """Who else holds the VM of a row of the plan, as far as provisioner and reference say: each a look-up."""
    return ", ".join(
        f"(SELECT number FROM staying WHERE vm = plan.vm AND {provisioner}{condition} LIMIT 1)"
        # NULL: nobody can read it, so that it may be any.
        for provisioner in ("vm_provisioner = plan.vm_provisioner", "vm_provisioner IS NULL")
    )


# Two rows hold one VM unless both uids are known and differ.
HELD_BY = (
    f"CASE WHEN vm_unique IS NULL THEN coalesce({_held('')}) "
    f"ELSE coalesce({_held(' AND vm_unique = plan.vm_unique')}, {_held(' AND vm_unique IS NULL')}) END"
)
# A row that holds a VM, unless it goes, or one is there that holds just the same. The last value is the last number
# that was there before: what is held still is asked again of what has come to the plan since.
STAY = (
    "INSERT INTO staying (vm, vm_provisioner, vm_unique, sid) "
    "SELECT vm, vm_provisioner, vm_unique, sid "
    "FROM (SELECT ? AS vm, ? AS vm_provisioner, ? AS vm_unique, ? AS sid) AS holder "
    f"WHERE NOT EXISTS (SELECT 1 FROM plan WHERE sid = holder.sid AND ({TO_GO})) AND NOT EXISTS "
    "(SELECT 1 FROM staying WHERE vm = holder.vm AND vm_provisioner IS holder.vm_provisioner "
    "AND vm_unique IS holder.vm_unique AND number > ?)"
)
# What the reason of an invalid row is made of: so many columns.
DOUBT = "vm IS NOT NULL, vm_ref, (SELECT sid FROM staying WHERE number = held_by)"
OF_DOUBT = 3
DOUBTS = f"SELECT sid, {DOUBT} FROM plan"
MARK_OWNED_TWICE = (
    f"UPDATE plan SET held_by = {HELD_BY} "
    f"WHERE {DUE} AND held_by IS NULL AND vm IN (SELECT vm FROM staying WHERE number > ?)"
)
