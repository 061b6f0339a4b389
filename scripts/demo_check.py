"""Read the demo's ledger back with Python's own sqlite3: exactly the expected rows are Released."""

import sqlite3
import sys

EXPECTED = {f"overdue-{number:03d}" for number in range(12)} | {f"starter-{number:03d}" for number in range(25)}
EARLIER = {f"past-{number:03d}" for number in range(109)}


def main(path: str) -> int:
    """Compare; returns the exit code."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    rows = connection.execute("SELECT sid, released_at FROM vm_allocations WHERE status = 'Released'").fetchall()
    connection.close()
    released = {sid for sid, _ in rows}
    if released != EXPECTED | EARLIER or any(released_at is None for _, released_at in rows):
        wrong = sorted(released ^ (EXPECTED | EARLIER))
        sys.stderr.write(f"demo: FAILED: the ledger's Released rows differ from what they must be: {wrong}\n")
        return 1
    sys.stdout.write(f"demo: read back: {len(EXPECTED)} rows were released, and no other\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
