"""Which provisioners a configuration asks for."""

import subprocess
import sys
from collections.abc import Mapping
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from autorelease.errors import ConfigurationError
from autorelease.provisioners import KINDS, Kind, Pace, Registered, check_provisioners, open_provisioners
from autorelease.provisioners.command import CommandProvisioner
from autorelease.provisioners.ledger import LedgerProvisioner
from autorelease.testing import make_section

CONFIG = Path("/etc/autorelease/config.toml")


def opened(sections: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Registered]:
    """As a tick does."""
    return open_provisioners(sections, CONFIG, timedelta(seconds=30), stamps=True)


def test_there_is_no_default_provisioner() -> None:
    with pytest.raises(ConfigurationError, match=r"config\.toml: no provisioner is configured"):
        opened({})


def test_each_section_becomes_a_provisioner_under_its_name() -> None:
    found = opened({"default": {"kind": "ledger"}, "hall 2": {"kind": "command", "argv": ["true"]}})
    assert list(found) == ["default", "hall 2"]
    assert isinstance(found["default"].provisioner, LedgerProvisioner)
    assert isinstance(found["hall 2"].provisioner, CommandProvisioner)
    assert (found["default"].immediate, found["hall 2"].immediate) == (True, False)


@pytest.mark.parametrize("kind", ["memory", "Ledger", "", "autorelease.provisioners.ledger:KIND", 7, True, ["ledger"]])
def test_an_unknown_kind_is_refused_with_the_known_ones(kind: object) -> None:
    with pytest.raises(ConfigurationError) as raised:
        opened({"default": {"kind": "ledger"}, "other": {"kind": kind}})
    assert "[provisioners.other] has the unknown kind" in str(raised.value)
    assert "command, ledger" in str(raised.value)


def test_a_section_without_a_kind_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"\[provisioners\.default\] has no kind"):
        opened({"default": {"argv": ["true"]}})


def test_a_wrong_key_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(ConfigurationError, match=r"unknown key 'alredy'\. The nearest known key is 'already'"):
        opened({"default": {"kind": "command", "argv": ["true"], "alredy": [3]}})


@pytest.mark.parametrize("kind", [{"kind": "ledger"}, {"kind": "command", "argv": ["true"]}], ids=str)
def test_every_section_may_say_how_fast_its_provisioner_is_called(kind: dict[str, object]) -> None:
    found = opened({"slow": {**kind, "concurrency": 2, "max_per_second": 0.5}, "default": kind})
    assert found["slow"].pace == Pace(concurrency=2, max_per_second=0.5)
    assert found["default"].pace == Pace()


@pytest.mark.parametrize("value", [0, -1, 257, 1.5, "4", True, [4], {}])
def test_a_wrong_concurrency_is_refused(value: object) -> None:
    with pytest.raises(ConfigurationError) as raised:
        opened({"default": {"kind": "ledger"}, "slow": {"kind": "command", "argv": ["true"], "concurrency": value}})
    assert "config.toml: [provisioners.slow] 'concurrency': must be an integer from 1 to 256" in str(raised.value)


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "4", True, [4], {}])
def test_a_wrong_max_per_second_is_refused(value: object) -> None:
    with pytest.raises(ConfigurationError) as raised:
        opened({"slow": {"kind": "ledger", "max_per_second": value}})
    assert "config.toml: [provisioners.slow] 'max_per_second': must be a number above 0" in str(raised.value)


@pytest.mark.parametrize(("key", "near"), [("concurency", "concurrency"), ("max_per_secnd", "max_per_second")])
def test_a_slip_of_the_pen_in_what_every_section_may_have(key: str, near: str) -> None:
    for kind in ({"kind": "ledger"}, {"kind": "command", "argv": ["true"]}):
        with pytest.raises(ConfigurationError, match=rf"unknown key '{key}'\. The nearest known key is '{near}'"):
            opened({"default": {**kind, key: 4}})


WRONG: tuple[dict[str, dict[str, object]], ...] = (
    {},
    {"default": {"kind": "memory"}},
    {"default": {"argv": ["true"]}},
    {"default": {"kind": "ledger"}, "other": {"kind": "command", "argv": ["true"], "alredy": [3]}},
    {"default": {"kind": "command", "argv": ["{sid}"]}},
    {"default": {"kind": "command", "argv": ["true"], "down": [0]}},
    {"default": {"kind": "ledger", "argv": ["true"]}},
    {"default": {"kind": "ledger", "concurrency": 0}},
)


@pytest.mark.parametrize("sections", WRONG, ids=str)
def test_what_cannot_be_opened_is_refused_without_making_anything_too(sections: dict[str, dict[str, object]]) -> None:
    with pytest.raises(ConfigurationError) as opening:
        opened(sections)
    with pytest.raises(ConfigurationError) as checking:
        check_provisioners(sections, CONFIG, timedelta(seconds=30), stamps=True)
    assert str(checking.value) == str(opening.value)


@pytest.mark.parametrize("name", KINDS)
def test_our_own_kinds_are_judged_without_making_one(name: str) -> None:
    """So a dry run makes none."""
    module, attribute = KINDS[name].split(":")
    kind: Kind = getattr(import_module(module), attribute)
    assert kind.check is not None
    section = make_section({"argv": ["true"]} if name == "command" else {})
    assert not hasattr(kind.check(section), "release")


def test_making_one_runs_nothing(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    opened({"default": {"kind": "command", "argv": ["touch", str(trace)]}})
    opened({"default": {"kind": "command", "argv": ["/no/such/program"]}})
    assert not trace.exists()


def test_only_the_kinds_in_use_are_imported() -> None:
    code = (
        "import sys; from pathlib import Path; from datetime import timedelta; "
        "from autorelease.provisioners import open_provisioners; "
        "open_provisioners({'default': {'kind': 'ledger'}}, Path('/x'), timedelta(1), stamps=True); "
        "assert 'autorelease.provisioners.command' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
