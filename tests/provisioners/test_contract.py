"""Our own provisioners keep the contract that others are held to, and are stricter where their systems let them be."""

from pathlib import Path
from typing import Any

import pytest

from autorelease.errors import ProvisionerError
from autorelease.model import Allocation, Release, Result
from autorelease.provisioners import Kind, open_provisioners
from autorelease.provisioners.command import KIND as COMMAND
from autorelease.provisioners.command import Options
from autorelease.provisioners.ledger import KIND as LEDGER
from autorelease.provisioners.memory import ProbingMemory
from autorelease.testing import KindContract, ProvisionerContract, System, make_allocation, make_section
from autorelease.testing.system import ask, at_once, opened, release
from tests.support.place import program

VMS = tuple(f"vm-{number}" for number in range(6))

# VMs are files in a folder. It looks at the name first, as the example of docs/provisioners.md does.
BODY = """
case $1 in '' | *[!A-Za-z0-9-]*) echo "not a name: $1"; exit 1 ;; esac
[ -e "{vms}/$1.locked" ] && {{ echo 'it is locked'; exit 1; }}
[ -e "{vms}/hangs" ] && exec sleep 60
rm -- "{vms}/$1.vm" 2>/dev/null || exit 3
"""
LOOK = """
case $1 in '' | *[!A-Za-z0-9-]*) echo "not a name: $1"; exit 1 ;; esac
[ -e "{vms}/hangs" ] && exec sleep 60
[ -e "{vms}/$1.vm" ] || exit 3
"""


def memory(_: Path) -> System:
    """VMs are words in a set."""
    complaints: dict[str, ProvisionerError] = {}

    def complain(allocation: Allocation) -> None:
        for vm_ref in (allocation.vm_ref, "every VM"):
            if vm_ref in complaints:
                raise complaints[vm_ref]

    provisioner = ProbingMemory(VMS, before=complain)
    return System(
        make=lambda _: provisioner,
        vms=VMS,
        standing=lambda: provisioner.vms,
        break_down=None,
        refuse=lambda vm: complaints.update({vm: ProvisionerError(f"{vm} is locked")}),
        hang=None,
    )


def command(folder: Path) -> System:
    """VMs are files in a folder, and a program removes them."""
    vms = folder / "vms"
    vms.mkdir()
    for name in VMS:
        (vms / f"{name}.vm").touch()
    script = program(folder, BODY.format(vms=vms))
    look = program(folder, LOOK.format(vms=vms), name="look-for-vm")
    options = {
        "kind": "command",
        "argv": [str(script), "{vm_ref}", "--token=hunter2"],
        "exists": [str(look), "{vm_ref}"],
        "already": [3],
    }

    def break_down() -> None:
        script.unlink()
        look.unlink()

    return System(
        make=lambda timeout: (
            open_provisioners({"default": options}, folder / "config.toml", timeout, stamps=True)["default"].provisioner
        ),
        vms=VMS,
        standing=lambda: [path.stem for path in vms.glob("*.vm")],
        break_down=break_down,
        refuse=lambda vm: (vms / f"{vm}.locked").touch(),
        hang=(vms / "hangs").touch,
        secrets=["hunter2"],
    )


def ledger(_: Path) -> System:
    """The stamp is the release."""
    return System(
        make=lambda timeout: LEDGER.make(make_section({}, timeout=timeout)),
        vms=VMS,
        standing=None,
        break_down=None,
        refuse=None,
        hang=None,
    )


class TestProvisioners(ProvisionerContract):
    """All of ours."""

    @pytest.fixture(params=[memory, command, ledger], ids=lambda make: make.__name__)
    def system(self, request: pytest.FixtureRequest, tmp_path: Path) -> System:
        """Six running VMs of each kind."""
        made: System = request.param(tmp_path)
        return made


class TestCommand(KindContract):
    """A program of the operator's own."""

    @pytest.fixture
    def kind(self) -> Kind:
        """As the registry names it."""
        return COMMAND

    @pytest.fixture
    def options(self) -> dict[str, Any]:
        """Every key."""
        return {
            "argv": ["true", "{sid}"],
            "exists": ["test", "{sid}"],
            "already": [3],
            "pending": [20],
            "retry": [75],
            "down": [77, 78],
            "allow_dash": True,
        }

    def test_every_key_is_tried(self, options: dict[str, Any]) -> None:
        assert set(options) == set(Options.__struct_fields__)


class TestLedger(KindContract):
    """The stamp alone."""

    @pytest.fixture
    def kind(self) -> Kind:
        """As the registry names it."""
        return LEDGER

    @pytest.fixture
    def options(self) -> dict[str, Any]:
        """It has none."""
        return {}


# --- stricter than the contract ---------------------------------------------------------------------------------------


@pytest.fixture(params=[memory, command], ids=lambda make: make.__name__)
def system(request: pytest.FixtureRequest, tmp_path: Path) -> System:
    """Of those that know of themselves what they have released."""
    made: System = request.param(tmp_path)
    return made


def test_a_second_release_says_that_the_vm_was_gone(system: System) -> None:
    with opened(system) as provisioner:
        release(system, provisioner, "vm-3")
        answer = ask(system, provisioner, make_allocation("vm-3"))
    assert isinstance(answer, Release)
    assert answer.result is Result.ALREADY_RELEASED


def test_of_several_calls_for_one_vm_one_releases_it(system: System) -> None:
    with opened(system) as provisioner:
        answers = at_once(lambda vm: ask(system, provisioner, make_allocation(vm)), ["vm-0"] * 8)
    results = [answer.result for answer in answers if isinstance(answer, Release)]
    assert (results.count(Result.RELEASED), results.count(Result.ALREADY_RELEASED)) == (1, 7)
