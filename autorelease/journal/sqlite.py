"""The journal in SQLite. One thread alone uses it; every `record` is durable when it returns."""

import json
import os
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from autorelease.errors import ConfigurationError, ExitCode, UnusableError
from autorelease.journal import Event, GivenAnswer, OpenIntent, PastTick, Step, TickKind, TickStart
from autorelease.journal.rows import (
    ACKNOWLEDGED,
    CRASHED,
    HISTORY_FIELDS,
    HOLD_COLUMNS,
    MEMORY_COLUMNS,
    RENAMED,
    START_FIELDS,
    WITH_PLANS,
    WITHOUT_PLANS,
    as_instant,
    as_key,
    as_text,
    changes_of,
    of_vm,
    read_hold,
    read_known,
    read_open_intent,
    read_past_tick,
    read_start,
)
from autorelease.journal.schema import VERSION, bring_up_to_date, is_journal, version_of
from autorelease.journal.upgrade import upgrade
from autorelease.model import NOTHING_KNOWN, Allocation, Answer, Hold, Known, rfc3339
from autorelease.sqliteadvice import check_version
from autorelease.sqlitefile import OpenFile, check_file, check_writable, connect, speaking_of
from autorelease.text import user_name

REMEDY = (
    "Never had one: autorelease init. Lost: put back its newest copy; a new one has forgotten every hold (runbook.md, "
    '"The journal is lost")'
)
PAIRS_AT_ONCE = 500
PAGE_ROWS = 500
MODE = 0o640
# The answers of each fingerprint that are kept: more than belief ever looks back on.
ANSWERS_KEPT = 200
# What a report says of itself; an error that stands in its place says another word.
COUNTED = ("success", "partial", "refused", "stopped")


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


