"""The ledgers that are measured: made by one statement of SQL, so that ten million rows take less than a minute.

Live and Released rows alternate, and what has expired is spread among the live, as in a table that has aged. Rows
expire in the order in which they were made, as where all plans are equally long: of all orders that is the best for the
bare loops that autorelease is compared with.
"""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from autorelease.bootstrap import INDEXES, TABLE

DAY = 86_400
# A ledger that did not come from `init`: expiries are text, and no type or check holds anybody to that.
TEXT_TABLE = """
CREATE TABLE vm_allocations (sid TEXT PRIMARY KEY, owner TEXT, plan TEXT, provisioner TEXT, vm_ref TEXT, vm_uid TEXT,
    status TEXT NOT NULL, created_at TEXT, expires_at TEXT, released_at TEXT)
"""
TEXT_INDEXES = ("CREATE INDEX vm_allocations_expiry ON vm_allocations (expires_at)",)
# Which row is live, and which of the live ones is due; number: of the row, place: of the live one.
IS_LIVE = "({number} + 1) * :live / :rows > {number} * :live / :rows"
IS_DUE = "({place} + 1) * :due / :live > {place} * :due / :live"
LATER = ":now + 30 * :day + {number} * (300 * :day) / :rows"
BEFORE = ":now - 29 * :day + {number} * (28 * :day) / :rows"
ROWS = f"""
WITH RECURSIVE numbers(number) AS (SELECT 0 UNION ALL SELECT number + 1 FROM numbers WHERE number < :rows - 1),
kinds AS (SELECT number, {IS_LIVE.format(number="number")} AS is_live FROM numbers)
INSERT INTO vm_allocations
SELECT printf('allocation-%09d', number), printf('customer-%06d', number % 40000), 'basic', NULL,
    printf('vm-%09d', number), NULL, iif(is_live, 'Active', 'Released'), {{created_at}},
    iif(is_live, {{later}}, {{before}}), iif(is_live, NULL, {{released_at}})
FROM kinds
"""
NUMBER = "(rowid - 1)"
PLACE = f"({NUMBER} * :live / :rows)"
CHANGE = f"""
UPDATE vm_allocations SET expires_at = CASE WHEN {IS_DUE.format(place=PLACE)} THEN {BEFORE.format(number=NUMBER)}
    ELSE {LATER.format(number=NUMBER)} END
WHERE status <> 'Released' AND ({IS_DUE.format(place=PLACE)}) <> (expires_at < :now)
"""


def make_ledger(path: Path, rows: int, live: int, *, is_text: bool = False) -> None:
    """Make the file; nothing is due. is_text: with the table that did not come from `init`."""
    instants = {
        "created_at": ":now - 400 * :day",
        "later": LATER.format(number="number"),
        "before": BEFORE.format(number="number"),
        "released_at": ":now - :day",
    }
    if is_text:
        instants = {name: f"strftime('%Y-%m-%dT%H:%M:%SZ', {sql}, 'unixepoch')" for name, sql in instants.items()}
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        # A file that is lost is made again.
        connection.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -200000")
        connection.execute(TEXT_TABLE if is_text else TABLE)
        connection.execute("BEGIN")
        connection.execute(ROWS.format(**instants), values(rows, live))
        for index in TEXT_INDEXES if is_text else INDEXES:
            connection.execute(index)
        connection.execute("COMMIT")


def make_due(path: Path, rows: int, live: int, due: int) -> None:
    """Let so many of the live rows have expired, and no others."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript("PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF; PRAGMA cache_size = -200000")
        connection.execute(CHANGE, values(rows, live) | {"due": due})


def values(rows: int, live: int) -> dict[str, int]:
    """What the statements above are given."""
    return {"rows": rows, "live": live, "now": int(time.time()), "day": DAY}
