"""Whether a plan may be carried out at all: the limits that refuse a tick before it touches anything. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from autorelease.model import PlanSummary, Refusal, rfc3339

CONFIRMABLE_FOR = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Limits:
    """The configured limits."""

    max_releases: int
    max_percent: int
    min_fleet: int


@dataclass(frozen=True, slots=True)
class LastRefusal:
    """The newest tick of the journal, where it was a refusal (or ended with answers that could not be believed).

    count: the number that it named. codes: its reasons.
    """

    finished_at: datetime
    count: int
    codes: frozenset[str]


def judge(plan: PlanSummary, limits: Limits, *, first_tick: bool) -> Sequence[Refusal]:
    """The reasons to refuse this plan; none: it is admitted.

    Only first tries count: a repeat was admitted by an earlier tick. first_tick: none was admitted in this journal yet.
    """
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


def judge_confirmed(
    plan: PlanSummary, refusals: Sequence[Refusal], confirmed: int, last: LastRefusal | None, now: datetime
) -> Sequence[Refusal]:
    """The reasons left to refuse once an operator has answered the last refusal with `--confirm N`.

    The answer holds for that refusal alone: of the last 24 hours, with the count that it named, for a plan that is not
    larger and has no new reason. So it cannot sit in a crontab.
    """
    if last is None:
        return [*refusals, _unconfirmable("the newest tick in the journal is not a refusal")]
    if not timedelta(0) <= now - last.finished_at <= CONFIRMABLE_FOR:
        return [*refusals, _unconfirmable(f"the refusal of {rfc3339(last.finished_at)} is older than 24 h")]
    if confirmed != last.count:
        return [*refusals, _unconfirmable(f"the refusal named {last.count}, not {confirmed}")]
    # Answers that were not believed have no codes: their number is limited by itself, and the guard judges the plan.
    if last.codes and plan.first_tries > confirmed:
        return [*refusals, _unconfirmable(f"the plan has grown to {plan.first_tries} first releases since")]
    return [refusal for refusal in refusals if refusal.code not in last.codes]


def _unconfirmable(why: str) -> Refusal:
    return Refusal("confirm", f"--confirm does not apply: {why}")


def advice(plan: PlanSummary, refusals: Sequence[Refusal]) -> str:
    """What was planned and what to type, for the message of a refusal."""
    sids = ", ".join(plan.first_sids) + (", …" if plan.first_tries > len(plan.first_sids) else "")
    newest = rfc3339(plan.newest_expires_at) if plan.newest_expires_at else "none"
    # Where nothing but the --confirm itself was wrong, confirming that again would be no better.
    confirmation = "" if all(refusal.code == "confirm" for refusal in refusals) else f" --confirm {plan.first_tries}"
    return (
        f"Planned: {plan.first_tries} first releases ({sids or 'none'}), the newest expired at {newest}. Nothing was "
        f"touched. Look: autorelease list-expired. If this is right: autorelease tick --once{confirmation}"
    )
