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

from autorelease.model import Allocation, Attempts, Hold, InvalidRow, Known, Planned, PlanSummary, RawRow, SkipReason
from autorelease.sqlitefile import speaking_of

FIRST_SIDS = 5
CHUNK = 20_000
PLACE = "the plan's temporary file (in SQLITE_TMPDIR, TMPDIR or /var/tmp)"
ZERO = datetime.min.replace(tzinfo=UTC)


def _shallowly(kind: type[Any]) -> Callable[[Any], tuple[type[Any], Any]]:
    values = attrgetter(*(field.name for field in fields(kind)))
    return lambda item: (kind, values(item))


# Frozen dataclasses with slots look their fields up, one by one, for every instance that is packed: most of the time
# that a large plan took.
for kind in (Planned, Allocation, RawRow, Known, Attempts, Hold):
    copyreg.pickle(kind, _shallowly(kind))


class Spool:
    """Planned allocations, to be read again in the order of execution."""

    def __init__(self) -> None:
        with speaking_of(PLACE):
            self._make()

    def _make(self) -> None:
        self._connection = sqlite3.connect("", isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = OFF")
        self._connection.execute(
            "CREATE TABLE plan (sid TEXT PRIMARY KEY, repeated INTEGER, expires INTEGER, skip TEXT, "
            "provisioner TEXT, vm_ref TEXT, owned_twice INTEGER DEFAULT 0, planned BLOB)"
        )
        self._connection.execute("CREATE INDEX vms ON plan (vm_ref, provisioner)")

    def add(self, planned: Iterable[Planned]) -> None:
        """Keep these; a sid that is there already stays as it was read first."""
        with speaking_of(PLACE):
            self._connection.execute("BEGIN")
            self._connection.executemany(
                "INSERT OR IGNORE INTO plan (sid, repeated, expires, skip, provisioner, vm_ref, planned) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (_row(item) for item in planned),
            )
            self._connection.execute("COMMIT")

    def due_vms(self) -> Iterator[Sequence[str]]:
        """The vm_refs of the allocations to be released, in chunks."""
        cursor = self._connection.execute("SELECT DISTINCT vm_ref FROM plan WHERE skip IS NULL")
        while chunk := [vm_ref for (vm_ref,) in islice(cursor, CHUNK)]:
            yield chunk

    def mark_owned_twice(self, sid: str | None, provisioner: str | None, vm_ref: str) -> None:
        """Another row, `sid`, holds this VM: unless that one is due too, nobody's allocation of it is released.

        sid None: none that could be due. provisioner None: it may be any.
        """
        is_due = self._connection.execute("SELECT 1 FROM plan WHERE sid = ? AND skip IS NULL", (sid,)).fetchone()
        if not is_due:
            self._connection.execute(
                "UPDATE plan SET owned_twice = 1 "
                "WHERE vm_ref = ? AND provisioner = coalesce(?, provisioner) AND skip IS NULL",
                (vm_ref, provisioner),
            )

    def owned_twice(self, limit: int) -> tuple[int, Sequence[InvalidRow]]:
        """How many due rows were marked, and the first of them as invalid rows."""
        [count] = self._connection.execute("SELECT count(*) FROM plan WHERE owned_twice").fetchone()
        rows = self._connection.execute(
            "SELECT sid, vm_ref FROM plan WHERE owned_twice ORDER BY expires, sid LIMIT ?", (limit,)
        )
        return count, [
            InvalidRow(sid, f"vm_ref {vm_ref!r} is also held by another live row that is not due")
            for sid, vm_ref in rows
        ]

    def summary(self, live_rows: int) -> PlanSummary:
        """The plan in numbers."""
        [first, repeats, newest] = self._connection.execute(
            "SELECT count(*) FILTER (WHERE NOT repeated), count(*) FILTER (WHERE repeated), max(expires) "
            "FROM plan WHERE skip IS NULL AND NOT owned_twice"
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
        return self._planned("skip IS NULL AND NOT owned_twice ORDER BY repeated, expires, sid")

    def skipped(self) -> Iterator[Planned]:
        """What was decided to be left alone."""
        return self._planned("skip IS NOT NULL ORDER BY expires, sid")

    def by_expiry(self) -> Iterator[Planned]:
        """All of the plan, oldest expiry first, but for what shares its VM with a row that is not due."""
        return self._planned("NOT owned_twice ORDER BY expires, sid")

    def find(self, sid: str) -> tuple[Planned, bool] | None:
        """What is planned for this sid, and whether its VM is also held by a row that is not due."""
        row = self._connection.execute("SELECT planned, owned_twice FROM plan WHERE sid = ?", (sid,)).fetchone()
        return (_unpacked(row[0]), bool(row[1])) if row else None

    def provisioners(self) -> Sequence[str]:
        """The provisioners that the plan needs."""
        rows = self._connection.execute(
            "SELECT DISTINCT provisioner FROM plan WHERE skip IS NULL AND NOT owned_twice ORDER BY provisioner"
        )
        return [name for (name,) in rows]

    def close(self) -> None:
        """Let the plan go."""
        self._connection.close()

    def _planned(self, condition: str) -> Iterator[Planned]:
        statement = f"SELECT planned FROM plan WHERE {condition}"  # noqa: S608 - a constant of the callers above
        for (stored,) in self._connection.execute(statement):
            yield _unpacked(stored)


def _row(planned: Planned) -> tuple[str, bool, int, SkipReason | None, str, str, bytes]:
    allocation = planned.allocation
    return (
        allocation.sid,
        not planned.first_try,
        _microseconds(allocation),
        planned.skip,
        allocation.provisioner,
        allocation.vm_ref,
        pickle.dumps(planned, protocol=5),
    )


def _unpacked(stored: bytes) -> Planned:
    # Written by this process a moment ago, into a file that nobody else can open.
    planned: Planned = pickle.loads(stored)  # noqa: S301
    return planned


def _microseconds(allocation: Allocation) -> int:
    return (allocation.expires_at - ZERO) // timedelta(microseconds=1) if allocation.expires_at else 0


def _instant(microseconds: int) -> datetime:
    return ZERO + timedelta(microseconds=microseconds)
