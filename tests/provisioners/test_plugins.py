"""Kinds that other packages bring: found by their entry points, loaded only where they are named, never believed."""

import logging
import re
import subprocess
import sys
from collections.abc import Mapping
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from autorelease.errors import ConfigurationError
from autorelease.model import Release, Result
from autorelease.provisioners import Registered, check_provisioners, open_provisioners
from tests.support.engine import made_allocation
from tests.support.package import GOOD, install

NUMBERS = count()
PLACE = re.escape("/etc/autorelease/config.toml: [provisioners.default]")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path of this process."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def name() -> str:
    """A name for a package that no other test has: what was imported stays imported."""
    return f"acme-autorelease-{next(NUMBERS)}"


def opened(kind: object, options: Mapping[str, Any] | None = None) -> Registered:
    """As a tick does."""
    sections = {"default": {"kind": kind, **(options or {})}}
    config = Path("/etc/autorelease/config.toml")
    return open_provisioners(sections, config, timedelta(seconds=30), stamps=True)["default"]


def refusal(kind: object) -> str:
    """Why this kind cannot be had."""
    with pytest.raises(ConfigurationError) as raised:
        opened(kind)
    return str(raised.value)


def test_a_kind_of_another_package_is_made_from_its_section(site: Path) -> None:
    source = """
        from autorelease.provisioners import Kind
        class Acme:
            def __init__(self, section): self.section = section
            def preflight(self): ...
            def release(self, allocation): ...
            def close(self): ...
        KIND = Kind(Acme, immediate=True)
    """
    install(site, name(), {"acme": "KIND"}, source)
    found = opened("acme", {"region": "north"})
    section = vars(found.provisioner)["section"]
    assert found.immediate
    assert (section.name, section.options, section.timeout) == ("default", {"region": "north"}, timedelta(seconds=30))
    assert (section.place, section.folder, section.stamps) == (
        "/etc/autorelease/config.toml: [provisioners.default]",
        Path("/etc/autorelease"),
        True,
    )


def test_several_sections_may_be_of_one_kind(site: Path) -> None:
    install(site, name(), {"acme": "KIND"})
    sections = {"north": {"kind": "acme"}, "south": {"kind": "acme"}}
    found = open_provisioners(sections, Path("/x.toml"), timedelta(seconds=1), stamps=True)
    assert found["north"].provisioner is not found["south"].provisioner
    assert found["north"].provisioner.release(made_allocation()) == Release(Result.RELEASED, "good")


@pytest.mark.parametrize("ability", ["exists", "fingerprint"])
def test_what_only_looks_like_an_ability_is_refused(site: Path, ability: str) -> None:
    """It would be taken for one, and break in the midst of a tick."""
    source = f"""
        from autorelease.provisioners import Kind
        from autorelease.provisioners.memory import MemoryProvisioner
        class Acme(MemoryProvisioner):
            {ability} = True
        KIND = Kind(lambda _: Acme())
    """
    install(site, name(), {"acme": "KIND"}, source)
    assert f"made a Acme, whose {ability} is no method" in refusal("acme")


# --- a dry run ------------------------------------------------------------------------------------------------------

CHECKED = """
    from autorelease.errors import ConfigurationError
    from autorelease.provisioners import Kind
    def make(section): raise RuntimeError("made")
    def check(section):
        if "wrong" in section.options: raise ConfigurationError(f"{section.place} wrong: it is")
        if "broken" in section.options: raise KeyError("broken")
    KIND = Kind(make, check=check)
    NO_KIND = Kind(make, check=7)
    UNCHECKED = Kind(make)
"""


def checked(kind: str, **options: object) -> None:
    """As a dry run does."""
    sections = {"default": {"kind": kind, **options}}
    check_provisioners(sections, Path("/etc/autorelease/config.toml"), timedelta(seconds=30), stamps=True)


def test_a_kind_that_can_be_checked_is_not_made_for_a_dry_run(site: Path) -> None:
    install(site, name(), {"acme": "KIND"}, CHECKED)
    checked("acme")
    with pytest.raises(ConfigurationError, match=rf"^{PLACE} wrong: it is$"):
        checked("acme", wrong=1)
    with pytest.raises(
        ConfigurationError, match=rf"^{PLACE} kind 'acme' of the package .* cannot be checked: KeyError"
    ):
        checked("acme", broken=1)


def test_a_kind_without_a_check_is_made_for_a_dry_run_so_that_its_options_are_judged(site: Path) -> None:
    install(site, name(), {"acme": "UNCHECKED"}, CHECKED)
    with pytest.raises(ConfigurationError, match="cannot be made: RuntimeError: made"):
        checked("acme")


def test_a_check_that_cannot_be_called_is_refused(site: Path) -> None:
    install(site, name(), {"acme": "NO_KIND"}, CHECKED)
    assert "is a Kind whose check cannot be called" in refusal("acme")


