"""Kinds of third parties: the entry points of the group `autorelease.provisioners` in this environment.

Looked up only where a section names a kind that is not ours, and loaded only where it is named. Their code may do
anything as it is loaded: what goes wrong there is exit 4, with the package, its version and the reason.
"""

import logging
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NoReturn, TypeVar

from autorelease.errors import ConfigurationError
from autorelease.provisioners import KINDS, Kind, Provisioner, Registered, Section
from autorelease.text import kind_and_reason, plain

logger = logging.getLogger(__name__)

GROUP = "autorelease.provisioners"
# Ours, for tests alone: no package can give it to a configuration.
UNNAMEABLE = "memory"

Made = TypeVar("Made")


def open_plugin(kind: object, section: Section) -> Registered:
    """Make the provisioner of a section whose kind is not ours; raises ConfigurationError where nobody has it."""
    loaded, whose = _loaded(kind, section)
    return _made(loaded, section, whose)


def check_plugin(kind: object, section: Section) -> None:
    """Raise ConfigurationError where `open_plugin` would; makes nothing where the kind can tell without."""
    loaded, whose = _loaded(kind, section)
    check = loaded.check
    if check is None:
        _made(loaded, section, whose)
    else:
        _guarded(lambda: check(section), f"{whose} cannot be checked", (ConfigurationError,))


def _loaded(kind: object, section: Section) -> tuple[Kind, str]:
    """The kind, and whose it is, for messages."""
    entry = _entry(_installed(section), kind, section)
    whose = f"{section.place} kind {entry.name!r} of the package {_package(entry)}"
    return _checked_kind(_guarded(entry.load, f"{whose} cannot be loaded"), f"{whose}: {entry.value}"), whose


def _made(loaded: Kind, section: Section, whose: str) -> Registered:
    provisioner = _guarded(lambda: loaded.make(section), f"{whose} cannot be made", (ConfigurationError,))
    return Registered(_checked_provisioner(provisioner, whose), loaded.immediate)


def _installed(section: Section) -> list[EntryPoint]:
    try:
        return [entry for entry in entry_points(group=GROUP) if entry.name not in (*KINDS, UNNAMEABLE)]
    except Exception as error:  # noqa: BLE001 - whatever stands in the metadata of all that is installed
        _refuse(f"{section.place} has no kind of ours, and the installed packages cannot be read", error)


def _entry(installed: list[EntryPoint], kind: object, section: Section) -> EntryPoint:
    named = [entry for entry in installed if entry.name == kind]
    if len(named) > 1:
        packages = " and ".join(sorted(map(_package, named)))
        raise ConfigurationError(
            f"{section.place} kind {kind!r} is offered by more than one package: {packages}. Remove all but one"
        )
    if not named:
        problem = "has no kind" if kind is None else f"has the unknown kind {kind!r}"
        names = ", ".join(sorted({entry.name for entry in installed}))
        others = f"; or, of the installed packages, {names}" if names else ""
        raise ConfigurationError(f"{section.place} {problem}: choose one of {', '.join(sorted(KINDS))}{others}")
    return named[0]


def _package(entry: EntryPoint) -> str:
    """Name and version, as far as its metadata can be read and have them."""
    metadata: Any = {}
    try:
        metadata = entry.dist.metadata if entry.dist else {}
    except Exception as error:  # noqa: BLE001 - what is broken is named as well as it can be
        logger.debug("metadata that cannot be read: %s", plain(error))
    return f"{metadata.get('Name') or '(without a name)'} {metadata.get('Version') or '(without a version)'}"


def _guarded(call: Callable[[], Made], failed: str, expected: tuple[type[Exception], ...] = ()) -> Made:
    """What a package's own code returns. Whatever unexpected it raises is refused; what it prints goes to the log."""
    try:
        with redirect_stdout(sys.stderr):
            return call()
    except KeyboardInterrupt:
        raise
    except expected:
        raise
    except BaseException as error:  # noqa: BLE001 - some raise SystemExit as they are imported
        _refuse(failed, error)


def _refuse(failed: str, error: BaseException) -> NoReturn:
    logger.debug("why the next one is an error", exc_info=error)
    raise ConfigurationError(f"{failed}: {kind_and_reason(error)}") from error


def _checked_kind(made: object, what: str) -> Kind:
    if not isinstance(made, Kind):
        raise ConfigurationError(f"{what} is a {type(made).__name__}, not a Kind of autorelease.provisioners")
    make: object = made.make
    immediate: object = made.immediate
    check: object = made.check
    if not callable(make) or not isinstance(immediate, bool):
        raise ConfigurationError(f"{what} is a Kind whose make cannot be called, or whose immediate is not a bool")
    if check is not None and not callable(check):
        raise ConfigurationError(f"{what} is a Kind whose check cannot be called")
    return made


def _checked_provisioner(provisioner: Provisioner, whose: str) -> Provisioner:
    for method in ("preflight", "release", "close"):
        if not callable(getattr(provisioner, method, None)):
            raise ConfigurationError(f"{whose} made a {type(provisioner).__name__}, which has no method {method}")
    for ability in ("exists", "fingerprint"):
        if not callable(getattr(provisioner, ability, _nothing)):
            raise ConfigurationError(
                f"{whose} made a {type(provisioner).__name__}, whose {ability} is no method of the protocol"
            )
    return provisioner


def _nothing() -> None:
    """Stands for what a provisioner need not have."""
