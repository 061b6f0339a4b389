"""The history in the journal: read, and written for a run and for an operator."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain, groupby
from operator import itemgetter
from typing import Any

from autorelease.journal import Event, Step
from autorelease.journal.changes import Value, changes_of, line_of
from autorelease.journal.connection import PAGE_ROWS, JournalConnection
from autorelease.journal.rows import HISTORY_FIELDS, IS_RENAMED, RENAMED, as_instant, as_key, as_text

Key = tuple[str, str]
Values = tuple[Value, ...]
Line = tuple[tuple[str, ...], Values]
REMEMBER = (
    "INSERT INTO attempts (sid, expires_at, provisioner, vm_ref, failed_ticks, pending_ticks, quarantined) "
    f"VALUES (?, ?, ?, ?, 0, 0, 0) ON CONFLICT (sid, expires_at) DO UPDATE SET {RENAMED} "
    f"WHERE {IS_RENAMED}"
)


class Events(JournalConnection):
    """The table `events`, and the memory of each (sid, expires_at) that an event changes."""

    def events(self, *, sid: str | None = None, tick: str | None = None) -> Iterator[Mapping[str, Any]]:
        """The events as `history` shows them, oldest first; `now` is that of their tick."""
        conditions, values = ["id > ?"], []
        for column, value in (("sid", sid), ("tick", tick)):
            if value is not None:
                conditions.append(f"events.{column} = ?")
                values.append(value)
        columns = ", ".join(f"events.{name}" for name in HISTORY_FIELDS)
        last = 0
        while True:
            page = self._rows(
                f"SELECT id, {columns}, ticks.now FROM events LEFT JOIN ticks USING (tick) "
                f"WHERE {' AND '.join(conditions)} ORDER BY id LIMIT {PAGE_ROWS}",
                last,
                *values,
            )
            for row in page:
                event = dict(row)
                last = event.pop("id")
                # What an operator did belongs to no tick, and a hold of many to no sid.
                event["tick"] = event["tick"] or None
                if event["event"] in (Step.HOLD, Step.UNHOLD):
                    event["sid"] = event["sid"] or None
                yield event
            if len(page) < PAGE_ROWS:
                return

    def outcomes(self, run: str) -> Mapping[str, int]:
        """How many outcomes of each kind this run has written down."""
        # What was written twice, because the first time it seemed to have failed, is one outcome.
        rows = self._rows(
            "SELECT outcome, count(*) AS number FROM (SELECT DISTINCT at, sid, expires_at, outcome, reason FROM events "
            f"WHERE tick = ? AND event = '{Step.OUTCOME}') GROUP BY outcome",
            run,
        )
        return {row["outcome"]: row["number"] for row in rows}

    def recent_releases(self, limit: int) -> Sequence[tuple[str, datetime | None]]:
        """The (sid, expires_at) that ended as released or already released last, newest first; each sid once."""
        rows = self._rows(
            "SELECT sid, expires_at FROM events WHERE outcome IN ('released', 'already_released') "
            "ORDER BY id DESC LIMIT ?",
            limit,
        )
        newest: dict[str, datetime | None] = {}
        for row in rows:
            newest.setdefault(row["sid"], as_instant(row["expires_at"] or ""))
        return list(newest.items())

    def _write(self, run: str, events: Sequence[Event]) -> None:
        """Write events of one run, in their order."""
        for some in _of_different_keys(events):
            self._write_some(run, some)

    def _write_some(self, run: str, events: Mapping[Key, Event]) -> None:
        lines, memories, updates = list[Line](), list[Values](), defaultdict[tuple[str, ...], list[Values]](list)
        for key, event in events.items():
            at = as_text(event.at)
            lines.append(line_of(event, at, key[1], run))
            memories.append((*key, event.provisioner, event.vm_ref, at))
            changes = list(changes_of(event, at, run))
            if changes:
                assignments, values = zip(*changes, strict=True)
                updates[assignments].append((*chain.from_iterable(values), *key))
        # In the order of the events: whose columns are the same, and follow one another, go together.
        for columns, some in groupby(lines, itemgetter(0)):
            places = ", ".join("?" * len(columns))
            self.connection.executemany(
                f"INSERT INTO events ({', '.join(columns)}) VALUES ({places})", [values for _, values in some]
            )
        self.connection.executemany(REMEMBER, memories)
        for assignments, rows in updates.items():
            self.connection.executemany(
                f"UPDATE attempts SET {', '.join(assignments)} WHERE sid = ? AND expires_at = ?", rows
            )

    def _note(
        self, step: Step, sid: str, at: datetime, evidence: str, reason: str | None, expires_at: datetime | None = None
    ) -> None:
        """Write down what an operator did; it belongs to no tick."""
        self.connection.execute(
            "INSERT INTO events (at, tick, sid, event, reason, evidence, expires_at, provisioner) "
            "VALUES (?, '', ?, ?, ?, ?, ?, '')",
            (as_text(at), sid, step, reason, evidence, as_text(expires_at) if expires_at else None),
        )


def _of_different_keys(events: Sequence[Event]) -> Iterator[Mapping[Key, Event]]:
    """The same events, so that no two of a group are of one (sid, expires_at), whose memory the first one changes."""
    some: dict[Key, Event] = {}
    for event in events:
        key = (event.sid, as_key(event.expires_at))
        if key in some:
            yield some
            some = {}
        some[key] = event
    yield some
