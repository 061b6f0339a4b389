"""The journal in SQLite. One thread alone uses it; every `record` is durable when it returns."""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

from autorelease.errors import UnusableError
from autorelease.journal import Event, GivenAnswer
from autorelease.journal.answers import Answers
from autorelease.journal.audits import Audits
from autorelease.journal.memory import Memory
from autorelease.journal.rows import as_text
from autorelease.journal.schema import bring_up_to_date
from autorelease.journal.ticks import Ticks
from autorelease.model import Hold
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
    with ExitStack() as unless_whole:
        # Left behind, it would be taken for a journal that is there already.
        unless_whole.callback(path.unlink, missing_ok=True)
        _fill(path)
        unless_whole.pop_all()


def _fill(path: Path) -> None:
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


class SQLiteJournal(Ticks, Memory, Answers, Audits):
    """See `autorelease.journal.Journal`."""

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
            holds = self._applying([(intent.sid, intent.provisioner) for intent in intents])
            held = frozenset(sid for sid, hold in holds.items() if is_held(hold))
            self._write_all(tick, [*events, *(intent for intent in intents if intent.sid not in held)], answers)
        return held

    def _write_all(self, tick: str, events: Sequence[Event], answers: Sequence[GivenAnswer]) -> None:
        self._write(tick, events)
        self._write_answers(tick, answers)

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
            forgotten = self.connection.execute(
                "DELETE FROM ticks WHERE started_at < ? AND seq < (SELECT max(seq) FROM ticks) "
                "AND seq <> coalesce((SELECT max(seq) FROM ticks WHERE admitted AND kind = 'tick'), 0)",
                (as_text(before),),
            )
            if forgotten.rowcount:
                self._prune_lists()
