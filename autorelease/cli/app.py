"""The application: what all commands share, and the commands themselves."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from autorelease import __version__, logs
from autorelease.cli import history, init, inspect, listing, operate, sweep
from autorelease.cli.shared import Shared
from autorelease.errors import UsageError

app = typer.Typer(
    name="autorelease",
    help="Release expired VM allocations: the hourly sweep.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(*, wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"autorelease {__version__}\n")
        raise typer.Exit


def _log_levels() -> list[str]:
    from autorelease.settings import LOG_LEVELS

    return list(LOG_LEVELS)


def _log_formats() -> list[str]:
    from autorelease.settings import LOG_FORMATS

    return list(LOG_FORMATS)


@app.callback()
def shared_options(
    context: typer.Context,
    config: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="The configuration [default: /etc/autorelease/config.toml]."),
    ] = None,
    ledger: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Another ledger than the configured one: sqlite:///PATH."),
    ] = None,
    log_level: Annotated[
        str | None,
        typer.Option(metavar="LEVEL", help="debug, info, warning or error.", autocompletion=_log_levels),
    ] = None,
    log_format: Annotated[
        str | None, typer.Option(metavar="FORMAT", help="text or json.", autocompletion=_log_formats)
    ] = None,
    *,
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", help="Log errors alone; no report where the exit code is 0, but for JSON."),
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=lambda value: _show_version(wanted=value),
            is_eager=True,
            help="Show the version.",
        ),
    ] = False,
) -> None:
    """Release expired VM allocations: the hourly sweep."""
    _ = version
    if quiet and log_level is not None:
        raise UsageError("--quiet is a log level, too: give it, or --log-level")
    logs.configure(*_log_settings("error" if quiet else log_level, log_format))
    context.obj = Shared(Path(config) if config else None, ledger, quiet)


def _log_settings(level: str | None, form: str | None) -> tuple[str, str]:
    from autorelease.settings import LOG_FORMATS, LOG_LEVELS, log_choice

    # On a terminal a progress bar shows what is released; elsewhere the log does.
    default = "warning" if sys.stderr.isatty() else "info"
    return (
        log_choice(level, "AUTORELEASE_LOG_LEVEL", LOG_LEVELS, default),
        log_choice(form, "AUTORELEASE_LOG_FORMAT", LOG_FORMATS, "text"),
    )


app.command("tick")(sweep.tick)
app.command("list-expired")(listing.list_expired)
app.command("upcoming")(inspect.upcoming)
app.command("release")(operate.release)
app.command("hold")(operate.hold)
app.command("unhold")(operate.unhold)
app.command("retry")(operate.retry)
app.command("explain")(inspect.explain)
app.command("history")(history.history)
app.command("health")(inspect.health)
app.command("doctor")(inspect.doctor)
app.command("init")(init.init)
