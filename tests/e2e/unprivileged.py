"""The command as somebody without the rights of root, although the suite may run as root.

Root may read and write everything, so a test of missing rights says nothing under it. Two ways out, both by dropping
capabilities with setpriv(1): root without its override of file modes, for which a file's mode then counts as for anyone
who owns it; and another user altogether, who may still pass the folders above the interpreter (which may lie in a home
folder that is closed to others).
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache

import pytest

from tests.support.place import COMMAND, Place, Ran, fresh_environment

OTHER_USER = 65534


WITHOUT_OVERRIDE = ("--bounding-set=-dac_override,-dac_read_search",)


def run_without_override(place: Place, *arguments: str) -> Ran:
    """Run the command with the rights that file modes give; an ordinary user simply runs it."""
    if os.geteuid() != 0:
        return place.run(*arguments)
    return _run_by_setpriv(place, WITHOUT_OVERRIDE, arguments)


def words_without_override() -> list[str]:
    """What to start a command with, so that it has the rights that file modes give."""
    return _setpriv(WITHOUT_OVERRIDE) if os.geteuid() == 0 else []


def run_as_other_user(place: Place, *arguments: str) -> Ran:
    """Run the command as a user who owns nothing."""
    if os.geteuid() != 0:
        pytest.skip("needs root: only root can give a file to another user")
    user = ["--reuid", str(OTHER_USER), "--regid", str(OTHER_USER), "--clear-groups"]
    if _can_start(*user):
        return place.run(*arguments, user=OTHER_USER)
    return _run_by_setpriv(place, [*user, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"], arguments)


def _run_by_setpriv(place: Place, options: Sequence[str], arguments: Sequence[str]) -> Ran:
    completed = subprocess.run(
        [*_setpriv(options), COMMAND, "--config", place.config, *arguments],
        env=fresh_environment(place.folder),
        cwd=place.folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return Ran(completed.returncode, completed.stdout, completed.stderr)


def _setpriv(options: Sequence[str]) -> list[str]:
    if not _can_start(*options):
        pytest.skip(f"setpriv {' '.join(options)} cannot start {sys.executable} here: no such program, or no right to")
    return ["setpriv", *options, "--"]


@cache
def _can_start(*options: str) -> bool:
    """Whether the interpreter starts in this way, with the very library that we have: one behind a closed folder may
    be replaced in silence by another of the system's.
    """
    if shutil.which("setpriv") is None:
        return False
    tried = subprocess.run(
        ["setpriv", *options, "--", sys.executable, "-c", "import os; print(os.__file__)"],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    return tried.returncode == 0 and tried.stdout.strip() == os.__file__
