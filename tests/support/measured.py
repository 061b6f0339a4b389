"""A run of the installed command whose memory is measured."""

import subprocess
import sys
from pathlib import Path

from tests.support.place import COMMAND, Place, Ran, fresh_environment

# The kernel counts what a process had before it became another program: what is measured is started by a small one, and
# not by the process of the tests.
STARTER = """
import os, sys
process = os.spawnv(os.P_NOWAIT, sys.argv[1], sys.argv[1:])
_, status, usage = os.wait4(process, 0)
with open("usage", "w", encoding="ascii") as file:
    file.write(f"{os.waitstatus_to_exitcode(status)} {usage.ru_maxrss}")
"""


def run_measured(place: Place, *arguments: str | Path) -> tuple[Ran, int]:
    """Run it to its end; returns also the most memory that it had, in KiB."""
    out, err = place.folder / "out", place.folder / "err"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        subprocess.run(
            [sys.executable, "-S", "-c", STARTER, COMMAND, "--config", place.config, *arguments],
            env=fresh_environment(place.folder),
            cwd=place.folder,
            stdout=stdout,
            stderr=stderr,
            check=True,
        )
    code, peak_kib = map(int, (place.folder / "usage").read_text(encoding="ascii").split())
    return Ran(code, out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8")), peak_kib
