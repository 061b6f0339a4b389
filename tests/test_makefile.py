"""The recipes and scripts stay plain: a failing step fails its target, everywhere that has a POSIX shell."""

import re
import shutil
import subprocess
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
SCRIPTS = (*sorted((ROOT / "scripts").glob("*.sh")), ROOT / ".ci" / "run")
RECIPES = [line.removeprefix("\t") for line in MAKEFILE.splitlines() if line.startswith("\t")]
# Each of these can hide that a step failed, or needs more than one shell line.
HIDING = ("|", ";", "&&", "||", "\\", "`")


@pytest.mark.parametrize("line", RECIPES)
def test_a_recipe_line_is_one_command_whose_failure_counts(line: str) -> None:
    assert not line.startswith(("-", "@-", "+-"))
    assert not [word for word in HIDING if word in line]


def test_there_are_recipes() -> None:
    assert len(RECIPES) > 10


def targets() -> dict[str, list[str]]:
    """Every named target and its recipe."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in MAKEFILE.splitlines():
        if match := re.match(r"([a-z-]+):(?!=)", line):
            name = match[1]
            found[name] = []
        elif line.startswith("\t"):
            found.setdefault(name, []).append(line.removeprefix("\t"))
        else:
            name = name if not line else ""
    return found


def test_every_target_is_phony_and_has_a_recipe() -> None:
    [phony] = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    named = {name: recipe for name, recipe in targets().items() if name}
    assert set(phony.split()) == set(named)
    assert all(named.values())


def test_check_runs_everything() -> None:
    check = "\n".join(targets()["check"])
    for part in ("ruff format --check", "ruff check", "mypy", "check-units.sh", "$(MAKE) test"):
        assert part in check


@pytest.mark.parametrize("shell", ["sh", "dash"])
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_posix_shell(script: Path, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed: the other shell has looked at it")
    ended = subprocess.run([shell, "-n", script], capture_output=True, text=True, check=False, timeout=30)
    assert (ended.returncode, ended.stderr) == (0, "")
    head, second, *_ = [line for line in script.read_text("utf-8").splitlines() if not line.startswith("# ")]
    assert (head, second) == ("#!/bin/sh", "set -eu")


def test_the_checks_end_with_everything() -> None:
    lines = [line for line in (ROOT / ".ci" / "run").read_text("utf-8").splitlines() if line]
    assert lines[-3:] == ["make demo", "make check COVERAGE=1", "make test-old-sqlite"]
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


# --- constraints.txt --------------------------------------------------------------------------------------------------

PIN = re.compile(r"([A-Za-z0-9._-]+)==[0-9][A-Za-z0-9.]*")


def pinned() -> set[str]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    matches = [PIN.fullmatch(line) for line in lines if not line.startswith("#")]
    assert all(matches), "pins alone: where they are fetched from is the user's own setting"
    return {canonicalize_name(match[1]) for match in matches if match}


def declared() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    return [Requirement(line) for line in [*project["dependencies"], *extras]]


def test_every_declared_requirement_is_pinned() -> None:
    assert {canonicalize_name(requirement.name) for requirement in declared()} <= pinned()


def test_what_the_requirements_require_is_pinned_too() -> None:
    seen: set[str] = set()
    waiting = [(requirement.name, extra) for requirement in declared() for extra in ("", *requirement.extras)]
    while waiting:
        name, extra = waiting.pop()
        if f"{name}[{extra}]" in seen:
            continue
        seen.add(f"{name}[{extra}]")
        for line in requires(name) or []:
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                waiting += [(canonicalize_name(needed.name), more) for more in ("", *needed.extras)]
    # pip itself does the installing: the virtual environment has brought its own.
    assert {canonicalize_name(name.partition("[")[0]) for name in seen} - {"pip"} <= pinned()


def test_nothing_is_pinned_twice() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if not line.startswith("#")]
    names = [canonicalize_name(line.partition("==")[0]) for line in lines]
    assert len(set(names)) == len(names)


def test_every_make_target_that_the_documents_name_exists() -> None:
    for path in ROOT.glob("*.md"):
        named = re.findall(r"(?:^|`)make ([a-z-]+)", path.read_text("utf-8"), re.MULTILINE)
        assert set(named) <= set(targets()), path.name
