"""What a provisioner is tried on, and how it is asked there: with every check that holds for every answer."""

import math
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec
import pytest
from msgspec.structs import replace

from autorelease.errors import ProvisionerDown, ProvisionerError
from autorelease.model import Allocation, RawRow, Release, Result
from autorelease.provisioners import Identifying, Probing, Provisioner

TIMEOUT = timedelta(seconds=30)
SHORT_TIMEOUT = timedelta(milliseconds=500)
# So long after its time-out a tick gives a call up, whatever becomes of it.
GIVEN_UP_AFTER = timedelta(seconds=10)
EXPIRED_AT = datetime(2026, 12, 1, tzinfo=UTC)

Returned = TypeVar("Returned")
Answer = Release | ProvisionerError
Found = bool | ProvisionerError


def make_allocation(vm_ref: str, **fields: Any) -> Allocation:
    """An expired allocation of this VM, as a ledger of the default names holds it; fields: what is to be different."""
    sid = f"sid-of-{vm_ref}"
    made = Allocation(
        sid=sid,
        status="Active",
        expires_at=EXPIRED_AT,
        settled=False,
        vm_ref=vm_ref,
        raw=RawRow(sid, "Active", int(EXPIRED_AT.timestamp())),
    )
    return replace(made, **fields)


class System(msgspec.Struct, frozen=True, kw_only=True):
    """What a provisioner is tried on: a stand-in, or a real system that may lose its VMs. A fresh one for each test.

    make: a new provisioner for it, with this time-out for one call.
    vms: the vm_ref of every VM that is there; at least four. unknown: one that never was, of the same form.
    standing: the vm_refs that are there now. None: there are no VMs behind it, the stamp is all that a release is.
    break_down: make it unreachable, or refuse our credentials. refuse: make it refuse to release this VM. hang: make it
    take calls and answer none. None: it cannot be made to, and the tests that need it are skipped.
    settle: complete what it has accepted (PENDING).
    allocate: the allocation of a vm_ref, where yours need more. secrets: what no message and no evidence may hold.
    """

    make: Callable[[timedelta], Provisioner]
    vms: Sequence[str]
    standing: Callable[[], Collection[str]] | None
    break_down: Callable[[], object] | None
    refuse: Callable[[str], object] | None
    hang: Callable[[], object] | None
    settle: Callable[[], object] = lambda: None
    unknown: str = "no-such-vm"
    allocate: Callable[[str], Allocation] = make_allocation
    secrets: Sequence[str] = ()

    def check_standing(self, expected: Collection[str], after: str) -> None:
        """Exactly these VMs are there."""
        if self.standing is not None:
            found, wanted = sorted(self.standing()), sorted(expected)
            assert found == wanted, f"after {after} there are {found}, not {wanted}"

    def check_words(self, words: str, what: str) -> None:
        """They say something, and no secret."""
        assert words.strip(), f"{what} is empty: nobody will know what happened"
        assert not [secret for secret in self.secrets if secret in words], f"{what} shows a secret, and goes into logs"


@contextmanager
def opened(system: System, timeout: timedelta = TIMEOUT) -> Iterator[Provisioner]:
    """A provisioner as a tick has it: its preflight was good, and in the end it is closed."""
    provisioner = system.make(timeout)
    complaint = complaint_of(provisioner)
    assert complaint is None, f"the preflight of a system that is well: {complaint!r}"
    yield provisioner
    close(provisioner)


def close(provisioner: Provisioner) -> None:
    """Close it, which is never an error."""
    try:
        provisioner.close()
    except (Exception, SystemExit) as error:
        raise AssertionError(f"close raised {error!r}") from error


def complaint_of(provisioner: Provisioner) -> ProvisionerError | None:
    """What its preflight raises; None: nothing."""
    try:
        provisioner.preflight()
    except ProvisionerError as error:
        return error
    except (Exception, SystemExit) as error:
        raise AssertionError(f"preflight raised {error!r}: only a ProvisionerError is understood") from error
    return None


def ask(system: System, provisioner: Provisioner, allocation: Allocation) -> Answer:
    """One release, and what must hold of its answer whatever it is."""
    try:
        answer = provisioner.release(allocation)
    except ProvisionerError as error:
        check_error(system, error)
        return error
    except (Exception, SystemExit) as error:
        raise AssertionError(f"release raised {error!r}: only a ProvisionerError is understood") from error
    _check_release(system, answer)
    if answer.result is not Result.PENDING and system.standing is not None:
        assert allocation.vm_ref not in system.standing(), f"{answer} of {allocation.vm_ref!r}, which is still there"
    return answer


