"""The live rows by their VM: who else holds it."""

import json
from collections.abc import Iterator, Sequence

from autorelease.identity import Holder
from autorelease.ledger.holding import is_plain, read_holder
from autorelease.ledger.narrowing import folded_if_plain, perhaps_not_plain, reference_of
from autorelease.ledger.slices import Slices
from autorelease.text import folded

HOLDERS_AT_ONCE = 20_000
HELD_BY = ("sid", "provisioner", "vm_ref", "vm_uid")


class Holders(Slices):
    """SQL finds a superset of the rows of a VM; `holding` says which are."""

    def holders(self, references: Sequence[str]) -> Iterator[Holder]:
        """The live rows, readable or not, whose VM has one of these references, of whatever provisioner and uid."""
        for start in range(0, len(references), HOLDERS_AT_ONCE):
            yield from self._holders(frozenset(references[start : start + HOLDERS_AT_ONCE]))

    def _holders(self, references: frozenset[str]) -> list[Holder]:
        # JSON in SQLite ends a text at a NUL: what is found of such a name is too much, and left out below.
        plain = json.dumps([name for name in map(folded, references) if name.isascii()])
        # Two statements: with an OR between them neither could go by an index.
        of_plain, of_others = self.holder_statements()
        with self._file.in_use():
            return [
                *self._holding(references, of_plain, plain),
                *self._holding(references, of_others),
            ]

    def holder_statements(self) -> tuple[str, str]:
        """The look for plain references, which are bound as one JSON list, and the one for all others."""
        reference = self._reference
        columns = ", ".join(self._column(role) if self._has(role) else "NULL" for role in HELD_BY)
        live = f"SELECT {reference}, {columns} FROM {self._table} WHERE {self._live}"
        return (
            f"{live} AND {folded_if_plain(reference)} IN (SELECT value FROM json_each(?))",
            f"{live} AND ({perhaps_not_plain(reference)})",
        )

    def _holding(self, references: frozenset[str], statement: str, *values: str) -> Iterator[Holder]:
        """Those among the rows of one of the two statements; values: what it is about plain references."""
        cursor = self.connection.execute(statement, values)
        for reference, sid, provisioner, vm_ref, vm_uid in cursor:
            # Each row by one of the statements: which of them may find it is for SQL to say only roughly.
            if is_plain(reference) == bool(values):
                holder = read_holder(sid, provisioner, vm_ref, vm_uid, self._words)
                if holder is not None and holder.vm.reference in references:
                    yield holder

    @property
    def _reference(self) -> str:
        return reference_of(self._column("sid"), self._column("vm_ref") if self._has("vm_ref") else None)
