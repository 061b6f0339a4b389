"""A tick in numbers: the identity, the exit code and the object of `tick --json`."""

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from autorelease.errors import ConfigurationError, ExitCode, IdentityError, LockedError, UnusableError, UsageError
from autorelease.model import (
    Allocation,
    ErrorCode,
    Finding,
    InvalidRow,
    Outcome,
    RawRow,
    Refusal,
    ReleaseError,
    SkipReason,
)
from autorelease.sweep.report import (
    LISTED,
    Tally,
    TickReport,
    check_identity,
    error_object,
    exit_code,
    make_report,
    status,
    tick_object,
)

NOW = datetime(2026, 12, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def report(**changes: Any) -> TickReport:
    """A tick in which nothing happened, but for these."""
    return msgspec.structs.replace(
        TickReport(
            tick="t",
            now=NOW,
            started_at=NOW,
            finished_at=NOW,
            dry_run=False,
            rows_examined=0,
            rows_invalid=0,
            rows_expired=0,
            outcomes={},
            skipped={},
            rows_quarantined=0,
            oldest_overdue_seconds=0,
        ),
        **changes,
    )


# --- the exit code ----------------------------------------------------------------------------------------------------

# What a tick may have met, each with the code that it asks for, by the contract's section 6.
MET: dict[str, tuple[dict[str, Any], int]] = {
    "released": ({"outcomes": {Outcome.RELEASED: 1}}, 0),
    "already released": ({"outcomes": {Outcome.ALREADY_RELEASED: 1}}, 0),
    "pending": ({"outcomes": {Outcome.PENDING: 1}}, 0),
    "held": ({"outcomes": {Outcome.SKIPPED: 1}, "skipped": {SkipReason.HELD: 1}}, 0),
    "renewed": ({"outcomes": {Outcome.SKIPPED: 1}, "skipped": {SkipReason.RENEWED: 1}}, 0),
    "changed": ({"outcomes": {Outcome.SKIPPED: 1}, "skipped": {SkipReason.CHANGED: 1}}, 0),
    "backoff": ({"outcomes": {Outcome.SKIPPED: 1}, "skipped": {SkipReason.BACKOFF: 1}}, 3),
    "resurrected": ({"outcomes": {Outcome.SKIPPED: 1}, "skipped": {SkipReason.RESURRECTED: 1}}, 3),
    "deferred": ({"outcomes": {Outcome.SKIPPED: 1}, "skipped": {SkipReason.DEFERRED: 1}}, 3),
    "no such section": ({"outcomes": {Outcome.SKIPPED: 1}, "skipped": {SkipReason.NO_PROVISIONER: 1}}, 8),
    "an error": ({"outcomes": {Outcome.FAILED: 1}}, 3),
    "an invalid row": ({"rows_invalid": 1}, 3),
    "the deadline, and work left": (
        {
            "stopped_by": "deadline",
            "outcomes": {Outcome.SKIPPED: 1},
            "skipped": {SkipReason.DEFERRED: 1},
        },
        3,
    ),
    "a provisioner down": ({"down": {"default": "refused"}}, 8),
    "answers that are not believed": ({"unproven": 3}, 8),
    "SIGHUP": ({"stopped_by": "SIGHUP"}, 129),
    "SIGINT": ({"stopped_by": "SIGINT"}, 130),
    "SIGTERM": ({"stopped_by": "SIGTERM"}, 143),
    "the ledger lost": ({"lost": "disk full"}, 5),
    "refused": (
        {
            "refused": (Refusal("max_percent", "too many"),),
            "outcomes": {Outcome.SKIPPED: 1},
            "skipped": {SkipReason.REFUSED: 1},
        },
        7,
    ),
}
# From the one that prevails over all others to the one that all others prevail over.
PRECEDENCE = [7, 1, 5, 129, 130, 143, 8, 3, 0]


def merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any] | None:
    """Both at once; None where a tick cannot have met both."""
    result = dict(one)
    for key, value in other.items():
        if key not in result:
            result[key] = value
        elif key in {"outcomes", "skipped"}:
            result[key] = {name: result[key].get(name, 0) + value.get(name, 0) for name in {**result[key], **value}}
        elif key in {"stopped_by", "rows_invalid"}:
            return None
    return result


