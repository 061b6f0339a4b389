"""Which process is which, by real ones: those that run, that ended, that wait for their parent, that are elsewhere."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from autorelease.processes import Life, Process, boot_id, find_life, is_running, own_process

# Says which process it is, and waits until its input ends.
SAYS = """
import sys
from autorelease.processes import own_process
process = own_process()
print(process.pid, process.started, process.namespace, process.boot_id, flush=True)
sys.stdin.read()
"""
LOOKS = """
import sys
from autorelease.processes import Process, find_life
pid, started, namespace, boot = sys.argv[1:]
number = int(started) if started != "None" else None
print(find_life(Process(int(pid), number, namespace if namespace != "None" else None, boot)).value)
"""
ELSEWHERE = ("unshare", "--pid", "--fork", "--mount-proc")


def written_down(line: str) -> Process:
    """The process of a line of SAYS."""
    pid, started, namespace, boot = line.split()
    return Process(int(pid), int(started), namespace, boot)


@pytest.fixture
def other() -> Iterator["subprocess.Popen[str]"]:
    """Another process, which has said nothing yet."""
    words = [sys.executable, "-c", SAYS]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def line_of(process: "subprocess.Popen[str]") -> Process:
    assert process.stdout is not None
    return written_down(process.stdout.readline())


def test_this_process_runs() -> None:
    process = own_process()
    assert process.pid == os.getpid()
    assert process.namespace == os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - as the kernel writes it
    assert process.boot_id == boot_id()
    assert process.started is not None
    assert find_life(process) is Life.RUNNING


def test_it_runs_until_it_is_killed(other: "subprocess.Popen[str]") -> None:
    process = line_of(other)
    assert process.pid == other.pid
    assert find_life(process) is Life.RUNNING
    other.send_signal(signal.SIGSTOP)
    assert find_life(process) is Life.RUNNING
    other.kill()
    # It has ended, and its parent has not asked for it: it waits as a zombie, with its pid.
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    assert find_life(process) is Life.GONE
    other.wait(30)
    assert find_life(process) is Life.GONE


def test_who_got_its_pid_is_not_the_same(other: "subprocess.Popen[str]") -> None:
    process = line_of(other)
    assert process.started is not None
    for started in (process.started - 1, process.started + 1, 0):
        assert not is_running(replace(process, started=started))


def test_what_was_not_written_down_is_not_compared(other: "subprocess.Popen[str]") -> None:
    process = line_of(other)
    assert find_life(replace(process, namespace=None, boot_id=None)) is Life.RUNNING
    assert find_life(replace(process, started=None)) is Life.PERHAPS
    other.kill()
    other.wait(30)
    assert find_life(Process(process.pid)) is Life.GONE


def test_one_of_another_boot_or_of_another_namespace_is_gone() -> None:
    process = own_process()
    assert find_life(replace(process, boot_id="0" * 32)) is Life.GONE
    assert find_life(replace(process, namespace="pid:[1]")) is Life.GONE


@pytest.mark.parametrize("pid", [0, -1, 2**31 - 1, 2**40, 2**70])
def test_what_is_no_pid_is_no_process(pid: int) -> None:
    """To kill(2), 0 and what is below it are groups."""
    assert find_life(Process(pid)) is Life.GONE
    assert find_life(Process(-os.getpid())) is Life.GONE


def test_somebody_elses_process_is_seen() -> None:
    """The first process of this namespace is root's, or this user's own."""
    assert find_life(Process(1)) is Life.PERHAPS


def test_a_name_that_looks_like_the_rest_of_the_line(tmp_path: Path) -> None:
    """The kernel writes a process's name as it is."""
    odd = tmp_path / "a) S 1 (b"
    shutil.copy("/bin/cat", odd)
    with subprocess.Popen([odd], stdin=subprocess.PIPE) as process:
        fields = Path(f"/proc/{process.pid}/stat").read_text("utf-8").rpartition(")")[2].split()
        assert find_life(Process(process.pid, int(fields[19]))) is Life.RUNNING
        assert find_life(Process(process.pid, int(fields[19]) + 1)) is Life.GONE
        process.kill()


# --- other namespaces -------------------------------------------------------------------------------------------------


def elsewhere(*options: str) -> list[str]:
    """What to start a command with, so that it has a pid namespace of its own."""
    words = ["unshare", "--pid", "--fork", *options]
    if shutil.which("unshare") is None or subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        pytest.skip(f"NOT CHECKED: {' '.join(words)} is not allowed here")
    return words


def seen(*before: str, process: Process) -> str:
    """What another process makes of it."""
    facts = (process.pid, process.started, process.namespace, process.boot_id)
    ended = subprocess.run(
        [*before, sys.executable, "-c", LOOKS, *map(str, facts)], capture_output=True, text=True, check=True, timeout=60
    )
    return ended.stdout.strip()


@pytest.mark.parametrize("options", [["--mount-proc"], []], ids=["its own /proc", "the /proc of its parent"])
def test_a_namespace_of_its_own(options: list[str]) -> None:
    words = elsewhere(*options)
    started = [*words, sys.executable, "-c", SAYS]
    with subprocess.Popen(started, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as inside:
        process = line_of(inside)
        assert process.pid == 1
        assert process.namespace != own_process().namespace
        # From here, and from a third one, it cannot be seen: and the first process of both is not it.
        assert find_life(process) is Life.GONE
        assert seen(*words, process=process) == "gone"
        inside.communicate()


def test_a_proc_of_another_namespace_is_not_believed() -> None:
    """Its numbers are those of other processes; only kill(2) counts ours."""
    words = elsewhere()
    # The first process there is the one that looks; in this /proc, 1 is another.
    assert seen(*words, process=Process(1, 1, None, boot_id())) == "perhaps"
    assert seen(*words, process=Process(os.getpid(), 1, None, boot_id())) == "gone"


def test_where_proc_is_hidden_only_the_pid_is_left(tmp_path: Path) -> None:
    """Root alone can hide it."""
    words = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /proc && exec "$@"', str(tmp_path)]
    if os.geteuid() != 0 or subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        pytest.skip("NOT CHECKED: /proc cannot be hidden here")
    process = own_process()
    assert seen(*words, process=process) == "perhaps"
    assert seen(*words, process=replace(process, pid=2**31 - 1)) == "gone"
    with subprocess.Popen(
        [*words, sys.executable, "-c", SAYS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as hidden:
        assert hidden.stdout is not None
        pid, *rest = hidden.stdout.readline().split()
        assert (int(pid) > 0, rest[:2]) == (True, ["None", "None"])
        hidden.communicate()
