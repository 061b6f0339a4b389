"""Whether a plan may be carried out at all: the limits that refuse a tick before it touches anything. Pure.

An anomaly is judged by facts, never by a mark that it was seen: what is refused once is refused again until the facts
change or an operator confirms.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from autorelease.model import PlanSummary, Refusal, rfc3339
from autorelease.rules.identities import Identities

CONFIRMABLE_FOR = timedelta(hours=24)
# A clock that is being set right moves a little.
BACKWARDS_TOLERATED = timedelta(minutes=5)
STEP_TOLERATED = timedelta(minutes=10)
REWOUND_FROM = 3
REWOUND_PART = 10
# How many of the journal's releases are looked up in the ledger.
REWOUND_WINDOW = 100
OTHER_LEDGER = "other_ledger"
CONFIRM = "confirm"


class Limits(msgspec.Struct, frozen=True):
    """The configured limits."""

    max_releases: int
    max_percent: int
    min_fleet: int
    max_clock_gap: timedelta = timedelta(days=7)


class Moment(msgspec.Struct, frozen=True):
    """When a plan is judged, and over which ledger.

    boot_id, boot_seconds: which boot of the machine this is, and how long ago it was (suspended time included); None:
    not known. ledger: which file and table.
    """

    now: datetime
    ledger: str | None = None
    boot_id: str | None = None
    boot_seconds: float | None = None


class Rewound(msgspec.Struct, frozen=True):
    """Of the journal's last releases, those whose rows still exist, and those that are live again as they were."""

    existing: int
    live_again: int


class Facts(msgspec.Struct, frozen=True):
    """What a plan is judged by, beside its numbers.

    anchor: the last tick that was admitted; None: there was none in this journal. is_hypothetical: `now` is a question
    ("what if it were then"), so that it says nothing about the clock.
    """

    moment: Moment
    anchor: Moment | None
    rewound: Rewound = Rewound(0, 0)
    is_hypothetical: bool = False


class LastRefusal(msgspec.Struct, frozen=True):
    """The newest tick of the journal, where it was a refusal (or ended with answers that could not be believed).

    count: the number that it named. codes: its reasons. rows: the identities of the rows that it is about; None: they
    were not written down.
    """

    finished_at: datetime
    count: int
    codes: frozenset[str]
    rows: Identities | None


def judge(plan: PlanSummary, limits: Limits, facts: Facts) -> Sequence[Refusal]:
    """The reasons to refuse this plan; none: it is admitted."""
    refusals = _judge_size(plan, limits, first_tick=facts.anchor is None)
    if facts.anchor is not None:
        if not facts.is_hypothetical:
            has_work = plan.first_tries + plan.repeats > 0
            refusals += _judge_clock(facts.moment, facts.anchor, limits.max_clock_gap, has_work=has_work)
        refusals += _judge_ledger(facts.moment, facts.anchor, facts.rewound)
    return refusals


def _judge_clock(moment: Moment, anchor: Moment, max_gap: timedelta, *, has_work: bool) -> list[Refusal]:
    since = moment.now - anchor.now
    last = f"the last admitted tick was at {rfc3339(anchor.now)}"
    if -since > BACKWARDS_TOLERATED:
        return [Refusal("clock_backwards", f"the clock says {rfc3339(moment.now)}, but {last}: check date -u")]
    refusals = []
    if since > max_gap and has_work:
        refusals.append(
            Refusal("clock_gap", f"{last}, {_words(since)} ago, the limit is {_words(max_gap)}: is the clock right?")
        )
    stepped = _stepped(moment, anchor)
    if stepped > STEP_TOLERATED:
        refusals.append(
            Refusal(
                "clock_stepped",
                f"since the last admitted tick the clock was put forward by {_words(stepped)}, measured against the "
                "time since boot: check date -u",
            )
        )
    return refusals


def _stepped(moment: Moment, anchor: Moment) -> timedelta:
    """How much further than the boot clock the wall clock went; nothing where that cannot be known."""
    if moment.boot_id is None or moment.boot_id != anchor.boot_id:
        return timedelta(0)
    if moment.boot_seconds is None or anchor.boot_seconds is None:
        return timedelta(0)
    return moment.now - anchor.now - timedelta(seconds=moment.boot_seconds - anchor.boot_seconds)


def _judge_ledger(moment: Moment, anchor: Moment, rewound: Rewound) -> list[Refusal]:
    refusals = []
    if anchor.ledger is not None and moment.ledger != anchor.ledger:
        refusals.append(
            Refusal(OTHER_LEDGER, f"this journal belongs to {anchor.ledger}, and the ledger is {moment.ledger}")
        )
    if rewound.live_again >= REWOUND_FROM and rewound.live_again * REWOUND_PART > rewound.existing:
        refusals.append(
            Refusal(
                "ledger_rewound",
                f"{rewound.live_again} of the last {rewound.existing} released rows are live again: an old backup of "
                "the ledger was restored, and renewals made since are lost as well",
            )
        )
    return refusals


