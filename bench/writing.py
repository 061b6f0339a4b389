"""writing.py FILE SECONDS: another program that writes to the ledger, a commit every so many seconds, until SIGTERM.

At its end it prints how often it wrote, in how many seconds, and the longest that a lock kept it waiting. It asks again
every millisecond: the waits of SQLite's own time-out are longer, and would be measured in its place.
"""

import signal
import sqlite3
import sys
import time
from types import FrameType

SIDS = "SELECT sid FROM vm_allocations WHERE status <> 'Released' AND expires_at > ? LIMIT 100"
WRITE = "UPDATE vm_allocations SET owner = ? WHERE sid = ?"
MILLISECOND = 0.001


class Writer:
    """One connection, and what it came to."""

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path, timeout=0, isolation_level=None)
        self._sids = [sid for (sid,) in self._connection.execute(SIDS, (int(time.time()),))]
        self.is_stopped = False
        self.writes = 0
        self.longest = 0.0

    def write(self) -> None:
        """Give one live row that has not expired another owner, durably."""
        sid = self._sids[self.writes % len(self._sids)]
        self._insist("BEGIN IMMEDIATE")
        self._connection.execute(WRITE, (f"owner-{self.writes}", sid))
        self._insist("COMMIT")
        self.writes += 1

    def _insist(self, statement: str) -> None:
        """Until nobody's lock is in the way; what the statement itself takes is no wait."""
        began = time.perf_counter()
        waited = 0.0
        while True:
            try:
                self._connection.execute(statement)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
                time.sleep(MILLISECOND)
                waited = time.perf_counter() - began
            else:
                self.longest = max(self.longest, waited)
                return


def main(path: str, pause: float) -> None:
    """Write until somebody says that it is enough."""
    writer = Writer(path)

    def stop(_signal: int, _frame: FrameType | None) -> None:
        writer.is_stopped = True

    signal.signal(signal.SIGTERM, stop)
    began = time.perf_counter()
    sys.stdout.write("writing\n")
    sys.stdout.flush()
    while not writer.is_stopped:
        turn = time.perf_counter()
        writer.write()
        time.sleep(max(0.0, turn + pause - time.perf_counter()))
    sys.stdout.write(f"{writer.writes} {time.perf_counter() - began} {writer.longest}\n")


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
