"""What the audits of a ledger found, kept until another audit, or a new look at the row, finds otherwise."""

import json
import sqlite3
from collections.abc import Iterable, Mapping

from autorelease.journal import Audit, Audited
from autorelease.journal.connection import JournalConnection
from autorelease.journal.rows import as_instant, as_text


class Audits(JournalConnection):
    """The tables `audits` and `audited_invalid`."""

    def audited(self, ledger: str) -> Audited:
        """What the audits of this ledger have left."""
        rows = self._rows("SELECT * FROM audits WHERE ledger = ? ORDER BY id", ledger)
        invalid = self._rows(
            "SELECT sid, reason FROM audited_invalid WHERE audit IN (SELECT id FROM audits WHERE ledger = ?)", ledger
        )
        finished = [_read(row) for row in rows if row["finished_at"]]
        unfinished = [_read(row) for row in rows if not row["finished_at"]]
        return Audited(
            finished=finished[-1] if finished else None,
            unfinished=unfinished[-1] if unfinished else None,
            invalid={row["sid"]: row["reason"] for row in invalid},
        )

    def note_audit(self, ledger: str, audit: Audit, invalid: Mapping[str, str]) -> None:
        """Write down how far an audit has come, and what it has found since it was last noted, in one transaction."""
        with self._transaction():
            number = self._number_of_audit(ledger)
            # Two rows of one sid are remembered as one; what an earlier audit found of it is of no interest any more.
            self.connection.executemany(
                "INSERT OR REPLACE INTO audited_invalid (sid, reason, audit) VALUES (?, ?, ?)",
                [(sid, reason, number) for sid, reason in invalid.items()],
            )
            values = _values(audit)
            assignments = ", ".join(f"{name} = ?" for name in values)
            self.connection.execute(f"UPDATE audits SET {assignments} WHERE id = ?", (*values.values(), number))
            if audit.finished_at is not None:
                # What it has not found again is mended, gone, or of another ledger.
                self.connection.execute("DELETE FROM audited_invalid WHERE audit <> ?", (number,))
                self.connection.execute("DELETE FROM audits WHERE id <> ?", (number,))

    def forget_invalid(self, sids: Iterable[str]) -> None:
        """Forget these invalid rows: they are mended, settled, or gone."""
        with self._transaction():
            self.connection.executemany("DELETE FROM audited_invalid WHERE sid = ?", [(sid,) for sid in sids])

    def _number_of_audit(self, ledger: str) -> int:
        """The number of the audit that is under way, which is begun where none is."""
        found = self.connection.execute(
            "SELECT id FROM audits WHERE ledger = ? AND finished_at IS NULL", (ledger,)
        ).fetchone()
        if found is not None:
            return int(found[0])
        cursor = self.connection.execute(
            "INSERT INTO audits (ledger, ground, started_at, rows, live, due, unnamed, examples, seconds) "
            "VALUES (?, '', '', 0, 0, 0, 0, '', 0)",
            (ledger,),
        )
        return int(cursor.lastrowid or 0)


def _values(audit: Audit) -> dict[str, str | int | float | None]:
    return {
        "ground": audit.ground,
        "started_at": as_text(audit.started_at),
        "finished_at": as_text(audit.finished_at) if audit.finished_at else None,
        "position": audit.position,
        "rows": audit.rows,
        "live": audit.live,
        "due": audit.due,
        "unnamed": audit.unnamed,
        "examples": json.dumps(audit.examples),
        "seconds": audit.seconds,
        "problem": audit.problem,
    }


def _read(row: sqlite3.Row) -> Audit:
    started_at = as_instant(row["started_at"])
    assert started_at is not None  # noqa: S101 - never empty once it is noted
    return Audit(
        ground=row["ground"],
        started_at=started_at,
        finished_at=as_instant(row["finished_at"] or ""),
        position=row["position"],
        rows=row["rows"],
        live=row["live"],
        due=row["due"],
        unnamed=row["unnamed"],
        examples=tuple((sid, reason) for sid, reason in json.loads(row["examples"])),
        seconds=row["seconds"],
        problem=row["problem"],
    )