def combinations(most: int) -> Iterator[tuple[str, dict[str, Any], int]]:
    """Every combination of up to `most` of what a tick may have met, with the exit code that the table gives it."""
    for size in range(most + 1):
        for names in itertools.combinations(MET, size):
            changes: dict[str, Any] | None = {}
            for name in names:
                changes = merged(changes, MET[name][0]) if changes is not None else None
            if changes is not None:
                codes = [MET[name][1] for name in names] or [0]
                yield ", ".join(names), changes, min(codes, key=PRECEDENCE.index)


@pytest.mark.parametrize("name", MET)
def test_each_alone_has_the_code_that_the_contract_gives_it(name: str) -> None:
    changes, code = MET[name]
    assert exit_code(report(**changes)) == code


def test_all_combinations_have_the_code_that_prevails() -> None:
    """One test for thousands of combinations: as many tests would take longer to name than to run."""
    count = 0
    for names, changes, code in combinations(most=4):
        count += 1
        assert exit_code(report(**changes)) == code, names
    assert count > 3000


def test_everything_at_once_is_refused_and_without_the_refusal_the_ledger_is_lost() -> None:
    everything: dict[str, Any] = {
        "outcomes": dict.fromkeys(Outcome, 1),
        "skipped": dict.fromkeys(SkipReason, 1),
        "rows_invalid": 1,
        "stopped_by": "SIGTERM",
        "down": {"default": "no"},
        "unproven": 1,
        "lost": "no",
    }
    assert exit_code(report(**everything, refused=(Refusal("x", "y"),))) == ExitCode.REFUSED
    assert exit_code(report(**everything)) == ExitCode.UNUSABLE
    assert exit_code(report(**everything | {"lost": None})) == ExitCode.TERMINATED
    assert exit_code(report(**everything | {"lost": None, "stopped_by": None})) == ExitCode.PROVISIONER_DOWN


@pytest.mark.parametrize("reason", SkipReason)
def test_every_reason_to_skip_has_been_thought_of(reason: SkipReason) -> None:
    harmless = {SkipReason.HELD, SkipReason.RENEWED, SkipReason.CHANGED, SkipReason.DRY_RUN}
    found = [
        exit_code(report(outcomes={Outcome.SKIPPED: 1}, skipped={reason: 1}, dry_run=dry_run))
        for dry_run in (True, False)
    ]
    wrong = [ExitCode.NOT_ALL_WELL] * 2
    # A dry run calls nobody, so that none is down for it.
    unserved = [ExitCode.NOT_ALL_WELL, ExitCode.PROVISIONER_DOWN]
    expected = [ExitCode.OK] * 2 if reason in harmless else wrong
    assert found == (unserved if reason is SkipReason.NO_PROVISIONER else expected)


def test_the_status_is_the_exit_code_in_a_word() -> None:
    for names, changes, code in combinations(most=3):
        word = {0: "success", 7: "refused"}.get(code, "stopped" if "stopped_by" in changes else "partial")
        assert status(report(**changes)) == word, names


# --- counting ---------------------------------------------------------------------------------------------------------


def allocation(sid: str = "a", overdue: timedelta = HOUR) -> Allocation:
    """An allocation that expired so long ago."""
    raw = RawRow(sid, "Active", None)
    return Allocation(sid=sid, status="Active", expires_at=NOW - overdue, settled=False, vm_ref=sid, raw=raw)


def failure(sid: str = "a", code: ErrorCode = ErrorCode.FAILED) -> Finding:
    """An allocation that could not be released."""
    error = ReleaseError(
        sid=sid,
        provisioner="default",
        code=code,
        message="no",
        retryable=True,
        attempts=2,
        next_attempt_at=NOW + HOUR,
    )
    return Finding(allocation(sid), Outcome.FAILED, error=error)


def skipped(reason: SkipReason, overdue: timedelta = HOUR) -> Finding:
    """An allocation that was left alone."""
    return Finding(allocation(overdue=overdue), Outcome.SKIPPED, reason=reason)


def tallied(*findings: Finding, grace: timedelta = timedelta(0)) -> Tally:
    """These findings, counted."""
    tally = Tally(NOW, grace)
    for finding in findings:
        tally.add(finding)
    return tally


