"""The operator's own program, run as real processes: what it is given, what its end means, and how it is ended."""

import errno
import json
import os
import signal
import time
import tracemalloc
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from autorelease.errors import ConfigurationError, ProvisionerDown, ProvisionerError, ProvisionerSeemsDown
from autorelease.model import Allocation, Release, Result
from autorelease.provisioners import Probing, Provisioner, open_provisioners
from autorelease.provisioners.command import LONGEST_ARGUMENT, SEARCH_PATH
from tests.e2e.reports import sweep
from tests.support.engine import made_allocation
from tests.support.place import DAY, NOW, PERMISSIVE, Place, allocation, command_provisioner, program

ALLOCATION = made_allocation(
    "vm-1",
    vm_ref="ref-1",
    vm_uid="uid-1",
    owner="Ada",
    plan="small",
    expires_at=datetime(2026, 12, 1, 11, 0, 0, 7, UTC),
)
PLACES = ["{sid}", "{vm_ref}", "{vm_uid}", "{owner}", "{plan}", "{expires_at}", "{token}"]


def made(argv: Sequence[object], *, timeout: float = 60, **options: Any) -> Provisioner:
    """From a section of the configuration."""
    sections = {"default": {"kind": "command", "argv": [str(word) for word in argv], **options}}
    return open_provisioners(sections, Path("/etc/x.toml"), timedelta(seconds=timeout), stamps=True)[
        "default"
    ].provisioner


def run(
    folder: Path, body: str, *words: str, allocation: Allocation = ALLOCATION, timeout: float = 60, **options: Any
) -> Release:
    """Release an allocation with a shell script of this body."""
    return made([program(folder, body), *words], timeout=timeout, **options).release(allocation)


def failure(
    folder: Path, body: str, *words: str, allocation: Allocation = ALLOCATION, timeout: float = 60, **options: Any
) -> ProvisionerError:
    """The error that the same ends with; it is about this row alone."""
    with pytest.raises(ProvisionerError) as raised:
        run(folder, body, *words, allocation=allocation, timeout=timeout, **options)
    assert not isinstance(raised.value, ProvisionerDown)
    return raised.value


# --- what its end means -----------------------------------------------------------------------------------------------


def test_exit_0_is_released(tmp_path: Path) -> None:
    assert run(tmp_path, "exit 0") == Release(Result.RELEASED, evidence="exit 0", proof=True)


def test_what_already_names_is_a_miss(tmp_path: Path) -> None:
    assert run(tmp_path, "exit 3", already=[3]) == Release(Result.ALREADY_RELEASED, evidence="exit 3", proof=False)


def test_exit_3_means_nothing_until_it_is_named(tmp_path: Path) -> None:
    """It is what curl and wget end with, where they made no call at all."""
    error = failure(tmp_path, "echo 'curl: (3) URL rejected'; exit 3")
    assert (error.retryable, error.timed_out, error.end_unknown) == (False, False, False)
    assert str(error).startswith("the command failed (exit 3; if that means 'not there any more', write already = [3]")
    assert str(error).endswith("): curl: (3) URL rejected")
    assert str(failure(tmp_path, "exit 3", already=[44])) == "the command failed (exit 3)"
    assert str(failure(tmp_path, "exit 4")) == "the command failed (exit 4)"


def test_what_pending_names_is_accepted_and_not_gone_yet(tmp_path: Path) -> None:
    answer = run(tmp_path, "echo HTTP 202; exit 20", pending=[20, 21], already=[3])
    assert answer == Release(Result.PENDING, evidence="exit 20: HTTP 202")
    assert not failure(tmp_path, "exit 20").retryable


@pytest.mark.parametrize(("status", "result"), [(0, "released"), (3, "already_released"), (9, "pending")])
def test_the_tail_of_its_output_is_the_evidence_of_every_answer(tmp_path: Path, status: int, result: str) -> None:
    body = f"head -c 100000 /dev/zero | tr '\\0' x; echo; echo out; echo err >&2; exit {status}"
    answer = run(tmp_path, body, already=[3], pending=[9])
    assert answer.result == result
    assert answer.evidence.startswith(f"exit {status}: xxx")
    assert answer.evidence.endswith("xxx\nout\nerr")
    assert len(answer.evidence) <= 4096 + len("exit 0: ")


