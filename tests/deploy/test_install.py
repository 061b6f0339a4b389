"""`make install` puts files where they are looked for, with the right paths in them, enables nothing, and can undo it.

The program itself is only made in `make test-host`: that has to fetch what it needs.
"""

import os
import stat
import subprocess
from pathlib import Path

import pytest

from tests.deploy.test_systemd import run_tool
from tests.docs.documents import ROOT

UNITS = ("autorelease.service", "autorelease.timer", "autorelease-failure@.service")
PREFIXES = ("/usr", "/usr/local", "/opt/autorelease")


def script(name: str, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["/bin/sh", ROOT / "scripts" / name, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def install(folder: Path, prefix: str) -> set[str]:
    """Install the files; returns the path of each as it will be."""
    ended = script("install-files.sh", folder, prefix)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    return {f"/{path.relative_to(folder)}" for path in folder.rglob("*") if not path.is_dir()}


def text(folder: Path, place: str) -> str:
    return (folder / place.lstrip("/")).read_text("utf-8")


@pytest.mark.parametrize("prefix", PREFIXES)
def test_files_are_where_they_are_looked_for(prefix: str, tmp_path: Path) -> None:
    found = install(tmp_path, prefix)
    # systemd looks in no other prefix than these two.
    system = "/usr" if prefix == "/usr" else "/usr/local"
    share = f"{prefix}/share"
    expected = {
        *(f"{system}/lib/systemd/system/{unit}" for unit in UNITS),
        f"{system}/lib/sysusers.d/autorelease.conf",
        f"{system}/lib/tmpfiles.d/autorelease.conf",
        f"{share}/man/man1/autorelease.1",
        f"{share}/bash-completion/completions/autorelease",
        f"{share}/zsh/site-functions/_autorelease",
        f"{share}/fish/vendor_completions.d/autorelease.fish",
        "/etc/cron.d/autorelease",
        *(f"{share}/doc/autorelease/{name}" for name in ("README.md", "runbook.md", "CHANGELOG.md", "LICENSE")),
        *(f"{share}/doc/autorelease/docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
        *(f"{share}/doc/autorelease/docs/schema/{path.name}" for path in (ROOT / "docs/schema").iterdir()),
        f"{share}/doc/autorelease/examples/config.toml",
        f"{share}/doc/autorelease/examples/cron",
    }
    assert found == expected
    for place in found:
        assert stat.S_IMODE((tmp_path / place.lstrip("/")).stat().st_mode) == 0o644, place


@pytest.mark.parametrize("prefix", PREFIXES)
def test_paths_are_those_of_the_installation(prefix: str, tmp_path: Path) -> None:
    found = install(tmp_path, prefix)
    [service] = [place for place in found if place.endswith("/autorelease.service")]
    assert f"\nExecStart={prefix}/bin/autorelease tick --once\n" in text(tmp_path, service)
    assert text(tmp_path, "/etc/cron.d/autorelease").count(f" {prefix}/bin/autorelease ") == 2
    # roff has the dashes of a prefix as they are.
    assert f"{prefix}/share/doc/autorelease" in text(tmp_path, f"{prefix}/share/man/man1/autorelease.1")
    if prefix != "/usr":
        assert not [place for place in found if "/usr/bin/autorelease" in text(tmp_path, place)]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_systemd_finds_what_was_installed_and_nothing_is_enabled(prefix: str, tmp_path: Path) -> None:
    install(tmp_path, prefix)
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    listed = run_tool("systemctl", f"--root={tmp_path}", "list-unit-files", "--no-legend")
    states = {line.split()[0]: line.split()[1] for line in listed.stdout.splitlines()}
    assert states == {
        "autorelease.timer": "disabled",
        "autorelease.service": "static",
        "autorelease-failure@.service": "static",
    }
    made = run_tool("systemd-sysusers", f"--root={tmp_path}", "autorelease.conf")
    assert made.returncode == 0, made.stderr
    assert "autorelease:" in text(tmp_path, "/etc/passwd")
    assert not list((tmp_path / "etc/systemd/system").iterdir())


@pytest.mark.parametrize("prefix", PREFIXES)
def test_uninstall_leaves_nothing_of_it_and_all_of_others(prefix: str, tmp_path: Path) -> None:
    kept = {"/etc/autorelease/config.toml", "/var/lib/autorelease/journal.db", f"{prefix}/bin/other"}
    for place in kept:
        (tmp_path / place.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place.lstrip("/")).touch()
    program = tmp_path / f"{prefix.lstrip('/')}/lib/autorelease/bin/autorelease"
    program.parent.mkdir(parents=True)
    program.touch()
    (tmp_path / f"{prefix.lstrip('/')}/bin/autorelease").symlink_to("../lib/autorelease/bin/autorelease")
    install(tmp_path, prefix)
    ended = script("uninstall.sh", tmp_path, prefix)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert {f"/{path.relative_to(tmp_path)}" for path in tmp_path.rglob("*") if not path.is_dir()} == kept
    again = script("uninstall.sh", tmp_path, prefix)
    assert again.returncode == 0, "twice is no error"


def test_nothing_is_removed_from_under_an_enabled_timer(tmp_path: Path) -> None:
    install(tmp_path, "/usr/local")
    enabled = run_tool("systemctl", f"--root={tmp_path}", "enable", "autorelease.timer")
    assert enabled.returncode == 0, enabled.stderr
    ended = script("uninstall.sh", tmp_path, "/usr/local")
    assert ended.returncode == 1
    assert "systemctl disable --now autorelease.timer" in ended.stderr
    assert (tmp_path / "usr/local/lib/systemd/system/autorelease.service").exists()


def test_a_crontab_that_was_switched_on_stays_on(tmp_path: Path) -> None:
    install(tmp_path, "/usr/local")
    crontab = tmp_path / "etc/cron.d/autorelease"
    switched_on = crontab.read_text("utf-8").replace("\n#17 ", "\n17 ")
    crontab.write_text(switched_on, encoding="utf-8")
    install(tmp_path, "/usr/local")
    assert crontab.read_text("utf-8") == switched_on


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "/",
        "usr",
        "/usr/",
        "/usr//local",
        "/opt/../usr",
        "/opt/a b",
        "/opt/a|b",
        "/opt/$(id)",
        "/home/ann/vm",
        "/root",
        "/run/x",
    ],
)
def test_a_prefix_that_cannot_work_is_refused(prefix: str, tmp_path: Path) -> None:
    for name in ("install-files.sh", "install-program.sh", "uninstall.sh"):
        ended = script(name, tmp_path, prefix)
        assert ended.returncode == 1
        assert f"PREFIX={prefix}: " in ended.stderr
    assert not list(tmp_path.iterdir())


def test_a_python_that_the_service_cannot_see_is_refused(tmp_path: Path) -> None:
    python = tmp_path / "python3"
    python.write_text("#!/bin/sh\necho /home/ann/.pyenv/versions/3.12.1/bin/python3.12\n", encoding="utf-8")
    python.chmod(0o755)
    ended = script("install-program.sh", tmp_path / "root", "/usr/local", python)
    assert ended.returncode == 1
    assert "cannot see /home/ann/.pyenv" in ended.stderr
    assert not (tmp_path / "root").exists()


def test_make_hands_over_what_it_was_told(tmp_path: Path) -> None:
    arguments = ["DESTDIR=/stage", "PREFIX=/usr", "PYTHON=/usr/bin/python3"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    for target in ("install", "uninstall"):
        command = ["make", "--no-print-directory", "--dry-run", target, *arguments]
        said = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=60
        )
        for line in said.stdout.splitlines():
            assert '"/stage" "/usr"' in line
    assert said.stdout.count("\n") == 1
