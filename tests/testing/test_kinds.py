"""The suite for kinds: each of its tests fails where its rule is broken, and says which rule that was."""

import inspect
import socket
import subprocess
from collections.abc import Callable, Mapping
from typing import Any, cast

import pytest

from autorelease.errors import ConfigurationError, UsageError
from autorelease.provisioners import Kind, Provisioner, Section, refuse_unknown
from autorelease.provisioners.memory import MemoryProvisioner
from autorelease.testing import KindContract, make_section

AnyKind = cast("Callable[..., Kind]", Kind)
OPTIONS = {"port": 80, "regions": ["north"]}
ONE = MemoryProvisioner()


def make(section: Section) -> Provisioner:
    """As it should be."""
    refuse_unknown(section, tuple(OPTIONS))
    if type(section.options.get("port", 80)) is not int:
        raise ConfigurationError(f"{section.place} port: is no number")
    return MemoryProvisioner()


class TestGood(KindContract):
    """The suite has nothing to say against a kind that keeps the rules."""

    @pytest.fixture
    def kind(self) -> Kind:
        """A good one."""
        return Kind(make)

    @pytest.fixture
    def options(self) -> Mapping[str, Any]:
        """All that it knows."""
        return OPTIONS


def after(deed: Callable[[Section], object]) -> Kind:
    """A kind that does something first."""

    def make_after(section: Section) -> Provisioner:
        deed(section)
        return make(section)

    return Kind(make_after)


def connect(_: Section) -> None:
    """To a server, if there is one."""
    with socket.socket() as connection:
        connection.connect(("127.0.0.1", 9))


def convert(section: Section) -> None:
    """Read a number, whatever stands there."""
    int(section.options.get("port", 80))


def refuse(_: Section) -> None:
    """A section without saying which."""
    raise ConfigurationError("the options make no sense")


def misuse(section: Section) -> None:
    """Raise another error of ours."""
    if "port" not in section.options:
        raise UsageError(f"{section.place} port is missing")


REACHES_OUT = "make reached out of this process"
FAULTS: list[tuple[str, Kind, str]] = [
    ("it_is_a_kind", cast("Kind", MemoryProvisioner), "is no Kind of autorelease.provisioners"),
    ("it_is_a_kind", AnyKind("make"), "make cannot be called"),
    ("it_is_a_kind", AnyKind(make, immediate=1), "neither True nor False"),
    ("making_one_asks_nobody", after(connect), REACHES_OUT),
    ("making_one_asks_nobody", after(lambda _: socket.create_connection(("127.0.0.1", 9))), REACHES_OUT),
    ("making_one_asks_nobody", after(lambda _: socket.getaddrinfo("localhost", 80)), REACHES_OUT),
    ("making_one_asks_nobody", after(lambda _: subprocess.run(["true"], check=True)), REACHES_OUT),
    ("making_one_asks_nobody", AnyKind(lambda _: None), "has no method preflight"),
    (
        "making_one_changes_no_options",
        after(lambda section: cast("Any", section.options).pop("port")),
        "changed the opt",
    ),
    ("making_one_changes_no_options", after(lambda section: section.options["regions"].clear()), "changed the options"),
    ("each_section_has_a_provisioner_of_its_own", Kind(lambda _: ONE), "share one provisioner"),
    ("an_unknown_key_is_refused", Kind(lambda _: MemoryProvisioner()), "an unknown key was accepted"),
    ("an_unknown_key_is_refused", after(refuse), "does not name '/etc/autorelease/config.toml: "),
    ("whatever_the_keys_say_it_is_made_or_refused", after(convert), "for port = nan make raised ValueError"),
    ("whatever_the_keys_say_it_is_made_or_refused", after(misuse), "for no 'port' make raised UsageError"),
    ("whatever_the_keys_say_it_is_made_or_refused", after(refuse), "for no 'port' the error does not name"),
]


@pytest.mark.parametrize(
    ("rule", "kind", "said"), FAULTS, ids=[f"{number}-{fault[0]}" for number, fault in enumerate(FAULTS)]
)
def test_what_breaks_a_rule_is_told_so(rule: str, kind: Kind, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    test = getattr(KindContract(), f"test_{rule}")
    options = {"port": 80, "regions": ["north"]}
    needs = {"kind": kind, "options": options, "monkeypatch": monkeypatch}
    with pytest.raises(AssertionError, match=said):
        test(**{name: needs[name] for name in inspect.signature(test).parameters})


def test_no_rule_is_without_something_that_breaks_it() -> None:
    rules = {name.removeprefix("test_") for name in vars(KindContract) if name.startswith("test_")}
    assert {rule for rule, _, _ in FAULTS} == rules


def test_a_section_may_be_made_as_an_operator_would_write_it() -> None:
    section = make_section({"port": 80})
    assert (section.name, section.options, str(section.folder)) == ("default", {"port": 80}, "/etc/autorelease")
    assert section.place == "/etc/autorelease/config.toml: [provisioners.default]"
