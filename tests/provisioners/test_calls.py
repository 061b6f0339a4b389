"""Whatever a provisioner does, what comes out is what the protocol allows, and nothing else is taken for a release."""

import logging
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn, cast

import pytest

from autorelease.errors import ExitCode, ProvisionerDown, ProvisionerError, ProvisionerSeemsDown
from autorelease.model import Allocation, Release, Result
from autorelease.provisioners.calls import close, release, why_unusable
from tests.support.engine import Engine, Scripted, made_allocation

LONG = timedelta(seconds=30)
SHORT = timedelta(milliseconds=50)
# `Release` is a plain dataclass: nothing keeps an author from filling it with what is nearly right.
AnyRelease = cast("Callable[..., Release]", Release)


class Doing:
    """A provisioner each of whose methods does the same."""

    def __init__(self, deed: Callable[[], Any]) -> None:
        self._deed = deed

    def preflight(self) -> None:
        """The deed."""
        self._deed()

    def release(self, _: Allocation) -> Release:
        """The deed, and what it returns."""
        return cast("Release", self._deed())

    def close(self) -> None:
        """The deed."""
        self._deed()


def raising(error: BaseException) -> Doing:
    """Raises this."""

    def deed() -> NoReturn:
        raise error

    return Doing(deed)


def asked(provisioner: Doing) -> Release | ProvisionerError:
    """One call."""
    return release(provisioner, made_allocation())


def error_of(provisioner: Doing) -> ProvisionerError:
    """The error that one call comes to."""
    answer = asked(provisioner)
    assert isinstance(answer, ProvisionerError)
    return answer


def test_a_good_answer_is_handed_on() -> None:
    for answer in (Release(Result.RELEASED, "204"), Release(Result.ALREADY_RELEASED, "404", proof=False)):
        assert release(Scripted({"vm-1": [answer]}), made_allocation("vm-1")) == answer


class WithoutInitError(ProvisionerError):
    """An error that forgot to begin as its base does."""

    def __init__(self) -> None:
        """Forgets."""


