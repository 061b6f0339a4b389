"""Configuration: TOML, environment and flags become one frozen `Settings`. Nothing here opens a database.

Flag beats environment beats file beats default. Paths in the file are relative to the file, those of flags and
environment to the current folder. An unknown key is an error that names the file, the key and the nearest known one.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from autorelease.errors import ConfigurationError, UsageError
from autorelease.trust import refuse_untrusted

SYSTEM_CONFIG = Path("/etc/autorelease/config.toml")
SYSTEM_JOURNAL = Path("/var/lib/autorelease/journal.db")
UNITS = {"ms": "milliseconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("text", "json")
# Beyond this a duration is a slip of the keyboard, and now - grace would leave the calendar.
LONGEST = timedelta(days=36_500)
DEEPEST = 20


def parse_duration(text: object) -> timedelta:
    """Read an integer with a unit (`30s`, `45m`, `72h`, `400d`, `250ms`); ValueError for anything else."""
    match = re.fullmatch(r"([0-9]{1,15})(ms|s|m|h|d)", text) if isinstance(text, str) else None
    if match is None:
        raise ValueError('a duration is an integer and a unit of ms, s, m, h or d, in quotes: "30s"')
    amount, unit = int(match[1]), UNITS[match[2]]
    if amount > LONGEST / timedelta(**{unit: 1}):
        raise ValueError("a duration is at most 36500d")
    return timedelta(**{unit: amount})


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (LookupError, ValueError, OSError) as error:
        raise ValueError(f'no such time zone: {name!r} (an IANA name: "Europe/Berlin")') from error
    return name


def _positive(duration: timedelta) -> timedelta:
    if duration <= timedelta(0):
        raise ValueError("must be longer than nothing")
    return duration


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
PositiveDuration = Annotated[Duration, AfterValidator(_positive)]
Word = Annotated[str, Field(pattern=r"^[^\x00]*$")]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, pattern=r"^[^\x00]+$")]


class Section(BaseModel):
    """A table of the file: frozen, strict about types, closed to unknown keys."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Columns(Section):
    """`[ledger.columns]`: our word = the table's column."""

    sid: Name = "sid"
    status: Name = "status"
    expires_at: Name = "expires_at"
    released_at: Name = "released_at"
    owner: Name = "owner"
    plan: Name = "plan"
    vm_ref: Name = "vm_ref"
    vm_uid: Name = "vm_uid"
    provisioner: Name = "provisioner"

    @model_validator(mode="after")
    def _roles_are_distinct(self) -> Self:
        # One column as both sid and vm_ref is fine; a status that is also the expiry is not.
        roles = [name.lower() for name in (self.sid, self.status, self.expires_at, self.released_at)]
        if len(set(roles)) < len(roles):
            raise ValueError("sid, status, expires_at and released_at must be four different columns")
        return self


class LedgerSettings(Section):
    """`[ledger]`: the operator's table, and the words it is written in."""

    url: Name | None = None
    table: Name = "vm_allocations"
    released: Name = "Released"
    inactive: tuple[Word, ...] = Field(default=(), strict=False)
    references: Literal["folded", "exact"] = "folded"
    never: tuple[int | Finite | Word, ...] = Field(default=(), strict=False)
    timestamps: Literal["epoch", "epoch_ms", "iso8601"] = "epoch"
    timezone: Annotated[Name, AfterValidator(_zone)] | None = None
    stamp: bool = True
    columns: Columns = Columns()

    @model_validator(mode="after")
    def _released_is_one_word(self) -> Self:
        if self.released in self.inactive:
            raise ValueError(f"inactive must not list {self.released!r}, which is the released status")
        return self


class JournalSettings(Section):
    """`[journal]`: our own records."""

    url: Name | None = None
    keep: PositiveDuration = timedelta(days=400)


class Release(Section):
    """`[release]`: how releases are carried out."""

    grace: Duration = timedelta(0)
    hold_grace: Duration = timedelta(hours=24)
    concurrency: int = Field(default=8, ge=1, le=256)
    timeout: PositiveDuration = timedelta(seconds=30)
    deadline: PositiveDuration = timedelta(minutes=45)
    attempts: int = Field(default=3, ge=1, le=100)
    quarantine_after: int = Field(default=5, ge=1, le=1000)


class Guard(Section):
    """`[guard]`: the limits that refuse a tick."""

    max_releases: int = Field(default=1000, ge=0)
    max_percent: int = Field(default=50, ge=0, le=100)
    min_fleet: int = Field(default=20, ge=0)
    max_gone_percent: int = Field(default=50, ge=0, le=100)
    max_clock_gap: PositiveDuration = timedelta(days=7)


