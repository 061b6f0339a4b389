"""The configuration as it takes effect: every value, where it came from, and no secret. Pure."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta

import msgspec
from msgspec import Struct

from autorelease.settings import UNITS, Settings
from autorelease.text import HIDDEN, is_secret_name, without_secrets, words_without_secrets


class Value(msgspec.Struct, frozen=True):
    """One value that takes effect, as the file would spell it. origin: flag, environment, file or default."""

    key: str
    value: str
    origin: str


def effective(settings: Settings, *, config_from: str, ledger_from: str) -> Iterator[Value]:
    """Every key with its value. config_from, ledger_from: where these two came from, which settings do not know."""
    yield Value("config", _spelt("config", str(settings.config)), config_from)
    yield Value("ledger.url", _spelt("url", f"sqlite:///{settings.ledger_path}"), ledger_from)
    stamp = settings.ledger.stamp
    of_a_view = set() if isinstance(stamp, bool) else {"stamp"}
    yield from _section("ledger", settings.ledger, settings.named, {"url", "columns"} | of_a_view)
    if not isinstance(stamp, bool):
        yield from _section("ledger.stamp", stamp, settings.named)
    yield from _section("ledger.columns", settings.ledger.columns, settings.named)
    journal_from = "file" if settings.journal.url is not None else "default"
    yield Value("journal.url", _spelt("url", f"sqlite:///{settings.journal_path}"), journal_from)
    yield from _section("journal", settings.journal, settings.named, {"url"})
    yield from _section("release", settings.release, settings.named)
    yield from _section("guard", settings.guard, settings.named)
    for name, options in settings.provisioners.items():
        yield from (Value(f"provisioners.{name}.{key}", _spelt(key, value), "file") for key, value in options.items())


def _section(
    name: str, section: Struct, named: frozenset[str], without: frozenset[str] | set[str] = frozenset()
) -> Iterator[Value]:
    for key in section.__struct_fields__:
        if key not in without:
            place = f"{name}.{key}"
            yield Value(place, _spelt(key, getattr(section, key)), "file" if place in named else "default")


def _spelt(key: str, value: object) -> str:
    """A value as TOML spells it, or nearly."""
    if is_secret_name(key):
        return HIDDEN
    if value is None:
        return "(unset)"
    if isinstance(value, timedelta):
        return f'"{_duration(value)}"'
    if isinstance(value, str):
        return json.dumps(without_secrets(value), ensure_ascii=False)
    return _spelt_whole(value)


def _spelt_whole(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name} = {_spelt(name, part)}" for name, part in value.items()) + "}"
    if isinstance(value, Sequence):
        if all(isinstance(part, str) for part in value):
            return json.dumps(list(words_without_secrets(value)), ensure_ascii=False)
        return "[" + ", ".join(_spelt("", part) for part in value) + "]"
    return json.dumps(value, default=str)


def _duration(length: timedelta) -> str:
    """In the largest unit that says it exactly."""
    for unit, name in reversed(UNITS.items()):
        if length % timedelta(**{name: 1}) == timedelta(0) and (length or unit == "s"):
            return f"{length // timedelta(**{name: 1})}{unit}"
    return str(length)
