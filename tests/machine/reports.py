"""The report of a run compared with the world: counters, reasons, refusals, and what the journal keeps."""

from collections import Counter
from collections.abc import Sequence

from autorelease.errors import ExitCode
from autorelease.model import ErrorCode, Finding, Outcome, Result, SkipReason
from autorelease.sweep.report import TickReport
from tests.machine.belief import Answer, answer_of, is_believed
from tests.machine.facts import Pair
from tests.machine.plans import expected_refusals
from tests.machine.world import Call, Row, Run, World, is_live, is_resting, is_spoiled, pair_in_journal, pair_of, vm_of
from tests.support.engine import Ticked


def check_report(world: World, run: Run, ticked: Ticked) -> None:
    """Compare it with the world."""
    report = ticked.report
    _count(world, run, ticked)
    _check_counters(world, run, ticked)
    if run.is_tick:
        _check_refusals(world, run, ticked)
        _check_size(world, run)
        _check_limit(world, run, ticked)
        _check_named(world, run, ticked)
    for finding in ticked.findings:
        _check_finding(world, run, report, finding)
    if ticked.code is ExitCode.OK:
        _check_all_is_well(world, run, ticked)
    if report.lost is None:
        _check_explained(world)
        _check_conflicts(world, run, ticked)
    if run.is_alone and not run.has_failed and not run.is_hurried and not run.acknowledged:
        _check_answers(world, run)


def _count(world: World, run: Run, ticked: Ticked) -> None:
    world.seen[f"exit {int(ticked.code)}"] += 1
    for finding in ticked.findings:
        world.seen[f"outcome {finding.outcome}"] += 1
        if finding.reason is not None:
            world.seen[f"skipped {finding.reason}"] += 1
        if finding.error is not None:
            world.seen[f"error {finding.error.code}"] += 1
    for refusal in ticked.report.refused:
        world.seen[f"refused {refusal.code}"] += 1
    if run.confirms_refusal and not ticked.report.refused:
        reasons = {finding.reason for finding in ticked.findings}
        world.seen["confirmed in part" if SkipReason.REFUSED in reasons else "confirmed whole"] += 1


def _check_counters(world: World, run: Run, ticked: Ticked) -> None:
    report, findings = ticked.report, ticked.findings
    outcomes = Counter(finding.outcome for finding in findings)
    world.require(Counter(report.outcomes) == outcomes, "miscounted:", report, outcomes)
    reasons = Counter(finding.reason for finding in findings if finding.reason is not None)
    world.require(Counter(report.skipped) == reasons, "miscounted:", report, reasons)
    world.require(report.rows_expired == sum(outcomes.values()), "the identity:", report)
    ends = Counter(finding.allocation.sid for finding in findings if not _has_code(finding, ErrorCode.CONFLICT))
    world.require(not ends or max(ends.values()) == 1, "two ends of one row:", ends)
    if run.is_tick and not run.touched:
        live = sum(is_live(row) for row in run.rows.values())
        world.require(report.rows_examined == live, "examined:", report.rows_examined, live)


def _has_code(finding: Finding, code: ErrorCode) -> bool:
    return finding.error is not None and finding.error.code is code


# --- refusals ---------------------------------------------------------------------------------------------------------


def _check_refusals(world: World, run: Run, ticked: Ticked) -> None:
    codes = frozenset(refusal.code for refusal in ticked.report.refused)
    if codes:
        world.require(not run.calls, "refused, and something was touched:", run.calls)
        world.require(world.facts().events >= run.facts.events, "a refused tick has forgotten something")
    if run.confirm is not None and not run.is_confirmed:
        world.require(codes, "confirmed by what is no answer:", run.confirm, run.answered)
    if run.touched or not run.is_plan_known:
        return
    assert ticked.summary is not None
    first_tries = ticked.summary.first_tries
    world.require(first_tries == len(run.first_tries), "first tries:", first_tries, run.first_tries, run.admitted)
    expected = expected_refusals(world, run)
    world.require(codes == expected, "the reasons to refuse are", codes, "and should be", expected)


def _check_size(world: World, run: Run) -> None:
    """The guard's limits hold for what was called, however it came to be planned."""
    limits = world.engine.limits
    first = {call.pair for call in run.calls if run.is_first_try(call.pair)}
    if not run.is_plan_known:
        return
    if run.confirms_refusal:
        assert run.answered is not None
        world.require(first <= run.answered.pairs | _touched_pairs(run), "not what was confirmed:", first, run.answered)
        return
    world.require(len(first) <= limits.max_releases, "more than max_releases:", first)
    live = sum(is_live(row) for row in run.rows.values())
    if not run.touched and (run.facts.anchor is None or len(first) >= limits.min_fleet):
        world.require(len(first) * 100 <= limits.max_percent * live, "more than max_percent:", first, live)


def _check_limit(world: World, run: Run, ticked: Ticked) -> None:
    """What was called are the first few, and there are not more of them."""
    if run.at_most is None:
        return
    called = {call.pair for call in run.calls}
    world.require(len(called) <= run.at_most, "more than the limit:", called)
    world.seen["limited"] += len(run.planned) > run.at_most and bool(called)
    if not run.touched and run.is_plan_known and not run.confirms_refusal and not ticked.report.refused:
        in_order = sorted(run.planned, key=lambda pair: (not run.is_first_try(pair), pair[1] or 0, pair[0]))
        world.require(called <= set(in_order[: run.at_most]), "not the first ones:", called, in_order)


