"""The whole installation, checked part by part: each comes to one line, with its remedy. Changes nothing.

A part that cannot be looked at is a line, too, and what rests on it is left out.
"""

import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import timedelta
from shlex import quote

from autorelease.deciding.audit import Clocks, name_of, own_audit
from autorelease.deciding.control import ask_control
from autorelease.deciding.decide import Decision, decide, moment_of
from autorelease.deciding.judging import Judge
from autorelease.deciding.running import running
from autorelease.errors import ConfigurationError, UnusableError
from autorelease.inspect import Check, State, audit, in_words, page, table
from autorelease.inspect.health import PAGES, find_health
from autorelease.inspect.host import synchronisation, units
from autorelease.journal import JournalReader, is_missing, open_journal_reader
from autorelease.ledger import Ledger, open_ledger, vocabulary
from autorelease.limits import ABANDONED_AFTER
from autorelease.model import InvalidRow, PlanSummary, rfc3339
from autorelease.provisioners import Registered, calls, open_provisioners
from autorelease.rules import guard
from autorelease.settings import Release, Settings
from autorelease.sqliteadvice import check_version, version_in_use

MAX_AGE = timedelta(hours=2)
MOST_REASONS = 5
MOST_SIDS = 5
CONFIGURATION = page("Exit 4: configuration")
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
        journal = _opened_journal(settings)
        if isinstance(journal, Check):
            yield journal
            journal = _nothing()
        else:
            yield Check("journal", State.OK, f"{settings.journal_path} can be read")
            yield table.rights(settings.journal_path, "journal", _service(settings))
        stack.callback(journal.close)
        yield from _ledger(settings, journal, moment, limits)
        yield _clock(journal, moment, limits)
    yield synchronisation()
    yield from _provisioners(settings, moment)
    databases = (settings.ledger_path, settings.journal_path)
    yield from units(settings.release.timeout, settings.release.deadline, databases)
    yield _last_success(settings, moment)


def examine_without(error: ConfigurationError) -> Iterator[Check]:
    """What can be checked where the configuration cannot be used."""
    yield Check("configuration", State.FAIL, str(error), CONFIGURATION)
    yield _sqlite()
    yield synchronisation()
    yield from units(Release().timeout, Release().deadline)


def has_failed(checks: Sequence[Check]) -> bool:
    """Whether one of them is a fail."""
    return any(check.state is State.FAIL for check in checks)


def _sqlite() -> Check:
    try:
        check_version()
    except UnusableError as error:
        return Check("sqlite", State.FAIL, str(error), table.UNUSABLE)
    return Check("sqlite", State.OK, f"{version_in_use()}, as the sqlite3 module of {sys.executable} has it")


# --- journal ----------------------------------------------------------------------------------------------------------


def _opened_journal(settings: Settings) -> JournalReader | Check:
    path = settings.journal_path
    if is_missing(path):
        remedy = f"autorelease init, but only after reading {page('The journal is lost')}"
        return Check("journal", State.FAIL, f"{path}: there is no such journal", remedy)
    try:
        return open_journal_reader(settings)
    except UnusableError as error:
        return Check("journal", State.FAIL, str(error), table.UNUSABLE)


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
        ledger = open_ledger(settings, read_only=True)
    except UnusableError as error:
        yield Check("ledger", State.FAIL, str(error), table.UNUSABLE)
        return
    try:
        yield Check("ledger", State.OK, f"{settings.ledger_path} has the table {settings.ledger.table!r}")
        yield table.rights(settings.ledger_path, "ledger", _service(settings))
        yield from _rows(settings, ledger, journal, moment, limits)
    except UnusableError as error:
        yield Check("plan", State.FAIL, str(error), table.UNUSABLE)
    finally:
        ledger.close()


def _rows(
    settings: Settings, ledger: Ledger, journal: JournalReader, moment: guard.Moment, limits: guard.Limits
) -> Iterator[Check]:
    words = vocabulary(settings)
    yield table.statuses(ledger, words)
    yield table.columns(ledger, settings)
    yield table.index(ledger, words, moment.now, settings)
    release = settings.release
    judge = Judge(ledger, journal, moment.now, release.grace, release.hold_grace)
    name = name_of(ledger, moment.ledger)
    memory = own_audit(judge, name, Clocks(lambda: moment.now))
    decision = decide(judge, moment, limits, running=running(journal, moment.now), memory=memory)
    decision.spool.close()
    yield audit.check(journal.audited(name), decision.memory, moment.now, settings.ledger.audit_every)
    yield _invalid(decision)
    yield _conflicts(decision)
    yield _guard(decision)


def _invalid(decision: Decision) -> Check:
    live, acknowledged = decision.census.rows_examined, decision.seen.rows_acknowledged
    if not decision.rows_invalid:
        return Check("invalid rows", State.OK, f"none of {live} live rows")
    by_reason: dict[str, list[InvalidRow]] = {}
    for row in decision.invalid:
        by_reason.setdefault(PARTICULARS.sub("", row.reason), []).append(row)
    most = sorted(by_reason.values(), key=len, reverse=True)
    told = "; ".join(f"{len(rows)} like {rows[0].sid}: {rows[0].reason}" for rows in most[:MOST_REASONS])
    more = "; …" if len(most) > MOST_REASONS or decision.rows_invalid > len(decision.invalid) else ""
    message = f"{decision.rows_invalid} of {live} live rows, {acknowledged} of them held: {told}{more}"
    if decision.rows_invalid <= acknowledged:
        return Check("invalid rows", State.OK, message)
    return Check("invalid rows", State.WARN, message, f"autorelease list-expired --all; {page('An invalid row')}")