def look(system: System, provisioner: Provisioner, allocation: Allocation) -> Found:
    """Ask whether a VM is there, and what must hold of any answer; skips the test where it cannot tell."""
    if not isinstance(provisioner, Probing):
        pytest.skip("this provisioner cannot tell whether a VM is there (it has no method exists)")
    try:
        answer: object = provisioner.exists(allocation)
    except ProvisionerError as error:
        check_error(system, error)
        return error
    except (Exception, SystemExit) as error:
        raise AssertionError(f"exists raised {error!r}: only a ProvisionerError is understood") from error
    assert isinstance(answer, bool), f"exists returned {answer!r}, which is neither True nor False"
    return answer


def fingerprint(system: System, provisioner: Provisioner) -> str | None:
    """By what it finds VMs, without a secret; skips the test where it cannot say."""
    if not isinstance(provisioner, Identifying):
        pytest.skip("this provisioner does not say by what it finds VMs (it has no method fingerprint)")
    try:
        found: object = provisioner.fingerprint()
    except (Exception, SystemExit) as error:
        raise AssertionError(f"fingerprint raised {error!r}: it says None where it cannot say more") from error
    if found is None:
        return None
    assert isinstance(found, str), f"the fingerprint {found!r} is no text"
    system.check_words(found, "the fingerprint")
    return found


def _check_release(system: System, answer: Any) -> None:
    assert isinstance(answer, Release), f"release returned {answer!r}, which is no Release"
    result: object = answer.result
    proof: object = answer.proof
    evidence: object = answer.evidence
    assert isinstance(result, Result), f"the result {result!r} is no Result"
    assert isinstance(proof, bool), f"the proof {proof!r} is neither True nor False"
    assert isinstance(evidence, str), f"the evidence {evidence!r} is no text"
    system.check_words(evidence, "the evidence")


def check_error(system: System, error: ProvisionerError) -> None:
    """It has all that an error of the protocol has, and words of its own."""
    for name in ("retryable", "timed_out", "end_unknown"):
        assert isinstance(getattr(error, name, None), bool), f"{error!r} has no {name}: call super().__init__"
    wait: object = error.retry_after_seconds
    is_wait = wait is None or (isinstance(wait, int | float) and math.isfinite(wait) and wait >= 0)
    assert is_wait, f"the retry_after_seconds {wait!r} is no number of seconds"
    system.check_words(str(error), f"the message of a {type(error).__name__}")
    assert str(error) not in (str(ProvisionerError()), str(ProvisionerDown())), f"{error!r} has no words of its own"


def check_began(answer: Answer, vm: str) -> None:
    """A release of a VM that was there: it is gone, or will be."""
    assert isinstance(answer, Release), f"the release of {vm!r}, which was there, failed: {answer!r}"
    is_begun = answer.result in (Result.RELEASED, Result.PENDING)
    assert is_begun, f"{vm!r} was there, and its first release says {answer}"


def release(system: System, provisioner: Provisioner, vm: str) -> None:
    """Release a VM that is there, and wait until it is gone."""
    answer = ask(system, provisioner, system.allocate(vm))
    check_began(answer, vm)
    if isinstance(answer, Release) and answer.result is Result.PENDING:
        system.settle()
        release_again(system, provisioner, vm)


def release_again(system: System, provisioner: Provisioner, vm: str) -> None:
    """Release a VM that is gone: no error, and nothing to wait for."""
    answer = ask(system, provisioner, system.allocate(vm))
    assert isinstance(answer, Release), f"{vm!r} is gone, and another release of it failed: {answer!r}"
    assert answer.result is not Result.PENDING, f"{vm!r} is gone, and another release of it is pending for ever"


def at_once(
    call: Callable[[str], Returned], names: Sequence[str], limit: timedelta = TIMEOUT + GIVEN_UP_AFTER
) -> list[Returned]:
    """The results of this call for each name, each in a thread of its own, all begun together and ended in time."""
    results: list[Returned] = []
    errors: list[BaseException] = []
    together = threading.Barrier(len(names))

    def work(name: str) -> None:
        try:
            together.wait(TIMEOUT.total_seconds())
            results.append(call(name))
        except BaseException as error:  # noqa: BLE001 - raised again, where the test sees it
            errors.append(error)

    threads = [threading.Thread(target=work, args=(name,), daemon=True) for name in names]
    for thread in threads:
        thread.start()
    ends = time.monotonic() + limit.total_seconds()
    for thread in threads:
        thread.join(max(0.0, ends - time.monotonic()))
    for error in errors:
        raise error
    late = len(names) - len(results)
    assert not late, f"{late} of {len(names)} calls did not come back within {limit.total_seconds():g} s"
    return results


def able(ability: Callable[..., object] | None, name: str) -> Callable[..., object]:
    """The ability of a system; skips the test where it has none."""
    if ability is None:
        pytest.skip(f"this system has no way to {name} (System.{name} is None)")
    return ability
