"""What several commands need: the shared options, times, and where a record comes from."""

import os
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import typer

from autorelease.errors import ExitCode, UsageError
from autorelease.processes import boot_id
from autorelease.text import escaped, user_name

if TYPE_CHECKING:
    from autorelease.ledger import Ledger
    from autorelease.model import Allocation, InvalidRow
    from autorelease.rules.guard import Moment
    from autorelease.settings import Settings

FORMAT = typer.Option(
    "--format", case_sensitive=False, help="Default: table on a terminal, plain in a pipe.", show_default=False
)
TIMES = "RFC 3339 with an offset or Z (2026-12-01T00:00:00Z), or +72h from now"


class Shared(msgspec.Struct, frozen=True):
    """The options before the command."""

    config: Path | None
    ledger: str | None
    is_quiet: bool = False

    def shows(self, code: int = ExitCode.OK) -> bool:
        """Whether a command that ends so says in its text what it did or found; the exit code alone may do."""
        return code != ExitCode.OK or not self.is_quiet

    def settings(self) -> "Settings":
        """Load the configuration; raises ConfigurationError."""
        from autorelease.settings import load_settings

        return load_settings(self.config, self.ledger)

    @property
    def config_from(self) -> str:
        """Where the name of the configuration came from."""
        return _origin(self.config, "AUTORELEASE_CONFIG", "default")

    @property
    def ledger_from(self) -> str:
        """Where the URL of the ledger came from."""
        return _origin(self.ledger, "AUTORELEASE_LEDGER", "file")


def _origin(flag: object, variable: str, otherwise: str) -> str:
    return "flag" if flag else "environment" if os.environ.get(variable) else otherwise


def shared(context: typer.Context) -> Shared:
    """The shared options of this run."""
    found: Shared = context.obj
    return found


def clock() -> datetime:
    """The time, aware and in UTC."""
    return datetime.now(UTC)


def parse_time(text: str, now: datetime) -> datetime:
    """Read a TIME of the command line; raises UsageError."""
    from autorelease.ledger.instants import read_instant
    from autorelease.ledger.values import Unreadable, Vocabulary
    from autorelease.settings import parse_duration

    try:
        if text.startswith("+"):
            return now + parse_duration(text[1:])
        instant = read_instant(text, Vocabulary(timestamps="iso8601"))
    except (Unreadable, ValueError) as error:
        raise UsageError(f"{text!r} is no time: write {TIMES}") from error
    if instant is None:
        raise UsageError(f"{text!r} is no time: write {TIMES}")
    return instant


def parse_length(text: str) -> timedelta:
    """Read a duration of the command line; raises UsageError."""
    from autorelease.settings import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is no duration: write an integer and ms, s, m, h or d, as in 72h") from error


def new_tick_id(now: datetime) -> str:
    """A name for a tick that sorts by time: 20261201T000000Z-3f9c2a."""
    return f"{now:%Y%m%dT%H%M%SZ}-{os.urandom(3).hex()}"


def jitter() -> float:
    """Some share of a wait, from 0 to 1."""
    # Its module costs as much at start as a command's own, and most ticks wait for nothing.
    from random import random

    return random()  # noqa: S311 - spreads calls; guards nothing


def actor() -> str:
    """Who started this: the user behind sudo, else the user, with the effective uid."""
    uid = os.geteuid()
    name = os.environ.get("SUDO_USER") or os.environ.get("USER") or user_name(uid)
    # An environment may hold bytes that the journal cannot.
    return f"{escaped(name)} (uid {uid})"


def check_utf8(what: str, texts: Iterable[str]) -> None:
    """Raise UsageError for arguments that no database can hold."""
    if any(text.encode("utf-8", "replace").decode() != text for text in texts):
        raise UsageError(f"{what} is not valid UTF-8")


def named_rows(ledger: "Ledger", sids: Iterable[str]) -> "Sequence[Allocation | InvalidRow]":
    """The rows of these sids; raises UsageError where one of them is in no row."""
    from autorelease.ledger import NOT_ADMITTED
    from autorelease.model import InvalidRow

    rows = {sid: ledger.read(sid) for sid in sids}
    for sid, row in rows.items():
        if isinstance(row, InvalidRow) and row.reason == NOT_ADMITTED:
            raise UsageError(f"{sid!r} is in the table, but {NOT_ADMITTED}. Nothing was done")
    unknown = ", ".join(repr(sid) for sid, row in rows.items() if row is None)
    if unknown:
        raise UsageError(f"no allocation {unknown} is in the ledger. Nothing was done")
    return [row for row in rows.values() if row is not None]


def check_section(settings: "Settings", provisioner: str) -> None:
    """Raise UsageError for the name of a provisioner that the configuration does not have."""
    if provisioner not in settings.provisioners:
        known = ", ".join(sorted(settings.provisioners)) or "none"
        raise UsageError(f"{settings.config} has no section [provisioners.{provisioner}]; those it has: {known}")


def moment(settings: "Settings", now: datetime) -> "Moment":
    """What the guard is told of `now`, which was read a moment ago, and of the ledger."""
    from autorelease.rules.guard import Moment

    return Moment(now, settings.ledger_name, boot_id(), time.clock_gettime(time.CLOCK_BOOTTIME))
