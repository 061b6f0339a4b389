"""The ledger in SQLite: the operator's own table, read in pages and stamped by compare-and-set.

Adds nothing to the operator's database. SQL narrows what is fetched, always to a superset of what the rule picks;
what a row says is decided in `rows`. One thread alone uses it.
"""

import json
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from autorelease.errors import UnusableError
from autorelease.identity import Holder, References
from autorelease.ledger import Access, Column, Shape, Stamp, StampResult
from autorelease.ledger.holding import is_plain, read_holder
from autorelease.ledger.narrowing import (
    certainly_readable,
    certainly_unexpired_from,
    folded_if_plain,
    literal,
    perhaps_not_plain,
    quoted,
    reference_of,
)
from autorelease.ledger.rows import (
    StoredRow,
    Vocabulary,
    read_row,
    shown,
    written_like,
)
from autorelease.ledger.rules import NO_RULES, Row, read_rules, schema_version
from autorelease.model import DEFAULT_PROVISIONER, Allocation, Census, InvalidRow, RawValue
from autorelease.sqlitefile import (
    OpenFile,
    StampRefusedError,
    check_file,
    check_reading_is_harmless,
    check_writable,
    connect,
    speaking_of,
)
from autorelease.text import folded

PAGE_ROWS = 2000
PAGE_BYTES = 8 * 2**20
LISTED_INVALID = 1000
HOLDERS_AT_ONCE = 20_000
SHARED_AT_ONCE = 500
REQUIRED = ("sid", "status", "expires_at")
HELD_BY = ("sid", "provisioner", "vm_ref", "vm_uid")
ROLES = tuple(StoredRow.__dataclass_fields__)
SHARED_SID = "sid is shared by several rows"
REMEDY = "Check [ledger] url and table in the configuration"


