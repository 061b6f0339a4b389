"""The configuration's file: read once, believed only where nobody else could have written it, and parsed."""

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from autorelease.errors import ConfigurationError
from autorelease.settings.sections import File
from autorelease.structs import TableError, read_struct
from autorelease.trust import refuse_untrusted

DEEPEST = 20


def read_file(path: Path) -> tuple[File, frozenset[str]]:
    """The file's sections, and the dotted names of the keys that it names itself, be it with their default.

    Raises ConfigurationError (exit 4) with the file and the key that is wrong.
    """
    data = _parsed(path)
    _refuse_monsters(data, path)
    try:
        return read_struct(data, File), frozenset(_names(data))
    except TableError as problem:
        raise ConfigurationError(f"{path}: {problem}") from problem


def _parsed(path: Path) -> dict[str, Any]:
    try:
        # Some editors begin a file with a byte order mark.
        with path.open(encoding="utf-8-sig") as file:
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


def _names(table: Mapping[str, Any], place: str = "") -> Iterator[str]:
    for key, value in table.items():
        yield place + key
        if isinstance(value, dict):
            yield from _names(value, f"{place}{key}.")
