"""The installed command with its longest waits cut short: python hurried.py BUSY_SECONDS RESCUE_SECONDS COMMAND WORD...

A process like any other, which runs the very file that is installed; only two constants are not what they are.
"""

import runpy
import sys
from datetime import timedelta

from autorelease import limits, sqlitefile


def words(*, busy: int = sqlitefile.BUSY_SECONDS, rescue: timedelta = limits.STAMP_RESCUE) -> list[str]:
    """What to start the command with. busy: how long it waits for a lock. rescue: for a ledger that is broken."""
    return [sys.executable, "-P", __file__, str(busy), str(rescue.total_seconds())]


def main() -> None:
    """Be that command."""
    _, busy, rescue, *sys.argv = sys.argv
    sqlitefile.BUSY_SECONDS = int(busy)
    limits.STAMP_RESCUE = timedelta(seconds=float(rescue))
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