@pytest.mark.parametrize("more", range(4))
def test_the_tail_begins_with_a_whole_character(tmp_path: Path, more: int) -> None:
    body = f"i=0; while [ $i -lt 1500 ]; do printf '\\360\\237\\232\\200'; i=$((i + 1)); done; printf '%.{more}s' xyz"
    answer = run(tmp_path, body)
    assert set(answer.evidence.removeprefix("exit 0: ")) <= {"\U0001f680", *"xyz"}
    assert len(answer.evidence.removeprefix("exit 0: ").encode()) > 4096 - 4


def test_exit_75_is_worth_another_try(tmp_path: Path) -> None:
    error = failure(tmp_path, "echo busy; exit 75")
    assert (error.retryable, error.timed_out) == (True, False)
    assert str(error) == "the command failed (exit 75): busy"


@pytest.mark.parametrize("status", [77, 78])
def test_exit_77_and_78_are_down(tmp_path: Path, status: int) -> None:
    with pytest.raises(ProvisionerDown, match=f"exit {status}.*: no credentials"):
        run(tmp_path, f"echo no credentials; exit {status}")


@pytest.mark.parametrize("script", ["no-such-command", "exec /etc/passwd"])
def test_what_a_shell_cannot_run_seems_to_be_down(tmp_path: Path, script: str) -> None:
    with pytest.raises(ProvisionerSeemsDown, match=r"exit 12[67]"):
        run(tmp_path, script)


def test_what_a_shell_cannot_run_is_failed_where_down_does_not_name_it(tmp_path: Path) -> None:
    assert str(failure(tmp_path, "exit 127", down=[77])) == "the command failed (exit 127)"


@pytest.mark.parametrize("status", [1, 2, 4, 74, 76, 79, 125, 128, 137, 255])
def test_every_other_exit_is_failed(tmp_path: Path, status: int) -> None:
    error = failure(tmp_path, f"exit {status}")
    assert (error.retryable, error.end_unknown) == (False, False)
    assert str(error) == f"the command failed (exit {status})"


def test_the_statuses_can_be_chosen(tmp_path: Path) -> None:
    chosen: dict[str, Any] = {"already": [44, 45], "retry": [], "down": [1]}
    assert run(tmp_path, "exit 45", **chosen).result is Result.ALREADY_RELEASED
    assert not failure(tmp_path, "exit 3", **chosen).retryable
    assert not failure(tmp_path, "exit 75", **chosen).retryable
    with pytest.raises(ProvisionerDown):
        run(tmp_path, "exit 1", **chosen)


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGSEGV", "SIGABRT"])
def test_a_signal_is_failed_and_its_end_unknown(tmp_path: Path, name: str) -> None:
    error = failure(tmp_path, f"kill -{int(signal.Signals[name])} $$", already=[9, 15], retry=[137, 143])
    assert (error.retryable, error.timed_out, error.end_unknown) == (False, False, True)
    assert name in str(error)


def test_a_signal_without_a_name_is_failed_too(tmp_path: Path) -> None:
    """The kernel has real-time signals, most of which nobody has named."""
    error = failure(tmp_path, "kill -40 $$")
    assert "40" in str(error)


# --- whether a VM is there --------------------------------------------------------------------------------------------


def asked(folder: Path, body: str, *words: str, allocation: Allocation = ALLOCATION, **options: Any) -> bool:
    """Whether the VM is there, by a shell script of this body; another one would release it."""
    release = program(folder, f"touch {folder}/released", name="release-it")
    argv = [str(program(folder, body)), *words]
    provisioner = made([release], exists=argv, already=[3, 4], pending=[20], **options)
    assert isinstance(provisioner, Probing)
    try:
        return provisioner.exists(allocation)
    finally:
        assert not (folder / "released").exists()


