"""`init`: the journal that the configuration names, or a whole new folder."""

from pathlib import Path
from typing import Annotated

import typer

from autorelease.cli.shared import Shared, clock, shared
from autorelease.errors import UsageError
from autorelease.render import show_lines


def init(
    context: typer.Context,
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="DIR", show_default=False, help="Make this folder, to try things in."),
    ] = None,
    *,
    sample: Annotated[bool, typer.Option("--sample", help="With DIR: fill its ledger with sample rows.")] = False,
) -> None:
    """Make the journal that the configuration names; or a new folder with configuration, ledger and journal.

    Example: autorelease init demo --sample
    """
    from autorelease.bootstrap import describe_folder, make_folder

    if folder is None:
        if sample:
            raise UsageError("--sample goes with a folder: autorelease init DIR --sample")
        _make_journal(shared(context))
        return
    now = clock()
    make_folder(folder, sample=sample, now=now)
    show_lines(describe_folder(folder, sample=sample, now=now))


def _make_journal(options: Shared) -> None:
    from autorelease.journal.sqlite import make_journal

    path = options.settings().journal_path
    try:
        make_journal(path)
    except FileExistsError as error:
        raise UsageError(f"{path}: a journal is there already, and init overwrites nothing") from error
    show_lines([f"made {path}"])