class File(Section):
    """The whole file. A provisioner's own keys are checked by its kind."""

    ledger: LedgerSettings = LedgerSettings()
    journal: JournalSettings = JournalSettings()
    release: Release = Release()
    guard: Guard = Guard()
    provisioners: dict[Name, dict[str, Any]] = Field(default_factory=dict)


class Settings(Section):
    """Everything a command needs to know, with paths made absolute."""

    config: Path
    ledger: LedgerSettings
    ledger_path: Path
    journal: JournalSettings
    journal_path: Path
    release: Release
    guard: Guard
    provisioners: Mapping[str, Mapping[str, Any]]

    @property
    def ledger_name(self) -> str:
        """Which ledger this is: its file, as it is found through links, and its table."""
        return f"{os.path.realpath(self.ledger_path)} table {self.ledger.table}"

    def named_columns(self) -> frozenset[str]:
        """Our words for the columns that the file names, which must therefore exist."""
        return frozenset(self.ledger.columns.model_fields_set)


def load_settings(config: Path | None, ledger_url: str | None, environment: Mapping[str, str] = os.environ) -> Settings:
    """Find, read and check the configuration.

    Raises ConfigurationError (exit 4) with the file and the key that is wrong.
    """
    path = _config_path(config, environment)
    data = _parsed(path)
    _refuse_monsters(data, path)
    file = _checked(data, path)
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
    """A logging setting from its flag, else its environment variable, else the default."""
    value = flag or os.environ.get(variable) or default
    if value not in choices:
        place = "the flag" if flag else variable
        raise UsageError(f"{place} says {value!r}: choose one of {', '.join(choices)}")
    return value


def _config_path(config: Path | None, environment: Mapping[str, str]) -> Path:
    named = config or environment.get("AUTORELEASE_CONFIG") or None
    path = Path(named or SYSTEM_CONFIG)
    return Path.cwd() / path


def _parsed(path: Path) -> dict[str, Any]:
    try:
        with path.open(encoding="utf-8") as file:
            # Of the open file: what is judged is what is read.
            refuse_untrusted(path, os.fstat(file.fileno()), os.geteuid())
            return tomllib.loads(file.read())
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"{path}: there is no such configuration file. Name another with --config FILE or "
            "AUTORELEASE_CONFIG, or make a new folder with one: autorelease init DIR"
        ) from error
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: is not UTF-8 text (byte {error.start})") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{path}: is not valid TOML: {error}") from error
    except ValueError as error:
        # The parser hands dates and numbers on to Python, which refuses some (the 31st of February, huge integers).
        raise ConfigurationError(f"{path}: is not valid TOML: {error}") from error


def _refuse_monsters(data: dict[str, Any], path: Path) -> None:
    """Raise ConfigurationError for what Python can parse and nothing behind it can show or store."""
    waiting: list[tuple[tuple[str, ...], object]] = [((), data)]
    while waiting:
        keys, value = waiting.pop()
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ConfigurationError(f"{path}: {'.'.join(keys)!r}: an integer of TOML has at most 64 bits")
        if len(keys) > DEEPEST:
            raise ConfigurationError(
                f"{path}: {'.'.join(keys[:3])!r}: tables and lists are nested more than {DEEPEST} deep"
            )
        inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        waiting += [((*keys, str(key)), each) for key, each in inside]


def _checked(data: dict[str, Any], path: Path) -> File:
    try:
        return File.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        keys = [str(key) for key in first["loc"]]
        raise ConfigurationError(f"{path}: {_explained(first['type'], keys, first)}") from error


def _explained(kind: str, keys: list[str], problem: Mapping[str, Any]) -> str:
    key = ".".join(keys) or "the file"
    if kind == "extra_forbidden":
        known = _known_keys(keys[:-1])
        near = difflib.get_close_matches(keys[-1], known, n=1, cutoff=0.0)
        return f"unknown key {key!r}. The nearest known key there is {near[0]!r}"
    message = problem["msg"].removeprefix("Value error, ")
    shown = repr(problem["input"])
    return f"{key!r}: {message} (it says {shown if len(shown) < 80 else shown[:77] + '...'})"  # noqa: PLR2004


def _known_keys(section: list[str]) -> list[str]:
    model: Any = File
    for name in section:
        model = model.model_fields[name].annotation
    return list(model.model_fields)


def _journal_path(journal: JournalSettings, config: Path) -> Path:
    if journal.url is not None:
        return sqlite_path(journal.url, config.parent, f"{config}: [journal] url")
    return SYSTEM_JOURNAL if config == SYSTEM_CONFIG else config.parent / "journal.db"
