"""The holds of operators: made, ended, and looked up."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from autorelease.journal import Step
from autorelease.journal.connection import PAIRS_AT_ONCE
from autorelease.journal.events import Events
from autorelease.journal.rows import HOLD_COLUMNS, as_instant, as_text, read_hold
from autorelease.model import Allocation, Hold, rfc3339


class Holds(Events):
    """The table `holds`, of which the newest of a sid counts."""

    def hold_of(self, sid: str) -> Hold | None:
        """The newest hold of this sid, whether it has ended or not."""
        return self._newest_holds([sid]).get(sid)

    def holds_of(self, allocations: Sequence[Allocation]) -> Mapping[str, Hold]:
        """By sid, the hold of each of these, whether it has ended or not; absent: it was never held."""
        sids = [allocation.sid for allocation in allocations]
        pages = (sids[start : start + PAIRS_AT_ONCE] for start in range(0, len(sids), PAIRS_AT_ONCE))
        return {sid: hold for page in pages for sid, hold in self._newest_holds(page).items()}

    def holds(self, ended_after: datetime) -> Sequence[Hold]:
        """The newest hold of each sid, unless it had ended by then."""
        rows = self._rows(
            f"SELECT {HOLD_COLUMNS} FROM holds WHERE id IN (SELECT max(id) FROM holds GROUP BY sid) "
            "AND coalesce(ended_at, until, '9') > ? ORDER BY id",
            as_text(ended_after),
        )
        return [read_hold(row) for row in rows]

    def hold(self, hold: Hold) -> datetime | None:
        """Hold a sid, in the place of an earlier hold; returns when a running tick has begun its release."""
        with self._transaction():
            self._end_hold(hold.sid, hold.held_at, hold.actor)
            self.connection.execute(
                "INSERT INTO holds (sid, held_at, until, reason, actor) VALUES (?, ?, ?, ?, ?)",
                (hold.sid, as_text(hold.held_at), as_text(hold.until) if hold.until else None, hold.reason, hold.actor),
            )
            until = f", until {rfc3339(hold.until)}" if hold.until else ""
            self._note(Step.HOLD, hold.sid, hold.held_at, f"by {hold.actor}{until}", hold.reason)
            begun = self.connection.execute(
                "SELECT max(begun_at) FROM attempts WHERE sid = ? AND intent_at IS NOT NULL "
                "AND begun_run IN (SELECT tick FROM ticks WHERE status IS NULL)",
                (hold.sid,),
            ).fetchone()[0]
        return as_instant(begun or "")

    def end_hold(self, sid: str, at: datetime, actor: str) -> Hold | None:
        """End the hold of a sid; returns it as it was, None where there is none that has not ended."""
        with self._transaction():
            ended = self._end_hold(sid, at, actor)
            if ended is not None:
                self._note(Step.UNHOLD, sid, at, f"by {actor}", None)
        return ended

    def _end_hold(self, sid: str, at: datetime, actor: str) -> Hold | None:
        newest = self.hold_of(sid)
        if newest is None or (newest.ends_at is not None and newest.ends_at <= at):
            return None
        self.connection.execute(
            "UPDATE holds SET ended_at = ?, ended_by = ? WHERE id = (SELECT max(id) FROM holds WHERE sid = ?)",
            (as_text(at), actor, sid),
        )
        return newest

    def _newest_holds(self, sids: Sequence[str]) -> dict[str, Hold]:
        places = ", ".join("?" for _ in sids)
        rows = self._rows(f"SELECT {HOLD_COLUMNS} FROM holds WHERE sid IN ({places}) ORDER BY id", *sids)
        return {row["sid"]: read_hold(row) for row in rows}