def _touched_pairs(run: Run) -> set[Pair]:
    # What an operator did to these between the two ticks, or in the midst of one, is not retold here.
    return {call.pair for call in run.calls if call.pair[0] in run.touched}


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
    in_conflict = {finding.allocation.sid for finding in ticked.findings if _has_code(finding, ErrorCode.CONFLICT)}
    world.require(run.conflicts - run.touched <= in_conflict, "a conflict that is not named:", run.conflicts)


def _check_finding(world: World, run: Run, report: TickReport, finding: Finding) -> None:
    sid = finding.allocation.sid
    pair = pair_in_journal(sid, finding.allocation.expires_at)
    calls = [call for call in run.calls if call.pair == pair]
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
    elif _has_code(finding, ErrorCode.CONFLICT):
        is_known = sid in run.conflicts or _is_touched(run, sid)
        world.require(is_known, "no conflict:", finding)
    else:
        world.require(calls or run.is_hurried, "failed without a try:", finding)
        if _has_code(finding, ErrorCode.UNPROVEN):
            _check_unproven(world, run, calls[-1])


def _check_unproven(world: World, run: Run, call: Call) -> None:
    world.require(_answered([call], Result.ALREADY_RELEASED), "unproven, and no miss:", call)
    is_clear = run.is_alone and not run.has_failed and not run.is_hurried and not run.touched
    is_last = all(one.vm != call.vm for one in run.calls if one is not call)
    world.require(not (is_clear and is_last and is_believed(world, call)), "not believed without a reason:", call.pair)


def _answered(calls: Sequence[Call], result: Result) -> bool:
    return bool(calls) and calls[-1].answer is not None and calls[-1].answer.result is result


def _is_touched(run: Run, sid: str) -> bool:
    return sid in run.touched or (sid in run.rows and run.is_touched(run.rows[sid]))


def _is_skip_true(world: World, run: Run, report: TickReport, finding: Finding) -> bool:
    sid = finding.allocation.sid
    if finding.reason is SkipReason.DEFERRED:
        is_stopped = report.stopped_by is not None or report.lost is not None
        is_beyond = run.at_most is not None and sum(report.outcomes.values()) > run.at_most
        return bool(report.down) or is_stopped or is_beyond or _is_after_lost_call(run, run.rows.get(sid))
    if finding.reason is SkipReason.NO_PROVISIONER:
        return "no section" in report.down.get(finding.allocation.provisioner, "")
    if finding.reason is SkipReason.REFUSED:
        return bool(report.refused) or (run.confirms_refusal and not _was_answered(run, finding))
    return _is_touched(run, sid) or _is_skip_of_row_true(run, finding.reason, sid)


def _was_answered(run: Run, finding: Finding) -> bool:
    """Whether it was planned by the refused tick, and nobody has changed it in the midst of that one or of this."""
    pair = pair_in_journal(finding.allocation.sid, finding.allocation.expires_at)
    is_known = run.answered is not None and run.is_plan_known and not _is_touched(run, pair[0])
    return is_known and run.answered is not None and pair in run.answered.pairs


def _is_after_lost_call(run: Run, row: Row | None) -> bool:
    """Whether a call for the same VM has not come back: nobody else's may begin then."""
    return row is not None and any(call.vm == vm_of(row) and call.end_unknown for call in run.calls)


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
        if run.is_tick and sid not in pending and not run.is_touched(row) and world.is_expired(row, run.now):
            world.require(world.is_held(sid, run.now), "exit code 0, and it was left behind:", row)


# --- what the journal keeps -------------------------------------------------------------------------------------------


def _check_explained(world: World) -> None:
    """Every stamp of ours has an outcome, or an open intent whose end is still to be looked up."""
    facts = world.facts()
    for pair in list(world.stamped):
        if pair in facts.released:
            world.stamped.discard(pair)
        else:
            world.require(facts.is_open(pair), "stamped, and the journal does not know it:", pair)


def _check_conflicts(world: World, run: Run, ticked: Ticked) -> None:
    """A conflict is one until somebody acknowledges it; and one that was found is remembered."""
    now_open = world.facts().conflicts
    forgotten = run.facts.conflicts - now_open - run.acknowledged
    world.require(not forgotten, "a conflict that nobody has acknowledged is forgotten:", forgotten)
    if any(refusal.code == "other_ledger" for refusal in ticked.report.refused):
        return
    found = {finding.allocation.sid for finding in ticked.findings if _has_code(finding, ErrorCode.CONFLICT)}
    lost = found - {sid for sid, _ in now_open} - {sid for sid, _ in run.acknowledged}
    world.require(not lost, "a conflict that is not remembered:", lost)


def _check_answers(world: World, run: Run) -> None:
    """What was answered is written down under the fingerprint of then; what was expected counts for nothing."""
    given: dict[str, Counter[str]] = {}
    for call in run.calls:
        fingerprint = run.fingerprints[call.ref[0]]
        if call.answer is not None and fingerprint is not None:
            answer = answer_of(world, call)
            counts = given.setdefault(fingerprint, Counter())
            counts.update([answer] if answer is not Answer.EXPECTED else [])
    written = world.facts().answers
    for fingerprint, counts in given.items():
        of_run = Counter(answer for tick, answer in written.get(fingerprint, ()) if tick == run.tick)
        world.require(of_run == counts, "answers:", fingerprint, "written", of_run, "given", counts)
