"""A view as a ledger: what it shows is judged within the stamp's transaction, and one row of its base table changes."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from autorelease.errors import UnusableError
from autorelease.ledger import Stamp, StampResult, views
from autorelease.ledger.base import Base
from autorelease.ledger.rows import StoredRow
from autorelease.ledger.sqlite import SQLiteLedger
from autorelease.ledger.values import Vocabulary
from autorelease.model import Allocation, InvalidRow
from autorelease.sqlitefile import StampRefusedError

NOW = datetime(2026, 12, 1, 12, 0, tzinfo=UTC)
NOON = 1_796_126_400
PAST, FUTURE = NOON - 3600, NOON + 3600
COLUMNS = {role: role for role in StoredRow.__struct_fields__}
VMS = Base(table="vms", sid="id", status="state", released_at="gone_at", released="gone")
SHOWN = "v.id AS sid, CASE v.state WHEN 'gone' THEN 'Released' ELSE v.state END AS status, s.ends AS expires_at"
JOIN = "FROM services s JOIN vms v ON v.service = s.id"
VIEW = f"CREATE VIEW allocations AS SELECT {SHOWN}, v.name AS vm_ref, v.host AS provisioner {JOIN}"
FILTERED = f"{VIEW} WHERE v.state <> 'gone'"
TABLES = (
    "CREATE TABLE services (id INTEGER PRIMARY KEY, ends INTEGER)",
    "CREATE TABLE vms (id INTEGER PRIMARY KEY, service INTEGER, state TEXT, gone_at INTEGER, name TEXT, host TEXT)",
)
ROWS = (
    f"INSERT INTO services VALUES (1, {PAST}), (2, {PAST}), (3, {FUTURE})",
    (
        "INSERT INTO vms VALUES (7, 1, 'on', NULL, 'web-7', NULL), (8, 2, 'on', NULL, 'web-8', NULL), "
        "(9, 3, 'on', NULL, 'web-9', NULL)"
    ),
)
Open = Callable[..., SQLiteLedger]


class Panel:
    """The operator's own database, in the hands of the operator's own program."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def execute(self, *statements: str) -> None:
        """Change it."""
        with closing(sqlite3.connect(self.path)) as connection, connection:
            for statement in statements:
                connection.execute(statement)

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Read from it."""
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(statement).fetchall()

    def all(self) -> list[list[tuple[Any, ...]]]:
        """All that is in both tables."""
        return [self.query(f"SELECT * FROM {table} ORDER BY 1") for table in ("services", "vms")]


@pytest.fixture
def panel(tmp_path: Path) -> Panel:
    """Two tables, with rows."""
    made = Panel(tmp_path / "panel.db")
    made.execute(*TABLES, *ROWS)
    return made


@pytest.fixture
def opened(panel: Panel) -> Iterator[Open]:
    """Make a view, and open it; it is closed when the test ends."""
    made: list[SQLiteLedger] = []

    def open_one(
        view: str = VIEW, *, base: Base | None = VMS, named: tuple[str, ...] = (), is_stamped: bool = True
    ) -> SQLiteLedger:
        if view:
            panel.execute(view)
        ledger = SQLiteLedger(
            panel.path,
            "allocations",
            COLUMNS,
            words=Vocabulary(),
            named=frozenset(named),
            base=base,
            is_stamped=is_stamped,
        )
        made.append(ledger)
        return ledger

    yield open_one
    for ledger in made:
        ledger.close()


def stamp_of(ledger: SQLiteLedger, sid: str) -> Stamp:
    """The stamp of this row as it is now."""
    found = ledger.read(sid)
    assert isinstance(found, Allocation)
    return Stamp(found, NOW)


def due(ledger: SQLiteLedger) -> list[str]:
    """The sids of what is due."""
    return [allocation.sid for page in ledger.due(NOW, timedelta(0)) for allocation in page]


# --- opening ----------------------------------------------------------------------------------------------------------


def test_a_view_without_its_base_table_is_refused_with_both_ways_out(opened: Open) -> None:
    with pytest.raises(UnusableError, match=r"'allocations' is a view.*\[ledger.stamp\].*stamp = false"):
        opened(base=None)


def test_where_its_own_application_stamps_a_view_is_only_read(opened: Open, panel: Panel) -> None:
    ledger = opened(base=None, is_stamped=False)
    assert due(ledger) == ["7", "8"]
    before = panel.all()
    for attempt in (ledger.stamp, ledger.rehearse):
        with pytest.raises(UnusableError, match="cannot be stamped"):
            attempt([stamp_of(ledger, "7")])
    assert panel.all() == before
    assert (ledger.shape().is_view, ledger.shape().base) == (True, "")


@pytest.mark.parametrize("base", [VMS, replace(VMS, table="allocations")])
def test_a_table_has_no_base_table(opened: Open, base: Base) -> None:
    with pytest.raises(UnusableError, match="'allocations' is a table, and is stamped itself"):
        opened("CREATE TABLE allocations (sid, status, expires_at)", base=base)


@pytest.mark.parametrize(
    ("base", "message"),
    [
        (replace(VMS, table="machines"), "table = 'machines' is not in this database"),
        (replace(VMS, table="ALLOCATIONS"), "table = 'ALLOCATIONS' is a view itself: name a table"),
        (replace(VMS, sid="uuid"), "table 'vms' has no column 'uuid' for sid"),
        (replace(VMS, status="status"), "has no column 'status' for status"),
        (replace(VMS, released_at="released_at"), "has no column 'released_at' for released_at"),
    ],
)
def test_what_the_base_table_lacks_is_named(opened: Open, base: Base, message: str) -> None:
    with pytest.raises(UnusableError, match=message):
        opened(base=base)


@pytest.mark.parametrize("released_at", ["", "released_at"])
def test_a_base_table_without_released_at(opened: Open, panel: Panel, released_at: str) -> None:
    ledger = opened(base=replace(VMS, released_at=released_at, may_lack_released_at=bool(released_at)))
    assert list(ledger.stamp([stamp_of(ledger, "7")])) == [StampResult.STAMPED]
    assert panel.query("SELECT state, gone_at FROM vms WHERE id = 7") == [("gone", None)]
    assert "released_at = none" in ledger.shape().base


def test_a_view_whose_tables_are_gone_is_told_in_the_database_s_own_words(opened: Open, panel: Panel) -> None:
    panel.execute(VIEW, "DROP TABLE services")
    with pytest.raises(UnusableError, match=r"the view 'allocations' cannot be read: no such table: main.services"):
        opened("")


def test_a_view_whose_tables_go_while_it_is_in_use(opened: Open, panel: Panel) -> None:
    ledger = opened()
    stamp = stamp_of(ledger, "7")
    panel.execute("DROP TABLE services")
    for attempt in (lambda: ledger.stamp([stamp]), lambda: ledger.rehearse([stamp]), ledger.census, ledger.shape):
        with pytest.raises(UnusableError, match=r"no such table: main\.services"):
            attempt()
    assert panel.query("SELECT state FROM vms WHERE id = 7") == [("on",)]


# --- the stamp --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", [VIEW, FILTERED])
def test_one_row_of_the_base_table_changes_and_nothing_else(opened: Open, panel: Panel, view: str) -> None:
    ledger = opened(view)
    [services, vms] = panel.all()
    stamps = [stamp_of(ledger, sid) for sid in ("7", "8")]
    assert list(ledger.rehearse(stamps)) == [None, None]
    assert panel.all() == [services, vms]
    assert list(ledger.stamp(stamps[:1])) == [StampResult.STAMPED]
    assert panel.all() == [services, [(7, 1, "gone", NOON, "web-7", None), *vms[1:]]]
    assert list(ledger.stamp(stamps)) == [StampResult.UNCHANGED, StampResult.STAMPED]
    assert due(ledger) == []
    assert ledger.census().rows_examined == 1


@pytest.mark.parametrize("view", [VIEW, FILTERED])
def test_what_the_view_leaves_out_as_released_is_read_as_released(opened: Open, panel: Panel, view: str) -> None:
    ledger = opened(view)
    ledger.stamp([stamp_of(ledger, "7")])
    panel.execute("DELETE FROM vms WHERE id = 8")
    for found in (ledger.read("7"), ledger.read_many(["7", "8", "9"])["7"]):
        assert isinstance(found, Allocation)
        assert (found.sid, found.released, found.settled) == ("7", True, True)
    assert ledger.read("8") is None
    assert set(ledger.read_many(["7", "8", "9"])) == {"7", "9"}


@pytest.mark.parametrize(
    "change",
    [
        f"UPDATE services SET ends = {FUTURE} WHERE id = 1",
        f"UPDATE services SET ends = '{PAST}.0' WHERE id = 1",
        "UPDATE services SET ends = NULL WHERE id = 1",
        "DELETE FROM services WHERE id = 1",
        "DELETE FROM vms WHERE id = 7",
        "UPDATE vms SET state = 'suspended' WHERE id = 7",
        "UPDATE vms SET state = 'gone' WHERE id = 7",
        "UPDATE vms SET service = 3 WHERE id = 7",
        "UPDATE vms SET name = 'web-8' WHERE id = 7",
        "UPDATE vms SET host = 'other' WHERE id = 7",
        f"INSERT INTO services SELECT id + 10, {PAST} FROM services WHERE id = 1",
    ],
)
def test_whatever_was_judged_and_has_changed_is_not_stamped(opened: Open, panel: Panel, change: str) -> None:
    # Two services with one VM show it twice.
    ledger = opened(VIEW.replace("v.service = s.id", "s.id IN (v.service, v.service + 10)"))
    stamps = [stamp_of(ledger, sid) for sid in ("7", "8")]
    panel.execute(change)
    before = [row for row in panel.query("SELECT * FROM vms") if row[0] != 8]
    is_the_same = "ends = '" in change
    if not is_the_same:
        assert list(ledger.rehearse(stamps)) == [None, None]
    expected = StampResult.STAMPED if is_the_same else StampResult.UNCHANGED
    assert list(ledger.stamp(stamps)) == [expected, StampResult.STAMPED]
    assert is_the_same or [row for row in panel.query("SELECT * FROM vms") if row[0] != 8] == before


def test_what_became_invalid_meanwhile_is_not_stamped(opened: Open, panel: Panel) -> None:
    ledger = opened(f"CREATE VIEW allocations AS SELECT {SHOWN}, v.gone_at AS released_at {JOIN}")
    stamp = stamp_of(ledger, "7")
    panel.execute("UPDATE vms SET gone_at = 5 WHERE id = 7")
    assert isinstance(ledger.read("7"), InvalidRow)
    assert list(ledger.rehearse([stamp])) == [None]
    assert list(ledger.stamp([stamp])) == [StampResult.UNCHANGED]


def test_a_join_that_multiplies_makes_invalid_rows(opened: Open, panel: Panel) -> None:
    panel.execute("CREATE TABLE addresses (vm, ip)", "INSERT INTO addresses VALUES (7, 'a'), (7, 'b'), (8, 'c')")
    ledger = opened(VIEW + " JOIN addresses a ON a.vm = v.id")
    assert due(ledger) == ["8"]
    assert ledger.read("7") == InvalidRow("7", "sid is shared by several rows")
    assert {row.sid for row in ledger.census().invalid} == {"7"}
    assert not ledger.shape().is_sid_unique


@pytest.mark.parametrize("seconds", [views.CHEAP_SECONDS, -1.0])
def test_a_status_that_several_vms_have_together_stamps_none(
    opened: Open, panel: Panel, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    monkeypatch.setattr(views, "CHEAP_SECONDS", seconds)
    panel.execute(
        "ALTER TABLE services ADD COLUMN state DEFAULT 'on'",
        "UPDATE vms SET service = 7 WHERE id IN (7, 8)",
        f"INSERT INTO services VALUES (7, {PAST}, 'on')",
    )
    view = f"CREATE VIEW allocations AS SELECT v.id AS sid, s.state AS status, s.ends AS expires_at {JOIN}"
    ledger = opened(view, base=Base("services", "id", "state", "", "Released"))
    stamp, before = stamp_of(ledger, "7"), panel.all()
    [refusal] = ledger.rehearse([stamp])
    assert isinstance(refusal, StampRefusedError)
    assert "takes 2 live rows from the view 'allocations', where 1 would be right" in str(refusal)
    if seconds > 0:
        with pytest.raises(StampRefusedError, match="Each VM needs a status of its own"):
            ledger.stamp([stamp])
    assert panel.all() == before


@pytest.mark.parametrize(
    ("base", "message"),
    [
        (replace(VMS, released="off"), "still shows sid 7 as live.*released the value that it shows as 'Released'"),
        (replace(VMS, status="host"), "still shows sid 7 as live"),
        (replace(VMS, table="others"), "still shows sid 7 as live"),
        (replace(VMS, table="nobody"), "table 'nobody' has no rows with id = 7, and needs one: .* sid must name"),
        (replace(VMS, table="double"), "table 'double' has 2 rows with id = 7, and needs one"),
        (replace(VMS, sid="service"), "table 'vms' has no rows with service = 7"),
    ],
)
def test_a_base_that_is_not_the_one_behind_the_row_is_refused_before_a_vm_is_gone(
    opened: Open, panel: Panel, base: Base, message: str
) -> None:
    for table in ("others", "nobody", "double"):
        panel.execute(f"CREATE TABLE {table} (id, state, gone_at, host)")
    panel.execute("INSERT INTO others (id) VALUES (7)", "INSERT INTO double (id) VALUES (7), ('7')")
    ledger = opened(base=base)
    assert ledger.has_rules()
    stamp, before = stamp_of(ledger, "7"), panel.all()
    [refusal] = ledger.rehearse([stamp])
    assert isinstance(refusal, StampRefusedError)
    with pytest.raises(StampRefusedError, match=message):
        ledger.stamp([stamp])
    assert panel.all() == before


RULES = {
    "no": (
        "CREATE TRIGGER t BEFORE UPDATE ON vms WHEN OLD.id = 7 BEGIN SELECT RAISE(ABORT, 'not him'); END",
        "not him",
    ),
    "rolled back": (
        "CREATE TRIGGER t BEFORE UPDATE ON vms WHEN OLD.id = 7 BEGIN SELECT RAISE(ROLLBACK, 'not him'); END",
        "not him",
    ),
    "ignored": (
        "CREATE TRIGGER t BEFORE UPDATE ON vms WHEN OLD.id = 7 BEGIN SELECT RAISE(IGNORE); END",
        "its row is not 'gone' in table 'vms'",
    ),
    "undone": (
        (
            "CREATE TRIGGER t AFTER UPDATE OF state ON vms WHEN OLD.id = 7 BEGIN "
            "UPDATE vms SET state = 'on' WHERE id = OLD.id; END"
        ),
        "its row is not 'gone' in table 'vms'",
    ),
    "renewed by it": (
        (
            "CREATE TRIGGER t AFTER UPDATE OF state ON vms WHEN OLD.id = 7 BEGIN "
            "INSERT INTO vms SELECT 70, service, 'on', NULL, name, host FROM vms WHERE id = 7; "
            "UPDATE vms SET id = 700 WHERE id = 7; UPDATE vms SET id = 7 WHERE id = 70; END"
        ),
        "its row is not 'gone' in table 'vms'",
    ),
    "unique": ("CREATE UNIQUE INDEX one ON vms (host, state)", "UNIQUE constraint failed"),
}


@pytest.mark.parametrize("name", RULES)
def test_the_rules_are_those_of_the_base_table(opened: Open, panel: Panel, name: str) -> None:
    statement, message = RULES[name]
    panel.execute("UPDATE vms SET host = 'h' || id", statement)
    if name == "unique":
        panel.execute("UPDATE vms SET state = 'gone' WHERE id = 9", "UPDATE vms SET host = 'h7' WHERE id = 9")
    ledger = opened()
    stamps, before = [stamp_of(ledger, sid) for sid in ("7", "8")], panel.all()
    refused, taken = ledger.rehearse(stamps)
    assert isinstance(refused, StampRefusedError)
    assert message in str(refused)
    assert taken is None
    with pytest.raises(StampRefusedError):
        ledger.stamp(stamps)
    assert panel.all() == before
    assert list(ledger.stamp(stamps[1:])) == [StampResult.STAMPED]


def test_a_foreign_key_of_the_base_table_is_kept(opened: Open, panel: Panel) -> None:
    panel.execute(
        "DROP TABLE vms",
        "CREATE TABLE states (name TEXT PRIMARY KEY)",
        "INSERT INTO states VALUES ('on')",
        "CREATE TABLE vms (id TEXT PRIMARY KEY, service, state REFERENCES states DEFERRABLE INITIALLY DEFERRED, "
        "gone_at, name, host)",
        "INSERT INTO vms VALUES ('7', 1, 'on', NULL, 'web-7', NULL)",
    )
    ledger = opened()
    [refusal] = ledger.rehearse([stamp_of(ledger, "7")])
    assert "the foreign key (state) of table 'vms' to table 'states' finds no such row there" in str(refusal)
    panel.execute("INSERT INTO states VALUES ('gone')")
    assert list(ledger.rehearse([stamp_of(ledger, "7")])) == [None]


def test_a_key_that_would_carry_the_stamp_further_is_refused(opened: Open, panel: Panel) -> None:
    panel.execute(
        "CREATE UNIQUE INDEX both ON vms (id, state)",
        "CREATE TABLE notes (vm, state, FOREIGN KEY (vm, state) REFERENCES vms (id, state) ON UPDATE CASCADE)",
        "INSERT INTO notes VALUES (7, 'on')",
    )
    ledger = opened()
    refused, taken = ledger.rehearse([stamp_of(ledger, sid) for sid in ("7", "8")])
    assert "ON UPDATE CASCADE" in str(refused)
    assert taken is None


def test_a_table_that_becomes_a_view_while_it_is_in_use_is_not_stamped(opened: Open, panel: Panel) -> None:
    ledger = opened(f"CREATE TABLE allocations AS SELECT {SHOWN} {JOIN}", base=None)
    stamp = stamp_of(ledger, "7")
    trap = "UPDATE vms SET state = 'gone' WHERE id = NEW.sid"
    panel.execute(
        "DROP TABLE allocations", VIEW, f"CREATE TRIGGER t INSTEAD OF UPDATE ON allocations BEGIN {trap}; END"
    )
    before = panel.all()
    for attempt in (ledger.stamp, ledger.rehearse):
        with pytest.raises(UnusableError, match="was made anew while it was in use"):
            attempt([stamp])
    assert panel.all() == before


# --- keys and words ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shown", ["v.id", "CAST(v.id AS TEXT)", "'' || v.id"])
@pytest.mark.parametrize("declared", ["id INTEGER PRIMARY KEY", "id TEXT PRIMARY KEY COLLATE NOCASE", "id"])
def test_a_key_is_the_same_as_number_and_as_text(opened: Open, panel: Panel, shown: str, declared: str) -> None:
    panel.execute(
        "ALTER TABLE vms RENAME TO old",
        f"CREATE TABLE vms ({declared}, service INTEGER, state TEXT, gone_at INTEGER, name TEXT, host TEXT)",
        "INSERT INTO vms SELECT * FROM old",
    )
    ledger = opened(VIEW.replace("v.id AS sid", f"{shown} AS sid"))
    assert list(ledger.stamp([stamp_of(ledger, "7")])) == [StampResult.STAMPED]
    assert panel.query("SELECT id, state FROM vms ORDER BY id")[0][1] == "gone"
    assert due(ledger) == ["8"]


def test_a_key_in_another_case_is_another_row(opened: Open, panel: Panel) -> None:
    panel.execute(
        "DROP TABLE vms",
        "CREATE TABLE vms (id TEXT COLLATE NOCASE, service, state, gone_at, name, host)",
        "INSERT INTO vms VALUES ('Web', 1, 'on', NULL, 'a', NULL), ('web', 2, 'on', NULL, 'b', NULL)",
    )
    ledger = opened(VIEW.replace("v.id AS sid", "v.id COLLATE BINARY AS sid"))
    ledger.stamp([stamp_of(ledger, "web")])
    assert panel.query("SELECT id, state FROM vms ORDER BY id COLLATE BINARY") == [("Web", "on"), ("web", "gone")]


@pytest.mark.parametrize("key", ["id TEXT COLLATE NOCASE", "id TEXT COLLATE NOCASE UNIQUE, more", "id"])
@pytest.mark.parametrize("shown", ["v.id", "v.id COLLATE NOCASE"])
def test_what_the_view_takes_for_one_sid_is_shared(opened: Open, panel: Panel, key: str, shown: str) -> None:
    more = ", NULL" if "more" in key else ""
    panel.execute(
        "DROP TABLE vms",
        f"CREATE TABLE vms ({key.replace(' UNIQUE', '')}, service, state, gone_at, name, host)",
        f"INSERT INTO vms VALUES ('Web'{more}, 1, 'on', NULL, 'a', NULL), ('web'{more}, 2, 'on', NULL, 'b', NULL)",
        *(["CREATE INDEX i ON vms (id)"] if more else []),
    )
    ledger = opened(VIEW.replace("v.id AS sid", f"{shown} AS sid"))
    are_one = "NOCASE" in key + shown
    assert due(ledger) == ([] if are_one else ["Web", "web"])
    assert {sid: isinstance(row, InvalidRow) for sid, row in ledger.read_many(["Web", "web"]).items()} == {
        "Web": are_one,
        "web": are_one,
    }


@pytest.mark.parametrize(
    ("declared", "word", "stored"),
    [
        ("INTEGER", 9, 9),
        ("TEXT", 9, "9"),
        ("", "9", "9"),
        ("INT", "9", 9),
        ("TEXT COLLATE NOCASE", "Gone", "Gone"),
    ],
)
def test_the_base_table_has_its_own_word(
    opened: Open, panel: Panel, declared: str, word: str | int, stored: object
) -> None:
    panel.execute(
        "DROP TABLE vms",
        f"CREATE TABLE vms (id INTEGER PRIMARY KEY, service, state {declared}, gone_at, name, host)",
        "INSERT INTO vms VALUES (7, 1, 1, NULL, 'a', NULL)",
    )
    literal = f"'{word}'" if isinstance(word, str) else word
    view = VIEW.replace(
        "CASE v.state WHEN 'gone' THEN 'Released' ELSE v.state END",
        f"CASE WHEN v.state = {literal} THEN 'Released' ELSE 'Active' END",
    )
    ledger = opened(view, base=replace(VMS, released=word))
    assert list(ledger.stamp([stamp_of(ledger, "7")])) == [StampResult.STAMPED]
    assert panel.query("SELECT state FROM vms") == [(stored,)]


# --- what the doctor asks ---------------------------------------------------------------------------------------------


def test_the_shape_of_a_view(opened: Open) -> None:
    shape = opened().shape()
    assert (shape.is_view, shape.is_sid_unique, shape.is_base_key_unique) == (True, False, True)
    assert shape.base == "table 'vms' (sid = id, status = state, released_at = gone_at, released = 'gone')"
    assert shape.expiries == {"integer": 3}


def test_a_base_table_whose_key_is_not_unique_is_found(opened: Open) -> None:
    assert not opened(base=replace(VMS, sid="service")).shape().is_base_key_unique


def test_an_index_of_a_base_table_serves_the_view(opened: Open, panel: Panel) -> None:
    ledger = opened()
    access = ledger.accesses(NOW, timedelta(0))[0]
    assert not access.is_indexed
    assert "a view itself can have none" in access.remedy
    panel.execute("CREATE INDEX a ON services (ends)", "CREATE INDEX b ON vms (service)")
    access = opened("").accesses(NOW, timedelta(0))[0]
    assert (access.is_indexed, access.has_settled) == (True, False)
    assert "INDEX a (ends>? AND ends<?)" in access.how


def test_a_write_in_either_table_is_a_write(opened: Open, panel: Panel) -> None:
    ledger = opened()
    before = ledger.version()
    panel.execute("UPDATE services SET ends = ends + 1")
    assert ledger.version() != before
