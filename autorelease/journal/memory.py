"""What is known of each (sid, expires_at), and how an operator ends it."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from msgspec.structs import replace

from autorelease.journal import OpenIntent, Step
from autorelease.journal.connection import PAGE_ROWS, PAIRS_AT_ONCE
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
        for start in range(0, len(allocations), PAIRS_AT_ONCE):
            chunk = allocations[start : start + PAIRS_AT_ONCE]
            pairs = ", ".join("(?, ?)" for _ in chunk)
            stored = [(row.sid, as_key(row.expires_at)) for row in chunk]
            values = [value for pair in stored for value in pair]
            # CROSS JOIN: one look-up by the primary key for each pair, and never a scan of all that was ever known.
            rows = self._rows(
                f"WITH wanted (sid, expires_at) AS (VALUES {pairs}) "
                f"SELECT {MEMORY_COLUMNS} FROM wanted CROSS JOIN attempts USING (sid, expires_at)",
                *values,
            )
            remembered = {(row["sid"], row["expires_at"]): row for row in rows}
            for pair, allocation in zip(stored, chunk, strict=True) if remembered else ():
                if (memory := remembered.get(pair)) is not None:
                    found[allocation.sid, allocation.expires_at] = of_vm(read_known(memory), memory, allocation)
            holds = self.holds_of(chunk)
            for row in chunk:
                if row.sid in holds:
                    key = (row.sid, row.expires_at)
                    found[key] = replace(found.get(key, NOTHING_KNOWN), hold=holds[row.sid])
        return found

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
