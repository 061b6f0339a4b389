"""The report of a run compared with the world: counters, reasons, refusals, and what the journal keeps."""

from collections import Counter
from datetime import timedelta

from autorelease.errors import ExitCode
from autorelease.model import ErrorCode, Finding, Outcome, Result, SkipReason
from autorelease.sweep.report import TickReport
from tests.machine.facts import Anchor
from tests.machine.world import Call, Run, World, is_live, is_resting, is_spoiled, pair_of
from tests.support.engine import Engine, Ticked

# As README's table of the guard has them.
BACKWARDS = timedelta(minutes=5)
STEP = timedelta(minutes=10)
GAP = timedelta(days=7)
CONFIRMABLE = timedelta(hours=24)
ALWAYS_JUDGED = frozenset({"clock_backwards", "clock_stepped", "other_ledger", "ledger_rewound"})
GRACELESS = timedelta(0)


def check_report(world: World, run: Run, ticked: Ticked, expected: frozenset[str]) -> None:
    """Compare it with the world. expected: the reasons to refuse that are plain to see."""
    report = ticked.report
    _count(world, ticked)
    _check_counters(world, run, ticked)
    if run.is_tick:
        _check_refusals(world, run, report, expected)
        _check_size(world, run, report)
        _check_named(world, run, ticked)
    for finding in ticked.findings:
        _check_finding(world, run, report, finding)
    if ticked.code is ExitCode.OK:
        _check_all_is_well(world, run, ticked)
    if report.lost is None:
        _check_explained(world)


def _count(world: World, ticked: Ticked) -> None:
    world.seen[f"exit {int(ticked.code)}"] += 1
    for finding in ticked.findings:
        world.seen[f"outcome {finding.outcome}"] += 1
        if finding.reason is not None:
            world.seen[f"skipped {finding.reason}"] += 1
        if finding.error is not None:
            world.seen[f"error {finding.error.code}"] += 1
    for refusal in ticked.report.refused:
        world.seen[f"refused {refusal.code}"] += 1


def _check_counters(world: World, run: Run, ticked: Ticked) -> None:
    report, findings = ticked.report, ticked.findings
    outcomes = Counter(finding.outcome for finding in findings)
    world.require(Counter(report.outcomes) == outcomes, "miscounted:", report, outcomes)
    reasons = Counter(finding.reason for finding in findings if finding.reason is not None)
    world.require(Counter(report.skipped) == reasons, "miscounted:", report, reasons)
    world.require(report.rows_expired == sum(outcomes.values()), "the identity:", report)
    ends = Counter(finding.allocation.sid for finding in findings if not _is_conflict(finding))
    world.require(not ends or max(ends.values()) == 1, "two ends of one row:", ends)
    if run.is_tick and not run.touched:
        live = sum(is_live(row) for row in run.rows.values())
        world.require(report.rows_examined == live, "examined:", report.rows_examined, live)


def _is_conflict(finding: Finding) -> bool:
    return finding.error is not None and finding.error.code is ErrorCode.CONFLICT


# --- refusals ---------------------------------------------------------------------------------------------------------


def expected_refusals(world: World, run: Run) -> frozenset[str]:
    """The reasons to refuse that follow from clock and ledger alone."""
    anchor = run.facts.anchor
    if anchor is None:
        return frozenset()
    engine, found = world.engine, set()
    since = run.now - anchor.now
    if since < -BACKWARDS:
        found.add("clock_backwards")
    elif _has_stepped(engine, anchor, since):
        found.add("clock_stepped")
    if engine.ledger_name != anchor.ledger:
        found.add("other_ledger")
    existing = [(run.rows[sid], expires_at) for sid, expires_at in run.facts.releases if sid in run.rows]
    live_again = [row for row, expires_at in existing if is_live(row) and _is_not_later(row["expires_at"], expires_at)]
    live_again = [row for row in live_again if not is_spoiled(row)]
    if len(live_again) >= 3 and len(live_again) * 10 > len(existing):
        found.add("ledger_rewound")
    return frozenset(found)


def _has_stepped(engine: Engine, anchor: Anchor, since: timedelta) -> bool:
    if engine.boot_id != anchor.boot_id or engine.boot_seconds is None or anchor.boot_seconds is None:
        return False
    return since - timedelta(seconds=engine.boot_seconds - anchor.boot_seconds) > STEP


def _is_not_later(expires_at: object, released: int | None) -> bool:
    return isinstance(expires_at, int) and released is not None and expires_at <= released


def _check_refusals(world: World, run: Run, report: TickReport, expected: frozenset[str]) -> None:
    codes = frozenset(refusal.code for refusal in report.refused)
    if report.refused:
        world.require(not run.calls, "refused, and something was touched:", run.calls)
        world.require(world.facts().events >= run.facts.events, "a refused tick has forgotten something")
    if run.confirm is not None and not _is_confirmation(run):
        world.require(codes, "confirmed by what is no answer:", run.confirm, run.answered)
    if run.touched:
        return
    answered = run.answered.codes if run.answered is not None and run.confirm is not None else frozenset()
    world.require(expected - answered <= codes, "the guard has let it through:", expected, codes)
    world.require(codes & ALWAYS_JUDGED <= expected, "refused without a reason:", codes, expected)
    anchor = run.facts.anchor
    if run.calls and anchor is not None and run.now - anchor.now > GAP:
        world.require("clock_gap" in answered, "released after a long gap:", anchor, run.now)


