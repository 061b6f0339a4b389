"""The shipped units: systemd reads them as meant, they confine, and their limits agree with the program's.

systemd's tools judge the files; nothing here needs systemd to be running.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from autorelease.limits import STAMP_RESCUE
from autorelease.provisioners.command import KILL_AFTER
from autorelease.settings import Release
from tests.support.tools import tool

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
SERVICE, TIMER, FAILURE = "autorelease.service", "autorelease.timer", "autorelease-failure@.service"
EXECUTABLE = "/usr/bin/autorelease"
LARGEST_GROUP = 6


@dataclass(frozen=True, slots=True)
class Directive:
    """One `name=value` line; `place` counts from 1 after the comment that explains it (0: none does)."""

    section: str
    name: str
    value: str
    place: int


def read_unit(name: str) -> list[Directive]:
    """Every directive in order, repeated ones too, which configparser would lose."""
    directives: list[Directive] = []
    section, place = "", 0
    for line in (UNITS / name).read_text("utf-8").splitlines():
        assert not line.endswith("\\"), f"{name}: a continued line: {line}"
        if not line or line.startswith("["):
            section, place = line.strip("[]") or section, 0
        elif line.startswith("#"):
            place = 1
        else:
            key, equals, value = line.partition("=")
            assert equals, f"{name}: neither comment nor directive: {line}"
            directives.append(Directive(section, key, value, place))
            place += 1 if place else 0
    return directives


def values(unit: str, name: str) -> list[str]:
    return [directive.value for directive in read_unit(unit) if directive.name == name]


def value(unit: str, name: str) -> str:
    [only] = values(unit, name)
    return only


def duration(unit: str, name: str) -> timedelta:
    """A time span as these units write it: `48min`, `30s`."""
    match = re.fullmatch(r"([0-9]+)(min|s)", value(unit, name))
    assert match, f"{unit}: {name}={value(unit, name)} has no unit of time"
    return int(match[1]) * {"min": timedelta(minutes=1), "s": timedelta(seconds=1)}[match[2]]


def run_tool(name: str, *arguments: str | Path, timezone: str = "UTC") -> subprocess.CompletedProcess[str]:
    """Run one of systemd's tools; without it skip, saying so, but never where the checks decide."""
    plain = {"LC_ALL": "C.UTF-8", "TZ": timezone, "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0"}
    return subprocess.run(
        [tool(name, "systemd"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ | plain,
    )


def copy_units(folder: Path, *, swap: tuple[str, str, str] | None = None) -> list[Path]:
    """The units with an executable that this machine has, and one seeded change (unit, old, new text)."""
    copies = []
    for name in (SERVICE, TIMER, FAILURE):
        text = (UNITS / name).read_text("utf-8")
        if swap is not None and swap[0] == name:
            assert swap[1] in text
            text = text.replace(swap[1], swap[2])
        copies.append(folder / name)
        copies[-1].write_text(text.replace(f"ExecStart={EXECUTABLE} ", "ExecStart=/bin/sh "), "utf-8")
    return copies


def verify(units: list[Path]) -> subprocess.CompletedProcess[str]:
    # Without --recursive-errors a misspelled key is a warning and exit 0.
    return run_tool("systemd-analyze", "verify", "--man=no", "--recursive-errors=yes", *units)


def security(unit: Path, threshold: int) -> subprocess.CompletedProcess[str]:
    return run_tool("systemd-analyze", "security", "--offline=yes", f"--threshold={threshold}", unit)


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    result = verify(copy_units(tmp_path))
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("unit", "right", "wrong"),
    [
        (SERVICE, "ProtectSystem=", "ProtctSystem="),
        (SERVICE, "KillMode=mixed", "KillMode=mixd"),
        (SERVICE, EXECUTABLE, "/usr/bin/no-such-program"),
        (TIMER, ":00:00 UTC", ":00:0O UTC"),
        (FAILURE, "SyslogLevel=alert", "SyslogLevel=alarm"),
    ],
)
def test_systemd_would_refuse_a_slip(tmp_path: Path, unit: str, right: str, wrong: str) -> None:
    result = verify(copy_units(tmp_path, swap=(unit, right, wrong)))
    assert result.returncode != 0, "verify did not notice: then it proves nothing above either"
    assert unit.partition(".")[0].rstrip("@") in result.stderr


@pytest.mark.parametrize(("unit", "threshold"), [(SERVICE, 12), (FAILURE, 25)])
def test_exposure_stays_low(tmp_path: Path, unit: str, threshold: int) -> None:
    copy_units(tmp_path)
    result = security(tmp_path / unit, threshold)
    assert result.returncode == 0, result.stdout


def test_exposure_would_notice_a_lost_line(tmp_path: Path) -> None:
    copy_units(tmp_path, swap=(SERVICE, "CapabilityBoundingSet=\n", ""))
    assert security(tmp_path / SERVICE, 12).returncode != 0


def test_timer_fires_every_hour_also_when_summer_time_ends() -> None:
    result = run_tool(
        "systemd-analyze", "calendar", "--base-time=2026-10-24 22:30:00 UTC", "--iterations=5",
        value(TIMER, "OnCalendar"), timezone="Europe/Berlin",
    )  # fmt: skip
    found = re.findall(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC$", result.stdout, re.MULTILINE)
    firings = [datetime.fromisoformat(text).replace(tzinfo=UTC) for text in found]
    first = datetime(2026, 10, 24, 23, tzinfo=UTC)
    assert firings == [first + timedelta(hours=hours) for hours in range(5)], result.stdout + result.stderr


def test_timer_catches_up_and_spreads() -> None:
    assert value(TIMER, "Persistent") == "true"
    assert value(TIMER, "FixedRandomDelay") == "true"
    # After a boot the delay starts anew: a long one starves a machine that reboots often.
    assert duration(TIMER, "RandomizedDelaySec") <= timedelta(minutes=10)
    assert value(TIMER, "WantedBy") == "timers.target"
    assert values(SERVICE, "WantedBy") == [], "the timer is what is enabled"


def test_start_limit_covers_a_whole_tick() -> None:
    release = Release()
    longest = release.deadline + release.timeout + KILL_AFTER + STAMP_RESCUE
    assert longest < duration(SERVICE, "TimeoutStartSec") < timedelta(hours=1)
    whole = duration(SERVICE, "TimeoutStartSec") + duration(SERVICE, "TimeoutStopSec")
    assert whole < timedelta(hours=1), "a run that hangs must be gone when the next one is due"


def test_stop_limit_covers_what_is_in_flight() -> None:
    assert duration(SERVICE, "TimeoutStopSec") > Release().timeout + KILL_AFTER + STAMP_RESCUE


def test_only_a_lock_and_a_stop_are_no_alarm() -> None:
    assert {int(code) for code in value(SERVICE, "SuccessExitStatus").split()} == {6, 143}


def test_failure_reaches_the_shipped_unit() -> None:
    # verify passes over an OnFailure= that names no unit.
    assert value(SERVICE, "OnFailure") == FAILURE.replace("@", "@%N")
    assert (UNITS / FAILURE).is_file()


def test_failure_line_says_what_and_where() -> None:
    line = value(FAILURE, "ExecStart").replace("$$", "$").replace("%%", "%").replace("\\\\", "\\")
    monitor = {"SERVICE_RESULT": "exit-code", "EXIT_CODE": "exited", "EXIT_STATUS": "7"}
    command = [word.replace("%i", "autorelease") for word in shlex.split(line)]
    environment = {f"MONITOR_{name}": text for name, text in monitor.items()}
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30, env=environment)
    assert said.stdout == (
        "autorelease.service failed: result=exit-code exit=exited/7; its log: journalctl "
        "_SYSTEMD_INVOCATION_ID=unknown; what to do: /usr/share/doc/autorelease/runbook.md, by exit status\n"
    )
    unknown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30, env={})
    assert "result=unknown exit=unknown/unknown" in unknown.stdout
    assert value(FAILURE, "SyslogLevel") == "alert"


