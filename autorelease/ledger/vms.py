"""The live rows by their VM: who else holds it."""

import json
from collections.abc import Iterable, Iterator, Sequence

from autorelease.identity import Holder
from autorelease.ledger import Look
from autorelease.ledger.holding import is_plain, read_holder
from autorelease.ledger.narrowing import folded_if_plain, perhaps_not_plain, reference_of
from autorelease.ledger.plans import Values
from autorelease.ledger.slices import Slice, Slices
from autorelease.model import RawValue
from autorelease.text import folded

HOLDERS_AT_ONCE = 20_000
HELD_BY = ("sid", "provisioner", "vm_ref", "vm_uid")


class Holders(Slices):
    """SQL finds a superset of the rows of a VM; `holding` says which are."""

    def holders(self, references: Sequence[str], besides: Sequence[RawValue] = ()) -> Iterator[Holder]:
        """The live rows, readable or not, whose VM has one of these references, of whatever provisioner and uid.

        besides: sids as they are stored, whose own rows may be left out.
        """
        left_out = json.dumps([sid for sid in besides if is_plain(sid)])
        for start in range(0, len(references), HOLDERS_AT_ONCE):
            yield from self._holders(frozenset(references[start : start + HOLDERS_AT_ONCE]), left_out)

    def _holders(self, references: frozenset[str], left_out: str) -> list[Holder]:
        # JSON in SQLite ends a text at a NUL: what is found of such a name is too much, and left out below.
        names = [name for name in map(folded, references) if name.isascii()]
        plain = json.dumps(names)
        # Two statements: with an OR between them neither could go by an index.
        of_plain, of_others = self.holder_statements()
        with self._file.in_use():
            is_plain_walked = self._is_walked_for(Look.VM, of_plain, [plain])
            is_odd_walked = self._is_walked_for(Look.ODD_VM, of_others, [])
            of_plain += f" AND {self._is_none_of}"
            found = [] if is_plain_walked else list(self._holding(references, of_plain, plain, left_out))
            found += [] if is_odd_walked else self._holding(references, of_others)
        if is_plain_walked or is_odd_walked:
            found += self._walked(references, frozenset(names) if is_plain_walked else None, is_odd=is_odd_walked)
        return found

    def _is_walked_for(self, look: Look, statement: str, values: Values) -> bool:
        """Whether no index serves it, and there is a key to be walked by: else it is read in one piece."""
        return not self._is_served(look, statement, values) and bool(self._key().columns)

    def _walked(self, references: frozenset[str], plain: frozenset[str] | None, *, is_odd: bool) -> list[Holder]:
        """Those of the table in slices: of plain references, None: not these; and of all others."""
        reference = self._reference
        statement = f"SELECT {folded_if_plain(reference)}, {reference}, {self._held_by} FROM {self._table}"

        def read(page: Slice) -> list[Holder]:
            # Compared out here: the list of names would be built anew by the database with each slice.
            rows = self.connection.execute(
                f"{statement} {page.key.hint} WHERE {page.condition} AND {self._live}", page.values
            )
            wanted = (
                columns
                for name, value, *columns in rows
                if (plain is not None and name in plain and is_plain(value)) or (is_odd and not is_plain(value))
            )
            return list(self._among(references, wanted))

        return self._every(read)

    def holder_statements(self) -> tuple[str, str]:
        """The look for plain references, which are bound as one JSON list, and the one for all others."""
        reference = self._reference
        live = f"SELECT {reference}, {self._held_by} FROM {self._table} WHERE {self._live}"
        return (
            f"{live} AND {folded_if_plain(reference)} IN (SELECT value FROM json_each(?))",
            f"{live} AND ({perhaps_not_plain(reference)})",
        )

    def _holding(self, references: frozenset[str], statement: str, *values: str) -> Iterator[Holder]:
        """Those among the rows of one of the two statements; values: what it is about plain references."""
        cursor = self.connection.execute(statement, values)
        # Each row by one of the statements: which of them may find it is for SQL to say only roughly.
        return self._among(references, (columns for value, *columns in cursor if is_plain(value) == bool(values)))

    def _among(self, references: frozenset[str], rows: Iterable[Sequence[RawValue]]) -> Iterator[Holder]:
        """The rows that hold a VM of one of these references. rows: their columns of HELD_BY."""
        for sid, provisioner, vm_ref, vm_uid in rows:
            holder = read_holder(sid, provisioner, vm_ref, vm_uid, self._words)
            if holder is not None and holder.vm.reference in references:
                yield holder

    @property
    def _is_none_of(self) -> str:
        """SQL: the sid is none of those of one JSON list, which is bound."""
        # Without the column's affinity and collation: none is left out that is only equal to one of them.
        sid = f"+{self._column('sid')}"
        # 7.0 is equal to 7, and not the same.
        is_other = f"typeof({sid}) = 'real' OR {sid} COLLATE BINARY NOT IN (SELECT value FROM json_each(?))"
        return f"coalesce({is_other}, 1)"

    @property
    def _held_by(self) -> str:
        return ", ".join(self._column(role) if self._has(role) else "NULL" for role in HELD_BY)

    @property
    def _reference(self) -> str:
        return reference_of(self._column("sid"), self._column("vm_ref") if self._has("vm_ref") else None)
