"""SQL may fetch more than what has expired, never less: held against a reading of every row with plain sqlite3.

The reference knows no SQL but `SELECT everything`; it judges with `read_row` and picks with `find_expired`.
"""

import itertools
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from autorelease.deciding.audit import Clocks, own_audit
from autorelease.deciding.judging import Judge
from autorelease.deciding.remembered import completed, looked_up
from autorelease.journal.empty import EmptyJournal
from autorelease.ledger.instants import read_instant
from autorelease.ledger.narrowing import (
    certainly_readable,
    certainly_unexpired_from,
    indexes_of_holders,
    literal,
)
from autorelease.ledger.rows import StoredRow, read_row
from autorelease.ledger.sqlite import SQLiteLedger
from autorelease.ledger.values import Unreadable, Vocabulary
from autorelease.model import Allocation, Census, InvalidRow, RawRow, RawValue
from autorelease.rules.expiry import find_expired
from autorelease.sqlitefile import quoted
from tests.support.thorough import examples

ROLES = ("sid", "status", "expires_at", "released_at", "vm_ref", "vm_uid", "provisioner", "deleted_at", "kind")
COLUMNS = {role: role for role in StoredRow.__struct_fields__}
SECOND = timedelta(seconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Undecodable:
    """Bytes that are stored as text and are no UTF-8."""

    stored: bytes


@dataclass(frozen=True)
class Table:
    """A ledger to be made: its declarations, its words and its rows (values in the order of ROLES)."""

    declared: tuple[str, str, str]
    has_released_at: bool
    words: Vocabulary
    now: datetime
    grace: timedelta
    rows: Sequence[tuple[Any, ...]]
    kind: str = ""
    unique: str = ""


# --- generated ledgers ------------------------------------------------------------------------------------------------

SIDS = ["TEXT PRIMARY KEY", "TEXT", "TEXT UNIQUE", "TEXT COLLATE NOCASE", "TEXT COLLATE NOCASE UNIQUE", "INTEGER"]
SIDS += ["INTEGER PRIMARY KEY", "NUMERIC", "", "UNIQUE", "BLOB"]
STATUSES = ["TEXT", "", "TEXT COLLATE NOCASE", "TEXT COLLATE RTRIM", "INTEGER", "BLOB"]
EXPIRIES = ["TEXT", "INTEGER", "REAL", "NUMERIC", "", "TEXT COLLATE NOCASE", "DATETIME"]
UNDECODABLE = [Undecodable(b"M\xfcller"), Undecodable(b"\x80"), Undecodable(b"a\xc3"), Undecodable(b"\xed\xa0\x80")]

sids = st.one_of(
    st.integers(-2, 12),
    st.integers(0, 12).map(str),
    st.sampled_from(["a", "A", "b", "B", "é", "É", "x y", "a'b", 'a"b', "a\x00b", "🚀", "", " ", "01", "1.0", "-0"]),
    st.sampled_from([2**62, str(2**62), -(2**63), 1.5, b"a", b"\xff", None]),
    st.sampled_from(UNDECODABLE),
)
statuses = st.one_of(
    st.just("Active"),
    st.just("Active"),
    st.sampled_from(["Released", "Released", "Cancelled", "Stopped", "Suspended"]),
    st.sampled_from(
        ["released", "RELEASED", " Released", "Released\n", "Released\u00a0", "Released\x00", "Relea\u017fed"]
    ),
    st.sampled_from(["Gelo\u0308scht", "GEL\u00d6SCHT", "\u2003Gel\u00f6scht", "Gel\u00f6scht", "\uff32eleased"]),
    st.sampled_from(
        ["sto\ufb00", "STOFF\x1f", "Cancelled\u2029", "\x1cstopped", "RELEASED\u0085", "\u212a", "k", "K "]
    ),
    st.sampled_from(["cancelled", "Cancelled ", "", " ", "Active\x00", "é", None, 0, 1, 2.5, b"Active", b"Released"]),
    st.sampled_from(UNDECODABLE),
)
references = st.sampled_from([None, None, None, None, "", "vm", 5, "5", 2.5, b"vm", "é", "a\x00b", *UNDECODABLE])
FURTHER = ["cancelled", "Gel\u00f6scht", "Gelo\u0308scht", "Stoff", "K", "\u212a", " Stopped"]
released_ats = st.sampled_from([None, None, None, None, 0, 1_796_126_400, "2026-12-01", "", b""])
deleted_ats = st.sampled_from(
    [None] * 16
    + [0, 0.0, 0.5, -1, 1_796_126_400, "2026-12-01", "", b"", "0", "never", "0000-00-00 00:00", "0000-00-00"]
    + [" ", "\tNo ", "\u00a0", "0.0", "NULL", "nul", "0001-01-01T00:00:00Z", "1970-01-01", "0\x00", b"\0", b"0", b"1"]
)
numbers_of_statuses = st.one_of(
    st.sampled_from([1, 1, 1, 2, 3, 4, 5]),
    st.sampled_from(["3", "1", "4", 3.0, 1.0, 4.5, "3 ", " 1", None, b"3", "Released", 2**62, -(2**63), "", "03"]),
)
NEVERS: list[int | float | str] = [
    0,
    -1,
    2**40,
    253_402_300_799,
    0.5,
    "never",
    "9999-12-31",
    "0",
    "",
    "0000-00-00 00:00",
]

graces = st.sampled_from([timedelta(0), timedelta(0), SECOND, timedelta(microseconds=1), timedelta(hours=36)])
nows = st.one_of(
    st.datetimes(datetime(2001, 1, 1), datetime(2199, 12, 31), timezones=st.just(UTC)),  # noqa: DTZ001
    st.datetimes(datetime(2026, 3, 28), datetime(2026, 3, 30), timezones=st.just(UTC)),  # noqa: DTZ001
    st.integers(946_684_801, 7_000_000_000).map(lambda seconds: EPOCH + seconds * SECOND),
    st.sampled_from(
        [datetime(2000, 1, 1, tzinfo=UTC), datetime(2201, 1, 1, tzinfo=UTC), datetime(2199, 12, 31, tzinfo=UTC)]
    ),
)
distances = st.one_of(
    st.sampled_from([timedelta(0), SECOND, -SECOND, timedelta(microseconds=1), -timedelta(microseconds=1)]),
    st.timedeltas(-timedelta(days=3), timedelta(days=3)),
    st.timedeltas(-timedelta(days=9000), timedelta(days=9000)),
    st.timedeltas(-SECOND, SECOND),
)


def as_number(instant: datetime, units: int, rest: float) -> int | float:
    """An instant as a count of units, with a rest where the column should hold a real."""
    count = ((instant - EPOCH) * units) // SECOND
    return count + rest if rest else count


@st.composite
def numbers(draw: st.DrawFn, moment: datetime, units: int) -> Any:
    """A stored expiry of a ledger that keeps numbers: mostly near the moment that decides."""
    instant = moment + draw(distances)
    near = as_number(instant, units, draw(st.sampled_from([0, 0, 0, 0.5, 0.25, 1e-6])))
    strange = [None, 0, -1, float("inf"), float("-inf"), 1e300, 2**63 - 1, -(2**63), str(near), b"1", "", "x"]
    return draw(st.one_of(st.just(near), st.just(near), st.sampled_from([*strange, *UNDECODABLE, *NEVERS])))


OFFSETS = ["", "Z", "Z", "+00:00", "+23:59", "-23:59", "+05:30", "-11", "+14", "+19:59", "+24:00"]
FURTHER_OFFSETS = [
    *("z", "UTC", "utc", "+0000", "+0530", "-1100", "+2359", "+0000 UTC", "-00:00 utc", "+00 UTC", "+0200 UTC"),
    *("+02:00 UTC", "+000", "+00 UTC ", "GMT", "+2400", "+0060", "Z UTC"),
]


def ahead_of(offset: str) -> timedelta:
    """How far the clock of an offset is ahead, as far as it says that; of a wrong one, anything near it."""
    found = re.fullmatch(r"([+-])(\d\d):?(\d\d)?.*", offset)
    ahead = timedelta(hours=int(found[2]), minutes=int(found[3] or 0)) if found else timedelta(0)
    return -ahead if offset.startswith("-") else ahead


@st.composite
def texts(draw: st.DrawFn, moment: datetime, *, has_dates: bool = False) -> Any:
    """A stored expiry of a ledger that keeps text, in any spelling."""
    offset = draw(st.sampled_from([*OFFSETS, *FURTHER_OFFSETS]))
    local = (moment + draw(distances)) + ahead_of(offset)
    digits = draw(st.integers(0, 9))
    beyond = draw(st.sampled_from(["000", "001", "999"]))
    fraction = draw(st.sampled_from("..,")) + (f"{local:%f}" + beyond)[:digits] if digits else ""
    seconds = draw(st.sampled_from([f":{local:%S}{fraction}"] * 4 + ["", ":60"]))
    spelled = (
        f"{local:%Y-%m-%d}{draw(st.sampled_from('TT  t_'))}{local:%H:%M}{seconds}"
        f"{draw(st.sampled_from(['', '', '', ' ', '  ']))}{offset}"
    )
    if has_dates and draw(st.booleans()):
        return f"{local:%Y-%m-%d}" + draw(st.sampled_from(["", "", "", "", " ", "T", "\n", "Z", "\x00", "é"]))
    strange: list[Any] = [
        None,
        f"{local:%Y-%m-%d}",
        "9999-12-31T23:59:59Z",
        "9999-12-31T23:59:59-05:00",
        "2026-02-31 00:00:00Z",
    ]
    strange += [
        "0000-00-00 00:00:00",
        0,
        1_796_126_400,
        2.5,
        float("inf"),
        b"2026-01-01T00:00:00Z",
        "",
        "soon",
        "2026-04-31",
    ]
    strange += [spelled + "\n", " " + spelled, spelled + "\x00", "2030-06-31T10:00:00Z", "2028-02-29T24:00:00Z"]
    return draw(st.one_of(st.just(spelled), st.just(spelled), st.sampled_from([*strange, *UNDECODABLE, *NEVERS])))


def expiries_of(words: Vocabulary, moment: datetime) -> st.SearchStrategy[Any]:
    """Stored expiries of a ledger of this kind, mostly near the moment that decides."""
    if words.timestamps == "iso8601":
        return texts(moment, has_dates=words.dates is not None)
    return numbers(moment, {"epoch": 1, "epoch_ms": 1000}[words.timestamps])


wheres = st.sampled_from(
    [(), (), (), (("kind", "vps"),), (("KIND", 1),), (("kind", ""),), (("kind", "1"),), (("sid", "a"), ("kind", "vps"))]
)
kinds_of_rows = st.sampled_from(["vps", "VPS", "vps ", "vps\x00", 1, "1", 1.0, b"vps", None, "", 0, "0", "1.0", "é"])
UNIQUE_WITH_KIND = ["", "", ", UNIQUE (kind, sid)", ", UNIQUE (sid, kind)"]
worded = st.fixed_dictionaries(
    {
        "released": st.sampled_from(["Released", "Released", "Released", "3", "0"]),
        "inactive": st.frozensets(
            st.sampled_from(["Cancelled", "Stopped", "", "RELEASED", "é", "4", *FURTHER]), max_size=3
        ),
        "live": st.one_of(
            st.just(frozenset()), st.frozensets(st.sampled_from(["Active", "1", "k", "Suspended"]), max_size=3)
        ),
    }
)
numbered = st.fixed_dictionaries(
    {
        "released": st.sampled_from([3, 3, -(2**63)]),
        "inactive": st.frozensets(st.sampled_from([4, 5, 2**62]), max_size=2),
        "live": st.one_of(st.just(frozenset()), st.frozensets(st.sampled_from([1, 2]), max_size=2)),
    }
)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """A whole ledger."""
    zone = draw(st.sampled_from([None, "Europe/Berlin", "Pacific/Kiritimati", "Pacific/Pago_Pago", "America/St_Johns"]))
    has_numbers = draw(st.sampled_from([False, False, True]))
    statuses_meant: dict[str, Any] = draw(numbered if has_numbers else worded)
    words = Vocabulary(
        **statuses_meant,
        never=tuple(draw(st.lists(st.sampled_from(NEVERS), max_size=3))),
        timestamps=draw(st.sampled_from(["epoch", "epoch_ms", "iso8601"])),
        timezone=ZoneInfo(zone) if zone else None,
        dates=draw(st.sampled_from([None, "end", "start"])) if zone else None,
    )
    now, grace = draw(nows), draw(graces)
    expiries = expiries_of(words, now - grace)
    status = numbers_of_statuses if has_numbers else statuses
    where = draw(wheres)
    words = msgspec.structs.replace(words, where=where)
    # Most rows are ours, or nothing would be seen of them.
    kind_of_row = st.one_of(st.sampled_from([value for _, value in where]), kinds_of_rows) if where else kinds_of_rows
    row = st.tuples(sids, status, expiries, released_ats, references, references, references, deleted_ats, kind_of_row)
    return Table(
        declared=(draw(st.sampled_from(SIDS)), draw(st.sampled_from(STATUSES)), draw(st.sampled_from(EXPIRIES))),
        kind=draw(st.sampled_from(STATUSES)),
        unique=draw(st.sampled_from(UNIQUE_WITH_KIND)),
        has_released_at=draw(st.sampled_from([True, True, False])),
        words=words,
        now=now,
        grace=grace,
        rows=draw(st.lists(row, max_size=12)),
    )


def make(path: Path, table: Table) -> None:
    """Write the ledger anew. A row that the declarations refuse is left out."""
    for end in ("", "-journal"):
        Path(f"{path}{end}").unlink(missing_ok=True)
    roles = [role for role in ROLES if role != "released_at" or table.has_released_at]
    declared = dict(zip(ROLES, table.declared, strict=False))
    declared["kind"] = table.kind
    columns = ", ".join(f"{role} {declared.get(role, '')}" for role in roles) + table.unique
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        connection.execute(f"CREATE TABLE t (number INTEGER, {columns})")
        for number, values in enumerate(table.rows):
            stored = dict(zip(ROLES, values, strict=True))
            insert(connection, number, {role: stored[role] for role in roles})
        connection.execute("COMMIT")


def insert(connection: sqlite3.Connection, number: int, stored: dict[str, Any]) -> None:
    """Insert one row, where the table takes it."""
    places = ", ".join("CAST(? AS TEXT)" if isinstance(value, Undecodable) else "?" for value in stored.values())
    values = [value.stored if isinstance(value, Undecodable) else value for value in stored.values()]
    with suppress(sqlite3.IntegrityError):
        connection.execute(
            f"INSERT INTO t (number, {', '.join(stored)}) VALUES (?, {places})",
            [number, *values],
        )


# --- the reference ----------------------------------------------------------------------------------------------------


def judged(path: Path, table: Table) -> Iterator[tuple[StoredRow, Allocation | InvalidRow]]:
    """Every row of the table, and what it says; a sid that several rows have makes each of them invalid."""
    with closing(sqlite3.connect(path)) as connection:
        connection.text_factory = lambda stored: stored.decode("utf-8", "surrogateescape")
        ours = {
            number
            for number, sid, kind in connection.execute("SELECT number, sid, kind FROM t")
            if all(is_exactly(sid if name == "sid" else kind, value) for name, value in table.words.where)
        }
        # Which sids are equal only the column can say: its declaration may take a for A, or 1 for '1'.
        alike = {
            number
            for number, other in connection.execute(
                "SELECT one.number, other.number FROM t one JOIN t other "
                "ON one.sid = other.sid AND one.number <> other.number"
            )
            if {number, other} <= ours
        }
        released_at = "released_at" if table.has_released_at else "NULL"
        rows = connection.execute(
            f"SELECT number, sid, status, expires_at, {released_at}, vm_ref, vm_uid, provisioner, deleted_at FROM t"
        ).fetchall()
    rows = [row for row in rows if row[0] in ours]
    written = Counter(str(sid) for _, sid, *_ in rows if isinstance(sid, int | str))
    for number, sid, status, expires_at, released, vm_ref, vm_uid, provisioner, deleted_at in rows:
        row = StoredRow(
            deleted_at=deleted_at,
            sid=sid,
            status=status,
            expires_at=expires_at,
            released_at=released,
            vm_ref=vm_ref,
            vm_uid=vm_uid,
            provisioner=provisioner,
        )
        verdict = read_row(row, table.words)
        is_shared = number in alike or (isinstance(sid, int | str) and written[str(sid)] > 1)
        yield row, InvalidRow(str(sid), "shared", None) if is_shared else verdict


def is_exactly(value: RawValue, word: int | str) -> bool:
    """Whether a stored value is this one, in its class as well."""
    return type(value) is type(word) and value == word


def is_settled(row: StoredRow, words: Vocabulary) -> bool:
    """Whether nothing is left to release, whatever else is wrong with the row."""
    settled = (words.released, *words.inactive)
    if any(is_exactly(row.status, word) for word in settled):
        return True
    value = row.deleted_at
    kind = str if isinstance(value, str) else (int, float)
    is_listed = any(value == word for word in words.never if isinstance(word, kind))
    return not is_listed and not (value is None or looks_like_nothing(value))


def looks_like_nothing(value: int | float | str | bytes) -> bool:
    """Whether it says that a row is not deleted, as far as somebody who reads it can guess."""
    if isinstance(value, str):
        text = value.strip(" \t").lower()
        return text in ("", "0", "0.0", "no", "null", "never") or text[:10] in (
            "0000-00-00",
            "0001-01-01",
            "1970-01-01",
        )
    return value in (0, b"", b"\0", b"0")


INDEXES = ("CREATE INDEX due ON t (expires_at, sid) WHERE status <> 'Released'", "CREATE INDEX sids ON t (sid)")


def stored(path: Path, table: Table) -> list[StoredRow]:
    """Every row of the table."""
    return [row for row, _ in judged(path, table)]


def expected(path: Path, table: Table) -> tuple[list[Allocation], int, int]:
    """What has expired, how many rows are live, and how many of those are invalid."""
    rows = list(judged(path, table))
    live = [verdict for row, verdict in rows if not is_settled(row, table.words)]
    readable = [verdict for _, verdict in rows if isinstance(verdict, Allocation)]
    invalid = sum(isinstance(verdict, InvalidRow) for verdict in live)
    return list(find_expired(readable, table.now, grace=table.grace)), len(live), invalid


def found(path: Path, table: Table) -> tuple[list[Allocation], Census]:
    """What the ledger's own narrowed reading picks, and its census."""
    ledger = SQLiteLedger(path, "t", COLUMNS, words=table.words)
    try:
        pages = list(ledger.due(table.now, table.grace))
        census = ledger.census()
        picked = [row for page in pages for row in find_expired(page, table.now, grace=table.grace)]
        for row in picked:
            again = ledger.read(row.sid)
            assert isinstance(again, Allocation), f"{row.sid!r} was due, and is not found by its sid: {again}"
            assert again.judged() == row.judged()
    finally:
        ledger.close()
    return picked, census


def by_value(rows: Sequence[Allocation]) -> list[str]:
    """Allocations in an order of their own, doubled ones twice; repr tells 1 from 1.0."""
    return sorted(map(repr, rows))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where each example makes its ledger anew."""
    return tmp_path_factory.mktemp("narrowing") / "ledger.db"


@pytest.fixture(scope="module", autouse=True)
def small_pages() -> Iterator[None]:
    """Pages of a few rows, so that every example crosses from one to the next."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("autorelease.ledger.due.PAGE_ROWS", 2)
        patch.setattr("autorelease.ledger.lookup.SIDS_AT_ONCE", 1)
        for size in ("FIRST_ROWS", "LEAST_ROWS", "MOST_ROWS"):
            patch.setattr(f"autorelease.ledger.pace.{size}", 2)
        yield


slowly = partial(settings, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@given(table=tables())
@slowly(max_examples=examples(500))
def test_sql_fetches_everything_that_has_expired_and_the_census_counts_everything_that_is_wrong(
    path: Path, table: Table
) -> None:
    make(path, table)
    expired, live, invalid = expected(path, table)
    picked, census = found(path, table)
    assert by_value(picked) == by_value(expired)
    assert (census.rows_examined, census.rows_invalid) == (live, invalid)
    assert len(census.invalid) == invalid
    assert not census.truncated


@given(table=tables(), is_indexed=st.booleans())
@slowly(max_examples=examples(300))
def test_an_audit_judges_every_live_row_by_itself_and_a_census_needs_nothing_of_it(
    path: Path,
    table: Table,
    is_indexed: bool,  # noqa: FBT001
) -> None:
    make(path, table)
    if is_indexed:
        # Whole ones: none of them is said to hide anything.
        with closing(sqlite3.connect(path)) as connection, connection:
            for statement in (*indexes_of_holders("t", "sid", "vm_ref"), *INDEXES):
                connection.execute(statement)
    _, _, invalid = expected(path, table)
    ledger = SQLiteLedger(path, "t", COLUMNS, words=table.words)
    try:
        judge = Judge(ledger, EmptyJournal(), table.now, table.grace, timedelta(0))
        memory = own_audit(judge, "t", Clocks(lambda: table.now), None)
        census = ledger.census()
        assert memory is not None
        assert memory.problem is None
        by_themselves = [
            verdict
            for row in stored(path, table)
            if isinstance(verdict := read_row(row, table.words), InvalidRow) and not is_settled(row, table.words)
        ]
        assert set(memory.named) == {row.sid for row in by_themselves if row.has_sid}
        assert memory.unnamed == sum(not row.has_sid for row in by_themselves)
        # What both have found is counted once; what the census had not seen, the audit's memory makes whole.
        assert completed(census, looked_up(memory, ledger, census), frozenset()).rows_invalid == invalid
        blind = replace(census, rows_invalid=0, invalid=(), rows_unnamed=0, sids=frozenset())
        whole = completed(blind, looked_up(memory, ledger, blind), frozenset())
        assert whole.rows_invalid == len(memory.named) + memory.unnamed
    finally:
        ledger.close()


# --- what the property must catch, each said once in so many words ----------------------------------------------------

NOW = datetime(2026, 12, 1, 12, 0, tzinfo=UTC)
NOON = 1_796_126_400


def one_kind(
    words: Vocabulary, *rows: tuple[Any, Any, Any], declared: tuple[str, str, str] = ("", "", ""), now: datetime = NOW
) -> Table:
    """A table of rows of sid, status and expiry alone."""
    return Table(
        declared=declared,
        has_released_at=True,
        words=words,
        now=now,
        grace=timedelta(0),
        rows=[(*row, None, None, None, None, None, None) for row in rows],
    )


BOUNDARIES = {
    "epoch": (Vocabulary(), NOON - 1, NOW, 1),
    "epoch_ms": (Vocabulary(timestamps="epoch_ms"), NOON * 1000 - 1, NOW, 1),
    "epoch, a real": (Vocabulary(), NOON + 0.25, NOW + SECOND / 2, 1),
    # The date of a text can be a day ahead of its instant, and its day is not over: two days are needed.
    "iso8601": (
        Vocabulary(timestamps="iso8601"),
        "2026-12-02T23:58:58+23:59",
        datetime(2026, 12, 1, 23, 59, 59, tzinfo=UTC),
        timedelta(days=1),
    ),
}


@pytest.mark.parametrize(("words", "expires_at", "now", "less"), BOUNDARIES.values(), ids=BOUNDARIES.keys())
def test_a_bound_that_is_moved_by_the_least_step_loses_a_row(
    path: Path, monkeypatch: pytest.MonkeyPatch, words: Vocabulary, expires_at: RawValue, now: datetime, less: Any
) -> None:
    table = one_kind(words, ("a", "Active", expires_at), now=now)
    make(path, table)

    def moved(moment: datetime, words: Vocabulary) -> int | str:
        bound = certainly_unexpired_from(moment, words)
        if isinstance(bound, str):
            earlier: datetime = datetime.fromisoformat(bound) - less
            return earlier.date().isoformat()
        return bound - int(less)

    expired, _, _ = expected(path, table)
    assert [row.sid for row in expired] == ["a"]
    assert by_value(found(path, table)[0]) == by_value(expired)
    monkeypatch.setattr("autorelease.ledger.due.certainly_unexpired_from", moved)
    assert found(path, table)[0] == []


TEXT = Vocabulary(timestamps="iso8601")
HOLES: dict[str, tuple[Table, int]] = {
    "a real that is rounded up to the year 2000": (one_kind(Vocabulary(), ("a", "Active", 946_684_799.999_999_9)), 0),
    "milliseconds that are rounded up to it": (
        one_kind(Vocabulary(timestamps="epoch_ms"), ("a", "Active", 946_684_799_999.999_9)),
        0,
    ),
    "text that is rounded up to it": (one_kind(TEXT, ("a", "Active", "1999-12-31T00:59:59.9999999-23:00")), 0),
    "the last day before 2000, far in the west": (
        one_kind(
            Vocabulary(timestamps="iso8601", timezone=ZoneInfo("Pacific/Pago_Pago"), dates="end"),
            ("a", "Active", "1999-12-31"),
        ),
        0,
    ),
    "a sid in Latin-1": (one_kind(Vocabulary(), (Undecodable(b"M\xfcller"), "Active", NOON - 1)), 1),
    "a status in Latin-1": (one_kind(Vocabulary(), ("a", Undecodable(b"Pr\xfcfung"), NOON - 1)), 1),
    "a status of a lone continuation byte": (one_kind(Vocabulary(), ("a", Undecodable(b"\x80"), NOON - 1)), 1),
    "the text 0 where the number 0 means never": (
        one_kind(Vocabulary(timestamps="iso8601", never=(0,)), ("a", "Active", "0")),
        1,
    ),
    "the number 0 in a column of text": (
        one_kind(Vocabulary(timestamps="iso8601", never=(0,)), ("a", "Active", 0), declared=("TEXT", "TEXT", "TEXT")),
        1,
    ),
    "zero where infinity means never": (one_kind(Vocabulary(never=(float("inf"),)), ("a", "Active", 0)), 1),
    "infinity where infinity means never": (
        one_kind(Vocabulary(never=(float("inf"),)), ("a", "Active", float("inf"))),
        0,
    ),
    "a sid of many digits as number and as text": (
        one_kind(Vocabulary(), (2**62, "Active", NOON - 1), (str(2**62), "Active", NOON - 1)),
        2,
    ),
    "1 and '1'": (one_kind(Vocabulary(), (1, "Active", NOON - 1), ("1", "Active", NOON - 2)), 2),
    "1 and 1.0": (one_kind(Vocabulary(), (1, "Active", NOON - 1), (1.0, "Released", NOON - 2)), 1),
    "'1' beside a released 1.0": (one_kind(Vocabulary(), ("1", "Active", NOON - 1), (1.0, "Released", 1)), 0),
    "'1.0' beside a released 1.0": (one_kind(Vocabulary(), ("1.0", "Active", NOON - 1), (1.0, "Released", 1)), 0),
    "'a' beside a released blob of the same bytes": (
        one_kind(Vocabulary(), ("a", "Active", NOON - 1), (b"a", "Released", 1)),
        0,
    ),
    "a and A in a column that takes them for the same": (
        one_kind(
            Vocabulary(),
            ("a", "Active", NOON - 1),
            ("A", "Released", 1),
            declared=("TEXT COLLATE NOCASE", "TEXT", ""),
        ),
        1,
    ),
}


@pytest.mark.parametrize(("table", "invalid"), HOLES.values(), ids=HOLES.keys())
def test_a_row_is_due_or_reported_and_never_neither(path: Path, table: Table, invalid: int) -> None:
    """An expired row that the census calls fine and that is not fetched is left behind without a word."""
    make(path, table)
    expired, live, invalid_by_reference = expected(path, table)
    assert invalid_by_reference == invalid
    picked, census = found(path, table)
    assert by_value(picked) == by_value(expired)
    assert (census.rows_examined, census.rows_invalid) == (live, invalid)


def test_two_spellings_of_a_sid_that_only_its_key_tells_apart_are_shared(path: Path) -> None:
    """The column takes a for A, its key does not: WHERE sid = 'a' finds both."""
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        columns = ", ".join(role for role in ROLES if role != "sid")
        connection.execute(f"CREATE TABLE t (number, sid TEXT COLLATE NOCASE, {columns}, UNIQUE (sid COLLATE BINARY))")
        for number, sid in enumerate("aA"):
            insert(connection, number, {"sid": sid, "status": "Active", "expires_at": NOON - 1})
        connection.commit()
    picked, census = found(path, one_kind(Vocabulary()))
    assert picked == []
    assert census.rows_invalid == 2


# --- pages ------------------------------------------------------------------------------------------------------------


@given(
    expiries=st.lists(st.sampled_from([NOON - 2, NOON - 1, NOON - 1.5, float(NOON - 1)]), max_size=12),
    page_rows=st.integers(1, 5),
    page_bytes=st.sampled_from([0, 10, 10**6]),
    is_indexed=st.booleans(),
)
@slowly(max_examples=examples(100))
def test_no_row_is_lost_or_doubled_between_pages(
    path: Path,
    expiries: list[float],
    page_rows: int,
    page_bytes: int,
    is_indexed: bool,  # noqa: FBT001
) -> None:
    table = one_kind(Vocabulary(), *((str(number), "Active", value) for number, value in enumerate(expiries)))
    make(path, table)
    if is_indexed:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE INDEX due ON t (expires_at, sid)")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("autorelease.ledger.due.PAGE_ROWS", page_rows)
        patch.setattr("autorelease.ledger.due.PAGE_BYTES", page_bytes)
        ledger = SQLiteLedger(path, "t", COLUMNS, words=table.words)
        pages = list(ledger.due(table.now, table.grace))
        ledger.close()
    rows = [row for page in pages for row in page]
    assert sorted(row.sid for row in rows) == sorted(map(str, range(len(expiries))))
    if is_indexed:
        assert [(row.expires_at, row.sid) for row in rows] == sorted((row.expires_at, row.sid) for row in rows)
    assert all(0 < len(page) <= page_rows for page in pages)


def test_rows_that_change_between_pages_do_not_hide_the_others(path: Path) -> None:
    """The position is a value and not a row: its row may be stamped, renewed or deleted before the next page."""
    table = one_kind(Vocabulary(), *((f"s{number}", "Active", NOON - 9 + number // 2) for number in range(8)))
    make(path, table)
    ledger = SQLiteLedger(path, "t", COLUMNS, words=table.words)
    seen = []
    for page in ledger.due(table.now, table.grace):
        seen += [row.sid for row in page]
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("UPDATE t SET status = 'Released' WHERE sid = ?", (page[0].sid,))
            connection.execute("DELETE FROM t WHERE sid = ?", (page[-1].sid,))
            connection.commit()
    ledger.close()
    assert sorted(seen) == [f"s{number}" for number in range(8)]


# --- the pieces -------------------------------------------------------------------------------------------------------


@given(st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1))
def test_a_literal_is_the_text_and_an_identifier_the_name(text: str) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"CREATE TABLE {quoted('t' + text)} ({quoted(text)})")
        connection.execute(f"INSERT INTO {quoted('t' + text)} VALUES ({literal(text)})")
        cursor = connection.execute(f"SELECT {quoted(text)} FROM {quoted('t' + text)}")
        assert cursor.fetchall() == [(text,)]


@given(moment=nows, kind=st.sampled_from(["epoch", "epoch_ms"]), distance=distances)
def test_a_number_from_the_bound_on_has_not_expired(moment: datetime, kind: str, distance: timedelta) -> None:
    units = {"epoch": 1, "epoch_ms": 1000}[kind]
    bound = certainly_unexpired_from(moment, Vocabulary(timestamps=kind))
    assert isinstance(bound, int)
    assert EPOCH + bound * SECOND / units >= moment
    assert EPOCH + (bound - 1) * SECOND / units < moment
    assert bound <= certainly_unexpired_from(moment + abs(distance), Vocabulary(timestamps=kind))  # type: ignore[operator]


@given(
    kind=st.sampled_from(["epoch", "epoch_ms", "iso8601"]),
    declared=st.sampled_from(EXPIRIES),
    never=st.lists(st.sampled_from(NEVERS) | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False), max_size=2),
    zone=st.sampled_from([None, ZoneInfo("Europe/Berlin")]),
    dates=st.sampled_from([None, "end", "start"]),
    data=st.data(),
)
@slowly(max_examples=examples(500))
def test_what_sql_calls_certainly_readable_is_readable(
    kind: str,
    declared: str,
    never: list[int | float | str],
    zone: ZoneInfo | None,
    dates: str | None,
    data: st.DataObject,
) -> None:
    words = Vocabulary(timestamps=kind, never=tuple(never), timezone=zone, dates=dates if zone else None)
    value = data.draw(expiries_of(words, NOW) | st.sampled_from([*never, None]))
    place = "CAST(? AS TEXT)" if isinstance(value, Undecodable) else "?"
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.text_factory = lambda stored: stored.decode("utf-8", "surrogateescape")
        connection.execute(f"CREATE TABLE t (e {declared})")
        connection.execute(
            f"INSERT INTO t VALUES ({place})", [value.stored if isinstance(value, Undecodable) else value]
        )
        [(stored, certain)] = connection.execute(f"SELECT e, {certainly_readable('t.e', words)} FROM t")
    if certain:
        try:
            read_instant(stored, words)
        except Unreadable as error:
            pytest.fail(f"SQL is certain of {stored!r}, and {error}")


COMMON_OFFSETS = ["Z", "z", "+02:00", "-08:00", "+0200", "+02", " UTC", " +0000 UTC", " +00:00", " Z"]


@pytest.mark.parametrize("zone", [None, ZoneInfo("Europe/Berlin")], ids=["no zone", "a zone"])
def test_the_common_spellings_need_no_second_look(zone: ZoneInfo | None) -> None:
    """A superset of everything would be right, too, and read ten million rows one by one."""
    words = Vocabulary(timestamps="iso8601", timezone=zone)
    spelled = [
        f"2026-12-31{separator}23:59:59{fraction}{offset}"
        for separator, fraction, offset in itertools.product("Tt ", ["", ".1", ",123", ".123456789"], COMMON_OFFSETS)
    ]
    spelled += ["2026-12-31 23:59:59"] if zone else []
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE t (e TEXT)")
        connection.executemany("INSERT INTO t VALUES (?)", [(text,) for text in spelled])
        [(certain,)] = connection.execute(f"SELECT sum({certainly_readable('t.e', words)}) FROM t")
    assert certain == len(spelled)


def test_dates_need_no_second_look() -> None:
    words = Vocabulary(timestamps="iso8601", timezone=ZoneInfo("Europe/Berlin"), dates="end")
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE t (e TEXT)")
        connection.executemany(
            "INSERT INTO t VALUES (?)", [("2026-12-31",), ("2026-02-28",), ("2026-12-31 23:59:59Z",)]
        )
        [(certain,)] = connection.execute(f"SELECT sum({certainly_readable('t.e', words)}) FROM t")
    assert certain == 3


def test_the_reference_sees_rows(path: Path) -> None:
    """A reference that picks nothing would agree with a ledger that finds nothing."""
    table = one_kind(TEXT, ("a", "Active", "2026-12-01T11:59:59Z"), ("b", "Active", "x"), ("c", "Released", "x"))
    make(path, table)
    expired, live, invalid = expected(path, table)
    assert [row.raw for row in expired] == [RawRow("a", "Active", "2026-12-01T11:59:59Z")]
    assert (live, invalid) == (2, 1)