def test_service_neither_restarts_nor_hides_a_lost_file() -> None:
    names = {directive.name for directive in read_unit(SERVICE)}
    # A missing credential ends a start that needs none, a false condition counts as success, and a restart
    # repeats the alarm on some versions: each is for a site to add, if at all.
    assert names.isdisjoint({"LoadCredential", "LoadCredentialEncrypted", "Restart"})
    assert not [name for name in names if name.startswith(("Condition", "Assert"))]


def test_boot_id_is_handed_over_where_it_is_hidden() -> None:
    assert value(SERVICE, "ProcSubset") == "pid"
    assert "AUTORELEASE_BOOT_ID=%b" in values(SERVICE, "Environment")


@pytest.mark.parametrize("unit", [SERVICE, FAILURE])
def test_every_line_has_its_reason(unit: str) -> None:
    service = [directive for directive in read_unit(unit) if directive.section == "Service"]
    assert len(service) > 20
    for directive in service:
        if directive.name in {"Type", "ExecStart"}:
            continue
        assert directive.place, f"{unit}: no comment before the group of {directive.name}="
        assert directive.place <= LARGEST_GROUP, f"{unit}: {directive.name}= is far from its comment"


def test_our_command_accepts_the_arguments() -> None:
    command, *arguments = shlex.split(value(SERVICE, "ExecStart"))
    assert command == EXECUTABLE
    installed = Path(sys.executable).parent / "autorelease"
    accepted = subprocess.run(
        [installed, *arguments, "--help"], capture_output=True, text=True, check=False, timeout=60
    )
    assert accepted.returncode == 0, accepted.stderr
    # Options are read before --help answers, so a misspelled one would not pass.
    refused = subprocess.run(
        [installed, *arguments, "--no-such-option", "--help"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert refused.returncode == 2, refused.stdout


def test_user_and_folders_are_made_as_the_service_expects(tmp_path: Path) -> None:
    for kind in ("sysusers.d", "tmpfiles.d"):
        (tmp_path / "usr/lib" / kind).mkdir(parents=True)
        shutil.copy(UNITS / kind / "autorelease.conf", tmp_path / "usr/lib" / kind)
    (tmp_path / "etc").mkdir()
    planned = run_tool("systemd-sysusers", "--dry-run", f"--root={tmp_path}")
    assert planned.returncode == 0, planned.stderr
    assert not (tmp_path / "etc/passwd").exists()
    made = run_tool("systemd-sysusers", f"--root={tmp_path}")
    assert made.returncode == 0, made.stderr
    passwd = [line.split(":") for line in (tmp_path / "etc/passwd").read_text("utf-8").splitlines()]
    [user] = [entry for entry in passwd if entry[0] == value(SERVICE, "User")]
    assert user[5] == value(SERVICE, "WorkingDirectory")
    assert user[6].endswith("/nologin")
    assert value(SERVICE, "StateDirectory") == Path(user[5]).name
    if os.geteuid() != 0:
        pytest.skip("NOT CHECKED: only root can give the folders of tmpfiles.d to their owners")
    created = run_tool("systemd-tmpfiles", "--create", f"--root={tmp_path}")
    assert (created.returncode, created.stderr) == (0, "")
    owner, group, mode = int(user[2]), int(user[3]), int(value(SERVICE, "StateDirectoryMode"), 8)
    assert describe(tmp_path / "var/lib/autorelease") == (mode, owner, group)
    assert describe(tmp_path / "etc/autorelease") == (0o750, 0, group)
    assert describe(tmp_path / "etc/autorelease/credentials") == (0o700, 0, 0)


def describe(folder: Path) -> tuple[int, int, int]:
    found = folder.stat()
    return found.st_mode & 0o7777, found.st_uid, found.st_gid
