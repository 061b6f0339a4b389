"""The command line in this process: as quick as a function call, where nothing of a process of its own is looked at."""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from unittest.mock import patch

import typer.main

from autorelease.cli import run
from tests.support.place import Place, Ran

# The library makes its parser of the same definitions every time, which takes longer than many a command.
_built = cache(typer.main.get_command)


def run_here(place: Place, *arguments: str) -> Ran:
    """Run a command over the place's configuration; its log and its output are not this process's."""
    out, err = io.StringIO(), io.StringIO()
    with _log_as_it_was(), redirect_stdout(out), redirect_stderr(err), patch("typer.main.get_command", _built):
        code = run(["--config", str(place.config), *arguments])
    return Ran(int(code), out.getvalue(), err.getvalue())


@contextmanager
def _log_as_it_was() -> Iterator[None]:
    logger = logging.getLogger("autorelease")
    before = (logger.handlers, logger.level, logger.propagate)
    try:
        yield
    finally:
        logger.handlers, logger.level, logger.propagate = before
