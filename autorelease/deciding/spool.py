"""The plan while it waits: a private temporary database without a name, so that memory does not grow with the plan.

SQLite keeps it in memory while it is small and in an unlinked temporary file after that. How a row of the plan becomes
columns is for `columns` to say, and what the tables are like for `tables`.
"""

import sqlite3
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import groupby, islice
from typing import Any

from autorelease.deciding.columns import (
    RECORD,
    fact_values,
    instant,
    is_storable,
    planned_of,
    stored_values,
    tagged,
    tagged_text,
    text_of,
)
from autorelease.deciding.tables import (
    DOUBT,
    DOUBTS,
    DUE,
    INDEXES,
    INVALID,
    MARK_OWNED_TWICE,
    OF_DOUBT,
    PLAN,
    STAY,
    STAYING,
    TO_RELEASE,
    WITH_FACTS,
    WITHOUT_FACTS,
)
from autorelease.identity import NO_VM, VM, Holder, References, vm_of
from autorelease.model import NOTHING_KNOWN, InvalidRow, Planned, PlanSummary, RawValue, SkipReason
from autorelease.rules.identities import Identities, identity, packed
from autorelease.sqlitefile import interrupted_when, speaking_of

FIRST_SIDS = 5
CHUNK = 20_000
ROWS_AT_ONCE = 500
PLACE = "the plan's temporary file (in SQLITE_TMPDIR, TMPDIR or /var/tmp)"

Row = Sequence[RawValue]


