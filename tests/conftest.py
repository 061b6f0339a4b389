"""Fixtures that every test may use."""

from pathlib import Path

import pytest

from tests.support.place import LEDGER_PROVISIONER, PERMISSIVE, Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A configured place with an empty journal; the ledger is the test's to make."""
    made = Place(tmp_path)
    made.configure(LEDGER_PROVISIONER, PERMISSIVE)
    assert made.run("init").code == 0
    return made
