"""The journal in SQLite. One thread alone uses it; every `record` is durable when it returns."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from autorelease.errors import UnusableError
from autorelease.journal import Event, GivenAnswer, OpenIntent, Step
from autorelease.journal.connection import PAGE_ROWS, PAIRS_AT_ONCE
from autorelease.journal.holds import Holds
from autorelease.journal.rows import (
    ACKNOWLEDGED,
    MEMORY_COLUMNS,
    as_instant,
    as_key,
    as_text,
    of_vm,
    read_known,
    read_open_intent,
)
from autorelease.journal.schema import bring_up_to_date
from autorelease.journal.ticks import Ticks
from autorelease.model import NOTHING_KNOWN, Allocation, Answer, Hold, Known
from autorelease.sqliteadvice import check_version
from autorelease.sqlitefile import connect, speaking_of

MODE = 0o640
# The answers of each fingerprint that are kept: more than belief ever looks back on.
ANSWERS_KEPT = 200


def make_journal(path: Path) -> None:
    """Make a new, empty journal, mode 0640.

    Raises FileExistsError where something is, UnusableError for a folder or an SQLite that cannot be used.
    """
    check_version()
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, MODE))
        lock = os.open(lock_path(path), os.O_CREAT | os.O_RDONLY, MODE)
        os.close(lock)
    except FileExistsError:
        raise
    except OSError as error:
        raise UnusableError(f"{path}: the journal cannot be made: {error.strerror}. Make its folder first") from error
    connection = connect(path, read_only=False)
    try:
        with speaking_of(path):
            # A rollback journal and not WAL: a group member with read rights alone can then read it.
            connection.execute("PRAGMA journal_mode = TRUNCATE")
            bring_up_to_date(connection)
    finally:
        connection.close()


def lock_path(journal: Path) -> Path:
    """The file that a tick locks."""
    return journal.with_name(journal.name + ".lock")


class SQLiteJournal(Ticks, Holds):
    """See `autorelease.journal.Journal`."""

    # --- what is known ----------------------------------------------------------------------------------------------

    def known(self, allocations: Sequence[Allocation]) -> Mapping[tuple[str, datetime | None], Known]:
        """What is remembered of these (sid, expires_at); absent: nothing."""
        found: dict[tuple[str, datetime | None], Known] = {}
        for start in range(0, len(allocations), PAIRS_AT_ONCE):
            chunk = allocations[start : start + PAIRS_AT_ONCE]
            pairs = ", ".join("(?, ?)" for _ in chunk)
            values = [value for row in chunk for value in (row.sid, as_key(row.expires_at))]
            # CROSS JOIN: one look-up by the primary key for each pair, and never a scan of all that was ever known.
            rows = self._rows(
                f"WITH wanted (sid, expires_at) AS (VALUES {pairs}) "
                f"SELECT {MEMORY_COLUMNS} FROM wanted CROSS JOIN attempts USING (sid, expires_at)",
                *values,
            )
            remembered = {(row["sid"], row["expires_at"]): row for row in rows}
            for allocation in chunk:
                if (memory := remembered.get((allocation.sid, as_key(allocation.expires_at)))) is not None:
                    found[allocation.sid, allocation.expires_at] = of_vm(read_known(memory), memory, allocation)
            holds = self._newest_holds([row.sid for row in chunk])
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

    # --- an operator's word -----------------------------------------------------------------------------------------

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

    # --- answers ----------------------------------------------------------------------------------------------------

    def recent_answers(self, fingerprint: str, limit: int, run: str | None = None) -> Sequence[Answer]:
        """What was answered under this fingerprint last, newest first; run: in this run alone."""
        rows = self._rows(
            "SELECT answer FROM given_answers WHERE fingerprint = ?1 AND tick = coalesce(?2, tick) "
            "ORDER BY id DESC LIMIT ?3",
            fingerprint,
            run,
            limit,
        )
        return [Answer(row["answer"]) for row in rows]

    def kinds_of_answers(self, fingerprint: str, run: str) -> frozenset[Answer]:
        """Which of the answers there are were given under this fingerprint in this run."""
        statement = "SELECT DISTINCT answer FROM given_answers WHERE fingerprint = ? AND tick = ?"
        return frozenset(Answer(row["answer"]) for row in self._rows(statement, fingerprint, run))

    def has_credit(self, fingerprint: str) -> bool:
        """Whether under this fingerprint something was ever released, or proven to be gone."""
        return bool(self._rows("SELECT 1 FROM credits WHERE fingerprint = ?", fingerprint))

    def has_missed(self, run: str, sids: Sequence[str]) -> frozenset[str]:
        """Those of these sids that this run has written down a "not found" for."""
        found: set[str] = set()
        for start in range(0, len(sids), PAIRS_AT_ONCE):
            chunk = sids[start : start + PAIRS_AT_ONCE]
            places = ", ".join("?" for _ in chunk)
            rows = self._rows(
                f"SELECT sid FROM events WHERE tick = ? AND event = '{Step.MISS}' AND sid IN ({places})", run, *chunk
            )
            found.update(row["sid"] for row in rows)
        return frozenset(found)

    def _write_answer(self, tick: str, given: GivenAnswer) -> None:
        self.connection.execute(
            "INSERT INTO given_answers (fingerprint, tick, answer) VALUES (?, ?, ?)",
            (given.fingerprint, tick, given.answer),
        )
        if given.answer in (Answer.RELEASED, Answer.PROOF):
            self.connection.execute(
                "INSERT OR IGNORE INTO credits (fingerprint, since) SELECT ?, started_at FROM ticks WHERE tick = ?",
                (given.fingerprint, tick),
            )

    # --- writing ----------------------------------------------------------------------------------------------------

    def record(self, tick: str, events: Sequence[Event], answers: Sequence[GivenAnswer] = ()) -> None:
        """Write all of these, durably, in one transaction."""
        with self._transaction():
            self._write_all(tick, events, answers)

    def begin(
        self,
        tick: str,
        events: Sequence[Event],
        intents: Sequence[Event],
        *,
        is_held: Callable[[Hold], bool],
        answers: Sequence[GivenAnswer] = (),
    ) -> frozenset[str]:
        """Write these events, and the intents of all that is not held, durably, in one transaction."""
        with self._transaction():
            holds = self._newest_holds([intent.sid for intent in intents])
            held = frozenset(sid for sid, hold in holds.items() if is_held(hold))
            self._write_all(tick, [*events, *(intent for intent in intents if intent.sid not in held)], answers)
        return held

    def _write_all(self, tick: str, events: Sequence[Event], answers: Sequence[GivenAnswer]) -> None:
        for event in events:
            self._write(tick, event)
        for given in answers:
            self._write_answer(tick, given)

    def prune(self, before: datetime) -> None:
        """Forget ticks and events that are older; what is known of each (sid, expires_at) stays."""
        with self._transaction():
            self.connection.execute("DELETE FROM events WHERE at < ?", (as_text(before),))
            for (fingerprint,) in self.connection.execute("SELECT DISTINCT fingerprint FROM given_answers").fetchall():
                # What a run answered that left a release open says whether a miss may be expected there.
                self.connection.execute(
                    "DELETE FROM given_answers WHERE fingerprint = ?1 AND id <= "
                    "(SELECT id FROM given_answers WHERE fingerprint = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2) "
                    "AND tick NOT IN (SELECT intent_run FROM attempts WHERE intent_at IS NOT NULL "
                    "AND intent_run IS NOT NULL)",
                    (fingerprint, ANSWERS_KEPT),
                )
            # The newest tick and the newest admitted one are what the guard compares with.
            self.connection.execute(
                "DELETE FROM ticks WHERE started_at < ? AND seq < (SELECT max(seq) FROM ticks) "
                "AND seq <> coalesce((SELECT max(seq) FROM ticks WHERE admitted AND kind = 'tick'), 0)",
                (as_text(before),),
            )
