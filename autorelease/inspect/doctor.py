"""The whole installation, checked part by part: each comes to one line, with its remedy. Changes nothing.

A part that cannot be looked at is a line, too, and what rests on it is left out.
"""

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from datetime import timedelta
from shlex import quote

from autorelease.deciding.audit import Clocks, own_audit
from autorelease.deciding.decide import Decision, decide, moment_of
from autorelease.deciding.judging import Judge
from autorelease.deciding.remembered import name_of
from autorelease.deciding.running import running
from autorelease.errors import ConfigurationError, UnusableError
from autorelease.inspect import Check, State, at_second, audit, holds, in_words, page, table
from autorelease.inspect.health import PAGES, find_health
from autorelease.inspect.host import synchronisation, units
from autorelease.inspect.indexes import indexes
from autorelease.inspect.provisioners import CONFIGURATION, provisioners
from autorelease.inspect.statuses import COMPARED, spellings, statuses
from autorelease.journal import JournalReader, is_missing, open_journal_reader
from autorelease.ledger import Ledger, open_ledger, vocabulary
from autorelease.model import InvalidRow, PlanSummary
from autorelease.rules import guard
from autorelease.settings import Release, Settings
from autorelease.sqliteadvice import check_version, version_in_use

MAX_AGE = timedelta(hours=2)
MOST_REASONS = 5
MOST_SIDS = 5
REFUSED = page("Exit 7: the guard refused")
# What differs between two rows that are invalid for the same reason.
PARTICULARS = re.compile(r"'[^']*'|\"[^\"]*\"|\([^)]*\)|[0-9][0-9.:TZ+-]*")
# Nothing first, so that its size is nothing to judge, and yet something to be released.
SOME_WORK = PlanSummary(first_tries=0, repeats=1, skipped={}, live_rows=1)


def examine(settings: Settings, moment: guard.Moment, limits: guard.Limits) -> Iterator[Check]:
    """Check everything, in the order in which one thing rests on another."""
    yield Check("configuration", State.OK, f"{settings.config} is understood")
    yield _sqlite()
    with ExitStack() as stack:
        journal, checks = _journal(settings)
        stack.callback(journal.close)
        yield from checks
        yield from _ledger(settings, journal, moment, limits)
        yield _clock(journal, moment, limits)
    yield synchronisation()
    yield from provisioners(settings, moment)
    databases = (settings.ledger_path, settings.journal_path)
    yield from units(settings.release.timeout, settings.release.deadline, databases)
    yield _last_success(settings, moment)


def examine_without(error: ConfigurationError) -> Iterator[Check]:
    """What can be checked where the configuration cannot be used."""
    yield Check("configuration", State.FAIL, str(error), CONFIGURATION)
    yield _sqlite()
    yield synchronisation()
    yield from units(Release().timeout, Release().deadline)


def _sqlite() -> Check:
    try:
        check_version()
    except UnusableError as error:
        return Check("sqlite", State.FAIL, str(error), table.UNUSABLE)
    return Check("sqlite", State.OK, f"{version_in_use()}, as the sqlite3 module of {sys.executable} has it")


# --- journal ----------------------------------------------------------------------------------------------------------


def _journal(settings: Settings) -> tuple[JournalReader, Sequence[Check]]:
    """The journal, and what is to be said of it; where it cannot be read, one of nothing."""
    path = settings.journal_path
    if is_missing(path):
        remedy = f"autorelease init, but only after reading {page('The journal is lost')}"
        return _nothing(), [Check("journal", State.FAIL, f"{path}: there is no such journal", remedy)]
    try:
        # No connection to it may be open while its rights are looked at: see `is_wal`.
        open_journal_reader(settings).close()
        rights = table.rights(path, "journal", _service(settings))
        return open_journal_reader(settings), [Check("journal", State.OK, f"{path} can be read"), rights]
    except UnusableError as error:
        return _nothing(), [Check("journal", State.FAIL, str(error), table.UNUSABLE)]


def _nothing() -> JournalReader:
    from autorelease.journal.empty import EmptyJournal

    return EmptyJournal()


def _service(settings: Settings) -> int:
    """The user that the sweep runs as: whoever owns the journal; where it cannot be seen, whoever asks."""
    try:
        return settings.journal_path.stat().st_uid
    except OSError:
        return os.geteuid()


# --- ledger -----------------------------------------------------------------------------------------------------------


def _ledger(settings: Settings, journal: JournalReader, moment: guard.Moment, limits: guard.Limits) -> Iterator[Check]:
    try:
        # No connection to it may be open while its rights are looked at: see `is_wal`.
        open_ledger(settings, read_only=True).close()
        rights = table.rights(settings.ledger_path, "ledger", _service(settings))
        ledger = open_ledger(settings, read_only=True)
    except UnusableError as error:
        yield Check("ledger", State.FAIL, str(error), table.UNUSABLE)
        return
    try:
        yield Check("ledger", State.OK, f"{settings.ledger_path} has the table {settings.ledger.table!r}")
        yield rights
        yield from _rows(settings, ledger, journal, moment, limits)
    except UnusableError as error:
        yield Check("plan", State.FAIL, str(error), table.UNUSABLE)
    finally:
        ledger.close()


