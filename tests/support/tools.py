"""Programs that a test needs from the host, and that not every host has."""

import os
import shutil

import pytest


def tool(name: str, package: str) -> str:
    """The path of a program. Without it skip, saying so; but fail where the checks decide, and its package belongs."""
    found = shutil.which(name)
    if found is None:
        reason = f"NOT CHECKED: {name} is missing (Debian package: {package})"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found
