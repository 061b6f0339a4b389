"""The holds of operators: made, ended, and looked up."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from autorelease.journal import Begun, Step
from autorelease.journal.connection import SIDS_AT_ONCE
from autorelease.journal.events import Events
from autorelease.journal.rows import HOLD_COLUMNS, as_instant, as_text, read_hold
from autorelease.model import Allocation, Hold, rfc3339

# Later than any end.
NEVER = datetime.max.replace(tzinfo=UTC)


class Holds(Events):
    """The table `holds`. Of a sid, of a provisioner and of everything the newest hold counts, each for itself."""

    def hold_of(self, sid: str) -> Hold | None:
        """The newest hold of this sid itself, whether it has ended or not."""
        return self._newest(sid, None)

    def holds_of(self, allocations: Sequence[Allocation]) -> Mapping[str, Hold]:
        """By sid: of the holds that apply to it, the one that ends last, ended or not."""
        return self._applying([(row.sid, row.provisioner) for row in allocations])

    def holds(self, ended_after: datetime) -> Sequence[Hold]:
        """The newest hold of each sid, of each provisioner and of everything, unless it had ended by then."""
        rows = self._rows(
            f"SELECT {HOLD_COLUMNS} FROM holds WHERE id IN (SELECT max(id) FROM holds GROUP BY sid, provisioner) "
            "AND coalesce(ended_at, until, '9') > ? ORDER BY id",
            as_text(ended_after),
        )
        return [read_hold(row) for row in rows]

    def hold(self, *holds: Hold) -> Sequence[Begun]:
        """Make these, all or none, each in the place of an earlier one; returns what is too late for a running tick."""
        with self._transaction():
            for hold in holds:
                self._end_hold(hold.sid, hold.provisioner, hold.held_at, hold.actor)
                self._insert(hold)
                self._note_hold(Step.HOLD, hold, hold.held_at, hold.actor, hold.reason, until=hold.until)
            return self._under_way(holds)

    def end_holds(
        self, sids: Sequence[str], at: datetime, actor: str, *, provisioner: str | None = None
    ) -> Sequence[str]:
        """End the holds of these sids, all or none; returns those that are not held, which is why none was ended.

        The sid '' stands for the hold of this provisioner; where that is None, for that of everything.
        """
        with self._transaction():
            newest = {sid: self._newest(sid, provisioner) for sid in sids}
            not_held = [sid for sid, hold in newest.items() if hold is None or not _is_open(hold, at)]
            if not not_held:
                for sid, hold in newest.items():
                    self._end_hold(sid, provisioner, at, actor)
                    assert hold is not None  # noqa: S101 - else it were not held
                    self._note_hold(Step.UNHOLD, hold, at, actor, None)
        return not_held

    def _end_hold(self, sid: str, provisioner: str | None, at: datetime, actor: str) -> None:
        newest = self._newest(sid, provisioner)
        if newest is not None and _is_open(newest, at):
            self.connection.execute(
                "UPDATE holds SET ended_at = ?, ended_by = ? "
                "WHERE id = (SELECT max(id) FROM holds WHERE sid = ? AND provisioner IS ?)",
                (as_text(at), actor, sid, provisioner),
            )

    def _insert(self, hold: Hold) -> None:
        of = hold.made_for
        self.connection.execute(
            "INSERT INTO holds (sid, held_at, until, reason, actor, provisioner, for_provisioner, for_vm_ref, "
            "for_vm_uid, for_owner) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                hold.sid,
                as_text(hold.held_at),
                as_text(hold.until) if hold.until else None,
                hold.reason,
                hold.actor,
                hold.provisioner,
                *((of.provisioner, of.vm_ref, of.vm_uid, of.owner) if of else (None,) * 4),
            ),
        )

    def _note_hold(
        self, step: Step, hold: Hold, at: datetime, actor: str, reason: str | None, *, until: datetime | None = None
    ) -> None:
        of_many = "" if hold.sid else f"everything of {hold.provisioner}, " if hold.provisioner else "everything, "
        ends = f", until {rfc3339(until)}" if until else ""
        self._note(step, hold.sid, at, f"{of_many}by {actor}{ends}", reason)

    def _under_way(self, holds: Sequence[Hold]) -> Sequence[Begun]:
        """The releases that these holds are of, and that a run which has not ended has begun."""
        sids = {hold.sid for hold in holds}
        provisioners = {hold.provisioner for hold in holds if not hold.sid}
        rows = self._rows(
            "SELECT sid, provisioner, max(begun_at) AS at, begun_run FROM attempts WHERE intent_at IS NOT NULL "
            "AND begun_run IN (SELECT tick FROM ticks WHERE status IS NULL) GROUP BY sid ORDER BY sid"
        )
        begun = [
            (row["sid"], as_instant(row["at"]), row["begun_run"])
            for row in rows
            if row["sid"] in sids or None in provisioners or row["provisioner"] in provisioners
        ]
        return [Begun(sid, at, run) for sid, at, run in begun if at is not None]

    # --- which apply ------------------------------------------------------------------------------------------------

    def _applying(self, rows: Sequence[tuple[str, str]]) -> dict[str, Hold]:
        """By sid, for each (sid, provisioner) that some hold applies to, the one of them that ends last."""
        own = self._newest_own([sid for sid, _ in rows])
        of_many = self._newest_of_many()
        found: dict[str, Hold] = {}
        for sid, provisioner in rows if own or of_many else ():
            candidates = (own.get(sid), of_many.get(provisioner), of_many.get(None))
            if applying := [hold for hold in candidates if hold is not None]:
                found[sid] = max(applying, key=lambda hold: hold.ends_at or NEVER)
        return found

    def _newest_own(self, sids: Sequence[str]) -> dict[str, Hold]:
        found: dict[str, Hold] = {}
        for start in range(0, len(sids), SIDS_AT_ONCE):
            chunk = sids[start : start + SIDS_AT_ONCE]
            places = ", ".join("?" for _ in chunk)
            rows = self._rows(f"SELECT {HOLD_COLUMNS} FROM holds WHERE sid IN ({places}) ORDER BY id", *chunk)
            found |= {row["sid"]: read_hold(row) for row in rows}
        return found

    def _newest_of_many(self) -> dict[str | None, Hold]:
        """Those of a provisioner by its name, that of everything by None."""
        rows = self._rows(f"SELECT {HOLD_COLUMNS} FROM holds WHERE sid = '' ORDER BY id")
        return {row["provisioner"]: read_hold(row) for row in rows}

    def _newest(self, sid: str, provisioner: str | None) -> Hold | None:
        rows = self._rows(
            f"SELECT {HOLD_COLUMNS} FROM holds WHERE sid = ? AND provisioner IS ? ORDER BY id DESC LIMIT 1",
            sid,
            provisioner,
        )
        return read_hold(rows[0]) if rows else None


def _is_open(hold: Hold, at: datetime) -> bool:
    """Whether it has not ended by then."""
    return hold.ends_at is None or hold.ends_at > at
