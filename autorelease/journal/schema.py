"""The tables of the SQLite journal, and the steps from each version of them to the next.

A step is never changed once released: a new version is a new step. One exception: up to a certain release, the first
two steps made STRICT tables, where the SQLite of then could. SQLite before 3.37 cannot open a file with such a table.
They make plain ones now, in new files alone: no later step may need the one or the other.
"""

import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlite_utils import Database

# "arel": tells a journal from any other SQLite file.
APPLICATION_ID = 0x6172656C


def _first_tables(database: "Database") -> None:
    database.table("ticks").create(
        {
            "seq": int,
            "tick": str,
            "now": str,
            "started_at": str,
            "ends_by": str,
            "finished_at": str,
            "pid": int,
            "host": str,
            "version": str,
            "actor": str,
            "boot_id": str,
            "admitted": int,
            "status": str,
            "exit_code": int,
            "report": str,
            "confirmable": int,
        },
        pk="seq",
        not_null={"tick", "now", "started_at", "ends_by", "pid", "host", "version", "actor", "admitted"},
    )
    database.table("ticks").create_index(["tick"], unique=True)
    database.table("events").create(
        {
            "id": int,
            "at": str,
            "tick": str,
            "sid": str,
            "event": str,
            "outcome": str,
            "reason": str,
            "evidence": str,
            "expires_at": str,
            "error": str,
            "duration_ms": int,
            "provisioner": str,
            "answer": str,
        },
        pk="id",
        not_null={"at", "tick", "sid", "event", "provisioner"},
    )
    database.table("events").create_index(["sid"])
    database.table("events").create_index(["tick"])
    # Partial indexes, which sqlite-utils cannot make.
    database.conn.execute("CREATE INDEX answers ON events (provisioner, id) WHERE answer IS NOT NULL")
    # One row for each (sid, expires_at) ever touched, kept for ever. expires_at is '' for "never".
    database.table("attempts").create(
        {
            "sid": str,
            "expires_at": str,
            "provisioner": str,
            "vm_ref": str,
            "outcome": str,
            "skipped": str,
            "intent_at": str,
            "failed_ticks": int,
            "pending_ticks": int,
            "next_attempt_at": str,
            "quarantined": int,
            "last_error": str,
        },
        pk=("sid", "expires_at"),
        not_null={"sid", "expires_at", "provisioner", "vm_ref", "failed_ticks", "pending_ticks", "quarantined"},
    )
    database.conn.execute("CREATE INDEX open_intents ON attempts (intent_at, sid) WHERE intent_at IS NOT NULL")


def _holds_and_clocks(database: "Database") -> None:
    # Kept for ever. A sid's newest hold is the one that counts; it follows the sid across renewals.
    database.table("holds").create(
        {
            "id": int,
            "sid": str,
            "held_at": str,
            "until": str,
            "reason": str,
            "actor": str,
            "ended_at": str,
            "ended_by": str,
        },
        pk="id",
        not_null={"sid", "held_at", "reason", "actor"},
    )
    database.table("holds").create_index(["sid"])
    for column in ("kind TEXT NOT NULL DEFAULT 'tick'", "reason TEXT", "ledger TEXT", "boot_seconds REAL"):
        database.conn.execute(f"ALTER TABLE ticks ADD COLUMN {column}")
    database.conn.execute(
        "CREATE INDEX releases ON events (id, sid, expires_at) WHERE outcome IN ('released', 'already_released')"
    )


def _runs_and_belief(database: "Database") -> None:
    run = database.conn.execute
    # Which process a run is, so that one that is gone is told from one that works. admission, unproven: the rows that a
    # plan would have released for the first time, and those whose "not found" was not believed, as sorted digests.
    for column in ("pid_started INTEGER", "pid_namespace TEXT", "admission BLOB", "unproven BLOB"):
        run(f"ALTER TABLE ticks ADD COLUMN {column}")
    # intent_at, intent_run, intent_under: since when, by which run and under which fingerprint ('': none) the end of a
    # release is unknown; begun_at and begun_run: the last call. accepted: whether the provisioner said RELEASED or
    # PENDING; accepted_under: its fingerprint then.
    for name in ("intent_run", "intent_under", "begun_at", "begun_run", "conflict_at", "accepted", "accepted_under"):
        run(f"ALTER TABLE attempts ADD COLUMN {name} TEXT")
    # Ticks are kept for a year; each one looks for these few.
    run("CREATE INDEX unfinished ON ticks (seq) WHERE status IS NULL")
    run("CREATE INDEX plans ON ticks (seq) WHERE admission IS NOT NULL")
    run("CREATE INDEX open_conflicts ON attempts (conflict_at) WHERE conflict_at IS NOT NULL")
    # What provisioners answered, in order of arrival; and which of them have shown that they can release.
    run(
        "CREATE TABLE given_answers "
        "(id INTEGER PRIMARY KEY, fingerprint TEXT NOT NULL, tick TEXT NOT NULL, answer TEXT NOT NULL)"
    )
    run("CREATE INDEX answers_of ON given_answers (fingerprint, id)")
    run("CREATE TABLE credits (fingerprint TEXT PRIMARY KEY, since TEXT NOT NULL) WITHOUT ROWID")
    run("UPDATE attempts SET conflict_at = intent_at WHERE intent_at IS NOT NULL AND skipped = 'conflict'")
    run(
        "UPDATE attempts SET begun_at = intent_at, begun_run = (SELECT tick FROM events WHERE sid = attempts.sid "
        "AND event = 'intent' AND coalesce(expires_at, '') = attempts.expires_at AND at = attempts.intent_at "
        "ORDER BY id DESC LIMIT 1) WHERE intent_at IS NOT NULL"
    )
    # Where several runs began it, nobody wrote down which of them left it open.
    run(
        "UPDATE attempts SET intent_run = begun_run WHERE intent_at IS NOT NULL AND 1 = (SELECT count(DISTINCT tick) "
        "FROM events WHERE sid = attempts.sid AND event = 'intent' "
        "AND coalesce(expires_at, '') = attempts.expires_at)"
    )


