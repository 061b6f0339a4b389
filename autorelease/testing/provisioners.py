"""What every provisioner does, whatever makes its VMs go away."""

import threading

import pytest
from msgspec.structs import replace

from autorelease.errors import ProvisionerDown, ProvisionerError
from autorelease.model import Release, Result
from autorelease.testing.looking import LookingContract, wants_vms
from autorelease.testing.names import nearly
from autorelease.testing.system import (
    GIVEN_UP_AFTER,
    SHORT_TIMEOUT,
    TIMEOUT,
    Answer,
    System,
    able,
    ask,
    at_once,
    check_began,
    check_error,
    close,
    complaint_of,
    opened,
    release,
    release_again,
)

FEWEST_VMS = 4
CALLS_AT_ONCE = 8


class ProvisionerContract(LookingContract):
    """Needs a fixture `system` that gives a fresh System to each test."""

    def test_the_system_is_fit_for_the_trial(self, system: System) -> None:
        vms = set(system.vms)
        assert len(vms) == len(system.vms) >= FEWEST_VMS, f"System.vms has fewer than {FEWEST_VMS} VMs, or one twice"
        assert system.unknown not in vms, "System.unknown is one of System.vms"
        system.check_standing(system.vms, "it was made")

    def test_a_preflight_releases_nothing_and_may_be_repeated(self, system: System) -> None:
        with opened(system) as provisioner:
            again = complaint_of(provisioner)
            assert again is None, f"a second preflight of a system that is well: {again!r}"
        system.check_standing(system.vms, "a preflight")

    def test_a_release_makes_its_vm_go_away_and_no_other(self, system: System) -> None:
        vm, *others = system.vms
        with opened(system) as provisioner:
            release(system, provisioner, vm)
        system.check_standing(others, f"the release of {vm!r}")

    def test_a_second_release_is_no_error(self, system: System) -> None:
        vm, *others = system.vms
        with opened(system) as provisioner:
            release(system, provisioner, vm)
            for _ in range(2):
                release_again(system, provisioner, vm)
        system.check_standing(others, f"three releases of {vm!r}")

    def test_another_process_may_repeat_a_release(self, system: System) -> None:
        """As a tick does after one that was killed between the release and its stamp."""
        vm, *others = system.vms
        with opened(system) as provisioner:
            release(system, provisioner, vm)
        with opened(system) as provisioner:
            release_again(system, provisioner, vm)
        system.check_standing(others, f"releases of {vm!r} by two provisioners")

    def test_a_vm_that_never_was_is_a_miss_without_proof(self, system: System) -> None:
        wants_vms(system)
        with opened(system) as provisioner:
            answer = ask(system, provisioner, system.allocate(system.unknown))
        assert isinstance(answer, Release), f"a VM that is not there is no error, but a miss: {answer!r}"
        assert answer.result is Result.ALREADY_RELEASED, f"{answer} of a VM that never was"
        assert not answer.proof, 'a mere "not found" was given as proof: with a wrong account nothing is found either'
        system.check_standing(system.vms, "the release of a VM that never was")

    def test_a_name_that_is_nearly_a_vms_releases_nothing(self, system: System) -> None:
        """What a row says may end up in a path, a query, a pattern or an option."""
        wants_vms(system)
        good = system.allocate(system.vms[0])
        with opened(system) as provisioner:
            for vm_ref in nearly(system.vms[0], system.vms[1]):
                if vm_ref not in system.vms:
                    _check_harmless(ask(system, provisioner, replace(good, vm_ref=vm_ref)), vm_ref)
                    system.check_standing(system.vms, f"the release of {vm_ref!r}")

    def test_odd_columns_take_nothing_down(self, system: System) -> None:
        vm, *others = system.vms
        odd = {"sid": "a b\n\0'\"$(id)", "owner": "Zoë\n\0\u202e", "plan": "x" * 200_000}
        bare = {"owner": None, "plan": None, "vm_uid": None, "expires_at": None}
        with opened(system) as provisioner:
            for columns in (odd, bare):
                answer = ask(system, provisioner, replace(system.allocate(vm), **columns))
                assert not isinstance(answer, ProvisionerDown), f"the columns of one row took it down: {answer}"
            release(system, provisioner, others[0])

    def test_it_is_used_by_several_threads_at_once(self, system: System) -> None:
        with opened(system) as provisioner:
            answers = at_once(lambda vm: (vm, ask(system, provisioner, system.allocate(vm))), system.vms)
            for vm, answer in answers:
                check_began(answer, vm)
            system.settle()
            for vm in system.vms:
                release_again(system, provisioner, vm)
        system.check_standing((), "the release of every VM, each by a thread of its own")

    def test_one_vm_may_be_released_by_several_threads_at_once(self, system: System) -> None:
        vm, *others = system.vms
        with opened(system) as provisioner:
            answers = at_once(lambda name: ask(system, provisioner, system.allocate(name)), [vm] * CALLS_AT_ONCE)
            for answer in answers:
                _check_passing(answer, f"one of {CALLS_AT_ONCE} releases of {vm!r} at once")
            system.settle()
            release_again(system, provisioner, vm)
        results = {answer.result for answer in answers if isinstance(answer, Release)}
        assert results & {Result.RELEASED, Result.PENDING}, f"nobody has released {vm!r}: {answers}"
        system.check_standing(others, f"{CALLS_AT_ONCE} releases of {vm!r} at once")

    def test_it_may_be_closed_unused_and_twice(self, system: System) -> None:
        close(system.make(TIMEOUT))
        with opened(system) as provisioner:
            release(system, provisioner, system.vms[0])
            close(provisioner)
        system.check_standing(system.vms[1:], "it was closed")

    def test_closing_one_leaves_another_at_work(self, system: System) -> None:
        with opened(system) as provisioner:
            with opened(system) as other:
                release(system, other, system.vms[0])
            release(system, provisioner, system.vms[1])

    def test_it_leaves_no_thread_that_keeps_the_process(self, system: System) -> None:
        before = set(threading.enumerate())
        with opened(system) as provisioner:
            release(system, provisioner, system.vms[0])
        left = [thread.name for thread in threading.enumerate() if thread not in before and not thread.daemon]
        assert not left, f"threads that are no daemons are left after close: {left}"

    def test_it_writes_nothing_to_standard_output(self, system: System, capfd: pytest.CaptureFixture[str]) -> None:
        """Whoever reads the report as JSON would stumble over it."""
        capfd.readouterr()
        with opened(system) as provisioner:
            release(system, provisioner, system.vms[0])
            ask(system, provisioner, system.allocate(system.unknown))
        written = capfd.readouterr().out
        assert not written, f"on standard output: {written!r}"

    def test_a_system_that_is_down_is_found_to_be(self, system: System) -> None:
        break_down = able(system.break_down, "break_down")
        provisioner = system.make(TIMEOUT)
        break_down()
        complaint = complaint_of(provisioner)
        assert isinstance(complaint, ProvisionerDown), f"the preflight of a system that is down: {complaint!r}"
        check_error(system, complaint)
        close(provisioner)

    def test_a_system_that_goes_down_after_the_preflight_releases_nothing(self, system: System) -> None:
        break_down = able(system.break_down, "break_down")
        with opened(system) as provisioner:
            break_down()
            answer = ask(system, provisioner, system.allocate(system.vms[0]))
        assert isinstance(answer, ProvisionerError), f"a system that is down answered {answer}"
        if not isinstance(answer, ProvisionerDown):
            _check_passing(answer, "a release by a system that is down")
        system.check_standing(system.vms, "a release by a system that is down")

    def test_a_vm_that_is_refused_fails_alone(self, system: System) -> None:
        vm, other, *rest = system.vms
        able(system.refuse, "refuse")(vm)
        with opened(system) as provisioner:
            answer = ask(system, provisioner, system.allocate(vm))
            assert isinstance(answer, ProvisionerError), f"the release of {vm!r} was refused, and it says {answer}"
            assert not isinstance(answer, ProvisionerDown), f"the refusal of one VM took the system down: {answer}"
            release(system, provisioner, other)
        system.check_standing([vm, *rest], f"a refused release of {vm!r} and one of {other!r}")

    def test_a_call_that_hangs_ends_in_its_time_and_says_so(self, system: System) -> None:
        hang = able(system.hang, "hang")
        with opened(system, SHORT_TIMEOUT) as provisioner:
            hang()
            limit = SHORT_TIMEOUT + GIVEN_UP_AFTER
            [answer] = at_once(lambda vm: ask(system, provisioner, system.allocate(vm)), system.vms[:1], limit)
        assert isinstance(answer, ProvisionerError), f"a call that hung says {answer}"
        assert answer.timed_out, f"the VM may be gone, and the error is not timed_out: {answer}"


def _check_harmless(answer: Answer, vm_ref: str) -> None:
    assert not isinstance(answer, ProvisionerDown), f"the vm_ref {vm_ref!r} of one row took the system down: {answer}"
    if isinstance(answer, Release):
        is_miss = answer.result is Result.ALREADY_RELEASED and not answer.proof
        assert is_miss, f"{answer} of {vm_ref!r}, which is no VM"


def _check_passing(answer: Answer, what: str) -> None:
    if isinstance(answer, ProvisionerError):
        assert answer.retryable, f"{what} may well succeed a moment later, and its error is not retryable: {answer!r}"
