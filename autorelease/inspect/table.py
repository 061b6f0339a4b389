"""The doctor's look at the operator's table: rights and columns. Asks the ledger, and only reads."""

import os
import stat
from grp import getgrgid
from pathlib import Path

from autorelease.errors import UnusableError
from autorelease.inspect import Check, State, page
from autorelease.ledger import Ledger
from autorelease.settings import Settings
from autorelease.sqlitefile import check_writable, is_wal
from autorelease.text import user_name

UNUSABLE = page("Exit 5: ledger or journal unusable")
CLASSES = {"epoch": {"integer", "real"}, "epoch_ms": {"integer", "real"}, "iso8601": {"text"}}


def rights(path: Path, what: str, service: int) -> Check:
    """Whether the service can write a database and its folder. service: the uid that it runs as.

    What a user may is known for certain to that user alone.
    """
    name = f"{what} rights"
    owners = f"{path} {_owned(path)}, folder {_owned(path.parent)}"
    if os.geteuid() != service:
        remedy = f"runuser -u {user_name(service)} -- autorelease doctor"
        return Check(
            name,
            State.WARN,
            f"the service runs as {user_name(service)}, and only that user can try its rights: {owners}",
            remedy,
        )
    try:
        check_writable(path, what)
    except UnusableError as error:
        return Check(name, State.FAIL, str(error), UNUSABLE)
    if is_wal(path) and _is_trap(path):
        message = f"in WAL mode, and its folder does not hand its group on to the files that appear there: {owners}"
        return Check(name, State.WARN, message, f"chmod 2770 {path.parent}")
    return Check(name, State.OK, owners)


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


def columns(ledger: Ledger, settings: Settings) -> Check:
    """Which column is what, and whether the expiries are stored as the configuration says."""
    shape = ledger.shape()
    described = ", ".join(f"{column.role} = {column.name} {column.declared}".rstrip() for column in shape.columns)
    if shape.is_view:
        described = f"a view; {f'stamped is {shape.base}' if shape.base else 'nothing is stamped'}: {described}"
    if shape.absent:
        described += f"; absent: {', '.join(shape.absent)}"
    if "vm_ref" in settings.named_columns():
        described += "; a NULL vm_ref is invalid, because the file names that column"
    described += f'; references = "{settings.ledger.references}"'
    described += "".join(f"; only rows with {name} = {value!r}" for name, value in settings.ledger.where.items())
    spelling = settings.ledger.timestamps
    stored = {kind for kind, rows in shape.expiries.items() if rows and kind != "null"}
    if stored and not stored & CLASSES[spelling]:
        message = f'timestamps = "{spelling}", but every live expires_at is {" or ".join(sorted(stored))}: {described}'
        return Check("columns", State.FAIL, message, "[ledger] timestamps in the configuration")
    if not shape.is_base_key_unique:
        message = f"nothing keeps two rows of the base table from having the same key: {described}"
        return Check("columns", State.WARN, message, "a PRIMARY KEY or UNIQUE index on [ledger.stamp] sid in its table")
    if not shape.is_sid_unique and not shape.is_view:
        message = f"nothing keeps two rows from having the same sid, so every row is looked up twice: {described}"
        return Check(
            "columns", State.WARN, message, "a PRIMARY KEY or UNIQUE index on the sid alone, of type TEXT or INTEGER"
        )
    return Check("columns", State.OK, described)
