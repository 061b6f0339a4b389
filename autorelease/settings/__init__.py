"""Configuration: TOML, environment and flags become one frozen `Settings`. Nothing here opens a database.

Flag beats environment beats file beats default. Paths in the file are relative to the file, those of flags and
environment to the current folder. An unknown key is an error that names the file, the key and the nearest known one.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from autorelease.errors import ConfigurationError, UsageError
from autorelease.settings.file import read_file
from autorelease.settings.sections import Columns, File, Guard, JournalSettings, LedgerSettings, Release
from autorelease.settings.values import UNITS, parse_duration

__all__ = [
    "LOG_FORMATS",
    "LOG_LEVELS",
    "SYSTEM_CONFIG",
    "SYSTEM_JOURNAL",
    "UNITS",
    "Columns",
    "File",
    "Guard",
    "JournalSettings",
    "LedgerSettings",
    "Release",
    "Settings",
    "load_settings",
    "log_choice",
    "parse_duration",
    "sqlite_path",
]

SYSTEM_CONFIG = Path("/etc/autorelease/config.toml")
SYSTEM_JOURNAL = Path("/var/lib/autorelease/journal.db")
LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("text", "json")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a command needs to know, with paths made absolute.

    named: the dotted names of the keys that the file names itself, be it with their default.
    """

    config: Path
    ledger: LedgerSettings
    ledger_path: Path
    journal: JournalSettings
    journal_path: Path
    release: Release
    guard: Guard
    provisioners: Mapping[str, Mapping[str, Any]]
    named: frozenset[str]

    @property
    def ledger_name(self) -> str:
        """Which ledger this is: its file, as it is found through links, and its table."""
        # A name on the disk need not be UTF-8, and what the journal stores must be.
        path = os.fsencode(os.path.realpath(self.ledger_path)).decode("utf-8", "backslashreplace")
        return f"{path} table {self.ledger.table}"

    def named_columns(self) -> frozenset[str]:
        """Our words for the columns that the file names, which must therefore exist."""
        return frozenset(role for role in self.ledger.columns.by_role() if f"ledger.columns.{role}" in self.named)


def load_settings(config: Path | None, ledger_url: str | None, environment: Mapping[str, str] = os.environ) -> Settings:
    """Find, read and check the configuration.

    Raises ConfigurationError (exit 4) with the file and the key that is wrong.
    """
    path = _config_path(config, environment)
    file, named = read_file(path)
    override = ledger_url or environment.get("AUTORELEASE_LEDGER") or None
    url = override or file.ledger.url
    if url is None:
        raise ConfigurationError(
            f'{path}: [ledger] url is missing: name the database, as url = "sqlite:////abs/path.db"'
        )
    base = Path.cwd() if override else path.parent
    return Settings(
        config=path,
        ledger=file.ledger,
        ledger_path=sqlite_path(url, base, f"{path}: [ledger] url" if not override else "the ledger's URL"),
        journal=file.journal,
        journal_path=_journal_path(file.journal, path),
        release=file.release,
        guard=file.guard,
        provisioners=file.provisioners,
        named=named,
    )


def sqlite_path(url: str, base: Path, place: str) -> Path:
    """The file that `sqlite:///relative` or `sqlite:////absolute` names; the path is taken as it is, undecoded."""
    prefix = "sqlite:///"
    if not url.startswith(prefix) or url == prefix:
        raise ConfigurationError(
            f"{place} = {url!r} is not understood: write sqlite:////absolute/path.db or sqlite:///relative/path.db"
        )
    return base / url.removeprefix(prefix)


def log_choice(flag: str | None, variable: str, choices: tuple[str, ...], default: str) -> str:
    """A logging setting, in any case, from its flag, else its environment variable, else the default."""
    value = flag or os.environ.get(variable) or default
    if value.lower() not in choices:
        place = "the flag" if flag else variable
        raise UsageError(f"{place} says {value!r}: choose one of {', '.join(choices)}")
    return value.lower()


def _config_path(config: Path | None, environment: Mapping[str, str]) -> Path:
    named = config or environment.get("AUTORELEASE_CONFIG") or None
    path = Path(named or SYSTEM_CONFIG)
    return Path.cwd() / path


def _journal_path(journal: JournalSettings, config: Path) -> Path:
    if journal.url is not None:
        return sqlite_path(journal.url, config.parent, f"{config}: [journal] url")
    return SYSTEM_JOURNAL if config == SYSTEM_CONFIG else config.parent / "journal.db"
