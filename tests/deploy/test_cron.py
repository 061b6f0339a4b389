"""The crontab for hosts without systemd: its line is run as cron would, with a real autorelease and a real logger.

Only three paths of it are changed: the program's, the system log's socket, and the folder by which systemd is known.
"""

import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.docs.documents import ROOT
from tests.support.place import (
    COMMAND,
    HOUR,
    LEDGER_PROVISIONER,
    NOW,
    PERMISSIVE,
    Place,
    allocation,
    command_provisioner,
    fresh_environment,
    program,
)

CRONTAB = ROOT / "deploy/cron/autorelease"
LONGEST = 1000
INFO, ERROR = 9 * 8 + 6, 9 * 8 + 3
ENTRY = re.compile(r"#(?P<schedule>(?:\S+ ){5})(?P<user>[a-z]+) (?P<command>.+)")


def settings() -> dict[str, str]:
    return dict(re.findall(r"^([A-Z]+)=(.*)$", CRONTAB.read_text("utf-8"), re.MULTILINE))


def entry() -> "re.Match[str]":
    """The one line that is switched off."""
    [found] = [match for line in CRONTAB.read_text("utf-8").splitlines() if (match := ENTRY.fullmatch(line))]
    return found


class SystemLog:
    """A socket as syslog has one, read by a thread: logger waits where there is no room in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._server.bind(str(path))
        self._lines: list[tuple[int, str, str]] = []
        self._is_settled = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while data := self._server.recv(65536):
            if data == b"settled":
                self._is_settled.set()
                continue
            match = re.match(r"<(\d+)>\w+ +\d+ [\d:]+ (\w+): (.*)", data.decode("utf-8"))
            assert match, data
            self._lines.append((int(match[1]), match[2], match[3]))

    def _send(self, data: bytes) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.sendto(data, str(self.path))

    def lines(self) -> list[tuple[int, str, str]]:
        """(priority, tag, text) of all that was sent before now."""
        self._is_settled.clear()
        self._send(b"settled")
        assert self._is_settled.wait(timeout=30)
        return list(self._lines)

    def texts(self, priority: int) -> list[str]:
        """What the crontab logged at this priority."""
        return [text for level, tag, text in self.lines() if level == priority and tag == "autorelease"]

    def close(self) -> None:
        """End the thread."""
        self._send(b"")
        self._reader.join(timeout=30)
        self._server.close()


@pytest.fixture
def system_log(tmp_path: Path) -> Iterator[SystemLog]:
    """A system log of this test's own."""
    log = SystemLog(tmp_path / "log")
    yield log
    log.close()


