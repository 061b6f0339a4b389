"""A start by a process that has loaded the command is the same as a real one, in all that a run can see of it."""

import os
import signal
from pathlib import Path

import pytest

from tests.e2e.reports import wait_until
from tests.support import warm
from tests.support.place import DAY, NOW, PERMISSIVE, Place, Ran, allocation, command_provisioner, program
from tests.support.started import Started, wait_for_end

# Of the process that called it: signals, umask, group and session, folder, its streams, and what else it has open but
# for what it waits by for this very program.
FACTS = """
cd /proc/$PPID || exit 1
grep -E '^(SigBlk|SigIgn|SigCgt|Umask):' status
cut -d ')' -f 2 stat | cut -d ' ' -f 4,5
readlink cwd
for each in fd/*; do
    kind=$(readlink "$each")
    case $each in fd/[012]) echo "$each ${kind%%:[*}"; continue ;; esac
    case $kind in pipe:* | anon_inode:* | '') ;; *) echo "${kind%%:[*}" ;; esac
done | sort
"""
ENVIRONMENTS: dict[str, dict[str, str]] = {"usual": {}, "far away": {"TZ": "Pacific/Kiritimati", "LC_ALL": "C"}}


def choose(patched: pytest.MonkeyPatch, is_real: bool) -> None:  # noqa: FBT001 - one of the two kinds
    """Let starts be of this kind."""
    if is_real:
        patched.setenv(warm.REAL_STARTS, "1")
    else:
        patched.delenv(warm.REAL_STARTS, raising=False)
        patched.delenv("COVERAGE_PROCESS_CONFIG", raising=False)


def run(place: Place, is_real: bool, *arguments: str) -> Ran:  # noqa: FBT001 - one of the two kinds
    """One run, of either kind."""
    with pytest.MonkeyPatch.context() as patched:
        choose(patched, is_real)
        assert warm.can_start({"PATH": "", "LANG": "C.UTF-8", **place.environment}) is not is_real
        return place.run(*arguments)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_what_a_process_has_is_what_a_real_one_has(place: Place, environment: str, umask: int) -> None:
    here = Place(place.folder, ENVIRONMENTS[environment])
    facts = place.folder / "facts"
    here.configure(command_provisioner([program(place.folder, f"{{ {FACTS} }} >> '{facts}'")]), PERMISSIVE)
    here.make_ledger()
    before = os.umask(umask)
    seen = []
    try:
        for is_real in (True, False):
            here.insert([allocation(f"due {is_real}", NOW - DAY)])
            ran = run(here, is_real, "tick", "--once")
            assert ran.code == 0, ran.err
            seen.append(facts.read_text(encoding="utf-8"))
            facts.unlink()
    finally:
        os.umask(before)
    real, warmed = seen
    assert f"Umask:\t{umask:04o}" in real
    assert {str(place.folder), str(place.journal), "fd/1 pipe"} <= set(real.splitlines())
    assert warmed == real


@pytest.mark.parametrize(
    "arguments",
    [
        ("--version",),
        ("tick", "--help"),
        ("nonsense",),
        ("list-expired", "--at", "2026-01-01T00:00:00Z"),
        ("list-expired", "--at", "2026-01-01T00:00:00Z", "--format", "json"),
        ("health",),
        ("explain", "\udcff"),
    ],
    ids=repr,
)
def test_output_and_exit_code_are_the_same(place: Place, arguments: tuple[str, ...]) -> None:
    place.make_ledger([allocation("due", 1_700_000_000, owner="Zoë")])
    real, warmed = (run(place, is_real, *arguments) for is_real in (True, False))
    assert real.out or real.err
    assert (warmed.code, warmed.out) == (real.code, real.out)
    # A line of the log begins with the time.
    assert [line[len("2026-01-01T00:00:00Z") :] for line in warmed.err.splitlines()] == [
        line[len("2026-01-01T00:00:00Z") :] for line in real.err.splitlines()
    ]


@pytest.mark.parametrize(("name", "code"), [("KILL", -signal.SIGKILL), ("TERM", 143)])
def test_a_signal_ends_it_as_it_ends_a_real_one(place: Place, tmp_path: Path, name: str, code: int) -> None:
    place.configure(command_provisioner([program(tmp_path, f"kill -s {name} $PPID; sleep 0.1")]), PERMISSIVE)
    place.make_ledger()
    for is_real in (True, False):
        place.insert([allocation(f"due {is_real}", NOW - DAY)])
        assert run(place, is_real, "tick", "--once").code == code


@pytest.mark.parametrize("is_real", [True, False])
def test_one_that_runs_can_be_looked_at_and_killed_and_keeps_its_number_until_it_is_waited_for(
    place: Place, monkeypatch: pytest.MonkeyPatch, *, is_real: bool
) -> None:
    choose(monkeypatch, is_real)
    begun = place.folder / "begun"
    place.configure(command_provisioner([program(place.folder, f"true > '{begun}'; sleep 0.2")]), PERMISSIVE)
    place.make_ledger([allocation("due", NOW - DAY)])
    with place.start("tick", "--once") as process:
        assert isinstance(process, Started) is not is_real
        wait_until(begun.exists)
        assert process.poll() is None
        assert place.query("SELECT pid FROM ticks", database=place.journal) == [(process.pid,)]
        process.kill()
        wait_for_end(process)
        status = Path(f"/proc/{process.pid}/status")
        assert "State:\tZ" in status.read_text("utf-8")
        out, _ = process.communicate()
    assert (process.returncode, process.poll(), process.wait()) == (-signal.SIGKILL,) * 3
    assert out == ""
    wait_until(lambda: not status.exists())
    # It has ended: nobody is hit.
    process.send_signal(signal.SIGKILL)