def made(tally: Tally, *, rows_expired: int, **changes: Any) -> TickReport:
    """The report of a tick with these findings."""
    values: dict[str, Any] = {"rows_examined": 9, "rows_invalid": 0, "invalid": (), "dry_run": False, **changes}
    return make_report(tally, tick="t", started_at=NOW, finished_at=NOW + HOUR, rows_expired=rows_expired, **values)


ONE_OF_EACH = [
    Finding(allocation("r"), Outcome.RELEASED),
    Finding(allocation("g"), Outcome.ALREADY_RELEASED),
    Finding(allocation("p"), Outcome.PENDING),
    failure("f"),
    *(skipped(reason) for reason in SkipReason),
]


def test_every_expired_row_comes_to_exactly_one_end() -> None:
    found = made(tallied(*ONE_OF_EACH), rows_expired=len(ONE_OF_EACH))
    assert sum(found.outcomes.values()) == found.rows_expired
    assert found.skipped == dict.fromkeys(SkipReason, 1)


@pytest.mark.parametrize("missing", range(len(ONE_OF_EACH)))
def test_a_finding_that_is_missing_is_a_bug(missing: int) -> None:
    findings = ONE_OF_EACH[:missing] + ONE_OF_EACH[missing + 1 :]
    with pytest.raises(IdentityError, match=f"{len(ONE_OF_EACH)} rows expired, {len(findings)} ends"):
        made(tallied(*findings), rows_expired=len(ONE_OF_EACH))


@pytest.mark.parametrize("doubled", range(len(ONE_OF_EACH)))
def test_a_finding_that_is_counted_twice_is_a_bug(doubled: int) -> None:
    with pytest.raises(IdentityError):
        made(tallied(*ONE_OF_EACH, ONE_OF_EACH[doubled]), rows_expired=len(ONE_OF_EACH))


@pytest.mark.parametrize(
    "counters",
    [
        {"outcomes": {Outcome.SKIPPED: 1}, "skipped": {}},
        {"outcomes": {Outcome.RELEASED: 1}, "skipped": {SkipReason.HELD: 1}},
    ],
    ids=["skipped without a reason", "a reason without a skip"],
)
def test_a_skip_and_its_reason_go_together(counters: dict[str, Any]) -> None:
    with pytest.raises(IdentityError):
        check_identity(report(rows_expired=1, **counters))


def test_the_oldest_overdue_is_measured_from_the_end_of_the_grace() -> None:
    tally = tallied(skipped(SkipReason.BACKOFF, 5 * HOUR), skipped(SkipReason.DEFERRED, 3 * HOUR), grace=HOUR)
    assert made(tally, rows_expired=2).oldest_overdue_seconds == 4 * 3600


def test_a_held_row_is_nobodys_fault() -> None:
    tally = tallied(skipped(SkipReason.HELD, 50 * HOUR), skipped(SkipReason.BACKOFF, HOUR))
    assert made(tally, rows_expired=2).oldest_overdue_seconds == 3600


def test_quarantined_rows_are_named_whatever_became_of_them() -> None:
    findings = [msgspec.structs.replace(skipped(SkipReason.BACKOFF), quarantined=True), failure()]
    assert made(tallied(*findings), rows_expired=2).rows_quarantined == 1


def test_the_lists_end_and_the_counters_do_not() -> None:
    tally = tallied(*(failure(str(number)) for number in range(LISTED + 1)))
    found = made(tally, rows_expired=LISTED + 1)
    assert (len(found.errors), found.outcomes[Outcome.FAILED], found.truncated) == (LISTED, LISTED + 1, True)
    whole = made(tallied(*(failure(str(number)) for number in range(LISTED))), rows_expired=LISTED)
    assert (len(whole.errors), whole.truncated) == (LISTED, False)


@pytest.mark.parametrize(
    ("listed", "count", "truncated"), [(3, 3, False), (3, 4, True), (LISTED + 1, LISTED + 1, True)]
)
def test_a_list_of_invalid_rows_that_is_not_all_of_them_says_so(listed: int, count: int, *, truncated: bool) -> None:
    invalid = tuple(InvalidRow(str(number), "no") for number in range(listed))
    found = made(tallied(), rows_expired=0, rows_invalid=count, invalid=invalid)
    assert (found.rows_invalid, found.truncated) == (count, truncated)
    assert len(found.invalid) == min(listed, LISTED)


