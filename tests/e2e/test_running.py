"""A tick among other processes: locks, signals, deadlines, kills, and programs that do not come back."""

import os
import re
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.reports import check_tick, error_report, history, listed, sids, sweep, tick_report, wait_until
from tests.support.place import (
    COMMAND,
    DAY,
    LEDGER_PROVISIONER,
    NOW,
    PERMISSIVE,
    Place,
    Ran,
    allocation,
    command_provisioner,
    fresh_environment,
    program,
)

if TYPE_CHECKING:
    from pathlib import Path

# Remembers what it has destroyed, says that it has begun, and waits until it may go on. Not for ever: a test that fails
# must leave nothing behind that runs.
SLOW = """
cd {folder}
echo "$1" >> calls
test -e "destroyed-$1" && exit 3
touch "destroyed-$1"
touch "started-$1"
left=3000
while ! test -e go && test $left -gt 0; do sleep 0.02; left=$((left - 1)); done
"""


def slowly(place: Place, names: Iterable[str], *sections: str, concurrency: int = 1) -> None:
    """Rows that are due in this order, and a release program that waits for the file `go`."""
    script = program(place.folder, SLOW.format(folder=place.folder))
    release = f"[release]\nconcurrency = {concurrency}\n"
    place.configure(command_provisioner([script, "{sid}"], "already = [3]"), PERMISSIVE, release + "".join(sections))
    place.make_ledger(allocation(name, NOW - DAY + number) for number, name in enumerate(names))


def started(place: Place, *names: str) -> None:
    """Wait until the release of these has begun."""
    wait_until(lambda: all((place.folder / f"started-{name}").exists() for name in names))


def go(place: Place) -> None:
    """Let the release program go on."""
    (place.folder / "go").touch()


def finish(process: "subprocess.Popen[str]") -> Ran:
    """Wait for the end of a command that was started."""
    out, err = process.communicate(timeout=120)
    return Ran(process.returncode, out, err)


def calls(place: Place) -> list[str]:
    """What the release program was called for, in order."""
    return (place.folder / "calls").read_text(encoding="utf-8").split()


def in_journal(place: Place, statement: str, *values: Any) -> None:
    """Change the journal behind the program's back."""
    with sqlite3.connect(place.journal) as journal:
        journal.execute(statement, values)
    journal.close()


# --- the lock -------------------------------------------------------------------------------------------------------


def test_one_tick_at_a_time(place: Place) -> None:
    slowly(place, ["a"])
    first = place.start("tick", "--once", "--json")
    started(place, "a")
    message = error_report(place.run("tick", "--once", "--json"), 6)["message"]
    assert f"pid {first.pid} " in message
    begun = re.search(r"started at (\S+Z)", message)
    assert begun is not None
    assert abs(datetime.now(UTC) - datetime.fromisoformat(begun[1])) < timedelta(minutes=5)
    # Looking needs no lock, and history shows the one that runs.
    assert sids(listed(place)) == {"a"}
    assert [tick["status"] for tick in history(place)["ticks"]] == ["running"]
    go(place)
    assert tick_report(finish(first), 0)["rows_released"] == 1
    # The one that was turned away did nothing, and left nothing.
    assert [tick["status"] for tick in history(place)["ticks"]] == ["success"]
    assert calls(place) == ["a"]