def test_only_what_has_a_question_can_be_asked(tmp_path: Path) -> None:
    assert not isinstance(made(["true"], already=[3]), Probing)
    assert not isinstance(made(["true"], already=[3], exists=[]), Probing)
    assert asked(tmp_path, "exit 0") is True
    assert asked(tmp_path, "exit 3") is False
    assert asked(tmp_path, "exit 4") is False


@pytest.mark.parametrize("status", [1, 2, 5, 20, 75, 128, 255])
def test_any_other_status_tells_nothing_of_the_vm(tmp_path: Path, status: int) -> None:
    with pytest.raises(ProvisionerError, match=f"exists failed .exit {status}.: hm$") as raised:
        asked(tmp_path, f"echo hm; exit {status}")
    assert not isinstance(raised.value, ProvisionerDown)
    assert raised.value.retryable == (status == 75)


def test_a_question_whose_end_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autorelease.provisioners.command.KILL_AFTER", timedelta(seconds=0.1))
    with pytest.raises(ProvisionerError, match="killed by SIGKILL"):
        asked(tmp_path, "kill -KILL $$")
    with pytest.raises(ProvisionerError, match=r"took longer than 0\.3 s") as raised:
        asked(tmp_path, "trap 'exit 3' TERM; while :; do sleep 0.01; done", timeout=0.3)
    assert raised.value.timed_out
    with pytest.raises(ProvisionerDown, match="exit 77"):
        asked(tmp_path, "exit 77")


def test_a_question_is_given_what_a_release_is_given(tmp_path: Path) -> None:
    body = f"printf '%s\\0' \"$@\" > {tmp_path}/arguments; cat > {tmp_path}/document; env > {tmp_path}/environment"
    assert asked(tmp_path, body, *PLACES)
    assert (tmp_path / "arguments").read_text().split("\0")[:-1] == [
        *("vm-1", "ref-1", "uid-1", "Ada", "small"),
        *("2026-12-01T11:00:00.000007Z", "vm-1@2026-12-01T11:00:00.000007Z"),
    ]
    assert json.loads((tmp_path / "document").read_text())["vm_uid"] == "uid-1"
    assert "AUTORELEASE_VM_REF=ref-1\n" in (tmp_path / "environment").read_text()
    with pytest.raises(ProvisionerError, match="begins with a dash"):
        asked(tmp_path, "exit 0", "{vm_ref}", allocation=made_allocation("a", vm_ref="--all"))
    with pytest.raises(ProvisionerError, match="which this row does not have"):
        asked(tmp_path, "exit 0", "{owner}", allocation=made_allocation("a", owner=None))


def test_the_preflight_looks_for_both_programs(tmp_path: Path) -> None:
    there, missing = program(tmp_path, "exit 0"), tmp_path / "missing"
    made([there], exists=["true"], already=[3]).preflight()
    for argv, exists in (([there], [missing]), ([missing], [there])):
        with pytest.raises(ProvisionerDown, match="missing' is missing or not executable"):
            made(argv, exists=[str(word) for word in exists], already=[3]).preflight()


# --- what cannot be started -------------------------------------------------------------------------------------------


def down_before_and_in_the_call(provisioner: Provisioner) -> None:
    """Both the preflight and a call say that nothing can be released."""
    with pytest.raises(ProvisionerDown, match=r"missing or not executable|is not in"):
        provisioner.preflight()
    with pytest.raises(ProvisionerDown):
        provisioner.release(ALLOCATION)


def test_a_program_that_is_missing(tmp_path: Path) -> None:
    down_before_and_in_the_call(made([tmp_path / "missing"]))
    down_before_and_in_the_call(made(["no-program-has-this-name"]))
    (tmp_path / "file").touch()
    down_before_and_in_the_call(made([tmp_path / "file" / "below"]))


def test_a_program_that_is_not_executable(tmp_path: Path) -> None:
    script = program(tmp_path, "exit 0")
    script.chmod(0o644)
    down_before_and_in_the_call(made([script]))
    down_before_and_in_the_call(made([tmp_path]))


