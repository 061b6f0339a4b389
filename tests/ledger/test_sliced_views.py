"""A view is read in slices of its sids, where an index behind it gives these in order: as exactly as in one piece."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autorelease.ledger import due, pace
from autorelease.ledger.sqlite import SQLiteLedger
from autorelease.model import Allocation
from tests.ledger.watched import Watched
from tests.support.thorough import examples

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
NOON = 1_796_126_400
NO_GRACE = timedelta(0)
ROWS = 60_000
# Slow machines do twenty million of these in a second; a slice is to be done in a tenth of that.
STEPS_OF_A_SLICE = 2_000_000
SERVICES = "CREATE TABLE services (id INTEGER PRIMARY KEY, ends)"
VIEW = (
    "CREATE VIEW vm_allocations AS SELECT {sid} AS sid, v.state AS status, s.ends AS expires_at, v.name AS vm_ref "
    "FROM {tables} ON v.service = s.id"
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A large view over two tables; a tenth of it is due."""
    made = tmp_path_factory.mktemp("views") / "allocations.db"
    numbers = f"WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})"
    with closing(sqlite3.connect(made)) as connection, connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(SERVICES)
        connection.execute("CREATE TABLE vms (id TEXT PRIMARY KEY, service INTEGER, state TEXT, name TEXT)")
        connection.execute(VIEW.format(sid="v.id", tables="services s JOIN vms v"))
        ends = f"CASE WHEN i % 10 THEN {NOON} + i ELSE {NOON} - i END"
        connection.execute(f"{numbers} INSERT INTO services SELECT i, {ends} FROM n")
        connection.execute(f"{numbers} INSERT INTO vms SELECT 'vm-' || i, i, 'Active', 'ref-' || i FROM n")
    return made


def read_due(ledger: SQLiteLedger) -> int:
    """What has expired, in slices."""
    return sum(map(len, ledger.due(NOW, NO_GRACE)))


def walk(ledger: SQLiteLedger) -> int:
    """An audit's walk."""
    position, rows = None, 0
    while True:
        walked = ledger.walk(position, NOW, NO_GRACE, lambda _: False)
        rows, position = rows + walked.rows, walked.position
        if position is None:
            return rows


LOOKS = {
    "what is due": (read_due, ROWS // 10),
    "the census": (lambda ledger: ledger.census().rows_examined, ROWS),
    "the statuses": (lambda ledger: ledger.statuses(5)[0][1], ROWS),
    "the kinds of expiries": (lambda ledger: ledger.shape().expiries["integer"], ROWS),
    "who holds a VM": (lambda ledger: len(list(ledger.holders(["ref-1", "é"]))), 1),
    "what is paid for": (lambda ledger: len(ledger.paid_for("default", NOW, 30)), 30),
    "an audit": (walk, ROWS),
    "shared sids": (lambda ledger: len(list(ledger.sharing())), 0),
}


@pytest.mark.parametrize("look", LOOKS)
def test_no_look_at_a_view_is_one_long_read(path: Path, look: str) -> None:
    read, expected = LOOKS[look]
    watched = Watched(path, is_stamped=False)
    assert read(watched.ledger) == expected
    watched.ledger.close()
    assert sum(watched.slices) > ROWS * 5
    assert max(watched.slices) < sum(watched.slices) / 3
    assert max(watched.slices) < STEPS_OF_A_SLICE


# --- the same rows, in slices of two and in one piece ---------------------------------------------------------------

SIDS = st.sampled_from(
    [None, "", 1, 2, 2, "2", 3, 3.0, -1, 2**40, "a", "a", "A", "b", b"a", float("-inf"), float("inf")]
)
VMS = st.lists(
    st.tuples(SIDS, st.integers(1, 4), st.sampled_from(["Active", "Active", "Released", None])), min_size=1, max_size=14
)
ENDS = st.lists(st.sampled_from([NOON - 1, NOON + 1, None, "soon"]), min_size=3, max_size=3)


@pytest.fixture
def _slices_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "FIRST_ROWS", 2)
    monkeypatch.setattr(pace, "MOST_ROWS", 2)
    monkeypatch.setattr(due, "PAGE_BYTES", 8)


def found(
    folder: Path, sid: str, key: str, vms: list[tuple[object, int, str | None]], ends: list[object]
) -> tuple[bool, object]:
    """All that a ledger says of these rows, in an order of their own."""
    path = folder / "allocations.db"
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(SERVICES)
        connection.execute(f"CREATE TABLE vms (id{key}, service INTEGER, state TEXT, name TEXT)")
        connection.execute("CREATE INDEX vms_id ON vms (id)")
        connection.executemany("INSERT INTO services VALUES (?, ?)", enumerate(ends, 1))
        connection.executemany("INSERT INTO vms VALUES (?, ?, ?, NULL)", vms)
        # A VM of no service, too.
        connection.execute(VIEW.format(sid=sid, tables="vms v LEFT JOIN services s"))
    watched = Watched(path, is_stamped=False)
    ledger = watched.ledger
    census, walked = ledger.census(), 0
    position, invalid = None, list[str]()
    while True:
        page = ledger.walk(position, NOW, NO_GRACE, lambda _: False)
        walked += page.rows
        invalid += [repr(row) for row in page.invalid]
        if (position := page.position) is None:
            break
    sids = ["1", "2", "3", "a", "A", "b", "nobody"]
    result = (
        census.rows_examined,
        census.rows_invalid,
        sorted(map(repr, census.invalid)),
        sorted(repr(row) for rows in ledger.due(NOW, NO_GRACE) for row in rows),
        sorted(repr(row) for row in ledger.sharing()),
        sorted(repr(holder) for holder in ledger.holders(sids)),
        sorted(map(repr, ledger.statuses(9))),
        sorted(ledger.shape().expiries.items()),
        sorted((name, isinstance(row, Allocation) or repr(row)) for name, row in ledger.read_many(sids).items()),
        sorted(repr(row) for row in ledger.paid_for("default", NOW, 100)),
        walked,
        sorted(invalid),
    )
    is_sliced = bool(ledger._key().columns)
    ledger.close()
    return is_sliced, result


@pytest.mark.usefixtures("_slices_of_two")
@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.sampled_from(["", " TEXT", " INTEGER"]), vms=VMS, ends=ENDS)
def test_slices_have_what_one_piece_has(
    key: str, vms: list[tuple[object, int, str | None]], ends: list[object]
) -> None:
    with TemporaryDirectory() as folder:
        # No index gives what the view makes.
        whole = "iif(1, v.id, v.id)"
        in_slices, in_one = (found(Path(folder), sid, key, vms, ends) for sid in ("v.id", whole))
    assert in_slices == (True, in_one[1])
    assert not in_one[0]
