"""The long lists of a report, each stored once for as long as it stays what it was: a tick refers to it.

A thousand invalid rows are 100 KB, and most ticks find the same ones. Whoever reads a tick gets its report whole.
"""

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

import msgspec

from autorelease.journal.connection import JournalConnection

KINDS = ("invalid", "errors")
# What is read again for one tick after the other is mostly one list of each kind.
REMEMBERED = 8


class StoredReport(msgspec.Struct, frozen=True):
    """A report as its tick holds it. invalid, errors: the numbers of its lists; None: the list is empty."""

    report: str
    invalid: int | None
    errors: int | None


class Lists(JournalConnection):
    """The table `lists`."""

    def _stored(self, report: Mapping[str, Any]) -> StoredReport:
        """Store what of its lists is new; within a transaction."""
        numbers = {kind: self._number_of(kind, report[kind]) for kind in KINDS if report.get(kind)}
        # Their places stay, so that the members keep their order.
        short = json.dumps({**report, **dict.fromkeys(numbers)})
        return StoredReport(short, numbers.get("invalid"), numbers.get("errors"))

    def _number_of(self, kind: str, entries: Any) -> int:
        content = json.dumps(entries)
        statement = "SELECT id, content FROM lists WHERE kind = ? ORDER BY id DESC LIMIT 1"
        last = self.connection.execute(statement, (kind,)).fetchone()
        if last is not None and last[1] == content:
            return int(last[0])
        cursor = self.connection.execute("INSERT INTO lists (kind, content) VALUES (?, ?)", (kind, content))
        return int(cursor.lastrowid or 0)

    def _whole(self, row: sqlite3.Row, lists: dict[int, Any]) -> Mapping[str, Any] | None:
        """The report of a row of `ticks`, with its lists; None: it has none. lists: those that were read before it."""
        if not row["report"]:
            return None
        report: dict[str, Any] = json.loads(row["report"])
        for kind in KINDS:
            if (number := row[f"{kind}_list"]) is not None:
                report[kind] = self._list(number, lists)
        return report

    def _list(self, number: int, lists: dict[int, Any]) -> Any:
        if number not in lists:
            if len(lists) >= REMEMBERED:
                del lists[next(iter(lists))]
            rows = self._rows("SELECT content FROM lists WHERE id = ?", number)
            lists[number] = json.loads(rows[0]["content"]) if rows else []
        return lists[number]

    def _prune_lists(self) -> None:
        """Forget the lists that no tick refers to any more; within a transaction."""
        used = " UNION ALL ".join(f"SELECT {kind}_list FROM ticks WHERE {kind}_list IS NOT NULL" for kind in KINDS)
        self.connection.execute(f"DELETE FROM lists WHERE id NOT IN ({used})")
