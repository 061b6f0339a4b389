"""raw_read.py FILE: the shortest program that writes what is due as JSON, in the order of the index.

What autorelease is compared with. It asks nobody who else holds a VM, and believes whatever the table says.
"""

import json
import sqlite3
import sys
import time

NAMES = ("sid", "owner", "plan", "provisioner", "vm_ref", "status", "expires_at")
DUE = (
    f"SELECT {', '.join(NAMES)} FROM vm_allocations WHERE status <> 'Released' AND expires_at < ? "
    "ORDER BY expires_at, sid"
)


def main(path: str) -> None:
    """Write them all, as one list."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    separator = "[\n"
    for row in connection.execute(DUE, (int(time.time()),)):
        sys.stdout.write(separator + json.dumps(dict(zip(NAMES, row, strict=True))))
        separator = ",\n"
    sys.stdout.write("\n]\n" if separator == ",\n" else "[]\n")
    connection.close()


if __name__ == "__main__":
    main(sys.argv[1])