def _rows(
    settings: Settings, ledger: Ledger, journal: JournalReader, moment: guard.Moment, limits: guard.Limits
) -> Iterator[Check]:
    words = vocabulary(settings)
    counted = ledger.statuses(COMPARED)
    yield statuses(counted, words, shows_released=not ledger.shape().is_view)
    yield spellings(counted, words)
    yield table.columns(ledger, settings)
    yield from indexes(ledger, counted, words, moment.now, settings)
    release = settings.release
    names = frozenset(settings.provisioners)
    judge = Judge(ledger, journal, moment.now, release.grace, release.hold_grace, provisioners=names)
    name = name_of(ledger, moment.ledger)
    decision = decide(
        judge,
        moment,
        limits,
        running=running(journal, moment.now),
        audited=lambda census: own_audit(judge, name, Clocks(lambda: moment.now), census),
    )
    with closing(decision.spool):
        unserved = decision.spool.unserved(MOST_REASONS)
    yield from _unserved(unserved)
    yield audit.check(journal.audited(name), decision.memory, moment.now, settings.ledger.audit_every)
    yield _invalid(decision)
    yield _conflicts(decision)
    yield holds.check(holds.find_holds(ledger, journal, moment.now, release.hold_grace), moment.now)
    yield _guard(decision)


def _invalid(decision: Decision) -> Check:
    live, acknowledged = decision.census.rows_examined, decision.seen.rows_acknowledged
    if not decision.rows_invalid:
        rest = ": of those whose time has not come, none when last audited" if decision.census.is_quick else ""
        return Check("invalid rows", State.OK, f"none of {live} live rows{rest}")
    by_reason: dict[str, list[InvalidRow]] = {}
    for row in decision.invalid:
        by_reason.setdefault(PARTICULARS.sub("", row.reason), []).append(row)
    most = sorted(by_reason.values(), key=len, reverse=True)
    listed = "; ".join(f"{len(rows)} like {rows[0].sid}: {rows[0].reason}" for rows in most[:MOST_REASONS])
    more = "; …" if len(most) > MOST_REASONS or decision.rows_invalid > len(decision.invalid) else ""
    message = f"{decision.rows_invalid} of {live} live rows, {acknowledged} of them held: {listed}{more}"
    if decision.rows_invalid <= acknowledged:
        return Check("invalid rows", State.OK, message)
    return Check("invalid rows", State.WARN, message, f"autorelease list-expired --all; {page('An invalid row')}")


def _unserved(unserved: Mapping[str, int]) -> Iterator[Check]:
    """The provisioners that expired rows name, and that there are none of."""
    for name, count in unserved.items():
        message = f"{count} expired rows name it, and the configuration has no section [provisioners.{name}]"
        remedy = f"add the section, or put the rows right: autorelease list-expired --all; {page(PAGES[8])}"
        yield Check(f"provisioner {name}", State.FAIL, message, remedy)


def _conflicts(decision: Decision) -> Check:
    found = [finding.allocation.sid for _, finding in decision.unfinished.conflicts]
    if not found:
        return Check("conflicts", State.OK, "none is open")
    sids = ", ".join(found[:MOST_SIDS]) + (", …" if len(found) > MOST_SIDS else "")
    message = f"{len(found)} open ({sids}): the VM may be gone while its owner pays"
    named = " ".join(map(quote, found[:MOST_SIDS]))
    remedy = f"look at each VM, then: autorelease retry {named}; {page('A conflict')}"
    return Check("conflicts", State.WARN, message, remedy)


def _guard(decision: Decision) -> Check:
    planned = f"{decision.summary.first_tries} to release for the first time, {decision.summary.repeats} again"
    if not decision.refusals:
        return Check("guard", State.OK, f"would admit a tick now: {planned}")
    reasons = "; ".join(f"{refusal.code}: {refusal.message}" for refusal in decision.refusals)
    return Check("guard", State.WARN, f"would refuse a tick now: {reasons}", f"autorelease list-expired; {REFUSED}")


# --- clock, last success ----------------------------------------------------------------------------------------------


def _clock(journal: JournalReader, moment: guard.Moment, limits: guard.Limits) -> Check:
    """The clock against the last admitted tick, and against the time since boot, as the guard would judge it."""
    try:
        last = journal.last_admitted_tick()
    except UnusableError as error:
        return Check("clock", State.WARN, f"nothing to compare with: {error}", table.UNUSABLE)
    if last is None:
        return Check("clock", State.OK, f"{at_second(moment.now)}; no admitted tick to compare it with")
    refusals = guard.judge(SOME_WORK, limits, guard.Facts(moment, moment_of(last.start)))
    reasons = "; ".join(
        f"{refusal.code}: {refusal.message}" for refusal in refusals if refusal.code.startswith("clock_")
    )
    if reasons:
        return Check("clock", State.FAIL, reasons, f"date -u; {REFUSED}")
    since = in_words(moment.now - last.start.now)
    return Check("clock", State.OK, f"{at_second(moment.now)}, {since} after the last admitted tick began")


def _last_success(settings: Settings, moment: guard.Moment) -> Check:
    name = "last success"
    health = find_health(settings, moment.now, max_age=MAX_AGE, max_overdue=MAX_AGE)
    problems = {problem.code: problem for problem in health.problems}
    problem = problems.get("journal") or problems.get("stale")
    if problem is None:
        ended = health.swept.finished_at if health.swept else None
        return Check(name, State.OK, f"a tick ran through and ended at {at_second(ended) if ended else 'no time'}")
    if problem.code == "stale" and health.newest is None:
        remedy = f"autorelease list-expired; {page('Run it now')}"
        return Check(name, State.WARN, "no tick has been run yet", remedy)
    return Check(name, State.FAIL, problem.message, f"autorelease health; {problem.remedy}")
