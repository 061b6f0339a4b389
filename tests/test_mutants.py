"""The mutants' patches still fit, and name tests that exist; and what judges them tells a protection from none.

Whether each is killed is seen by `make mutants`.
"""

import ast
import re
import shutil
from functools import cache
from pathlib import Path

import pytest

from scripts.mutants import PATCHES, ROOT, Mutant, PatchError, apply, judge_unmutated, main, read_mutant

FILES = sorted((ROOT / PATCHES).glob("*.patch"))
MOST_LINES = 16
# A number is given once, and not again when its mutant is no longer needed.
RETIRED = frozenset({118, *range(143, 151), *range(181, 184)})


@cache
def functions(path: Path) -> frozenset[str]:
    """The names of the tests in a file."""
    return frozenset(
        node.name for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.FunctionDef)
    )


def test_the_mutants_are_numbered_and_there_are_enough() -> None:
    numbers = [int(path.name.split("-")[0]) for path in FILES]
    assert sorted([*numbers, *RETIRED]) == list(range(1, max(numbers) + 1))
    assert len(FILES) >= 15


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_patch_fits_and_names_a_test_that_exists(path: Path, tmp_path: Path) -> None:
    mutant = read_mutant(path)
    test_file, _, test = mutant.test.partition("::")
    # The installed command is of another tree than a mutant's copy.
    assert not test_file.startswith("tests/e2e/")
    assert test.partition("[")[0] in functions(ROOT / test_file)
    for name in mutant.changes:
        assert name.startswith("autorelease/")
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    apply(mutant, tmp_path)
    for name in mutant.changes:
        changed = (tmp_path / name).read_text("utf-8")
        ast.parse(changed)
        assert changed != (ROOT / name).read_text("utf-8")
    lines = [line for line in path.read_text("utf-8").splitlines() if re.match(r"[-+](?!--|\+\+)", line)]
    assert len(lines) <= MOST_LINES, "a mutant takes one protection away, and nothing else"


# --- a tree of three lines --------------------------------------------------------------------------------------------

PRODUCT = "def may_go(now: int, until: int) -> bool:\n    return until < now\n"
CHECKED = "from autorelease import may_go\n\n\ndef test_strict():\n    assert not may_go(1, 1)\n"
PASSING = "\n\ndef test_lax():\n    assert may_go(2, 1)\n"
SKIPPED = "\n\ndef test_skipped():\n    import pytest\n    pytest.skip('not today')\n"
HEAD = "Problem: A VM goes too early.\nProtection: The comparison is strict,\n  as it should be.\nTest: {test}\n\n"
DIFF = (
    "--- a/autorelease/__init__.py\n+++ b/autorelease/__init__.py\n@@ -2 +2 @@\n-    return {old}\n+    return {new}\n"
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A product with a test for each of its two properties."""
    (tmp_path / "autorelease").mkdir()
    (tmp_path / "autorelease" / "__init__.py").write_text(PRODUCT)
    (tmp_path / PATCHES).mkdir(parents=True)
    (tmp_path / "tests" / "test_product.py").write_text(CHECKED + PASSING + SKIPPED)
    # What no test here needs is not loaded.
    options = '["--import-mode=importlib", "-p", "no:hypothesispytest"]'
    (tmp_path / "pyproject.toml").write_text(f"[tool.pytest.ini_options]\naddopts = {options}\n")
    return tmp_path


def add_mutant(
    tree: Path, name: str, new: str = "until <= now", *, old: str = "until < now", test: str = "test_strict"
) -> Path:
    """Write a patch."""
    path = tree / PATCHES / f"{name}.patch"
    path.write_text(HEAD.format(test=f"tests/test_product.py::{test}") + DIFF.format(old=old, new=new))
    return path


def test_a_mutant_is_killed_by_the_test_that_it_names(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_mutant(tree, "01-strict")
    assert main([], tree) == 0
    told = capsys.readouterr().out
    assert re.search(r"^ok  01-strict .* assert not True", told, re.MULTILINE)
    assert "1 of 1 mutants killed by their tests, in " in told
    assert (tree / "autorelease" / "__init__.py").read_text() == PRODUCT


def test_what_is_not_killed_is_told_and_counts(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_mutant(tree, "01-strict")
    add_mutant(tree, "02-survives", test="test_lax")
    add_mutant(tree, "03-is-broken", "nonsense")
    add_mutant(tree, "04-does-not-fit", old="until > now")
    add_mutant(tree, "05-cannot-be-read", "(((")
    assert main([], tree) == 1
    told = capsys.readouterr().out
    for name, word in (
        ("02-survives", "SURVIVED"),
        ("03-is-broken", "breaks the code: NameError"),
        ("04-does-not-fit", "0 times"),
        ("05-cannot-be-read", "could not be run"),
    ):
        assert re.search(rf"^NO  {name} .*{word}", told, re.MULTILINE), told
    assert "1 of 5 mutants killed" in told
    assert main(["06"], tree) == 1


@pytest.mark.parametrize("test", ["test_skipped", "test_that_is_not_there"])
def test_a_test_that_does_not_pass_without_a_patch_proves_nothing(tree: Path, test: str) -> None:
    mutant = read_mutant(add_mutant(tree, "01-strict", test=test))
    verdict = judge_unmutated([mutant], tree)
    assert not verdict.is_killed
    assert "not all of the tests pass" in verdict.said


def test_a_copy_that_does_not_run_its_own_code_is_noticed(tree: Path, tmp_path: Path) -> None:
    """As under an editable install, where the copy itself has nothing to import."""
    mutant = read_mutant(add_mutant(tree, "01-strict"))
    shutil.copytree(tree / "autorelease", tmp_path / "installed" / "autorelease")
    shutil.rmtree(tree / "autorelease")
    verdict = judge_unmutated([mutant], tree)
    assert not verdict.is_killed


def test_what_is_no_mutant_is_refused(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = add_mutant(tree, "01-strict")
    whole = path.read_text()
    for wrong in (
        whole.replace("Problem: A VM goes too early.\n", ""),
        whole.replace("+++ b/autorelease/__init__.py", "+++ b/autorelease/other.py"),
        whole.partition("--- a/")[0],
    ):
        path.write_text(wrong)
        with pytest.raises(PatchError, match=r"01-strict\.patch"):
            read_mutant(path)
    assert main([], tree) == 1
    assert "01-strict.patch" in capsys.readouterr().err


def test_lines_that_are_there_twice_are_not_guessed_at(tree: Path) -> None:
    mutant: Mutant = read_mutant(add_mutant(tree, "01-strict"))
    (tree / "autorelease" / "__init__.py").write_text(PRODUCT * 2)
    with pytest.raises(PatchError, match="2 times"):
        apply(mutant, tree)
    assert mutant.protection == "The comparison is strict, as it should be."
