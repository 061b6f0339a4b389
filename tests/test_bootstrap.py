"""What `init` makes, and that it overwrites nothing."""

import os
import re
import sqlite3
import stat
import tomllib
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from autorelease.bootstrap import CONFIGURATION, describe_folder, make_folder, sample_rows
from autorelease.deciding.decide import Decision, decide
from autorelease.deciding.judging import Judge
from autorelease.errors import UnusableError, UsageError
from autorelease.journal import open_journal
from autorelease.ledger import open_ledger
from autorelease.rules.guard import Limits, Moment
from autorelease.settings import File, Settings, load_settings
from autorelease.structs import read_struct
from tests.support.connections import all_closed

NOW = datetime(2026, 12, 1, 12, 0, 0, 123456, tzinfo=UTC)
FILES = {"config.toml", "allocations.db", "journal.db"}


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    """Whoever runs the tests may have another."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def settings(folder: Path) -> Settings:
    """The settings that the new configuration gives."""
    return load_settings(folder / "config.toml", None, {})


def decided(folder: Path, now: datetime) -> Decision:
    """What a tick would do in this folder."""
    found = settings(folder)
    ledger, journal = open_ledger(found, read_only=True), open_journal(found)
    try:
        return decide(Judge(ledger, journal, now, timedelta(0), timedelta(0)), Moment(now), Limits(1000, 50, 20))
    finally:
        ledger.close()
        journal.close()


def test_a_new_folder(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "new"
    make_folder(folder, sample=False, now=NOW)
    # The journal has its lock and its own rollback journal beside it.
    assert {path.name for path in folder.iterdir()} - FILES <= {"journal.db.lock", "journal.db-journal"}
    assert all((folder / name).is_file() for name in FILES)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o640}
    decision = decided(folder, NOW)
    decision.spool.close()
    assert (decision.census.rows_examined, decision.rows_expired) == (0, 0)


def test_a_ledger_that_cannot_be_made_is_not_held_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autorelease.bootstrap.INDEXES", ("CREATE INDEX i ON vm_allocations (missing)",))
    with all_closed(), pytest.raises(sqlite3.OperationalError, match="missing"):
        make_folder(tmp_path, sample=False, now=NOW)


def test_the_ledger_is_the_one_of_the_contract(tmp_path: Path) -> None:
    make_folder(tmp_path, sample=False, now=NOW)
    connection = sqlite3.connect(tmp_path / "allocations.db")
    columns = [
        tuple(row) for row in connection.execute("SELECT name, type, pk FROM pragma_table_info('vm_allocations')")
    ]
    [(table,)] = connection.execute("SELECT sql FROM sqlite_master WHERE type = 'table'")
    [index, *holders] = [
        sql for (sql,) in connection.execute("SELECT sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
    ]
    with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
        connection.execute("INSERT INTO vm_allocations (sid, status) VALUES ('a', 'Gone')")
    with pytest.raises(sqlite3.IntegrityError, match="NOT NULL"):
        connection.execute("INSERT INTO vm_allocations (sid) VALUES ('a')")
    with pytest.raises(sqlite3.IntegrityError, match="NOT NULL"):
        connection.execute("INSERT INTO vm_allocations (status) VALUES ('Active')")
    for name in ("created_at", "expires_at", "released_at"):
        with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
            connection.execute(f"INSERT INTO vm_allocations (sid, status, {name}) VALUES ('a', 'Active', '2026-12-01')")
    connection.close()
    names = ["sid", "owner", "plan", "provisioner", "vm_ref", "vm_uid", "status"]
    times = ["created_at", "expires_at", "released_at"]
    assert columns == [
        *((name, "TEXT", int(name == "sid")) for name in names),
        *((name, "INTEGER", 0) for name in times),
    ]
    # Which SQLite before 3.37 could not open.
    assert "STRICT" not in table
    assert re.search(r"\(expires_at, sid\) WHERE status <> 'Released'$", index)
    assert len(holders) == 2


def test_the_sample_is_what_its_description_says(tmp_path: Path) -> None:
    make_folder(tmp_path, sample=True, now=NOW)
    decision = decided(tmp_path, NOW)
    after_a_minute = decided(tmp_path, NOW + timedelta(seconds=61))
    with closing(sqlite3.connect(tmp_path / "allocations.db")) as ledger:
        [(total,)] = ledger.execute("SELECT count(*) FROM vm_allocations")
    assert total == 400
    assert decision.summary.first_tries == 37
    assert decision.rows_invalid == 3
    assert decision.refusals == []
    assert after_a_minute.summary.first_tries == 38
    text = "\n".join(describe_folder(tmp_path, sample=True, now=NOW))
    for number in ("400", "37", "3 are invalid"):
        assert number in text
    for each in (decision, after_a_minute):
        each.spool.close()


def test_an_empty_folder_is_not_described_as_a_sample(tmp_path: Path) -> None:
    assert "sample" not in "\n".join(describe_folder(tmp_path, sample=False, now=NOW))


def test_a_big_plan_of_the_sample_is_refused_when_it_ends(tmp_path: Path) -> None:
    """Plans end together: the sample shows what the guard is for."""
    make_folder(tmp_path, sample=True, now=NOW)
    decision = decided(tmp_path, NOW + timedelta(days=4))
    assert [refusal.code for refusal in decision.refusals] == ["max_percent"]
    decision.spool.close()


def test_the_sample_has_no_two_rows_of_one_sid() -> None:
    sids = [row["sid"] for row in sample_rows(NOW.replace(microsecond=0))]
    assert len(set(sids)) == len(sids) == 400


def test_the_configuration_shows_the_defaults(tmp_path: Path) -> None:
    """Taking the # off every line changes nothing, but for the time zone and the dates, which have no default."""
    text = re.sub(r"(?m)^# (?=\[|\w+ = )", "", CONFIGURATION)
    text = text[: text.index("[provisioners.default]")]
    shown = tomllib.loads(text)
    assert (shown["ledger"].pop("timezone"), shown["ledger"].pop("dates")) == ("Europe/Berlin", "end")
    given = shown["ledger"].pop("url"), shown["journal"].pop("url")
    assert given == ("sqlite:///allocations.db", "sqlite:///journal.db")
    assert read_struct(shown, File) == File()
    known = {
        name: set(getattr(File(), name).__struct_fields__) for name in File.__struct_fields__ if name != "provisioners"
    }
    known["ledger"] -= {"url", "timezone", "dates"}
    known["journal"] -= {"url"}
    assert {name: set(section) for name, section in shown.items()} == known
    make_folder(tmp_path, sample=False, now=NOW)
    assert settings(tmp_path).provisioners == {"default": {"kind": "ledger"}}


@pytest.mark.parametrize("name", sorted(FILES))
def test_what_is_there_already_is_not_touched(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match=f"{name} is there already"):
        make_folder(tmp_path, sample=True, now=NOW)
    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == {name: "mine"}


def test_a_second_time_changes_nothing(tmp_path: Path) -> None:
    make_folder(tmp_path, sample=True, now=NOW)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UsageError, match="overwrites nothing"):
        make_folder(tmp_path, sample=True, now=NOW)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_else_is_in_the_folder_stays(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    make_folder(tmp_path, sample=False, now=NOW)
    assert (tmp_path / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_a_link_into_nowhere_is_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / "config.toml").symlink_to(tmp_path / "elsewhere.toml")
    with pytest.raises(UnusableError, match=r"config\.toml: cannot be made"):
        make_folder(folder, sample=False, now=NOW)
    assert not (tmp_path / "elsewhere.toml").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UnusableError, match="file/new: cannot be made"):
        make_folder(tmp_path / "file" / "new", sample=False, now=NOW)
