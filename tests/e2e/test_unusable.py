"""Files that cannot be used: exit 5 or 4, the path and the remedy in the message, and nothing changed or made."""

import os
import pwd
import shutil
import sqlite3
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.reports import error_report, footprint, history, listed, sids, sweep
from tests.e2e.unprivileged import OTHER_USER, run_as_other_user, run_without_override
from tests.support.place import (
    DAY,
    LEDGER_PROVISIONER,
    NOW,
    PERMISSIVE,
    Place,
    allocation,
    command_provisioner,
    program,
)

TICK = ("tick", "--once", "--json")
DRY_RUN = ("tick", "--once", "--dry-run", "--json")
LIST = ("list-expired",)


@dataclass(frozen=True, slots=True)
class Cause:
    """Something that is wrong. spoil: makes it so. said: all of this is in the message, beside the path `at`."""

    spoil: Callable[[Place], None]
    said: tuple[str, ...]
    at: str = "allocations.db"
    code: int = 5
    commands: tuple[tuple[str, ...], ...] = (TICK, LIST)


def configured(*sections: str, ledger: str = "") -> Callable[[Place], None]:
    """Another configuration."""
    return lambda place: place.configure(*(sections or (LEDGER_PROVISIONER, PERMISSIVE)), ledger=ledger)


def replaced(contents: bytes) -> Callable[[Place], None]:
    """Another file in the ledger's place."""
    return lambda place: (place.ledger.write_bytes(contents), None)[1]


def written(contents: bytes) -> Callable[[Place], None]:
    """Another configuration, byte by byte."""
    return lambda place: (place.config.write_bytes(contents), None)[1]


def misspell(place: Place) -> None:
    place.ledger.rename(place.folder / "allocation.db")


def put_a_folder(place: Place) -> None:
    place.ledger.unlink()
    place.ledger.mkdir()


def put_a_view(place: Place) -> None:
    place.execute("ALTER TABLE vm_allocations RENAME TO vms")
    place.execute("CREATE VIEW vm_allocations AS SELECT * FROM vms")


