"""raw_loop.py FILE GROUP: the shortest program that stamps what has expired, GROUP rows in each transaction.

What autorelease is compared with. It has no journal, asks nobody, and forgets what it did if it is killed.
"""

import sqlite3
import sys
import time

DUE = (
    "SELECT sid, expires_at FROM vm_allocations WHERE status <> 'Released' AND expires_at < ? ORDER BY expires_at, sid"
)
STAMP = (
    "UPDATE vm_allocations SET status = 'Released', released_at = ? WHERE sid = ? AND status = 'Active' "
    "AND expires_at = ?"
)


def main(path: str, group: int) -> None:
    """Stamp them all."""
    now = int(time.time())
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = FULL")
    due = connection.execute(DUE, (now,)).fetchall()
    for first in range(0, len(due), group):
        connection.execute("BEGIN IMMEDIATE")
        for sid, expires_at in due[first : first + group]:
            connection.execute(STAMP, (int(time.time()), sid, expires_at))
        connection.execute("COMMIT")
    connection.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
