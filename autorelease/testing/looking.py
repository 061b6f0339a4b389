"""What every provisioner says of VMs that it is only asked about, and what it says of itself."""

import pytest
from msgspec.structs import replace

from autorelease.errors import ProvisionerDown, ProvisionerError
from autorelease.testing.names import nearly
from autorelease.testing.system import (
    GIVEN_UP_AFTER,
    SHORT_TIMEOUT,
    Found,
    System,
    able,
    at_once,
    fingerprint,
    look,
    opened,
    release,
)


class LookingContract:
    """A part of `ProvisionerContract`: what a provisioner may be asked before, and beside, any release."""

    def test_a_vm_is_found_until_it_is_gone(self, system: System) -> None:
        wants_vms(system)
        vm, *others = system.vms
        with opened(system) as provisioner:
            for name in system.vms:
                _check_found(look(system, provisioner, system.allocate(name)), name, there=True)
            _check_found(look(system, provisioner, system.allocate(system.unknown)), system.unknown, there=False)
            release(system, provisioner, vm)
            _check_found(look(system, provisioner, system.allocate(vm)), vm, there=False)
            for name in others:
                _check_found(look(system, provisioner, system.allocate(name)), name, there=True)
        system.check_standing(others, f"it was asked for every VM, and {vm!r} was released")

    def test_no_name_that_is_nearly_a_vms_is_found(self, system: System) -> None:
        """It would vouch for a provisioner that looks in the wrong place."""
        wants_vms(system)
        good = system.allocate(system.vms[0])
        with opened(system) as provisioner:
            for vm_ref in nearly(system.vms[0], system.vms[1]):
                if vm_ref not in system.vms:
                    answer = look(system, provisioner, replace(good, vm_ref=vm_ref))
                    assert answer is not True, f"{vm_ref!r} is no VM, and is said to be there"
                    assert not isinstance(answer, ProvisionerDown), f"the vm_ref {vm_ref!r} took it down: {answer}"
        system.check_standing(system.vms, "it was asked for names that are nearly a VM's")

    def test_it_may_be_asked_by_several_threads_at_once(self, system: System) -> None:
        wants_vms(system)
        with opened(system) as provisioner:
            look(system, provisioner, system.allocate(system.vms[0]))
            answers = at_once(lambda vm: (vm, look(system, provisioner, system.allocate(vm))), system.vms)
        for vm, answer in answers:
            _check_found(answer, vm, there=True)

    def test_a_system_that_is_down_finds_no_vm_missing(self, system: System) -> None:
        """It would say "not there" of every VM."""
        break_down = able(system.break_down, "break_down")
        with opened(system) as provisioner:
            look(system, provisioner, system.allocate(system.vms[0]))
            break_down()
            answer = look(system, provisioner, system.allocate(system.vms[0]))
        assert isinstance(answer, ProvisionerError), f"a system that is down says {answer} of a VM that is there"

    def test_a_question_that_hangs_ends_in_its_time(self, system: System) -> None:
        hang = able(system.hang, "hang")
        with opened(system, SHORT_TIMEOUT) as provisioner:
            look(system, provisioner, system.allocate(system.vms[0]))
            hang()
            limit = SHORT_TIMEOUT + GIVEN_UP_AFTER
            [answer] = at_once(lambda vm: look(system, provisioner, system.allocate(vm)), system.vms[:1], limit)
        assert isinstance(answer, ProvisionerError), f"a question that nobody answered came to {answer}"

    def test_it_says_by_what_it_finds_vms(self, system: System) -> None:
        with opened(system) as provisioner:
            before = fingerprint(system, provisioner)
            release(system, provisioner, system.vms[0])
            after = fingerprint(system, provisioner)
        with opened(system) as other:
            others = fingerprint(system, other)
        assert before == after, f"a release changed the fingerprint from {before!r} to {after!r}"
        assert before == others, f"two of the same section have the fingerprints {before!r} and {others!r}"


def wants_vms(system: System) -> None:
    """Skip the test where there are no VMs to look at."""
    if system.standing is None:
        pytest.skip("there are no VMs behind this system (System.standing is None)")


def _check_found(answer: Found, vm: str, *, there: bool) -> None:
    assert not isinstance(answer, ProvisionerError), f"whether {vm!r} is there cannot be told: {answer!r}"
    assert answer is there, f"{vm!r} is {'there' if there else 'not there'}, and exists says {answer}"