def corrupt_the_middle(place: Place) -> None:
    place.insert(allocation(f"vm-{number:05d}", NOW + DAY, owner="x" * 50) for number in range(3000))
    contents = place.ledger.read_bytes()
    # Leaves of a table begin with 13, those of its index, which nobody may read, with 10 (the file format, 1.6).
    leaves = [start for start in range(4096, len(contents), 4096) if contents[start] == 13]
    with place.ledger.open("r+b") as file:
        file.seek(leaves[len(leaves) // 2])
        file.write(b"\xa5" * 4096)


def make_foreign_journal(place: Place) -> None:
    shutil.copy(place.ledger, place.journal)


def make_newer_journal(place: Place) -> None:
    with sqlite3.connect(place.journal) as journal:
        journal.execute("PRAGMA user_version = 99")
    journal.close()


def remove_journal(place: Place) -> None:
    place.journal.unlink()


def journal_is_text(place: Place) -> None:
    place.journal.write_text("dear diary, today I released three machines")


def remove_config(place: Place) -> None:
    place.config.unlink()


CAUSES: dict[str, Cause] = {
    "a typo in the path": Cause(misspell, ("no such ledger", "[ledger] url"), commands=(TICK, DRY_RUN, LIST)),
    "a folder": Cause(put_a_folder, ("is a folder", "[ledger] url")),
    "an empty file": Cause(replaced(b""), ("'vm_allocations'", "not in this database", "[ledger] url")),
    "a text file": Cause(replaced(b"sid,status\nvm-1,Active\n"), ("not an SQLite database", "[ledger] url")),
    "a file that only begins as a database": Cause(replaced(b"SQLite format 3\0" + b"\xff" * 9000), ("backup",)),
    "another table": Cause(configured(ledger='table = "vms"'), ("'vms'", "table", "vm_allocations")),
    "a view": Cause(put_a_view, ("is a view", "table behind it", "[ledger.stamp]", "stamp = false")),
    "a column of another name": Cause(
        configured(ledger='[ledger.columns]\nexpires_at = "ends"'), ("'ends'", "[ledger.columns]", "expires_at")
    ),
    "an optional column that is named": Cause(
        configured(ledger='[ledger.columns]\nowner = "customer"'), ("'customer'", "[ledger.columns]", "owner")
    ),
    "a damaged page": Cause(corrupt_the_middle, ("backup",)),
    "no journal": Cause(remove_journal, ("no such journal", "autorelease init"), "journal.db", commands=(TICK,)),
    "another database as journal": Cause(make_foreign_journal, ("not a journal", "[journal] url"), "journal.db"),
    "a journal of a newer version": Cause(
        make_newer_journal, ("newer", "install that autorelease again"), "journal.db"
    ),
    "a text file as journal": Cause(
        journal_is_text, ("not an SQLite database", "[journal] url", "newest copy"), "journal.db"
    ),
    "no configuration": Cause(remove_config, ("no such configuration", "--config"), "config.toml", 4),
    "a configuration that is no TOML": Cause(written(b"[ledger\n"), ("not valid TOML", "line 1"), "config.toml", 4),
    "a configuration that is no text": Cause(written(b"\xff\xfe"), ("not UTF-8",), "config.toml", 4),
    "an empty configuration": Cause(written(b""), ("[ledger] url",), "config.toml", 4),
    "an unknown section": Cause(configured("[guards]\n"), ("'guards'", "'guard'"), "config.toml", 4),
    "an unknown key": Cause(
        configured("[guard]\nmax_release = 3\n"), ("'guard.max_release'", "'max_releases'"), "config.toml", 4
    ),
    "an unknown key of a provisioner": Cause(
        configured('[provisioners.default]\nkind = "command"\nargv = ["/bin/true"]\nretries = [1]\n'),
        ("[provisioners.default]", "'retries'", "'retry'"),
        "config.toml",
        4,
    ),
    "a wrong value": Cause(
        configured('[release]\ngrace = "1 day"\n'), ("'release.grace'", "'1 day'"), "config.toml", 4
    ),
    "a time zone that does not exist": Cause(
        configured(ledger='timezone = "Europe/Bärlin"'), ("'ledger.timezone'", "Europe/Berlin"), "config.toml", 4
    ),
    "a kind that is for tests alone": Cause(
        configured('[provisioners.default]\nkind = "memory"\n'), ("'memory'", "command", "ledger"), "config.toml", 4
    ),
    "nothing that would do anything": Cause(
        configured(LEDGER_PROVISIONER, ledger="stamp = false"), ("stamp = false",), "config.toml", 4
    ),
    "braces within a word": Cause(
        configured('[provisioners.default]\nkind = "command"\nargv = ["/bin/true", "--id={sid}"]\n'),
        ("'--id={sid}'", "{sid}"),
        "config.toml",
        4,
    ),
    "a program of a relative path": Cause(
        configured('[provisioners.default]\nkind = "command"\nargv = ["./release-vm"]\n'),
        ("'./release-vm'", "absolute"),
        "config.toml",
        4,
    ),
}


def ledger_bytes(place: Place) -> bytes | None:
    """What is in the ledger's file, where it is one."""
    return place.ledger.read_bytes() if place.ledger.is_file() else None


@pytest.mark.parametrize("name", CAUSES)
def test_what_is_wrong_is_named_with_its_path_and_its_remedy(place: Place, name: str) -> None:
    cause = CAUSES[name]
    place.make_ledger([allocation("due", NOW - DAY)])
    cause.spoil(place)
    before, names = ledger_bytes(place), sorted(footprint(place.folder))
    for arguments in cause.commands:
        ran = place.run(*arguments)
        assert ran.code == cause.code, (arguments, ran)
        if "--json" in arguments:
            error_report(ran, cause.code)
        else:
            assert ran.out == ""
        lines = ran.err.splitlines()
        [message] = [line for line in lines if " ERROR " in line]
        assert str(place.folder / cause.at) in message
        for words in cause.said:
            assert words in message
        assert "Traceback" not in ran.err
        assert ledger_bytes(place) == before
        assert sorted(footprint(place.folder)) == names


def test_without_a_journal_what_only_looks_goes_on_and_says_so(place: Place) -> None:
    place.make_ledger([allocation("due", NOW - DAY)])
    remove_journal(place)
    ran = place.run("list-expired")
    assert ran.code == 0
    assert "no journal yet" in ran.err
    assert "autorelease init" in ran.err
    assert str(place.journal) in ran.err
    assert sids(listed(place)) == {"due"}
    assert history(place) == {"schema": "autorelease.history/1", "ticks": [], "events": []}
    assert not place.journal.exists()


def test_a_ledger_that_another_program_has_locked(place: Place) -> None:
    place.make_ledger([allocation("due", NOW - DAY)])
    connection = sqlite3.connect(place.ledger, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        ran = place.run(*TICK)
    finally:
        connection.close()
    message = error_report(ran, 5)["message"]
    assert str(place.ledger) in message
    assert "10 s" in message
    assert place.released() == set()
    # That this tick could not begin is on record, and the next one does the work.
    assert history(place)["ticks"][0]["exit_code"] == 5
    assert sweep(place)["rows_released"] == 1


# --- missing rights -------------------------------------------------------------------------------------------------


@pytest.fixture
def shut() -> Iterator[Callable[[Path, int], None]]:
    """Take rights away; they are given back in the end, so that the folder can be removed."""
    before: list[tuple[Path, int]] = []

    def take(path: Path, mode: int) -> None:
        before.append((path, stat.S_IMODE(path.stat().st_mode)))
        path.chmod(mode)

    yield take
    for path, mode in reversed(before):
        path.chmod(mode)


@pytest.fixture
def elsewhere(place: Place) -> Place:
    """The ledger in a folder of its own, so that rights can be taken away there alone."""
    (place.folder / "theirs").mkdir()
    place.ledger = place.folder / "theirs" / "allocations.db"
    place.make_ledger([allocation("due", NOW - DAY)])
    place.config.write_text(
        f'[ledger]\nurl = "sqlite:///theirs/allocations.db"\n{LEDGER_PROVISIONER}{PERMISSIVE}', encoding="utf-8"
    )
    return place


def check_refused(place: Place, path: Path, code: int, said: str, *commands: tuple[str, ...]) -> None:
    for arguments in commands:
        ran = run_without_override(place, *arguments)
        assert ran.code == code, (arguments, ran)
        assert str(path) in ran.err
        assert said in ran.err
        assert "Traceback" not in ran.err


def test_a_ledger_that_must_not_be_read(elsewhere: Place, shut: Callable[[Path, int], None]) -> None:
    shut(elsewhere.ledger, 0o000)
    check_refused(elsewhere, elsewhere.ledger, 5, "give this user the right", TICK, DRY_RUN, LIST)


def test_a_ledger_that_must_not_be_written(elsewhere: Place, shut: Callable[[Path, int], None]) -> None:
    before = elsewhere.ledger.read_bytes()
    shut(elsewhere.ledger, 0o444)
    check_refused(elsewhere, elsewhere.ledger, 5, "chmod g+w", TICK)
    # Looking needs no right to write.
    assert run_without_override(elsewhere, *LIST).code == 0
    assert elsewhere.ledger.read_bytes() == before


def test_a_ledger_whose_folder_must_not_be_written(elsewhere: Place, shut: Callable[[Path, int], None]) -> None:
    before = footprint(elsewhere.ledger.parent)
    shut(elsewhere.ledger.parent, 0o555)
    check_refused(elsewhere, elsewhere.ledger.parent, 5, "chmod g+w", TICK)
    assert run_without_override(elsewhere, *LIST).code == 0
    assert footprint(elsewhere.ledger.parent) == before


def test_a_ledger_behind_a_folder_that_must_not_be_entered(elsewhere: Place, shut: Callable[[Path, int], None]) -> None:
    shut(elsewhere.ledger.parent, 0o000)
    check_refused(elsewhere, elsewhere.ledger, 5, "give this user the right", TICK, LIST)


def test_a_configuration_that_must_not_be_read(elsewhere: Place, shut: Callable[[Path, int], None]) -> None:
    shut(elsewhere.config, 0o000)
    check_refused(elsewhere, elsewhere.config, 4, "cannot be read", TICK, DRY_RUN, LIST)


def test_a_journal_that_must_not_be_read(elsewhere: Place, shut: Callable[[Path, int], None]) -> None:
    shut(elsewhere.journal, 0o000)
    check_refused(elsewhere, elsewhere.journal, 5, "give this user the right", TICK, DRY_RUN, LIST, ("history",))


def test_a_journal_behind_a_folder_that_must_not_be_entered(place: Place, shut: Callable[[Path, int], None]) -> None:
    records = place.folder / "records"
    records.mkdir()
    place.make_ledger([allocation("due", NOW - DAY)])
    place.configure(LEDGER_PROVISIONER, PERMISSIVE, '[journal]\nurl = "sqlite:///records/journal.db"\n')
    place.journal = place.journal.rename(records / "journal.db")
    shut(records, 0o000)
    # It is there: what only looks must not go on as if it were empty.
    check_refused(place, place.journal, 5, "give this user the right", TICK, DRY_RUN, LIST, ("history",))


def test_a_journal_that_must_not_be_written(elsewhere: Place, shut: Callable[[Path, int], None]) -> None:
    before = elsewhere.ledger.read_bytes()
    shut(elsewhere.journal, 0o440)
    check_refused(elsewhere, elsewhere.journal, 5, "chmod g+w", TICK)
    assert run_without_override(elsewhere, "history").code == 0
    assert elsewhere.ledger.read_bytes() == before


def test_a_lock_that_must_not_be_opened(elsewhere: Place, shut: Callable[[Path, int], None]) -> None:
    lock = elsewhere.journal.with_name("journal.db.lock")
    shut(lock, 0o000)
    check_refused(elsewhere, lock, 5, "check the rights", TICK)
    assert elsewhere.released() == set()


# --- the rights of others -------------------------------------------------------------------------------------------


@pytest.fixture
def open_place() -> Iterator[Place]:
    """A place that every user can reach, which pytest's own folders are not."""
    folder = Path(tempfile.mkdtemp(prefix="autorelease-test-"))
    folder.chmod(0o755)
    made = Place(folder)
    made.configure(LEDGER_PROVISIONER, PERMISSIVE)
    assert made.run("init").code == 0
    made.make_ledger([allocation("due", NOW - DAY)], wal=True)
    for path in folder.iterdir():
        path.chmod(0o644)
    yield made
    shutil.rmtree(folder)
    shutil.rmtree(f"{folder}-etc", ignore_errors=True)


def move_configuration(place: Place) -> None:
    """To a folder of its own, which is nobody else's to write: or nobody would believe it."""
    etc = place.folder.with_name(f"{place.folder.name}-etc")
    etc.mkdir()
    text = place.config.read_text("utf-8").replace("sqlite:///allocations.db", f"sqlite:///{place.ledger}")
    place.config = etc / "config.toml"
    place.config.write_text(f'{text}\n[journal]\nurl = "sqlite:///{place.journal}"\n', "utf-8")
    for path, mode in ((etc, 0o755), (place.config, 0o644)):
        path.chmod(mode)


def share_with_group(place: Place, ledger_mode: int) -> None:
    """Give folder and ledger to a group, as an operator does who wants to look without being the owner."""
    move_configuration(place)
    if os.geteuid() == 0:
        os.chown(place.folder, -1, OTHER_USER)
        os.chown(place.ledger, -1, OTHER_USER)
    place.folder.chmod(0o2775)
    place.ledger.chmod(ledger_mode)


def test_a_wal_ledger_that_a_group_member_would_lock_its_owner_out_of(open_place: Place) -> None:
    """Reading would make a -wal and a -shm that the ledger's owner cannot write."""
    share_with_group(open_place, 0o640)
    before = footprint(open_place.folder)
    for arguments in (LIST, DRY_RUN):
        ran = run_as_other_user(open_place, *arguments)
        assert ran.code == 5, ran
        assert f"{open_place.ledger}: is in WAL mode" in ran.err
        assert f"chmod g+w {open_place.ledger}" in ran.err
        assert footprint(open_place.folder) == before
    # Its owner may, as may root.
    assert listed(open_place)["counts"]["release"] == 1
    assert footprint(open_place.folder) == before


def test_a_wal_ledger_whose_group_may_write_is_read(open_place: Place) -> None:
    share_with_group(open_place, 0o660)
    before = footprint(open_place.folder)
    ran = run_as_other_user(open_place, *LIST)
    assert ran.code == 0, ran
    assert "due" in ran.out
    assert footprint(open_place.folder) == before


def test_root_does_not_write_in_the_journal_of_another_user(open_place: Place) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: it is root that is refused")
    move_configuration(open_place)
    os.chown(open_place.folder, OTHER_USER, OTHER_USER)
    before = footprint(open_place.folder)
    ran = open_place.run("tick", "--once")
    assert ran.code == 4
    assert str(open_place.journal) in ran.err
    name = pwd.getpwuid(OTHER_USER).pw_name
    assert f"runuser -u {name} --" in ran.err
    assert footprint(open_place.folder) == before
    # Looking writes nothing, and is root's right.
    assert listed(open_place)["counts"]["release"] == 1


# --- a configuration that somebody else can write --------------------------------------------------------------------


def test_a_configuration_that_everybody_can_write(place: Place) -> None:
    place.make_ledger([allocation("due", NOW - DAY)])
    before = footprint(place.folder)
    place.config.chmod(0o666)
    for arguments in (TICK, LIST, ("history",)):
        ran = place.run(*arguments)
        assert ran.code == 4
        assert f"chmod o-w {place.config}" in ran.err
    assert footprint(place.folder) == before
    # What the message tells to type is all that it takes.
    subprocess.run(["chmod", "o-w", place.config], check=True)
    assert sweep(place)["rows_released"] == 1


def test_root_runs_no_program_that_another_user_names(place: Place) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: it is root that is refused")
    script = program(place.folder, f"touch {place.folder}/ran")
    place.configure(command_provisioner([script]), PERMISSIVE)
    place.make_ledger([allocation("due", NOW - DAY)])
    os.chown(place.config, OTHER_USER, OTHER_USER)
    assert f"chown root {place.config}" in error_report(place.run(*TICK), 4)["message"]
    os.chown(place.config, 0, OTHER_USER)
    place.config.chmod(0o660)
    assert f"chmod g-w {place.config}" in error_report(place.run(*TICK), 4)["message"]
    assert not (place.folder / "ran").exists()
    assert place.released() == set()
    # As docs/operating.md tells to install it: root's, for the service's group to read.
    place.config.chmod(0o640)
    assert sweep(place)["rows_released"] == 1
