"""The world of the machine: what the ledger, the holds and the VMs are, kept by the machine's own hand.

Every change of the ledger that the world did not make itself must be a stamp that was earned.
"""

import sqlite3
import threading
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from autorelease.model import Allocation, Release, Result
from tests.machine.engine import CANCELLED, HurriedEngine
from tests.machine.facts import Facts, Pair, Reader, Ref, read_facts
from tests.machine.provider import Provider, plainly

COLUMNS = ("sid", "owner", "plan", "provisioner", "vm_ref", "vm_uid", "status", "expires_at", "released_at")
STAMPED = {"status", "released_at"}
RELEASED = "Released"
# The sid of a hold of everything.
EVERYTHING = ""
Row = Mapping[str, str | int | None]


@dataclass(slots=True)
class Call:
    """One call on a provisioner. number: of the VM that had the name then. ref: as the row wrote it."""

    run: "Run"
    pair: Pair
    ref: Ref
    number: int | None
    answer: Release | None = None
    error: str | None = None
    end_unknown: bool = False

    @property
    def vm(self) -> Ref:
        """Whose VM it is, and which."""
        return self.ref[0], plainly(self.ref[1])


@dataclass(slots=True)
class Note:
    """What an operator has read in the report of a tick: its reasons to refuse, and the number that it named.

    pairs: what it had planned to release for the first time; is_exact: nobody had changed that meanwhile. unproven:
    what it had not believed, each with the fingerprint of its provisioner.
    """

    finished_at: datetime
    codes: frozenset[str]
    count: int | None
    pairs: frozenset[Pair]
    is_exact: bool
    unproven: frozenset[tuple[Pair, str]]


@dataclass(frozen=True, slots=True)
class Look:
    """The ledger as a run looked at it last. staying: of each VM, the rows that hold it and are not to go.

    naps: how often the process had been suspended by then.
    """

    rows: Mapping[str, Row]
    staying: Mapping[Ref, frozenset[str]]
    naps: int


@dataclass(slots=True)
class Run:
    """A tick or an operator's release that is under way. rows, facts: as they were when it began.

    sids: the operator's; None: a tick. touched, touched_vms: what somebody else has changed meanwhile. read: the rows
    as they were last read again; looks: those at who holds what since the intent of each was written; begun: the
    intents that were written, and whether their sid was held then; under_way: from the intent to the answer. in_flight:
    the VMs of the calls that have not come back. controls: who was asked for, by provisioner, and whether that VM was
    found. is_alone: no other run was under way at the same time. is_hurried: a call that takes its time may be given
    up, whatever it answers then. is_plan_known: no row was changed in the midst of the tick that was admitted, or is
    answered. at_most: so many rows, the first of its plan, are to be released.
    """

    now: datetime
    sids: frozenset[str] | None
    rows: Mapping[str, Row]
    facts: Facts
    conflicts: frozenset[str]
    held: frozenset[str]
    admitted: frozenset[Pair]
    fingerprints: Mapping[str, str | None]
    planned: frozenset[Pair] = frozenset()
    tick: str = ""
    confirm: int | None = None
    at_most: int | None = None
    answered: Note | None = None
    is_alone: bool = True
    has_failed: bool = False
    is_hurried: bool = False
    is_plan_known: bool = True
    touched: set[str] = field(default_factory=set)
    touched_vms: set[Ref] = field(default_factory=set)
    acknowledged: set[Pair] = field(default_factory=set)
    instants: set[int] = field(default_factory=set)
    read: dict[str, Row | None] = field(default_factory=dict)
    looks: dict[str, list[Look]] = field(default_factory=dict)
    begun: dict[str, bool] = field(default_factory=dict)
    under_way: dict[str, Pair] = field(default_factory=dict)
    in_flight: list[Ref] = field(default_factory=list)
    controls: dict[str, list[tuple[str, bool]]] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)

    @property
    def is_tick(self) -> bool:
        """Whether it is a sweep."""
        return self.sids is None

    @property
    def first_tries(self) -> frozenset[Pair]:
        """What it plans that no tick has tried, or was admitted to."""
        return frozenset(pair for pair in self.planned if self.is_first_try(pair))

    def is_first_try(self, pair: Pair) -> bool:
        """Whether no tick has tried it, and it was in no plan that the newest admitted tick had."""
        return not self.facts.was_tried(pair) and pair not in self.admitted

    def is_touched(self, row: Row) -> bool:
        """Whether somebody has changed this row meanwhile, or another one of the same VM."""
        return row["sid"] in self.touched or vm_of(row) in self.touched_vms

    @property
    def confirms_refusal(self) -> bool:
        """Whether its operator has answered the reasons of a refusal, and not misses."""
        return self.is_confirmed and self.answered is not None and bool(self.answered.codes)

    @property
    def is_confirmed(self) -> bool:
        """Whether the number that its operator gave answers the newest tick."""
        return self.has_something_to_answer and self.answered is not None and self.answered.count == self.confirm

    @property
    def has_something_to_answer(self) -> bool:
        """Whether the newest tick has named a number, not too long ago."""
        note = self.answered
        return (
            note is not None and note.count is not None and timedelta(0) <= self.now - note.finished_at <= CONFIRMABLE
        )