def test_a_lock_long_past_its_deadline_is_an_alarm(place: Place) -> None:
    slowly(place, ["a"])
    first = place.start("tick", "--once")
    started(place, "a")
    for past, code in ((timedelta(minutes=9), 6), (timedelta(minutes=11), 5)):
        ends_by = datetime.now(UTC) - past
        in_journal(place, "UPDATE ticks SET ends_by = ?", ends_by.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
        message = error_report(place.run("tick", "--once", "--json"), code)["message"]
        assert f"pid {first.pid} " in message
    assert "past its deadline" in message
    go(place)
    assert finish(first).code == 0


def test_the_lock_goes_with_the_process_and_not_with_its_children(place: Place) -> None:
    slowly(place, ["a", "b"])
    first = place.start("tick", "--once")
    started(place, "a")
    first.kill()
    first.communicate()
    # The release program of the killed tick still runs, and holds no lock.
    script = program(place.folder, "exit 0")
    place.configure(command_provisioner([script, "{sid}"]), PERMISSIVE)
    assert sweep(place)["rows_released"] == 2
    go(place)


# --- signals and the deadline ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_ends_a_tick_in_order(place: Place, number: signal.Signals, code: int) -> None:
    slowly(place, "abcde", concurrency=2)
    process = place.start("tick", "--once", "--json")
    started(place, "a", "b")
    process.send_signal(number)
    go(place)
    report = tick_report(finish(process), code)
    assert report["stopped_by"] == number.name
    assert (report["rows_released"], report["skipped"]["deferred"]) == (2, 3)
    assert place.released() == {"a", "b"}
    [tick] = history(place)["ticks"]
    assert (tick["status"], tick["exit_code"]) == ("stopped", code)
    after = sweep(place)
    assert (after["rows_released"], place.released()) == (3, set("abcde"))
    assert sorted(calls(place)) == list("abcde")


def test_nohup_keeps_its_word(place: Place) -> None:
    slowly(place, "ab")
    process = subprocess.Popen(
        ["nohup", COMMAND, "--config", place.config, "tick", "--once", "--json"],
        env=fresh_environment(place.folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    started(place, "a")
    process.send_signal(signal.SIGHUP)
    go(place)
    assert tick_report(finish(process), 0)["rows_released"] == 2


def test_a_second_interrupt_ends_it_at_once(place: Place) -> None:
    slowly(place, "ab")
    process = place.start("tick", "--once", "--json")
    started(place, "a")
    # Repeated, because two signals that arrive together are one.
    sent = 0
    ends = time.monotonic() + 60
    while process.poll() is None:
        assert time.monotonic() < ends
        process.send_signal(signal.SIGINT)
        sent += 1
        try:
            process.wait(timeout=0.1)
        except subprocess.TimeoutExpired:
            continue
    out, err = process.communicate()
    assert process.returncode == 130
    assert sent >= 2
    assert out == ""
    assert "Traceback" not in err
    # What was under way went through unheard: the program's "not there any more" is expected now.
    go(place)
    report = sweep(place)
    assert (report["rows_already_released"], report["rows_released"]) == (1, 1)
    assert [tick["status"] for tick in history(place)["ticks"]] == ["success", "crashed"]


def test_the_deadline_ends_a_tick_in_order(place: Place) -> None:
    script = program(place.folder, "sleep 1.3")
    release = '[release]\nconcurrency = 1\ndeadline = "1s"\n'
    place.configure(command_provisioner([script]), PERMISSIVE, release)
    place.make_ledger(allocation(name, NOW - DAY) for name in "abc")
    report = sweep(place, code=3)
    assert report["stopped_by"] == "deadline"
    # At most the one that was begun in time; on a slow machine none was.
    assert report["rows_released"] == len(place.released()) <= 1
    assert report["skipped"]["deferred"] == 3 - report["rows_released"]
    place.configure(LEDGER_PROVISIONER, PERMISSIVE)
    assert sweep(place)["rows_released"] == 3 - report["rows_released"]


# --- kills ----------------------------------------------------------------------------------------------------------


def test_after_a_kill_the_next_tick_converges(place: Place) -> None:
    slowly(place, "abcd", concurrency=2)
    # The first call comes back, so that at the kill one is done, two are under way, and one is not begun.
    (place.folder / "destroyed-a").touch()
    script = program(place.folder, 'test "$1" = a && exit 0; ' + SLOW.format(folder=place.folder))
    place.configure(command_provisioner([script, "{sid}"], "already = [3]"), PERMISSIVE, "[release]\nconcurrency = 2\n")
    process = place.start("tick", "--once", "--json")
    started(place, "b", "c")
    wait_until(lambda: place.released() == {"a"})
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    go(place)
    assert place.released() == {"a"}
    assert [tick["status"] for tick in history(place)["ticks"]] == ["running"]
    report = sweep(place)
    # b and c are gone, and their calls never came back: "not there any more" is what we expect to hear.
    assert (report["rows_released"], report["rows_already_released"], report["rows_failed"]) == (1, 2, 0)
    assert place.released() == set("abcd")
    ticks = history(place)["ticks"]
    assert [tick["status"] for tick in ticks] == ["success", "crashed"]
    assert (ticks[1]["exit_code"], ticks[1]["finished_at"]) == (None, None)
    assert [event["event"] for event in history(place, "--sid", "b")["events"]] == ["intent", "intent", "outcome"]
    # Each once by the killed tick, b and c once more by the next.
    assert sorted(calls(place)) == ["b", "b", "c", "c", "d"]
    assert sweep(place)["rows_expired"] == 0


def test_a_row_that_was_renewed_after_a_kill_is_a_conflict(place: Place) -> None:
    slowly(place, "ab")
    process = place.start("tick", "--once")
    started(place, "a")
    process.kill()
    process.communicate()
    go(place)
    place.execute("UPDATE vm_allocations SET expires_at = ? WHERE sid = 'a'", NOW + 30 * DAY)
    for _ in range(2):
        report = sweep(place, code=3)
        assert [(error["sid"], error["code"]) for error in report["errors"]] == [("a", "conflict")]
    assert place.released() == {"b"}
    assert calls(place) == ["a", "b"]


# --- provisioners that do not do as they should ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["says so", "is missing", "is not executable", "is no program"])
def test_a_provisioner_that_is_down(place: Place, kind: str) -> None:
    script = program(place.folder, f'touch {place.folder}/ran; echo "no route to the rack"; exit 77')
    argv = script if kind != "is missing" else place.folder / "nowhere"
    if kind == "is not executable":
        script.chmod(0o644)
    if kind == "is no program":
        script.write_text("\x7fELF, but not really", encoding="utf-8")
    place.configure(command_provisioner([argv, "{sid}"]), PERMISSIVE)
    place.make_ledger(allocation(name, NOW - DAY) for name in "abc")
    ran = place.run("tick", "--once", "--json")
    if kind == "is no program":
        # It is there and may be run: only the call shows that it cannot.
        assert ran.code in (3, 8)
        check_tick(ran.json(), ran.code)
        assert place.released() == set()
        return
    report = tick_report(ran, 8)
    [down] = report["down"]
    assert down["provisioner"] == "default"
    assert str(argv) in down["message"] or "no route to the rack" in down["message"]
    assert report["skipped"]["deferred"] == 3
    assert report["errors"] == []
    assert place.released() == set()
    # Uncharged: as soon as it is up again everything is released.
    place.configure(command_provisioner([program(place.folder, "exit 0")]), PERMISSIVE)
    assert sweep(place)["rows_released"] == 3


def test_one_provisioner_that_is_down_does_not_stop_another(place: Place) -> None:
    down = command_provisioner([program(place.folder, "exit 77", "down")])
    place.configure(down, LEDGER_PROVISIONER.replace("default", "good"), PERMISSIVE)
    place.make_ledger([allocation("a", NOW - DAY), allocation("b", NOW - DAY, provisioner="good")])
    report = sweep(place, code=8)
    assert [entry["provisioner"] for entry in report["down"]] == ["default"]
    assert place.released() == {"b"}


def test_a_program_that_ignores_the_end_of_its_time_is_killed_with_its_children(place: Place) -> None:
    body = f"""
    test "$1" = quick && exit 0
    trap '' TERM
    (trap '' TERM; for turn in $(seq 600); do sleep 0.1; done) &
    echo "still busy"
    echo $$ > {place.folder}/group
    for turn in $(seq 600); do sleep 0.1; done
    """
    place.configure(
        command_provisioner([program(place.folder, body), "{sid}"]),
        PERMISSIVE,
        '[release]\nattempts = 1\ntimeout = "500ms"\nconcurrency = 2\n',
    )
    place.make_ledger([allocation("stubborn", NOW - DAY), allocation("quick", NOW - DAY)])
    report = sweep(place, code=3)
    [error] = report["errors"]
    assert (error["sid"], error["code"], error["retryable"]) == ("stubborn", "failed", True)
    assert "took longer than 0.5 s" in error["message"]
    assert "still busy" in error["message"]
    assert place.released() == {"quick"}
    group = int((place.folder / "group").read_text())
    wait_until(lambda: not _group_lives(group))
    # Nobody knows how far it came: the release stays open, and whoever renews it now hears of it.
    place.execute("UPDATE vm_allocations SET expires_at = ? WHERE sid = 'stubborn'", NOW + DAY)
    assert [error["code"] for error in sweep(place, code=3)["errors"]] == ["conflict"]


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


# --- where the output goes ------------------------------------------------------------------------------------------

BROKEN_OUTPUTS = ["a reader that has seen enough", "a full disk", "nothing"]


def run_into(place: Place, output: str, *arguments: str, which: str = "stdout") -> Ran:
    """Run the command with one of its outputs broken; the other is given back."""
    command: list[str | Path] = [COMMAND, "--config", place.config, *arguments]
    other = "stderr" if which == "stdout" else "stdout"
    environment = fresh_environment(place.folder)
    if output == "nothing":
        closed = ["sh", "-c", f'"$@" {1 if which == "stdout" else 2}>&-', "sh", *command]
        completed = subprocess.run(closed, env=environment, capture_output=True, text=True, check=False, timeout=120)
        return Ran(completed.returncode, completed.stdout, completed.stderr)
    if output == "a full disk":
        target = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, target = os.pipe()
        os.close(reader)
    streams = {which: target, other: subprocess.PIPE}
    try:
        process = subprocess.Popen(
            command, env=environment, text=True, stdout=streams["stdout"], stderr=streams["stderr"]
        )
    finally:
        os.close(target)
    out, err = process.communicate(timeout=120)
    return Ran(process.returncode, out or "", err or "")


@pytest.mark.parametrize("output", BROKEN_OUTPUTS)
@pytest.mark.parametrize("rows", [1, 400], ids=["a small report", "a large report"])
def test_a_tick_does_its_work_also_where_its_report_cannot_be_shown(place: Place, output: str, rows: int) -> None:
    """A third of the rows is invalid, so that the exit code has something to say."""
    place.make_ledger(allocation(f"due-{number}", NOW - DAY) for number in range(2 * rows))
    place.insert(allocation(f"strange-{number}", "soon") for number in range(rows))
    ran = run_into(place, output, "tick", "--once", "--json")
    assert "Traceback" not in ran.err
    assert ran.code == 3
    assert len(place.released()) == 2 * rows
    [tick] = history(place)["ticks"]
    assert (tick["status"], tick["rows_released"]) == ("partial", 2 * rows)


@pytest.mark.parametrize("output", BROKEN_OUTPUTS)
def test_a_tick_does_its_work_also_where_its_log_cannot_be_written(place: Place, output: str) -> None:
    place.make_ledger(allocation(f"due-{number}", NOW - DAY) for number in range(300))
    ran = run_into(place, output, "tick", "--once", "--json", which="stderr")
    assert tick_report(ran, 0)["rows_released"] == 300


@pytest.mark.parametrize("form", ["plain", "table"])
@pytest.mark.parametrize("output", BROKEN_OUTPUTS)
def test_a_listing_that_cannot_be_shown(place: Place, output: str, form: str) -> None:
    """Who closes a pipe has seen enough: that is no error. A full disk is one. Neither is a bug of ours."""
    place.make_ledger(allocation(f"due-{number}", NOW - DAY) for number in range(400))
    ran = run_into(place, output, "list-expired", "--format", form)
    assert "Traceback" not in ran.err
    expected = {"a reader that has seen enough": [0], "a full disk": [5], "nothing": [0, 5]}
    assert ran.code in expected[output]


def test_head(place: Place) -> None:
    place.make_ledger(allocation(f"due-{number}", NOW - DAY) for number in range(3000))
    line = f"'{COMMAND}' --config '{place.config}' list-expired | head -n 2"
    ran = subprocess.run(
        ["sh", "-c", line], env=fresh_environment(place.folder), capture_output=True, text=True, check=False, timeout=60
    )
    assert ran.returncode == 0
    assert len(ran.stdout.splitlines()) == 2
    assert "Traceback" not in ran.stderr
    assert "Broken pipe" not in ran.stderr


# --- the environment ------------------------------------------------------------------------------------------------

ENVIRONMENTS: dict[str, dict[str, str | None]] = {
    "as it is": {},
    "no home": {"HOME": None},
    "nothing at all": {"HOME": None, "LANG": None, "PATH": None},
    "far ahead": {"TZ": "Pacific/Kiritimati"},
    "far behind": {"TZ": "Pacific/Niue"},
    "no such zone": {"TZ": "Nowhere/At/All"},
    "the C locale": {"LC_ALL": "C", "LANG": "C"},
    "a locale that is not there": {"LC_ALL": "tlh_QO.ISO-8859-1"},
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_environment_changes_nothing(place: Place, name: str) -> None:
    place.configure(
        LEDGER_PROVISIONER, PERMISSIVE, ledger='timestamps = "iso8601"\ntimezone = "Europe/Berlin"\nnever = ["nie"]'
    )
    place.make_ledger(
        [
            allocation("naïve-späť", "2024-07-01 12:00:00", owner="Zoë 漢字"),
            allocation("offset", "2024-07-01T12:00:00+14:00"),
            allocation("soon", (datetime.now(UTC) + timedelta(hours=3)).strftime("%Y-%m-%d %H:%M:%SZ")),
            allocation("just", (datetime.now(UTC) - timedelta(hours=3)).strftime("%Y-%m-%d %H:%M:%SZ")),
            allocation("forever", "nie"),
            allocation("strange", "übermorgen"),
        ]
    )
    environment = fresh_environment(place.folder)
    for variable, value in ENVIRONMENTS[name].items():
        environment.pop(variable, None)
        if value is not None:
            environment[variable] = value

    def run(*arguments: str) -> Ran:
        completed = subprocess.run(
            [COMMAND, "--config", place.config, *arguments],
            env=environment,
            capture_output=True,
            check=False,
            timeout=60,
        )
        # Nothing else than UTF-8, whatever the locale.
        return Ran(completed.returncode, completed.stdout.decode("utf-8"), completed.stderr.decode("utf-8"))

    shown = run("list-expired", "--all")
    assert shown.code == 0, shown.err
    lines = [line.split("\t") for line in shown.out.splitlines()[1:]]
    assert [line[0] for line in lines] == ["offset", "naïve-späť", "just", "strange"]
    assert [line[6] for line in lines[:2]] == ["2024-06-30T22:00:00Z", "2024-07-01T10:00:00Z"]
    assert lines[1][1] == "Zoë 漢字"
    report = tick_report(run("tick", "--once", "--json"), 3)
    assert (report["rows_examined"], report["rows_released"], report["rows_invalid"]) == (6, 3, 1)
    assert place.released() == {"naïve-späť", "offset", "just"}
    [(stamp,)] = place.query("SELECT released_at FROM vm_allocations WHERE sid = 'offset'")
    assert abs(datetime.now(UTC) - datetime.fromisoformat(stamp)) < timedelta(minutes=5)


def test_an_output_that_cannot_say_everything(place: Place) -> None:
    """As in a shell of an old locale: what it cannot say is written in another way, and the sweep's end stays."""
    place.make_ledger([allocation("漢字", NOW - DAY), allocation("naïve", "soon")])
    environment = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    for arguments, code in ((("list-expired", "--all"), 0), (("tick", "--once"), 3), (("history", "--sid", "漢字"), 0)):
        ran = place.run(*arguments, environment=environment)
        assert "Traceback" not in ran.err
        assert ran.code == code
