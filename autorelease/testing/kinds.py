"""What every kind does: how a provisioner is made of a section of the configuration."""

import copy
import socket
import subprocess
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import pytest

from autorelease.errors import ConfigurationError
from autorelease.provisioners import Kind, Section
from autorelease.testing.system import EXPIRED_AT, TIMEOUT

FOLDER = Path("/etc/autorelease")
# Everything that TOML can say.
ANY_VALUES: tuple[object, ...] = (
    *(True, 0, -1, 2**63, 1.5, float("nan"), "", "\0", "-", "{", [], [[]], [""], {}, {"a": []}),
    *(EXPIRED_AT, EXPIRED_AT.date(), EXPIRED_AT.time(), EXPIRED_AT.replace(tzinfo=None)),
)


def make_section(
    options: Mapping[str, Any], *, timeout: timedelta = TIMEOUT, folder: Path = FOLDER, stamps: bool = True
) -> Section:
    """The section [provisioners.default] of a configuration in this folder. options: its keys, without `kind`."""
    place = f"{folder / 'config.toml'}: [provisioners.default]"
    return Section("default", options, place, folder, timeout, stamps)


class KindContract:
    """Needs the fixtures `kind` and `options`: the keys of a good section, without `kind`."""

    def test_it_is_a_kind(self, kind: Kind) -> None:
        found: object = kind
        assert isinstance(found, Kind), f"{found!r} is no Kind of autorelease.provisioners"
        assert callable(found.make), "its make cannot be called"
        assert type(found.immediate) is bool, "its immediate is neither True nor False"

    def test_making_one_asks_nobody(
        self, kind: Kind, options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A dry run and a listing may make one, too, and promise to leave no trace."""

        def refuse(*_: object, **__: object) -> NoReturn:
            raise AssertionError("make reached out of this process: leave that to preflight and release")

        monkeypatch.setattr(socket.socket, "connect", refuse)
        monkeypatch.setattr(socket, "getaddrinfo", refuse)
        monkeypatch.setattr(subprocess.Popen, "__init__", refuse)
        if kind.check is not None:
            kind.check(make_section(options))
        made = kind.make(make_section(options))
        for method in ("preflight", "release", "close"):
            assert callable(getattr(made, method, None)), f"what it made has no method {method}"

    def test_making_one_changes_no_options(self, kind: Kind, options: Mapping[str, Any]) -> None:
        given = copy.deepcopy(dict(options))
        kind.make(make_section(given))
        assert given == dict(options), "make changed the options of its section"

    def test_each_section_has_a_provisioner_of_its_own(self, kind: Kind, options: Mapping[str, Any]) -> None:
        section = make_section(options)
        assert kind.make(section) is not kind.make(section), "two sections share one provisioner: one will close it"

    def test_an_unknown_key_is_refused(self, kind: Kind, options: Mapping[str, Any]) -> None:
        is_made = _is_made(kind, make_section({**options, "no_such_key": 1}), "an unknown key")
        assert not is_made, "an unknown key was accepted: nobody would notice a slip of the pen"

    def test_whatever_the_keys_say_it_is_made_or_refused(self, kind: Kind, options: Mapping[str, Any]) -> None:
        for key in options:
            _is_made(kind, make_section({name: options[name] for name in options if name != key}), f"no {key!r}")
            for value in ANY_VALUES:
                _is_made(kind, make_section({**options, key: value}), f"{key} = {value!r}")


def _is_made(kind: Kind, section: Section, what: str) -> bool:
    is_made = _is_accepted(lambda: kind.make(section).close(), section, what)
    check = kind.check
    if check is not None:
        is_checked = _is_accepted(lambda: check(section), section, what)
        assert is_checked == is_made, f"{what}: check and make do not agree"
    return is_made


def _is_accepted(call: Callable[[], object], section: Section, what: str) -> bool:
    try:
        call()
    except ConfigurationError as error:
        assert section.place in str(error), f"for {what} the error does not name {section.place!r}: {error}"
        return False
    except (Exception, SystemExit) as error:
        raise AssertionError(f"for {what} make raised {error!r}: only a ConfigurationError is understood") from error
    return True
