"""fleet.py FILE ROWS DUE: make the ledger that is swept; SQL alone, so that it is quick.

Two thirds of the rows are Released, the rest is live, and DUE of those have expired.
"""

import sqlite3
import sys
import time

DAY = 86_400
TABLE = """
CREATE TABLE vm_allocations (sid TEXT PRIMARY KEY, owner TEXT, plan TEXT, provisioner TEXT, vm_ref TEXT, vm_uid TEXT,
    status TEXT NOT NULL CHECK (status IN ('Active', 'Released')), created_at INTEGER, expires_at INTEGER,
    released_at INTEGER)
"""
INDEX = "CREATE INDEX vm_allocations_due ON vm_allocations (expires_at, sid) WHERE status <> 'Released'"
# Live and Released rows alternate, and the expired are spread among the live, as they are in a table that has aged.
ROWS = """
WITH RECURSIVE numbers(number) AS (SELECT 0 UNION ALL SELECT number + 1 FROM numbers WHERE number < :rows - 1),
kinds AS (SELECT number, number % 3 = 0 AS live,
    number % 3 = 0 AND (number / 3 + 1) * :due / :live > (number / 3) * :due / :live AS is_due FROM numbers)
INSERT INTO vm_allocations
SELECT printf('allocation-%09d', number), printf('customer-%06d', number % 40000), 'basic', NULL,
    printf('vm-%09d', number), NULL, iif(live, 'Active', 'Released'), :now - 400 * :day,
    iif(live AND NOT is_due, :now + 30 * :day + number, :now - 30 * :day + number % (29 * :day)),
    iif(live, NULL, :now - :day)
FROM kinds
"""


def main(path: str, rows: int, due: int) -> None:
    """Make the file."""
    connection = sqlite3.connect(path)
    connection.execute(TABLE)
    live = (rows + 2) // 3
    values = {"rows": rows, "due": due, "live": live, "now": int(time.time()), "day": DAY}
    connection.execute(ROWS, values)
    connection.execute(INDEX)
    connection.commit()
    connection.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
