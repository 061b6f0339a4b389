"""The suite for provisioners: each of its tests fails where its rule is broken, and says which rule that was."""

import inspect
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from fnmatch import filter as matching
from typing import Any, NoReturn, cast
from urllib.parse import unquote

import pytest
from msgspec.structs import replace

from autorelease.errors import ProvisionerDown, ProvisionerError
from autorelease.model import Allocation, Release, Result
from autorelease.testing import ProvisionerContract, System, make_allocation
from autorelease.testing.names import nearly

VMS = tuple(f"vm-{number}" for number in range(4))
RELEASED = Release(Result.RELEASED, "204")
PENDING = Release(Result.PENDING, "202")
MISS = Release(Result.ALREADY_RELEASED, "404", proof=False)
# These are plain classes: nothing keeps an author from filling them with what is nearly right.
AnyRelease = cast("Callable[..., Release]", Release)
AnyError = cast("Callable[..., ProvisionerError]", ProvisionerError)


class Good:
    """A provisioner of VMs that are words in a set. All that are made for one system share the set and its state."""

    def __init__(self, vms: set[str], state: dict[str, object]) -> None:
        self.vms = vms
        self.state = state

    def preflight(self) -> None:
        """Well, until it is told to be down."""
        if "down" in self.state:
            raise ProvisionerDown("connection refused")

    def release(self, allocation: Allocation) -> Release:
        """Gone, unless it is told otherwise."""
        if "down" in self.state:
            raise ProvisionerDown("connection refused")
        if allocation.vm_ref == self.state.get("locked"):
            raise ProvisionerError("it is locked")
        if "hangs" in self.state:
            raise ProvisionerError("no answer within 0.5 s", timed_out=True)
        return self.gone(allocation)

    def gone(self, allocation: Allocation) -> Release:
        """The release itself."""
        try:
            self.vms.remove(allocation.vm_ref)
        except KeyError:
            return MISS
        return RELEASED

    def exists(self, allocation: Allocation) -> bool:
        """Whether it is in the set, unless it is told otherwise."""
        if "down" in self.state:
            raise ProvisionerDown("connection refused")
        if "hangs" in self.state:
            raise ProvisionerError("no answer within 0.5 s", timed_out=True)
        return allocation.vm_ref in self.vms

    def fingerprint(self) -> str | None:
        """Always the same set."""
        return "good: a set of words"

    def close(self) -> None:
        """Nothing to give back."""


def made(kind: type[Good] = Good, **changes: Any) -> System:
    """A system of four VMs."""
    vms = set(VMS)
    state: dict[str, object] = {}
    system = System(
        make=lambda _: kind(vms, state),
        vms=VMS,
        standing=lambda: vms,
        break_down=lambda: state.update(down=True),
        refuse=lambda vm: state.update(locked=vm),
        hang=lambda: state.update(hangs=True),
    )
    return replace(system, **changes)


class Slow(Good):
    """Only accepts; its VMs are gone when time has passed."""

    def gone(self, allocation: Allocation) -> Release:
        """Noted."""
        if allocation.vm_ref not in self.vms:
            return MISS
        self.state[f"accepted {allocation.vm_ref}"] = True
        return PENDING

    def settle(self) -> None:
        """Time has passed."""
        for vm in VMS:
            if f"accepted {vm}" in self.state:
                self.vms.discard(vm)


def slow() -> System:
    """A system that completes what it has accepted when it is told to settle."""
    system = made(Slow)
    provisioner = cast("Slow", system.make(timedelta(0)))
    return replace(system, settle=provisioner.settle)


class TestGood(ProvisionerContract):
    """The suite has nothing to say against a provisioner that keeps the rules, whether it is quick or slow."""

    @pytest.fixture(params=[made, slow], ids=lambda make: make.__name__)
    def system(self, request: pytest.FixtureRequest) -> System:
        """A fresh one."""
        found: System = request.param()
        return found