CONFIRMABLE = timedelta(hours=24)


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
    """See above. `violations` are what must never be; a worker's cannot be raised in the machine's own thread.

    plans: what each tick had planned to release for the first time; vague_plans: while somebody changed rows.
    fingerprints: those of each run. naps: how
    often a process was suspended.
    """

    def __init__(self, engine: HurriedEngine) -> None:
        self.engine = engine
        self.rows: dict[str, Row] = {}
        self.holds: dict[str, Held] = {}
        self.providers = {
            "default": Provider("default", is_immediate=False),
            "other": Provider("other", is_immediate=True),
        }
        self.active: list[Run] = []
        self.plans: dict[str, frozenset[Pair]] = {}
        self.vague_plans: set[str] = set()
        self.fingerprints: dict[str, Mapping[str, str | None]] = {}
        self.stamped: set[Pair] = set()
        self.seen: Counter[str] = Counter()
        self.violations: list[str] = []
        self.naps = 0
        self.lock = threading.RLock()
        self._journal = Reader(engine.place.journal, read_facts)
        self._ledger = Reader(engine.place.ledger, read_rows)

    def require(self, what: object, *facts: object) -> None:
        """Note a violation unless this holds."""
        if not what:
            self.violations.append(" ".join(map(str, facts)))
            raise AssertionError(self.violations[-1])

    def facts(self) -> Facts:
        """The journal as it is."""
        with self.lock:
            return self._journal.read()

    def close(self) -> None:
        """Let go of both files."""
        self._journal.close()
        self._ledger.close()

    # --- the rule, in the machine's own words -----------------------------------------------------------------------

    def is_expired(self, row: Row, now: datetime) -> bool:
        """Whether this row has expired and is certain."""
        expires_at = row["expires_at"]
        if not is_live(row) or is_spoiled(row) or not isinstance(expires_at, int):
            return False
        return datetime.fromtimestamp(expires_at, UTC) + self.engine.grace < now

    def is_held(self, sid: str, now: datetime, *, grace: bool = True) -> bool:
        """Whether an operator holds it."""
        holds = [held for held in (self.holds.get(sid), self.holds.get(EVERYTHING)) if held is not None]
        return any(held.is_in_force(now, self.engine.hold_grace if grace else timedelta(0)) for held in holds)

    def is_to_go(self, run: Run, row: Row) -> bool:
        """Whether this run may release this row, as far as row and hold can say."""
        sid = str(row["sid"])
        if run.sids is not None:
            return (
                is_live(row) and not is_spoiled(row) and sid in run.sids and not self.is_held(sid, run.now, grace=False)
            )
        return self.is_expired(row, run.now) and not self.is_held(sid, run.now)

    def vm(self, row: Row) -> int | None:
        """The number of the VM that a row names; None: there is none."""
        provisioner, ref = vm_of(row)
        return self.providers[provisioner].number(ref)

    def restore(self, stored: bytes, rows: Mapping[str, Row]) -> None:
        """An old backup is put in the ledger's place."""
        self._ledger.close()
        self.engine.place.ledger.write_bytes(stored)
        self.rows = dict(rows)

    # --- what others do ---------------------------------------------------------------------------------------------

    def put(self, row: Row) -> None:
        """The operator's own application writes a row."""
        with self.lock:
            self.absorb()
            self._touch(str(row["sid"]), row)
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
            is_begun = any(run.under_way if sid == EVERYTHING else sid in run.under_way for run in self.active)
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
        """The operator has looked at it: at what is in conflict, and not at what is under way just now."""
        with self.lock:
            before = self.facts()
            self.engine.retry(sid)
            after = self.facts()
            for run in self.active:
                run.acknowledged |= before.conflicts - after.conflicts
                pair = run.under_way.get(sid)
                is_kept = pair is None or not before.is_open(pair) or after.is_open(pair)
                self.require(is_kept, "a call is under way, and the journal has forgotten it:", pair)
            # Whoever looks at a conflict answers for it; the journal need not know its end any more.
            self.stamped = {pair for pair in self.stamped if pair[0] != sid}
            self._touch(sid)

    def set_clock(self, now: datetime) -> None:
        """The clock of the host says something else."""
        self.engine.now = now
        for run in self.active:
            run.instants.add(int(now.timestamp()))

    def _touch(self, sid: str, row: Row | None = None) -> None:
        sids = set(self.rows) if sid == EVERYTHING else {sid}
        rows = [*(self.rows[each] for each in sids & self.rows.keys()), *([row] if row is not None else [])]
        for run in self.active:
            run.touched |= sids
            run.touched_vms |= set(map(vm_of, rows))

    def touch_with(self, run: Run, sids: frozenset[str]) -> None:
        """Another run has these in hand, too."""
        run.is_alone = False
        run.touched |= sids
        run.touched_vms |= {vm_of(row) for sid, row in self.rows.items() if sid in sids}

    # --- what we do -------------------------------------------------------------------------------------------------

    def look(self, run: Run) -> None:
        """A run looks at the ledger, and who holds what."""
        self.absorb()
        staying: defaultdict[Ref, set[str]] = defaultdict(set)
        for sid, row in self.rows.items():
            if is_live(row) and not self.is_to_go(run, row):
                staying[vm_of(row)].add(sid)
        look = Look(dict(self.rows), {vm: frozenset(sids) for vm, sids in staying.items()}, self.naps)
        for sid in run.under_way:
            run.looks[sid].append(look)

    def absorb(self) -> None:
        """Take over what a run of ours has changed in the ledger: nothing but stamps that were earned."""
        with self.lock:
            stored = self._ledger.read()
            for sid, row in stored.items():
                if row != self.rows.get(sid):
                    self._check_stamp(self.rows.get(sid), row)
                    self.rows[sid] = row
            self.require(len(stored) == len(self.rows), "rows are lost")

    def _check_stamp(self, before: Row | None, after: Row) -> None:
        self.require(before is not None, "a row out of nowhere:", after)
        assert before is not None
        changed = {column for column in COLUMNS if before[column] != after[column]}
        self.require(changed <= STAMPED, "more than a stamp was written:", before, after)
        self.require(is_live(before) and after["status"] == RELEASED, "this is no stamp:", before, after)
        # Of each run the last: two of them, of which one takes no lock, may be at the same row.
        last = [[call for call in run.calls if is_call_of(call, before)][-1:] for run in self.active]
        answered = [call for calls in last for call in calls if call.answer is not None]
        self.require(answered, "stamped without an answer:", before)
        call = answered[-1]
        self.require(after["released_at"] in call.run.instants, "released at no time at all:", after)
        self._check_earned(call, before)
        self.stamped.add(pair_of(before))
        for run in self.active:
            if run is not call.run:
                self.touch_with(run, frozenset({call.pair[0]}))

    def _check_earned(self, call: Call, row: Row) -> None:
        from tests.machine.belief import answer_of, is_believed, is_vouched

        assert call.answer is not None
        self.require(call.answer.result is not Result.PENDING, "pending, and stamped:", row)
        self.seen[f"stamped by {answer_of(self, call)}"] += 1
        self.seen["vouched for"] += is_vouched(call.run, call)
        self.require(is_believed(self, call), "stamped by a 'not found' that proves nothing:", row, call.run.tick)
        if call.number is not None and self.vm(row) == call.number:
            self.require(call.answer.result is not Result.RELEASED, "Released, and its VM is there:", row)
            self.seen["a lie was believed"] += 1

    def begin_call(self, run: Run, provisioner: str, allocation: Allocation, naps: int | None) -> Call:
        """A provisioner is about to be called: this is the moment of acting. naps: those that the worker knew of."""
        with self.lock:
            self.absorb()
            number = self.providers[provisioner].number(allocation.vm_ref)
            pair = pair_in_journal(allocation.sid, allocation.expires_at)
            call = Call(run, pair, (provisioner, allocation.vm_ref), number)
            run.calls.append(call)
            self._check_call(run, call, naps or 0)
            self.require(call.vm not in run.in_flight, "two calls at once for one VM:", call.vm)
            run.in_flight.append(call.vm)
            return call

    def _check_call(self, run: Run, call: Call, naps: int) -> None:
        sid = call.pair[0]
        row = run.read.pop(sid, None)
        self.require(row is not None, "called without being read again, or of no row:", call.pair)
        assert row is not None
        self.require(is_call_of(call, row) and is_live(row) and not is_spoiled(row), "the row says otherwise:", row)
        self.require(run.begun.get(sid) is False, "called while it was held, or without an intent:", sid)
        facts = self.facts()
        # An operator's release of the same row, which takes no lock, may have come to its end in between.
        is_begun = facts.is_open(call.pair) or (sid in run.touched and call.pair in facts.begun)
        self.require(is_begun, "called without a durable intent:", call.pair)
        looks = run.looks[sid]
        self.require(looks, "nobody has looked since the intent was written:", sid)
        # Of others that are handed to the workers next this one may have got more looks than it was judged by.
        looks = [look for look in looks if look.rows.get(sid) == row]
        self.require(looks, "the row said otherwise at the last look:", row)
        looks = [look for look in looks if not look.staying.get(vm_of(row), frozenset()) - {sid}]
        self.require(looks, "the VM of somebody else:", row)
        self.require(any(naps <= look.naps for look in looks), "judged too long ago:", row)
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