def _words(duration: timedelta) -> str:
    hours = duration / timedelta(hours=1)
    return f"{hours / 24:.1f} d" if hours >= 48 else f"{hours:.1f} h"  # noqa: PLR2004 - two days


def _judge_size(plan: PlanSummary, limits: Limits, *, first_tick: bool) -> list[Refusal]:
    """Only first tries count: a repeat was admitted by an earlier tick. first_tick: nothing to compare with yet."""
    refusals = []
    if plan.first_tries > limits.max_releases:
        refusals.append(
            Refusal(
                "max_releases",
                f"{plan.first_tries} first releases are planned, the limit is {limits.max_releases}",
            )
        )
    judged = first_tick or plan.first_tries >= limits.min_fleet
    if judged and plan.first_tries * 100 > limits.max_percent * plan.live_rows:
        percent = 100 * plan.first_tries / plan.live_rows if plan.live_rows else 100
        refusals.append(
            Refusal(
                "max_percent",
                f"{plan.first_tries} of {plan.live_rows} live rows ({percent:.1f} %) would be released, "
                f"the limit is {limits.max_percent} %",
            )
        )
    return refusals


def reason_not_to_confirm(confirmed: int, last: LastRefusal | None, now: datetime) -> Refusal | None:
    """Why `--confirm N` does not answer the last refusal; None: it does.

    The answer holds for that refusal alone, of the last 24 hours, with the count that it named. So it cannot sit in a
    crontab.
    """
    if last is None:
        return _unconfirmable("the newest tick in the journal is not a refusal", answers_nothing=True)
    if not _is_recent(last, now):
        return _unconfirmable(f"the refusal of {rfc3339(last.finished_at)} is older than 24 h", answers_nothing=True)
    if confirmed != last.count:
        return _unconfirmable(f"the refusal named {last.count}, not {confirmed}")
    if last.rows is None:
        return _unconfirmable("that refusal did not write down which rows it was about: look again (--dry-run)")
    return None


def _is_recent(last: LastRefusal, now: datetime) -> bool:
    return timedelta(0) <= now - last.finished_at <= CONFIRMABLE_FOR


def reason_not_to_vouch(confirmed: int, last: LastRefusal | None, now: datetime) -> Refusal | None:
    """Why the `--confirm N` of an operator's release does not vouch for the misses of the one before; None: it does."""
    if last is None or last.codes:
        return _unconfirmable("the release before did not end with a 'not found' that was not believed")
    if not _is_recent(last, now):
        return _unconfirmable(f"the release of {rfc3339(last.finished_at)} is older than 24 h")
    if confirmed != last.count or last.rows is None:
        return _unconfirmable(f"the release before named {last.count}, not {confirmed}")
    return None


def judge_confirmed(
    covered: PlanSummary, planned: int, limits: Limits, facts: Facts, last: LastRefusal
) -> Sequence[Refusal]:
    """The reasons left to refuse once an operator has answered the last refusal.

    covered: of the plan, the rows that the refusal was about; planned: how many first tries it holds altogether.
    """
    if planned and not covered.first_tries:
        return [_unconfirmable("none of the rows that are planned now is one that the refusal was about")]
    return [refusal for refusal in judge(covered, limits, facts) if refusal.code not in last.codes]


def is_confirmable(refusals: Sequence[Refusal]) -> bool:
    """Whether the next tick can answer this refusal: not one that came of an answer to nothing.

    Else a --confirm that sits in a crontab would name its number itself, and answer it an hour later.
    """
    return not any(refusal.answers_nothing for refusal in refusals)


def _unconfirmable(why: str, *, answers_nothing: bool = False) -> Refusal:
    return Refusal("confirm", f"--confirm does not apply: {why}", answers_nothing)


def advice(plan: PlanSummary, refusals: Sequence[Refusal]) -> str:
    """What was planned and what to type, for the message of a refusal."""
    sids = ", ".join(plan.first_sids) + (", …" if plan.first_tries > len(plan.first_sids) else "")
    newest = f", the newest expired at {rfc3339(plan.newest_expires_at)}" if plan.newest_expires_at else ""
    # Where nothing but the --confirm itself was wrong, confirming that again would be no better.
    is_answerable = is_confirmable(refusals) and any(refusal.code != CONFIRM for refusal in refusals)
    confirmation = f" --confirm {plan.first_tries}" if is_answerable else ""
    return (
        f"Planned: {plan.first_tries} first releases ({sids or 'none'}){newest}. Nothing was touched. "
        f"Look: autorelease list-expired. If this is right: autorelease tick --once{confirmation}"
    )


def advice_on_misses(count: int, command: str = "autorelease tick --once") -> str:
    """What to type where so many answers "not found" were not believed. command: what is to be repeated."""
    return (
        f"{count} were not found, which is not believed, and their rows were left as they are. Look whether these VMs "
        f"are gone, and whether the provisioner looks in the right place. If they are gone: "
        f"{command} --confirm {count}"
    )
