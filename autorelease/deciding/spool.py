"""The plan while it waits: a private temporary database without a name, so that memory does not grow with the plan.

SQLite keeps it in memory while it is small and in an unlinked temporary file after that. How a row of the plan becomes
columns is for `columns` to say, and what the tables are like for `tables`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from heapq import merge
from itertools import groupby, islice
from typing import Any

from autorelease.deciding.columns import (
    ZERO,
    instant,
    planned_of,
    tagged_text,
    text_of,
)
from autorelease.deciding.filling import Row, columns_of, storable, values_of
from autorelease.deciding.tables import (
    DOUBT,
    DOUBTS,
    DUE,
    INVALID,
    MARK_OWNED_TWICE,
    OF_DOUBT,
    PLAN,
    READ,
    READ_FACTS,
    STAY,
    STAYING,
    TO_RELEASE,
)
from autorelease.deciding.temporary import PLACE, Temporary
from autorelease.identity import NO_VM, VM, Holder, References
from autorelease.model import InvalidRow, Planned, PlanSummary, RawValue, SkipReason
from autorelease.rules.identities import Identities, identity, packed
from autorelease.sqlitefile import speaking_of

FIRST_SIDS = 5
ROWS_AT_ONCE = 500


class Spool(Temporary):
    """Planned allocations, to be read again in the order of execution. references: how their VMs are compared."""

    def __init__(self, references: References = References.FOLDED) -> None:
        self._references = references
        super().__init__((PLAN, *STAYING))

    # --- filling ----------------------------------------------------------------------------------------------------

    def add(self, planned: Iterable[Planned]) -> None:
        """Keep these; a sid that is there already stays as it was read first."""
        for columns, group in groupby(planned, columns_of):
            self._insert(columns, (values_of(columns, each, self._references) for each in group))

    def _insert(self, columns: Sequence[str], rows: Iterable[Row]) -> None:
        statement = f"INSERT OR IGNORE INTO plan ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
        for chunk in _chunks(rows, ROWS_AT_ONCE):
            with speaking_of(PLACE):
                try:
                    self._connection.executemany(statement, chunk)
                except UnicodeEncodeError:
                    # What is there already is ignored.
                    self._connection.executemany(statement, map(storable, chunk))

    # --- checking ---------------------------------------------------------------------------------------------------

    def due_vms(self) -> Iterator[Sequence[str]]:
        """The references of the VMs that are to be released, in chunks."""
        self._index("vms")
        # Text is more than any number.
        pages = self._pages(f"SELECT DISTINCT vm FROM plan INDEXED BY vms WHERE {DUE} AND vm > ? ORDER BY vm", 0)
        return ([text_of(reference) for (reference,) in page] for page in pages)

    def due_vms_and_sids(self) -> Iterator[tuple[Sequence[str], Sequence[RawValue]]]:
        """The same, with the sids, as they are stored, of rows that are to be released with these VMs.

        Of a VM that very many rows are of, not all of them are there.
        """
        self._index("vms")
        pages = self._pages(f"SELECT vm, raw_sid FROM plan INDEXED BY vms WHERE {DUE} AND vm > ? ORDER BY vm", 0)
        return (([*dict.fromkeys(text_of(vm) for vm, _ in page)], [sid for _, sid in page]) for page in pages)

    def mark_owned_twice(self, holders: Iterable[Holder]) -> None:
        """Rows that hold VMs of the plan: unless such a row is to go as well, nobody's allocation is released."""
        self._index("vms")
        [(last,)] = self._read("SELECT coalesce(max(number), 0) FROM staying")
        for chunk in _chunks(((*_holder_values(holder), last) for holder in holders), ROWS_AT_ONCE):
            with speaking_of(PLACE):
                self._connection.executemany(STAY, chunk)
        with speaking_of(PLACE):
            self._connection.execute(MARK_OWNED_TWICE, (last,))

    def invalid(self, limit: int) -> tuple[int, Sequence[InvalidRow]]:
        """How many due rows are invalid, and the first of them: without a VM of their own, or with none at all."""
        [(count,)] = self._read(f"SELECT count(*) FROM plan WHERE {INVALID}")
        # Each of the two passes by all rows of the plan.
        rows = self._read(f"{DOUBTS} WHERE {INVALID} ORDER BY expires, sid LIMIT ?", limit) if count else ()
        return count, [InvalidRow(text_of(sid), _reason(*others)) for sid, *others in rows]

    # --- in numbers -------------------------------------------------------------------------------------------------

    def summary(self, live_rows: int) -> PlanSummary:
        """The plan in numbers."""
        self._index("execution", "skips")
        [(first, repeats, newest)] = self._read(
            "SELECT count(*) FILTER (WHERE NOT repeated), count(*) FILTER (WHERE repeated), max(expires) "
            f"FROM plan INDEXED BY execution WHERE {TO_RELEASE}"
        )
        skips = self._read("SELECT skip, count(*) FROM plan WHERE skip IS NOT NULL GROUP BY skip")
        return PlanSummary(
            first_tries=first,
            repeats=repeats,
            skipped={SkipReason(reason): count for reason, count in skips},
            live_rows=live_rows,
            first_sids=tuple(item.allocation.sid for item in islice(self.to_release(), FIRST_SIDS)),
            newest_expires_at=instant(newest),
        )

    def waiting(self) -> tuple[int, int, datetime | None]:
        """Of all that is to be released: how many rows, how many of them are in quarantine, and the oldest expiry."""
        found = "SELECT count(*), coalesce(sum(is_quarantined), 0), min(expires) FROM plan"
        [(rows, quarantined, oldest)] = self._read(f"{found} WHERE {TO_RELEASE}")
        return rows, quarantined, instant(oldest)

    def shared_vms(self) -> frozenset[tuple[str | None, str]]:
        """The VMs that more than one row to be released is of, as provisioner and reference."""
        self._index("vms")
        shared = self._read(
            f"SELECT vm_provisioner, vm FROM plan WHERE {TO_RELEASE} GROUP BY vm, vm_provisioner HAVING count(*) > 1"
        )
        return frozenset((text_of(provisioner), text_of(reference)) for provisioner, reference in shared)

    def identities(self) -> bytes:
        """Of all that no tick has tried yet, packed: what is admitted, or refused, with this plan."""
        # More than admitted: what was begun is remembered by itself.
        was_tried = "failed_ticks IS NOT NULL OR intent IS 1"
        rows = self._read(f"SELECT sid, expires FROM plan WHERE {TO_RELEASE} AND NOT ({was_tried})")
        return packed(_identity(*row) for row in rows)

    def provisioners(self) -> Sequence[str]:
        """The provisioners that the plan needs."""
        return self._served(TO_RELEASE)

    def unserved(self, limit: int) -> Mapping[str, int]:
        """The provisioners that there are none of, those that most rows name, and how many rows name each."""
        self._index("skips")
        rows = self._read(
            "SELECT provisioner, count(*) FROM plan INDEXED BY skips WHERE skip IS NOT NULL AND skip = ? "
            "GROUP BY provisioner ORDER BY count(*) DESC, provisioner LIMIT ?",
            SkipReason.NO_PROVISIONER.value,
            limit,
        )
        return {text_of(name): count for name, count in rows}

    # --- what an operator has answered for --------------------------------------------------------------------------

    def cover(self, rows: Identities) -> None:
        """Of the first tries, release none but these: an operator has answered for them alone."""
        first_tries = f"SELECT rowid, sid, expires FROM plan WHERE {TO_RELEASE} AND NOT repeated"
        for page in self._pages(f"{first_tries} AND rowid > ? ORDER BY rowid", 0):
            uncovered = [(number,) for number, *row in page if _identity(*row) not in rows]
            with speaking_of(PLACE):
                self._connection.executemany("UPDATE plan SET uncovered = 1 WHERE rowid = ?", uncovered)

    def cover_all(self) -> None:
        """Let the plan be as it was decided."""
        with speaking_of(PLACE):
            self._connection.execute("UPDATE plan SET uncovered = 0 WHERE uncovered")

    # --- reading it again -------------------------------------------------------------------------------------------

    def to_release(self, provisioner: str | None = None) -> Iterator[Planned]:
        """What is to be released, by this provisioner or by all: first tries before repeats, oldest expiry first.

        Read as it is asked for, however long that takes.
        """
        return self._in_order(TO_RELEASE, [provisioner] if provisioner is not None else self._served(TO_RELEASE))

    def rest(self) -> Iterator[Planned]:
        """Nothing: what is planned is to be released, or not covered."""
        return iter(())

    def not_covered(self) -> Iterator[Planned]:
        """The first tries that nobody has answered for."""
        condition = f"{DUE} AND NOT repeated AND uncovered"
        return self._in_order(condition, self._served(condition))

    def skipped(self) -> Iterator[Planned]:
        """What was decided to be left alone."""
        return self._planned("skips", "skip IS NOT NULL ORDER BY expires, sid")

    def by_expiry(self) -> Iterator[Planned]:
        """All of the plan, oldest expiry first, but for the invalid rows."""
        return self._planned("expiries", f"NOT ({INVALID}) ORDER BY expires, sid")

    def doubtful(self) -> Iterator[tuple[Planned, str]]:
        """The due rows that are invalid, oldest expiry first, each with its reason."""
        self._index("expiries")
        found = f"SELECT {DOUBT}, {READ} FROM plan INDEXED BY expiries WHERE {INVALID}"
        rows = self._read(f"{found} ORDER BY expires, sid")
        return ((self._made(row[OF_DOUBT:]), _reason(*row[:OF_DOUBT])) for row in rows)

    def find(self, sid: str) -> tuple[Planned, str | None] | None:
        """What is planned for this sid, and why it is invalid, where it is."""
        rows = list(self._read(f"SELECT {READ} FROM plan WHERE sid = ?", tagged_text(sid)))
        doubts = list(self._read(f"{DOUBTS} WHERE sid = ? AND {INVALID}", tagged_text(sid)))
        return (self._made(rows[0]), _reason(*doubts[0][1:]) if doubts else None) if rows else None

    def _served(self, condition: str) -> Sequence[str]:
        """The provisioners of these rows."""
        self._index("execution")
        names = f"SELECT DISTINCT provisioner FROM plan INDEXED BY execution WHERE {condition} ORDER BY provisioner"
        return [text_of(name) for (name,) in self._read(names)]

    def _in_order(self, condition: str, provisioners: Sequence[str]) -> Iterator[Planned]:
        """The rows of these provisioners, in the order of execution: the index has it for each, nothing is sorted."""
        one = f"{condition} AND provisioner = ? ORDER BY repeated, expires, sid"
        streams = [self._planned("execution", one, tagged_text(name)) for name in provisioners]
        return streams[0] if len(streams) == 1 else merge(*streams, key=_place)

    def _planned(self, index: str, condition: str, *values: RawValue) -> Iterator[Planned]:
        self._index(index)
        return map(self._made, self._read(f"SELECT {READ} FROM plan INDEXED BY {index} WHERE {condition}", *values))

    def _made(self, row: Sequence[Any]) -> Planned:
        """The planned allocation of which these are the values of READ."""
        return planned_of(row, None if row[-1] is None else next(self._read(READ_FACTS, row[-1])))


def _place(planned: Planned) -> tuple[bool, datetime, str]:
    """Where it stands in the order of execution."""
    return not planned.first_try, planned.allocation.expires_at or ZERO, planned.allocation.sid


def _identity(sid: str | bytes, expires: int | None) -> bytes:
    return identity(text_of(sid), instant(expires))


def _holder_values(holder: Holder) -> Row:
    vm = holder.vm
    return tuple(map(tagged_text, (vm.reference, vm.provisioner, vm.uid, holder.sid)))


def _reason(has_vm: int, vm_ref: str | bytes, sid: str | bytes | None) -> str:
    """Why a row is invalid, from what DOUBTS finds."""
    if not has_vm:
        return NO_VM
    other = Holder(None if sid is None else text_of(sid), VM(None, ""))
    return f"vm_ref {text_of(vm_ref)!r} is also held by {other.name}"


def _chunks(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    rest = iter(rows)
    while chunk := list(islice(rest, size)):
        yield chunk
