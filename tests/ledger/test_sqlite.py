"""The ledger in SQLite: any table of any names, read without standing in the way, stamped by compare-and-set."""

import json
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from autorelease import sqlitefile
from autorelease.errors import UnusableError
from autorelease.ledger import Stamp, StampResult
from autorelease.ledger.rows import StoredRow
from autorelease.ledger.sqlite import SQLiteLedger
from autorelease.ledger.values import Vocabulary
from autorelease.model import Allocation, InvalidRow, RawValue
from autorelease.sqlitefile import StampRefusedError
from autorelease.text import folded
from tests.support.sqlite_steps import statements_of
from tests.support.thorough import examples

COLUMNS = {role: role for role in StoredRow.__struct_fields__}
NOW = datetime(2026, 12, 1, 12, 0, tzinfo=UTC)
NOON = 1_796_126_400
PAST = NOON - 3600
NONE = timedelta(0)
TABLE = (
    "CREATE TABLE vm_allocations (sid TEXT PRIMARY KEY, owner TEXT, plan TEXT, provisioner TEXT, vm_ref TEXT, "
    "vm_uid TEXT, status TEXT, expires_at, released_at)"
)
UNTYPED = "CREATE TABLE vm_allocations (sid, status, expires_at, released_at, vm_ref, provisioner)"
Row = Mapping[str, Any]
Open = Callable[..., SQLiteLedger]


def row(sid: RawValue, expires_at: RawValue = PAST, status: RawValue = "Active", **others: RawValue) -> Row:
    """One row of the table."""
    return {"sid": sid, "status": status, "expires_at": expires_at, **others}


class Database:
    """The operator's own database, as the operator's own program uses it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def make(self, rows: Sequence[Row] = (), *statements: str, table: str = TABLE, before: str = "") -> None:
        """Make it anew: pragmas before, the table, its rows, then statements."""
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            connection.executescript(before + "; " + table)
            for each in rows:
                places = ", ".join("?" for _ in each)
                names = ", ".join(each)
                connection.execute(f"INSERT INTO vm_allocations ({names}) VALUES ({places})", list(each.values()))
            for statement in statements:
                connection.execute(statement)

    def execute(self, statement: str, *values: RawValue) -> None:
        """Change it."""
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute(statement, values)

    def query(self, statement: str, *values: RawValue) -> list[tuple[Any, ...]]:
        """Read from it, over a connection of its own."""
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(statement, values).fetchall()

    def statuses(self) -> dict[Any, Any]:
        """The status of each sid."""
        return dict(self.query("SELECT sid, status FROM vm_allocations"))


@pytest.fixture
def database(tmp_path: Path) -> Database:
    """A database that the test makes."""
    return Database(tmp_path / "allocations.db")


@pytest.fixture
def opened(database: Database) -> Iterator[Open]:
    """Open ledgers, and close them in the end."""
    made: list[SQLiteLedger] = []

    def open_one(
        columns: Mapping[str, str] = COLUMNS,
        *,
        table: str = "vm_allocations",
        words: Vocabulary = Vocabulary(),  # noqa: B008 - frozen
        named: frozenset[str] = frozenset(),
        read_only: bool = False,
    ) -> SQLiteLedger:
        made.append(SQLiteLedger(database.path, table, columns, words=words, named=named, read_only=read_only))
        return made[-1]

    yield open_one
    for ledger in made:
        ledger.close()


def judged(ledger: SQLiteLedger, sid: str) -> Allocation:
    """The allocation of this sid."""
    found = ledger.read(sid)
    assert isinstance(found, Allocation)
    return found


def due(ledger: SQLiteLedger, now: datetime = NOW) -> list[str]:
    """The sids of all pages."""
    return [allocation.sid for page in ledger.due(now, NONE) for allocation in page]


# --- opening ----------------------------------------------------------------------------------------------------------


def test_only_three_columns_are_needed(database: Database, opened: Open) -> None:
    database.make([row("a")], table="CREATE TABLE vm_allocations (sid, status, expires_at)")
    ledger = opened()
    assert due(ledger) == ["a"]
    assert ledger.stamp([Stamp(judged(ledger, "a"), NOW)]) == [StampResult.STAMPED]
    assert database.statuses() == {"a": "Released"}


@pytest.mark.parametrize("role", ["sid", "status", "expires_at"])
def test_a_needed_column_that_is_missing_is_named_with_those_there_are(
    database: Database, opened: Open, role: str
) -> None:
    database.make(table=TABLE.replace(role, f"other_{role}", 1))
    with pytest.raises(UnusableError, match=f"no column '{role}' for {role}.*Columns there: .*other_{role}"):
        opened()


def table_without(*roles: str) -> str:
    """The usual table, but for these columns. DROP COLUMN came with SQLite 3.35 only."""
    return re.sub(rf", ({'|'.join(roles)})\b[^,)]*", "", TABLE)


@pytest.mark.parametrize("role", ["released_at", "owner", "plan", "vm_ref", "vm_uid", "provisioner"])
def test_an_optional_column_must_exist_only_where_the_configuration_names_it(
    database: Database, opened: Open, role: str
) -> None:
    database.make([row("a")], table=table_without(role))
    assert due(opened()) == ["a"]
    with pytest.raises(UnusableError, match=f"no column '{role}' for {role}"):
        opened(named=frozenset({role}))
    with pytest.raises(UnusableError, match="no column 'theirs'"):
        opened({**COLUMNS, role: "theirs"}, named=frozenset({role}))


def test_names_are_compared_as_sqlite_compares_them(database: Database, opened: Open) -> None:
    database.make([row("a")], table=TABLE.upper())
    assert due(opened({role: role.title() for role in COLUMNS}, table="VM_Allocations")) == ["a"]


def test_a_table_that_is_missing_is_named_with_those_there_are(database: Database, opened: Open) -> None:
    database.make()
    with pytest.raises(UnusableError, match=r"table 'vms' is not in this database.*Tables there: vm_allocations"):
        opened(table="vms")


def test_a_file_that_is_missing_is_not_made(database: Database, opened: Open) -> None:
    for read_only in (True, False):
        with pytest.raises(UnusableError, match="there is no such ledger"):
            opened(read_only=read_only)
    assert not database.path.exists()


def test_an_empty_file_has_no_table_and_stays_empty(database: Database, opened: Open) -> None:
    database.path.touch()
    with pytest.raises(UnusableError, match="Tables there: none"):
        opened()
    assert database.path.stat().st_size == 0


@pytest.mark.parametrize(
    "content", [b"sid,status,expires_at\n", b"SQLite format 2\x00" + b"x" * 200], ids=["csv", "old"]
)
def test_another_file_is_no_ledger(database: Database, opened: Open, content: bytes) -> None:
    database.path.write_bytes(content)
    with pytest.raises(UnusableError, match="not an SQLite database"):
        opened()
    assert database.path.read_bytes() == content


def test_a_folder_is_no_ledger(database: Database, opened: Open) -> None:
    database.path.mkdir()
    with pytest.raises(UnusableError, match="is a folder"):
        opened()


def test_a_damaged_file_is_unusable(database: Database, opened: Open) -> None:
    database.make([row(str(number), owner="x" * 900) for number in range(200)])
    content = database.path.read_bytes()
    database.path.write_bytes(content[:4096] + b"\xff" * 4096 * 3 + content[4 * 4096 :])
    ledger = opened()
    with pytest.raises(UnusableError, match=str(database.path)):
        due(ledger)


# --- names ------------------------------------------------------------------------------------------------------------

ODD_NAMES = ['a"b', "[a]", "`a`", "a'b", "select", "from", "rowid", "a b", " ", ".", "a.b", "?1", ":a", "é", "É", "🚀"]
ODD_NAMES += ["value", "key", "main", "Ä_NUMBER", "İ", "status", "--", "/*", "a\nb", "1", "%s", "{}", "$sid", "json"]
names = st.sampled_from(ODD_NAMES) | st.text(
    st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1, max_size=6
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which each example makes its ledger anew."""
    return tmp_path_factory.mktemp("names")