def test_a_program_that_went_away_after_the_preflight(tmp_path: Path) -> None:
    script = program(tmp_path, "exit 0")
    provisioner = made([script])
    provisioner.preflight()
    script.unlink()
    with pytest.raises(ProvisionerDown):
        provisioner.release(ALLOCATION)


def test_a_program_that_moves_within_the_fixed_path_is_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [tmp_path / "first", tmp_path / "second"]
    monkeypatch.setattr("autorelease.provisioners.command.SEARCH_PATH", ":".join(map(str, folders)))
    for folder in folders:
        folder.mkdir()
    script = program(folders[0], "echo here", name="mover")
    provisioner = made(["mover"])
    assert provisioner.release(ALLOCATION).evidence == "exit 0: here"
    script.rename(folders[1] / "mover")
    assert provisioner.release(ALLOCATION).evidence == "exit 0: here"
    (folders[1] / "mover").unlink()
    with pytest.raises(ProvisionerDown, match="'mover' is not in"):
        provisioner.release(ALLOCATION)


@pytest.mark.parametrize("text", ["#!/no/such/interpreter\n", "exit 0\n", ""], ids=["interpreter", "no #!", "empty"])
def test_a_program_that_the_kernel_cannot_run(tmp_path: Path, text: str) -> None:
    """It is the program that is broken, not this row: no row may be charged for it."""
    script = tmp_path / "broken"
    script.write_text(text)
    script.chmod(0o755)
    with pytest.raises(ProvisionerDown):
        made([script]).release(ALLOCATION)


def test_a_name_is_found_in_the_fixed_path_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "exit 0", name="only-here")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProvisionerDown, match=SEARCH_PATH):
        made(["only-here"]).preflight()
    made(["true"]).preflight()
    assert made(["true"]).release(ALLOCATION).result is Result.RELEASED


# --- what it is given -------------------------------------------------------------------------------------------------


def arguments(folder: Path, *words: str, allocation: Allocation = ALLOCATION, **options: Any) -> list[str]:
    """What the program finds as its arguments."""
    run(folder, f'printf "%s\\0" "$@" > {folder}/arguments', *words, allocation=allocation, **options)
    return (folder / "arguments").read_text(encoding="utf-8").split("\0")[:-1]


def test_whole_elements_are_replaced(tmp_path: Path) -> None:
    assert arguments(tmp_path, "--force", *PLACES, "sid", "") == [
        "--force",
        "vm-1",
        "ref-1",
        "uid-1",
        "Ada",
        "small",
        "2026-12-01T11:00:00.000007Z",
        "vm-1@2026-12-01T11:00:00.000007Z",
        "sid",
        "",
    ]


@pytest.mark.parametrize(
    "value", ["$(touch x)", "`id`", "a b", "a;b|c&d>e<f*g?", "'\"\\", "~", "{sid}", "two\nlines", "ä€😀"]
)
def test_no_shell_reads_what_a_row_says(tmp_path: Path, value: str) -> None:
    given = made_allocation(value, vm_ref=value)
    assert arguments(tmp_path, "{sid}", "{vm_ref}", allocation=given) == [value, value]


@pytest.mark.parametrize("place", ["{vm_uid}", "{owner}", "{plan}"])
def test_a_value_that_the_row_does_not_have(tmp_path: Path, place: str) -> None:
    error = failure(tmp_path, f"touch {tmp_path}/ran", place, allocation=made_allocation("a"))
    assert place in str(error)
    assert not error.retryable
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("value", ["-rf", "-", "--help"])
def test_a_value_that_could_be_taken_for_an_option(tmp_path: Path, value: str) -> None:
    given = made_allocation("a", vm_ref=value)
    error = failure(tmp_path, f"touch {tmp_path}/ran", "{vm_ref}", allocation=given)
    assert "begins with a dash" in str(error)
    assert not error.retryable
    assert not (tmp_path / "ran").exists()
    assert arguments(tmp_path, "{vm_ref}", allocation=given, allow_dash=True) == [value]
    # Where it is no argument it does no harm.
    assert arguments(tmp_path, "{sid}", allocation=given) == ["a"]


