"""Who holds a VM, as SQL finds it: held against a reading of every row with plain sqlite3 and an opinion of its own."""

import json
import sqlite3
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autorelease.bootstrap import make_folder
from autorelease.identity import VM, Holder, References, vm_of
from autorelease.ledger.narrowing import indexes_of_holders
from autorelease.ledger.rows import StoredRow, read_row
from autorelease.ledger.sqlite import SQLiteLedger
from autorelease.ledger.values import Vocabulary
from autorelease.model import Allocation, RawValue
from tests.support.sqlite_steps import statements_of
from tests.support.thorough import examples

COLUMNS = {role: role for role in StoredRow.__struct_fields__}
ROLES = ("sid", "provisioner", "vm_ref", "vm_uid", "status")
NOW = datetime(2026, 12, 1, 12, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Undecodable:
    """Bytes that are stored as text and are no UTF-8."""

    stored: bytes


# One word, in the ways in which programs and people write it.
SPELLINGS: dict[str, list[Any]] = {
    "web": [
        "web",
        "WEB",
        "Web",
        "web ",
        "\tweb",
        "\x1fWEB\x1c",
        "web\u00a0",
        "\u2003web",
        "\uff57\uff45\uff42",
        b"web",
    ],
    "k8s": ["k8s", "K8S", "\u212a8s", "\u212a8S\n"],
    "strasse": ["strasse", "STRASSE", "Stra\u00dfe", "STRA\u1e9eE", "\ufb06rasse", "Stra\u017f\u017fe"],
    "ö": ["ö", "Ö", "o\u0308", "O\u0308", " o\u0308"],
    "id": ["id", "ID", "Id"],
    "dotless": ["\u0131d", "\u0131D"],
    "7": [7, "7", 7.0, " 7", "\uff17", "7\u2028"],
    "07": ["07", "7.0", "007", "+7", "7e0"],
    "-5": [-5, "-5", -5.0, "- 5"],
    "large": [2**62, str(2**62), float(2**62), 1e300, 2**63 - 1],
    "real": [2.5, "2.5", "2.50", float("inf"), "inf"],
    "nothing": [None, "", " ", "\u00a0", b""],
    "nul": ["a\x00b", "A\x00B", "a", "a\x00", "\x00a", "a\x00\u00e9"],
    "json": ['"', "\\", "[1]", "null", "\x7f", "\ufeff", "%", "_", "*"],
    "broken": [Undecodable(b"M\xfcller"), "Müller", Undecodable(b"web\x80"), Undecodable(b"\xed\xa0\x80"), b"\xff"],
}
values = st.one_of(
    st.sampled_from(list(SPELLINGS)).flatmap(lambda word: st.sampled_from(SPELLINGS[word])),
    st.sampled_from(["web", "WEB", "web ", None]),
)
texts = st.one_of(values, st.text(st.characters(exclude_categories=["Cs"]), max_size=3))
others = st.one_of(st.sampled_from([None, None, None, "", "ovh", "OVH ", "default", "Default"]), values)
statuses = st.sampled_from(["Active", "Active", "Released", "released", "Cancelled", "", None, 5, b"Released"])
TYPES = ["TEXT", "", "INTEGER", "NUMERIC", "REAL", "BLOB", "TEXT COLLATE NOCASE", "TEXT COLLATE RTRIM"]


@dataclass(frozen=True)
class Table:
    """A ledger to be made; a row has its values in the order of ROLES. has_index: of the two that help."""

    words: Vocabulary
    declared: tuple[str, str]
    absent: frozenset[str]
    encoding: str
    has_index: bool
    rows: Sequence[tuple[Any, ...]]


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """A whole ledger."""
    absent = draw(st.frozensets(st.sampled_from(["provisioner", "vm_ref", "vm_uid"]), max_size=2))
    return Table(
        words=Vocabulary(
            inactive=frozenset({"Cancelled"}),
            references=draw(st.sampled_from(References)),
            is_vm_ref_named="vm_ref" not in absent and draw(st.booleans()),
        ),
        declared=(draw(st.sampled_from(TYPES)), draw(st.sampled_from(TYPES))),
        absent=absent,
        encoding=draw(st.sampled_from(["UTF-8", "UTF-8", "UTF-16le"])),
        has_index=draw(st.booleans()),
        rows=draw(st.lists(st.tuples(texts, others, texts, others, statuses), max_size=10)),
    )


def make(path: Path, table: Table) -> None:
    """Write the ledger anew. A value that a declaration refuses leaves its row out."""
    for end in ("", "-journal"):
        Path(f"{path}{end}").unlink(missing_ok=True)
    roles = [role for role in ROLES if role not in table.absent]
    declared = {"sid": table.declared[0], "vm_ref": table.declared[1]}
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA encoding = '{table.encoding}'")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        columns = ", ".join(f"{role} {declared.get(role, '')}" for role in roles)
        connection.execute(f"CREATE TABLE t (expires_at, {columns})")
        for statement in indexes_of_holders("t", "sid", None if "vm_ref" in table.absent else "vm_ref"):
            if table.has_index:
                connection.execute(statement)
        for values in table.rows:
            stored = dict(zip(ROLES, values, strict=True))
            bound = [stored[role] for role in roles]
            places = ", ".join("CAST(? AS TEXT)" if isinstance(value, Undecodable) else "?" for value in bound)
            with suppress(sqlite3.IntegrityError):
                connection.execute(
                    f"INSERT INTO t ({', '.join(roles)}) VALUES ({places})",
                    [value.stored if isinstance(value, Undecodable) else value for value in bound],
                )
        connection.execute("COMMIT")


# --- the reference ----------------------------------------------------------------------------------------------------


def simplified(text: str) -> str:
    """What spellings have in common: more rounds than anything needs."""
    for _ in range(5):
        text = unicodedata.normalize("NFKC", text.strip()).casefold()
    return text


def certain(value: RawValue) -> str | None:
    """What a sid, a uid or the name of a provisioner says."""
    if not isinstance(value, int | str):
        return None
    try:
        return str(value).encode().decode()
    except UnicodeEncodeError:
        return None


def reference(value: RawValue) -> str:
    """What a row names its VM by, whatever class it is in."""
    if isinstance(value, float) and value == value // 1 and abs(value) < 1e308:
        return f"{value:.0f}"
    return value.decode(errors="surrogateescape") if isinstance(value, bytes) else str(value)


def held(path: Path, table: Table) -> Iterator[Holder]:
    """What each live row holds."""
    compared = simplified if table.words.references is References.FOLDED else str
    selected = ", ".join("NULL" if role in table.absent else role for role in ROLES)
    with closing(sqlite3.connect(path)) as connection:
        connection.text_factory = lambda stored: stored.decode("utf-8", "surrogateescape")
        rows = connection.execute(f"SELECT {selected} FROM t").fetchall()
    for sid, provisioner, vm_ref, vm_uid, status in rows:
        if status in ("Released", "Cancelled"):
            continue
        has_ref = vm_ref not in (None, "")
        if not has_ref and sid in (None, ""):
            continue
        if table.words.is_vm_ref_named and not (has_ref and reference(vm_ref).strip()):
            continue
        name = "default" if provisioner in (None, "") else certain(provisioner)
        uid = certain(vm_uid)
        if name is not None:
            name = compared(name) or "default"
        yield Holder(
            certain(sid),
            VM(name, compared(reference(vm_ref if has_ref else sid)), simplified(uid or "") or None),
        )


def opened(path: Path, table: Table) -> SQLiteLedger:
    """The ledger as a tick opens it."""
    return SQLiteLedger(path, "t", COLUMNS, words=table.words, read_only=True)


def in_order(holders: Sequence[Holder]) -> list[str]:
    """Holders in an order of their own, doubled ones twice."""
    return sorted(map(repr, holders))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where each example makes its ledger anew."""
    return tmp_path_factory.mktemp("holding") / "ledger.db"


@pytest.fixture(scope="module", autouse=True)
def small_chunks() -> Iterator[None]:
    """A few references at once, so that every example crosses from one chunk to the next."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("autorelease.ledger.vms.HOLDERS_AT_ONCE", 2)
        yield


slowly = partial(settings, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@given(table=tables(), data=st.data())
@slowly(max_examples=examples(400))
def test_sql_finds_every_row_that_holds_one_of_these(path: Path, table: Table, data: st.DataObject) -> None:
    make(path, table)
    holders = list(held(path, table))
    references = sorted({holder.vm.reference for holder in holders if certain(holder.vm.reference) is not None})
    wanted = data.draw(st.lists(st.sampled_from([*references, "no such"]), unique=True))
    ledger = opened(path, table)
    try:
        found = list(ledger.holders(wanted))
    finally:
        ledger.close()
    assert in_order(found) == in_order([holder for holder in holders if holder.vm.reference in wanted])


@given(table=tables(), data=st.data())
@slowly(max_examples=examples(400))
def test_no_row_is_left_out_but_those_of_the_sids_that_were_named(
    path: Path, table: Table, data: st.DataObject
) -> None:
    make(path, table)
    holders = list(held(path, table))
    references = sorted({holder.vm.reference for holder in holders if certain(holder.vm.reference) is not None})
    named = data.draw(st.lists(st.sampled_from([None, 7, "7", "a", "A", "a\0", *references]), unique_by=repr))
    ledger = opened(path, table)
    try:
        found = list(ledger.holders(references, named))
    finally:
        ledger.close()
    assert set(found) <= set(holders)
    may_be_left_out = {str(sid) for sid in named if sid is not None}
    kept = [holder for holder in holders if holder.vm.reference in references and holder.sid not in may_be_left_out]
    assert in_order([holder for holder in found if holder.sid not in may_be_left_out]) == in_order(kept)


@given(table=tables())
@slowly(max_examples=examples(200))
def test_a_row_that_can_be_read_is_a_holder_of_its_own_vm(path: Path, table: Table) -> None:
    """Else two rows could be of one VM by one reading, and of two by the other."""
    make(path, table)
    selected = ", ".join("NULL" if role in table.absent else role for role in ROLES)
    with closing(sqlite3.connect(path)) as connection:
        connection.text_factory = lambda stored: stored.decode("utf-8", "surrogateescape")
        rows = connection.execute(f"SELECT {selected} FROM t").fetchall()
    ledger = opened(path, table)
    try:
        for sid, provisioner, vm_ref, vm_uid, status in rows:
            stored = StoredRow(sid, status, None, None, None, None, vm_ref, vm_uid, provisioner)
            judged = read_row(stored, table.words)
            if isinstance(judged, Allocation) and not judged.settled and judged.vm_ref:
                vm = vm_of(judged, table.words.references)
                assert Holder(judged.sid, vm) in list(ledger.holders([vm.reference]))
    finally:
        ledger.close()


@pytest.mark.parametrize("word", [word for word in SPELLINGS if word in {"web", "k8s", "strasse", "ö", "id"}])
def test_all_spellings_of_a_word_are_one_vm(path: Path, word: str) -> None:
    rows = [(f"row {number}", None, spelt, None, "Active") for number, spelt in enumerate(SPELLINGS[word])]
    table = Table(Vocabulary(), ("TEXT", ""), frozenset(), "UTF-8", has_index=False, rows=rows)
    make(path, table)
    ledger = opened(path, table)
    assert len(list(ledger.holders([simplified(word)]))) == len(SPELLINGS[word])
    ledger.close()


# --- what it costs ----------------------------------------------------------------------------------------------------


def looks(ledger: SQLiteLedger, references: Sequence[str]) -> list[str]:
    """The statements of one look for holders."""
    statements = statements_of(ledger.connection, lambda: list(ledger.holders(references)))
    # Not those by which the database is asked for its plan.
    return [statement for statement in statements if statement.startswith("SELECT") and "main." in statement]


def test_a_look_is_two_statements_for_any_number_of_references(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autorelease.ledger.vms.HOLDERS_AT_ONCE", 20_000)
    table = Table(Vocabulary(), ("TEXT", ""), frozenset(), "UTF-8", has_index=True, rows=[])
    make(path, table)
    ledger = opened(path, table)
    assert len(looks(ledger, [f"vm-{number}" for number in range(500)])) == 2
    assert not [statement for statement in looks(ledger, ["vm"]) if " OR lower(" in statement]
    ledger.close()


@pytest.mark.parametrize("is_named", [False, True])
def test_in_the_sample_ledger_every_look_goes_by_an_index(tmp_path: Path, *, is_named: bool) -> None:
    make_folder(tmp_path, sample=True, now=NOW)
    words = Vocabulary(is_vm_ref_named=is_named)
    ledger = SQLiteLedger(tmp_path / "allocations.db", "vm_allocations", COLUMNS, words=words)
    for statement in looks(ledger, ["vm-later-000", json.dumps("é")]):
        [*_, step] = ledger.connection.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()[:1]
        assert "USING INDEX vm_allocations_" in step[-1], step
    ledger.close()


def test_without_the_column_of_vm_ref_a_look_goes_by_an_index_of_the_sid(path: Path) -> None:
    table = Table(Vocabulary(), ("TEXT", ""), frozenset({"vm_ref"}), "UTF-8", has_index=True, rows=[])
    make(path, table)
    ledger = opened(path, table)
    for statement in looks(ledger, ["vm"]):
        [first, *_] = ledger.connection.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
        assert "USING INDEX t_" in first[-1], first
    ledger.close()
