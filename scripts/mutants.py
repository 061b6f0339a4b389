"""Take one protection away at a time, and see the test that stands for it fail: `make mutants`.

Each tests/mutants/*.patch is a unified diff. Its head says what goes wrong without the protection (`Problem:`), what
stops it (`Protection:`), and which test must fail without it (`Test:`). A patch is applied to a copy of the tree, never
to the tree itself; there the test must fail, by itself and not because it could not be run, and without any patch all
of the tests must pass.
"""

import os
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
PATCHES = Path("tests") / "mutants"
PLUGIN = Path(__file__).with_name("only_this_tree.py")
AT_ONCE = 2
# For one test; and a little for each that is run with it.
PATIENCE_SECONDS = 120
PATIENCE_FOR_EACH_SECONDS = 5
SAID_CHARACTERS = 72
NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist")
HEAD = ("Problem", "Protection", "Test")
# A patch that breaks the code proves nothing about a protection.
BROKEN = (
    "AttributeError",
    "NameError",
    "ImportError",
    "ModuleNotFoundError",
    "SyntaxError",
    "IndentationError",
    "TypeError",
)
PASSED, FAILED = 0, 1


class PatchError(Exception):
    """A patch cannot be read, or does not fit the tree."""


@dataclass(frozen=True, slots=True)
class Hunk:
    """Consecutive lines, context included, and what they become."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """One patch. changes: the hunks of each file, by its path in the tree."""

    name: str
    problem: str
    protection: str
    test: str
    changes: dict[str, list[Hunk]]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one mutant. said: by what its test failed, or what was wrong."""

    name: str
    is_killed: bool
    said: str
    seconds: float


# --- patches ----------------------------------------------------------------------------------------------------------


def read_mutant(path: Path) -> Mutant:
    """Read one patch; raises PatchError."""
    head, mark, diff = path.read_text("utf-8").partition("--- a/")
    words = dict(re.findall(r"^(\w+): (.*(?:\n {2,}.*)*)", head, re.MULTILINE))
    if not mark or tuple(words) != HEAD:
        raise PatchError(f"{path.name}: begins with {', '.join(HEAD)}, and then comes the diff")
    problem, protection, test = (" ".join(words[name].split()) for name in HEAD)
    return Mutant(path.stem, problem, protection, test, dict(_files(path.name, mark + diff)))


def _files(name: str, diff: str) -> Iterator[tuple[str, list[Hunk]]]:
    for part in re.split(r"^--- a/", diff, flags=re.MULTILINE)[1:]:
        [before, after, *_] = part.split("\n")
        if after != f"+++ b/{before}":
            raise PatchError(f"{name}: {before!r} is not followed by the same file with +++ b/")
        yield before, [_hunk(body) for body in re.split(r"^@@ .*\n", part, flags=re.MULTILINE)[1:]]


def _hunk(body: str) -> Hunk:
    lines = body.splitlines(keepends=True)
    return Hunk(
        old="".join(line[1:] for line in lines if line[0] in " -"),
        new="".join(line[1:] for line in lines if line[0] in " +"),
    )


def apply(mutant: Mutant, root: Path) -> None:
    """Change the files of this tree; raises PatchError where one does not hold the old lines exactly once.

    Line numbers are not looked at: what is meant must be clear from the lines themselves.
    """
    for name, hunks in mutant.changes.items():
        path = root / name
        text = path.read_text("utf-8") if path.is_file() else ""
        for hunk in hunks:
            if (count := text.count(hunk.old)) != 1:
                raise PatchError(f"{mutant.name}: {name} holds these lines {count} times:\n{hunk.old}")
            text = text.replace(hunk.old, hunk.new)
        path.write_text(text, "utf-8")


# --- runs -------------------------------------------------------------------------------------------------------------


def judge(mutant: Mutant, root: Path) -> Verdict:
    """Whether the mutant's test fails in a copy of the tree that its patch was applied to."""
    started = time.monotonic()

    def verdict(said: str, *, is_killed: bool = False) -> Verdict:
        return Verdict(mutant.name, is_killed, said, time.monotonic() - started)

    with TemporaryDirectory(prefix="mutant-") as folder:
        copy = _copied(root, Path(folder))
        try:
            apply(mutant, copy)
        except PatchError as error:
            return verdict(str(error))
        code, report, output = _run(copy, [mutant.test])
        failures = [] if report is None else [failure.get("message", "") for failure in report.iter("failure")]
        if code == PASSED:
            return verdict("SURVIVED: its test passes without the protection")
        if code != FAILED or not failures or report is None or report.find(".//error") is not None:
            return verdict(f"its test could not be run (pytest: {code}):\n{output}")
        if failures[0].startswith(BROKEN):
            return verdict(f"the patch breaks the code: {failures[0]}")
        return verdict(failures[0].partition("\n")[0], is_killed=True)


