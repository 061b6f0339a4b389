"""What `init` makes: a journal, or a whole folder to try things in. Overwrites nothing."""

import os
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from autorelease.errors import UnusableError, UsageError
from autorelease.journal.sqlite import make_journal
from autorelease.ledger.narrowing import indexes_of_holders
from autorelease.model import rfc3339
from autorelease.sqliteadvice import check_version

FOLDER_MODE = 0o750
FILE_MODE = 0o640
LEDGER = "allocations.db"
CONFIG = "config.toml"
JOURNAL = "journal.db"

CONFIGURATION = """\
# The configuration of autorelease. Values shown behind a # are the defaults.
# Paths are relative to this file. Secrets do not belong here.

[ledger]
url = "sqlite:///allocations.db"  # sqlite:////absolute/path.db
# table = "vm_allocations"
# released = "Released"           # the status that means released, and that is stamped; exact
# inactive = []                   # other statuses with nothing left to release: ["Cancelled"]; exact
# live = []                       # empty: every other status is live; else these alone, and the rest is invalid
# where = {}                      # only rows that have these values are ours: { service_type = "proxmox" }
# references = "folded"           # or "exact": whether WEB-1 and web-1 are one VM
# never = []                      # values of expires_at that mean "never": [0, "9999-12-31"]; of others: "not set"
# timestamps = "epoch"            # epoch | epoch_ms | iso8601
# dates = "end"                   # or "start", of the day of a date without a time; unset: such a row is invalid
# audit_every = "24h"             # how often a table of more than 20,000 live rows is looked at as a whole
# timezone = "Europe/Berlin"      # only for text without an offset; unset: such a row is invalid
# stamp = true                    # false: the provisioner's own application stamps, we only look

# [ledger.columns]                # ours = theirs; a column named here must exist
# sid = "sid"
# status = "status"
# expires_at = "expires_at"
# released_at = "released_at"     # this one and those below may be absent
# owner = "owner"
# plan = "plan"
# vm_ref = "vm_ref"               # the provisioner's own id of the VM. Unwritten: NULL = the sid. Written: invalid
# vm_uid = "vm_uid"
# provisioner = "provisioner"     # which [provisioners.NAME] serves the row; NULL: "default"
# ... and deleted_at, which has no default: where it is set, the row is settled

# [journal]
# url = "sqlite:///journal.db"
# keep = "400d"

# [release]
# grace = "0s"
# hold_grace = "24h"              # after a hold ends, before it may be released
# concurrency = 8
# timeout = "30s"                 # one call
# deadline = "45m"                # the whole tick
# attempts = 3                    # calls for one allocation within one tick
# quarantine_after = 5            # failed ticks; then one try a day

# [guard]
# max_releases = 1000
# max_percent = 50                # of the live rows
# min_fleet = 20                  # max_percent does not apply to fewer than this, but in a journal's first tick
# max_gone_percent = 50           # of a provisioner's last answers that may be "not found"
# max_clock_gap = "7d"            # since the last admitted tick

[provisioners.default]
kind = "ledger"                   # the stamp is the release: nothing but the ledger is changed
# kind = "command"
# argv = ["/usr/local/sbin/destroy-vm", "--", "{vm_ref}"]
# exists = []                     # a program that only looks: ["/usr/local/sbin/look-for-vm", "--", "{vm_ref}"]
# already = []                    # exit statuses: the VM was not there any more
# pending = []                    # accepted, and not gone yet
# retry = [75]                    # try again soon
# down = [77, 78, 126, 127]       # nothing can be released at the moment
# allow_dash = false              # whether a value may begin with a dash
"""

# Not STRICT: SQLite before 3.37 could not open the file, and an operator's own programs may use such a one.
TABLE = """
CREATE TABLE vm_allocations (
    sid TEXT NOT NULL PRIMARY KEY,
    owner TEXT,
    plan TEXT,
    provisioner TEXT,
    vm_ref TEXT,
    vm_uid TEXT,
    status TEXT NOT NULL CHECK (status IN ('Active', 'Released')),
    created_at INTEGER CHECK (typeof(created_at) IN ('integer', 'null')),
    expires_at INTEGER CHECK (typeof(expires_at) IN ('integer', 'null')),
    released_at INTEGER CHECK (typeof(released_at) IN ('integer', 'null'))
)
"""
INDEXES = (
    "CREATE INDEX vm_allocations_due ON vm_allocations (expires_at, sid) WHERE status <> 'Released'",
    *indexes_of_holders("vm_allocations", "sid", "vm_ref"),
)