def _is_confirmation(run: Run) -> bool:
    note = run.answered
    if note is None or note.count is None or note.count != run.confirm:
        return False
    return timedelta(0) <= run.now - note.finished_at <= CONFIRMABLE


def _check_size(world: World, run: Run, report: TickReport) -> None:
    """The guard's limits hold for what was called, however it came to be planned."""
    limits = world.engine.limits
    first = len({call.pair for call in run.calls} - run.facts.begun)
    answered = run.answered if run.confirm is not None else None
    if answered is not None and answered.count is not None and answered.codes:
        world.require(first <= answered.count, "more than was confirmed:", first, answered)
        return
    world.require(first <= limits.max_releases, "more than max_releases:", first)
    live = sum(is_live(row) for row in run.rows.values())
    if not run.touched and (run.facts.anchor is None or first >= limits.min_fleet):
        world.require(first * 100 <= limits.max_percent * live, "more than max_percent:", first, live)


# --- what became of each ----------------------------------------------------------------------------------------------


def _check_named(world: World, run: Run, ticked: Ticked) -> None:
    """Every row that had expired has an end, or is said to be invalid; and every row that is invalid is said to be."""
    ends = {finding.allocation.sid for finding in ticked.findings}
    invalid = {row.sid for row in ticked.report.invalid}
    for sid, row in run.rows.items():
        if sid in run.touched or world.rows.get(sid) != row:
            continue
        if world.is_expired(row, run.now):
            world.require(sid in ends | invalid, "expired, and not named:", row)
        if is_spoiled(row):
            world.require(sid in invalid, "invalid, and not named:", row)


def _check_finding(world: World, run: Run, report: TickReport, finding: Finding) -> None:
    sid, expires_at = finding.allocation.sid, finding.allocation.expires_at
    calls = [call for call in run.calls if call.pair == (sid, expires_at and int(expires_at.timestamp()))]
    if finding.outcome is Outcome.SKIPPED:
        assert finding.reason is not None
        world.require(_is_skip_true(world, run, report, finding), "skipped for no reason:", finding, run.touched)
    elif finding.outcome is Outcome.PENDING:
        world.require(_answered(calls, Result.PENDING), "not pending:", finding, calls)
    elif finding.outcome is Outcome.RELEASED:
        world.require(_answered(calls, Result.RELEASED), "not released:", finding, calls)
        world.require(sid in run.touched or world.rows[sid]["status"] == "Released", "not stamped:", finding)
    elif finding.outcome is Outcome.ALREADY_RELEASED:
        is_settled = sid in run.touched or not is_live(run.rows[sid])
        world.require(is_settled or _answered(calls, Result.ALREADY_RELEASED), "not gone:", finding, calls)
        world.require(sid in run.touched or not is_live(world.rows[sid]), "not stamped:", finding)
    elif finding.error is not None and finding.error.code is ErrorCode.CONFLICT:
        world.require(sid in run.conflicts | run.touched, "no conflict:", finding)
    else:
        world.require(calls, "failed without a try:", finding)


def _answered(calls: list[Call], result: Result) -> bool:
    return bool(calls) and calls[-1].answer is not None and calls[-1].answer.result is result


def _is_skip_true(world: World, run: Run, report: TickReport, finding: Finding) -> bool:
    sid = finding.allocation.sid
    if finding.reason is SkipReason.DEFERRED:
        return bool(report.down) or report.stopped_by is not None or report.lost is not None
    if finding.reason is SkipReason.REFUSED:
        return bool(report.refused)
    return sid in run.touched or _is_skip_of_row_true(run, finding.reason, sid)


def _is_skip_of_row_true(run: Run, reason: SkipReason | None, sid: str) -> bool:
    """Whether a row that nobody has changed meanwhile is skipped for what it is."""
    if reason is SkipReason.HELD:
        return sid in run.held
    if reason is SkipReason.RESURRECTED:
        return sid in run.rows and pair_of(run.rows[sid]) in run.facts.released
    return reason is SkipReason.BACKOFF and is_resting(run, pair_of(run.rows[sid]))


def _check_all_is_well(world: World, run: Run, ticked: Ticked) -> None:
    """Exit code 0: whatever has expired is gone, or somebody wants it so."""
    pending = {finding.allocation.sid for finding in ticked.findings if finding.outcome is Outcome.PENDING}
    for sid, row in world.rows.items():
        if run.is_tick and sid not in run.touched | pending and world.is_expired(row, run.now):
            world.require(world.is_held(sid, run.now), "exit code 0, and it was left behind:", row)


def _check_explained(world: World) -> None:
    """Every stamp of ours has an outcome, or an open intent whose end is still to be looked up."""
    facts = world.facts()
    for pair in list(world.stamped):
        if pair in facts.released:
            world.stamped.discard(pair)
        else:
            world.require(facts.is_open(pair), "stamped, and the journal does not know it:", pair)
