"""The plan while it waits: a private temporary database without a name, so that memory does not grow with the plan.

SQLite keeps it in memory while it is small and in an unlinked temporary file after that.
"""

import copyreg
import pickle
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from itertools import islice
from operator import attrgetter
from typing import Any

from autorelease.identity import NO_VM, VM, Holder, Holders, References, vm_of
from autorelease.model import Allocation, Attempts, Hold, InvalidRow, Known, Planned, PlanSummary, RawRow, SkipReason
from autorelease.rules.identities import Identities, identity, packed
from autorelease.sqlitefile import speaking_of

FIRST_SIDS = 5
CHUNK = 20_000
PLACE = "the plan's temporary file (in SQLITE_TMPDIR, TMPDIR or /var/tmp)"
ZERO = datetime.min.replace(tzinfo=UTC)
TO_RELEASE = "skip IS NULL AND invalid IS NULL AND NOT uncovered"


def _shallowly(kind: type[Any]) -> Callable[[Any], tuple[type[Any], Any]]:
    values = attrgetter(*(field.name for field in fields(kind)))
    return lambda item: (kind, values(item))


# Frozen dataclasses with slots look their fields up, one by one, for every instance that is packed: most of the time
# that a large plan took.
for kind in (Planned, Allocation, RawRow, Known, Attempts, Hold):
    copyreg.pickle(kind, _shallowly(kind))