def make_folder(folder: Path, *, sample: bool, now: datetime) -> None:
    """Make a folder with a configuration, a ledger (with sample rows) and a journal.

    Raises UsageError where one of the files is there already, UnusableError where the folder cannot be made or SQLite
    is too old.
    """
    check_version()
    present = [name for name in (CONFIG, LEDGER, JOURNAL) if (folder / name).exists()]
    if present:
        raise UsageError(f"{folder / present[0]} is there already, and init overwrites nothing: name another folder")
    try:
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        _make_file(folder / CONFIG, CONFIGURATION)
        _make_file(folder / LEDGER, "")
    except OSError as error:
        raise UnusableError(f"{error.filename or folder}: cannot be made: {error.strerror}") from error
    with closing(Database(folder / LEDGER, execute_plugins=False)) as database:
        database.conn.execute(TABLE)
        for index in INDEXES:
            database.conn.execute(index)
        if sample:
            database.table("vm_allocations").insert_all(sample_rows(now.replace(microsecond=0)))
    make_journal(folder / JOURNAL)


def _make_file(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def sample_rows(now: datetime) -> Iterator[dict[str, Any]]:
    """400 rows as a small provider has them: 37 are due at `now`, 3 are invalid, a big plan ends in 3 days."""
    day = timedelta(days=1)
    starter, summit = now - day, now + 3 * day
    yield from _group("overdue", 12, "basic", lambda number: now - (30 + 17 * number) * day)
    yield from _group("starter", 25, "starter", lambda _: starter)
    yield from _group("summit", 180, "summit", lambda _: summit)
    yield from _group("later", 50, "basic", lambda number: now + (10 + number) * day)
    yield from _group("forever", 20, "internal", lambda _: None)
    for row in _group("past", 109, "basic", lambda number: now - (5 + number) * day):
        yield row | {"status": "Released", "released_at": row["expires_at"] + 1800}
    yield from _group("soon", 1, "basic", lambda _: now + timedelta(minutes=1))
    yield from _invalid_rows(now)


def _group(name: str, count: int, plan: str, expires_at: Any) -> Iterator[dict[str, Any]]:
    for number in range(count):
        instant = expires_at(number)
        yield {
            "sid": f"{name}-{number:03d}",
            "owner": f"customer-{(number * 7) % 40:02d}",
            "plan": plan,
            "provisioner": None,
            "vm_ref": f"vm-{name}-{number:03d}",
            "vm_uid": None,
            "status": "Active",
            "created_at": None,
            "expires_at": None if instant is None else int(instant.timestamp()),
            "released_at": None,
        }


def _invalid_rows(now: datetime) -> Iterator[dict[str, Any]]:
    [row] = _group("broken", 1, "basic", lambda _: now - timedelta(days=2))
    yield row | {"sid": "broken-milliseconds", "vm_ref": "vm-b1", "expires_at": row["expires_at"] * 1000}
    yield row | {"sid": "broken-released-once", "vm_ref": "vm-b2", "released_at": row["expires_at"]}
    # The VM's name was given to a new owner, whose allocation has not expired.
    yield row | {"sid": "broken-reused-name", "vm_ref": "vm-later-000"}


def describe_folder(folder: Path, *, sample: bool, now: datetime) -> Iterator[str]:
    """What was made and what to type next."""
    yield f"made {folder / CONFIG}, {folder / LEDGER} and {folder / JOURNAL} at {rfc3339(now.replace(microsecond=0))}"
    if sample:
        yield "the ledger holds 400 sample rows: 37 have expired, 3 are invalid, one expires in a minute"
    yield f"next: autorelease --config {folder / CONFIG} list-expired"
