"""`init`: the journal that the configuration names, or a whole new folder."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autorelease.cli.shared import Shared, clock, shared
from autorelease.errors import LockedError, UsageError
from autorelease.render import show_lines

if TYPE_CHECKING:
    from autorelease.settings import Settings


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

    A journal that is there already is left as it is; one of an older version is copied, and brought up to date.

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
    if shared(context).shows():
        show_lines(describe_folder(folder, sample=sample, now=now))


def _make_journal(options: Shared) -> None:
    from autorelease.journal.sqlite import make_journal

    settings = options.settings()
    path = settings.journal_path
    try:
        make_journal(path)
    except FileExistsError as error:
        copy = _bring_up_to_date(settings)
        if copy is None:
            raise UsageError(f"{path}: a journal is there already, and init overwrites nothing") from error
        done = f"brought {path} up to date; as it was before: {copy}"
    else:
        done = f"made {path}"
    if options.shows():
        show_lines([done])


def _bring_up_to_date(settings: "Settings") -> Path | None:
    """As the next tick would; returns the copy that was made before, None where it is up to date."""
    from autorelease.journal import open_journal
    from autorelease.journal.sqlite import lock_path
    from autorelease.sweep.edge.lock import locked

    with closing(open_journal(settings, may_be_older=True)) as journal:
        if not journal.is_older():
            return None
        with locked(lock_path(settings.journal_path)) as is_ours:
            if not is_ours:
                raise LockedError("a tick is running: the journal is of an older version, and that tick's. Try again")
            return journal.bring_up_to_date()