def test_a_value_that_holds_a_nul(tmp_path: Path) -> None:
    given = made_allocation("a", owner="x\0y", vm_uid="x\0y")
    error = failure(tmp_path, "exit 0", "{owner}", allocation=given)
    assert "NUL" in str(error)
    assert not error.retryable
    # Nothing of it reaches the environment either, and JSON can say it.
    run(tmp_path, f"cat /proc/$$/environ > {tmp_path}/environment; cat > {tmp_path}/document", allocation=given)
    assert b"AUTORELEASE_VM_UID" not in (tmp_path / "environment").read_bytes()
    assert json.loads((tmp_path / "document").read_text())["vm_uid"] == "x\0y"


def test_a_value_that_is_too_long_for_an_argument(tmp_path: Path) -> None:
    just, over = "x" * LONGEST_ARGUMENT, "x" * (LONGEST_ARGUMENT + 1)
    assert arguments(tmp_path, "{owner}", allocation=made_allocation("a", owner=just)) == [just]
    error = failure(tmp_path, "exit 0", "{owner}", allocation=made_allocation("a", owner=over))
    assert "too long" in str(error)
    assert not error.retryable
    # The kernel counts bytes.
    wide = "€" * (LONGEST_ARGUMENT // 3 + 1)
    assert "too long" in str(failure(tmp_path, "exit 0", "{owner}", allocation=made_allocation("a", owner=wide)))


def test_values_that_are_too_long_together(tmp_path: Path) -> None:
    """Linux takes at most 6 MiB of arguments and environment, however large the stack may be."""
    given = made_allocation("a", owner="x" * 131_000)
    error = failure(tmp_path, "exit 0", *["{owner}"] * 60, allocation=given)
    assert not error.retryable
    assert os.strerror(errno.E2BIG) in str(error)
    assert error.not_called


@pytest.mark.parametrize(
    "columns", [{"owner": None}, {"owner": "-rf"}, {"owner": "x\0y"}, {"owner": "x" * (LONGEST_ARGUMENT + 1)}]
)
def test_a_row_for_which_no_program_is_run_says_so(tmp_path: Path, columns: dict[str, Any]) -> None:
    assert failure(tmp_path, "exit 0", "{owner}", allocation=made_allocation("a", **columns)).not_called


@pytest.mark.parametrize("body", ["exit 1", "exit 75", "kill -9 $$"])
def test_a_program_that_was_run_was_called(tmp_path: Path, body: str) -> None:
    assert not failure(tmp_path, body).not_called


def test_a_program_that_is_not_there_is_down_however_odd_the_rows_between_are(place: Place) -> None:
    place.configure(
        command_provisioner([program(place.folder, "exit 127"), "{vm_ref}"]), PERMISSIVE, "[release]\nconcurrency = 1\n"
    )
    place.make_ledger(
        allocation(f"vm-{number}", NOW - DAY + number, vm_ref=f"{'-' * (number % 2)}{number}") for number in range(20)
    )
    report = sweep(place, code=8)
    assert {error["sid"] for error in report["errors"]} == {"vm-1", "vm-3", "vm-5", "vm-7"}
    assert report["skipped"]["deferred"] == 16


def environment(folder: Path, allocation: Allocation) -> dict[str, str]:
    """What the program finds in its environment."""
    run(folder, f"cat /proc/$$/environ > {folder}/environment", allocation=allocation)
    entries = (folder / "environment").read_text(encoding="utf-8").split("\0")[:-1]
    return dict(entry.split("=", 1) for entry in entries)


def test_the_environment_is_exactly_this(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/of-the-service")
    monkeypatch.setenv("A_SECRET", "of the service")
    monkeypatch.setenv("LD_PRELOAD", "")
    assert environment(tmp_path, ALLOCATION) == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "HOME": "/home/of-the-service",
        "AUTORELEASE_SID": "vm-1",
        "AUTORELEASE_VM_REF": "ref-1",
        "AUTORELEASE_VM_UID": "uid-1",
        "AUTORELEASE_EXPIRES_AT": "2026-12-01T11:00:00.000007Z",
        "AUTORELEASE_TOKEN": "vm-1@2026-12-01T11:00:00.000007Z",
    }


def test_what_does_not_fit_into_the_environment_is_left_out(tmp_path: Path) -> None:
    found = environment(tmp_path, made_allocation("x" * 140_000, vm_ref="short", vm_uid=None))
    assert {name for name in found if name.startswith("AUTORELEASE_")} == {
        "AUTORELEASE_VM_REF",
        "AUTORELEASE_EXPIRES_AT",
    }


def test_the_longest_value_that_fits_is_there(tmp_path: Path) -> None:
    longest = "x" * (LONGEST_ARGUMENT - len("AUTORELEASE_VM_REF="))
    assert environment(tmp_path, made_allocation("a", vm_ref=longest))["AUTORELEASE_VM_REF"] == longest
    assert "AUTORELEASE_VM_REF" not in environment(tmp_path, made_allocation("a", vm_ref=longest + "x"))


def test_its_input_is_all_of_the_allocation_as_json(tmp_path: Path) -> None:
    given = made_allocation("s\n\"'", owner="ä", vm_uid=None, plan=None, provisioner="second")
    run(tmp_path, f"cat > {tmp_path}/document", allocation=given)
    assert json.loads((tmp_path / "document").read_bytes()) == {
        "sid": "s\n\"'",
        "vm_ref": "s\n\"'",
        "vm_uid": None,
        "owner": "ä",
        "plan": None,
        "expires_at": "2026-12-01T11:00:00.000000Z",
        "token": "s\n\"'@2026-12-01T11:00:00.000000Z",
        "provisioner": "second",
        "status": "Active",
    }


def test_it_works_in_the_root_folder_and_in_a_group_of_its_own(tmp_path: Path) -> None:
    run(tmp_path, f"pwd > {tmp_path}/where; echo $$ $(cut -d' ' -f5 /proc/$$/stat) > {tmp_path}/who")
    assert (tmp_path / "where").read_text() == "/\n"
    pid, group = (tmp_path / "who").read_text().split()
    assert pid == group != str(os.getpgrp())


def test_it_has_a_session_of_its_own(tmp_path: Path) -> None:
    run(tmp_path, f"echo $$ $(cut -d' ' -f6 /proc/$$/stat) > {tmp_path}/who")
    pid, session = (tmp_path / "who").read_text().split()
    assert pid == session != str(os.getsid(0))


def test_it_inherits_no_file_of_ours(tmp_path: Path) -> None:
    with (tmp_path / "ours").open("w") as ours:
        os.set_inheritable(ours.fileno(), True)  # noqa: FBT003
        run(tmp_path, f"ls -l /proc/$$/fd > {tmp_path}/files")
    assert str(tmp_path / "ours") not in (tmp_path / "files").read_text()


# --- input and output -------------------------------------------------------------------------------------------------

HUGE = made_allocation("a", owner="x" * 2_000_000)


def test_a_huge_input_arrives_as_a_whole(tmp_path: Path) -> None:
    run(tmp_path, f"wc -c > {tmp_path}/size", allocation=HUGE)
    assert int((tmp_path / "size").read_text()) > 2_000_000


@pytest.mark.parametrize("body", ["exec <&-; exit 0", "exit 0", "head -c 10 > /dev/null; exit 0"])
def test_a_program_that_does_not_read_its_input(tmp_path: Path, body: str) -> None:
    assert run(tmp_path, body, allocation=HUGE).result is Result.RELEASED


def test_input_and_output_flow_at_the_same_time(tmp_path: Path) -> None:
    """A program that answers while it reads fills both pipes."""
    assert run(tmp_path, "cat; cat /dev/null", allocation=HUGE).result is Result.RELEASED


def test_the_tail_of_its_output_is_in_the_error(tmp_path: Path) -> None:
    body = "head -c 10485760 /dev/zero | tr '\\0' x; echo; echo on stdout; echo on stderr >&2; exit 1"
    said = str(failure(tmp_path, body))
    assert said.startswith("the command failed (exit 1): xxx")
    assert said.endswith("x\non stdout\non stderr")
    assert len(said) <= 4096 + len("the command failed (exit 1): ")


def test_no_more_than_the_tail_is_held_in_memory(tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        assert run(tmp_path, "head -c 10485760 /dev/zero").result is Result.RELEASED
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


def test_output_that_is_no_text_is_made_text(tmp_path: Path) -> None:
    assert "\ufffd" in str(failure(tmp_path, "printf '\\377\\376'; exit 1"))


# --- ending it --------------------------------------------------------------------------------------------------------


def sleeper(folder: Path) -> Path:
    """A `sleep` whose command line bears this folder, to be found again."""
    link = folder / "sleep"
    link.symlink_to("/bin/sleep")
    return link


def processes_of(folder: Path) -> list[int]:
    """The processes that run a program of this folder, as the kernel sees them; zombies have no command line."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.fsencode(folder) in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def all_gone(folder: Path) -> bool:
    """Whether none is left within half a minute: the kernel takes a moment to end what was killed."""
    patience = time.monotonic() + 30
    while processes_of(folder) and time.monotonic() < patience:
        time.sleep(0.01)
    return not processes_of(folder)


def test_a_program_that_takes_too_long_is_asked_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autorelease.provisioners.command.KILL_AFTER", timedelta(seconds=60))
    body = f"trap 'echo going; exit 0' TERM; echo begun; {sleeper(tmp_path)} 300 & wait"
    started = time.monotonic()
    error = failure(tmp_path, body, timeout=1)
    assert time.monotonic() - started < 30
    # Ended by us, it has released nothing for certain, whatever its exit status says.
    assert (error.timed_out, error.retryable) == (True, True)
    assert "took longer than 1 s" in str(error)
    assert "begun\ngoing" in str(error)
    assert all_gone(tmp_path)


def test_a_program_that_does_not_want_to_end_is_killed_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autorelease.provisioners.command.KILL_AFTER", timedelta(seconds=0.2))
    body = f"trap '' TERM; {sleeper(tmp_path)} 300 & while :; do {tmp_path}/sleep 300; done"
    error = failure(tmp_path, body, timeout=1)
    assert error.timed_out
    assert all_gone(tmp_path)


def test_a_child_that_outlives_its_parents_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program goes when it is asked to, a child of it does not."""
    monkeypatch.setattr("autorelease.provisioners.command.KILL_AFTER", timedelta(seconds=60))
    body = f"(trap '' TERM; exec {sleeper(tmp_path)} 300) & wait"
    assert failure(tmp_path, body, timeout=1).timed_out
    assert all_gone(tmp_path)


def test_a_program_that_writes_for_ever_takes_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autorelease.provisioners.command.KILL_AFTER", timedelta(seconds=0.2))
    error = failure(tmp_path, "trap '' TERM; while :; do echo and on; done", timeout=0.3)
    assert error.timed_out
    assert len(str(error)) < 4096 + 100


def test_a_grandchild_that_holds_the_output_open_is_not_waited_for(tmp_path: Path) -> None:
    """As of a program that starts a server and leaves it running."""
    started = time.monotonic()
    try:
        assert run(tmp_path, f"{sleeper(tmp_path)} 300 & exit 0", timeout=60).result is Result.RELEASED
        assert time.monotonic() - started < 30
    finally:
        for pid in processes_of(tmp_path):
            os.kill(pid, signal.SIGKILL)


# --- what it leaves behind --------------------------------------------------------------------------------------------


def children() -> set[str]:
    """The children of this process, zombies among them."""
    return {pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


def test_two_hundred_calls_leave_no_file_and_no_zombie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autorelease.provisioners.command.KILL_AFTER", timedelta(seconds=0.05))
    before = (len(list(Path("/proc/self/fd").iterdir())), children())
    well = made(["true"])
    for _ in range(190):
        well.release(ALLOCATION)
    for provisioner in (made(["false"]), made(["sleep", "60"], timeout=0.05), made([tmp_path / "missing"])):
        for _ in range(4):
            with pytest.raises(ProvisionerError):
                provisioner.release(ALLOCATION)
    assert (len(list(Path("/proc/self/fd").iterdir())), children()) == before


# --- the configuration ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "'argv': is missing: must be a list that is not empty"),
        ({"argv": []}, "argv"),
        ({"argv": "rm -rf"}, "argv"),
        ({"argv": ["true", 7]}, r"argv\.1"),
        ({"argv": [""]}, "must be an absolute path"),
        ({"argv": ["./release"]}, "must be an absolute path"),
        ({"argv": ["bin/release"]}, "must be an absolute path"),
        ({"argv": ["tr\0ue"]}, "must be an absolute path"),
        ({"argv": ["{sid}"]}, "braces"),
        ({"argv": ["/bin/{sid}"]}, "braces"),
        ({"argv": ["true", "--id={sid}"]}, "braces"),
        ({"argv": ["true", "{sid"]}, "braces"),
        ({"argv": ["true", "}"]}, "braces"),
        ({"argv": ["true", "{}"]}, "braces"),
        ({"argv": ["true", "{SID}"]}, "braces"),
        ({"argv": ["true", "{ sid }"]}, "braces"),
        ({"argv": ["true", "{{sid}}"]}, "braces"),
        ({"argv": ["true", "{status}"]}, "braces"),
        ({"argv": ["true"], "args": []}, "unknown key 'args'. The nearest known key is 'argv'"),
        ({"argv": ["true"], "timeout": 3}, "unknown key 'timeout'"),
        ({"argv": ["true"], "already": [75]}, "each in one of the lists only"),
        ({"argv": ["true"], "already": [3, 3]}, "each in one of the lists only"),
        ({"argv": ["true"], "retry": [78]}, "each in one of the lists only"),
        ({"argv": ["true"], "pending": [75]}, "each in one of the lists only"),
        ({"argv": ["true"], "pending": [4], "already": [3, 4]}, "each in one of the lists only"),
        ({"argv": ["true"], "pending": [0]}, "from 1 to 255"),
        ({"argv": ["true"], "pending": [256]}, "from 1 to 255"),
        ({"argv": ["true"], "pending": [202.0]}, r"pending\.0"),
        ({"argv": ["true"], "pending": 4}, "pending"),
        ({"argv": ["true"], "exists": "true", "already": [3]}, "exists"),
        ({"argv": ["true"], "exists": ["look"]}, r"exists: no exit status could ever mean .* already = "),
        ({"argv": ["true"], "exists": ["look"], "already": []}, "exists: no exit status could ever mean"),
        ({"argv": ["true"], "exists": [""], "already": [3]}, "exists: '' must be an absolute path"),
        ({"argv": ["true"], "exists": ["./look"], "already": [3]}, "exists: './look' must be an absolute path"),
        ({"argv": ["true"], "exists": ["look", "--id={sid}"], "already": [3]}, "exists: '--id={sid}': braces"),
        ({"argv": ["true", "x"], "exists": ["true", "x"], "already": [3]}, "exists: is the same as argv"),
        ({"argv": ["true"], "exists": ["/usr/bin/true"], "already": [3]}, "exists: is the same as argv"),
        ({"argv": ["true"], "already": [0]}, "from 1 to 255"),
        ({"argv": ["true"], "down": [256]}, "from 1 to 255"),
        ({"argv": ["true"], "down": [-9]}, "from 1 to 255"),
        ({"argv": ["true"], "down": ["77"]}, r"down\.0"),
        ({"argv": ["true"], "already": 3}, "already"),
        ({"argv": ["true"], "already": [True]}, r"already\.0"),
        ({"argv": ["true"], "allow_dash": "yes"}, "allow_dash"),
    ],
)
def test_a_wrong_configuration_is_refused_with_its_place(options: dict[str, Any], words: str) -> None:
    sections = {"hall 2": {"kind": "command", **options}}
    with pytest.raises(ConfigurationError, match=words) as raised:
        open_provisioners(sections, Path("/etc/x.toml"), timedelta(seconds=1), stamps=True)
    assert str(raised.value).startswith("/etc/x.toml: [provisioners.hall 2]")
