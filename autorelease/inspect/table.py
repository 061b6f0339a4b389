"""The doctor's look at the operator's table: rights, statuses, columns, index. Asks the ledger, and only reads."""

import os
import stat
from datetime import datetime
from grp import getgrgid
from pathlib import Path

from autorelease.errors import UnusableError
from autorelease.inspect import Check, State, page
from autorelease.ledger import Ledger
from autorelease.ledger.rows import StoredRow, read_row
from autorelease.ledger.values import Vocabulary, shown
from autorelease.model import InvalidRow, RawValue
from autorelease.settings import Settings
from autorelease.sqlitefile import check_writable, is_wal
from autorelease.text import user_name

# More than these, and the column is hardly one of statuses.
MOST_STATUSES = 20
# Below this the whole table is read in a moment, with or without an index.
SMALL_TABLE = 10_000
UNUSABLE = page("Exit 5: ledger or journal unusable")
CLASSES = {"epoch": {"integer", "real"}, "epoch_ms": {"integer", "real"}, "iso8601": {"text"}}


def rights(path: Path, what: str, service: int) -> Check:
    """Whether the service can write a database and its folder. service: the uid that it runs as.

    What a user may is known for certain to that user alone.
    """
    name = f"{what} rights"
    told = f"{path} {_owned(path)}, folder {_owned(path.parent)}"
    if os.geteuid() != service:
        remedy = f"runuser -u {user_name(service)} -- autorelease doctor"
        return Check(
            name, State.WARN, f"asked as uid {os.geteuid()}, which says nothing of the service: {told}", remedy
        )
    try:
        check_writable(path, what)
    except UnusableError as error:
        return Check(name, State.FAIL, str(error), UNUSABLE)
    if is_wal(path) and _is_trap(path):
        message = f"in WAL mode, and its folder does not hand its group on to the files that appear there: {told}"
        return Check(name, State.WARN, message, f"chmod 2770 {path.parent}")
    return Check(name, State.OK, told)


def _is_trap(path: Path) -> bool:
    """Whether -wal and -shm that we make may be files that the owner's program cannot write."""
    return os.geteuid() not in (0, path.stat().st_uid) and not path.parent.stat().st_mode & stat.S_ISGID


def _owned(path: Path) -> str:
    state = path.stat()
    try:
        group = getgrgid(state.st_gid).gr_name
    except KeyError:
        group = str(state.st_gid)
    return f"{stat.S_IMODE(state.st_mode):04o} {user_name(state.st_uid)}:{group}"


def statuses(ledger: Ledger, words: Vocabulary) -> Check:
    """Each status with how many rows have it, and what it means to a tick."""
    found = ledger.statuses(MOST_STATUSES + 1)
    told = ", ".join(
        f"{shown(status, 40)} {rows} ({_meaning(status, words)})" for status, rows in found[:MOST_STATUSES]
    )
    if len(found) > MOST_STATUSES:
        message = f"more than {MOST_STATUSES} different ones; is this the right column? {told}"
        return Check("statuses", State.WARN, message, "[ledger.columns] status in the configuration")
    if found and words.released not in [status for status, _ in found] and not ledger.shape().is_view:
        message = f"no row says {words.released!r}, which is right only before the first release: {told}"
        return Check("statuses", State.WARN, message, "[ledger] released in the configuration")
    if not found and words.where:
        message = "no row of the table is one that [ledger] where admits"
        return Check("statuses", State.WARN, message, "[ledger] where in the configuration")
    return Check("statuses", State.OK, told or "the table is empty")


def _meaning(status: RawValue, words: Vocabulary) -> str:
    row = read_row(StoredRow("1", status, None), words)
    if isinstance(row, InvalidRow):
        return f"not understood: {row.reason}"
    if row.released:
        return "released"
    return "inactive: nothing to release" if row.settled else "live: released when its time is up"


def columns(ledger: Ledger, settings: Settings) -> Check:
    """Which column is what, and whether the expiries are stored as the configuration says."""
    shape = ledger.shape()
    told = ", ".join(f"{column.role} = {column.name} {column.declared}".rstrip() for column in shape.columns)
    if shape.is_view:
        told = f"a view; {f'stamped is {shape.base}' if shape.base else 'nothing is stamped'}: {told}"
    if shape.absent:
        told += f"; absent: {', '.join(shape.absent)}"
    if "vm_ref" in settings.named_columns():
        told += "; a NULL vm_ref is invalid, because the file names that column"
    told += f'; references = "{settings.ledger.references}"'
    told += "".join(f"; only rows with {name} = {value!r}" for name, value in settings.ledger.where.items())
    spelling = settings.ledger.timestamps
    stored = {kind for kind, rows in shape.expiries.items() if rows and kind != "null"}
    if stored and not stored & CLASSES[spelling]:
        message = f'timestamps = "{spelling}", but every live expires_at is {" or ".join(sorted(stored))}: {told}'
        return Check("columns", State.FAIL, message, "[ledger] timestamps in the configuration")
    if not shape.is_base_key_unique:
        message = f"nothing keeps two rows of the base table from having the same key: {told}"
        return Check("columns", State.WARN, message, "a PRIMARY KEY or UNIQUE index on [ledger.stamp] sid in its table")
    if not shape.is_sid_unique and not shape.is_view:
        message = f"nothing keeps two rows from having the same sid, so every row is looked up twice: {told}"
        return Check(
            "columns", State.WARN, message, "a PRIMARY KEY or UNIQUE index on the sid alone, of type TEXT or INTEGER"
        )
    return Check("columns", State.OK, told)


def index(ledger: Ledger, words: Vocabulary, now: datetime, settings: Settings) -> Check:
    """How the due rows are found. The statement that would help is told, and never run."""
    access = ledger.due_access(now, settings.release.grace)
    counted = ledger.statuses(MOST_STATUSES)
    rows = sum(number for _, number in counted)
    settled = sum(number for status, number in counted if _is_settled(status, words))
    if access.is_indexed and not (access.has_settled and settled > SMALL_TABLE):
        return Check("index", State.OK, access.how)
    if access.is_indexed:
        message = f"the index holds {settled} settled rows as well, which every tick passes by: {access.how}"
        return Check("index", State.WARN, message, access.remedy)
    if rows > SMALL_TABLE:
        return Check("index", State.WARN, f"none is used for {rows} rows: {access.how}", access.remedy)
    return Check("index", State.OK, f"none is needed for {rows} rows; should they become many: {access.remedy}")


def _is_settled(status: RawValue, words: Vocabulary) -> bool:
    row = read_row(StoredRow("1", status, None), words)
    return not isinstance(row, InvalidRow) and row.settled
