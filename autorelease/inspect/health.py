"""Whether the sweep is alive, judged by the journal alone: monitoring asks, as a user who may do nothing but read it.

Each thing that is wrong has a code, a message and a remedy.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import asdict, replace

from autorelease.errors import ExitCode, UnusableError
from autorelease.inspect import at_second, in_words, page
from autorelease.inspect.holds import in_a_sentence, releases_from
from autorelease.journal import JournalReader, PastTick
from autorelease.limits import LOCK_SLACK
from autorelease.model import ErrorCode, Hold, rfc3339
from autorelease.rules.guard import BACKWARDS_TOLERATED
from autorelease.rules.plan import HARMLESS, earliest_end_in_force, is_held

if TYPE_CHECKING:
    from autorelease.settings import Settings

NOT_ALL_WELL = "Exit 3: not all is well"
PAGES: Mapping[int, str] = {
    ExitCode.BUG: "Exit 1: a bug",
    ExitCode.UNUSABLE: "Exit 5: ledger or journal unusable",
    ExitCode.REFUSED: "Exit 7: the guard refused",
    ExitCode.PROVISIONER_DOWN: "Exit 8: a provisioner is down",
    ExitCode.HUNG_UP: "Exit 129: hung up",
    ExitCode.INTERRUPTED: "Exit 130: interrupted",
    ExitCode.TERMINATED: "Exit 143: terminated",
}


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong, and what to do about it."""

    code: str
    message: str
    remedy: str


class Pause(msgspec.Struct, frozen=True):
    """The hold of everything, in force or in its grace. first: before when no tick releases anything; None: unknown."""

    hold: Hold
    first: datetime | None


class Health(msgspec.Struct, frozen=True):
    """What the journal says of the sweep.

    newest: the last tick that was begun. swept: the last that ran through. overdue: how long an expired VM may have
    been waiting; None: no tick has counted yet. conflicts: those that nobody has acknowledged. paused: that is no
    problem, but somebody's decision.
    """

    problems: tuple[Problem, ...]
    newest: PastTick | None = None
    swept: PastTick | None = None
    overdue: timedelta | None = None
    quarantined: int = 0
    conflicts: int = 0
    unproven: int = 0
    paused: Pause | None = None


def find_health(settings: "Settings", now: datetime, *, max_age: timedelta, max_overdue: timedelta) -> Health:
    """Open the configured journal, which may be missing, and judge it."""
    from autorelease.journal import is_missing, open_journal_reader

    path = settings.journal_path
    if is_missing(path):
        return without_journal(f"{path}: there is no such journal", "The journal is lost")
    try:
        journal = open_journal_reader(settings)
    except UnusableError as error:
        return without_journal(str(error))
    try:
        grace = settings.release.hold_grace
        return judge(journal, now, max_age=max_age, max_overdue=max_overdue, hold_grace=grace)
    finally:
        journal.close()


def judge(
    journal: JournalReader,
    now: datetime,
    *,
    max_age: timedelta,
    max_overdue: timedelta,
    hold_grace: timedelta = timedelta(0),
) -> Health:
    """Look at the newest ticks and at what is open. max_age: since a tick last ran through.

    A journal that cannot be read is a problem like others.
    """
    try:
        return _judge(journal, now, max_age, max_overdue, hold_grace)
    except UnusableError as error:
        return without_journal(str(error))


def without_journal(message: str, heading: str = PAGES[ExitCode.UNUSABLE]) -> Health:
    """The health of a sweep whose journal is missing, or cannot be read. heading: of the page of the runbook."""
    return Health((Problem("journal", message, page(heading)),))


def _judge(
    journal: JournalReader, now: datetime, max_age: timedelta, max_overdue: timedelta, hold_grace: timedelta
) -> Health:
    newest, swept, counted = journal.newest_tick(), journal.last_swept_tick(), journal.last_counted_tick()
    report = (counted.report if counted else None) or {}
    health = Health(
        problems=(),
        newest=newest,
        swept=swept,
        overdue=_left_overdue(report) + _since(counted.start.now, now) if counted else None,
        quarantined=report.get("rows_quarantined", 0),
        conflicts=sum(intent.is_known_conflict for intent in journal.open_intents()),
        unproven=_errors(report, ErrorCode.UNPROVEN),
        paused=_find_pause(journal, now, hold_grace),
    )
    if health.paused is not None and health.overdue is not None:
        # What is held is not overdue, also where no tick has seen the hold yet.
        health = replace(health, overdue=timedelta(0))
    found = [
        _clock(newest, now),
        _hanging(newest, now),
        _stale(health, now, max_age),
        _refused(report),
        _overdue(health.overdue, max_overdue),
        *_left_open(health),
    ]
    return replace(health, problems=tuple(problem for problem in found if problem is not None))


def _find_pause(journal: JournalReader, now: datetime, hold_grace: timedelta) -> Pause | None:
    for hold in journal.holds(earliest_end_in_force(now, hold_grace)):
        if hold.scope == "all" and is_held(hold, now, hold_grace):
            return Pause(hold, releases_from(hold, hold_grace))
    return None


def _since(instant: datetime, now: datetime) -> timedelta:
    return max(now - instant, timedelta(0))


