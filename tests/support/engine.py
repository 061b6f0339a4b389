"""Ticks in this process, over a real ledger and a real journal, with provisioners that a test can steer."""

import itertools
import sqlite3
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from msgspec.structs import replace

from autorelease.deciding import unfinished
from autorelease.deciding.decide import Decision, decide
from autorelease.deciding.judging import Judge, versions_of
from autorelease.errors import ExitCode
from autorelease.journal import Event, IntentChange, Step, TickKind, TickStart
from autorelease.journal.sqlite import SQLiteJournal, lock_path
from autorelease.ledger.sqlite import SQLiteLedger
from autorelease.ledger.values import Vocabulary
from autorelease.model import Allocation, Finding, Hold, PlanSummary, RawRow, Release, Result
from autorelease.operate import conflicts_of, make_order, run_release
from autorelease.provisioners import Pace, Provisioner, Registered
from autorelease.rules.guard import Limits, Moment
from autorelease.settings import Columns
from autorelease.sweep.acting import Means, Options
from autorelease.sweep.edge.lock import locked
from autorelease.sweep.edge.stop import Stop
from autorelease.sweep.preview import preview
from autorelease.sweep.report import TickReport, exit_code
from autorelease.sweep.run import run_tick
from tests.support.journals import copy_journal
from tests.support.place import TABLE, Place

if TYPE_CHECKING:
    from autorelease.deciding.judging import Records
    from autorelease.journal import Journal, JournalReader
    from autorelease.ledger import Ledger

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
EXPIRED = int((NOW - timedelta(hours=1)).timestamp())
RENEWED = int((NOW + timedelta(days=30)).timestamp())
INTENT_IN_JOURNAL = "SELECT count(*) FROM attempts WHERE sid = ? AND intent_at IS NOT NULL"

Answer = Release | BaseException


def same(wrapped: Any) -> Any:
    """What it is given."""
    return wrapped


def made_allocation(sid: str = "vm-1", **fields: Any) -> Allocation:
    """An expired allocation as a ledger reads it."""
    made = Allocation(
        sid=sid,
        status="Active",
        expires_at=datetime.fromtimestamp(EXPIRED, UTC),
        settled=False,
        vm_ref=sid,
        raw=RawRow(sid, "Active", EXPIRED),
    )
    return replace(made, **fields)


class Scripted:
    """A provisioner that says of each sid what it was told, in turn; RELEASED when it was told nothing more.

    before: called with each allocation before it answers. preflight_error: what `preflight` raises.
    """

    def __init__(
        self,
        answers: Mapping[str, Sequence[Answer]] | None = None,
        *,
        before: Callable[[Allocation], object] = same,
        preflight_error: BaseException | None = None,
    ) -> None:
        self.calls: list[str] = []
        self.preflights = 0
        self._answers = {sid: list(given) for sid, given in (answers or {}).items()}
        self._before = before
        self._preflight_error = preflight_error
        self._lock = threading.Lock()

    def preflight(self) -> None:
        """Raise what it was told to."""
        self.preflights += 1
        if self._preflight_error is not None:
            raise self._preflight_error

    def release(self, allocation: Allocation) -> Release:
        """The next answer for this sid."""
        with self._lock:
            self.calls.append(allocation.sid)
            waiting = self._answers.get(allocation.sid)
            answer = waiting.pop(0) if waiting else Release(Result.RELEASED, evidence="told to")
        self._before(allocation)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def fingerprint(self) -> str:
        """It always looks in the same place."""
        return "scripted"

    def close(self) -> None:
        """Nothing to give back."""


class Wrapper:
    """Hands every attribute of another object through: a base for wrappers that watch or break one method."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@dataclass(frozen=True, slots=True)
class Ticked:
    """One tick, or one operator's release, that came to its end. summary: the plan of a tick."""

    report: TickReport
    findings: Sequence[Finding]
    summary: PlanSummary | None = None

    @property
    def code(self) -> ExitCode:
        """Its exit code."""
        return exit_code(self.report)

    def finding(self, sid: str) -> Finding:
        """The one finding of this sid."""
        [found] = [finding for finding in self.findings if finding.allocation.sid == sid]
        return found

    def ends(self) -> dict[str, str]:
        """What became of each sid: the outcome, or the reason to skip, or the code of the error."""
        return {finding.allocation.sid: _end(finding) for finding in self.findings}


