"""The page for authors of provisioners: its code is the code that is tried, and it names all that there is."""

import inspect
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from autorelease.errors import ProvisionerError
from autorelease.limits import ABANDONED_AFTER
from autorelease.model import Result
from autorelease.provisioners import Kind, Provisioner, Section
from autorelease.testing import KindContract, ProvisionerContract, make_section
from autorelease.testing.provisioners import CALLS_AT_ONCE
from autorelease.testing.system import GIVEN_UP_AFTER
from tests.docs.documents import ROOT, WRITING_PROVISIONERS, fences, section
from tests.plugin.autorelease_parcel import KIND, ParcelProvisioner

PLUGIN = ROOT / "tests" / "plugin"
STANDIN = ROOT / "tests" / "support" / "parcel.py"
[MODULE, SHOWN_STANDIN, TEST] = [fence.body for fence in fences(WRITING_PROVISIONERS.read_text("utf-8"), "python")]


def test_the_code_that_is_shown_is_the_code_that_is_used() -> None:
    assert (PLUGIN / "autorelease_parcel.py").read_text("utf-8") == MODULE
    assert STANDIN.read_text("utf-8") == SHOWN_STANDIN


def test_the_entry_point_that_is_shown_is_the_one_that_is_installed() -> None:
    [shown] = fences(section(WRITING_PROVISIONERS, "Naming it"), "toml pyproject.toml")
    project = tomllib.loads(shown.body)["project"]
    [information] = PLUGIN.glob("*.dist-info")
    assert information.name == f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    [(group, points)] = project["entry-points"].items()
    [(name, value)] = points.items()
    assert (information / "entry_points.txt").read_text("utf-8") == f"[{group}]\n{name} = {value}\n"


def test_the_configuration_that_is_shown_is_one() -> None:
    [shown] = fences(section(WRITING_PROVISIONERS, "Naming it"), "toml")
    options = tomllib.loads(shown.body)["provisioners"]["default"]
    assert options.pop("kind") == "parcel"
    assert isinstance(KIND.make(make_section(options)), ParcelProvisioner)


def test_the_test_that_is_shown_passes_where_an_author_runs_it(tmp_path: Path) -> None:
    (tmp_path / "test_parcel.py").write_text(TEST, encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_parcel.py"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PYTHONPATH": f"{PLUGIN}:{STANDIN.parent}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    rules = [name for suite in (ProvisionerContract, KindContract) for name in dir(suite) if name.startswith("test_")]
    assert re.search(rf"^{len(rules)} passed in [^,]*$", ended.stdout, re.MULTILINE), ended.stdout
    assert (ended.returncode, ended.stderr) == (0, "")


def named(heading: str) -> set[str]:
    """Every word that a section shows as code."""
    prose = re.sub(r"```.*?```", "", section(WRITING_PROVISIONERS, heading), flags=re.DOTALL)
    return {word for code in re.findall(r"`([^`]+)`", prose) for word in re.findall(r"\w+", code)}


def test_it_names_all_that_an_author_meets() -> None:
    calls = {name for name, member in vars(Provisioner).items() if inspect.isfunction(member) and name[0] != "_"}
    known = {name for kind in (Section, Kind) for name in kind.__struct_fields__}
    assert calls == {"preflight", "release", "close"}
    assert calls | known <= named("The protocol")
    assert {result.name for result in Result} <= named("What a release answers")
    assert set(inspect.signature(ProvisionerError.__init__).parameters) - {"self", "message"} <= named("Errors")


def test_the_numbers_are_those_of_the_code() -> None:
    """Ten seconds later it is given up, and eight ask for the same VM."""
    assert (ABANDONED_AFTER.total_seconds(), GIVEN_UP_AFTER) == (10, ABANDONED_AFTER)
    assert CALLS_AT_ONCE == 8
