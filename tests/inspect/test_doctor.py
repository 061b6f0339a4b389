"""The doctor's lines: each says ok of what is well, and something else, with a remedy, of what is not. Real files."""

import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from autorelease.deciding.spool import Spool
from autorelease.errors import ConfigurationError, ProvisionerError, UnusableError
from autorelease.inspect import State
from autorelease.inspect.doctor import examine_without
from autorelease.inspect.host import STA_UNSYNC, kernel_status, span, synchronisation
from autorelease.rules.guard import Moment
from autorelease.settings import load_settings
from autorelease.sqlitefile import is_wal
from tests.ledger.damaged import write_behind_the_index
from tests.support.connections import all_closed
from tests.support.engine import EXPIRED, RENEWED, Scripted
from tests.support.locks import own_locks
from tests.support.patient import TYPED, Patient
from tests.support.place import LEDGER_PROVISIONER, command_provisioner, program

HOUR = timedelta(hours=1)
STRANGER = 54_321
TIMER_IS_WELL = {
    "LoadState": "loaded",
    "UnitFileState": "enabled",
    "ActiveState": "active",
    "NextElapseUSecRealtime": "Tue 2026-12-01 13:02:11 UTC",
}
SERVICE_IS_WELL = {"LoadState": "loaded", "TimeoutStartUSec": "48min", "TimeoutStopUSec": "2min"}


def test_all_is_well(patient: Patient) -> None:
    found = patient.examined()
    # What the kernel says of its clock, and that there is no systemd, is the host's and not the installation's.
    assert found.pop("clock synchronisation").state in (State.OK, State.WARN)
    assert found.pop("timer").state is State.WARN
    assert list(found) == [
        "configuration",
        "sqlite",
        "journal",
        "journal rights",
        "ledger",
        "ledger rights",
        "statuses",
        "spellings",
        "columns",
        "index",
        "index of sids",
        "index of VMs",
        "index of odd VMs",
        "audit",
        "invalid rows",
        "conflicts",
        "holds",
        "guard",
        "clock",
        "provisioner default",
        "last success",
    ]
    assert {check.state for check in found.values()} == {State.OK}