def _left_overdue(report: Mapping[str, Any]) -> timedelta:
    """The longest wait of what a tick left behind; the report's own number counts what it released, too."""
    skipped = sum(count for reason, count in report["skipped"].items() if reason not in HARMLESS)
    failed = report["rows_failed"] - _errors(report, ErrorCode.CONFLICT)
    is_any_left = report["rows_pending"] + skipped + failed > 0
    return timedelta(seconds=report["oldest_overdue_seconds"]) if is_any_left else timedelta(0)


def _errors(report: Mapping[str, Any], code: ErrorCode) -> int:
    return sum(error["code"] == code for error in report.get("errors", ()))


def _clock(newest: PastTick | None, now: datetime) -> Problem | None:
    if newest is None or newest.start.started_at - now <= BACKWARDS_TOLERATED:
        return None
    message = f"the newest tick was begun at {at_second(newest.start.started_at)}, which is still to come"
    return Problem("clock", message, f"date -u; {page(PAGES[ExitCode.REFUSED])}")


def _hanging(newest: PastTick | None, now: datetime) -> Problem | None:
    if newest is None or newest.finished_at is not None or now <= newest.start.ends_by + LOCK_SLACK:
        return None
    start = newest.start
    message = (
        f"tick {start.tick} (pid {start.pid} on {start.host}) should have ended by {at_second(start.ends_by)} and has "
        "not: it hangs, or it was killed and no other has begun since"
    )
    return Problem("hanging", message, f"systemctl status autorelease.service; {page(PAGES[ExitCode.UNUSABLE])}")


def _stale(health: Health, now: datetime, max_age: timedelta) -> Problem | None:
    ended = health.swept.finished_at if health.swept else None
    if ended is not None and now - ended <= max_age:
        return None
    last = f"the last one ended at {at_second(ended)}" if ended else "none ever has"
    message = f"no tick has run through in the last {in_words(max_age)}: {last}"
    newest = health.newest
    if newest is None or newest.exit_code is None or (health.swept and newest.start.tick == health.swept.start.tick):
        return Problem("stale", message, f"systemctl list-timers autorelease.timer; {page('Is it healthy?')}")
    message += f"; the newest ended with exit code {newest.exit_code}"
    return Problem("stale", message, page(PAGES.get(newest.exit_code, "Exit codes")))


def _refused(report: Mapping[str, Any]) -> Problem | None:
    if not report.get("refused"):
        return None
    reasons = "; ".join(f"{refusal['code']}: {refusal['message']}" for refusal in report["refused"])
    return Problem("refused", f"the guard refuses: {reasons}", page(PAGES[ExitCode.REFUSED]))


def _overdue(overdue: timedelta | None, limit: timedelta) -> Problem | None:
    if overdue is None or overdue <= limit:
        return None
    message = f"an expired VM may have been waiting for {in_words(overdue)}, the limit is {in_words(limit)}"
    return Problem("overdue", message, f"autorelease list-expired --all; {page(NOT_ALL_WELL)}")


def _left_open(health: Health) -> Iterator[Problem]:
    if health.quarantined:
        message = f"{health.quarantined} in quarantine: failed so often that each is tried once a day"
        yield Problem("quarantined", message, f"autorelease list-expired --all; {page(NOT_ALL_WELL)}")
    if health.conflicts:
        message = f"{health.conflicts} in conflict: the VM may be gone while its owner pays"
        yield Problem("conflict", message, f"autorelease list-expired --all; {page('A conflict')}")
    if health.unproven:
        message = f"{health.unproven} unproven: a provisioner says 'not found', and that is not believed"
        yield Problem("unproven", message, page(PAGES[ExitCode.PROVISIONER_DOWN]))


def lines(health: Health, now: datetime) -> Iterator[str]:
    """For people and their monitoring: one line for each problem; one where there is none."""
    yield from (f"{problem.code}: {problem.message}. Do: {problem.remedy}" for problem in health.problems)
    if health.paused is not None:
        first = health.paused.first
        more = f"; no tick before {rfc3339(first)} releases anything" if first else ""
        yield f"paused: {in_a_sentence(health.paused.hold, now)}{more}"
    if not health.problems and health.swept is not None and health.swept.finished_at is not None:
        yield f"healthy: the last tick ran through, and ended at {at_second(health.swept.finished_at)}"


def health_object(health: Health, now: datetime) -> dict[str, Any]:
    """The object of `health --format json`; its JSON Schema is docs/schema/health.json."""
    return {
        "schema": "autorelease.health/1",
        "now": rfc3339(now),
        "healthy": not health.problems,
        "problems": [asdict(problem) for problem in health.problems],
        "newest_tick": _tick_object(health.newest),
        "swept_tick": _tick_object(health.swept),
        "overdue_seconds": None if health.overdue is None else int(health.overdue.total_seconds()),
        "rows_quarantined": health.quarantined,
        "conflicts": health.conflicts,
        "unproven": health.unproven,
        "paused": _pause_object(health.paused) if health.paused else None,
    }


def _pause_object(pause: Pause) -> dict[str, Any]:
    hold = pause.hold
    return {
        "since": rfc3339(hold.held_at),
        "until": rfc3339(hold.ends_at) if hold.ends_at else None,
        "releases_from": rfc3339(pause.first) if pause.first else None,
        "by": hold.actor,
        "reason": hold.reason,
    }


def _tick_object(past: PastTick | None) -> dict[str, Any] | None:
    if past is None:
        return None
    return {
        "tick": past.start.tick,
        "started_at": rfc3339(past.start.started_at),
        "finished_at": rfc3339(past.finished_at) if past.finished_at else None,
        "exit_code": past.exit_code,
    }