class Unreadable(ProvisionerDown):
    """An error whose text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


ERRORS = [
    (ProvisionerError("no"), ProvisionerError("no")),
    (ProvisionerDown("down"), ProvisionerDown("down")),
    (
        ProvisionerError("later", retryable=True, retry_after_seconds=3, timed_out=True),
        ProvisionerError("later", retryable=True, retry_after_seconds=3.0, timed_out=True),
    ),
    (ProvisionerDown("cut off", end_unknown=True), ProvisionerDown("cut off", end_unknown=True)),
    (WithoutInitError(), ProvisionerError()),
    (Unreadable(), ProvisionerDown("(its text cannot be read)")),
    (ProvisionerError("a name \udcff"), ProvisionerError("a name \\udcff")),
    (ProvisionerError("x" * 99_999), ProvisionerError("x" * 8192 + "…")),
]


@pytest.mark.parametrize(("raised", "expected"), ERRORS, ids=range(len(ERRORS)))
def test_an_error_of_the_protocol_is_handed_on_in_plain_words(
    raised: ProvisionerError, expected: ProvisionerError
) -> None:
    found = error_of(raising(raised))
    assert (type(found), str(found), vars(found)) == (type(expected), str(expected), vars(expected))


@pytest.mark.parametrize("asked_for", ["120", float("nan"), float("inf"), 10**400, [3], object()])
def test_a_wish_to_wait_that_is_no_number_of_seconds_is_none(asked_for: Any) -> None:
    assert error_of(raising(ProvisionerError("later", retry_after_seconds=asked_for))).retry_after_seconds is None


def test_a_negative_wait_is_none_at_all() -> None:
    assert error_of(raising(ProvisionerError("later", retry_after_seconds=-7))).retry_after_seconds == 0


class Cancelled(BaseException):
    """As frameworks have it, no Exception."""


@pytest.mark.parametrize("error", [ZeroDivisionError("by zero"), SystemExit(0), Cancelled(), RecursionError("deep")])
def test_what_must_not_be_raised_is_an_error_whose_end_is_unknown(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    found = error_of(raising(error))
    text = str(error)
    assert str(found) == f"the provisioner broke: {type(error).__name__}" + (f": {text}" if text else "")
    assert (type(found), found.retryable, found.timed_out, found.end_unknown) == (ProvisionerError, False, False, True)
    assert "Traceback" in caplog.text


ANSWERS = [
    (None, "None"),
    (True, "a bool"),
    ("released", "a str"),
    (Result.RELEASED, "a Result"),
    (AnyRelease("pending", "202"), "result is no Result but a str"),
    (AnyRelease(None, "202"), "result is no Result but a NoneType"),
    (AnyRelease(Result.ALREADY_RELEASED, "404", proof=None), "proof is no bool but a NoneType"),
    (AnyRelease(Result.ALREADY_RELEASED, "404", proof="False"), "proof is no bool but a str"),
]


@pytest.mark.parametrize(("answer", "said"), ANSWERS, ids=lambda value: str(value)[:40])
def test_what_is_no_release_is_not_taken_for_one(answer: object, said: str) -> None:
    found = error_of(Doing(lambda: answer))
    assert "the provisioner broke: it answered" in str(found)
    assert said in str(found)
    assert (found.retryable, found.end_unknown) == (False, True)


@pytest.mark.parametrize(("evidence", "kept"), [(204, "204"), (None, "None"), ("\udc80", "\\udc80")])
def test_evidence_is_made_text(evidence: Any, kept: str) -> None:
    assert asked(Doing(lambda: AnyRelease(Result.RELEASED, evidence))) == Release(Result.RELEASED, kept)


# --- preflight and close ----------------------------------------------------------------------------------------------


def test_a_preflight_that_says_nothing_is_good() -> None:
    assert why_unusable(Doing(lambda: "whatever it returns"), LONG) is None


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ProvisionerDown("the token has expired"), "the token has expired"),
        (ConnectionRefusedError("refused"), "the provisioner broke: ConnectionRefusedError: refused"),
        (SystemExit(3), "the provisioner broke: SystemExit: 3"),
    ],
)
def test_a_preflight_that_raises_anything_is_bad(error: BaseException, said: str) -> None:
    assert why_unusable(raising(error), LONG) == said


def test_a_preflight_that_does_not_come_back_is_bad() -> None:
    wakes = threading.Event()
    assert why_unusable(Doing(wakes.wait), SHORT) == "its preflight did not come back within 0.05 s"
    wakes.set()


def test_a_close_that_fails_or_hangs_is_only_logged(caplog: pytest.LogCaptureFixture) -> None:
    wakes = threading.Event()
    close(raising(OSError("not open")), LONG)
    close(Doing(wakes.wait), SHORT)
    wakes.set()
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == [
        "a provisioner could not be closed: the provisioner broke: OSError: not open",
        "a provisioner could not be closed: its close did not come back within 0.05 s",
    ]
    caplog.clear()
    close(Doing(lambda: None), LONG)
    assert caplog.text == ""


# --- in a tick --------------------------------------------------------------------------------------------------------


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """An empty ledger and an empty journal."""
    return Engine(tmp_path)


def test_a_call_that_broke_may_have_released_the_vm(engine: Engine) -> None:
    """So "not found" is plausible, once it is asked again, and yet no more believed than any other."""
    engine.add("a", "there")
    ticked = engine.tick(Scripted({"a": [ConnectionResetError("by peer")]}))
    assert (ticked.code, ticked.ends()) == (ExitCode.NOT_ALL_WELL, {"a": "failed", "there": "released"})
    assert engine.open_intents() == {"a"}
    engine.later(timedelta(hours=2))
    missing = {"a": [Release(Result.ALREADY_RELEASED, "404", proof=False)] * 2}
    ticked = engine.tick(Scripted(missing))
    assert (ticked.code, ticked.ends()) == (ExitCode.PROVISIONER_DOWN, {"a": "unproven"})
    assert engine.open_intents() == {"a"}
    engine.later()
    engine.add("another")
    ticked = engine.tick(Scripted(missing))
    assert (ticked.code, ticked.ends()) == (ExitCode.OK, {"a": "already_released", "another": "released"})


def test_a_row_that_is_renewed_after_a_call_that_broke_is_a_conflict(engine: Engine) -> None:
    engine.add("a")
    engine.tick(Doing(lambda: AnyRelease("pending", "202")))
    assert engine.statuses() == {"a": "Active"}
    engine.renew("a")
    engine.later()
    assert engine.tick(Scripted()).ends() == {"a": "conflict"}


def test_a_provisioner_that_is_down_in_the_middle_of_a_call_leaves_it_unfinished(engine: Engine) -> None:
    engine.add("a")
    ticked = engine.tick(Scripted({"a": [ProvisionerDown("connection lost", end_unknown=True)]}))
    assert (ticked.code, ticked.ends()) == (ExitCode.PROVISIONER_DOWN, {"a": "deferred"})
    assert (engine.open_intents(), engine.failed_ticks()["a"]) == ({"a"}, 0)


@pytest.mark.parametrize("error", [ConnectionRefusedError("refused"), SystemExit(0)])
def test_a_preflight_that_breaks_takes_its_own_rows_down_alone(engine: Engine, error: BaseException) -> None:
    engine.add("a")
    engine.add("other", provisioner="second")
    ticked = engine.tick({"default": Scripted(preflight_error=error), "second": Scripted()})
    assert (ticked.code, ticked.ends()) == (ExitCode.PROVISIONER_DOWN, {"a": "deferred", "other": "released"})
    assert ticked.report.down == {"default": f"the provisioner broke: {type(error).__name__}: {error}"}


def test_a_provisioner_that_would_end_the_process_ends_nothing(engine: Engine) -> None:
    engine.add("a", "b")
    provisioner = Scripted(before=lambda allocation: sys.exit("enough") if allocation.sid == "a" else None)
    ticked = engine.tick(provisioner)
    assert (ticked.code, ticked.ends()) == (ExitCode.NOT_ALL_WELL, {"a": "failed", "b": "released"})


def test_what_seems_down_stays_so() -> None:
    answer = release(Scripted({"vm-1": [ProvisionerSeemsDown("no such command")]}), made_allocation())
    assert (type(answer), str(answer)) == (ProvisionerSeemsDown, "no such command")


def test_what_was_not_called_stays_so() -> None:
    answers = [ProvisionerError("no VM", not_called=True), ProvisionerError("no")]
    provisioner = Scripted({"vm-1": answers})
    found = [release(provisioner, made_allocation()) for _ in answers]
    assert [isinstance(error, ProvisionerError) and error.not_called for error in found] == [True, False]


def test_what_still_runs_does_so() -> None:
    answer = release(Scripted({"vm-1": [ProvisionerError("no end", still_running=True)]}), made_allocation())
    assert isinstance(answer, ProvisionerError)
    assert (answer.still_running, answer.end_unknown) == (True, True)


def test_a_machine_without_a_thread_to_give_finds_nobody_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_to_give(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none_to_give)
    assert why_unusable(Scripted(), LONG) == "can't start new thread"
    close(Scripted(), LONG)
