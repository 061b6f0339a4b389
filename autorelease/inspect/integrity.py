"""The doctor's deep look: whether the files of ledger and journal are damaged. Reads all of them, and takes long."""

import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from shlex import quote

from autorelease.deciding.running import running
from autorelease.errors import UnusableError
from autorelease.inspect import Check, State, page
from autorelease.journal import is_missing, open_journal_reader
from autorelease.settings import Settings
from autorelease.sqlitecheck import find_damage
from autorelease.sqlitefile import quoted

MOST_LINES = 5
UNUSABLE = page("Exit 5: ledger or journal unusable")
LOST = page("The journal is lost")
DAMAGED = page("The ledger is damaged")
# What an index made anew puts right. Of a unique one that lists two rows as one, nothing does.
OF_AN_INDEX = re.compile(r"row \S+ missing from index .*|wrong # of entries in index .*", re.DOTALL)
# The file is sound; a row does not say what the table's own definition asks for.
OF_A_ROW = re.compile(r"(?:CHECK constraint failed|NULL value|NUMERIC value|TEXT value|non-\w+ value) in .*", re.DOTALL)


def examine_integrity(settings: Settings, now: datetime) -> Iterator[Check]:
    """A line for the ledger's table with its indexes, and one for the journal.

    Not while a tick runs: whoever writes to a file without WAL has to wait until this look is over.
    """
    if _is_tick_running(settings, now):
        message = "not looked at while a tick is running, which could not write meanwhile"
        yield Check("integrity", State.WARN, message, "wait for its end (autorelease history), then look again")
        return
    yield _ledger(settings.ledger_path, settings.ledger.table)
    if not is_missing(settings.journal_path):
        yield _journal(settings.journal_path)


def _is_tick_running(settings: Settings, now: datetime) -> bool:
    try:
        with closing(open_journal_reader(settings)) as journal:
            return bool(running(journal, now))
    except UnusableError:
        # That is for the look at the journal to say.
        return False


def _ledger(path: Path, table: str) -> Check:
    name = "integrity of the ledger"
    try:
        found = find_damage(path, table)
    except UnusableError as error:
        return Check(name, State.FAIL, str(error), UNUSABLE)
    if not found:
        return Check(name, State.OK, f"{path}: the table {table!r} and its indexes are sound")
    message = f"{path}: {_listed(found)}"
    if all(OF_A_ROW.fullmatch(line) for line in found):
        return Check(name, State.WARN, message, "correct these rows: the table's own definition does not allow them")
    if all(OF_AN_INDEX.fullmatch(line) for line in found):
        statement = f"REINDEX main.{quoted(table)};"
        return Check(name, State.FAIL, message, f"sqlite3 {quote(str(path))} {quote(statement)}; then look again")
    return Check(name, State.FAIL, message, f"systemctl stop autorelease.timer; {DAMAGED}")


def _journal(path: Path) -> Check:
    name = "integrity of the journal"
    try:
        found = find_damage(path)
    except UnusableError as error:
        return Check(name, State.FAIL, str(error), UNUSABLE)
    if not found:
        return Check(name, State.OK, f"{path}: all of it is sound")
    if all(OF_AN_INDEX.fullmatch(line) for line in found):
        return Check(name, State.FAIL, f"{path}: {_listed(found)}", f"sqlite3 {quote(str(path))} 'REINDEX;'; {LOST}")
    return Check(name, State.FAIL, f"{path}: {_listed(found)}", f"put back its newest copy; {LOST}")


def _listed(found: Sequence[str]) -> str:
    return "; ".join(found[:MOST_LINES]) + ("; …" if len(found) > MOST_LINES else "")
