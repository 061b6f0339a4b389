"""A plugin of pytest: no session passes or fails in which a module of ours came from another tree than the tests.

An editable install names one tree for the whole environment: a copy's tests could run the original's code, and every
mutant would survive, or seem to.
"""

import sys
from pathlib import Path

import pytest

FOREIGN = 70


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Look where the modules came from."""
    ours = [module for name, module in list(sys.modules.items()) if name.partition(".")[0] == "autorelease"]
    places = [Path(file) for module in ours if (file := getattr(module, "__file__", None))]
    if not places or not all(place.is_relative_to(session.config.rootpath) for place in places):
        session.exitstatus = FOREIGN
