"""What every provisioner does, whatever makes its VMs go away: one suite for all of them."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from autorelease.errors import ProvisionerError
from autorelease.model import Release, Result
from autorelease.provisioners import Provisioner, open_provisioners
from autorelease.provisioners.memory import MemoryProvisioner
from tests.support.engine import made_allocation
from tests.support.place import program

VMS = tuple(f"vm-{number}" for number in range(12))
TIMEOUT = timedelta(seconds=30)


@dataclass(frozen=True)
class Cloud:
    """A provisioner and the VMs behind it. standing: what still runs; None: it has no VMs of its own."""

    provisioner: Provisioner
    standing: Callable[[], set[str]] | None


def memory(_: Path) -> Cloud:
    """VMs are words in a set."""
    provisioner = MemoryProvisioner(VMS)
    return Cloud(provisioner, lambda: set(provisioner.vms))


def command(folder: Path) -> Cloud:
    """VMs are files in a folder, and a program removes them."""
    vms = folder / "vms"
    vms.mkdir()
    for name in VMS:
        (vms / name).touch()
    script = program(folder, f'rm -- "{vms}/$1" 2>/dev/null || exit 3')
    options = {"kind": "command", "argv": [str(script), "{vm_ref}"]}
    made = open_provisioners({"default": options}, folder / "config.toml", TIMEOUT, stamps=True)
    return Cloud(made["default"].provisioner, lambda: {each.name for each in vms.iterdir()})


def ledger(folder: Path) -> Cloud:
    """The stamp is the release."""
    made = open_provisioners({"default": {"kind": "ledger"}}, folder / "config.toml", TIMEOUT, stamps=True)
    return Cloud(made["default"].provisioner, None)


@pytest.fixture(params=[memory, command, ledger], ids=lambda make: make.__name__)
def cloud(request: pytest.FixtureRequest, tmp_path: Path) -> Cloud:
    """Twelve running VMs of each kind."""
    made: Cloud = request.param(tmp_path)
    return made


@pytest.fixture(params=[memory, command], ids=lambda make: make.__name__)
def cloud_of_vms(request: pytest.FixtureRequest, tmp_path: Path) -> Cloud:
    """Only of those that have VMs of their own."""
    made: Cloud = request.param(tmp_path)
    return made


def release(cloud: Cloud, vm_ref: str) -> Release:
    """Release the allocation of this VM."""
    return cloud.provisioner.release(made_allocation(f"sid-of-{vm_ref}", vm_ref=vm_ref))


def test_it_is_reachable(cloud: Cloud) -> None:
    cloud.provisioner.preflight()
    cloud.provisioner.close()


def test_a_preflight_releases_nothing(cloud_of_vms: Cloud) -> None:
    cloud_of_vms.provisioner.preflight()
    assert cloud_of_vms.standing is not None
    assert cloud_of_vms.standing() == set(VMS)


def test_a_vm_is_released_and_no_other(cloud: Cloud) -> None:
    answer = release(cloud, "vm-3")
    assert answer.result is Result.RELEASED
    assert answer.evidence
    if cloud.standing is not None:
        assert cloud.standing() == set(VMS) - {"vm-3"}


def test_a_second_release_is_no_error(cloud: Cloud) -> None:
    release(cloud, "vm-3")
    for _ in range(2):
        assert release(cloud, "vm-3").result in (Result.ALREADY_RELEASED, Result.RELEASED)


def test_a_second_release_says_that_the_vm_was_gone(cloud_of_vms: Cloud) -> None:
    release(cloud_of_vms, "vm-3")
    answer = release(cloud_of_vms, "vm-3")
    assert answer.result is Result.ALREADY_RELEASED
    assert answer.evidence


def test_a_vm_that_it_never_heard_of_is_a_miss_without_proof(cloud_of_vms: Cloud) -> None:
    answer = release(cloud_of_vms, "nobodys")
    assert (answer.result, answer.proof) == (Result.ALREADY_RELEASED, False)
    assert cloud_of_vms.standing is not None
    assert cloud_of_vms.standing() == set(VMS)


def test_it_is_used_by_several_threads_at_once(cloud: Cloud) -> None:
    answers: list[Release] = []
    errors: list[BaseException] = []
    together = threading.Barrier(len(VMS), timeout=30)

    def work(vm_ref: str) -> None:
        together.wait()
        try:
            answers.append(release(cloud, vm_ref))
        except ProvisionerError as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in VMS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [answer.result for answer in answers] == [Result.RELEASED] * len(VMS)
    if cloud.standing is not None:
        assert cloud.standing() == set()


def test_of_several_calls_for_one_vm_one_releases_it(cloud_of_vms: Cloud) -> None:
    answers: list[Release] = []
    together = threading.Barrier(8, timeout=30)

    def work() -> None:
        together.wait()
        answers.append(release(cloud_of_vms, "vm-0"))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results = [answer.result for answer in answers]
    assert (results.count(Result.RELEASED), results.count(Result.ALREADY_RELEASED)) == (1, 7)
