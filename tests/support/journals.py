"""An empty journal, as `init` makes it: made once in a process, and copied. Its making has tests of its own."""

import os
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from autorelease.journal.sqlite import MODE, make_journal


def copy_journal(path: Path) -> None:
    """Make an empty journal where nothing is."""
    for end, contents in _empty().items():
        descriptor = os.open(path.with_name(path.name + end), os.O_CREAT | os.O_EXCL | os.O_WRONLY, MODE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(contents)


@cache
def _empty() -> Mapping[str, bytes]:
    """What is in the files that make one, by what follows its name."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "journal.db"
        make_journal(made)
        return {path.name.removeprefix(made.name): path.read_bytes() for path in made.parent.iterdir()}
