"""The edge to the provisioners: whatever one of them does, what comes out here is what the protocol allows.

A provisioner may be anybody's code. Nothing that it raises or returns ends a tick, and nothing but a Release that is
one in every part is taken for a release.
"""

import logging
import threading
from collections.abc import Callable
from datetime import timedelta

from autorelease.errors import ProvisionerDown, ProvisionerError, ProvisionerSeemsDown
from autorelease.model import Allocation, Release, Result
from autorelease.provisioners import Identifying, Probing, Provisioner, Registered
from autorelease.text import plain

logger = logging.getLogger(__name__)

# What is asked for beyond this is no wish to wait, but nonsense; so is a NaN.
LONGEST_WAIT = 1e9


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
        logger.exception("the provisioner raised what it must not", extra={"facts": {"sid": allocation.sid}})
        return ProvisionerError(_broke(error), end_unknown=True)
    checked = _checked(answer)
    if isinstance(checked, str):
        message = f"the provisioner broke: it answered {checked}"
        logger.error("%s", message, extra={"facts": {"sid": allocation.sid}})
        return ProvisionerError(message, end_unknown=True)
    return checked


def why_unusable(provisioner: Provisioner, limit: timedelta) -> str | None:
    """Its preflight in words; None: it is usable. One that does not come back within the limit is not."""
    return _why(_in_time(provisioner.preflight, limit), "its preflight")


def close(provisioner: Provisioner, limit: timedelta) -> None:
    """Let it give back what it holds. That it cannot changes nothing of what was done, and is only logged."""
    problem = _why(_in_time(provisioner.close, limit), "its close")
    if problem is not None:
        logger.warning("a provisioner could not be closed: %s", problem)


def fingerprint(registered: Registered, name: str, limit: timedelta) -> str | None:
    """What a provisioner earns belief under; None: nothing that it says earns any.

    One that cannot say by what it finds VMs earns none: a changed account would inherit what the old one had earned.
    """
    provisioner = registered.provisioner
    if not isinstance(provisioner, Identifying):
        return None
    given = _in_time(provisioner.fingerprint, limit)
    if isinstance(given, Failure):
        logger.warning("the provisioner %s cannot say what it is known by: %s", name, given)
        return None
    return None if given is None else plain(given)


def why_not_there(provisioner: Probing, allocation: Allocation, limit: timedelta) -> str | None:
    """Why this VM counts as not found, in words; None: it is there. Who cannot tell has not found it."""
    answer = _in_time(lambda: provisioner.exists(allocation), limit)
    if isinstance(answer, Failure):
        return answer
    return None if answer is True else "it says that there is no such VM"


def _in_time(call: Callable[[], object], limit: timedelta) -> object:
    """What a call without a time limit of its own returns; a Failure where it raises, or does not come back."""
    came_back: list[object] = []
    # A daemon, and named as the workers are: the end of the process does not wait for it.
    thread = threading.Thread(target=lambda: came_back.append(_returned(call)), name="release-once", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        # This machine has no thread to give now.
        return Failure(error)
    thread.join(limit.total_seconds())
    return came_back[0] if came_back else TooSlow(f"did not come back within {limit.total_seconds():g} s")


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
        logger.exception("the provisioner raised what it must not")
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
    return f"the provisioner broke: {type(error).__name__}: {plain(error)}"