class Spool:
    """Planned allocations, to be read again in the order of execution. references: how their VMs are compared."""

    def __init__(self, references: References = References.FOLDED) -> None:
        self._references = references
        with speaking_of(PLACE):
            self._make()

    def _make(self) -> None:
        self._connection = sqlite3.connect("", isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = OFF")
        self._connection.execute(
            "CREATE TABLE plan (sid TEXT PRIMARY KEY, repeated INTEGER, expires INTEGER, skip TEXT, "
            "provisioner TEXT, vm_ref TEXT, vm_provisioner TEXT, vm TEXT, vm_uid TEXT, invalid TEXT, identity BLOB, "
            "uncovered INTEGER DEFAULT 0, planned BLOB)"
        )
        self._connection.execute("CREATE INDEX vms ON plan (vm)")

    def add(self, planned: Iterable[Planned]) -> None:
        """Keep these; a sid that is there already stays as it was read first."""
        with speaking_of(PLACE):
            self._connection.execute("BEGIN")
            self._connection.executemany(
                "INSERT OR IGNORE INTO plan (sid, repeated, expires, skip, provisioner, vm_ref, vm_provisioner, vm, "
                "vm_uid, invalid, identity, planned) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (_row(item, self._references) for item in planned),
            )
            self._connection.execute("COMMIT")

    def due_vms(self) -> Iterator[Sequence[str]]:
        """The references of the VMs that are to be released, in chunks."""
        cursor = self._connection.execute("SELECT DISTINCT vm FROM plan WHERE skip IS NULL AND vm IS NOT NULL")
        while chunk := [reference for (reference,) in islice(cursor, CHUNK)]:
            yield chunk

    def mark_owned_twice(self, holders: Iterable[Holder]) -> None:
        """Rows that hold VMs of the plan: unless such a row is to go as well, nobody's allocation is released."""
        staying = Holders(holder for holder in holders if not self._is_to_go(holder.sid))
        with speaking_of(PLACE):
            self._connection.execute("BEGIN")
            self._connection.executemany("UPDATE plan SET invalid = ? WHERE sid = ?", self._owned_twice(staying))
            self._connection.execute("COMMIT")

    def _is_to_go(self, sid: str | None) -> bool:
        """Whether this row is released by this tick, or by a later one: what is in backoff is overdue all the same."""
        row = self._connection.execute(
            "SELECT 1 FROM plan WHERE sid = ? AND (skip IS NULL OR skip = ?)", (sid, SkipReason.BACKOFF)
        )
        return row.fetchone() is not None

    def _owned_twice(self, staying: Holders) -> Iterator[tuple[str, str]]:
        """The reason and the sid of each allocation whose VM one of these holds, too."""
        for reference in staying.references:
            rows = self._connection.execute(
                "SELECT sid, vm_ref, vm_provisioner, vm_uid FROM plan WHERE vm = ? AND skip IS NULL", (reference,)
            )
            for sid, vm_ref, provisioner, uid in rows:
                other = staying.of(VM(provisioner, reference, uid))
                if other is not None:
                    yield f"vm_ref {vm_ref!r} is also held by {other.name}", sid

    def invalid(self, limit: int) -> tuple[int, Sequence[InvalidRow]]:
        """How many due rows are invalid, and the first of them: without a VM of their own, or with none at all."""
        [count] = self._connection.execute("SELECT count(*) FROM plan WHERE invalid IS NOT NULL").fetchone()
        rows = self._connection.execute(
            "SELECT sid, invalid FROM plan WHERE invalid IS NOT NULL ORDER BY expires, sid LIMIT ?", (limit,)
        )
        return count, [InvalidRow(sid, reason) for sid, reason in rows]

    def summary(self, live_rows: int) -> PlanSummary:
        """The plan in numbers."""
        [first, repeats, newest] = self._connection.execute(
            "SELECT count(*) FILTER (WHERE NOT repeated), count(*) FILTER (WHERE repeated), max(expires) "
            f"FROM plan WHERE {TO_RELEASE}"
        ).fetchone()
        skipped = self._connection.execute("SELECT skip, count(*) FROM plan WHERE skip IS NOT NULL GROUP BY skip")
        return PlanSummary(
            first_tries=first,
            repeats=repeats,
            skipped={SkipReason(reason): count for reason, count in skipped},
            live_rows=live_rows,
            first_sids=tuple(item.allocation.sid for item in islice(self.to_release(), FIRST_SIDS)),
            newest_expires_at=_instant(newest) if newest is not None else None,
        )

    def to_release(self) -> Iterator[Planned]:
        """What is to be released: first tries before repeats, oldest expiry first."""
        return self._planned(f"{TO_RELEASE} ORDER BY repeated, expires, sid")

    def cover(self, rows: Identities) -> None:
        """Of the first tries, release none but these: an operator has answered for them alone."""
        first_tries = self._connection.execute(f"SELECT sid, identity FROM plan WHERE {TO_RELEASE} AND NOT repeated")
        uncovered = [(sid,) for sid, found in first_tries if found not in rows]
        with speaking_of(PLACE):
            self._connection.execute("BEGIN")
            self._connection.executemany("UPDATE plan SET uncovered = 1 WHERE sid = ?", uncovered)
            self._connection.execute("COMMIT")

    def cover_all(self) -> None:
        """Let the plan be as it was decided."""
        self._connection.execute("UPDATE plan SET uncovered = 0 WHERE uncovered")

    def not_covered(self) -> Iterator[Planned]:
        """The first tries that nobody has answered for."""
        return self._planned("uncovered ORDER BY expires, sid")

    def identities(self) -> bytes:
        """Of all that no tick has tried yet, packed: what is admitted, or refused, with this plan."""
        rows = self._connection.execute(f"SELECT identity FROM plan WHERE {TO_RELEASE} AND identity IS NOT NULL")
        return packed(found for (found,) in rows)

    def shared_vms(self) -> frozenset[tuple[str | None, str]]:
        """The VMs that more than one row to be released is of, as provisioner and reference."""
        rows = self._connection.execute(
            f"SELECT vm_provisioner, vm FROM plan WHERE {TO_RELEASE} GROUP BY vm, vm_provisioner HAVING count(*) > 1"
        )
        return frozenset(rows.fetchall())

    def skipped(self) -> Iterator[Planned]:
        """What was decided to be left alone."""
        return self._planned("skip IS NOT NULL ORDER BY expires, sid")

    def by_expiry(self) -> Iterator[Planned]:
        """All of the plan, oldest expiry first, but for the invalid rows."""
        return self._planned("invalid IS NULL ORDER BY expires, sid")

    def find(self, sid: str) -> tuple[Planned, str | None] | None:
        """What is planned for this sid, and why it is invalid, where it is."""
        row = self._connection.execute("SELECT planned, invalid FROM plan WHERE sid = ?", (sid,)).fetchone()
        return (_unpacked(row[0]), row[1]) if row else None

    def provisioners(self) -> Sequence[str]:
        """The provisioners that the plan needs."""
        rows = self._connection.execute(
            f"SELECT DISTINCT provisioner FROM plan WHERE {TO_RELEASE} ORDER BY provisioner"
        )
        return [name for (name,) in rows]

    def close(self) -> None:
        """Let the plan go."""
        self._connection.close()

    def _planned(self, condition: str) -> Iterator[Planned]:
        statement = f"SELECT planned FROM plan WHERE {condition}"
        for (stored,) in self._connection.execute(statement):
            yield _unpacked(stored)


def _row(planned: Planned, references: References) -> tuple[object, ...]:
    allocation = planned.allocation
    vm = vm_of(allocation, references) if allocation.vm_ref else None
    return (
        allocation.sid,
        not planned.first_try,
        _microseconds(allocation),
        planned.skip,
        allocation.provisioner,
        allocation.vm_ref,
        *((vm.provisioner, vm.reference, vm.uid) if vm else (None, None, None)),
        NO_VM if vm is None and planned.skip is None else None,
        None if _was_tried(planned) else identity(allocation.sid, allocation.expires_at),
        pickle.dumps(planned, protocol=5),
    )


def _was_tried(planned: Planned) -> bool:
    """Whether it is more than admitted: what was begun is remembered by itself."""
    return planned.known.attempts is not None or planned.known.intent


def _unpacked(stored: bytes) -> Planned:
    # Written by this process a moment ago, into a file that nobody else can open.
    planned: Planned = pickle.loads(stored)  # noqa: S301
    return planned


def _microseconds(allocation: Allocation) -> int:
    return (allocation.expires_at - ZERO) // timedelta(microseconds=1) if allocation.expires_at else 0


def _instant(microseconds: int) -> datetime:
    return ZERO + timedelta(microseconds=microseconds)