# --- what breaks a rule -----------------------------------------------------------------------------------------------


def bad(**methods: Callable[..., object]) -> System:
    """A system whose provisioners do something else."""
    return made(cast("type[Good]", type("Bad", (Good,), methods)))


def gone(deed: Callable[[Good, str], object]) -> System:
    """A system whose provisioners do this with a VM."""
    return bad(gone=lambda self, allocation: deed(self, allocation.vm_ref))


def told(answer: object, name: Callable[[str], str] = str) -> System:
    """A system whose provisioners make the VM of this name go away, and say this."""

    def deed(provisioner: Good, vm_ref: str) -> object:
        provisioner.vms.discard(name(vm_ref))
        return answer

    return gone(deed)


def raised(error: BaseException) -> NoReturn:
    """For a lambda."""
    raise error


def without(error: BaseException) -> System:
    """A system that has only this error for a VM that is not there."""
    return bad(gone=lambda self, row: Good.gone(self, row) if row.vm_ref in self.vms else raised(error))


def preflight(error: BaseException) -> System:
    """A system whose preflight raises this, well or not."""
    return bad(preflight=lambda _: raised(error))


def while_it(word: str, answer: Callable[[], object]) -> System:
    """A system that answers this while it is down, locked or hangs."""

    def release(self: Good, row: Allocation) -> object:
        is_meant = word in self.state and self.state[word] in (True, row.vm_ref)
        return answer() if is_meant else self.gone(row)

    return bad(release=release)


class Tired(Good):
    """Answers one preflight."""

    def preflight(self) -> None:
        """Well, once."""
        if self.state.setdefault("asked", self) is not self or vars(self).setdefault("times", 0):
            raise ProvisionerDown("too many requests")
        vars(self)["times"] = 1


class Thorough(Good):
    """Leaves nothing."""

    def gone(self, allocation: Allocation) -> Release:
        """All of them."""
        answer = super().gone(allocation)
        self.vms.clear()
        return answer


class Forgetful(Good):
    """Knows only what it has released itself."""

    def gone(self, allocation: Allocation) -> Release:
        """Gone, or unheard of."""
        mine = vars(self).setdefault("mine", set())
        if allocation.vm_ref not in self.vms | mine:
            raise ProvisionerError("never heard of it")
        mine.add(allocation.vm_ref)
        return super().gone(allocation)


class Faithful(Good):
    """Wants to be used by the thread that asked it first."""

    def preflight(self) -> None:
        """Note the thread."""
        vars(self)["thread"] = threading.get_ident()

    def gone(self, allocation: Allocation) -> Release:
        """Gone, for one thread."""
        if threading.get_ident() != vars(self)["thread"]:
            raise RuntimeError("made in another thread")
        return super().gone(allocation)


class Once(Good):
    """Can be closed once."""

    def close(self) -> None:
        """Closed, or an error."""
        if vars(self).setdefault("is_closed", False):
            raise OSError("closed already")
        vars(self)["is_closed"] = True


class Shared(Good):
    """Has one session for all that are made, and each closes it."""

    def gone(self, allocation: Allocation) -> Release:
        """Gone, as long as nobody has closed."""
        if "closed" in self.state:
            raise ProvisionerError("the session is closed")
        return super().gone(allocation)

    def close(self) -> None:
        """Closed for all."""
        self.state["closed"] = True


class UninitialisedError(ProvisionerError):
    """Does not begin as its base does."""

    def __init__(self) -> None:
        """Nothing."""


def keep_process(_: object) -> None:
    """Begin a thread that outlives its provisioner for a moment."""
    threading.Thread(target=time.sleep, args=(0.3,), daemon=False, name="keeper").start()