@given(
    table=names.filter(lambda name: not name.lower().startswith("sqlite_")),
    # SQLite folds the case of ASCII alone; this leaves out a few pairs more than it does.
    columns=st.lists(names, min_size=len(COLUMNS), max_size=len(COLUMNS), unique_by=lambda name: name.lower()),
    unique=st.booleans(),
)
@example(table="vm_allocations", columns=["KUNDEN_Ä", *"bcdefghij"], unique=True)
@settings(deadline=None, max_examples=examples(100), suppress_health_check=[HealthCheck.too_slow])
def test_every_name_that_sqlite_allows(folder: Path, table: str, columns: list[str], *, unique: bool) -> None:
    path = folder / "names.db"
    path.unlink(missing_ok=True)
    ours = dict(zip(COLUMNS, columns, strict=True))
    quoted = {role: '"' + name.replace('"', '""') + '"' for role, name in {**ours, "table": table}.items()}
    kinds = {"sid": "TEXT PRIMARY KEY" if unique else "TEXT"}
    with closing(sqlite3.connect(path)) as connection, connection:
        declared = ", ".join(f"{quoted[role]} {kinds.get(role, '')}" for role in COLUMNS)
        connection.execute(f"CREATE TABLE {quoted['table']} ({declared})")
        connection.execute(
            f"INSERT INTO {quoted['table']} ({quoted['sid']}, {quoted['status']}, {quoted['expires_at']}, "
            f"{quoted['vm_ref']}) VALUES ('a', 'Active', {PAST}, 'vm')"
        )
    ledger = SQLiteLedger(path, table, ours, words=Vocabulary(), named=frozenset(COLUMNS))
    try:
        assert ledger.census().rows_examined == 1
        [[allocation]] = list(ledger.due(NOW, NONE))
        assert ledger.read("a") == allocation
        assert [holder.vm.reference for holder in ledger.holders(["vm"])] == ["vm"]
        ledger.rehearse([Stamp(allocation, NOW)])
        assert ledger.stamp([Stamp(allocation, NOW)]) == [StampResult.STAMPED]
    finally:
        ledger.close()
    with closing(sqlite3.connect(path)) as connection:
        cursor = connection.execute(f"SELECT {quoted['status']}, {quoted['released_at']} FROM {quoted['table']}")
        assert cursor.fetchall() == [("Released", NOON)]


# --- kinds of tables --------------------------------------------------------------------------------------------------

KINDS = {
    "text keys": TABLE,
    "no key": TABLE.replace("PRIMARY KEY", ""),
    "without row ids": f"{TABLE} WITHOUT ROWID",
    "untyped": UNTYPED,
    "strict": "CREATE TABLE vm_allocations (sid TEXT PRIMARY KEY, status TEXT, expires_at INTEGER, released_at ANY, "
    "vm_ref TEXT, provisioner TEXT) STRICT",
    "a key of two columns": UNTYPED.replace("provisioner)", "provisioner, PRIMARY KEY (sid, provisioner))"),
    "a generated column": UNTYPED.replace("vm_ref", "vm_ref AS ('vm-' || sid) VIRTUAL"),
}


@pytest.mark.parametrize("table", KINDS.values(), ids=KINDS.keys())
@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le"])
def test_any_kind_of_table(database: Database, opened: Open, table: str, encoding: str) -> None:
    if table.endswith("STRICT") and sqlite3.sqlite_version_info < (3, 37):
        pytest.skip("this SQLite has no STRICT tables")
    rows = [row("a"), row("é🚀", PAST + 1), row("later", NOON + 3600), row("gone", status="Released")]
    database.make(rows, table=table, before=f"PRAGMA encoding = '{encoding}'")
    ledger = opened()
    assert due(ledger) == ["a", "é🚀"]
    assert ledger.census().rows_examined == 3
    assert ledger.census().rows_invalid == 0
    stamps = [Stamp(judged(ledger, sid), NOW) for sid in ("a", "é🚀")]
    assert ledger.stamp(stamps) == [StampResult.STAMPED] * 2
    assert database.statuses() == {"a": "Released", "é🚀": "Released", "later": "Active", "gone": "Released"}


NUMBERED = {
    "row ids": "INTEGER PRIMARY KEY",
    "integers": "INTEGER",
    "big integers": "BIGINT UNIQUE",
    "numbers": "NUMERIC",
    "untyped": "",
}


@pytest.mark.parametrize("kind", NUMBERED.values(), ids=NUMBERED.keys())
@pytest.mark.parametrize("sid", [0, 1, -5, 10**17, 10**18, 2**63 - 1, -(2**63)])
def test_sids_that_are_integers(database: Database, opened: Open, kind: str, sid: int) -> None:
    database.make([row(sid), row(7, NOON + 3600)], table=UNTYPED.replace("sid", f"sid {kind}", 1))
    ledger = opened()
    assert due(ledger) == [str(sid)]
    allocation = judged(ledger, str(sid))
    assert (allocation.sid, allocation.raw.sid) == (str(sid), sid)
    assert ledger.stamp([Stamp(allocation, NOW)]) == [StampResult.STAMPED]
    assert database.statuses() == {sid: "Released", 7: "Active"}


ODD_SIDS = ["--5", "-", "--", "-0", "+1", " 1", "1 ", "01", "1.0", "1e3", "0x1", "\u0661", "²", "9" * 30, "9" * 19]
ODD_SIDS += ["-" + "9" * 19, "a'b", 'a"b', "a\x00b", "%", "_", "*", "NULL", "🚀", "a\nb", "x" * 10_000]


