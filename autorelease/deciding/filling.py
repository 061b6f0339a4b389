"""How a planned allocation is written into the table of the plan: which columns have a value for it, and which value.

Pure, no database. To bind a NULL takes sqlite3 several times what it takes to bind a number, and most rows are alike:
what hardly any row has is left out of the others.
"""

from collections.abc import Sequence

from autorelease.deciding.columns import RARE, fact_values, is_storable, stored_values, tagged
from autorelease.deciding.tables import BARE, WITH_FACTS, WITHOUT_FACTS
from autorelease.identity import References, vm_of
from autorelease.model import NOTHING_KNOWN, Planned, RawValue

Row = Sequence[RawValue]


def columns_of(planned: Planned) -> Sequence[str]:
    """The columns that have a value for it."""
    if planned.known is not NOTHING_KNOWN:
        return WITH_FACTS
    allocation = planned.allocation
    is_bare = planned.skip is None and allocation.vm_uid is None and allocation.vm_ref
    return BARE if is_bare else WITHOUT_FACTS


def values_of(columns: Sequence[str], planned: Planned, references: References) -> Row:
    """The values of these columns, which are those that it has."""
    if columns is BARE:
        vm = vm_of(planned.allocation, references)
        # Nothing known is a first try.
        return (0, *stored_values(planned)[: -len(RARE)], 0, vm.reference, vm.provisioner)
    named = vm_of(planned.allocation, references) if planned.allocation.vm_ref else None
    return (
        0,
        *stored_values(planned),
        *(fact_values(planned.known) if columns is WITH_FACTS else ()),
        0 if planned.first_try else 1,
        *((named.reference, named.provisioner, named.uid) if named else (None, None, None)),
    )


def storable(row: Row) -> Row:
    """The row, with tags where some text of it cannot be bound."""
    return row if all(map(is_storable, row)) else (1, *tagged(row[1:]))
