"""The edge to the provisioners: whatever one of them does, what comes out here is what the protocol allows.

A provisioner may be anybody's code. Nothing that it raises or returns ends a tick, and nothing but a Release that is
one in every part is taken for a release.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from queue import Empty, SimpleQueue

import msgspec

from autorelease.errors import ProvisionerDown, ProvisionerError, ProvisionerSeemsDown
from autorelease.model import Allocation, Release, Result
from autorelease.provisioners import Identifying, Probing, Provisioner, Registered
from autorelease.text import kind_and_reason, plain

logger = logging.getLogger(__name__)

PREFLIGHT = "its preflight"
# What is asked for beyond this is no wish to wait, but nonsense; so is a NaN.
LONGEST_WAIT = 1e9
# How soon a wait ends that nobody wants any more.
LOOK_SECONDS = 0.1


class Failure(str):
    """In words, why a call came to nothing."""

    __slots__ = ()


class TooSlow(Failure):
    """It did not come back within its time."""

    __slots__ = ()


def release(provisioner: Provisioner, allocation: Allocation) -> Release | ProvisionerError:
    """Make one call.

    What must not happen (another exception, an answer that is no Release) becomes an error whose end is unknown: the
    VM may be gone.
    """
    try:
        answer: object = provisioner.release(allocation)
    except ProvisionerError as error:
        return _understood(error)
    except BaseException as error:
        logger.exception(
            "the provisioner raised something else than a ProvisionerError", extra={"facts": {"sid": allocation.sid}}
        )
        return ProvisionerError(_broke(error), end_unknown=True)
    checked = _checked(answer)
    if isinstance(checked, str):
        message = f"the provisioner broke: it answered {checked}"
        logger.error("%s", message, extra={"facts": {"sid": allocation.sid}})
        return ProvisionerError(message, end_unknown=True)
    return checked


def why_unusable(provisioner: Provisioner, limit: timedelta) -> str | None:
    """Its preflight in words; None: it is usable. One that does not come back within the limit is not."""
    return _why(_in_time(provisioner.preflight, limit), PREFLIGHT)


def preflights(
    provisioners: Mapping[str, Registered], limit: timedelta, is_over: Callable[[], bool] = lambda: False
) -> Mapping[str, str | None]:
    """Why each is unusable, by its name; None: it is usable. All are asked at the same time.

    is_over: whether nobody waits any more; then those that have not answered are missing.
    """
    asked = {name: registered.provisioner.preflight for name, registered in provisioners.items()}
    return {name: _why(answer, PREFLIGHT) for name, answer in _at_once(asked, limit, is_over).items()}


def close(provisioner: Provisioner, limit: timedelta) -> None:
    """Let it give back what it holds. That it cannot changes nothing of what was done, and is only logged."""
    close_all([provisioner], limit)


def close_all(provisioners: Iterable[Provisioner], limit: timedelta) -> None:
    """The same for several, all at the same time."""
    asked = {str(number): provisioner.close for number, provisioner in enumerate(provisioners)}
    for answer in _at_once(asked, limit).values():
        if (problem := _why(answer, "its close")) is not None:
            logger.warning("a provisioner could not be closed: %s", problem)


def fingerprints(
    provisioners: Mapping[str, Registered], limit: timedelta, is_over: Callable[[], bool] = lambda: False
) -> Mapping[str, str | None]:
    """What each earns belief under, by its name; None, or missing: nothing that it says earns any.

    One that cannot say by what it finds VMs earns none: a changed account would inherit what the old one had earned.
    All are asked at the same time. is_over: as in `preflights`.
    """
    named = {name: registered.provisioner for name, registered in provisioners.items()}
    asked = {name: each.fingerprint for name, each in named.items() if isinstance(each, Identifying)}
    return {name: _known_by(name, given) for name, given in _at_once(asked, limit, is_over).items()}


def _known_by(name: str, given: object) -> str | None:
    if isinstance(given, Failure):
        logger.warning("the provisioner %s cannot say what it is known by: %s", name, given)
        return None
    return None if given is None else plain(given)


class NotThere(msgspec.Struct, frozen=True):
    """A VM that was not found, and why, in words."""

    sid: str
    why: str


def first_not_there(
    asked: Mapping[str, tuple[Probing, Sequence[Allocation]]], limit: timedelta
) -> Mapping[str, NotThere | None]:
    """Which VM each does not find, by its name, of those that it is asked for one after the other; None: it finds all.

    All are asked at the same time. limit: of one question. Who cannot tell has not found it.
    """
    questions = {
        name: partial(_first_of, provisioner, allocations, limit)
        for name, (provisioner, allocations) in asked.items()
        if allocations
    }
    # Each question has its own limit; this one ends nothing before that.
    longest = max((len(allocations) for _, allocations in asked.values()), default=0)
    found = _at_once(questions, limit * (longest + 1))
    return {name: _not_there(found.get(name), allocations) for name, (_, allocations) in asked.items()}


def _first_of(provisioner: Probing, allocations: Sequence[Allocation], limit: timedelta) -> NotThere | None:
    for allocation in allocations:
        answer = _in_time(partial(provisioner.exists, allocation), limit)
        if answer is not True:
            why = answer if isinstance(answer, Failure) else "it says that there is no such VM"
            return NotThere(allocation.sid, why)
    return None


def _not_there(found: object, allocations: Sequence[Allocation]) -> NotThere | None:
    if isinstance(found, Failure):
        return NotThere(allocations[0].sid, found)
    return found if isinstance(found, NotThere) else None


def _in_time(call: Callable[[], object], limit: timedelta) -> object:
    """What a call without a time limit of its own returns; a Failure where it raises, or does not come back."""
    return _at_once({"": call}, limit)[""]


def _at_once(
    calls: Mapping[str, Callable[[], object]], limit: timedelta, is_over: Callable[[], bool] = lambda: False
) -> Mapping[str, object]:
    """The same for several calls, all made at the same time. is_over: then what has not come back is missing."""
    came_back: SimpleQueue[tuple[str, object]] = SimpleQueue()

    def make(name: str, call: Callable[[], object]) -> None:
        came_back.put((name, _returned(call)))

    for name, call in calls.items():
        # A daemon, and named as the workers are: the end of the process does not wait for it.
        thread = threading.Thread(target=partial(make, name, call), name="release-once", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            # This machine has no thread to give now.
            came_back.put((name, Failure(error)))
    ends = time.monotonic() + limit.total_seconds()
    found: dict[str, object] = {}
    while len(found) < len(calls) and not is_over():
        left = ends - time.monotonic()
        try:
            name, returned = came_back.get(timeout=min(max(left, 0.0), LOOK_SECONDS))
        except Empty:
            if left <= 0:
                late = TooSlow(f"did not come back within {limit.total_seconds():g} s")
                return {name: found.get(name, late) for name in calls}
        else:
            found[name] = returned
    return {name: found[name] for name in calls if name in found}


def _why(returned: object, name: str) -> str | None:
    if isinstance(returned, TooSlow):
        return f"{name} {returned}"
    return returned if isinstance(returned, Failure) else None


def _returned(call: Callable[[], object]) -> object:
    try:
        return call()
    except ProvisionerError as error:
        return Failure(_understood(error))
    except BaseException as error:
        logger.exception("the provisioner raised something else than a ProvisionerError")
        return Failure(_broke(error))


def _understood(error: ProvisionerError) -> ProvisionerError:
    """The error in our own words: a subclass may lack what it should have, or have it of another type."""
    kinds = (ProvisionerSeemsDown, ProvisionerDown)
    kind = next((kind for kind in kinds if isinstance(error, kind)), ProvisionerError)
    return kind(
        plain(error),
        retryable=bool(getattr(error, "retryable", False)),
        retry_after_seconds=_seconds(getattr(error, "retry_after_seconds", None)),
        timed_out=bool(getattr(error, "timed_out", False)),
        end_unknown=bool(getattr(error, "end_unknown", False)),
        still_running=bool(getattr(error, "still_running", False)),
        not_called=bool(getattr(error, "not_called", False)),
    )


def _seconds(asked: object) -> float | None:
    return max(0.0, float(asked)) if isinstance(asked, int | float) and abs(asked) < LONGEST_WAIT else None


def _checked(answer: object) -> Release | str:
    """A Release with the types that it promises; else what it is, in words."""
    if not isinstance(answer, Release):
        return "None" if answer is None else f"with a {type(answer).__name__}, which is no Release"
    result: object = answer.result
    proof: object = answer.proof
    if not isinstance(result, Result):
        return f"with a Release whose result is no Result but a {type(result).__name__}"
    if not isinstance(proof, bool):
        return f"with a Release whose proof is no bool but a {type(proof).__name__}"
    return Release(result, plain(answer.evidence), proof)


def _broke(error: BaseException) -> str:
    return f"the provisioner broke: {kind_and_reason(error)}"