def _conflicts(decision: Decision) -> Check:
    found = [finding.allocation.sid for _, finding in decision.unfinished.conflicts]
    if not found:
        return Check("conflicts", State.OK, "none is open")
    sids = ", ".join(found[:MOST_SIDS]) + (", …" if len(found) > MOST_SIDS else "")
    message = f"{len(found)} open ({sids}): the VM may be gone while its owner pays"
    remedy = f"look at the VM, then: autorelease retry {quote(found[0])}; {page('A conflict')}"
    return Check("conflicts", State.WARN, message, remedy)


def _guard(decision: Decision) -> Check:
    planned = f"{decision.summary.first_tries} to release for the first time, {decision.summary.repeats} again"
    if not decision.refusals:
        return Check("guard", State.OK, f"would admit a tick now: {planned}")
    reasons = "; ".join(f"{refusal.code}: {refusal.message}" for refusal in decision.refusals)
    return Check("guard", State.WARN, f"would refuse a tick now: {reasons}", f"autorelease list-expired; {REFUSED}")


# --- clock, provisioners, last success --------------------------------------------------------------------------------


def _clock(journal: JournalReader, moment: guard.Moment, limits: guard.Limits) -> Check:
    """The clock against the last admitted tick, and against the time since boot, as the guard would judge it."""
    try:
        last = journal.last_admitted_tick()
    except UnusableError as error:
        return Check("clock", State.WARN, f"nothing to compare with: {error}", table.UNUSABLE)
    if last is None:
        return Check("clock", State.OK, f"{rfc3339(moment.now)}; no admitted tick to compare it with")
    refusals = guard.judge(SOME_WORK, limits, guard.Facts(moment, moment_of(last.start)))
    told = "; ".join(f"{refusal.code}: {refusal.message}" for refusal in refusals if refusal.code.startswith("clock_"))
    if told:
        return Check("clock", State.FAIL, told, f"date -u; {REFUSED}")
    since = in_words(moment.now - last.start.now)
    return Check("clock", State.OK, f"{rfc3339(moment.now)}, {since} after the last admitted tick began")


def _provisioners(settings: Settings, moment: guard.Moment) -> Iterator[Check]:
    try:
        found = open_provisioners(
            settings.provisioners, settings.config, settings.release.timeout, stamps=settings.ledger.is_stamped
        )
    except ConfigurationError as error:
        yield Check("provisioners", State.FAIL, str(error), CONFIGURATION)
        return
    limit = settings.release.timeout + ABANDONED_AFTER
    for name, registered in found.items():
        problem = calls.why_unusable(registered.provisioner, limit)
        if problem is None:
            yield _control(settings, moment, name, registered)
        else:
            yield Check(f"provisioner {name}", State.FAIL, problem, page(PAGES[8]))
        calls.close(registered.provisioner, limit)


def _control(settings: Settings, moment: guard.Moment, name: str, registered: Registered) -> Check:
    """Whether it finds VMs that are paid for, where it can be asked: else a tick would believe none of its misses."""
    check = f"provisioner {name}"
    limit = settings.release.timeout + ABANDONED_AFTER
    try:
        with ExitStack() as stack:
            ledger = open_ledger(settings, read_only=True)
            stack.callback(ledger.close)
            journal = open_journal_reader(settings)
            stack.callback(journal.close)
            judge = Judge(ledger, journal, moment.now, settings.release.grace, settings.release.hold_grace)
            control = ask_control(judge, name, registered.provisioner, limit)
    except UnusableError as error:
        return Check(check, State.OK, f"can be used; it was not asked for VMs that must be there: {error}")
    if control is None:
        return Check(check, State.OK, "can be used; it cannot be asked whether a VM is there")
    if control.lost is not None:
        message = f"does not find the VM of {control.lost}, which is paid for ({control.why}): is this the right place?"
        return Check(check, State.FAIL, message, page(PAGES[8]))
    return Check(check, State.OK, f"can be used, and finds the {control.asked} VMs that it was asked for")


def _last_success(settings: Settings, moment: guard.Moment) -> Check:
    name = "last success"
    health = find_health(settings, moment.now, max_age=MAX_AGE, max_overdue=MAX_AGE)
    problems = {problem.code: problem for problem in health.problems}
    problem = problems.get("journal") or problems.get("stale")
    if problem is None:
        ended = health.swept.finished_at if health.swept else None
        return Check(name, State.OK, f"a tick ran through and ended at {rfc3339(ended) if ended else 'no time'}")
    if problem.code == "stale" and health.newest is None:
        remedy = f"autorelease list-expired; {page('Run it now')}"
        return Check(name, State.WARN, "no tick has been run yet", remedy)
    return Check(name, State.FAIL, problem.message, f"autorelease health; {problem.remedy}")
