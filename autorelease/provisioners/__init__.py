"""What makes a VM go away: the protocol, the kinds there are, and the ones that a configuration asks for.

Knows the model and the errors, never a ledger, the journal or the tick.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Protocol, runtime_checkable

import msgspec
from msgspec.structs import replace

from autorelease.errors import ConfigurationError
from autorelease.model import Allocation, Release
from autorelease.structs import TableError, nearest, read_struct


class Provisioner(Protocol):
    """One system that can release VMs."""

    def preflight(self) -> None:
        """Raise ProvisionerDown unless it is reachable and accepts us."""

    def release(self, allocation: Allocation) -> Release:
        """Make the VM go away; idempotent, and called from several threads.

        Raises ProvisionerError for this VM, ProvisionerDown for the system as a whole.
        """

    def close(self) -> None:
        """Give back what it holds."""


@runtime_checkable
class Probing(Protocol):
    """A provisioner that can tell, besides, whether a VM is there."""

    def exists(self, allocation: Allocation) -> bool:
        """Whether this VM is there; only reads, and may be called from several threads.

        Raises ProvisionerError or ProvisionerDown where it cannot tell.
        """


@runtime_checkable
class Identifying(Protocol):
    """A provisioner that can say, besides, by what it finds VMs: what it has earned belief for."""

    def fingerprint(self) -> str | None:
        """The same text for as long as it looks in the same place in the same way; never a secret, nor anything made
        from one. Asked after `preflight`. None: nothing that it says earns belief.
        """


class Section(msgspec.Struct, frozen=True):
    """One `[provisioners.NAME]` of the configuration.

    options: its keys, without those that every section may have. place: the file and the section, for messages.
    folder: of the configuration, an absolute path; what is relative in the options is relative to it. timeout: of one
    call. stamps: whether we stamp the ledger ourselves.
    """

    name: str
    options: Mapping[str, Any]
    place: str
    folder: Path
    timeout: timedelta
    stamps: bool


class Kind(msgspec.Struct, frozen=True):
    """How to make a provisioner: what a kind of ours is, and what an entry point of another package names.

    make: from its section; touches nothing outside of this process, and raises ConfigurationError (exit 4) for options
    that it does not understand. immediate: its release does nothing that could take time, and needs no thread; nothing
    watches over its time then. check: refuses the same options as make, and makes nothing; a dry run and a listing ask
    it instead of make, where there is one.
    """

    make: Callable[[Section], Provisioner]
    immediate: bool = False
    check: Callable[[Section], object] | None = None


# Named as "module:attribute" so that only the kinds in use are imported.
KINDS: Mapping[str, str] = {
    "ledger": "autorelease.provisioners.ledger:KIND",
    "command": "autorelease.provisioners.command:KIND",
}


class Pace(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How fast one provisioner may be called. concurrency: calls at once; None: as many as any other.

    max_per_second: calls that begin; None: as many as there is room for.
    """

    concurrency: Annotated[int, msgspec.Meta(ge=1, le=256)] | None = None
    max_per_second: (
        Annotated[float, msgspec.Meta(gt=0, le=sys.float_info.max, description="a number above 0")] | None
    ) = None


# What every section may have, whatever its kind.
PACE = Pace.__struct_fields__
COMMON = ("kind", *PACE)


class Registered(msgspec.Struct, frozen=True):
    """A provisioner that is ready to be asked."""

    provisioner: Provisioner
    immediate: bool
    pace: Pace = Pace()


def open_provisioners(
    sections: Mapping[str, Mapping[str, Any]], config: Path, timeout: timedelta, *, stamps: bool
) -> Mapping[str, Registered]:
    """Make every provisioner of the configuration; making one touches nothing outside of this process.

    Raises ConfigurationError (exit 4) where there is none, or one is not understood.
    """
    return {section.name: _registered(section) for section in _read(sections, config, timeout, stamps=stamps)}


def check_provisioners(
    sections: Mapping[str, Mapping[str, Any]], config: Path, timeout: timedelta, *, stamps: bool
) -> None:
    """Raise ConfigurationError where `open_provisioners` would, and make none that can be judged without."""
    for section in _read(sections, config, timeout, stamps=stamps):
        _pace(section)
        kind = _our_kind(section)
        if kind is None:
            from autorelease.provisioners.plugins import check_plugin

            check_plugin(section.options.get("kind"), _without_common(section))
        else:
            (kind.check or kind.make)(_without_common(section))


def _read(
    sections: Mapping[str, Mapping[str, Any]], config: Path, timeout: timedelta, *, stamps: bool
) -> Sequence[Section]:
    """The sections as they stand in the file, their kind still among their options."""
    if not sections:
        raise ConfigurationError(
            f'{config}: no provisioner is configured: add a section [provisioners.default] with kind = "command" '
            '(or "ledger", where the stamp in the ledger is all that a release is)'
        )
    folder = config.absolute().parent
    return [
        Section(name, options, f"{config}: [provisioners.{name}]", folder, timeout, stamps)
        for name, options in sections.items()
    ]


def _registered(section: Section) -> Registered:
    pace, kind = _pace(section), _our_kind(section)
    if kind is not None:
        return Registered(kind.make(_without_common(section)), kind.immediate, pace)
    from autorelease.provisioners.plugins import open_plugin

    return replace(open_plugin(section.options.get("kind"), _without_common(section)), pace=pace)


def _pace(section: Section) -> Pace:
    try:
        return read_struct({key: value for key, value in section.options.items() if key in PACE}, Pace)
    except TableError as problem:
        raise ConfigurationError(f"{section.place} {problem}") from problem


def _our_kind(section: Section) -> Kind | None:
    name = section.options.get("kind")
    if not isinstance(name, str) or name not in KINDS:
        return None
    module, attribute = KINDS[name].split(":")
    ours: Kind = getattr(import_module(module), attribute)
    return ours


def _without_common(section: Section) -> Section:
    return replace(section, options={key: value for key, value in section.options.items() if key not in COMMON})


def refuse_unknown(section: Section, known: tuple[str, ...]) -> None:
    """Raise ConfigurationError for the first option that the kind does not know, with the nearest one that it does."""
    for key in section.options:
        if key not in known:
            near = nearest(key, (*COMMON, *known))
            raise ConfigurationError(f"{section.place} has the unknown key {key!r}. The nearest known key is {near!r}")
