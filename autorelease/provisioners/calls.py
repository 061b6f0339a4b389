"""The edge to the provisioners: whatever one of them does, what comes out here is what the protocol allows.

A provisioner may be anybody's code. Nothing that it raises or returns ends a tick, and nothing but a Release that is
one in every part is taken for a release.
"""

import logging
import threading
from collections.abc import Callable
from datetime import timedelta

from autorelease.errors import ProvisionerDown, ProvisionerError
from autorelease.model import Allocation, Release, Result
from autorelease.provisioners import Provisioner
from autorelease.text import plain

logger = logging.getLogger(__name__)

# What is asked for beyond this is no wish to wait, but nonsense; so is a NaN.
LONGEST_WAIT = 1e9


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
    return _in_time(provisioner.preflight, limit, "its preflight")


def close(provisioner: Provisioner, limit: timedelta) -> None:
    """Let it give back what it holds. That it cannot changes nothing of what was done, and is only logged."""
    problem = _in_time(provisioner.close, limit, "its close")
    if problem is not None:
        logger.warning("a provisioner could not be closed: %s", problem)


def _in_time(call: Callable[[], object], limit: timedelta, name: str) -> str | None:
    """Make a call that has no time limit of its own; returns what is wrong, in words."""
    said: list[str | None] = []
    # A daemon, and named as the workers are: the end of the process does not wait for it.
    thread = threading.Thread(target=lambda: said.append(_complaint(call)), name="release-once", daemon=True)
    thread.start()
    thread.join(limit.total_seconds())
    return said[0] if said else f"{name} did not come back within {limit.total_seconds():g} s"


def _complaint(call: Callable[[], object]) -> str | None:
    try:
        call()
    except ProvisionerError as error:
        return str(_understood(error))
    except BaseException as error:
        logger.exception("the provisioner raised what it must not")
        return _broke(error)
    return None


def _understood(error: ProvisionerError) -> ProvisionerError:
    """The error in our own words: a subclass may lack what it should have, or have it of another type."""
    kind = ProvisionerDown if isinstance(error, ProvisionerDown) else ProvisionerError
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
