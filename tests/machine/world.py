"""The world of the machine: what the ledger, the holds and the VMs are, kept by the machine's own hand.

Every change of the ledger that the world did not make itself must be a stamp that was earned.
"""

import sqlite3
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from autorelease.model import Allocation, Release, Result
from autorelease.rules.belief import JUDGED_FROM, WINDOW
from tests.machine.facts import Facts, Pair, read_facts
from tests.machine.provider import Provider
from tests.support.engine import Engine

COLUMNS = ("sid", "owner", "plan", "provisioner", "vm_ref", "vm_uid", "status", "expires_at", "released_at")
STAMPED = {"status", "released_at"}
RELEASED = "Released"
CANCELLED = "Cancelled"
Row = Mapping[str, str | int | None]
Ref = tuple[str, str]


@dataclass(slots=True)
class Call:
    """One call on a provisioner. number: of the VM that had the name then. end_unknown: it may have gone through."""

    run: "Run"
    pair: Pair
    provisioner: str
    ref: str
    number: int | None
    answer: Release | None = None
    error: str | None = None
    end_unknown: bool = False


@dataclass(slots=True)
class Note:
    """What an operator has read in the report of a tick: its reasons to refuse, and the number that it named."""

    finished_at: datetime
    codes: frozenset[str]
    count: int | None


@dataclass(slots=True)
class Run:
    """A tick or an operator's release that is under way. rows, facts: as they were when it began.

    sids: the operator's; None: a tick. touched: the sids that somebody else has changed meanwhile. read: the rows as
    they were last read again; begun: the intents that were written, and whether their sid was held then; under_way:
    from the intent to the answer.
    """

    now: datetime
    sids: frozenset[str] | None
    rows: Mapping[str, Row]
    facts: Facts
    vms_of_others: Mapping[Ref, frozenset[str]]
    conflicts: frozenset[str]
    held: frozenset[str]
    confirm: int | None = None
    answered: Note | None = None
    touched: set[str] = field(default_factory=set)
    instants: set[int] = field(default_factory=set)
    read: dict[str, Row | None] = field(default_factory=dict)
    begun: dict[str, bool] = field(default_factory=dict)
    under_way: set[str] = field(default_factory=set)
    calls: list[Call] = field(default_factory=list)

    @property
    def is_tick(self) -> bool:
        """Whether it is a sweep."""
        return self.sids is None


@dataclass(frozen=True, slots=True)
class Held:
    """An operator's hold, as the operator knows it."""

    until: datetime | None
    ended_at: datetime | None = None

    def is_in_force(self, now: datetime, grace: timedelta) -> bool:
        """Whether it forbids a release."""
        end = self.ended_at or self.until
        return end is None or now < end + grace


