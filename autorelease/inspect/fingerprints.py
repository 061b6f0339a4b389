"""What a provisioner is known by, for people: a fingerprint is a text, mostly a JSON object. Shows no secret. Pure."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from autorelease.inspect import at_second
from autorelease.text import HIDDEN, is_secret_name, without_secrets


def spelled(fingerprint: str) -> str:
    """Each part by its name; a text that is no object, as it is."""
    parts = _parts(fingerprint)
    if parts is None:
        return without_secrets(fingerprint)
    return "; ".join(f"{name} = {_value(name, value)}" for name, value in _flat(parts))


def changes(fingerprint: str, earlier: Sequence[tuple[str, datetime]]) -> str:
    """What is different from one that has credit and is the same in all but a few parts; empty: there is none.

    earlier: the fingerprints with credit, and since when; the newest first.
    """
    now = _parts(fingerprint)
    if now is None:
        return ""
    candidates = [(parts, since) for text, since in earlier if (parts := _parts(text)) and _is_of_one(now, parts)]
    if not candidates:
        return ""
    parts, since = min(candidates, key=lambda candidate: len(list(_differences(now, candidate[0]))))
    listed = "; ".join(_differences(now, parts))
    return f"what has credit since {at_second(since)} was known by something else: {listed}"


def _is_of_one(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether both may be the same section of the configuration, before and after a change."""
    if one.get("kind") != other.get("kind"):
        return False
    programs = [parts["argv"][:1] for parts in (one, other) if isinstance(parts.get("argv"), list)]
    return len(programs) != 2 or programs[0] == programs[1]  # noqa: PLR2004 - one and the other


def _differences(now: Mapping[str, Any], before: Mapping[str, Any]) -> Iterator[str]:
    new, old = dict(_flat(now)), dict(_flat(before))
    for name in dict.fromkeys([*new, *old]):
        if name not in old:
            yield f"{name} is new"
        elif name not in new:
            yield f"{name} is gone"
        elif new[name] != old[name]:
            yield f"{name} was {_value(name, old[name])}, and is {_value(name, new[name])}"


def _flat(parts: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The parts by name; of an object in them each part, with the file that its place in argv names."""
    argv = parts.get("argv")
    for name, value in parts.items():
        if not isinstance(value, dict):
            yield name, value
            continue
        for key, part in value.items():
            yield (_file(key, argv) if name == "files" else f"{name}.{key}"), part


def _file(key: str, argv: object) -> str:
    """The name of what stands at this place of argv ("2", or "2=" for what is behind its =)."""
    place = key.rstrip("=")
    if isinstance(argv, list) and place.isdecimal() and int(place) < len(argv):
        return f"SHA-256 of {argv[int(place)]}"
    return f"files.{key}"


def _value(name: str, value: object) -> str:
    if is_secret_name(name):
        return HIDDEN
    return without_secrets(value) if isinstance(value, str) else without_secrets(json.dumps(value, ensure_ascii=False))


def _parts(fingerprint: str) -> Mapping[str, Any] | None:
    try:
        found = json.loads(fingerprint)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
