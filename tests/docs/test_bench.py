"""The program behind the page on speed runs, shows what is quoted, and leaves nothing behind."""

import subprocess
import sys
from pathlib import Path

from tests.docs.documents import ROOT, SCALE, section, table
from tests.support.place import fresh_environment


def test_it_measures_and_cleans_up(tmp_path: Path) -> None:
    ended = subprocess.run(
        [
            sys.executable,
            ROOT / "bench" / "million.py",
            "--rows",
            "3000",
            "--due",
            "30",
            "--runs",
            "1",
            "--folder",
            ".",
        ],
        cwd=tmp_path,
        env=fresh_environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    ratios = [line for line in ended.stdout.partition("ratios of medians\n")[2].splitlines() if line]
    assert len(ratios) == len(table(section(SCALE, "Speed")))
    assert list(tmp_path.iterdir()) == []


def test_it_refuses_a_fleet_that_cannot_be(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, ROOT / "bench" / "million.py", "--rows", "30", "--due", "11"],
        cwd=tmp_path,
        env=fresh_environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (ended.returncode, ended.stdout) == (2, "")