def _holds_of_many(database: "Database") -> None:
    run = database.conn.execute
    # A hold whose sid is '' is of all that this provisioner serves; where that is NULL, too, of everything. for_…: what
    # the row of a sid named when its hold was made; NULL: that was not written down.
    for name in ("provisioner", "for_provisioner", "for_vm_ref", "for_vm_uid", "for_owner"):
        run(f"ALTER TABLE holds ADD COLUMN {name} TEXT")
    # The newest of each is asked for, and those of many with every group that begins.
    run("CREATE INDEX holds_of_each ON holds (sid, provisioner)")
    # Ticks are many, and operators' releases few.
    run("CREATE INDEX operators_releases ON ticks (seq) WHERE kind = 'release'")
    # Whether a release was begun after the conflict was found. By the order of writing: a clock may be put back.
    run("ALTER TABLE attempts ADD COLUMN begun_since_conflict INTEGER")
    run("UPDATE attempts SET begun_since_conflict = begun_at > conflict_at WHERE conflict_at IS NOT NULL")


def _audits_and_lists(database: "Database") -> None:
    run = database.conn.execute
    # The long lists of reports: each is stored once for as long as it stays what it was. kind: of which member.
    run("CREATE TABLE lists (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, content TEXT NOT NULL)")
    run("CREATE INDEX newest_list ON lists (kind, id)")
    for name in ("invalid_list", "errors_list"):
        run(f"ALTER TABLE ticks ADD COLUMN {name} INTEGER")
    # Of each ledger the last audit that was finished, and the one that is under way. ground: what its position rests
    # on; unnamed: the invalid rows that have no sid to stand in audited_invalid, of which `examples` has the first.
    run(
        "CREATE TABLE audits (id INTEGER PRIMARY KEY, ledger TEXT NOT NULL, ground TEXT NOT NULL, "
        "started_at TEXT NOT NULL, finished_at TEXT, position TEXT, rows INTEGER NOT NULL, live INTEGER NOT NULL, "
        "due INTEGER NOT NULL, unnamed INTEGER NOT NULL, examples TEXT NOT NULL, seconds REAL NOT NULL, problem TEXT)"
    )
    run(
        "CREATE TABLE audited_invalid (sid TEXT PRIMARY KEY, reason TEXT NOT NULL, audit INTEGER NOT NULL) "
        "WITHOUT ROWID"
    )


STEPS: "Sequence[Callable[[Database], None]]" = (
    _first_tables,
    _holds_and_clocks,
    _runs_and_belief,
    _holds_of_many,
    _audits_and_lists,
)
VERSION = len(STEPS)


def version_of(connection: sqlite3.Connection) -> int:
    """The version of the tables in this file; 0: none were made."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def is_journal(connection: sqlite3.Connection) -> bool:
    """Whether this file says of itself that it is a journal of ours."""
    return int(connection.execute("PRAGMA application_id").fetchone()[0]) == APPLICATION_ID


def bring_up_to_date(
    connection: sqlite3.Connection,
    steps: "Sequence[Callable[[Database], None]]" = STEPS,
    *,
    first: "Callable[[int], object] | None" = None,
) -> None:
    """Take the missing steps, all or none.

    first: called before them where the tables are of an older version, with that, while nobody else can write.
    """
    # Imported for a new or an old journal alone: it costs a tick a fifth of its start.
    from sqlite_utils import Database

    database = Database(connection, execute_plugins=False)
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = version_of(connection)
        if first is not None and 0 < version < len(steps):
            first(version)
        for step in steps[version:]:
            step(database)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(steps)}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
