"""What is known of each (sid, expires_at), and how an operator ends it."""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from msgspec.structs import replace

from autorelease.journal import OpenIntent, Step
from autorelease.journal.connection import PAGE_ROWS, SIDS_AT_ONCE
from autorelease.journal.holds import Holds
from autorelease.journal.rows import (
    ACKNOWLEDGED,
    MEMORY_COLUMNS,
    as_instant,
    as_key,
    of_vm,
    read_known,
    read_open_intent,
)
from autorelease.model import NOTHING_KNOWN, Allocation, Known


class Memory(Holds):
    """The table `attempts`, and the holds that stand beside it."""

    def known(self, allocations: Sequence[Allocation]) -> Mapping[tuple[str, datetime | None], Known]:
        """What is remembered of these (sid, expires_at); absent: nothing."""
        found: dict[tuple[str, datetime | None], Known] = {}
        for start in range(0, len(allocations), SIDS_AT_ONCE):
            chunk = allocations[start : start + SIDS_AT_ONCE]
            remembered = self._remembered_of(chunk)
            sids = {sid for sid, _ in remembered}
            for row in chunk if sids else ():
                memory = remembered.get((row.sid, as_key(row.expires_at))) if row.sid in sids else None
                if memory is not None:
                    found[row.sid, row.expires_at] = of_vm(read_known(memory), memory, row)
            holds = self.holds_of(chunk)
            for row in chunk if holds else ():
                if row.sid in holds:
                    key = (row.sid, row.expires_at)
                    found[key] = replace(found.get(key, NOTHING_KNOWN), hold=holds[row.sid])
        return found

    def _remembered_of(self, rows: Sequence[Allocation]) -> Mapping[tuple[str, str], sqlite3.Row]:
        """What stands there of these sids, by sid and expiry; also of expiries between those of the rows.

        Of most rows nothing does: to write each expiry as it stands there would take longer than to look.
        """
        expiries = [row.expires_at for row in rows if row.expires_at is not None]
        first = as_key(min(expiries, default=None)) if len(expiries) == len(rows) else ""
        # CROSS JOIN: one look-up by the primary key for each sid, and never a scan of all that was ever known.
        found = self._rows(
            f"WITH wanted (sid) AS (VALUES {', '.join(['(?)'] * len(rows))}) "
            f"SELECT {MEMORY_COLUMNS} FROM wanted CROSS JOIN attempts USING (sid) WHERE expires_at BETWEEN ? AND ?",
            *(row.sid for row in rows),
            first,
            as_key(max(expiries, default=None)),
        )
        return {(row["sid"], row["expires_at"]): row for row in found}

    def remembered(self, sid: str) -> Sequence[tuple[datetime | None, Known]]:
        """All that is remembered of a sid, by its expiry then, without holds; oldest expiry first, never last."""
        statement = f"SELECT {MEMORY_COLUMNS} FROM attempts WHERE sid = ? ORDER BY expires_at = '', expires_at"
        rows = self._rows(statement, sid)
        return [(as_instant(row["expires_at"]), read_known(row)) for row in rows]

    def open_intents(self) -> Iterator[OpenIntent]:
        """The releases whose end is unknown, oldest first, and then the conflicts that stand alone; read in pages."""
        yield from self._open_since("intent_at", "intent_at IS NOT NULL")
        yield from self._open_since("conflict_at", "conflict_at IS NOT NULL AND intent_at IS NULL")

    def _open_since(self, column: str, condition: str) -> Iterator[OpenIntent]:
        last = ("", "", "")
        while True:
            page = self._rows(
                f"SELECT * FROM attempts WHERE {condition} AND ({column}, sid, expires_at) > (?, ?, ?) "
                f"ORDER BY {column}, sid, expires_at LIMIT {PAGE_ROWS}",
                *last,
            )
            yield from map(read_open_intent, page)
            if len(page) < PAGE_ROWS:
                return
            last = (page[-1][column], page[-1]["sid"], page[-1]["expires_at"])

    def forget_failures(self, at: datetime, actor: str, *, sid: str | None, provisioner: str | None) -> Sequence[str]:
        """Forget backoff and quarantine, of one sid, of one provisioner's, or of all; returns the sids it changed."""
        conditions, values = ["(failed_ticks > 0 OR pending_ticks > 0)"], []
        for column, value in (("sid", sid), ("provisioner", provisioner)):
            if value is not None:
                conditions.append(f"{column} = ?")
                values.append(value)
        where = " AND ".join(conditions)
        with self._transaction():
            rows = self._rows(f"SELECT DISTINCT sid FROM attempts WHERE {where} ORDER BY sid", *values)
            self.connection.execute(
                "UPDATE attempts SET failed_ticks = 0, pending_ticks = 0, next_attempt_at = NULL, quarantined = 0, "
                f"last_error = NULL, skipped = NULL WHERE {where}",
                values,
            )
            for row in rows:
                self._note(Step.RETRY, row["sid"], at, f"by {actor}", "failures forgotten")
        return [row["sid"] for row in rows]

    def acknowledge(self, intents: Sequence[OpenIntent], at: datetime, actor: str) -> None:
        """Close these conflicts, and the intents behind them: somebody has looked at them."""
        with self._transaction():
            for intent in intents:
                # Unless somebody has begun it anew since it was looked at.
                self.connection.execute(
                    f"UPDATE attempts SET {ACKNOWLEDGED} WHERE sid = ? AND expires_at = ? AND begun_run IS ?",
                    (intent.sid, as_key(intent.expires_at), intent.run),
                )
                self._note(Step.RETRY, intent.sid, at, f"by {actor}", "conflict acknowledged", intent.expires_at)