FIT = "the_system_is_fit_for_the_trial"
PREFLIGHT = "a_preflight_releases_nothing_and_may_be_repeated"
FIRST = "a_release_makes_its_vm_go_away_and_no_other"
NEVER = "a_vm_that_never_was_is_a_miss_without_proof"
NEARLY = "a_name_that_is_nearly_a_vms_releases_nothing"
COLUMNS = "odd_columns_take_nothing_down"
THREADS = "it_is_used_by_several_threads_at_once"
TOGETHER = "one_vm_may_be_released_by_several_threads_at_once"
CLOSED = "it_may_be_closed_unused_and_twice"
OUTPUT = "it_writes_nothing_to_standard_output"
DOWN = "a_system_that_is_down_is_found_to_be"
DOWN_LATER = "a_system_that_goes_down_after_the_preflight_releases_nothing"
REFUSED = "a_vm_that_is_refused_fails_alone"
HANGS = "a_call_that_hangs_ends_in_its_time_and_says_so"
FOUND = "a_vm_is_found_until_it_is_gone"
NEARLY_FOUND = "no_name_that_is_nearly_a_vms_is_found"
ASKED_AT_ONCE = "it_may_be_asked_by_several_threads_at_once"
DOWN_ASKED = "a_system_that_is_down_finds_no_vm_missing"
SILENT = "a_question_that_hangs_ends_in_its_time"
FINGERPRINT = "it_says_by_what_it_finds_vms"
HUSH = "hunter2"


def there(deed: Callable[[Good, str], object]) -> System:
    """A system whose provisioners answer this when they are asked whether a VM is there."""
    return bad(exists=lambda self, allocation: deed(self, allocation.vm_ref))


def emptied(provisioner: Good, _: str) -> bool:
    """Looks, and lets everything go."""
    provisioner.vms.clear()
    return False


def too_slow(provisioner: Good, _: str) -> bool:
    """Waits for an answer for too long."""
    if "hangs" in provisioner.state:
        time.sleep(0.5)
    return False


def known_by(deed: Callable[[Good], object]) -> System:
    """A system whose provisioners say this of where they look."""
    return bad(fingerprint=deed)


class OneAtATime(Good):
    """Has one connection for all of its questions."""

    def exists(self, allocation: Allocation) -> bool:
        """There, if nobody else asks meanwhile."""
        mine = vars(self).setdefault("lock", threading.Lock())
        if not mine.acquire(blocking=False):
            raise RuntimeError("the connection is in use")
        try:
            time.sleep(0.05)
            return super().exists(allocation)
        finally:
            mine.release()