@dataclass(frozen=True, slots=True)
class Cron:
    """The line on a host of its own."""

    place: Place
    log: SystemLog

    def start(self, *, command: Path = COMMAND) -> "subprocess.Popen[str]":
        line = entry()["command"]
        for there, here in (
            ("/usr/bin/autorelease", f'"{command}"'),
            ("/run/systemd/system", str(self.place.folder / "systemd")),
            ("logger ", f"logger --socket {self.log.path} "),
        ):
            assert there in line
            line = line.replace(there, here)
        return subprocess.Popen(
            [settings()["SHELL"], "-c", line],
            cwd=self.place.folder,
            env={**fresh_environment(self.place.folder), **settings(), "AUTORELEASE_CONFIG": str(self.place.config)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *, command: Path = COMMAND) -> str:
        """Run it to its end; returns what cron would mail."""
        mail, _ = self.start(command=command).communicate(timeout=60)
        return mail


@pytest.fixture
def cron(place: Place, system_log: SystemLog) -> Cron:
    for tool in ("logger", "timeout", "nice"):
        assert shutil.which(tool), f"{tool} is a part of every Debian"
    place.configure(LEDGER_PROVISIONER, PERMISSIVE)
    place.make_ledger([allocation("vm-1", NOW - HOUR)])
    return Cron(place, system_log)


def test_the_file_is_one_that_cron_takes() -> None:
    text = CRONTAB.read_text("utf-8")
    assert text.endswith("\n"), "cron passes over a last line without an end"
    rest = [line for line in text.splitlines() if not line.startswith("#")]
    assert len(rest) == len(settings()) == 3, "nothing but settings is switched on"
    assert "%" not in entry()["command"], "cron would read a new line there"
    assert len(entry()["command"]) < LONGEST
    assert CRONTAB.name.isidentifier(), "cron passes over names with dots"


def test_it_runs_every_hour_as_the_services_user() -> None:
    minute, *others = entry()["schedule"].split()
    assert 0 < int(minute) < 60
    assert others == ["*"] * 4
    unit = (ROOT / "deploy/systemd/autorelease.service").read_text("utf-8")
    assert f"\nUser={entry()['user']}\n" in unit
    limits = re.findall(r"^Timeout(?:Start|Stop)Sec=(\d+)min$", unit, re.MULTILINE)
    assert [60 * int(minutes) for minutes in limits] == [2880, 120]
    assert "timeout --kill-after=120 2880 " in entry()["command"]
    assert f"\nUMask=0{re.findall('umask ([0-9]+);', entry()['command'])[0]}\n" in unit


def test_a_sweep_is_in_the_log_and_not_in_the_mail(cron: Cron) -> None:
    assert cron.run() == ""
    assert cron.place.released() == {"vm-1"}
    assert any("success (exit 0)" in line for line in cron.log.texts(INFO))
    assert cron.log.texts(ERROR) == []


def test_a_failure_is_an_error_in_the_log_and_mailed(cron: Cron) -> None:
    cron.place.insert([allocation("vm-2", "soon")])
    mail = cron.run()
    assert cron.log.texts(ERROR) == ["the tick failed: exit status 3"]
    assert "the tick failed: exit status 3" in mail
    assert len(mail.splitlines()) == 1
    assert any("invalid: vm-2" in line for line in cron.log.texts(INFO))


def test_nothing_happens_where_systemd_runs(cron: Cron) -> None:
    (cron.place.folder / "systemd").mkdir()
    assert cron.run() == ""
    assert cron.log.lines() == []
    assert cron.place.released() == set()


def test_nothing_happens_once_the_program_is_removed(cron: Cron) -> None:
    assert cron.run(command=cron.place.folder / "removed") == ""
    assert cron.log.lines() == []


def test_a_program_that_cannot_be_started_is_a_failure(cron: Cron) -> None:
    broken = program(cron.place.folder, "", name="broken")
    broken.write_text("#!/no/such/python\n", encoding="utf-8")
    assert "exit status 127" in cron.run(command=broken)
    assert cron.log.texts(ERROR) == ["the tick failed: exit status 127"]


def slow_provisioner(folder: Path) -> str:
    """It notes each call, and works until the file `go` is there."""
    body = f'cd {folder}\necho "$1" >>calls\nwhile [ ! -e go ]; do sleep 0.02; done'
    return command_provisioner([program(folder, body), "{sid}"])


def wait_for_calls(folder: Path) -> None:
    limit = time.monotonic() + 30
    while not (folder / "calls").exists():
        assert time.monotonic() < limit, "the provisioner was not called"
        time.sleep(0.02)


def test_runs_do_not_overlap_and_that_is_no_failure(cron: Cron) -> None:
    folder = cron.place.folder
    cron.place.configure(slow_provisioner(folder), PERMISSIVE)
    first = cron.start()
    wait_for_calls(folder)
    assert cron.run() == ""
    assert any("another tick is running" in line for line in cron.log.texts(INFO))
    (folder / "go").touch()
    mail, _ = first.communicate(timeout=60)
    assert (mail, cron.log.texts(ERROR)) == ("", [])
    assert (folder / "calls").read_text("utf-8") == "vm-1\n"
    assert cron.place.released() == {"vm-1"}


def test_a_run_that_takes_too_long_is_told_to_stop_and_writes_its_report(cron: Cron) -> None:
    cron.place.insert([allocation(f"vm-{number}", NOW - HOUR) for number in range(2, 21)])
    # The parent of its parent is timeout(1), whose time is over when the first call is made.
    body = 'read -r _ _ _ timeout _ <"/proc/$PPID/stat"\nkill -s ALRM "$timeout"\nsleep 0.5'
    cron.place.configure(
        command_provisioner([program(cron.place.folder, body)]), PERMISSIVE, "[release]\nconcurrency = 1\n"
    )
    assert "exit status 124" in cron.run()
    assert cron.log.texts(ERROR) == ["the tick failed: exit status 124"]
    assert any("(exit 143)" in line for line in cron.log.texts(INFO))
    assert 0 < len(cron.place.released()) < 20
