"""The runs in the journal: begun, planned, ended, and read again."""

import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec.structs import astuple

from autorelease.errors import ExitCode
from autorelease.journal import PastTick, TickKind, TickStart
from autorelease.journal.connection import PAGE_ROWS
from autorelease.journal.lists import Lists
from autorelease.journal.rows import (
    CRASHED,
    START_FIELDS,
    WITH_PLANS,
    WITHOUT_PLANS,
    as_text,
    read_past_tick,
    read_start,
)

# What a report says of itself; an error that stands in its place says another word.
COUNTED = ("success", "partial", "refused", "stopped")


class Ticks(Lists):
    """The table `ticks`."""

    def newest_tick(self) -> PastTick | None:
        """The last tick that was begun; an operator's release is none."""
        return next(self._past_ticks("WHERE kind = 'tick' ORDER BY seq DESC LIMIT 1", columns=WITH_PLANS), None)

    def newest_release(self) -> PastTick | None:
        """The last release of an operator that was begun."""
        return next(self._past_ticks("WHERE kind = 'release' ORDER BY seq DESC LIMIT 1", columns=WITH_PLANS), None)

    def last_admitted_tick(self) -> PastTick | None:
        """The last tick that the guard let through, whatever its clock said."""
        condition = "WHERE kind = 'tick' AND admitted ORDER BY seq DESC LIMIT 1"
        return next(self._past_ticks(condition, columns=WITH_PLANS), None)

    def last_swept_tick(self) -> PastTick | None:
        """The last tick that ran through: whose exit code was 0 or 3."""
        swept = f"({ExitCode.OK:d}, {ExitCode.NOT_ALL_WELL:d})"
        return next(self._past_ticks(f"WHERE kind = 'tick' AND exit_code IN {swept} ORDER BY seq DESC LIMIT 1"), None)

    def last_counted_tick(self) -> PastTick | None:
        """The last tick that ended with a report, and not with an error in place of one."""
        words = ", ".join(f"'{word}'" for word in COUNTED)
        return next(self._past_ticks(f"WHERE kind = 'tick' AND status IN ({words}) ORDER BY seq DESC LIMIT 1"), None)

    def unfinished_runs(self) -> Sequence[TickStart]:
        """The runs that never ended: those that are under way, and those that were killed since the last tick."""
        statement = f"SELECT {', '.join(START_FIELDS)} FROM ticks WHERE status IS NULL ORDER BY seq"
        return [read_start(row) for row in self._rows(statement)]

    def open_tick(self, start: TickStart, running: Collection[str] = ()) -> None:
        """Begin a tick; every older run that never ended is marked as crashed, but for those that are `running`.

        An operator's release runs beside a tick, without its lock, and says nothing about others.
        """
        values = [as_text(value) if isinstance(value, datetime) else value for value in astuple(start)]
        places = ", ".join("?" for _ in values)
        with self._transaction():
            if start.kind is TickKind.TICK:
                spared = ", ".join("?" for _ in running)
                self.connection.execute(
                    f"UPDATE ticks SET status = '{CRASHED}' WHERE status IS NULL AND tick NOT IN ({spared})",
                    tuple(running),
                )
            self.connection.execute(
                f"INSERT INTO ticks ({', '.join(START_FIELDS)}, admitted) VALUES ({places}, 0)",
                values,
            )

    def note_plan(self, tick: str, identities: bytes, *, is_admitted: bool) -> None:
        """Note what this tick plans to release for the first time, and whether the guard let it through."""
        with self._transaction():
            # Two are ever asked for: of the newest tick, and of the newest that was admitted.
            self.connection.execute(
                "UPDATE ticks SET admission = NULL, unproven = NULL WHERE admission IS NOT NULL AND tick <> ? AND "
                "(? OR seq <> (SELECT max(seq) FROM ticks WHERE admitted AND kind = 'tick'))",
                (tick, is_admitted),
            )
            self.connection.execute(
                "UPDATE ticks SET admitted = ?, admission = zeroblob(?) WHERE tick = ?",
                (is_admitted, len(identities), tick),
            )
            # In place: bound as a whole, it would be there three times.
            for (seq,) in self.connection.execute("SELECT seq FROM ticks WHERE tick = ?", (tick,)).fetchall():
                with self.connection.blobopen("ticks", "admission", seq) as blob:
                    blob.write(identities)

    def close_tick(
        self,
        tick: str,
        finished_at: datetime,
        report: Mapping[str, Any],
        *,
        confirmable: int | None = None,
        unproven: bytes | None = None,
    ) -> None:
        """End a tick with its report, or with the error object of one that could not go on."""
        with self._transaction():
            stored = self._stored(report)
            self.connection.execute(
                "UPDATE ticks SET finished_at = ?, status = ?, exit_code = ?, report = ?, invalid_list = ?, "
                "errors_list = ?, confirmable = ?, unproven = ? WHERE tick = ?",
                (
                    as_text(finished_at),
                    report.get("status", report.get("error")),
                    report["exit_code"],
                    stored.report,
                    stored.invalid,
                    stored.errors,
                    confirmable,
                    unproven,
                    tick,
                ),
            )

    def ticks(self, tick: str | None = None) -> Iterator[PastTick]:
        """The ticks, newest first; or this one alone."""
        if tick is not None:
            yield from self._past_ticks("WHERE tick = ?", tick)
            return
        last = 2**62
        while True:
            page = self._rows(
                f"SELECT {WITHOUT_PLANS} FROM ticks WHERE seq < ? ORDER BY seq DESC LIMIT {PAGE_ROWS}",
                last,
            )
            yield from self._past_ticks_of(page)
            if len(page) < PAGE_ROWS:
                return
            last = page[-1]["seq"]

    def _past_ticks(self, condition: str, *values: str, columns: str = WITHOUT_PLANS) -> Iterator[PastTick]:
        yield from self._past_ticks_of(self._rows(f"SELECT {columns} FROM ticks {condition}", *values))

    def _past_ticks_of(self, rows: Sequence[sqlite3.Row]) -> Iterator[PastTick]:
        lists: dict[int, Any] = {}
        for row in rows:
            yield read_past_tick(row, self._whole(row, lists))