class SQLiteLedger:
    """See `autorelease.ledger.Ledger`."""

    def __init__(
        self,
        path: Path,
        table: str,
        columns: Mapping[str, str],
        *,
        words: Vocabulary,
        named: frozenset[str] = frozenset(),
        read_only: bool = False,
    ) -> None:
        check_file(path, "ledger", REMEDY)
        check_reading_is_harmless(path)
        if not read_only:
            check_writable(path, "ledger")
        self._path = path
        self._file = OpenFile(path, "ledger")
        self._words = words
        self._name = table
        self._rules = NO_RULES
        self.connection = connect(path, read_only=read_only)
        try:
            with self._file.in_use():
                if not read_only:
                    # Of our own connection alone. Without it a stamp would break the operator's keys without a word.
                    self.connection.execute("PRAGMA foreign_keys = ON")
                self._columns = self._checked_columns(table, columns, named)
                self._sid_is_unique = self._is_unique(table, self._columns["sid"])
        except BaseException:
            self.connection.close()
            raise
        self._table = f"main.{quoted(table)}"
        self._select = ", ".join(self._column(role) if role in self._columns else "NULL" for role in ROLES)

    # --- what is there ----------------------------------------------------------------------------------------------

    def _checked_columns(self, table: str, columns: Mapping[str, str], named: frozenset[str]) -> dict[str, str]:
        kinds = self.connection.execute(
            "SELECT type FROM sqlite_master WHERE lower(name) = lower(?) AND type IN ('table', 'view')", (table,)
        ).fetchone()
        if kinds != ("table",):
            raise UnusableError(self._no_such_table(table))
        rows = self.connection.execute("SELECT name FROM pragma_table_xinfo(?)", (table,)).fetchall()
        present = {_lowered(name): name for (name,) in rows}
        needed = {*REQUIRED, *named}
        for role in sorted(needed):
            if _lowered(columns[role]) not in present:
                raise UnusableError(
                    f"{self._path}: table {table!r} has no column {columns[role]!r} for {role}. Name it in "
                    f'[ledger.columns]: {role} = "…". Columns there: {", ".join(present.values())}'
                )
        return {role: columns[role] for role in ROLES if _lowered(columns[role]) in present}

    def _no_such_table(self, table: str) -> str:
        # Imported for the bad news alone: it costs a tick a fifth of its start.
        from sqlite_utils import Database

        # Left to itself the library would turn recursive triggers on, for the operator's own triggers too.
        database = Database(self.connection, execute_plugins=False, recursive_triggers=False)
        is_view = _lowered(table) in {_lowered(name) for name in database.view_names()}
        kind = "is a view: name the table behind it" if is_view else "is not in this database"
        tables = ", ".join(sorted(database.table_names())[:10]) or "none"
        return f"{self._path}: table {table!r} {kind}. {REMEDY}. Tables there: {tables}"

    def _is_unique(self, table: str, sid: str) -> bool:
        """Whether the schema itself lets no two rows have the same sid, however it is compared."""
        info = self.connection.execute(
            "SELECT lower(name), upper(type), pk FROM pragma_table_xinfo(?)", (table,)
        ).fetchall()
        keys = [name for name, _, pk in info if pk]
        kind = next(kind for name, kind, _ in info if name == _lowered(sid))
        if keys == [_lowered(sid)] and kind == "INTEGER":
            return True
        # Two comparisons, the column's and the key's, need not agree on what is the same.
        if self._mentions_collations(table):
            return False
        # Without a type, 1 and '1' are two values and one sid.
        typed = any(word in kind for word in ("INT", "CHAR", "CLOB", "TEXT"))
        return typed and any(self._covers(sid, *index) for index in self._unique_indexes(table))

    def _unique_indexes(self, table: str) -> list[tuple[str, str | None]]:
        return self.connection.execute(
            "SELECT l.name, s.sql FROM pragma_index_list(?) l LEFT JOIN sqlite_master s ON s.name = l.name "
            'WHERE l."unique" AND NOT l.partial',
            (table,),
        ).fetchall()

    def _covers(self, sid: str, index: str, sql: str | None) -> bool:
        names = [name for (name,) in self.connection.execute("SELECT name FROM pragma_index_info(?)", (index,))]
        return [_lowered(name or "") for name in names] == [_lowered(sid)] and "COLLATE" not in (sql or "").upper()

    def _mentions_collations(self, table: str) -> bool:
        rows = self.connection.execute(
            "SELECT 1 FROM sqlite_master WHERE type = 'table' AND lower(name) = lower(?) AND sql LIKE '%COLLATE%'",
            (table,),
        )
        return rows.fetchone() is not None

    def _column(self, role: str) -> str:
        return f"{self._table}.{quoted(self._columns[role])}"

    def _has(self, role: str) -> bool:
        return role in self._columns

    @property
    def _live(self) -> str:
        status = f"{self._column('status')} COLLATE BINARY"
        settled = ", ".join(literal(word) for word in (self._words.released, *sorted(self._words.inactive)))
        return f"({self._column('status')} IS NULL OR {status} NOT IN ({settled}))"

    # --- the census -------------------------------------------------------------------------------------------------

    def census(self, acknowledged: frozenset[str] = frozenset()) -> Census:
        """Count the live rows and judge those that look wrong; at most 1,000 of the invalid are listed."""
        suspicious = self._suspicious
        with self._file.in_use():
            live, doubtful = self.connection.execute(
                f"SELECT count(*), coalesce(sum({suspicious}), 0) FROM {self._table} WHERE {self._live}"
            ).fetchone()
            count, known, listed = self._invalid(suspicious, acknowledged) if doubtful else (0, 0, [])
        return Census(live, count, tuple(listed), known, truncated=count > len(listed))

    def _invalid(self, suspicious: str, acknowledged: frozenset[str]) -> tuple[int, int, list[InvalidRow]]:
        shared = f"{self._column('sid')} IN ({self._shared_sids})" if not self._sid_is_unique else "0"
        cursor = self.connection.execute(
            f"SELECT {shared}, {self._select} FROM {self._table} WHERE {self._live} AND {suspicious}"
        )
        count = known = 0
        listed: list[InvalidRow] = []
        for is_shared, *values in cursor:
            row = self._judged(StoredRow(*values), shared=bool(is_shared))
            if isinstance(row, InvalidRow):
                count += 1
                known += row.sid in acknowledged
                if len(listed) < LISTED_INVALID:
                    listed.append(row)
        return count, known, listed

    @property
    def _shared_sids(self) -> str:
        """SQL for the sids that `_matching` finds more than one row for."""
        sid = self._column("sid")
        is_one = f"typeof({sid}) IN ('integer', 'text')"
        return (
            f"SELECT {sid} FROM {self._table} WHERE {sid} IN "
            f"(SELECT {sid} FROM {self._table} GROUP BY {sid} HAVING count(*) > 1) "
            f"OR {is_one} AND CAST({sid} AS TEXT) IN "
            f"(SELECT CAST({sid} AS TEXT) FROM {self._table} WHERE {is_one} GROUP BY 1 HAVING count(*) > 1)"
        )

    @property
    def _suspicious(self) -> str:
        """SQL for a superset of the invalid rows among the live ones (1, 0, never NULL)."""
        sid, status = self._column("sid"), self._column("status")
        readable = certainly_readable(self._column("expires_at"), self._words)
        settled = ", ".join(
            literal(word) for word in sorted(map(folded, (self._words.released, *self._words.inactive)))
        )
        doubts = [
            f"{sid} IS NULL OR {sid} = ''",
            f"typeof({status}) <> 'text' OR {folded_if_plain(status)} IN ({settled})",
            *(self._undecodable(role) for role in ("sid", "status", "vm_ref", "vm_uid", "provisioner")),
            f"{self._column('expires_at')} IS NOT NULL AND NOT ({readable})",
        ]
        if self._has("released_at"):
            doubts.append(f"{self._column('released_at')} IS NOT NULL")
        if not self._sid_is_unique:
            doubts.append(f"{sid} IN ({self._shared_sids})")
        return f"coalesce({' OR '.join(f'({doubt})' for doubt in doubts if doubt)}, 0)"

    def _undecodable(self, role: str) -> str:
        return perhaps_not_plain(self._column(role)) if self._has(role) else ""

    def _judged(self, row: StoredRow, *, shared: bool) -> Allocation | InvalidRow:
        judged = read_row(row, self._words)
        if shared and isinstance(judged, Allocation):
            return InvalidRow(judged.sid, SHARED_SID, judged.raw)
        return judged

    # --- reading ----------------------------------------------------------------------------------------------------

    def due(self, now: datetime, grace: timedelta) -> Iterator[Sequence[Allocation]]:
        """Pages of readable live allocations: a superset of what has expired, oldest first as stored."""
        last: tuple[RawValue, RawValue] | None = None
        while True:
            with self._file.in_use():
                rows = self._page(now - grace, last)
                shared = self._shared_among([row.sid for row in rows])
            if not rows:
                return
            last = (rows[-1].expires_at, rows[-1].sid)
            judged = [self._judged(row, shared=row.sid in shared) for row in rows]
            yield [row for row in judged if isinstance(row, Allocation)]

    def _page(self, moment: datetime, last: tuple[RawValue, RawValue] | None) -> list[StoredRow]:
        cursor = self.connection.execute(
            self._due_statement(last),
            (certainly_unexpired_from(moment, self._words), *(_bindable(value) for value in last or ())),
        )
        rows, size = [], 0
        for values in cursor:
            rows.append(StoredRow(*values))
            size += sum(len(value) for value in values if isinstance(value, str | bytes))
            if size > PAGE_BYTES:
                break
        # The read transaction ends here: nothing of ours stands in a writer's way while the page is worked on.
        cursor.close()
        return rows

    def _due_statement(self, last: tuple[RawValue, RawValue] | None) -> str:
        expires_at, sid = self._column("expires_at"), self._column("sid")
        after = f"AND ({expires_at}, {sid}) > ({', '.join(_parameter(value) for value in last)})" if last else ""
        return (
            f"SELECT {self._select} FROM {self._table} WHERE {self._due_conditions} {after} "
            f"ORDER BY {expires_at}, {sid} LIMIT {PAGE_ROWS}"
        )

    @property
    def _due_conditions(self) -> str:
        # Each condition stands alone between ANDs, with its constant written out, so that a partial index on
        # status <> 'Released' or released_at IS NULL is used. A row that the column's own collation takes for
        # Released, or that has a released_at, is Released or invalid, never due. The + keeps the planner from walking
        # the key of sid instead.
        status, sid = self._column("status"), self._column("sid")
        conditions = [f"{status} <> {literal(self._words.released)}", f"+{sid} IS NOT NULL"]
        if self._words.inactive:
            inactive = ", ".join(literal(word) for word in sorted(self._words.inactive))
            conditions.append(f"{status} COLLATE BINARY NOT IN ({inactive})")
        if self._has("released_at"):
            conditions.append(f"{self._column('released_at')} IS NULL")
        return " AND ".join([*conditions, f"{self._column('expires_at')} < ?"])

    def _shared_among(self, sids: Sequence[RawValue]) -> set[RawValue]:
        if self._sid_is_unique:
            return set()
        found: set[RawValue] = set()
        for start in range(0, len(sids), SHARED_AT_ONCE):
            chunk = [sid for sid in sids[start : start + SHARED_AT_ONCE] if not _is_undecodable(sid)]
            found.update(sid for sid in chunk if len(self._matching(sid)) > 1)
        return found

    def paid_for(self, provisioner: str, now: datetime, limit: int) -> Sequence[Allocation]:
        """Some readable live rows of this provisioner whose expiry is ahead, or never comes; the latest first."""
        expires_at = self._column("expires_at")
        served = f"AND {self._column('provisioner')} = ?2" if self._has("provisioner") else ""
        if self._has("provisioner") and provisioner == DEFAULT_PROVISIONER:
            served = f"AND coalesce({self._column('provisioner')}, '') IN ('', ?2)"
        rows_of = f"SELECT {self._select} FROM {self._table} WHERE {self._live} {served} AND {expires_at}"
        values = (certainly_unexpired_from(now, self._words), provisioner)[: 2 if served else 1]
        with self._file.in_use():
            rows = self.connection.execute(
                f"{rows_of} > ?1 ORDER BY {expires_at} DESC LIMIT {limit}", values
            ).fetchall()
            if len(rows) < limit:
                # Of ?1 nothing is wanted here, but SQLite wants every value to have its place.
                more = f"{rows_of} IS NULL AND ?1 IS NOT NULL LIMIT {limit - len(rows)}"
                rows += self.connection.execute(more, values).fetchall()
            shared = self._shared_among([sid for sid, *_ in rows])
        judged = [self._judged(row, shared=row.sid in shared) for row in (StoredRow(*values) for values in rows)]
        # One provisioner alone serves a table that names none.
        return [row for row in judged if isinstance(row, Allocation) and row.provisioner == provisioner and row.vm_ref]

    def version(self) -> int | None:
        """A number that changes whenever another connection has committed (SQLite's PRAGMA data_version)."""
        with self._file.in_use():
            return int(self.connection.execute("PRAGMA data_version").fetchone()[0])

    def read(self, sid: str) -> Allocation | InvalidRow | None:
        """The allocation with this sid as it is now; None: no such row."""
        with self._file.in_use():
            rows = self._matching(sid)
        if len(rows) > 1:
            return InvalidRow(sid, SHARED_SID)
        exact = [row for row in rows if str(row.sid) == sid]
        return read_row(exact[0], self._words) if exact else None

    def read_many(self, sids: Sequence[str]) -> Mapping[str, Allocation | InvalidRow]:
        """The rows with these sids as they are now, in one look; one that is shared by several is any of them."""
        # JSON in SQLite ends a text at a NUL: no such sid is looked for.
        wanted = {sid for sid in sids if "\0" not in sid}
        values = [value for sid in wanted for value in (sid, _twin(sid)) if value is not None]
        with self._file.in_use():
            rows = self.connection.execute(
                f"SELECT {self._select} FROM {self._table} "
                f"WHERE {self._column('sid')} IN (SELECT value FROM json_each(?))",
                (json.dumps(values),),
            ).fetchall()
        stored = [StoredRow(*values) for values in rows]
        return {str(row.sid): read_row(row, self._words) for row in stored if str(row.sid) in wanted}

    def stored(self, sid: str) -> Sequence[StoredRow]:
        """The rows that somebody could mean by this sid, as they are stored; two stand for any number above one."""
        with self._file.in_use():
            return self._matching(sid)

    def _matching(self, sid: RawValue) -> list[StoredRow]:
        """At most two rows that somebody could mean by this sid."""
        column = self._column("sid")
        cursor = self.connection.execute(
            f"SELECT {self._select} FROM {self._table} WHERE {column} = ?1 OR "
            f"({column} = ?2 AND typeof({column}) IN ('integer', 'text')) LIMIT 2",
            (sid, _twin(sid)),
        )
        return [StoredRow(*values) for values in cursor.fetchall()]

    @property
    def references(self) -> References:
        """How the ids of its VMs are compared."""
        return self._words.references

    def holders(self, references: Sequence[str]) -> Iterator[Holder]:
        """The live rows, readable or not, whose VM has one of these references, of whatever provisioner and uid."""
        for start in range(0, len(references), HOLDERS_AT_ONCE):
            yield from self._holders(frozenset(references[start : start + HOLDERS_AT_ONCE]))

    def _holders(self, references: frozenset[str]) -> list[Holder]:
        reference = self._reference
        # JSON in SQLite ends a text at a NUL: what is found of such a name is too much, and left out below.
        plain = json.dumps([name for name in map(folded, references) if name.isascii()])
        # Two statements: with an OR between them neither could go by an index.
        with self._file.in_use():
            return [
                *self._holding(references, f"{folded_if_plain(reference)} IN (SELECT value FROM json_each(?))", plain),
                *self._holding(references, f"({perhaps_not_plain(reference)})"),
            ]

    def _holding(self, references: frozenset[str], condition: str, *values: str) -> Iterator[Holder]:
        """Those among the rows of one of the two statements; values: what it is about plain references."""
        columns = ", ".join(self._column(role) if self._has(role) else "NULL" for role in HELD_BY)
        cursor = self.connection.execute(
            f"SELECT {self._reference}, {columns} FROM {self._table} WHERE {self._live} AND {condition}", values
        )
        for reference, sid, provisioner, vm_ref, vm_uid in cursor:
            # Each row by one of the statements: which of them may find it is for SQL to say only roughly.
            if is_plain(reference) == bool(values):
                holder = read_holder(sid, provisioner, vm_ref, vm_uid, self._words)
                if holder is not None and holder.vm.reference in references:
                    yield holder

    @property
    def _reference(self) -> str:
        return reference_of(self._column("sid"), self._column("vm_ref") if self._has("vm_ref") else None)

    # --- what the table is like -------------------------------------------------------------------------------------

    def statuses(self, limit: int) -> Sequence[tuple[RawValue, int]]:
        """The statuses of all rows, with how many rows have each; the most frequent ones, at most `limit` of them."""
        status = self._column("status")
        with self._file.in_use():
            return self.connection.execute(
                f"SELECT {status}, count(*) FROM {self._table} GROUP BY typeof({status}), {status} COLLATE BINARY "
                "ORDER BY count(*) DESC, 1 LIMIT ?",
                (limit,),
            ).fetchall()

    def shape(self) -> Shape:
        """What the table is like."""
        expires_at = self._column("expires_at")
        with self._file.in_use():
            declared = dict(
                self.connection.execute("SELECT lower(name), type FROM pragma_table_xinfo(?)", (self._name,)).fetchall()
            )
            expiries = self.connection.execute(
                f"SELECT typeof({expires_at}), count(*) FROM {self._table} WHERE {self._live} GROUP BY 1"
            ).fetchall()
        return Shape(
            columns=[Column(role, name, declared[_lowered(name)]) for role, name in self._columns.items()],
            absent=[role for role in ROLES if not self._has(role)],
            is_sid_unique=self._sid_is_unique,
            expiries=dict(expiries),
        )

    def due_access(self, now: datetime, grace: timedelta) -> Access:
        """How `due` finds its rows; nothing is read of them."""
        with self._file.in_use():
            rows = self.connection.execute(
                f"EXPLAIN QUERY PLAN {self._due_statement(None)}",
                (certainly_unexpired_from(now - grace, self._words),),
            ).fetchall()
            steps = [detail for *_, detail in rows]
            found = re.fullmatch(r"SEARCH .* USING (?:INDEX (?P<index>.*)|.*) \((?P<terms>.*)\)", steps[0])
            # An index on the expiry alone leaves only rows of the very same expiry to be sorted ("RIGHT PART OF").
            is_sorted = "USE TEMP B-TREE FOR ORDER BY" not in steps
            by_expiry = f"{_lowered(self._columns['expires_at'])}<?"
            is_indexed = found is not None and by_expiry in _lowered(found["terms"]) and is_sorted
            is_partial = found is not None and self._is_partial(found["index"])
        return Access(
            how="; ".join(steps),
            is_indexed=is_indexed,
            has_settled=is_indexed and not is_partial,
            remedy=self._index_statement(),
        )

    def _is_partial(self, index: str | None) -> bool:
        rows = self.connection.execute("SELECT partial FROM pragma_index_list(?) WHERE name = ?", (self._name, index))
        return (1,) in rows

    def _index_statement(self) -> str:
        expires_at, sid, status = (quoted(self._columns[role]) for role in ("expires_at", "sid", "status"))
        return (
            f"CREATE INDEX {quoted(f'{self._name}_due')} ON {quoted(self._name)} ({expires_at}, {sid}) "
            f"WHERE {status} <> {literal(self._words.released)};"
        )

    # --- writing ----------------------------------------------------------------------------------------------------

    def has_rules(self) -> bool:
        """Whether the table's own rules could refuse one row's stamp and take another's; in doubt they could."""
        with self._file.in_use():
            self._look_at_rules()
        return self._rules.refuses

    def rehearse(self, stamps: Sequence[Stamp]) -> Sequence[UnusableError | None]:
        """Do these stamps, one upon the other, inside a transaction that is rolled back; returns who refuses which."""
        with self._file.in_use():
            try:
                self._begin()
                return self._rehearse_all(stamps)
            finally:
                self._roll_back()

    def _rehearse_all(self, stamps: Sequence[Stamp]) -> list[UnusableError | None]:
        refusals: list[UnusableError | None] = []
        for stamp in stamps:
            if not self.connection.in_transaction:
                # A trigger ended it: what was taken before it is there to be met again.
                self._begin()
                before = zip(stamps, refusals, strict=False)
                for taken in [earlier for earlier, refusal in before if refusal is None]:
                    self._stamp_one(taken)
            self.connection.execute("SAVEPOINT one_stamp")
            refusals.append(self._refusal(stamp))
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK TO one_stamp" if refusals[-1] else "RELEASE one_stamp")
        return refusals

    def _refusal(self, stamp: Stamp) -> StampRefusedError | None:
        try:
            with speaking_of(self._path):
                self._rehearse_one(stamp)
        except StampRefusedError as error:
            return error
        return None

    def _rehearse_one(self, stamp: Stamp) -> None:
        children = self._rules.children(self.connection, self._judged_row(stamp))
        if self._stamp_one(stamp) is StampResult.STAMPED:
            # A deferred key says nothing before the COMMIT that never comes here.
            self._rules.check_parents(self.connection, self._row(stamp))
            self._rules.check_children(self.connection, children)
        elif self._holds_judged_values(stamp):
            raise sqlite3.IntegrityError("the stamp is ignored without an error (a trigger's RAISE(IGNORE)?)")

    def _look_at_rules(self) -> None:
        """Read the rules again where the schema is another one; within a transaction it stays what it is."""
        if self._rules.version != schema_version(self.connection):
            stamped = [self._columns[role] for role in ("status", "released_at") if self._has(role)]
            self._rules = read_rules(self.connection, self._name, stamped)

    def stamp(self, stamps: Sequence[Stamp]) -> Sequence[StampResult]:
        """Mark all as Released in one durable transaction; raises, with nothing changed, where one of them fails."""
        with self._file.in_use():
            try:
                self._begin()
                results = [self._stamp_one(stamp) for stamp in stamps]
                self.connection.execute("COMMIT")
            finally:
                self._roll_back()
        return results

    def _row(self, stamp: Stamp) -> Row:
        sid, raw = self._column("sid"), stamp.allocation.raw
        condition = f"{sid} = ? AND {sid} COLLATE BINARY IS ? AND typeof({sid}) = ?"
        return Row(condition, (raw.sid, raw.sid, _storage_class(raw.sid)))

    def _judged_row(self, stamp: Stamp) -> Row:
        """The row as long as it holds the very values that were judged."""
        raw, row = stamp.allocation.raw, self._row(stamp)
        status, expires_at = self._column("status"), self._column("expires_at")
        judged = f"{status} COLLATE BINARY IS ? AND {expires_at} COLLATE BINARY IS ? AND typeof({expires_at}) = ?"
        values = (*row.values, raw.status, raw.expires_at, _storage_class(raw.expires_at))
        return Row(f"{row.condition} AND {judged}", values)

    def _stamp_one(self, stamp: Stamp) -> StampResult:
        row = self._judged_row(stamp)
        changes = {"status": self._words.released, **self._released_at(stamp)}
        assignments = ", ".join(f"{quoted(self._columns[role])} = ?" for role in changes)
        self._rules.check_carries_nothing(self.connection, row)
        # Said only where it is needed: it holds for the statements of the table's own triggers, too.
        conflict = "OR ABORT " if self._rules.replaces else ""
        changed = self._update(
            f"UPDATE {conflict}{self._table} SET {assignments} WHERE {row.condition}",
            (*changes.values(), *row.values),
        )
        if changed == 0:
            return StampResult.UNCHANGED
        self._check_stamped(stamp.allocation.raw.sid, changed)
        return StampResult.STAMPED

    def _update(self, statement: str, values: Sequence[RawValue]) -> int:
        """Run the stamp's UPDATE; returns the number of changed rows."""
        try:
            return self.connection.execute(statement, values).rowcount
        except sqlite3.OperationalError as error:
            # The general error code: of a trigger that broke on this row, or of a table that has changed altogether.
            if error.sqlite_errorcode == sqlite3.SQLITE_ERROR and self._can_be_read():
                raise sqlite3.IntegrityError(str(error)) from error
            raise
        except sqlite3.IntegrityError as error:
            # SQLite does not say which one.
            if error.sqlite_errorcode == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY and (keys := self._rules.keys):
                raise sqlite3.IntegrityError(f"{error} ({keys})") from error
            raise

    def _can_be_read(self) -> bool:
        try:
            self.connection.execute(f"SELECT {self._select} FROM {self._table} LIMIT 1").fetchall()
        except sqlite3.Error:
            return False
        return True

    def _holds_judged_values(self, stamp: Stamp) -> bool:
        raw = stamp.allocation.raw
        rows = self._matching(raw.sid)
        return [(row.sid, row.status, row.expires_at) for row in rows] == [(raw.sid, raw.status, raw.expires_at)]

    def _released_at(self, stamp: Stamp) -> dict[str, RawValue]:
        if not self._has("released_at"):
            return {}
        return {"released_at": written_like(stamp.allocation.raw.expires_at, stamp.at, self._words)}

    def _check_stamped(self, sid: RawValue, changed: int) -> None:
        # A trigger can undo a change that was counted, or end the transaction behind our back.
        if not self.connection.in_transaction:
            raise sqlite3.IntegrityError(f"a trigger ended the transaction of the stamp of sid {shown(sid)}")
        rows = self._matching(sid)
        if changed != 1 or len(rows) != 1 or rows[0].status != self._words.released:
            raise sqlite3.IntegrityError(f"after the stamp of sid {shown(sid)} its row is not {self._words.released!r}")

    def _begin(self) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        self._look_at_rules()

    def _roll_back(self) -> None:
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")

    def close(self) -> None:
        """End all use of the database."""
        self.connection.close()


def _twin(sid: RawValue) -> RawValue:
    """The same sid in the other storage class, which an untyped column can hold beside it; NULL: none."""
    if isinstance(sid, int):
        return str(sid)
    if isinstance(sid, str) and re.fullmatch(r"-?[0-9]{1,19}", sid):
        number = int(sid)
        return number if str(number) == sid and -(2**63) <= number < 2**63 else None
    return None


def _lowered(name: str) -> str:
    """A name as SQLite compares it: only ASCII letters have no case."""
    return "".join(character.lower() if character.isascii() else character for character in name)


def _storage_class(value: RawValue) -> str:
    if value is None:
        return "null"
    return {int: "integer", float: "real", str: "text", bytes: "blob"}[type(value)]


def _is_undecodable(value: RawValue) -> bool:
    return isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value)


def _parameter(value: RawValue) -> str:
    # The + keeps the CAST from lending its TEXT affinity to the column that it is compared with.
    return "+CAST(? AS TEXT)" if _is_undecodable(value) else "?"


def _bindable(value: RawValue) -> RawValue:
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) and _is_undecodable(value) else value
