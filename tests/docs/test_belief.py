"""The worked example of "Not found is not proof": each line of the page's table happens as it is written there."""

import json
import re
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.docs.documents import PROVISIONERS, section, table
from tests.e2e.reports import tick_report
from tests.support.place import DAY, HOUR, NOW, PERMISSIVE, Place, allocation, program

EXAMPLE = "Who is believed, by example"
# The files beside it say how it goes: none of them is named in `argv`.
RELEASE = """
cd '{folder}' || exit 1
answer() {{ echo "$1" >> answers; [ ! -e killed ] || {{ rm killed; kill -s KILL $PPID; }}; exit "$2"; }}
[ ! -e wrong-token ] || answer 'not found' 3
mv "vms/$1" "deleted/$1" 2> /dev/null || answer 'not found' 3
[ ! -e slow ] || {{ rm slow; answer pending 20; }}
answer released 0
"""
LOOK = """
cd '{folder}' || exit 1
[ ! -e wrong-token ] || exit 3
[ -e "vms/$1" ] || exit 3
"""
KILLED = "killed"
COUNTED = re.compile(r"(\d+) (released|already released|not found|pending|unproven)")
EXPIRED = re.compile(r"(\d+) that (?:(stand|stands)|is gone|are gone)")


class Line(NamedTuple):
    """One line of the table, as it is written."""

    tick: str
    before: str
    answers: str
    report: str
    exit_code: str
    why: str


class Provider:
    """The provisioner of the example: what happens to it, and what it has answered."""

    def __init__(self, folder: Path) -> None:
        self.place = Place(folder)
        self.folder = folder
        self.program = program(folder, RELEASE.format(folder=folder), "release-vm")
        self.look = program(folder, LOOK.format(folder=folder), "look-for-vm")
        for name in ("vms", "deleted"):
            (folder / name).mkdir()
        self.place.make_ledger()
        self.configure(exists=False)
        assert self.place.run("init").code == 0
        self.add("paying", expires_at=NOW + DAY)

    def configure(self, *, exists: bool = True) -> None:
        lines = [
            "[provisioners.default]",
            'kind = "command"',
            f"argv = {json.dumps([str(self.program), '{vm_ref}'])}",
            f"exists = {json.dumps([str(self.look), '{vm_ref}'] if exists else [])}",
            "already = [3]",
            "pending = [20]",
        ]
        self.place.configure("\n".join(lines) + "\n", PERMISSIVE, "[release]\nconcurrency = 1\n")

    def add(self, sid: str, *, expires_at: int = NOW - HOUR, stands: bool = True) -> None:
        self.place.insert([allocation(sid, expires_at, vm_ref=sid)])
        if stands:
            (self.folder / "vms" / sid).touch()

    def take_answers(self) -> list[str]:
        """What the program has answered since this was called last."""
        path = self.folder / "answers"
        answers = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return answers

    def edit(self) -> None:
        with self.program.open("a", encoding="utf-8") as file:
            file.write("# edited\n")


HAPPENS: dict[str, Callable[[Provider], object]] = {
    "the token is another project's": lambda provider: (provider.folder / "wrong-token").touch(),
    "the token is right again": lambda provider: (provider.folder / "wrong-token").unlink(),
    "the tick is killed in its call": lambda provider: (provider.folder / "killed").touch(),
    "`exists` is set": Provider.configure,
    "the program is edited": Provider.edit,
}


def counted(cell: str) -> list[tuple[str, int]]:
    """What a cell says: (what, how many) in its order. The cell says nothing else."""
    assert cell == "none" or all(COUNTED.fullmatch(part) for part in cell.split(", ")), cell
    return [(what, int(number)) for number, what in COUNTED.findall(cell)]


def prepare(provider: Provider, line: Line) -> list[str]:
    """Let happen what the line says, and return what is typed besides."""
    typed: list[str] = []
    expired, _, events = line.before.partition("; ")
    for part in expired.split(", ") if expired != "none" else ():
        match = EXPIRED.fullmatch(part)
        assert match, part
        for number in range(int(match[1])):
            # What stands has expired a little earlier, and is called first.
            stands = match[2] is not None
            provider.add(f"tick-{line.tick}-{part}-{number}", expires_at=NOW - HOUR - stands, stands=stands)
    for event in events.split("; ") if events else ():
        if match := re.fullmatch(r"`(--confirm) (\d+)` is typed", event):
            typed += match.groups()
        else:
            HAPPENS[event](provider)
    if "pending" in line.answers:
        (provider.folder / "slow").touch()
    return typed


def check(provider: Provider, line: Line) -> None:
    before = provider.place.released()
    typed = prepare(provider, line)
    standing = {path.name for path in (provider.folder / "vms").iterdir()}
    ran = provider.place.run("tick", "--once", "--json", *typed)
    answers = provider.take_answers()
    assert answers == [answer for answer, number in counted(line.answers) for _ in range(number)]
    if line.exit_code == KILLED:
        assert (ran.code, ran.out, line.report) == (-signal.SIGKILL, "", "none")
        return
    report = tick_report(ran, int(line.exit_code))
    found = {
        "released": report["rows_released"],
        "already released": report["rows_already_released"],
        "pending": report["rows_pending"],
        "unproven": Counter(error["code"] for error in report["errors"])["unproven"],
    }
    assert {what: number for what, number in found.items() if number} == dict(counted(line.report))
    assert report["rows_expired"] == sum(found.values())
    check_reasons(line, {error["message"] for error in report["errors"]})
    check_ledger(provider, before, standing, report["rows_released"] + report["rows_already_released"])


def check_reasons(line: Line, messages: set[str]) -> None:
    """What is not believed has its reason in the table, in the words of the program."""
    phrases = [phrase for phrase in re.findall(r"`([^`]*)`", line.why) if phrase != "exists"]
    assert bool(messages) == bool(phrases)
    assert all(phrase in message for phrase in phrases for message in messages), messages


def check_ledger(provider: Provider, before: set[str], standing: set[str], stamped: int) -> None:
    """So many rows are stamped, and of none of them the VM stands."""
    after = provider.place.released()
    assert after >= before
    assert len(after - before) == stamped
    still = {path.name for path in (provider.folder / "vms").iterdir()}
    assert still <= standing
    assert not after & still
    assert "paying" in still


def lines() -> list[Line]:
    return [Line(*row) for row in table(section(PROVISIONERS, EXAMPLE))]


def test_each_tick_of_the_example_goes_as_the_table_says(tmp_path: Path) -> None:
    provider = Provider(tmp_path)
    for number, line in enumerate(lines(), start=1):
        assert line.tick == str(number)
        try:
            check(provider, line)
        except AssertionError as error:
            pytest.fail(f"tick {number}: {error}")


def test_the_example_has_a_line_for_each_case_that_an_operator_meets() -> None:
    written = " ".join(line.before + line.why for line in lines())
    assert all(event in written for event in HAPPENS)
    reasons = ("it has never released", "all that it said", "its last 5", "it does not find", "the limit is")
    assert all(reason in written for reason in reasons)
    assert "--confirm" in written