FAULTS: list[tuple[str, Callable[[], System], str]] = [
    (FIT, lambda: made(vms=VMS[:3]), "fewer than 4 VMs"),
    (FIT, lambda: made(vms=[*VMS, "vm-0"]), "or one twice"),
    (FIT, lambda: made(unknown="vm-1"), "System.unknown is one of"),
    (FIT, lambda: made(standing=lambda: ["vm-0"]), "after it was made there are"),
    (
        PREFLIGHT,
        lambda: bad(preflight=lambda self: self.vms.clear()),
        r"after a preflight there are \[\], not \['vm-0'",
    ),
    (PREFLIGHT, lambda: preflight(OSError("no route")), "preflight raised OSError"),
    (PREFLIGHT, lambda: preflight(ProvisionerDown("never well")), "a system that is well: .*never well"),
    (PREFLIGHT, lambda: made(Tired), "a second preflight of a system that is well: .*too many requests"),
    (FIRST, lambda: made(Thorough), r"the release of 'vm-0' there are \[\]"),
    (FIRST, lambda: gone(lambda *_: RELEASED), "of 'vm-0', which is still there"),
    (FIRST, lambda: told(None), "returned None, which is no Release"),
    (FIRST, lambda: told(AnyRelease("released", "204")), "'released' is no Result"),
    (FIRST, lambda: told(AnyRelease(Result.RELEASED, 204)), "204 is no text"),
    (FIRST, lambda: told(AnyRelease(Result.RELEASED, " ")), "the evidence is empty"),
    (FIRST, lambda: told(AnyRelease(Result.RELEASED, "204", proof=1)), "the proof 1 is neither"),
    (FIRST, lambda: replace(told(replace(RELEASED, evidence=HUSH)), secrets=[HUSH]), "the evidence shows a secret"),
    (FIRST, lambda: told(MISS), "'vm-0' was there, and its first release says"),
    (FIRST, lambda: gone(lambda *_: PENDING), "pending for ever"),
    (FIRST, lambda: gone(lambda *_: raised(KeyError("id"))), "release raised KeyError"),
    (FIRST, lambda: gone(lambda *_: raised(SystemExit(1))), "release raised SystemExit"),
    (FIRST, lambda: gone(lambda *_: raised(ProvisionerError("500"))), "the release of 'vm-0', which was there, failed"),
    (FIRST, lambda: bad(close=lambda _: raised(OSError("not open"))), "close raised OSError"),
    ("a_second_release_is_no_error", lambda: without(ProvisionerError("404")), "another release of it failed"),
    ("another_process_may_repeat_a_release", lambda: made(Forgetful), "another release of it failed"),
    (NEVER, lambda: without(ProvisionerError("404")), "is no error, but a miss"),
    (NEVER, lambda: told(RELEASED), "of a VM that never was"),
    (NEVER, lambda: told(replace(MISS, proof=True)), "was given as proof"),
    (NEVER, lambda: told(MISS, lambda _: "vm-0"), "after the release of a VM that never was"),
    (NEARLY, lambda: told(MISS, str.strip), "after the release of ' vm-0'"),
    (NEARLY, lambda: told(RELEASED, str.strip), "of ' vm-0', which is no VM"),
    (NEARLY, lambda: told(MISS, unquote), "after the release of '%76%6D%2D%30'"),
    (NEARLY, lambda: told(MISS, lambda vm: vm.rpartition("/")[2]), "after the release of './vm-0'"),
    (NEARLY, lambda: told(MISS, lambda vm: vm.partition("?")[0]), r"after the release of 'vm-0\?"),
    (NEARLY, lambda: told(MISS, lambda vm: (*matching(VMS, vm), "")[0]), r"after the release of 'vm-0\*'"),
    (NEARLY, lambda: without(ProvisionerDown("400")), "took the system down"),
    (NEARLY, lambda: without(ValueError("embedded null byte")), "release raised ValueError"),
    (COLUMNS, lambda: bad(gone=lambda _, row: raised(ProvisionerDown(ascii(row.owner)))), "one row took it down"),
    (COLUMNS, lambda: bad(gone=lambda _, row: row.expires_at.isoformat() and MISS), "which is still there"),
    (THREADS, lambda: made(Faithful), "release raised RuntimeError"),
    (THREADS, lambda: told(MISS), "its first release says"),
    (TOGETHER, lambda: without(ProvisionerError("409")), "is not retryable"),
    (TOGETHER, lambda: told(MISS), "nobody has released 'vm-0'"),
    (CLOSED, lambda: made(Once), "close raised OSError"),
    (CLOSED, lambda: bad(close=lambda self: vars(self)["session"].close()), "close raised KeyError"),
    ("closing_one_leaves_another_at_work", lambda: made(Shared), "the session is closed"),
    (
        "it_leaves_no_thread_that_keeps_the_process",
        lambda: bad(preflight=keep_process),
        r"left after close: \['keeper'",
    ),
    (OUTPUT, lambda: bad(preflight=lambda _: sys.stdout.write("hello")), "on standard output: 'hello"),
    (
        OUTPUT,
        lambda: bad(preflight=lambda _: subprocess.run(["echo", "hi"], check=True)),
        r"on standard output: 'hi\\n",
    ),
    (DOWN, lambda: bad(preflight=lambda _: None), "the preflight of a system that is down: None"),
    (DOWN, lambda: preflight(ProvisionerError("no")), "the preflight of a system that is down: ProvisionerError"),
    (DOWN, lambda: preflight(ConnectionRefusedError(111, "refused")), "preflight raised ConnectionRefusedError"),
    (DOWN, lambda: preflight(ProvisionerDown()), "no words of its own"),
    (DOWN, lambda: replace(preflight(ProvisionerDown(f"no {HUSH}")), secrets=[HUSH]), "Down shows a secret"),
    (DOWN_LATER, lambda: while_it("down", lambda: PENDING), "a system that is down answered"),
    (DOWN_LATER, lambda: while_it("down", lambda: MISS), "of 'vm-0', which is still there"),
    (DOWN_LATER, lambda: while_it("down", lambda: raised(ProvisionerError("refused"))), "is not retryable"),
    (REFUSED, lambda: while_it("locked", lambda: MISS), "of 'vm-0', which is still there"),
    (REFUSED, lambda: while_it("locked", lambda: PENDING), "was refused, and it says"),
    (REFUSED, lambda: while_it("locked", lambda: raised(ProvisionerDown("409"))), "took the system down"),
    (REFUSED, lambda: while_it("locked", lambda: raised(UninitialisedError())), "has no retryable"),
    (REFUSED, lambda: while_it("locked", lambda: raised(ProvisionerError())), "no words of its own"),
    (REFUSED, lambda: while_it("locked", lambda: raised(ProvisionerError(" "))), "a ProvisionerError is empty"),
    (REFUSED, lambda: while_it("locked", lambda: raised(AnyError("x", retry_after_seconds="9"))), "'9' is no number"),
    (REFUSED, lambda: while_it("locked", lambda: raised(AnyError("x", retry_after_seconds=-1))), "-1 is no number"),
    (HANGS, lambda: while_it("hangs", lambda: raised(ProvisionerError("no answer", retryable=True))), "not timed_out"),
    (HANGS, lambda: while_it("hangs", lambda: PENDING), "a call that hung says"),
    (HANGS, lambda: while_it("hangs", lambda: time.sleep(0.5)), "1 of 1 calls did not come back within 0.2 s"),
    (FOUND, lambda: there(lambda *_: True), "'no-such-vm' is not there, and exists says True"),
    (FOUND, lambda: there(lambda *_: False), "'vm-0' is there, and exists says False"),
    (FOUND, lambda: there(lambda self, vm: vm != "no-such-vm" or vm in self.vms), "'vm-0' is not there, and exists"),
    (FOUND, lambda: there(lambda *_: 1), "exists returned 1, which is neither True nor False"),
    (FOUND, lambda: there(lambda *_: raised(KeyError("id"))), "exists raised KeyError"),
    (FOUND, lambda: there(lambda *_: raised(ProvisionerError("500"))), "whether 'vm-0' is there cannot be told"),
    (FOUND, lambda: there(lambda *_: raised(ProvisionerError())), "no words of its own"),
    (FOUND, lambda: there(emptied), "'vm-0' is there, and exists says False"),
    (NEARLY_FOUND, lambda: there(lambda self, vm: vm.strip() in self.vms), "' vm-0' is no VM, and is said to be there"),
    (NEARLY_FOUND, lambda: there(lambda self, vm: unquote(vm) in self.vms), "'%76%6D%2D%30' is no VM"),
    (NEARLY_FOUND, lambda: there(lambda *_: raised(ProvisionerDown("400"))), "took it down: 400"),
    (NEARLY_FOUND, lambda: there(emptied), "names that are nearly a VM's there are"),
    (ASKED_AT_ONCE, lambda: made(OneAtATime), "exists raised RuntimeError"),
    (DOWN_ASKED, lambda: there(lambda self, vm: "down" not in self.state and vm in self.vms), "says False of a VM"),
    (DOWN_ASKED, lambda: there(lambda self, vm: vm in self.vms), "says True of a VM"),
    (SILENT, lambda: there(lambda self, _: "hangs" not in self.state), "nobody answered came to False"),
    (SILENT, lambda: there(too_slow), "1 of 1 calls did not come"),
    (FINGERPRINT, lambda: known_by(lambda _: 7), "the fingerprint 7 is no text"),
    (FINGERPRINT, lambda: known_by(lambda _: " "), "the fingerprint is empty"),
    (FINGERPRINT, lambda: replace(known_by(lambda _: HUSH), secrets=[HUSH]), "the fingerprint shows a secret"),
    (FINGERPRINT, lambda: known_by(lambda self: str(len(self.vms))), "a release changed the fingerprint from '4'"),
    (FINGERPRINT, lambda: known_by(lambda self: str(id(self))), "two of the same section have the fingerprints"),
    (FINGERPRINT, lambda: known_by(lambda _: raised(OSError("no file"))), "fingerprint raised OSError"),
]