def read_rows(connection: sqlite3.Connection) -> Mapping[str, Row]:
    """Read all of a ledger, by sid."""
    found = connection.execute(f"SELECT {', '.join(COLUMNS)} FROM vm_allocations").fetchall()
    return {row["sid"]: dict(zip(COLUMNS, row, strict=True)) for row in found}


def is_live(row: Row) -> bool:
    """Whether something is left to release."""
    return row["status"] not in (RELEASED, CANCELLED)


def is_spoiled(row: Row) -> bool:
    """Whether a live row says that it was released."""
    return is_live(row) and row["released_at"] is not None


def ref_of(row: Row) -> Ref:
    """Whose VM it names, and how it writes that."""
    return str(row["provisioner"] or "default"), str(row["vm_ref"] or row["sid"])


def vm_of(row: Row) -> Ref:
    """Whose VM it names, and which."""
    provisioner, ref = ref_of(row)
    return provisioner, plainly(ref)


def pair_of(row: Row) -> Pair:
    """What the journal knows it by."""
    expires_at = row["expires_at"]
    assert not isinstance(expires_at, str)
    return str(row["sid"]), expires_at


def pair_in_journal(sid: str, expires_at: datetime | None) -> Pair:
    """The same, of what the product calls an instant."""
    return sid, int(expires_at.timestamp()) if expires_at else None


def is_call_of(call: Call, row: Row) -> bool:
    """Whether a call was made for this very allocation."""
    return call.pair == pair_of(row) and call.ref == ref_of(row)


def is_resting(run: Run, pair: Pair) -> bool:
    """Whether it failed, and may not be tried again yet; what is further ahead than any pause is void."""
    next_attempt_at = run.facts.resting.get(pair)
    return next_attempt_at is not None and timedelta(0) < next_attempt_at - run.now <= timedelta(hours=48)
