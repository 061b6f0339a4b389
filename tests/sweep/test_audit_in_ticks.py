"""The audit at the end of a tick: what a damaged index hides is found, and what is wrong is remembered until mended."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest

from autorelease.errors import ExitCode, StopReadingError, UnusableError
from autorelease.ledger.lookup import SHARED_SID
from autorelease.ledger.narrowing import indexes_of_holders
from autorelease.ledger.values import Vocabulary
from autorelease.model import InvalidRow
from autorelease.provisioners.memory import MemoryProvisioner
from autorelease.rules.guard import Limits
from autorelease.sweep.report import tick_object
from tests.ledger.damaged import write_behind_the_index
from tests.support.engine import EXPIRED, RENEWED, Engine, Scripted, Wrapper
from tests.support.place import PERMISSIVE, TABLE

INDEX = "CREATE INDEX due ON vm_allocations (expires_at, sid) WHERE status <> 'Released'"
DAY = timedelta(hours=24)
HOUR = timedelta(hours=1)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger of three live rows is one that is audited once a day."""
    monkeypatch.setattr("autorelease.deciding.audit.SMALL_LIVE", 2)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """An audit comes one page of two rows further in each tick."""
    monkeypatch.setattr("autorelease.deciding.audit.LONGEST", timedelta(0))
    monkeypatch.setattr("autorelease.ledger.pace.FIRST_ROWS", 2)


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A census that suspects nobody."""
    monkeypatch.setattr("autorelease.ledger.census.Counting._suspicious", "0")


def hide(engine: Engine, sid: str, expires_at: int = EXPIRED) -> None:
    """A due row whose entry is not in the index."""

    def write(connection: sqlite3.Connection) -> None:
        connection.execute(
            "INSERT INTO vm_allocations (sid, status, expires_at) VALUES (?, 'Active', ?)", (sid, expires_at)
        )

    write_behind_the_index(engine.place.ledger, "due", write)


def audits(engine: Engine) -> list[dict[str, Any]]:
    """What the journal holds of audits."""
    with closing(sqlite3.connect(engine.place.journal)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("SELECT * FROM audits ORDER BY id")]


# --- what an index hides ----------------------------------------------------------------------------------------------


def test_a_row_that_a_damaged_index_hides_ends_every_tick_with_5_until_the_index_is_made_anew(engine: Engine) -> None:
    engine.place.execute(INDEX)
    engine.add("seen")
    hide(engine, "hidden")
    provisioner = Scripted()
    first = engine.tick(provisioner)
    # What was seen is released all the same, and the report says so.
    assert (first.code, first.ends()) == (ExitCode.UNUSABLE, {"seen": "released"})
    assert first.report.lost is not None
    for part in (str(engine.place.ledger), "the index due", "1 row (hidden)", "for what is due", 'REINDEX "due";'):
        assert part in first.report.lost
    engine.later()
    assert engine.tick(provisioner).code == ExitCode.UNUSABLE
    assert engine.statuses()["hidden"] == "Active"
    engine.place.execute("REINDEX due")
    engine.later()
    mended = engine.tick(provisioner)
    assert (mended.code, mended.ends()) == (ExitCode.OK, {"hidden": "released"})


@pytest.mark.usefixtures("large", "hurried")
def test_in_a_large_ledger_it_stays_5_until_an_audit_has_come_to_its_end(engine: Engine) -> None:
    engine.place.execute(INDEX)
    engine.add(*"abcdef", expires_at=RENEWED)
    hide(engine, "hidden")
    codes = []
    for _ in range(6):
        codes.append(engine.tick(Scripted()).code)
        engine.later()
    # Found at the end of the first walk, of four pages; the second one begins at once.
    assert codes == [0, 0, 0, 5, 5, 5]
    engine.place.execute("REINDEX due")
    codes = []
    for _ in range(7):
        codes.append(engine.tick(Scripted()).code)
        engine.later()
    # The walk that was under way has not passed the row yet.
    assert codes == [5, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("vm_ref", "index"), [("web-9", "vm_allocations_vms"), ("w\u00e9b-9", "vm_allocations_odd_vms")]
)
def test_a_customer_whom_an_index_hides_from_the_look_for_other_holders_is_named(
    engine: Engine, vm_ref: str, index: str
) -> None:
    for statement in indexes_of_holders("vm_allocations", "sid", "vm_ref"):
        engine.place.execute(statement)
    engine.add("a", vm_ref="web-1", expires_at=RENEWED)
    assert engine.tick(Scripted()).code == ExitCode.OK
    statement = "INSERT INTO vm_allocations (sid, status, expires_at, vm_ref) VALUES ('paid', 'Active', ?, ?)"
    write_behind_the_index(engine.place.ledger, index, lambda other: other.execute(statement, (RENEWED, vm_ref)))
    engine.later()
    ticked = engine.tick(Scripted())
    assert ticked.code == ExitCode.UNUSABLE
    assert ticked.report.lost is not None
    assert f"the index {index} does not show 1 row (paid) to a tick that looks for who else holds" in ticked.report.lost
    engine.place.execute(f"REINDEX {index}")
    engine.later()
    assert engine.tick(Scripted()).code == ExitCode.OK


def test_a_row_that_cannot_be_found_by_its_sid_is_named(engine: Engine) -> None:
    engine.place.execute("DROP TABLE vm_allocations")
    engine.place.execute("CREATE TABLE vm_allocations (sid TEXT, status TEXT, expires_at INTEGER, released_at INTEGER)")
    engine.place.execute("CREATE INDEX by_sid ON vm_allocations (sid)")
    write_behind_the_index(
        engine.place.ledger,
        "by_sid",
        lambda other: other.execute("INSERT INTO vm_allocations VALUES ('lost', 'Active', ?, NULL)", (EXPIRED,)),
    )
    ticked = engine.tick(Scripted())
    assert ticked.code == ExitCode.UNUSABLE
    assert "the index by_sid does not show 1 row (lost) to a tick that looks by the sid" in (ticked.report.lost or "")


def test_the_log_says_why_where_the_report_is_an_object(engine: Engine) -> None:
    engine.place.configure('[provisioners.default]\nkind = "ledger"\n', PERMISSIVE)
    engine.place.execute(INDEX)
    hide(engine, "hidden", 1_700_000_000)
    ran = engine.place.run("tick", "--once", "--json")
    assert (ran.code, ran.json()["exit_code"]) == (ExitCode.UNUSABLE, ExitCode.UNUSABLE)
    [line] = [line for line in ran.err.splitlines() if "hides rows" in line]
    assert " ERROR ledger or journal could not be used to the end, or hides rows: " in line
    assert 'REINDEX "due";' in line


def test_a_dry_run_and_a_listing_find_it_too_and_write_nothing(engine: Engine) -> None:
    engine.place.configure('[provisioners.default]\nkind = "ledger"\n')
    engine.place.execute(INDEX)
    hide(engine, "hidden", 1_700_000_000)
    before = engine.place.journal.read_bytes()
    for arguments in (("list-expired",), ("tick", "--once", "--dry-run")):
        ran = engine.place.run(*arguments)
        assert ran.code == ExitCode.UNUSABLE
        assert 'REINDEX "due";' in ran.err
    assert engine.place.journal.read_bytes() == before


# --- when -------------------------------------------------------------------------------------------------------------


def test_a_small_ledger_is_audited_in_every_tick(engine: Engine) -> None:
    engine.add("a", "b", expires_at=RENEWED)
    for _ in range(3):
        report = engine.tick(Scripted()).report
        assert report.audited_at == engine.now
        assert tick_object(report)["audited_at"] == f"{engine.now:%Y-%m-%dT%H:%M:%SZ}"
        engine.later()
    [audit] = audits(engine)
    assert (audit["rows"], audit["live"], audit["position"]) == (2, 2, None)


@pytest.mark.usefixtures("large")
def test_a_large_one_once_in_audit_every(engine: Engine) -> None:
    engine.add("a", "b", "c", expires_at=RENEWED)
    begun = engine.now
    assert engine.tick(Scripted()).report.audited_at == begun
    engine.later(DAY - HOUR)
    assert engine.tick(Scripted()).report.audited_at == begun
    engine.later(HOUR)
    assert engine.tick(Scripted()).report.audited_at == engine.now
    engine.configure(audit_every=HOUR)
    engine.later()
    assert engine.tick(Scripted()).report.audited_at == engine.now


@pytest.mark.usefixtures("large")
def test_a_table_of_many_settled_rows_is_a_large_one(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autorelease.deciding.audit.SMALL_TABLE", 3)
    engine.add("a", expires_at=RENEWED)
    engine.add(*"bcd", expires_at=RENEWED, status="Released")
    begun = engine.now
    assert engine.tick(Scripted()).report.audited_at == begun
    engine.later()
    assert engine.tick(Scripted()).report.audited_at == begun


@pytest.mark.usefixtures("large")
def test_under_other_words_it_begins_anew(engine: Engine) -> None:
    engine.add("a", "b", "c", expires_at=RENEWED)
    engine.tick(Scripted())
    engine.words = Vocabulary(inactive=frozenset({"Gone"}))
    engine.later()
    assert engine.tick(Scripted()).report.audited_at == engine.now
    assert len(audits(engine)) == 1


def test_a_refused_tick_audits_nothing(engine: Engine) -> None:
    engine.limits = Limits(max_releases=1, max_percent=100, min_fleet=20)
    engine.add("a", "b")
    refused = engine.tick(Scripted())
    assert (refused.code, refused.report.audited_at) == (ExitCode.REFUSED, None)
    assert audits(engine) == []


# --- stopped, and gone on with ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("large", "hurried")
def test_it_goes_on_where_it_stopped(engine: Engine) -> None:
    engine.add(*"abcdefg", expires_at=RENEWED)
    seen = []
    for _ in range(4):
        report = engine.tick(Scripted()).report
        seen.append((audits(engine)[-1]["rows"], report.audited_at is not None))
        engine.later()
    assert seen == [(2, False), (4, False), (6, False), (7, True)]


@pytest.mark.usefixtures("large", "hurried")
def test_it_begins_anew_where_rows_may_have_other_numbers(engine: Engine) -> None:
    engine.add(*"abcdefg", expires_at=RENEWED)
    engine.tick(Scripted())
    engine.place.execute("VACUUM")
    engine.tick(Scripted())
    assert audits(engine)[-1]["rows"] == 2


class Changing(Wrapper):
    """Something happens after each page of a walk."""

    def __init__(self, inner: Any, happens: Callable[[], object]) -> None:
        super().__init__(inner)
        self._happens = happens
        self.pages = 0

    def walk(self, *arguments: Any) -> Any:
        """One page."""
        page = self._inner.walk(*arguments)
        self.pages += 1
        self._happens()
        return page


@pytest.mark.usefixtures("large")
def test_it_hears_the_wish_to_stop(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autorelease.ledger.pace.FIRST_ROWS", 2)
    engine.add(*"abcdefg", expires_at=RENEWED)
    stopped = engine.tick(
        Scripted(), around_ledger=lambda ledger: Changing(ledger, lambda: engine.stop.wish("SIGTERM"))
    )
    assert stopped.code == ExitCode.TERMINATED
    assert audits(engine)[-1]["rows"] == 2
    engine.later()
    assert engine.tick(Scripted()).report.audited_at == engine.now


def test_a_ledger_that_cannot_be_read_to_its_end_is_5_and_what_was_released_is_reported(engine: Engine) -> None:
    engine.add("a")

    def breaks() -> None:
        raise UnusableError("the disk is gone")

    ticked = engine.tick(MemoryProvisioner(["a"]), around_ledger=lambda ledger: Changing(ledger, breaks))
    assert (ticked.code, ticked.ends()) == (ExitCode.UNUSABLE, {"a": "released"})
    assert ticked.report.lost == "the disk is gone"


# --- what is remembered -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_blind", [False, True])
def test_an_invalid_row_is_counted_once_and_until_it_is_mended(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, *, is_blind: bool
) -> None:
    if is_blind:
        monkeypatch.setattr("autorelease.ledger.census.Counting._suspicious", "0")
    engine.add("a", "b", expires_at=RENEWED)
    engine.place.execute("UPDATE vm_allocations SET expires_at = 'soon' WHERE sid = 'b'")
    for _ in range(3):
        ticked = engine.tick(Scripted())
        assert (ticked.code, ticked.report.rows_invalid) == (ExitCode.NOT_ALL_WELL, 1)
        [row] = ticked.report.invalid
        assert (row.sid, row.reason) == ("b", "expires_at is text ('soon') where epoch takes numbers")
        engine.later()
    engine.hold("b")
    held = engine.tick(Scripted())
    assert (held.code, held.report.rows_invalid, held.report.rows_acknowledged) == (ExitCode.OK, 1, 1)
    engine.renew("b")
    assert engine.tick(Scripted()).report.rows_invalid == 0


def make_unreadable(engine: Engine, *sids: str) -> None:
    """Let nobody know which VM these rows name."""
    for sid in sids:
        engine.place.execute("UPDATE vm_allocations SET vm_ref = CAST(x'ff' AS TEXT) WHERE sid = ?", sid)


def share_sids(engine: Engine) -> None:
    """Let the table have two rows of one sid, whose time has not come."""
    engine.place.execute("DROP TABLE vm_allocations")
    engine.place.execute(TABLE.replace(" PRIMARY KEY", ""))
    engine.add("paid", "twice", "twice", expires_at=RENEWED)


@pytest.mark.usefixtures("large")
def test_in_a_large_ledger_an_audit_finds_the_rows_that_share_a_sid(engine: Engine) -> None:
    share_sids(engine)
    for _ in range(3):
        ticked = engine.tick(Scripted())
        assert (ticked.code, ticked.report.rows_invalid) == (ExitCode.NOT_ALL_WELL, 1)
        assert [(row.sid, row.reason) for row in ticked.report.invalid] == [("twice", SHARED_SID)]
        engine.later()
    engine.place.execute("DELETE FROM vm_allocations WHERE rowid = (SELECT max(rowid) FROM vm_allocations)")
    assert engine.tick(Scripted()).report.rows_invalid == 0


def test_a_ledger_that_becomes_a_large_one_is_audited_at_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    share_sids(engine)
    assert engine.tick(Scripted()).report.rows_invalid == 2
    engine.later()
    engine.add("one more", expires_at=RENEWED)
    monkeypatch.setattr("autorelease.deciding.audit.SMALL_LIVE", 3)
    assert engine.tick(Scripted()).report.rows_invalid == 1


@pytest.mark.usefixtures("large")
def test_an_audit_that_is_stopped_while_it_looks_for_shared_sids_is_not_over(engine: Engine) -> None:
    share_sids(engine)

    class Stopping(Wrapper):
        def sharing(self) -> Iterator[InvalidRow]:
            raise StopReadingError

    stopped = engine.tick(Scripted(), around_ledger=Stopping)
    assert (stopped.code, stopped.report.audited_at, stopped.report.rows_invalid) == (ExitCode.OK, None, 0)
    engine.later()
    assert engine.tick(Scripted()).report.rows_invalid == 1


@pytest.mark.usefixtures("large")
def test_all_that_is_invalid_is_counted_where_not_all_of_it_is_remembered_by_name(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autorelease.deciding.remembered.MOST_NAMED", 1)
    share_sids(engine)
    engine.add("x", "y", expires_at=RENEWED)
    make_unreadable(engine, *"xy")
    # Two that nobody can read, and both rows of one sid.
    assert [engine.tick(Scripted()).report.rows_invalid for _ in range(2)] == [4, 4]


@pytest.mark.usefixtures("large")
def test_what_is_seen_again_is_not_counted_again_where_not_all_is_remembered_by_name(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autorelease.deciding.remembered.MOST_NAMED", 2)
    # All of them have expired: each tick sees them by itself.
    engine.add(*"abcd")
    engine.add("e", expires_at=RENEWED)
    make_unreadable(engine, *"abcd")
    engine.place.execute("UPDATE vm_allocations SET sid = NULL WHERE sid = 'd'")
    for _ in range(2):
        report = engine.tick(Scripted()).report
        assert (report.rows_invalid, len({row.sid for row in report.invalid})) == (4, len(report.invalid))


@pytest.mark.usefixtures("large")
def test_where_very_many_are_invalid_none_is_lost_from_the_count(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autorelease.ledger.census.KNOWN_INVALID", 1)
    engine.add(*"abc")
    engine.add(*"xyz", expires_at=RENEWED)
    make_unreadable(engine, *"abcxyz")
    assert [engine.tick(Scripted()).report.rows_invalid for _ in range(2)] == [6, 6]


@pytest.mark.usefixtures("blind", "large")
@pytest.mark.parametrize(
    "mended",
    [
        f"UPDATE vm_allocations SET expires_at = {RENEWED} WHERE sid = 'b'",
        "UPDATE vm_allocations SET status = 'Released', vm_uid = x'ff' WHERE sid = 'b'",
        "DELETE FROM vm_allocations WHERE sid = 'b'",
    ],
)
def test_it_is_mended_in_the_next_tick_and_not_in_the_next_audit(engine: Engine, mended: str) -> None:
    engine.add("a", "b", "c", "d", expires_at=RENEWED)
    engine.place.execute("UPDATE vm_allocations SET expires_at = 'soon' WHERE sid = 'b'")
    first = engine.tick(Scripted()).report
    engine.later()
    assert engine.tick(Scripted()).report.rows_invalid == 1
    engine.place.execute(mended)
    engine.later()
    after = engine.tick(Scripted()).report
    assert (after.rows_invalid, after.audited_at) == (0, first.audited_at)
    [(remembered,)] = engine.place.query("SELECT count(*) FROM audited_invalid", database=engine.place.journal)
    assert remembered == 0


@pytest.mark.usefixtures("blind", "large")
def test_rows_without_a_sid_are_remembered_by_their_number_and_shown(engine: Engine) -> None:
    engine.add("a", "b", "c", expires_at=RENEWED)
    engine.place.execute(
        "INSERT INTO vm_allocations (sid, status, expires_at) VALUES (NULL, 'Active', 1), ('', 'Active', 2)"
    )
    for _ in range(2):
        report = engine.tick(Scripted()).report
        assert report.rows_invalid == 2
        assert sorted(row.reason for row in report.invalid) == ["sid is NULL", "sid is empty"]
        engine.later()


def test_what_is_remembered_is_shown_by_who_only_reads(engine: Engine) -> None:
    engine.place.configure('[provisioners.default]\nkind = "ledger"\n')
    engine.add("a", expires_at=RENEWED)
    engine.place.execute("UPDATE vm_allocations SET expires_at = 'soon' WHERE sid = 'a'")
    report = engine.place.run("tick", "--once", "--dry-run", "--json").json()
    assert (report["rows_invalid"], report["audited_at"] is not None) == (1, True)