# --- the object of tick --json ----------------------------------------------------------------------------------------

# The contract's section 5, in its order.
KEYS = [
    "schema",
    "tick",
    "now",
    "started_at",
    "finished_at",
    "dry_run",
    "status",
    "exit_code",
    "stopped_by",
    "rows_examined",
    "rows_invalid",
    "rows_expired",
    "rows_released",
    "rows_already_released",
    "rows_pending",
    "rows_skipped",
    "rows_failed",
    "rows_quarantined",
    "skipped",
    "oldest_overdue_seconds",
    "refused",
    "down",
    "audited_at",
    "errors",
    "invalid",
    "truncated",
]
REASONS = ["held", "backoff", "renewed", "changed", "resurrected", "deferred", "refused", "dry_run", "no_provisioner"]


def test_the_fields_and_their_order_are_those_of_the_contract() -> None:
    found = tick_object(report())
    assert list(found) == KEYS
    assert list(found["skipped"]) == REASONS
    assert set(found["skipped"].values()) == {0}


def test_the_object_of_an_empty_tick() -> None:
    found = tick_object(report())
    assert found["schema"] == "autorelease.tick/1"
    assert (found["status"], found["exit_code"], found["stopped_by"]) == ("success", 0, None)
    assert all(found[key] == 0 for key in KEYS if key.startswith("rows_"))
    assert [found[key] for key in ("refused", "down", "errors", "invalid")] == [[], [], [], []]
    assert (found["dry_run"], found["truncated"]) == (False, False)
    assert found["now"] == "2026-12-01T12:00:00Z"


def test_the_object_of_a_tick_in_which_everything_happened() -> None:
    found = tick_object(
        made(
            tallied(*ONE_OF_EACH),
            rows_expired=len(ONE_OF_EACH),
            rows_invalid=1,
            invalid=(InvalidRow("i", "sid is empty"),),
            down={"default": "connection refused"},
            stopped_by="SIGTERM",
        )
    )
    assert (found["exit_code"], found["status"], found["stopped_by"]) == (143, "stopped", "SIGTERM")
    assert found["rows_expired"] == 4 + len(SkipReason)
    assert [found[f"rows_{name}"] for name in ("released", "already_released", "pending", "failed")] == [1, 1, 1, 1]
    assert found["rows_skipped"] == sum(found["skipped"].values()) == len(SkipReason)
    assert found["down"] == [{"provisioner": "default", "message": "connection refused"}]
    assert found["invalid"] == [{"sid": "i", "reason": "sid is empty"}]
    assert found["errors"] == [
        {
            "sid": "f",
            "provisioner": "default",
            "code": "failed",
            "message": "no",
            "retryable": True,
            "attempts": 2,
            "next_attempt_at": "2026-12-01T13:00:00Z",
        }
    ]
    assert list(found["errors"][0]) == [
        "sid",
        "provisioner",
        "code",
        "message",
        "retryable",
        "attempts",
        "next_attempt_at",
    ]


def test_a_refused_tick_names_its_reasons() -> None:
    found = tick_object(report(refused=(Refusal("max_percent", "60 of 100"), Refusal("max_releases", "60"))))
    assert found["refused"] == [
        {"code": "max_percent", "message": "60 of 100"},
        {"code": "max_releases", "message": "60"},
    ]
    assert (found["exit_code"], found["status"]) == (7, "refused")


@pytest.mark.parametrize(
    ("error", "code", "word"),
    [
        (UsageError("x"), 2, "usage"),
        (ConfigurationError("x"), 4, "configuration"),
        (UnusableError("x"), 5, "unusable"),
        (LockedError("x"), 6, "locked"),
    ],
)
def test_the_object_that_stands_for_a_tick_that_never_was(error: Any, code: int, word: str) -> None:
    assert list(error_object(error).items()) == [
        ("schema", "autorelease.error/1"),
        ("exit_code", code),
        ("error", word),
        ("message", "x"),
    ]