def _end(finding: Finding) -> str:
    if finding.error is not None:
        return str(finding.error.code)
    return str(finding.reason or finding.outcome)


class Engine:
    """A ledger and a journal in one folder, and ticks over them at a time of the test's choice.

    What is in the folder already is taken as it is.
    """

    def __init__(self, folder: Path, *, table: str = TABLE) -> None:
        self.place = Place(folder)
        if not self.place.ledger.exists():
            self.place.make_ledger(table=table)
            copy_journal(self.place.journal)
        self.now = NOW
        self.stop = Stop()
        self.words = Vocabulary()
        self.options = Options(
            concurrency=4,
            timeout=timedelta(seconds=30),
            attempts=3,
            quarantine_after=5,
            max_gone_percent=50,
        )
        self.grace = self.hold_grace = timedelta(0)
        self.running: set[str] = set()
        self.sections: set[str] | None = None
        self.paces: dict[str, Pace] = {}
        self.monotonic: Callable[[], float] = time.monotonic
        self.boottime: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME)
        self.limits = Limits(max_releases=1000, max_percent=100, min_fleet=20)
        self.boot_id: str | None = None
        self.boot_seconds: float | None = None
        self.ledger_name: str | None = None
        self._numbers = itertools.count(1)

    def configure(self, **options: Any) -> None:
        """Change some of the options, or how long a release is delayed."""
        self.grace = options.pop("grace", self.grace)
        self.hold_grace = options.pop("hold_grace", self.hold_grace)
        self.options = replace(self.options, **options)

    def add(self, *sids: str, expires_at: int = EXPIRED, **columns: Any) -> None:
        """Add live rows; each a second later than the one before, so that their order is known."""
        self.place.insert(
            {"sid": sid, "status": "Active", "expires_at": expires_at + later, **columns}
            for later, sid in enumerate(sids)
        )

    def open_ledger(self, *, read_only: bool = False) -> SQLiteLedger:
        """The ledger as a tick opens it."""
        columns = Columns().by_role()
        return SQLiteLedger(self.place.ledger, "vm_allocations", columns, words=self.words, read_only=read_only)

    def open_journal(self) -> SQLiteJournal:
        """The journal as a tick opens it."""
        return SQLiteJournal(self.place.journal, read_only=False)

    def start(self) -> TickStart:
        """The start of a further tick at the present time."""
        return TickStart(
            tick=f"tick-{next(self._numbers)}",
            now=self.now,
            started_at=self.now,
            ends_by=self.now + timedelta(minutes=45),
            pid=1,
            host="here",
            version="0",
            actor="tests",
            boot_id=self.boot_id,
            boot_seconds=self.boot_seconds,
            ledger=self.ledger_name,
        )

    def judge(self, ledger: "Ledger", journal: "Records") -> "Judge[Records]":
        """What judges at the present time."""
        return Judge(ledger, journal, self.now, self.grace, self.hold_grace, provisioners=self.sections)

    def means(
        self,
        provisioner: Provisioner | Mapping[str, Provisioner],
        watch: Callable[[Finding], None],
        immediate: Iterable[str] = (),
    ) -> Means:
        """What acts. A single provisioner is the default one; `immediate` names those that need no thread."""
        given = provisioner if isinstance(provisioner, Mapping) else {"default": provisioner}
        # One of a kind whose release is the stamp earns nothing by it.
        registered = {
            name: Registered(made, name in set(immediate), self.paces.get(name, Pace())) for name, made in given.items()
        }
        return Means(
            provisioners=registered,
            options=self.options,
            stop=self.stop,
            clock=lambda: self.now,
            jitter=lambda: 0.5,
            watch=watch,
            is_running=lambda start: start.tick in self.running,
            monotonic=self.monotonic,
            boottime=self.boottime,
        )

    def decide(self, ledger: "Ledger", journal: "JournalReader") -> Decision:
        """What a tick at the present time would begin with; the caller closes its spool."""
        moment = Moment(self.now, self.ledger_name, self.boot_id, self.boot_seconds)
        return decide(self.judge(ledger, journal), moment, self.limits, running=self.running)

    def preview(self, at_most: int | None = None) -> TickReport:
        """The report of a dry run at the present time."""
        ledger, journal = self.open_ledger(read_only=True), self.open_journal()
        decision = self.decide(ledger, journal)
        try:
            return preview(decision, tick="preview", clock=lambda: self.now, grace=self.grace, at_most=at_most)
        finally:
            for opened in (decision.spool, ledger, journal):
                opened.close()

    def hold(self, sid: str, until: datetime | None = None, *, provisioner: str | None = None) -> datetime | None:
        """An operator holds a sid; returns when a running tick has begun its release.

        The sid '' stands for all that this provisioner serves, or for everything.
        """
        journal = self.open_journal()
        try:
            begun = journal.hold(Hold(sid, self.now, until, "because", "tests", provisioner=provisioner))
        finally:
            journal.close()
        return max((each.at for each in begun), default=None)

    def unhold(self, sid: str, *, provisioner: str | None = None) -> None:
        """The operator ends the hold."""
        journal = self.open_journal()
        try:
            assert not journal.end_holds([sid], self.now, "tests", provisioner=provisioner)
        finally:
            journal.close()

    def tick(
        self,
        provisioner: Provisioner | Mapping[str, Provisioner],
        *,
        confirm: int | None = None,
        at_most: int | None = None,
        immediate: Iterable[str] = (),
        around_ledger: Callable[[SQLiteLedger], Any] = same,
        around_journal: Callable[[SQLiteJournal], Any] = same,
        ledger: SQLiteLedger | None = None,
    ) -> Ticked:
        """Sweep once. A single provisioner is the default one; `immediate` names those that need no thread."""
        findings: list[Finding] = []
        summaries: list[PlanSummary] = []
        ledger = ledger or self.open_ledger()
        journal = self.open_journal()
        try:
            report = run_tick(
                self.judge(cast("Ledger", around_ledger(ledger)), cast("Journal", around_journal(journal))),
                self.means(provisioner, findings.append, immediate),
                self.start(),
                limits=self.limits,
                keep=timedelta(days=400),
                confirm=confirm,
                at_most=at_most,
                planned=summaries.append,
            )
        finally:
            ledger.close()
            journal.close()
        # The identity, as somebody sees it who watched: one finding for each expired row.
        assert len(findings) == report.rows_expired
        return Ticked(report, findings, *summaries)

    def release(
        self,
        provisioner: Provisioner | Mapping[str, Provisioner],
        *sids: str,
        confirm: int | None = None,
        immediate: Iterable[str] = (),
        around_ledger: Callable[[SQLiteLedger], Any] = same,
        around_journal: Callable[[SQLiteJournal], Any] = same,
        meanwhile: Callable[[], object] = lambda: None,
        ledger: SQLiteLedger | None = None,
    ) -> Ticked:
        """Release these by an operator's order. meanwhile: called between the making of the order and its carrying out,
        which is when the operator is asked.
        """
        findings: list[Finding] = []
        ledger = ledger or self.open_ledger()
        journal = self.open_journal()
        try:
            versions = versions_of(ledger, journal)
            rows = [row for sid in sids if (row := ledger.read(sid)) is not None]
            assert len(rows) == len(sids)
            order = make_order(rows, ledger, journal, self.now, versions=versions)
            meanwhile()
            report = run_release(
                order,
                self.judge(cast("Ledger", around_ledger(ledger)), cast("Journal", around_journal(journal))),
                self.means(provisioner, findings.append, immediate),
                replace(self.start(), kind=TickKind.RELEASE, reason="because"),
                confirm=confirm,
            )
        finally:
            ledger.close()
            journal.close()
        assert len(findings) == report.rows_expired
        return Ticked(report, findings)

    def retry(self, *sids: str) -> None:
        """An operator has looked at these: their conflicts are acknowledged, their failures forgotten."""
        ledger, journal = self.open_ledger(read_only=True), self.open_journal()
        try:
            moment = unfinished.Moment(self.now, self.grace, self.running)
            journal.acknowledge(conflicts_of(sids, ledger, journal, moment)[0], self.now, "tests")
            for sid in sids:
                journal.forget_failures(self.now, "tests", sid=sid, provisioner=None)
        finally:
            ledger.close()
            journal.close()

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """The lock of a tick; False where another tick has it."""
        with locked(lock_path(self.place.journal)) as lock:
            yield lock is not None

    def give_credit(self, fingerprint: str) -> None:
        """Whoever is known by this has released something once."""
        other = sqlite3.connect(self.place.journal, isolation_level=None, timeout=10)
        other.execute("INSERT INTO credits VALUES (?, ?)", (fingerprint, self.now.isoformat()))
        other.close()

    def later(self, pause: timedelta = timedelta(hours=1)) -> None:
        """Let time pass; the next tick has not been asked to stop."""
        self.now += pause
        self.stop = Stop()

    def statuses(self) -> dict[str, str]:
        """The status of each sid in the ledger."""
        return dict(self.place.query("SELECT sid, status FROM vm_allocations"))

    def renew(self, sid: str, expires_at: int = RENEWED) -> None:
        """What the operator's own application does when a period is paid for."""
        self.place.execute("UPDATE vm_allocations SET expires_at = ? WHERE sid = ?", expires_at, sid)

    def mark_released(self, sid: str) -> None:
        """Somebody else stamps the row."""
        self.place.execute("UPDATE vm_allocations SET status = 'Released', released_at = 1 WHERE sid = ?", sid)

    def events(self, sid: str, tick: str | None = None) -> list[tuple[str, str | None, str | None]]:
        """The events of one sid as (event, outcome, reason), oldest first."""
        rows = self.place.query(
            "SELECT event, outcome, reason, tick FROM events WHERE sid = ? ORDER BY id",
            sid,
            database=self.place.journal,
        )
        return [(event, outcome, reason) for event, outcome, reason, of_tick in rows if tick in (None, of_tick)]

    def open_intents(self) -> set[str]:
        """The sids whose release was begun and whose end is unknown."""
        statement = "SELECT sid FROM attempts WHERE intent_at IS NOT NULL"
        return {sid for (sid,) in self.place.query(statement, database=self.place.journal)}

    def failed_ticks(self) -> dict[str, int]:
        """How often the journal has charged each sid."""
        return dict(self.place.query("SELECT sid, failed_ticks FROM attempts", database=self.place.journal))

    def past_ticks(self) -> list[dict[str, Any]]:
        """What the journal holds of each tick, oldest first."""
        columns = ("tick", "status", "exit_code", "admitted", "confirmable", "finished_at")
        rows = self.place.query(f"SELECT {', '.join(columns)} FROM ticks ORDER BY seq", database=self.place.journal)
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def has_durable_intent(self, allocation: Allocation) -> bool:
        """Whether another process would see that this release was begun."""
        [(count,)] = self.place.query(INTENT_IN_JOURNAL, allocation.sid, database=self.place.journal)
        return bool(count)

    def begin_and_lose(
        self,
        sid: str,
        *,
        expires_at: int = EXPIRED,
        provisioner: str = "default",
        vm_ref: str | None = None,
        run: str = "a-lost-tick",
        kind: TickKind = TickKind.TICK,
    ) -> None:
        """Leave an open intent, as a run does that dies within the call; the next tick finds that it was killed."""
        event = Event(
            step=Step.INTENT,
            at=self.now - timedelta(minutes=30),
            sid=sid,
            expires_at=datetime.fromtimestamp(expires_at, UTC),
            provisioner=provisioner,
            vm_ref=vm_ref or sid,
            intent=IntentChange.OPENED,
        )
        journal = self.open_journal()
        try:
            if run not in {past.start.tick for past in journal.ticks()}:
                journal.open_tick(replace(self.start(), tick=run, kind=kind), running=self.running)
            journal.record(run, [event])
        finally:
            journal.close()

    def note_miss(self, sid: str, *, run: str) -> None:
        """This run has written down a "not found", and nothing more of it."""
        event = Event(
            step=Step.MISS,
            at=self.now - timedelta(minutes=29),
            sid=sid,
            expires_at=datetime.fromtimestamp(EXPIRED, UTC),
            provisioner="default",
            vm_ref=sid,
            intent=IntentChange.MISSED,
        )
        journal = self.open_journal()
        try:
            journal.record(run, [event])
        finally:
            journal.close()

    def is_open_conflict(self, sid: str) -> bool:
        """Whether somebody is still to look at a conflict of this sid."""
        statement = "SELECT count(*) FROM attempts WHERE sid = ? AND conflict_at IS NOT NULL"
        [(count,)] = self.place.query(statement, sid, database=self.place.journal)
        return bool(count)


class Calls:
    """Counts by name, safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._most: defaultdict[str, int] = defaultdict(int)

    def add(self, name: str, change: int = 1) -> int:
        """Change one count; returns it."""
        with self._lock:
            self._counts[name] += change
            self._most[name] = max(self._most[name], self._counts[name])
            return self._counts[name]

    def count(self, name: str) -> int:
        """How often."""
        return self._counts[name]

    def most(self, name: str) -> int:
        """The highest that it ever was."""
        return self._most[name]