# --- names ------------------------------------------------------------------------------------------------------------


def test_ours_cannot_be_replaced(site: Path) -> None:
    install(site, name(), {"ledger": "KIND", "command": "KIND"}, "raise RuntimeError('loaded')")
    assert type(opened("ledger").provisioner).__name__ == "LedgerProvisioner"
    assert type(opened("command", {"argv": ["true"]}).provisioner).__name__ == "CommandProvisioner"


def test_the_kind_for_tests_cannot_be_brought_in_by_a_package(site: Path) -> None:
    install(site, name(), {"memory": "KIND"})
    assert refusal("memory").endswith("has the unknown kind 'memory': choose one of command, ledger")


@pytest.mark.parametrize("kind", ["acne", "", "Acme", "acme ", 7, True, ["acme"], {"acme": 1}, None])
def test_an_unknown_kind_is_refused_with_all_that_there_are(site: Path, kind: object) -> None:
    install(site, name(), {"zebra": "KIND", "acme": "KIND", "ledger": "KIND", "memory": "KIND"})
    install(site, name(), {"acme": "KIND", "bison": "KIND"})
    problem = "has no kind" if kind is None else f"has the unknown kind {kind!r}"
    assert refusal(kind) == (
        f"/etc/autorelease/config.toml: [provisioners.default] {problem}: choose one of command, ledger; "
        "or, of the installed packages, acme, bison, zebra"
    )


def test_a_name_that_two_packages_offer_is_nobodys(site: Path) -> None:
    one, other = sorted([name(), name()])
    install(site, one, {"acme": "KIND"}, "raise RuntimeError('loaded')", version="1.0")
    install(site, other, {"acme": "KIND", "bison": "KIND"}, version="2.1")
    assert f"kind 'acme' is offered by more than one package: {one} 1.0 and {other} 2.1" in refusal("acme")
    opened("bison")