def test_a_plan_that_cannot_be_read_is_a_fail_and_is_closed(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise UnusableError("the disk is full")

    monkeypatch.setattr(Spool, "unserved", failing)
    with all_closed():
        plan = patient.examined()["plan"]
    assert (plan.state, plan.message) == (State.FAIL, "the disk is full")


def test_looking_changes_nothing(patient: Patient) -> None:
    before = {path: path.read_bytes() for path in patient.place.folder.iterdir()}
    patient.examined()
    assert {path: path.read_bytes() for path in patient.place.folder.iterdir()} == before


def test_what_an_index_hides_is_a_fail_and_the_other_lines_are_there_all_the_same(patient: Patient) -> None:
    patient.place.execute("CREATE INDEX due ON vm_allocations (expires_at, sid) WHERE status <> 'Released'")
    hide = "INSERT INTO vm_allocations (sid, status, expires_at) VALUES ('hidden', 'Active', ?)"
    write_behind_the_index(patient.place.ledger, "due", lambda other: other.execute(hide, (EXPIRED,)))
    found = patient.examined()
    assert found["audit"].state is State.FAIL
    assert 'REINDEX "due"' in found["audit"].message
    assert found["last success"].state is State.OK


# --- configuration and journal ----------------------------------------------------------------------------------------


def test_a_configuration_that_cannot_be_used(new: Patient) -> None:
    new.place.config.write_text("[leger]\n", encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        load_settings(new.place.config, None, {})
    checks = list(examine_without(caught.value))
    assert checks[0].state is State.FAIL
    assert "'leger'" in checks[0].message
    assert [check.name for check in checks] == ["configuration", "sqlite", "clock synchronisation", "timer"]


def test_a_missing_journal(patient: Patient) -> None:
    patient.place.journal.unlink()
    found = patient.examined()
    assert found["journal"].state is State.FAIL
    assert "autorelease init" in found["journal"].remedy
    assert found["last success"].state is State.FAIL
    assert found["ledger rights"].state is State.OK
    assert not patient.place.journal.exists()


def test_a_damaged_journal(patient: Patient) -> None:
    patient.place.journal.write_bytes(b"no database at all")
    found = patient.examined()
    assert (found["journal"].state, found["last success"].state) == (State.FAIL, State.FAIL)


def test_a_journal_that_is_damaged_further_in(patient: Patient) -> None:
    """It opens, and breaks as it is read: every line that rests on it says so."""
    pages = patient.place.query("SELECT rootpage FROM sqlite_master WHERE rootpage > 0", database=patient.place.journal)
    contents = bytearray(patient.place.journal.read_bytes())
    for (page,) in pages:
        contents[(page - 1) * 4096 : page * 4096] = b"\xff" * 4096
    patient.place.journal.write_bytes(contents)
    found = patient.examined()
    assert found["plan"].state is State.FAIL
    assert found["clock"].state is State.WARN
    assert found["last success"].state is State.FAIL


# --- rights -----------------------------------------------------------------------------------------------------------

# Everything is imported while it still may be: the interpreter itself can be out of a stranger's reach.
AS_STRANGER = """
import os, sys
from pathlib import Path
from autorelease.inspect import table
os.setgroups([])
os.setgid(54321)
os.setuid(54321)
check = table.rights(Path(sys.argv[1]), "ledger", int(sys.argv[2]))
print(check.state, check.message, check.remedy, sep=" | ")
"""


@pytest.fixture
def theirs() -> Iterator[Path]:
    """A WAL ledger of root's, in a folder that other users can enter, which those of pytest are not."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    with tempfile.TemporaryDirectory(prefix="autorelease-tests-") as name:
        path = Path(name) / "a.db"
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("CREATE TABLE t (x)")
        for each, mode in ((path, 0o660), (path.parent, 0o2770)):
            os.chown(each, 0, STRANGER)
            each.chmod(mode)
        yield path


def rights_of_stranger(path: Path, service: int = STRANGER) -> str:
    """What another user, who shares a group with the owner, is told."""
    ended = subprocess.run(
        [sys.executable, "-c", AS_STRANGER, path, str(service)], check=True, capture_output=True, text=True, timeout=60
    )
    return ended.stdout.strip()


def test_rights_that_the_service_has(theirs: Path) -> None:
    assert rights_of_stranger(theirs).startswith("ok | ")


def test_a_folder_that_the_service_must_not_write(theirs: Path) -> None:
    theirs.parent.chmod(0o2750)
    said = rights_of_stranger(theirs)
    assert said.startswith("fail | ")
    assert "cannot be written by this user" in said


def test_the_trap_of_a_wal_ledger_in_a_folder_that_keeps_its_group_to_itself(theirs: Path) -> None:
    theirs.parent.chmod(0o770)
    said = rights_of_stranger(theirs)
    assert said.startswith("warn | in WAL mode")
    assert said.endswith(f" | chmod 2770 {theirs.parent}")


def test_rights_are_not_judged_for_somebody_else(theirs: Path) -> None:
    said = rights_of_stranger(theirs, service=0)
    assert said.startswith("warn | the service runs as root, and only that user can try its rights: ")
    assert said.endswith(" | runuser -u root -- autorelease doctor")


# --- the ledger -------------------------------------------------------------------------------------------------------


def test_a_missing_ledger(patient: Patient) -> None:
    patient.place.ledger.unlink()
    found = patient.examined()
    assert found["ledger"].state is State.FAIL
    assert "there is no such ledger" in found["ledger"].message
    assert not {
        "ledger rights",
        "statuses",
        "spellings",
        "columns",
        "index",
        "invalid rows",
        "conflicts",
        "guard",
    } & set(found)
    assert found["clock"].state is State.OK


def test_expiries_of_another_kind_than_configured(patient: Patient) -> None:
    patient.configure_file(LEDGER_PROVISIONER, ledger='timestamps = "iso8601"\n')
    check = patient.examined()["columns"]
    assert check.state is State.FAIL
    assert 'timestamps = "iso8601", but every live expires_at is integer' in check.message


def test_a_sid_that_the_table_does_not_keep_apart(tmp_path: Path) -> None:
    patient = Patient(tmp_path, TYPED.replace(" PRIMARY KEY", "").replace("vm_uid TEXT, ", ""))
    check = patient.examined()["columns"]
    assert check.state is State.WARN
    assert "from having the same sid" in check.message
    assert "absent: vm_uid" in check.message


def test_invalid_rows_by_their_reason(patient: Patient) -> None:
    patient.add("soon", "later", expires_at=EXPIRED * 1000)
    patient.add("once", released_at=5)
    check = patient.examined()["invalid rows"]
    assert check.state is State.WARN
    assert check.message.startswith("3 of 4 live rows, 0 of them held: 2 like ")
    assert "1 like once: released_at is set (5)" in check.message
    for sid in ("soon", "later", "once"):
        patient.hold(sid)
    assert patient.examined()["invalid rows"].state is State.OK


def test_open_conflicts_are_named_until_somebody_has_looked(patient: Patient) -> None:
    """Those that no tick has found yet, too."""
    patient.begin_and_lose("gone 1")
    for _ in range(2):
        check = patient.examined()["conflicts"]
        assert check.state is State.WARN
        assert check.message == "1 open (gone 1): the VM may be gone while its owner pays"
        assert "autorelease retry 'gone 1'" in check.remedy
        assert patient.tick(Scripted()).ends() == {"gone 1": "conflict"}
    with closing(patient.open_journal()) as journal:
        journal.forget_failures(patient.now, "tests", sid=None, provisioner=None)
    assert patient.examined()["conflicts"].state is State.WARN
    patient.retry("gone 1")
    assert patient.examined()["conflicts"].state is State.OK


def test_many_conflicts_are_named_in_part(patient: Patient) -> None:
    for number in range(7):
        patient.begin_and_lose(f"gone-{number}")
    check = patient.examined()["conflicts"]
    assert check.message.startswith("7 open (gone-0, gone-1, gone-2, gone-3, gone-4, …)")
    assert "autorelease retry gone-0 gone-1 gone-2 gone-3 gone-4;" in check.remedy


def test_the_guard_would_refuse(patient: Patient) -> None:
    patient.add("more")
    patient.limits = replace(patient.limits, max_releases=0)
    check = patient.examined()["guard"]
    assert check.state is State.WARN
    assert "max_releases: 1 first releases are planned" in check.message


# --- the clock --------------------------------------------------------------------------------------------------------


def test_a_clock_that_went_back_or_stood_still_too_long(patient: Patient) -> None:
    patient.later(-HOUR)
    assert "clock_backwards" in patient.examined()["clock"].message
    patient.later(9 * 24 * HOUR)
    check = patient.examined()["clock"]
    assert check.state is State.FAIL
    assert "clock_gap" in check.message


def test_a_clock_that_was_put_forward_within_one_boot(new: Patient) -> None:
    new.boot_seconds = 1000.0
    new.tick(Scripted())
    assert new.examined(Moment(new.now + HOUR, None, "b", 4600.0))["clock"].state is State.OK
    check = new.examined(Moment(new.now + HOUR, None, "b", 1600.0))["clock"]
    assert check.state is State.FAIL
    assert "clock_stepped" in check.message


def test_a_clock_that_nothing_was_admitted_by(new: Patient) -> None:
    check = new.examined()["clock"]
    assert check.state is State.OK
    assert "no admitted tick" in check.message


def test_what_the_kernel_says_of_its_clock(tmp_path: Path) -> None:
    marker = tmp_path / "synchronized"
    assert synchronisation(marker, lambda: 0).state is State.OK
    check = synchronisation(marker, lambda: STA_UNSYNC | 1)
    assert (check.state, check.remedy) == (State.WARN, "timedatectl set-ntp true")
    # A confined service may not ask: that is nothing that it could mend.
    assert synchronisation(marker, lambda: None).state is State.OK
    marker.touch()
    assert synchronisation(marker, lambda: STA_UNSYNC).state is State.OK


def test_the_kernel_can_be_asked() -> None:
    status = kernel_status()
    assert status is None or status >= 0


# --- provisioners -----------------------------------------------------------------------------------------------------


def test_each_provisioner_has_a_line(patient: Patient) -> None:
    good = command_provisioner([program(patient.place.folder, "exit 0"), "{vm_ref}"])
    patient.configure_file(good, '[provisioners.other]\nkind = "command"\nargv = ["/no/such/program"]\n')
    found = patient.examined()
    assert found["provisioner default"].state is State.OK
    assert found["provisioner other"].state is State.FAIL
    assert "'/no/such/program' is missing or not executable" in found["provisioner other"].message


def test_a_provisioner_that_is_not_understood(patient: Patient) -> None:
    patient.configure_file('[provisioners.default]\nkind = "ledgers"\n')
    check = patient.examined()["provisioners"]
    assert check.state is State.FAIL
    assert "'ledgers'" in check.message


# --- systemd ----------------------------------------------------------------------------------------------------------


def systemctl(patient: Patient, timer: Mapping[str, str], service: Mapping[str, str], code: int = 0) -> None:
    """A program of this name that answers so; PID 1 of a test is no systemd."""
    answers = {"autorelease.timer": timer, "autorelease.service": service}
    cases = "".join(
        f"{unit})\n" + "".join(f"echo '{name}={value}'\n" for name, value in shown.items()) + ";;\n"
        for unit, shown in answers.items()
    )
    body = f'[ "$1" = show ] || exit 99\ncase $2 in\n{cases}esac\nexit {code}'
    program(patient.place.folder.parent / "bin", body, "systemctl")


def test_a_timer_that_runs(new: Patient) -> None:
    systemctl(new, TIMER_IS_WELL, SERVICE_IS_WELL)
    found = new.examined()
    assert (found["timer"].state, found["time-outs"].state) == (State.OK, State.OK)
    assert "next run Tue 2026-12-01 13:02:11 UTC" in found["timer"].message


@pytest.mark.parametrize(
    ("change", "state", "said"),
    [
        ({"UnitFileState": "disabled"}, State.FAIL, "is disabled and active"),
        ({"ActiveState": "inactive"}, State.FAIL, "is enabled and inactive"),
        ({"NextElapseUSecRealtime": ""}, State.FAIL, "next run never"),
        ({"LoadState": "not-found"}, State.WARN, "is not installed (not-found)"),
        ({"LoadState": "masked"}, State.WARN, "is not installed (masked)"),
    ],
)
def test_a_timer_that_does_not(change: Mapping[str, str], state: State, said: str, new: Patient) -> None:
    systemctl(new, {**TIMER_IS_WELL, **change}, SERVICE_IS_WELL)
    check = new.examined()["timer"]
    assert check.state is state
    assert said in check.message


def test_a_systemd_that_does_not_answer(new: Patient) -> None:
    systemctl(new, {}, {}, code=1)
    found = new.examined()
    assert found["timer"].state is State.WARN
    assert "cron" in found["timer"].remedy
    assert "time-outs" not in found


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({"TimeoutStartUSec": "46min"}, State.WARN),
        ({"TimeoutStartUSec": "infinity"}, State.WARN),
        ({"TimeoutStopUSec": "1min 30s"}, State.FAIL),
        ({"TimeoutStartUSec": "46min 40s", "TimeoutStopUSec": "1min 40s"}, State.OK),
        ({"TimeoutStopUSec": "infinity"}, State.OK),
    ],
)
def test_the_limits_of_the_unit(change: Mapping[str, str], state: State, new: Patient) -> None:
    systemctl(new, TIMER_IS_WELL, {**SERVICE_IS_WELL, **change})
    assert new.examined()["time-outs"].state is state


CONFINED = {"ProtectSystem": "strict", "StateDirectory": "autorelease"}


@pytest.mark.parametrize("paths", ["{}", "/srv -{}", '+{} "/srv/a b"'])
def test_a_unit_that_lets_the_databases_be_written(paths: str, new: Patient) -> None:
    folder = new.place.folder
    systemctl(new, TIMER_IS_WELL, {**SERVICE_IS_WELL, **CONFINED, "ReadWritePaths": paths.format(folder)})
    check = new.examined()["unit's folders"]
    assert (check.state, check.message) == (State.OK, f"the service may write in {folder}")


@pytest.mark.parametrize("paths", ["", "/srv", "{}-not"])
def test_a_unit_that_shows_the_service_a_read_only_ledger(paths: str, new: Patient) -> None:
    folder = new.place.folder
    systemctl(new, TIMER_IS_WELL, {**SERVICE_IS_WELL, **CONFINED, "ReadWritePaths": paths.format(folder)})
    check = new.examined()["unit's folders"]
    assert check.state is State.FAIL
    assert check.remedy == f"systemctl edit autorelease.service: [Service] ReadWritePaths={folder}"


def test_a_unit_that_confines_nothing(new: Patient) -> None:
    systemctl(new, TIMER_IS_WELL, {**SERVICE_IS_WELL, "ProtectSystem": "no"})
    assert new.examined()["unit's folders"].state is State.OK


def test_a_longer_deadline_wants_longer_limits(new: Patient) -> None:
    systemctl(new, TIMER_IS_WELL, SERVICE_IS_WELL)
    new.configure_file(LEDGER_PROVISIONER, '[release]\ndeadline = "50m"\n')
    assert new.examined()["time-outs"].state is State.WARN
    new.configure_file(LEDGER_PROVISIONER, '[release]\ntimeout = "2m"\n')
    assert new.examined()["time-outs"].state is State.FAIL


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("48min", 2880), ("1min 30s", 90), ("1h 30min", 5400), ("500ms", 0.5), ("1d 2h", 93_600), ("2w", 1_209_600)],
)
def test_spans_as_systemd_prints_them(text: str, seconds: float) -> None:
    assert span(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["infinity", "", "soon", "3fortnights"])
def test_what_is_no_span(text: str) -> None:
    assert span(text) is None


# --- last success -----------------------------------------------------------------------------------------------------


def test_the_last_success(new: Patient) -> None:
    check = new.examined()["last success"]
    assert (check.state, check.message) == (State.WARN, "no tick has been run yet")
    new.tick(Scripted())
    new.later(2 * HOUR)
    assert new.examined()["last success"].state is State.OK
    new.later(HOUR)
    check = new.examined()["last success"]
    assert check.state is State.FAIL
    assert "no tick has run through in the last 2.0 h" in check.message
    new.add("a")
    new.tick(Scripted({"a": [ProvisionerError("broken")]}))
    assert new.examined()["last success"].state is State.OK


def test_of_a_large_ledger_it_says_what_was_not_looked_at_just_now(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient.add("a", expires_at=RENEWED)
    assert patient.examined()["invalid rows"].message == "none of 2 live rows"
    monkeypatch.setattr("autorelease.deciding.audit.SMALL_LIVE", 1)
    found = patient.examined()["invalid rows"]
    assert (found.state, found.message) == (
        State.OK,
        "none of 2 live rows: of those whose time has not come, none when last audited",
    )


def test_no_connection_is_open_while_a_file_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever closes a file gives back all locks that its process has on it, those of its connections among them."""
    patient = Patient(tmp_path, TYPED, indexes=())
    patient.place.execute("PRAGMA journal_mode = WAL")
    with closing(sqlite3.connect(patient.place.journal)) as connection:
        # As an administrator could.
        connection.execute("PRAGMA journal_mode = WAL")
    locks: list[list[str]] = []

    def watched(path: Path) -> bool:
        locks.append(own_locks(path))
        return is_wal(path)

    monkeypatch.setattr("autorelease.inspect.table.is_wal", watched)
    found = patient.examined()
    assert (found["ledger rights"].state, found["journal rights"].state) == (State.OK, State.OK)
    assert len(locks) == 2
    assert not any(locks)