@pytest.mark.parametrize("kind", ["TEXT PRIMARY KEY", "TEXT", ""], ids=["text keys", "text", "untyped"])
@pytest.mark.parametrize("sid", ODD_SIDS, ids=lambda sid: ascii(sid)[:30])
def test_sids_that_only_look_like_something_else(database: Database, opened: Open, kind: str, sid: str) -> None:
    database.make([row(sid), row("other", NOON + 3600)], table=UNTYPED.replace("sid", f"sid {kind}", 1))
    ledger = opened()
    assert due(ledger) == [sid]
    allocation = judged(ledger, sid)
    assert allocation.sid == sid
    assert [holder.sid for holder in ledger.holders([folded(sid)])] == [sid]
    assert ledger.stamp([Stamp(allocation, NOW)]) == [StampResult.STAMPED]
    assert database.statuses() == {sid: "Released", "other": "Active"}


@pytest.mark.parametrize("sid", ["", "b", "1", "A", "--1", "1.0", "a\x00"], ids=ascii)
def test_a_sid_that_nobody_has(database: Database, opened: Open, sid: str) -> None:
    database.make([row("a"), row(10), row(1.0), row(b"b"), row(None)], table=UNTYPED)
    assert opened().read(sid) is None


@pytest.mark.parametrize(("one", "other"), [(1, "1"), (2**62, str(2**62)), ("a", "a"), (1, 1)], ids=repr)
def test_a_sid_of_two_rows_is_nobodys(database: Database, opened: Open, one: RawValue, other: RawValue) -> None:
    database.make([row(one), row(other, NOON + 3600)], table=UNTYPED)
    ledger = opened()
    assert due(ledger) == []
    assert isinstance(ledger.read(str(one)), InvalidRow)
    census = ledger.census()
    assert (census.rows_examined, census.rows_invalid) == (2, 2)
    assert {invalid.reason for invalid in census.invalid} == {"sid is shared by several rows"}


def test_a_number_that_is_no_sid_hides_no_others_that_are_equal_to_it(database: Database, opened: Open) -> None:
    database.make([row(7.0), row(7, PAST + 1), row(7, PAST + 2), row(8, PAST + 3)], table=UNTYPED)
    assert due(opened()) == ["8"]