def test_a_package_that_is_found_twice_is_one(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first on the path has it, as with every import."""
    package = name()
    (site / "further").mkdir()
    install(site, package, {"acme": "KIND"})
    install(site / "further", package, {"acme": "KIND"}, "raise RuntimeError('the second')", version="0.9")
    monkeypatch.setattr(sys, "path", [*sys.path, str(site / "further")])
    opened("acme")


# --- what may go wrong ------------------------------------------------------------------------------------------------

LOADS = {
    "its code is none": ("KIND = = 1", "SyntaxError: "),
    "a module is missing": ("import acme_sdk_that_nobody_has", "ModuleNotFoundError: No module named 'acme_sdk_"),
    "it has no such attribute": ("OTHER = 1", "AttributeError: "),
    "it raises": ("raise RuntimeError('wants a newer kernel')", "RuntimeError: wants a newer kernel"),
    "it ends the process": ("raise SystemExit('wants Python 4')", "SystemExit: wants Python 4"),
    "it is cancelled": ("import asyncio\nraise asyncio.CancelledError", "CancelledError"),
    "it raises one of ours": (
        "from autorelease.errors import ConfigurationError\nraise ConfigurationError('hm')",
        "ConfigurationError: hm",
    ),
    "it raises what cannot be read": (
        "class E(Exception):\n    def __str__(self): raise ValueError\nraise E",
        "E: (its text cannot be read)",
    ),
}


@pytest.mark.parametrize("case", LOADS)
def test_a_package_that_cannot_be_loaded_is_named_with_its_version_and_the_reason(site: Path, case: str) -> None:
    source, said = LOADS[case]
    package = name()
    install(site, package, {"acme": "KIND"}, source, version="3.2.1")
    assert f"kind 'acme' of the package {package} 3.2.1 cannot be loaded: {said}" in refusal("acme")
    assert re.match(PLACE, refusal("acme"))


def test_an_interruption_is_no_fault_of_the_package(site: Path) -> None:
    install(site, name(), {"acme": "KIND"}, "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        opened("acme")


SHAPES = {
    "a class": ("class KIND: ...", "is a type, not a Kind of autorelease.provisioners"),
    "a function": ("def KIND(section): ...", "is a function, not a Kind"),
    "none": ("KIND = None", "is a NoneType, not a Kind"),
    "one that looks like it": ("class Kind: make = print; immediate = False\nKIND = Kind()", "is a Kind, not a Kind"),
    "one without a make": ("from autorelease.provisioners import Kind\nKIND = Kind(None)", "make cannot be called"),
    "one of an odd speed": (
        "from autorelease.provisioners import Kind\nKIND = Kind(print, immediate='no')",
        "immediate is not a bool",
    ),
}


@pytest.mark.parametrize("case", SHAPES)
def test_an_entry_point_that_is_no_kind_is_refused(site: Path, case: str) -> None:
    source, said = SHAPES[case]
    package = name()
    install(site, package, {"acme": "KIND"}, source)
    found = refusal("acme")
    assert f"kind 'acme' of the package {package} 1.0: {package.replace('-', '_')}:KIND " in found
    assert said in found


MAKES = {
    "raises": ("raise KeyError('token')", "cannot be made: KeyError: 'token'"),
    "ends the process": ("raise SystemExit(2)", "cannot be made: SystemExit: 2"),
    "makes nothing": ("return None", "made a NoneType, which has no method preflight"),
    "makes half of one": (
        "return type('Half', (), {'preflight': print, 'release': 7})()",
        "made a Half, which has no method release",
    ),
}


@pytest.mark.parametrize("case", MAKES)
def test_a_section_that_a_package_cannot_make_anything_of_is_named(
    site: Path, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    body, said = MAKES[case]
    package = name()
    source = f"""
        from autorelease.provisioners import Kind
        def make(section):
            {body}
        KIND = Kind(make)
    """
    install(site, package, {"acme": "KIND"}, source)
    with caplog.at_level(logging.DEBUG, logger="autorelease"):
        found = refusal("acme")
    assert re.match(PLACE, found)
    assert f"kind 'acme' of the package {package} 1.0 {said}" in found
    # The traceback is for the author.
    assert {record.levelno for record in caplog.records if record.exc_info} <= {logging.DEBUG}
    assert ("Traceback" in caplog.text) == ("cannot be made" in said)


def test_what_a_package_says_of_its_options_is_said_as_it_is(site: Path) -> None:
    source = """
        from autorelease.provisioners import Kind, refuse_unknown
        KIND = Kind(lambda section: refuse_unknown(section, ("region",)))
    """
    install(site, name(), {"acme": "KIND"}, source)
    with pytest.raises(
        ConfigurationError, match=PLACE + " has the unknown key 'regoin'.* nearest known key is 'region'"
    ):
        opened("acme", {"regoin": "north"})


def test_what_a_package_prints_does_not_come_between_the_lines_of_our_output(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(site, name(), {"acme": "KIND"}, GOOD + '    print("Acme 1.0, evaluation copy")\n')
    opened("acme")
    assert capsys.readouterr() == ("", "Acme 1.0, evaluation copy\n")


# --- metadata ---------------------------------------------------------------------------------------------------------


def test_a_package_without_metadata_is_named_as_well_as_it_can_be(site: Path) -> None:
    install(site, name(), {"acme": "KIND"}, "raise RuntimeError('no')", metadata="Metadata-Version: 2.1\n")
    said = "of the package (without a name) (without a version) cannot be loaded: RuntimeError: no"
    assert said in refusal("acme")
    [metadata] = site.glob("*.dist-info/METADATA")
    metadata.write_bytes(b"Name: \xff\n")
    assert said in refusal("acme")


def test_a_package_without_any_metadata_can_be_used(site: Path) -> None:
    package = name()
    install(site, package, {"acme": "KIND"})
    [metadata] = site.glob("*.dist-info/METADATA")
    metadata.unlink()
    opened("acme")


def test_entry_points_that_cannot_be_read_are_no_bug_of_ours(site: Path) -> None:
    install(site, name(), {"acme": "KIND"})
    [entry_points] = site.glob("*.dist-info/entry_points.txt")
    entry_points.write_bytes(b"[autorelease.provisioners]\nacme = \xff\xfe\n")
    assert "the installed packages cannot be read: UnicodeDecodeError" in refusal("acme")
    # Nobody looks there for a kind of ours.
    opened("ledger")


# --- what is looked up and loaded -------------------------------------------------------------------------------------

LOADED = """
import sys
from datetime import timedelta
from pathlib import Path
from autorelease.provisioners import open_provisioners
sys.path.insert(0, sys.argv[1])
open_provisioners({"default": {"kind": sys.argv[2]}}, Path("/x"), timedelta(1), stamps=True)
watched = ("importlib.metadata", "autorelease.provisioners.plugins", "acme_one", "acme_two")
print([name for name in watched if name in sys.modules])
"""


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("ledger", "[]"), ("one", "['importlib.metadata', 'autorelease.provisioners.plugins', 'acme_one']")],
)
def test_a_package_is_looked_up_and_loaded_only_where_it_is_named(tmp_path: Path, kind: str, expected: str) -> None:
    install(tmp_path, "acme-one", {"one": "KIND"})
    install(tmp_path, "acme-two", {"two": "KIND"})
    ended = subprocess.run(
        [sys.executable, "-c", LOADED, str(tmp_path), kind], capture_output=True, text=True, check=True, timeout=60
    )
    assert ended.stdout.strip() == expected
