"""counting.py FILE: count the live rows by the index; print the seconds that this took, without the start."""

import sqlite3
import sys
import time

COUNT = "SELECT count(*) FROM vm_allocations INDEXED BY vm_allocations_due WHERE status <> 'Released'"


def main(path: str) -> None:
    """Count and print: seconds, rows."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    started = time.perf_counter()
    [rows] = connection.execute(COUNT).fetchone()
    sys.stdout.write(f"{time.perf_counter() - started} {rows}\n")
    connection.close()


if __name__ == "__main__":
    main(sys.argv[1])