class Spool:
    """Planned allocations, to be read again in the order of execution. references: how their VMs are compared."""

    def __init__(self, references: References = References.FOLDED) -> None:
        self._references = references
        with speaking_of(PLACE):
            self._make()

    def _make(self) -> None:
        self._connection = sqlite3.connect("", isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = OFF")
        # One transaction from here on: nobody else looks, and nothing of it is to last.
        for statement in ("BEGIN", PLAN, *STAYING):
            self._connection.execute(statement)

    def interrupted_when(self, is_stopped: Callable[[], bool]) -> AbstractContextManager[None]:
        """Let what is asked of it end with StopReadingError as soon as this is so."""
        return interrupted_when(self._connection, is_stopped)

    # --- filling ----------------------------------------------------------------------------------------------------

    def add(self, planned: Iterable[Planned]) -> None:
        """Keep these; a sid that is there already stays as it was read first."""
        # Of most rows nothing is known. To bind a NULL takes sqlite3 ten times what it takes to bind a number.
        for is_known, group in groupby(planned, lambda item: item.known is not NOTHING_KNOWN):
            columns = WITH_FACTS if is_known else WITHOUT_FACTS
            self._insert(columns, (self._row(item, is_known=is_known) for item in group))

    def _insert(self, columns: Sequence[str], rows: Iterable[Row]) -> None:
        statement = f"INSERT OR IGNORE INTO plan ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
        for chunk in _chunks(rows, ROWS_AT_ONCE):
            with speaking_of(PLACE):
                try:
                    self._connection.executemany(statement, chunk)
                except UnicodeEncodeError:
                    # What is there already is ignored.
                    self._connection.executemany(statement, map(_storable, chunk))

    def _row(self, planned: Planned, *, is_known: bool) -> Row:
        allocation = planned.allocation
        vm = vm_of(allocation, self._references) if allocation.vm_ref else None
        return (
            0,
            *stored_values(planned),
            *(fact_values(planned.known) if is_known else ()),
            0 if planned.first_try else 1,
            *((vm.reference, vm.provisioner, vm.uid) if vm else (None, None, None)),
        )

    # --- checking ---------------------------------------------------------------------------------------------------

    def due_vms(self) -> Iterator[Sequence[str]]:
        """The references of the VMs that are to be released, in chunks."""
        self._index("vms")
        # Text is more than any number.
        pages = self._pages(f"SELECT DISTINCT vm FROM plan INDEXED BY vms WHERE {DUE} AND vm > ? ORDER BY vm", 0)
        return ([text_of(reference) for (reference,) in page] for page in pages)

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
        rows = self._read(f"{DOUBTS} WHERE {INVALID} ORDER BY expires, sid LIMIT ?", limit)
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
        names = self._read(f"SELECT DISTINCT provisioner FROM plan WHERE {TO_RELEASE} ORDER BY provisioner")
        return [text_of(name) for (name,) in names]

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

    def to_release(self) -> Iterator[Planned]:
        """What is to be released: first tries before repeats, oldest expiry first."""
        return self._planned("execution", f"{TO_RELEASE} ORDER BY repeated, expires, sid")

    def not_covered(self) -> Iterator[Planned]:
        """The first tries that nobody has answered for."""
        return self._planned("execution", f"{DUE} AND NOT repeated AND uncovered ORDER BY repeated, expires, sid")

    def skipped(self) -> Iterator[Planned]:
        """What was decided to be left alone."""
        return self._planned("skips", "skip IS NOT NULL ORDER BY expires, sid")

    def by_expiry(self) -> Iterator[Planned]:
        """All of the plan, oldest expiry first, but for the invalid rows."""
        return self._planned("expiries", f"NOT ({INVALID}) ORDER BY expires, sid")

    def doubtful(self) -> Iterator[tuple[Planned, str]]:
        """The due rows that are invalid, oldest expiry first, each with its reason."""
        self._index("expiries")
        found = f"SELECT {DOUBT}, {', '.join(RECORD)} FROM plan INDEXED BY expiries WHERE {INVALID}"
        rows = self._read(f"{found} ORDER BY expires, sid")
        return ((planned_of(row[OF_DOUBT:]), _reason(*row[:OF_DOUBT])) for row in rows)

    def place(self, sid: str) -> tuple[int, int] | None:
        """The how manyeth this one is of all that are to be released, in the order of execution; None: it is none."""
        self._index("execution")
        this = f"SELECT repeated, expires, sid FROM plan WHERE {TO_RELEASE} AND sid = ?"
        up_to_this = f"count(*) FILTER (WHERE (repeated, expires, sid) <= ({this}))"
        found = f"SELECT {up_to_this}, count(*) FROM plan INDEXED BY execution WHERE {TO_RELEASE}"
        [(place, every)] = self._read(found, tagged_text(sid))
        return (place, every) if place else None

    def find(self, sid: str) -> tuple[Planned, str | None] | None:
        """What is planned for this sid, and why it is invalid, where it is."""
        rows = list(self._read(f"SELECT {', '.join(RECORD)} FROM plan WHERE sid = ?", tagged_text(sid)))
        doubts = list(self._read(f"{DOUBTS} WHERE sid = ? AND {INVALID}", tagged_text(sid)))
        return (planned_of(rows[0]), _reason(*doubts[0][1:]) if doubts else None) if rows else None

    def close(self) -> None:
        """Let the plan go."""
        self._connection.close()

    def _planned(self, index: str, condition: str) -> Iterator[Planned]:
        self._index(index)
        return map(planned_of, self._read(f"SELECT {', '.join(RECORD)} FROM plan INDEXED BY {index} WHERE {condition}"))

    # --- statements -------------------------------------------------------------------------------------------------

    def _index(self, *names: str) -> None:
        with speaking_of(PLACE):
            for name in names:
                self._connection.execute(f"CREATE INDEX IF NOT EXISTS {name} ON {INDEXES[name]}")

    def _read(self, statement: str, *values: RawValue) -> Generator[tuple[Any, ...], None, None]:
        # Not the statement alone: it sorts, and reads from the disk, with each row that it is asked for.
        with speaking_of(PLACE):
            # Row by row: whoever leaves off would have `yield from` close the cursor of a spool that is closed already.
            for row in self._connection.execute(statement, values):  # noqa: UP028
                yield row

    def _pages(self, statement: str, beginning: RawValue) -> Iterator[Sequence[tuple[Any, ...]]]:
        """What a statement finds, in pieces, between which the table may change. Its first column rises."""
        after = beginning
        while page := list(self._read(f"{statement} LIMIT ?", after, CHUNK)):
            yield page
            after = page[-1][0]


def _identity(sid: str | bytes, expires: int | None) -> bytes:
    return identity(text_of(sid), instant(expires))


def _storable(row: Row) -> Row:
    """The row, with tags where some text of it cannot be bound."""
    return row if all(map(is_storable, row)) else (1, *tagged(row[1:]))


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