def test_the_list_of_invalid_rows_ends_and_their_number_does_not(
    database: Database, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autorelease.ledger.census.LISTED_INVALID", 2)
    database.make([row(str(number), "soon") for number in range(5)] + [row("a")])
    census = opened().census()
    assert (census.rows_examined, census.rows_invalid, len(census.invalid), census.truncated) == (6, 5, 2, True)


# --- stamps -----------------------------------------------------------------------------------------------------------


def test_a_stamp_is_the_status_and_the_instant_in_the_rows_own_spelling(database: Database, opened: Open) -> None:
    at = NOW + timedelta(seconds=5, microseconds=250_000)
    database.make([row("whole"), row("real", float(PAST))])
    ledger = opened()
    ledger.stamp([Stamp(judged(ledger, sid), at) for sid in ("whole", "real")])
    stamped = database.query("SELECT sid, status, released_at, typeof(released_at), expires_at FROM vm_allocations")
    assert sorted(stamped) == [
        ("real", "Released", NOON + 5.25, "real", float(PAST)),
        ("whole", "Released", NOON + 5, "integer", PAST),
    ]


def test_a_stamp_in_text_is_spelled_as_its_row_is(database: Database, opened: Open) -> None:
    database.make([row("a", "2026-12-01 12:00:00.000+02:00"), row("b", "2026-12-01T10:00Z")])
    ledger = opened(words=Vocabulary(timestamps="iso8601"))
    ledger.stamp([Stamp(judged(ledger, sid), NOW) for sid in ("a", "b")])
    assert database.query("SELECT released_at FROM vm_allocations ORDER BY sid") == [
        ("2026-12-01 14:00:00.000+02:00",),
        ("2026-12-01T12:00Z",),
    ]


def test_the_status_that_means_released_is_the_configured_one(database: Database, opened: Open) -> None:
    database.make([row("a"), row("b", status="it's over"), row("c", status="Released")])
    ledger = opened(words=Vocabulary(released="it's over", inactive=frozenset({"Can't"})))
    assert due(ledger) == ["a", "c"]
    ledger.stamp([Stamp(judged(ledger, "a"), NOW)])
    assert database.statuses()["a"] == "it's over"


MEANWHILE = {
    "renewed": "expires_at = expires_at + 86400",
    "the expiry gone": "expires_at = NULL",
    "the expiry a real": "expires_at = CAST(expires_at AS REAL)",
    "the expiry text": "expires_at = CAST(expires_at AS TEXT)",
    "the expiry a blob": "expires_at = CAST(expires_at AS BLOB)",
    "another status": "status = 'Suspended'",
    "the status in another case": "status = 'ACTIVE'",
    "the status with a space": "status = 'Active '",
    "the status a blob": "status = CAST('Active' AS BLOB)",
    "no status": "status = NULL",
    "released by someone else": "status = 'Released', released_at = 5",
    "another sid": "sid = 'other'",
    "the sid in another case": "sid = 'A'",
    "the sid with a space": "sid = 'a '",
    "the sid a blob": "sid = CAST('a' AS BLOB)",
}
COLLATED = UNTYPED.replace("sid,", "sid COLLATE NOCASE,").replace("status,", "status COLLATE NOCASE,")


@pytest.mark.parametrize("change", MEANWHILE.values(), ids=MEANWHILE.keys())
@pytest.mark.parametrize(
    "table", [UNTYPED, COLLATED, COLLATED.replace("NOCASE", "RTRIM")], ids=["binary", "nocase", "rtrim"]
)
def test_what_has_changed_since_it_was_judged_is_not_stamped(
    database: Database, opened: Open, table: str, change: str
) -> None:
    database.make([row("a")], table=table)
    ledger = opened()
    allocation = judged(ledger, "a")
    database.execute(f"UPDATE vm_allocations SET {change}")
    before = database.query("SELECT *, typeof(expires_at) FROM vm_allocations")
    assert ledger.stamp([Stamp(allocation, NOW)]) == [StampResult.UNCHANGED]
    assert database.query("SELECT *, typeof(expires_at) FROM vm_allocations") == before


NAMED = {"vm_ref": "ref-1", "vm_uid": "uid-1", "provisioner": "other"}
MOVED = [
    *((column, value) for column in NAMED for value in ("'another'", "NULL", "''", "7")),
    *((column, f"upper({column})") for column in NAMED),
    *((column, f"{column} || ' '") for column in NAMED),
]


@pytest.mark.parametrize(("column", "value"), MOVED)
@pytest.mark.parametrize("collation", ["BINARY", "NOCASE", "RTRIM"])
def test_a_row_that_names_another_vm_since_is_not_stamped(
    database: Database, opened: Open, collation: str, column: str, value: str
) -> None:
    names = ", ".join(f"{name} COLLATE {collation}" for name in NAMED)
    database.make([row("a", **NAMED)], table=f"CREATE TABLE vm_allocations (sid, status, expires_at, {names})")
    ledger = opened()
    allocation = judged(ledger, "a")
    database.execute(f"UPDATE vm_allocations SET {column} = {value}")
    assert ledger.stamp([Stamp(allocation, NOW)]) == [StampResult.UNCHANGED]
    assert ledger.rehearse([Stamp(allocation, NOW)]) == [None]
    assert database.statuses() == {"a": "Active"}


@pytest.mark.parametrize("absent", [None, ""])
@pytest.mark.parametrize("sid", ["a", 7])
def test_names_that_are_absent_are_what_they_were(
    database: Database, opened: Open, absent: RawValue, sid: RawValue
) -> None:
    table = "CREATE TABLE vm_allocations (sid, status, expires_at, vm_ref, vm_uid, provisioner)"
    database.make([row(sid, vm_ref=absent, vm_uid=absent, provisioner=absent)], table=table)
    ledger = opened()
    allocation = judged(ledger, str(sid))
    # Another spelling of nothing is still nothing.
    database.execute("UPDATE vm_allocations SET vm_ref = NULL, vm_uid = '', provisioner = NULL")
    assert ledger.stamp([Stamp(allocation, NOW)]) == [StampResult.STAMPED]


@pytest.mark.parametrize("first", [1, "1", 1.0], ids=repr)
@pytest.mark.parametrize("second", [1, "1", 1.0], ids=repr)
def test_one_as_a_number_as_a_real_and_as_text_are_three_values(
    database: Database, opened: Open, first: RawValue, second: RawValue
) -> None:
    words = Vocabulary(never=(1, "1"))
    database.make([row("a", first)], table=UNTYPED)
    ledger = opened(words=words)
    allocation = judged(ledger, "a")
    database.execute("UPDATE vm_allocations SET expires_at = ?", second)
    same = (type(first), first) == (type(second), second)
    expected = StampResult.STAMPED if same else StampResult.UNCHANGED
    assert ledger.stamp([Stamp(allocation, NOW)]) == [expected]
    assert database.statuses() == {"a": "Released" if same else "Active"}


@pytest.mark.parametrize(("first", "second"), [(1, "1"), ("1", 1), (1, 1.0)], ids=repr)
def test_a_sid_that_became_its_own_twin_is_another_row(
    database: Database, opened: Open, first: RawValue, second: RawValue
) -> None:
    database.make([row(first)], table=UNTYPED)
    ledger = opened()
    allocation = judged(ledger, "1")
    database.execute("UPDATE vm_allocations SET sid = ?", second)
    assert ledger.stamp([Stamp(allocation, NOW)]) == [StampResult.UNCHANGED]
    assert database.statuses() == {second: "Active"}


def test_a_row_without_an_expiry_can_be_stamped_and_no_longer_when_it_has_one(database: Database, opened: Open) -> None:
    database.make([row("a", None), row("b", None)])
    ledger = opened()
    stamps = [Stamp(judged(ledger, sid), NOW) for sid in ("a", "b")]
    database.execute("UPDATE vm_allocations SET expires_at = ? WHERE sid = 'b'", PAST)
    assert ledger.stamp(stamps) == [StampResult.STAMPED, StampResult.UNCHANGED]
    assert database.query("SELECT released_at FROM vm_allocations WHERE sid = 'a'") == [(NOON,)]


def test_a_row_that_has_gone_is_not_stamped_and_does_not_hold_up_the_others(database: Database, opened: Open) -> None:
    database.make([row("a"), row("b"), row("c")])
    ledger = opened()
    stamps = [Stamp(judged(ledger, sid), NOW) for sid in "abc"]
    database.execute("DELETE FROM vm_allocations WHERE sid = 'b'")
    assert ledger.stamp(stamps) == [StampResult.STAMPED, StampResult.UNCHANGED, StampResult.STAMPED]
    assert database.statuses() == {"a": "Released", "c": "Released"}


def test_two_rows_of_one_stamp_do_not_make_up_for_another_that_changed_none(database: Database, opened: Open) -> None:
    database.make([row("a"), row("b")], table=UNTYPED)
    ledger = opened()
    stamps = [Stamp(judged(ledger, sid), NOW) for sid in "ab"]
    database.execute("DELETE FROM vm_allocations WHERE sid = 'b'")
    database.execute("INSERT INTO vm_allocations SELECT * FROM vm_allocations")
    before = database.query("SELECT * FROM vm_allocations")
    with pytest.raises(UnusableError, match="after the stamp of sid a its row is not 'Released'"):
        ledger.stamp(stamps)
    assert database.query("SELECT * FROM vm_allocations") == before


def test_a_second_stamp_changes_nothing(database: Database, opened: Open) -> None:
    database.make([row("a")])
    ledger = opened()
    stamp = Stamp(judged(ledger, "a"), NOW)
    assert ledger.stamp([stamp, stamp]) == [StampResult.STAMPED, StampResult.UNCHANGED]
    assert ledger.stamp([Stamp(stamp.allocation, NOW + timedelta(hours=1))]) == [StampResult.UNCHANGED]
    assert database.query("SELECT released_at FROM vm_allocations") == [(NOON,)]


@pytest.mark.parametrize("second", [row("a"), row("a", NOON + 3600), row("a", status="Released")], ids=str)
def test_never_more_than_one_row_is_stamped(database: Database, opened: Open, second: Row) -> None:
    """A copy that appears after the row was judged: nobody knows which of the two is meant."""
    database.make([row("a"), row("b")], table=UNTYPED)
    ledger = opened()
    stamps = [Stamp(judged(ledger, sid), NOW) for sid in ("b", "a")]
    database.execute("INSERT INTO vm_allocations (sid, status, expires_at) VALUES (?, ?, ?)", *second.values())
    before = database.query("SELECT * FROM vm_allocations")
    with pytest.raises(StampRefusedError, match="sid a"):
        ledger.stamp(stamps)
    assert database.query("SELECT * FROM vm_allocations") == before


def test_a_twin_that_appears_is_not_stamped_either(database: Database, opened: Open) -> None:
    database.make([row(1)], table=UNTYPED)
    ledger = opened()
    allocation = judged(ledger, "1")
    database.execute("INSERT INTO vm_allocations (sid, status, expires_at) VALUES ('1', 'Active', ?)", PAST)
    with pytest.raises(StampRefusedError):
        ledger.stamp([Stamp(allocation, NOW)])
    assert database.statuses() == {1: "Active", "1": "Active"}


RULES = {
    "a CHECK": "CHECK",
    "RAISE(ABORT)": "BEFORE UPDATE ON vm_allocations WHEN old.sid = 'b' BEGIN SELECT RAISE(ABORT, 'no'); END",
    "RAISE(FAIL)": "BEFORE UPDATE ON vm_allocations WHEN old.sid = 'b' BEGIN SELECT RAISE(FAIL, 'no'); END",
    "RAISE(ROLLBACK)": "BEFORE UPDATE ON vm_allocations WHEN old.sid = 'b' BEGIN SELECT RAISE(ROLLBACK, 'no'); END",
    "RAISE(ROLLBACK) afterwards": (
        "AFTER UPDATE ON vm_allocations WHEN old.sid = 'b' BEGIN SELECT RAISE(ROLLBACK, 'no'); END"
    ),
    "a trigger that takes the status back": (
        "AFTER UPDATE ON vm_allocations WHEN old.sid = 'b' AND new.status = 'Released' "
        "BEGIN UPDATE vm_allocations SET status = 'Active' WHERE sid = 'b'; END"
    ),
    "a trigger that writes another word": (
        "AFTER UPDATE ON vm_allocations WHEN old.sid = 'b' AND new.status = 'Released' "
        "BEGIN UPDATE vm_allocations SET status = 'released' WHERE sid = 'b'; END"
    ),
    "a trigger that deletes the row": (
        "AFTER UPDATE ON vm_allocations WHEN old.sid = 'b' BEGIN DELETE FROM vm_allocations WHERE sid = 'b'; END"
    ),
    "a trigger that makes a second row": (
        "AFTER UPDATE ON vm_allocations WHEN old.sid = 'b' "
        "BEGIN INSERT INTO vm_allocations (sid, status) VALUES ('b', 'Active'); END"
    ),
}


def with_rule(database: Database, rule: str) -> None:
    """Three due rows, of which the second must not be stamped."""
    rows = [row("a"), row("b"), row("c")]
    if rule == "CHECK":
        checked = UNTYPED[:-1] + ", CHECK (sid <> 'b' OR status <> 'Released'))"
        database.make(rows, table=checked)
    else:
        database.make(rows, f"CREATE TRIGGER rule {rule}", table=UNTYPED)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
def test_a_row_that_the_tables_own_rules_refuse_takes_its_whole_group_back(
    database: Database, opened: Open, rule: str
) -> None:
    with_rule(database, rule)
    before = database.query("SELECT * FROM vm_allocations")
    ledger = opened()
    stamps = [Stamp(judged(ledger, sid), NOW) for sid in "abc"]
    with pytest.raises(StampRefusedError, match=str(database.path)):
        ledger.stamp(stamps)
    assert database.query("SELECT * FROM vm_allocations") == before
    assert [type(refusal) for refusal in ledger.rehearse(stamps)] == [type(None), StampRefusedError, type(None)]
    assert not ledger.connection.in_transaction
    assert ledger.stamp([stamps[0], stamps[2]]) == [StampResult.STAMPED] * 2
    assert database.statuses() == {"a": "Released", "b": "Active", "c": "Released"}


def test_a_stamp_that_is_ignored_is_not_counted_and_shows_in_the_rehearsal(database: Database, opened: Open) -> None:
    trigger = "BEFORE UPDATE ON vm_allocations WHEN old.sid = 'b' BEGIN SELECT RAISE(IGNORE); END"
    with_rule(database, trigger)
    ledger = opened()
    stamps = [Stamp(judged(ledger, sid), NOW) for sid in "abc"]
    [refusal] = ledger.rehearse([stamps[1]])
    assert isinstance(refusal, StampRefusedError)
    assert "ignored" in str(refusal)
    assert ledger.stamp(stamps) == [StampResult.STAMPED, StampResult.UNCHANGED, StampResult.STAMPED]
    assert database.statuses() == {"a": "Released", "b": "Active", "c": "Released"}


def test_the_operators_own_triggers_run_once_and_not_recursively(database: Database, opened: Open) -> None:
    """Recursive triggers, which some libraries switch on, would run this one until it fails."""
    trigger = (
        "CREATE TRIGGER touched AFTER UPDATE ON vm_allocations "
        "BEGIN UPDATE vm_allocations SET plan = coalesce(plan, '') || 'x' WHERE sid = new.sid; END"
    )
    database.make([row("a")], trigger)
    ledger = opened()
    assert ledger.stamp([Stamp(judged(ledger, "a"), NOW)]) == [StampResult.STAMPED]
    assert database.query("SELECT status, plan FROM vm_allocations") == [("Released", "x")]
    assert ledger.connection.execute("PRAGMA recursive_triggers").fetchone() == (0,)


def test_a_missing_table_does_not_switch_recursive_triggers_on_for_others(database: Database, opened: Open) -> None:
    database.make([row("a")])
    with pytest.raises(UnusableError):
        opened(table="nothing")
    assert opened().connection.execute("PRAGMA recursive_triggers").fetchone() == (0,)


@pytest.mark.parametrize("mode", ["DELETE", "TRUNCATE", "WAL"])
def test_a_rehearsal_leaves_no_trace(database: Database, opened: Open, mode: str) -> None:
    database.make([row("a"), row("b")], before=f"PRAGMA journal_mode = {mode}")
    ledger = opened()
    allocation = judged(ledger, "a")
    before = database.path.read_bytes()
    ledger.rehearse([Stamp(allocation, NOW)])
    assert not ledger.connection.in_transaction
    assert database.path.read_bytes() == before
    assert database.statuses() == {"a": "Active", "b": "Active"}
    assert ledger.read("a") == allocation


def test_a_rehearsal_of_a_row_that_was_renewed_meanwhile_is_no_error(database: Database, opened: Open) -> None:
    """The real stamp would say UNCHANGED: nothing is wrong with the table."""
    database.make([row("a")])
    ledger = opened()
    allocation = judged(ledger, "a")
    database.execute("UPDATE vm_allocations SET expires_at = ?", NOON + 3600)
    assert ledger.rehearse([Stamp(allocation, NOW)]) == [None]


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_a_stamp_is_durable_when_it_is_counted(database: Database, opened: Open, mode: str) -> None:
    database.make([row("a")], before=f"PRAGMA journal_mode = {mode}")
    ledger = opened()
    assert ledger.connection.execute("PRAGMA synchronous").fetchone() == (2,)
    ledger.stamp([Stamp(judged(ledger, "a"), NOW)])
    assert not ledger.connection.in_transaction
    assert database.statuses() == {"a": "Released"}


def test_no_stamps_are_none(database: Database, opened: Open) -> None:
    database.make([row("a")])
    assert opened().stamp([]) == []


def everything_but_rows(database: Database) -> list[Any]:
    """The schema and what else the header of a file says."""
    pragmas = ("user_version", "application_id", "journal_mode", "encoding", "auto_vacuum", "schema_version")
    return [
        database.query("SELECT * FROM sqlite_master"),
        *(database.query(f"PRAGMA {name}") for name in pragmas),
    ]


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_nothing_is_ever_added_to_the_operators_database(database: Database, opened: Open, mode: str) -> None:
    database.make(
        [row("a"), row("b"), row("x", "soon"), row("vm", vm_ref="b")],
        "CREATE INDEX mine ON vm_allocations (owner)",
        before=f"PRAGMA journal_mode = {mode}; PRAGMA user_version = 7; PRAGMA application_id = 9",
    )
    before = everything_but_rows(database)
    ledger = opened()
    ledger.census()
    [page] = list(ledger.due(NOW, NONE))
    list(ledger.holders([allocation.vm_ref for allocation in page]))
    ledger.rehearse([Stamp(page[0], NOW)])
    ledger.stamp([Stamp(allocation, NOW) for allocation in page])
    ledger.close()
    assert everything_but_rows(database) == before
    assert {path.name for path in database.path.parent.iterdir()} == {"allocations.db"}


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_a_ledger_that_is_only_read_cannot_be_written(database: Database, opened: Open, mode: str) -> None:
    database.make([row("a")], before=f"PRAGMA journal_mode = {mode}")
    before = database.path.read_bytes()
    ledger = opened(read_only=True)
    assert due(ledger) == ["a"]
    stamp = Stamp(judged(ledger, "a"), NOW)
    for write in (lambda: ledger.stamp([stamp]), lambda: ledger.rehearse([stamp])):
        with pytest.raises(UnusableError, match="cannot be written"):
            write()
    ledger.close()
    assert database.path.read_bytes() == before
    assert {path.name for path in database.path.parent.iterdir()} == {"allocations.db"}


def test_a_database_that_another_program_holds_is_unusable_for_now(
    database: Database, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlitefile, "BUSY_SECONDS", 0.05)
    database.make([row("a")])
    ledger = opened()
    stamp = Stamp(judged(ledger, "a"), NOW)
    with closing(sqlite3.connect(database.path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        for use in (
            lambda: ledger.stamp([stamp]),
            lambda: ledger.rehearse([stamp]),
            ledger.census,
            lambda: due(ledger),
        ):
            with pytest.raises(UnusableError, match="Another program has held it"):
                use()
        other.execute("ROLLBACK")
    assert ledger.stamp([stamp]) == [StampResult.STAMPED]


# --- reading stands in nobody's way -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_no_transaction_is_open_between_pages(
    database: Database, opened: Open, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setattr("autorelease.ledger.due.PAGE_ROWS", 2)
    database.make([row(f"s{number}") for number in range(7)], before=f"PRAGMA journal_mode = {mode}")
    ledger = opened(read_only=True)
    count = 0
    with closing(sqlite3.connect(database.path, isolation_level=None, timeout=0)) as other:
        for page in ledger.due(NOW, NONE):
            count += len(page)
            assert not ledger.connection.in_transaction
            other.execute("BEGIN EXCLUSIVE")
            other.execute("UPDATE vm_allocations SET owner = ?", (str(count),))
            other.execute("COMMIT")
            if mode == "WAL":
                assert other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    assert count == 7


def test_no_transaction_is_open_between_holders(
    database: Database, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autorelease.ledger.vms.HOLDERS_AT_ONCE", 2)
    database.make([row(f"s{number}", vm_ref=f"vm{number}") for number in range(7)])
    ledger = opened()
    found = []
    with closing(sqlite3.connect(database.path, isolation_level=None, timeout=0)) as other:
        for holder in ledger.holders([f"vm{number}" for number in range(7)]):
            found.append(holder.sid)
            other.execute("BEGIN EXCLUSIVE")
            other.execute("COMMIT")
    assert sorted(map(str, found)) == [f"s{number}" for number in range(7)]


# --- indexes ----------------------------------------------------------------------------------------------------------

INDEXES = {
    "expiry and sid of what is not released": "(expires_at, sid) WHERE status <> 'Released'",
    "the same, in other words": "(expires_at, sid) WHERE status != 'Released'",
    "expiry and sid of what has no release": "(expires_at, sid) WHERE released_at IS NULL",
    "expiry alone of what is not released": "(expires_at) WHERE status <> 'Released'",
    "expiry alone of what has no release": "(expires_at) WHERE released_at IS NULL",
    "expiry": "(expires_at)",
    "expiry and sid": "(expires_at, sid)",
    "expiry that is known": "(expires_at, sid) WHERE expires_at IS NOT NULL",
}


def traced(ledger: SQLiteLedger, use: Callable[[], object]) -> list[str]:
    """The statements that SQLite really ran, with the values that were bound; not those that were asked for a plan."""
    return [statement for statement in statements_of(ledger.connection, use) if not statement.startswith("EXPLAIN")]


def looks_for_due(ledger: SQLiteLedger) -> list[str]:
    """The statements that look for what is due. How long the table is, and what it is like, is asked besides."""
    statements = traced(ledger, lambda: due(ledger))
    return [statement for statement in statements if "main." in statement and "max(" not in statement]


def plans(database: Database, statements: Sequence[str]) -> list[str]:
    """How a connection of its own would run each of them."""
    return [
        "; ".join(detail for *_, detail in database.query(f"EXPLAIN QUERY PLAN {statement}"))
        for statement in statements
    ]


@pytest.mark.parametrize("index", INDEXES.values(), ids=INDEXES.keys())
@pytest.mark.parametrize(
    "words",
    [
        Vocabulary(),
        Vocabulary(timestamps="epoch_ms", inactive=frozenset({"Cancelled", "it's over"})),
        Vocabulary(timestamps="iso8601", never=("9999-12-31",)),
    ],
    ids=["epoch", "milliseconds, inactive", "text"],
)
def test_the_index_of_due_rows_is_used_for_every_page(
    database: Database, opened: Open, monkeypatch: pytest.MonkeyPatch, index: str, words: Vocabulary
) -> None:
    monkeypatch.setattr("autorelease.ledger.due.PAGE_ROWS", 2)
    expiry: dict[str, RawValue] = {"epoch": PAST, "epoch_ms": PAST * 1000, "iso8601": "2026-12-01T11:00:00Z"}
    rows = [row(f"s{number}", expiry[words.timestamps]) for number in range(5)]
    database.make(rows, f"CREATE INDEX due_rows ON vm_allocations {index}")
    ledger = opened(words=words)
    statements = looks_for_due(ledger)
    # Behind the pages of what has no released_at: the page of what has one that stands for nothing, and is empty.
    # Where no index serves that one, it is a walk through the table, in two statements.
    assert len(statements) == 4 + len(words.never) * (2 if "released_at" in index else 1)
    others = statements[: 4 if "released_at" in index else None]
    for plan in plans(database, others):
        assert "USING INDEX due_rows (" in plan
        assert "SCAN" not in plan
        assert ("TEMP B-TREE" in plan) == ("sid" not in index)


def test_without_the_index_nothing_is_sorted_and_the_table_is_walked_in_its_own_order(
    database: Database, opened: Open
) -> None:
    """The test above can fail."""
    database.make([row("a")])
    ledger = opened()
    of_table = looks_for_due(ledger)
    assert of_table
    for plan in plans(database, of_table):
        assert "due_rows" not in plan
        assert "TEMP B-TREE" not in plan


@pytest.mark.parametrize("kind", ["TEXT PRIMARY KEY", "INTEGER PRIMARY KEY", "UNIQUE"])
def test_a_row_is_read_and_stamped_by_its_key(database: Database, opened: Open, kind: str) -> None:
    database.make([row(number) for number in range(5)], table=UNTYPED.replace("sid", f"sid {kind}", 1))
    ledger = opened()
    allocation = judged(ledger, "3")
    # The schema is read once, and then only where it has changed.
    assert ledger.has_rules() is False
    statements = traced(ledger, lambda: ledger.read("3"))
    statements += traced(ledger, lambda: ledger.stamp([Stamp(allocation, NOW)]))
    found = plans(
        database, [statement for statement in statements if statement.startswith(("SELECT", "UPDATE", "WITH"))]
    )
    assert len(found) == 3
    assert not [plan for plan in found if re.search(r"SCAN (TABLE )?(main\.)?vm_allocations\b", plan)]


def test_a_row_of_many_is_not_searched_for_its_shared_sid_where_the_key_excludes_one(
    database: Database, opened: Open
) -> None:
    database.make([row(str(number)) for number in range(5)], "CREATE INDEX due ON vm_allocations (expires_at, sid)")
    ledger = opened()
    assert len(looks_for_due(ledger)) == 2
    assert "GROUP BY" not in " ".join(traced(ledger, ledger.census))


# --- who holds a VM ---------------------------------------------------------------------------------------------------


def holders(ledger: SQLiteLedger, *vm_refs: str) -> list[tuple[str | None, str | None, str]]:
    """Sid, provisioner and VM of those who hold one of these."""
    references = [folded(vm_ref) for vm_ref in vm_refs]
    found = ((holder.sid, holder.vm.provisioner, holder.vm.reference) for holder in ledger.holders(references))
    return sorted(found, key=lambda holder: [name or "" for name in holder])


def test_a_vm_is_held_by_vm_ref_and_else_by_sid(database: Database, opened: Open) -> None:
    database.make(
        [
            row("a", vm_ref="vm"),
            row("b", vm_ref="vm", provisioner="ovh"),
            row("vm", vm_ref=None),
            row("other", vm_ref="x"),
            row("x", vm_ref="y"),
            row("gone", vm_ref="vm", status="Released"),
            row("cancelled", vm_ref="vm", status="Cancelled"),
        ]
    )
    ledger = opened(words=Vocabulary(inactive=frozenset({"Cancelled"})))
    assert holders(ledger, "vm") == [("a", "default", "vm"), ("b", "ovh", "vm"), ("vm", "default", "vm")]
    assert holders(ledger, "x") == [("other", "default", "x")]
    assert holders(ledger, "nothing") == []
    assert holders(ledger) == []


def test_an_empty_vm_ref_is_none(database: Database, opened: Open) -> None:
    database.make([row("vm", vm_ref="", provisioner="")])
    assert holders(opened(), "vm") == [("vm", "default", "vm")]


@pytest.mark.parametrize("status", [None, "released", 5, b"x", ""], ids=repr)
@pytest.mark.parametrize("expires_at", [None, "soon", b"x", NOON + 3600], ids=repr)
def test_a_row_holds_its_vm_whatever_else_is_wrong_with_it(
    database: Database, opened: Open, status: RawValue, expires_at: RawValue
) -> None:
    database.make([row("a", expires_at, status, vm_ref="vm", released_at=1)], table=UNTYPED)
    assert holders(opened(), "vm") == [("a", "default", "vm")]


@pytest.mark.parametrize("kind", ["", "INTEGER", "TEXT", "NUMERIC"])
@pytest.mark.parametrize("number", [0, 1, -1, 100, 10**17, 10**18, 2**63 - 1])
def test_a_vm_of_a_number_is_the_vm_of_its_text(database: Database, opened: Open, kind: str, number: int) -> None:
    table = UNTYPED.replace("vm_ref", f"vm_ref {kind}", 1)
    database.make(
        [row("a", vm_ref=number), row("b", vm_ref=str(number)), row(number), row("c", vm_ref="x")], table=table
    )
    text = str(number)
    assert holders(opened(), text) == sorted([("a", "default", text), ("b", "default", text), (text, "default", text)])


@pytest.mark.parametrize("unreadable", ["NULL", "x'6f6c64'", "CAST(x'ff' AS TEXT)", "0.5"])
def test_a_holder_that_nobody_can_read_has_no_sid(database: Database, opened: Open, unreadable: str) -> None:
    """Not the sid 'None', or one that looks like its bytes: that may be another row, which is due."""
    database.make(table=UNTYPED)
    database.execute(f"INSERT INTO vm_allocations (sid, vm_ref, status) VALUES ({unreadable}, 'vm', 'Active')")
    assert holders(opened(), "vm") == [(None, "default", "vm")]


@pytest.mark.parametrize(
    ("provisioner", "read"),
    [
        ("x'6f6c64'", None),
        ("CAST(x'ff' AS TEXT)", None),
        ("0.5", None),
        ("NULL", "default"),
        ("''", "default"),
        ("0", "0"),
    ],
)
def test_the_provisioner_of_a_holder_is_read_as_that_of_a_row(
    database: Database, opened: Open, provisioner: str, read: str | None
) -> None:
    database.make(table=UNTYPED)
    names = "sid, provisioner, vm_ref, status"
    database.execute(f"INSERT INTO vm_allocations ({names}) VALUES ('a', {provisioner}, 'vm', 'Active')")
    assert holders(opened(), "vm") == [("a", read, "vm")]


@pytest.mark.parametrize("values", ["'a', 7.0", "7.0, NULL"])
def test_a_whole_real_is_the_vm_of_that_number(database: Database, opened: Open, values: str) -> None:
    database.make(table=UNTYPED)
    database.execute(f"INSERT INTO vm_allocations (sid, vm_ref, status) VALUES ({values}, 'Active')")
    assert [vm_ref for _, _, vm_ref in holders(opened(), "7")] == ["7"]


ODD_REFS = [
    "a'b",
    'a"b',
    "a\x00b",
    "🚀",
    "é",
    "a\\b",
    "\\u0000",
    "a\nb",
    " ",
    "[1]",
    "{}",
    "null",
    "--1",
    "1.0",
    "\x7f",
    "\ufeff",
]


@pytest.mark.parametrize("vm_ref", ODD_REFS, ids=ascii)
def test_a_vm_of_a_strange_name_is_found(database: Database, opened: Open, vm_ref: str) -> None:
    """A holder that is missed is a customer whose VM is destroyed in another's name."""
    database.make([row("a", vm_ref=vm_ref), row(vm_ref), row("b", vm_ref="a"), row("c", vm_ref=json.dumps(vm_ref))])
    reference = folded(vm_ref)
    assert holders(opened(), vm_ref, "no such") == sorted([("a", "default", reference), (vm_ref, "default", reference)])


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=3), unique=True, max_size=8))
@settings(deadline=None, max_examples=examples(60))
def test_everybody_is_found_who_holds_one_of_these(folder: Path, refs: list[str]) -> None:
    database = Database(folder / "holders.db")
    database.path.unlink(missing_ok=True)
    database.make([row(f"row {number}", vm_ref=ref) for number, ref in enumerate(refs)], table=UNTYPED)
    ledger = SQLiteLedger(database.path, "vm_allocations", COLUMNS, words=Vocabulary())
    try:
        assert sorted(vm_ref for _, _, vm_ref in holders(ledger, *refs)) == sorted(map(folded, refs))
    finally:
        ledger.close()


def test_holders_are_found_in_chunks(database: Database, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autorelease.ledger.vms.HOLDERS_AT_ONCE", 2)
    database.make([row(f"s{number}", vm_ref=f"vm{number}") for number in range(5)])
    assert len(holders(opened(), *(f"vm{number}" for number in range(5)))) == 5


def test_without_the_column_a_vm_is_held_by_its_sid(database: Database, opened: Open) -> None:
    rows = [row("a"), row("A", NOON + 3600), row("á"), row("a ", status="Released")]
    database.make(rows, table=table_without("vm_ref"))
    assert holders(opened(), "a") == [("A", "default", "a"), ("a", "default", "a")]
    database.execute("DROP TABLE vm_allocations")
    database.make([row("a")], table=table_without("vm_ref", "provisioner"))
    assert due(opened()) == ["a"]


def test_without_the_column_every_provisioner_is_the_default(database: Database, opened: Open) -> None:
    database.make([row("a", vm_ref="vm")], table=table_without("provisioner"))
    assert holders(opened(), "vm") == [("a", "default", "vm")]


# --- how the due are found --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("index", "is_indexed", "has_settled"),
    [
        ("", False, False),
        ("(status)", False, False),
        ("(sid, expires_at)", False, False),
        ("(expires_at)", True, True),
        ("(expires_at, sid)", True, True),
        ("(expires_at) WHERE status <> 'Released'", True, False),
        ("(expires_at, sid) WHERE released_at IS NULL", True, False),
        ("(expires_at, sid) WHERE status = 'Active'", False, False),
    ],
)
def test_an_index_is_judged_by_what_the_query_does_with_it(
    index: str,
    is_indexed: bool,  # noqa: FBT001
    has_settled: bool,  # noqa: FBT001
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.db"
    connection = sqlite3.connect(path)
    connection.execute('CREATE TABLE "a table" (sid TEXT PRIMARY KEY, status TEXT, "Expires_At" INTEGER, released_at)')
    if index:
        connection.execute(f'CREATE INDEX "an index (of ours)" ON "a table" {index}')
    connection.close()
    ledger = SQLiteLedger(path, "a table", COLUMNS, words=Vocabulary(), read_only=True)
    access = ledger.accesses(NOW, timedelta(0))[0]
    ledger.close()
    assert (access.is_indexed, access.has_settled) == (is_indexed, has_settled), access.how


@pytest.mark.parametrize("index", [*INDEXES.values(), "(expires_at, sid) WHERE deleted_at IS NULL"])
def test_the_index_of_due_rows_is_used_where_statuses_are_numbers(database: Database, opened: Open, index: str) -> None:
    table = TABLE.replace("status TEXT", "deleted_at TEXT, status INTEGER")
    assert table != TABLE
    rows = [row(f"s{number}", PAST, status=1) for number in range(5)]
    database.make(rows, f"CREATE INDEX due_rows ON vm_allocations {index.replace(repr('Released'), '3')}", table=table)
    ledger = opened(words=Vocabulary(released=3, inactive=frozenset({4, 5}), live=frozenset({1})))
    [plan] = plans(database, looks_for_due(ledger)[:1])
    assert "USING INDEX due_rows (" in plan
    assert due(ledger) == [f"s{number}" for number in range(5)]
    assert ledger.accesses(NOW, timedelta(0))[0].is_indexed


@pytest.mark.parametrize("index", ["", "CREATE INDEX sids ON vm_allocations (sid)"])
def test_a_real_before_it_on_its_page_hides_no_shared_sid(database: Database, opened: Open, index: str) -> None:
    rows = [row(7.0, PAST - 1), row(7, PAST), row(7, PAST)]
    database.make(rows, *([index] if index else []), table=UNTYPED)
    assert due(opened()) == []


def test_a_row_that_is_deleted_meanwhile_is_not_stamped(database: Database, opened: Open) -> None:
    """It is settled, and its application will not look at it again."""
    table = TABLE.replace("released_at", "released_at, deleted_at NOT NULL DEFAULT 0")
    database.make([row("a", PAST), row("b", PAST)], table=table)
    ledger = opened(words=Vocabulary(never=(0,)))
    stamps = [Stamp(judged(ledger, sid), NOW) for sid in "ab"]
    database.execute("UPDATE vm_allocations SET deleted_at = ? WHERE sid = 'a'", NOON)
    assert ledger.stamp(stamps) == [StampResult.UNCHANGED, StampResult.STAMPED]
    assert database.statuses() == {"a": "Active", "b": "Released"}


def test_what_has_a_released_at_that_stands_for_nothing_is_due(
    database: Database, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autorelease.ledger.due.PAGE_ROWS", 2)
    blanks = [None, "", 0, None, "", 0, None, "0"]
    database.make([row(f"s{number}", PAST, released_at=blank) for number, blank in enumerate(blanks)])
    assert sorted(due(opened(words=Vocabulary(never=("", 0))))) == [f"s{number}" for number in range(7)]
    assert due(opened()) == ["s0", "s3", "s6"]


def test_the_access_that_is_shown_is_the_worst_one(database: Database, opened: Open) -> None:
    """Where a released_at can be set and stand for nothing, an index on NULL finds only a part of what is due."""
    database.make(
        [row("a", PAST)], "CREATE INDEX due_rows ON vm_allocations (expires_at, sid) WHERE released_at IS NULL"
    )
    assert opened().accesses(NOW, timedelta(0))[0].is_indexed
    found = opened(words=Vocabulary(never=(0,))).accesses(NOW, timedelta(0))[0]
    assert (found.is_indexed, "SCAN" in found.how) == (False, True)


def test_what_never_expires_by_its_word_is_not_even_fetched(database: Database, opened: Open) -> None:
    """There may be a million of them, before everything that is due."""
    database.make([row("a", PAST), *(row(f"never {number}", 0) for number in range(50))])
    ledger = opened(words=Vocabulary(never=(0, -1)))
    [page, *_] = list(ledger.due(NOW, NONE))
    assert [allocation.sid for allocation in page] == ["a"]


def test_the_index_that_would_help_fits_any_names(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    connection = sqlite3.connect(path)
    connection.execute('CREATE TABLE "or""der" ("group" TEXT PRIMARY KEY, "to" TEXT, "from" INTEGER)')
    columns = COLUMNS | {"sid": "group", "status": "to", "expires_at": "from"}
    accesses = []
    for _ in range(2):
        # Opened anew: a connection keeps what it was told of a plan.
        ledger = SQLiteLedger(path, 'or"der', columns, words=Vocabulary(released="it's over"), read_only=True)
        accesses.append(ledger.accesses(NOW, timedelta(0))[0])
        absent = list(ledger.shape().absent)
        ledger.close()
        if len(accesses) == 1:
            connection.execute(accesses[0].remedy)
    connection.close()
    assert [access.is_indexed for access in accesses] == [False, True]
    assert absent == ["released_at", "owner", "plan", "vm_ref", "vm_uid", "provisioner", "deleted_at"]
