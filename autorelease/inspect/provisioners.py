"""The doctor's look at the provisioners: whether each can be used, and whether its "not found" would be believed.

They are asked for what changes nothing: their preflight, what they are known by, and VMs that must be there.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import timedelta
from itertools import groupby

from autorelease.deciding.control import ask_control
from autorelease.deciding.judging import Judge
from autorelease.errors import ConfigurationError, UnusableError
from autorelease.inspect import Check, State, at_second, page
from autorelease.inspect.fingerprints import changes, spelled
from autorelease.inspect.health import PAGES
from autorelease.journal import JournalReader, open_journal_reader
from autorelease.ledger import open_ledger
from autorelease.limits import ABANDONED_AFTER
from autorelease.model import Answer
from autorelease.provisioners import Identifying, Registered, calls, open_provisioners
from autorelease.rules import guard
from autorelease.rules.belief import WINDOW, Control, Standing, disbelief
from autorelease.settings import Settings

CONFIGURATION = page("Exit 4: configuration")
BELIEVED = page(PAGES[8])


def provisioners(settings: Settings, moment: guard.Moment) -> Iterator[Check]:
    """A line for each of them."""
    try:
        found = open_provisioners(
            settings.provisioners, settings.config, settings.release.timeout, stamps=settings.ledger.is_stamped
        )
    except ConfigurationError as error:
        yield Check("provisioners", State.FAIL, str(error), CONFIGURATION)
        return
    limit = _limit(settings)
    for name, problem in calls.preflights(found, limit).items():
        if problem is None:
            yield _control(settings, moment, name, found[name])
        else:
            yield Check(f"provisioner {name}", State.FAIL, problem, BELIEVED)
    calls.close_all([registered.provisioner for registered in found.values()], limit)


def examine_provisioner(settings: Settings, moment: guard.Moment, name: str) -> Iterator[Check]:
    """One of them alone, which the configuration has: all that a tick judges its answers by."""
    try:
        opened = open_provisioners(
            {name: settings.provisioners[name]},
            settings.config,
            settings.release.timeout,
            stamps=settings.ledger.is_stamped,
        )
    except ConfigurationError as error:
        yield Check("options", State.FAIL, str(error), CONFIGURATION)
        return
    registered = opened[name]
    limit = _limit(settings)
    yield Check("options", State.OK, f"[provisioners.{name}] of {settings.config} is understood")
    problem = calls.why_unusable(registered.provisioner, limit)
    if problem is None:
        yield Check("preflight", State.OK, "it can be used")
        yield from _standing(settings, name, registered)
        yield _control(settings, moment, name, registered)
    else:
        yield Check("preflight", State.FAIL, problem, BELIEVED)
    calls.close(registered.provisioner, limit)


def _limit(settings: Settings) -> timedelta:
    return settings.release.timeout + ABANDONED_AFTER


# --- whether it finds VMs that must be there --------------------------------------------------------------------------


def _control(settings: Settings, moment: guard.Moment, name: str, registered: Registered) -> Check:
    """Whether it finds VMs that are paid for, where it can be asked: else a tick would believe none of its misses."""
    check = f"provisioner {name}"
    try:
        control = _asked(settings, moment, name, registered)
    except UnusableError as error:
        return Check(check, State.OK, f"can be used; it was not asked for VMs that must be there: {error}")
    if control is None:
        return Check(check, State.OK, "can be used; it cannot be asked whether a VM is there")
    if control.lost is not None:
        message = f"does not find the VM of {control.lost}, which is paid for ({control.why}): is this the right place?"
        return Check(check, State.FAIL, message, BELIEVED)
    if control.asked == 0:
        return Check(check, State.OK, "can be used; no row is paid for by whose VM it could be tried")
    return Check(check, State.OK, f"can be used, and finds the {control.asked} VMs that it was asked for")


def _asked(settings: Settings, moment: guard.Moment, name: str, registered: Registered) -> Control | None:
    with ExitStack() as stack:
        ledger = open_ledger(settings, read_only=True)
        stack.callback(ledger.close)
        journal = open_journal_reader(settings)
        stack.callback(journal.close)
        judge = Judge(ledger, journal, moment.now, settings.release.grace, settings.release.hold_grace)
        return ask_control(judge, name, registered.provisioner, _limit(settings))


# --- what its answers are worth ---------------------------------------------------------------------------------------


def _standing(settings: Settings, name: str, registered: Registered) -> Iterator[Check]:
    fingerprint = calls.fingerprints({name: registered}, _limit(settings)).get(name)
    if fingerprint is None:
        yield _unknown(registered)
        return
    try:
        journal = open_journal_reader(settings)
    except UnusableError as error:
        yield Check("known by", State.OK, spelled(fingerprint))
        yield Check("credit", State.WARN, f"nobody can say: {error}", page("Exit 5: ledger or journal unusable"))
        return
    try:
        yield from _earned(settings, journal, fingerprint)
    finally:
        journal.close()


def _unknown(registered: Registered) -> Check:
    if isinstance(registered.provisioner, Identifying):
        message = "nothing: none of its answers earns belief, so that a 'not found' of it is never believed"
    else:
        message = "nothing: it has no `fingerprint`, so that a 'not found' of it is never believed"
    return Check("known by", State.OK, message)


def _earned(settings: Settings, journal: JournalReader, fingerprint: str) -> Iterator[Check]:
    earned = journal.credits()
    yield Check("known by", State.OK, spelled(fingerprint))
    since = dict(earned).get(fingerprint)
    if since is not None:
        yield Check(
            "credit", State.OK, f"it has released something as it is configured now, first at {at_second(since)}"
        )
    else:
        message = "it has released nothing yet as it is configured now, so that no 'not found' of it is believed"
        changed = changes(fingerprint, earned)
        remedy = f"the next release of a VM that is there earns it; {BELIEVED}"
        yield Check("credit", State.WARN, f"{message}{f'; {changed}' if changed else ''}", remedy)
    yield _answers(journal.recent_answers(fingerprint, WINDOW), settings.guard.max_gone_percent, has_credit=bool(since))


def _answers(answers: Sequence[Answer], max_gone_percent: int, *, has_credit: bool) -> Check:
    """The last answers, and what they alone would make of a "not found" that came now, beside other answers."""
    if not answers:
        return Check("last answers", State.OK, "none under what it is known by now")
    runs = ", ".join(f"{len(list(run))} {answer}" for answer, run in groupby(answers))
    message = f"the newest first: {runs}"
    reason = disbelief(Standing(has_credit, answers, (Answer.RELEASED,)), max_gone_percent) if has_credit else None
    if reason is None:
        return Check("last answers", State.OK, message)
    return Check("last answers", State.WARN, f"{message}; a 'not found' would not be believed: {reason}", BELIEVED)