class SQLiteJournal:
    """See `autorelease.journal.Journal`."""

    def __init__(self, path: Path, *, read_only: bool, may_be_older: bool = False) -> None:
        check_file(path, "journal", REMEDY)
        if not read_only:
            _refuse_foreign_root(path)
            check_writable(path, "journal")
        self._path = path
        self._file = OpenFile(path, "journal")
        self.connection = connect(path, read_only=read_only)
        try:
            with self._file.in_use():
                self._check(may_be_older=may_be_older)
                if not read_only:
                    self.connection.execute("PRAGMA journal_mode = TRUNCATE")
        except BaseException:
            self.connection.close()
            raise

    def _check(self, *, may_be_older: bool) -> None:
        if not is_journal(self.connection):
            raise UnusableError(
                f"{self._path}: is not a journal of autorelease. Check [journal] url in the configuration, or make "
                "one at another path with: autorelease init"
            )
        version = version_of(self.connection)
        if version > VERSION:
            raise UnusableError(f"{self._path}: was written by a newer autorelease ({version}): upgrade")
        if version < VERSION and not may_be_older:
            raise UnusableError(
                f"{self._path}: is of an older version: the next tick brings it up to date. Not to wait for that, and "
                "to release nothing: autorelease init"
            )

    def version(self) -> int | None:
        """A number that changes whenever another connection has committed (SQLite's PRAGMA data_version)."""
        with self._file.in_use():
            return int(self.connection.execute("PRAGMA data_version").fetchone()[0])

    def is_older(self) -> bool:
        """Whether its tables are those of an older version, in which nothing but `bring_up_to_date` is of use."""
        with self._file.in_use():
            return version_of(self.connection) < VERSION

    def bring_up_to_date(self) -> Path | None:
        """Give an older journal the tables of the present version; returns the copy that was made of it before."""
        with self._file.in_use():
            return upgrade(self.connection, self._path)

    # --- ticks ------------------------------------------------------------------------------------------------------

    def newest_tick(self) -> PastTick | None:
        """The last tick that was begun; an operator's release is none."""
        return next(self._past_ticks("WHERE kind = 'tick' ORDER BY seq DESC LIMIT 1", columns=WITH_PLANS), None)

    def last_admitted_tick(self) -> PastTick | None:
        """The last tick that the guard let through, whatever its clock said."""
        condition = "WHERE kind = 'tick' AND admitted ORDER BY seq DESC LIMIT 1"
        return next(self._past_ticks(condition, columns=WITH_PLANS), None)

    def last_swept_tick(self) -> PastTick | None:
        """The last tick that ran through: whose exit code was 0 or 3."""
        swept = f"({ExitCode.OK:d}, {ExitCode.NOT_ALL_WELL:d})"
        return next(self._past_ticks(f"WHERE kind = 'tick' AND exit_code IN {swept} ORDER BY seq DESC LIMIT 1"), None)

    def last_counted_tick(self) -> PastTick | None:
        """The last tick that ended with a report, and not with an error in place of one."""
        words = ", ".join(f"'{word}'" for word in COUNTED)
        return next(self._past_ticks(f"WHERE kind = 'tick' AND status IN ({words}) ORDER BY seq DESC LIMIT 1"), None)

    def unfinished_runs(self) -> Sequence[TickStart]:
        """The runs that never ended: those that are under way, and those that were killed since the last tick."""
        statement = f"SELECT {', '.join(START_FIELDS)} FROM ticks WHERE status IS NULL ORDER BY seq"
        return [read_start(row) for row in self._rows(statement)]

    def open_tick(self, start: TickStart, running: Collection[str] = ()) -> None:
        """Begin a tick; every older run that never ended is marked as crashed, but for those that are `running`.

        An operator's release runs beside a tick, without its lock, and says nothing about others.
        """
        values = [as_text(value) if isinstance(value, datetime) else value for value in astuple(start)]
        places = ", ".join("?" for _ in values)
        with self._transaction():
            if start.kind is TickKind.TICK:
                spared = ", ".join("?" for _ in running)
                self.connection.execute(
                    f"UPDATE ticks SET status = '{CRASHED}' WHERE status IS NULL AND tick NOT IN ({spared})",
                    tuple(running),
                )
            self.connection.execute(
                f"INSERT INTO ticks ({', '.join(START_FIELDS)}, admitted) VALUES ({places}, 0)",
                values,
            )

    def note_plan(self, tick: str, identities: bytes, *, is_admitted: bool) -> None:
        """Note what this tick plans to release for the first time, and whether the guard let it through."""
        with self._transaction():
            # Two are ever asked for: of the newest tick, and of the newest that was admitted.
            self.connection.execute(
                "UPDATE ticks SET admission = NULL, unproven = NULL WHERE admission IS NOT NULL AND tick <> ? AND "
                "(? OR seq <> (SELECT max(seq) FROM ticks WHERE admitted AND kind = 'tick'))",
                (tick, is_admitted),
            )
            self.connection.execute(
                "UPDATE ticks SET admitted = ?, admission = ? WHERE tick = ?", (is_admitted, identities, tick)
            )

    def close_tick(
        self,
        tick: str,
        finished_at: datetime,
        report: Mapping[str, Any],
        *,
        confirmable: int | None = None,
        unproven: bytes | None = None,
    ) -> None:
        """End a tick with its report, or with the error object of one that could not go on."""
        with self._transaction():
            self.connection.execute(
                "UPDATE ticks SET finished_at = ?, status = ?, exit_code = ?, report = ?, confirmable = ?, "
                "unproven = ? WHERE tick = ?",
                (
                    as_text(finished_at),
                    report.get("status", report.get("error")),
                    report["exit_code"],
                    json.dumps(report),
                    confirmable,
                    unproven,
                    tick,
                ),
            )

    def ticks(self, tick: str | None = None) -> Iterator[PastTick]:
        """The ticks, newest first; or this one alone."""
        if tick is not None:
            yield from self._past_ticks("WHERE tick = ?", tick)
            return
        last = 2**62
        while True:
            page = self._rows(
                f"SELECT {WITHOUT_PLANS} FROM ticks WHERE seq < ? ORDER BY seq DESC LIMIT {PAGE_ROWS}",
                last,
            )
            yield from map(read_past_tick, page)
            if len(page) < PAGE_ROWS:
                return
            last = page[-1]["seq"]

    def _past_ticks(self, condition: str, *values: str, columns: str = WITHOUT_PLANS) -> Iterator[PastTick]:
        yield from map(read_past_tick, self._rows(f"SELECT {columns} FROM ticks {condition}", *values))

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

    # --- holds ------------------------------------------------------------------------------------------------------

    def hold_of(self, sid: str) -> Hold | None:
        """The newest hold of this sid, whether it has ended or not."""
        return self._newest_holds([sid]).get(sid)

    def holds(self, ended_after: datetime) -> Sequence[Hold]:
        """The newest hold of each sid, unless it had ended by then."""
        rows = self._rows(
            f"SELECT {HOLD_COLUMNS} FROM holds WHERE id IN (SELECT max(id) FROM holds GROUP BY sid) "
            "AND coalesce(ended_at, until, '9') > ? ORDER BY id",
            as_text(ended_after),
        )
        return [read_hold(row) for row in rows]

    def _newest_holds(self, sids: Sequence[str]) -> dict[str, Hold]:
        places = ", ".join("?" for _ in sids)
        rows = self._rows(f"SELECT {HOLD_COLUMNS} FROM holds WHERE sid IN ({places}) ORDER BY id", *sids)
        return {row["sid"]: read_hold(row) for row in rows}

    def hold(self, hold: Hold) -> datetime | None:
        """Hold a sid, in the place of an earlier hold; returns when a running tick has begun its release."""
        with self._transaction():
            self._end_hold(hold.sid, hold.held_at, hold.actor)
            self.connection.execute(
                "INSERT INTO holds (sid, held_at, until, reason, actor) VALUES (?, ?, ?, ?, ?)",
                (hold.sid, as_text(hold.held_at), as_text(hold.until) if hold.until else None, hold.reason, hold.actor),
            )
            until = f", until {rfc3339(hold.until)}" if hold.until else ""
            self._note(Step.HOLD, hold.sid, hold.held_at, f"by {hold.actor}{until}", hold.reason)
            begun = self.connection.execute(
                "SELECT max(begun_at) FROM attempts WHERE sid = ? AND intent_at IS NOT NULL "
                "AND begun_run IN (SELECT tick FROM ticks WHERE status IS NULL)",
                (hold.sid,),
            ).fetchone()[0]
        return as_instant(begun or "")

    def end_hold(self, sid: str, at: datetime, actor: str) -> Hold | None:
        """End the hold of a sid; returns it as it was, None where there is none that has not ended."""
        with self._transaction():
            ended = self._end_hold(sid, at, actor)
            if ended is not None:
                self._note(Step.UNHOLD, sid, at, f"by {actor}", None)
        return ended

    def _end_hold(self, sid: str, at: datetime, actor: str) -> Hold | None:
        newest = self.hold_of(sid)
        if newest is None or (newest.ends_at is not None and newest.ends_at <= at):
            return None
        self.connection.execute(
            "UPDATE holds SET ended_at = ?, ended_by = ? WHERE id = (SELECT max(id) FROM holds WHERE sid = ?)",
            (as_text(at), actor, sid),
        )
        return newest

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

    def _note(
        self, step: Step, sid: str, at: datetime, evidence: str, reason: str | None, expires_at: datetime | None = None
    ) -> None:
        """Write down what an operator did; it belongs to no tick."""
        self.connection.execute(
            "INSERT INTO events (at, tick, sid, event, reason, evidence, expires_at, provisioner) "
            "VALUES (?, '', ?, ?, ?, ?, ?, '')",
            (as_text(at), sid, step, reason, evidence, as_text(expires_at) if expires_at else None),
        )

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

    def recent_releases(self, limit: int) -> Sequence[tuple[str, datetime | None]]:
        """The (sid, expires_at) that ended as released or already released last, newest first; each sid once."""
        rows = self._rows(
            "SELECT sid, expires_at FROM events WHERE outcome IN ('released', 'already_released') "
            "ORDER BY id DESC LIMIT ?",
            limit,
        )
        newest: dict[str, datetime | None] = {}
        for row in rows:
            newest.setdefault(row["sid"], as_instant(row["expires_at"] or ""))
        return list(newest.items())

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

    def _write(self, tick: str, event: Event) -> None:
        self.connection.execute(
            "INSERT INTO events (at, tick, sid, event, outcome, reason, evidence, expires_at, error, duration_ms, "
            "provisioner) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                as_text(event.at),
                tick,
                event.sid,
                event.step,
                event.outcome,
                event.reason,
                event.evidence,
                as_text(event.expires_at) if event.expires_at else None,
                event.error,
                event.duration_ms,
                event.provisioner,
            ),
        )
        key = (event.sid, as_key(event.expires_at))
        self.connection.execute(
            "INSERT INTO attempts (sid, expires_at, provisioner, vm_ref, failed_ticks, pending_ticks, quarantined) "
            "VALUES (?, ?, ?, ?, 0, 0, 0) "
            f"ON CONFLICT (sid, expires_at) DO UPDATE SET {RENAMED}",
            (*key, event.provisioner, event.vm_ref, as_text(event.at)),
        )
        changes = changes_of(event, tick)
        if changes:
            assignments = ", ".join(f"{name} = {expression}" for name, (expression, _) in changes.items())
            self.connection.execute(
                f"UPDATE attempts SET {assignments} WHERE sid = ? AND expires_at = ?",
                (*(value for _, value in changes.values()), *key),
            )

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

    def events(self, *, sid: str | None = None, tick: str | None = None) -> Iterator[Mapping[str, Any]]:
        """The events as `history` shows them, oldest first; `now` is that of their tick."""
        conditions, values = ["id > ?"], []
        for column, value in (("sid", sid), ("tick", tick)):
            if value is not None:
                conditions.append(f"events.{column} = ?")
                values.append(value)
        columns = ", ".join(f"events.{name}" for name in HISTORY_FIELDS)
        last = 0
        while True:
            page = self._rows(
                f"SELECT id, {columns}, ticks.now FROM events LEFT JOIN ticks USING (tick) "
                f"WHERE {' AND '.join(conditions)} ORDER BY id LIMIT {PAGE_ROWS}",
                last,
                *values,
            )
            for row in page:
                event = dict(row)
                last = event.pop("id")
                # What an operator did belongs to no tick.
                event["tick"] = event["tick"] or None
                yield event
            if len(page) < PAGE_ROWS:
                return

    def close(self) -> None:
        """End all use of the database."""
        self.connection.close()

    def _rows(self, statement: str, *values: str | int | None) -> list[sqlite3.Row]:
        with self._file.in_use():
            cursor = self.connection.cursor()
            cursor.row_factory = sqlite3.Row
            return cursor.execute(statement, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._file.in_use():
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.connection.execute("COMMIT")
            finally:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")


def _refuse_foreign_root(path: Path) -> None:
    """Raise ConfigurationError for root in another user's folder: what root writes there the service cannot."""
    owner = path.parent.stat().st_uid
    if os.geteuid() == 0 and owner != 0:
        name = user_name(owner)
        raise ConfigurationError(
            f"{path}: its folder belongs to {name}, and what root writes there the service could not: "
            f"run as that user: runuser -u {name} -- autorelease …"
        )