def judge_unmutated(mutants: Sequence[Mutant], root: Path) -> Verdict:
    """Whether all of the tests pass in a copy of the tree as it is; one that is skipped does not."""
    started = time.monotonic()
    with TemporaryDirectory(prefix="mutant-") as folder:
        code, report, output = _run(_copied(root, Path(folder)), sorted({mutant.test for mutant in mutants}))
    is_well = code == PASSED and report is not None and report.find(".//skipped") is None
    said = "all of the tests pass" if is_well else f"not all of the tests pass (pytest: {code}):\n{output}"
    return Verdict("without any patch", is_well, said, time.monotonic() - started)


def _copied(root: Path, folder: Path) -> Path:
    copy = folder / "tree"
    shutil.copytree(root, copy, ignore=NOT_COPIED)
    shutil.copy(PLUGIN, copy)
    return copy


def _run(root: Path, tests: Sequence[str]) -> tuple[int, ET.Element | None, str]:
    """Run these tests in this tree; returns pytest's exit code, its report where it wrote one, and its last words."""
    report = root / "report.xml"
    # Of no user's own: what pytest, coverage or Python itself is told there is about another tree.
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    environment["AUTORELEASE_THOROUGH"] = "1"
    patience = PATIENCE_SECONDS + PATIENCE_FOR_EACH_SECONDS * len(tests)
    options = ["-x", "-q", "-p", PLUGIN.stem, "-p", "no:cacheprovider", "-p", "no:randomly", "--tb=short"]
    try:
        ended = subprocess.run(  # noqa: S603 - our own pytest
            [sys.executable, "-B", "-m", "pytest", *options, f"--junitxml={report}", *tests],
            cwd=root,
            env={**environment, "LANG": "C.UTF-8"},
            capture_output=True,
            text=True,
            check=False,
            timeout=patience,
        )
    except subprocess.TimeoutExpired:
        return -1, None, f"it did not end within {patience} s"
    found = ET.parse(report).getroot() if report.exists() else None  # noqa: S314
    return ended.returncode, found, "\n".join((ended.stdout + ended.stderr).splitlines()[-15:])


# --- the whole --------------------------------------------------------------------------------------------------------


def main(names: Sequence[str], root: Path = ROOT) -> int:
    """Judge the mutants whose names begin with one of these, or all; returns the exit code."""
    try:
        found = [read_mutant(path) for path in sorted((root / PATCHES).glob("*.patch"))]
    except PatchError as error:
        sys.stderr.write(f"mutants: {error}\n")
        return 1
    chosen = [mutant for mutant in found if not names or mutant.name.startswith(tuple(names))]
    if not chosen:
        sys.stderr.write("mutants: there is none of that name\n")
        return 1
    started = time.monotonic()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        whole = pool.submit(judge_unmutated, chosen, root)
        verdicts = [*pool.map(lambda mutant: judge(mutant, root), chosen), whole.result()]
    sys.stdout.writelines(_lines(verdicts, time.monotonic() - started))
    return 0 if all(verdict.is_killed for verdict in verdicts) else 1


def _lines(verdicts: Sequence[Verdict], seconds: float) -> Iterator[str]:
    width = max(len(verdict.name) for verdict in verdicts)
    for verdict in verdicts:
        said = verdict.said[:SAID_CHARACTERS] if verdict.is_killed else verdict.said
        yield f"{'ok' if verdict.is_killed else 'NO':2}  {verdict.name:{width}}  {verdict.seconds:5.1f} s  {said}\n"
    *mutants, whole = verdicts
    killed = sum(verdict.is_killed for verdict in mutants)
    also = "" if whole.is_killed else ", and the tree as it is does not pass"
    yield f"{killed} of {len(mutants)} mutants killed by their tests{also}, in {seconds:.0f} s\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
