"""`make demo` shows the same numbers every time, leaves what is not its own alone, and fails on a wrong number."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.place import COMMAND, fresh_environment

ROOT = Path(__file__).parents[1]
CHANGING = (
    (re.compile(r"2[0-9]{7}T[0-9]{6}Z-[0-9a-f]{6}"), "TICK"),
    (re.compile(r"2[0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?Z"), "TIME"),
    # Ages in seconds and instants as epoch; every count of the sample is below a thousand.
    (re.compile(r"\b[0-9]{5,}\b"), "SECONDS"),
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A copy of what the demo needs, in a folder whose name has a space."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    return folder


def run_demo(place: Path, autorelease: Path = COMMAND, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["sh", "scripts/demo.sh", autorelease],
        cwd=place,
        env=fresh_environment(place) | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def without_times(output: str) -> str:
    for pattern, word in CHANGING:
        output = pattern.sub(word, output)
    return output


def standing_for_autorelease(place: Path, body: str) -> Path:
    """A program in a folder of its own, with a python beside it, that runs the real one and does something more."""
    folder = place / "bin"
    folder.mkdir()
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    wrapper = folder / "autorelease"
    wrapper.write_text(f'#!/bin/sh\n"{COMMAND}" "$@"\ncode=$?\n{body}\nexit $code\n', encoding="utf-8")
    for path in (python, wrapper):
        path.chmod(0o755)
    return wrapper


def sql_when(place: Path, pattern: str, statement: str) -> str:
    """Shell that changes the ledger of the demo once the real command was called with such arguments."""
    change = place / "change.py"
    change.write_text(
        f"import sqlite3\nc = sqlite3.connect('demo/allocations.db')\nc.execute({statement!r})\nc.commit()\n",
        encoding="utf-8",
    )
    return f'case "$*" in *--dry-run*) ;; {pattern}) "{sys.executable}" "{change}" || code=99 ;; esac'


def test_it_shows_the_same_numbers_twice_whatever_its_caller_has_in_the_environment(place: Path) -> None:
    other = {"AUTORELEASE_CONFIG": "/none", "AUTORELEASE_LEDGER": "sqlite:////none", "AUTORELEASE_LOG_LEVEL": "wrong"}
    first, second = run_demo(place), run_demo(place, COMMAND, **other)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert without_times(first.stdout) == without_times(second.stdout)
    assert "demo: read back: 37 rows were released, and no other" in first.stdout
    assert first.stdout.rstrip().endswith("the ledger and the journal.")


def test_a_demo_that_is_not_its_own_is_left_alone(place: Path) -> None:
    (place / "demo").mkdir()
    (place / "demo" / "thesis.txt").write_text("ten years of work", encoding="utf-8")
    refused = run_demo(place)
    assert refused.returncode == 1
    assert "was not made by an earlier demo" in refused.stderr
    assert (place / "demo" / "thesis.txt").read_text("utf-8") == "ten years of work"
    assert [path.name for path in (place / "demo").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        # One that must not be Released, and one that must be.
        (
            (
                "UPDATE vm_allocations SET status = iif(sid = 'later-000', 'Released', 'Active'), "
                "released_at = iif(sid = 'later-000', 1, NULL) WHERE sid IN ('later-000', 'starter-003')"
            ),
            "['later-000', 'starter-003']",
        ),
        ("UPDATE vm_allocations SET released_at = NULL WHERE sid = 'overdue-000'", "differ"),
    ],
)
def test_a_wrong_row_in_the_ledger_fails_it(place: Path, body: str, complaint: str) -> None:
    failed = run_demo(place, standing_for_autorelease(place, sql_when(place, '*"tick --once"*', body)))
    assert failed.returncode == 1
    assert "demo: FAILED: the ledger's Released rows differ" in failed.stderr
    assert complaint in failed.stderr


def test_a_wrong_exit_code_fails_it(place: Path) -> None:
    failed = run_demo(place, standing_for_autorelease(place, 'case "$*" in *"tick --once"*) code=0 ;; esac'))
    assert failed.returncode == 1
    assert "demo: FAILED: exit 0 where 7 was expected" in failed.stderr


def test_a_wrong_count_fails_it(place: Path) -> None:
    """One row of the sample is taken away right after it was made."""
    body = sql_when(place, "init*", "DELETE FROM vm_allocations WHERE sid = 'starter-000'")
    failed = run_demo(place, standing_for_autorelease(place, body))
    assert failed.returncode == 1
    assert "demo: FAILED: allocations to release: 36 where 37 was expected" in failed.stderr
