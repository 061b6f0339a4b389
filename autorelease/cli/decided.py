"""What a tick would begin with, for the commands that only look: read, decided, and nothing changed."""

import logging
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from autorelease.cli.shared import clock
from autorelease.errors import UnusableError
from autorelease.model import rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from autorelease.deciding.decide import Decision
    from autorelease.deciding.judging import Judge, Records
    from autorelease.deciding.remembered import Memory
    from autorelease.journal import JournalReader
    from autorelease.ledger import Ledger
    from autorelease.model import Census
    from autorelease.rules.guard import Limits, Moment
    from autorelease.settings import Settings

logger = logging.getLogger(__name__)


def limits(settings: "Settings") -> "Limits":
    """The guard's limits, as configured."""
    from autorelease.rules.guard import Limits

    guard = settings.guard
    return Limits(guard.max_releases, guard.max_percent, guard.min_fleet, guard.max_clock_gap)


def judge_of(settings: "Settings", ledger: "Ledger", journal: "Records", now: "datetime") -> "Judge[Records]":
    """What judges, as configured."""
    from autorelease.deciding.judging import Judge

    release = settings.release
    names = frozenset(settings.provisioners)
    return Judge(ledger, journal, now, release.grace, release.hold_grace, provisioners=names)


def check_provisioners(settings: "Settings") -> None:
    """Raise ConfigurationError where a tick would; nothing is asked of any provisioner."""
    from autorelease.provisioners import check_provisioners as check

    check(settings.provisioners, settings.config, settings.release.timeout, stamps=settings.ledger.is_stamped)


@contextmanager
def opened(settings: "Settings") -> "Iterator[tuple[Ledger, JournalReader]]":
    """Ledger and journal, to be read; open for as long as the block runs."""
    from autorelease.journal import open_journal_reader
    from autorelease.ledger import open_ledger

    with ExitStack() as stack:
        ledger = open_ledger(settings, read_only=True)
        stack.callback(ledger.close)
        journal = open_journal_reader(settings)
        stack.callback(journal.close)
        yield ledger, journal


@contextmanager
def decided(
    settings: "Settings", at: "Moment", *, is_hypothetical: bool
) -> "Iterator[tuple[Ledger, JournalReader, Decision]]":
    """What a tick would begin with at that moment; ledger and journal stay open for as long as the block runs.

    Whoever shows the decision closes them before: nothing of ours may stand in the ledger's way while a pager waits.
    """
    from autorelease.deciding.decide import decide
    from autorelease.deciding.running import running

    with ExitStack() as stack:
        ledger, journal = stack.enter_context(opened(settings))
        judge = judge_of(settings, ledger, journal, at.now)
        decision = decide(
            judge,
            at,
            limits(settings),
            running=running(journal, clock()),
            is_hypothetical=is_hypothetical,
            audited=lambda census: _own_audit(judge, at.ledger, census),
        )
        stack.callback(decision.spool.close)
        _warn(decision.memory)
        yield ledger, journal, decision


def check_indexes(judge: "Judge[JournalReader]", ledger_name: str | None) -> None:
    """Raise UnusableError where the ledger's own indexes hide rows: what was looked up by them may be false.

    Of a ledger that is too large to be looked at now, what the last audit found of them is said. ledger_name: of the
    file and table.
    """
    from autorelease.deciding.remembered import name_of, recalled

    if _own_audit(judge, ledger_name, None) is None:
        _warn_of_problem(recalled(judge.journal.audited(name_of(judge.ledger, ledger_name))))


def _own_audit(judge: "Judge[JournalReader]", ledger_name: str | None, census: "Census | None") -> "Memory | None":
    from autorelease.deciding import audit
    from autorelease.deciding.remembered import name_of

    memory = audit.own_audit(judge, name_of(judge.ledger, ledger_name), audit.Clocks(clock), census)
    if memory is not None and memory.problem is not None:
        raise UnusableError(memory.problem)
    return memory


def _warn_of_problem(memory: "Memory") -> None:
    if memory.problem is not None:
        logger.warning("%s (the ledger was not looked at just now; %s)", memory.problem, _last_audit(memory))


def _warn(memory: "Memory") -> None:
    """Say how old the look at the whole ledger is that this rests on, where it was not made just now."""
    _warn_of_problem(memory)
    if memory.problem is None and not memory.is_own:
        logger.info("the whole ledger is too large to be looked at now; %s", _last_audit(memory))


def _last_audit(memory: "Memory") -> str:
    return f"its last audit ended at {rfc3339(memory.at)}" if memory.at else "no audit of it has come to its end yet"