class World:
    """See above. `violations` are what must never be; a worker's cannot be raised in the machine's own thread."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.rows: dict[str, Row] = {}
        self.holds: dict[str, Held] = {}
        self.providers = {
            "default": Provider(is_immediate=False),
            "other": Provider(is_immediate=True),
        }
        self.active: list[Run] = []
        self.stamped: set[Pair] = set()
        self.seen: Counter[str] = Counter()
        self.violations: list[str] = []
        self.lock = threading.RLock()

    def require(self, what: object, *facts: object) -> None:
        """Note a violation unless this holds."""
        if not what:
            self.violations.append(" ".join(map(str, facts)))
            raise AssertionError(self.violations[-1])

    def facts(self) -> Facts:
        """The journal as it is."""
        return read_facts(self.engine.place.journal)

    # --- the rule, in the machine's own words -----------------------------------------------------------------------

    def is_expired(self, row: Row, now: datetime) -> bool:
        """Whether this row has expired and is certain."""
        expires_at = row["expires_at"]
        if not is_live(row) or is_spoiled(row) or not isinstance(expires_at, int):
            return False
        return datetime.fromtimestamp(expires_at, UTC) + self.engine.options.grace < now

    def is_held(self, sid: str, now: datetime, *, grace: bool = True) -> bool:
        """Whether an operator holds it."""
        held = self.holds.get(sid)
        return held is not None and held.is_in_force(now, self.engine.options.hold_grace if grace else timedelta(0))

    def vm(self, row: Row) -> int | None:
        """The number of the VM that a row names; None: there is none."""
        provisioner, ref = vm_of(row)
        return self.providers[provisioner].number(ref)

    # --- what others do ---------------------------------------------------------------------------------------------

    def put(self, row: Row) -> None:
        """The operator's own application writes a row."""
        with self.lock:
            self.absorb()
            self._touch(str(row["sid"]))
            places = ", ".join("?" for _ in COLUMNS)
            self.engine.place.execute(
                f"INSERT OR REPLACE INTO vm_allocations ({', '.join(COLUMNS)}) VALUES ({places})",
                *(row[column] for column in COLUMNS),
            )
            self.rows[str(row["sid"])] = row

    def change(self, sid: str, **columns: str | int | None) -> None:
        """The operator's own application changes a row, where there is one."""
        with self.lock:
            self.absorb()
            if sid in self.rows:
                self.put({**self.rows[sid], **columns})

    def delete(self, sid: str) -> None:
        """The operator's own application deletes a row."""
        with self.lock:
            self.absorb()
            self._touch(sid)
            self.engine.place.execute("DELETE FROM vm_allocations WHERE sid = ?", sid)
            self.rows.pop(sid, None)

    def hold(self, sid: str, until: datetime | None) -> None:
        """An operator holds a sid, and is told when that is too late."""
        with self.lock:
            is_begun = any(sid in run.under_way for run in self.active)
            begun = self.engine.hold(sid, until)
            self.require(begun is not None or not is_begun, "nobody was told that this hold came too late:", sid)
            self._touch(sid)
            self.holds[sid] = Held(until)

    def unhold(self, sid: str) -> None:
        """The operator ends a hold."""
        with self.lock:
            if sid in self.holds and self.holds[sid].is_in_force(self.engine.now, timedelta(0)):
                self.engine.unhold(sid)
                self._touch(sid)
                self.holds[sid] = replace(self.holds[sid], ended_at=self.engine.now)

    def retry(self, sid: str) -> None:
        """The operator has looked at it."""
        with self.lock:
            self.engine.retry(sid)
            # Whoever looks at a conflict answers for it; the journal need not know its end any more.
            self.stamped = {pair for pair in self.stamped if pair[0] != sid}
            self._touch(sid)

    def set_clock(self, now: datetime) -> None:
        """The clock of the host says something else."""
        self.engine.now = now
        for run in self.active:
            run.instants.add(int(now.timestamp()))

    def _touch(self, sid: str) -> None:
        for run in self.active:
            run.touched.add(sid)

    # --- what we do -------------------------------------------------------------------------------------------------

    def absorb(self) -> None:
        """Take over what a run of ours has changed in the ledger: nothing but stamps that were earned."""
        with self.lock:
            stored = self._stored()
            for sid, row in stored.items():
                if row != self.rows.get(sid):
                    self._check_stamp(self.rows.get(sid), row)
                    self.rows[sid] = row
            self.require(len(stored) == len(self.rows), "rows are lost")

    def _stored(self) -> dict[str, Row]:
        connection = sqlite3.connect(f"file:{self.engine.place.ledger}?mode=ro", uri=True)
        rows = connection.execute(f"SELECT {', '.join(COLUMNS)} FROM vm_allocations").fetchall()
        connection.close()
        return {row[0]: dict(zip(COLUMNS, row, strict=True)) for row in rows}

    def _check_stamp(self, before: Row | None, after: Row) -> None:
        self.require(before is not None, "a row out of nowhere:", after)
        assert before is not None
        changed = {column for column in COLUMNS if before[column] != after[column]}
        self.require(changed <= STAMPED, "more than a stamp was written:", before, after)
        self.require(is_live(before) and after["status"] == RELEASED, "this is no stamp:", before, after)
        calls = [call for run in self.active for call in run.calls if is_call_of(call, before)]
        self.require(calls and calls[-1].answer is not None, "stamped without an answer:", before)
        call = calls[-1]
        self.require(after["released_at"] in call.run.instants, "released at no time at all:", after)
        assert call.answer is not None
        self.require(call.answer.result is not Result.PENDING, "pending, and stamped:", before)
        if call.number is not None and self.vm(before) == call.number:
            self.require(self._is_miss_believed(call), "Released, and its VM is there:", before)
            self.seen["a lie was believed"] += 1
        self.stamped.add(pair_of(before))
        for run in self.active:
            if run is not call.run:
                run.touched.add(call.pair[0])

    def _is_miss_believed(self, call: Call) -> bool:
        """Whether a "not found" may be taken for the end of a VM that is still there: see the machine's docstring."""
        run = call.run
        assert call.answer is not None
        if call.answer.result is not Result.ALREADY_RELEASED or call.answer.proof:
            return False
        earlier = run.calls[: run.calls.index(call)]
        if run.facts.is_open(call.pair) or any(one.pair == call.pair and one.end_unknown for one in earlier):
            return True
        misses = [one for one in run.calls if one.answer is not None and not one.answer.proof]
        if run.confirm is not None and run.answered is not None and not run.answered.codes:
            return run.answered.count == run.confirm >= len(misses)
        answers = self.facts().answers.get(call.provisioner, ())[:WINDOW]
        percent = 100 * answers.count("miss") / max(len(answers), 1)
        is_usual = len(answers) < JUDGED_FROM or percent <= self.engine.options.max_gone_percent
        return self.providers[call.provisioner].has_released and is_usual

    def begin_call(self, run: Run, provisioner: str, allocation: Allocation) -> Call:
        """A provisioner is about to be called: this is the moment of acting."""
        with self.lock:
            self.absorb()
            number = self.providers[provisioner].number(allocation.vm_ref)
            expires_at = int(allocation.expires_at.timestamp()) if allocation.expires_at else None
            call = Call(run, (allocation.sid, expires_at), provisioner, allocation.vm_ref, number)
            run.calls.append(call)
            self._check_call(run, call)
            return call

    def _check_call(self, run: Run, call: Call) -> None:
        sid = call.pair[0]
        row = run.read.pop(sid, None)
        self.require(row is not None, "called without being read again, or of no row:", call)
        assert row is not None
        self.require(is_call_of(call, row) and is_live(row) and not is_spoiled(row), "the row says otherwise:", row)
        self.require(run.begun.get(sid) is False, "called while it was held, or without an intent:", sid)
        facts = self.facts()
        # An operator's release of the same row, which takes no lock, may have come to its end in between.
        is_begun = facts.is_open(call.pair) or (sid in run.touched and call.pair in facts.begun)
        self.require(is_begun, "called without a durable intent:", call.pair)
        others = run.vms_of_others.get(vm_of(row), frozenset()) - {sid} - run.touched
        self.require(not others or sid in run.touched, "the VM of somebody else:", row, others)
        if run.sids is None:
            self._check_sweep(run, call, row)
        else:
            self.require(sid in run.sids, "nobody has ordered this:", sid)

    def _check_sweep(self, run: Run, call: Call, row: Row) -> None:
        self.require(self.is_expired(row, run.now), "it has not expired:", row, run.now)
        self.require(call.pair not in run.facts.released, "it is a resurrected row:", row)
        if (sid := call.pair[0]) not in run.touched:
            self.require(sid not in run.conflicts, "it is in conflict:", row)
            self.require(not is_resting(run, call.pair), "it rests after a failure:", row)


def is_live(row: Row) -> bool:
    """Whether something is left to release."""
    return row["status"] not in (RELEASED, CANCELLED)


def is_spoiled(row: Row) -> bool:
    """Whether a live row says that it was released."""
    return is_live(row) and row["released_at"] is not None


def vm_of(row: Row) -> Ref:
    """Whose VM it names, and which."""
    return str(row["provisioner"] or "default"), str(row["vm_ref"] or row["sid"])


def pair_of(row: Row) -> Pair:
    """What the journal knows it by."""
    expires_at = row["expires_at"]
    assert not isinstance(expires_at, str)
    return str(row["sid"]), expires_at


def is_call_of(call: Call, row: Row) -> bool:
    """Whether a call was made for this very allocation."""
    return call.pair == pair_of(row) and (call.provisioner, call.ref) == vm_of(row)


def is_resting(run: Run, pair: Pair) -> bool:
    """Whether it failed, and may not be tried again yet; what is further ahead than any pause is void."""
    next_attempt_at = run.facts.resting.get(pair)
    return next_attempt_at is not None and timedelta(0) < next_attempt_at - run.now <= timedelta(hours=48)