def try_out(rule: str, system: System, capfd: pytest.CaptureFixture[str]) -> None:
    """Run one test of the suite."""
    test = getattr(ProvisionerContract(), f"test_{rule}")
    needs = {"system": system, "capfd": capfd}
    test(**{name: needs[name] for name in inspect.signature(test).parameters})


@pytest.mark.parametrize(
    ("rule", "broken", "said"), FAULTS, ids=[f"{number}-{fault[0]}" for number, fault in enumerate(FAULTS)]
)
def test_what_breaks_a_rule_is_told_so(
    rule: str,
    broken: Callable[[], System],
    said: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in ("looking", "provisioners"):
        monkeypatch.setattr(f"autorelease.testing.{module}.SHORT_TIMEOUT", timedelta(seconds=0.1))
        monkeypatch.setattr(f"autorelease.testing.{module}.GIVEN_UP_AFTER", timedelta(seconds=0.1))
    with pytest.raises(AssertionError, match=said):
        try_out(rule, broken(), capfd)


def test_no_rule_is_without_something_that_breaks_it() -> None:
    rules = {name.removeprefix("test_") for name in dir(ProvisionerContract) if name.startswith("test_")}
    assert {rule for rule, _, _ in FAULTS} == rules


@pytest.mark.parametrize(
    ("rule", "ability"),
    [(DOWN, "break_down"), (DOWN_LATER, "break_down"), (REFUSED, "refuse"), (HANGS, "hang"), (NEARLY, "standing")],
)
def test_what_a_system_cannot_do_is_skipped_by_its_name(
    rule: str, ability: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(pytest.skip.Exception, match=rf"System\.{ability} is None"):
        try_out(rule, replace(made(), **cast("Any", {ability: None})), capfd)


@pytest.mark.parametrize(
    ("rule", "method"),
    [
        *((rule, "exists") for rule in (FOUND, NEARLY_FOUND, ASKED_AT_ONCE, DOWN_ASKED, SILENT)),
        (FINGERPRINT, "fingerprint"),
    ],
)
def test_what_a_provisioner_need_not_have_is_skipped_by_its_name(
    rule: str, method: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(pytest.skip.Exception, match=f"it has no method {method}"):
        try_out(rule, bad(**{method: cast("Any", None)}), capfd)


def test_the_names_that_are_nearly_a_vms_are_none_of_them() -> None:
    names = list(nearly("vm-0", "vm-1"))
    assert len(set(names)) == len(names) > 50
    assert not set(names) & {"vm-0", "vm-1", ""}


def test_an_allocation_may_be_made_as_a_system_needs_it() -> None:
    made = make_allocation("vm-1", vm_uid="4711", owner="alma")
    assert (made.sid, made.vm_ref, made.vm_uid, made.owner) == ("sid-of-vm-1", "vm-1", "4711", "alma")
    assert made.expires_at is not None
    assert made.raw.expires_at == int(made.expires_at.timestamp())
