"""The threads that call provisioners: bounded, daemons, and never in the way of the end of the process."""

import subprocess
import sys
import threading
import time

import pytest

from autorelease.errors import ProvisionerDown, ProvisionerError
from autorelease.model import Allocation, Release, Result
from autorelease.provisioners import Provisioner
from autorelease.provisioners.memory import MemoryProvisioner
from autorelease.sweep.edge.workers import Answered, Call, Workers
from tests.support.engine import Scripted, made_allocation

LONG = 30.0


def answer_of(workers: Workers) -> Answered:
    """The next answer, which must come."""
    answered = workers.next_answer(LONG)
    assert answered is not None
    return answered


def begin(workers: Workers, number: int, provisioner: Provisioner) -> None:
    """Hand one call over."""
    workers.begin(Call(number, provisioner, made_allocation(f"vm-{number}")))


def test_an_answer_comes_back_with_its_number() -> None:
    workers = Workers()
    begin(workers, 7, MemoryProvisioner(["vm-7"]))
    assert answer_of(workers) == Answered(7, Release(Result.RELEASED, evidence="removed"))
    workers.has_come_back()
    workers.dismiss()


def test_a_machine_without_a_thread_to_give_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_to_give(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    workers = Workers()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", none_to_give)
        begin(workers, 1, MemoryProvisioner(["vm-1"]))
    answer = answer_of(workers).answer
    assert isinstance(answer, ProvisionerDown)
    assert "no thread can be started on this machine" in str(answer)
    workers.has_come_back()
    # The next one has it.
    begin(workers, 2, MemoryProvisioner(["vm-2"]))
    assert answer_of(workers) == Answered(2, Release(Result.RELEASED, evidence="removed"))
    workers.dismiss()


@pytest.mark.parametrize("error", [ProvisionerError("no"), ProvisionerDown("down")])
def test_a_provisioners_error_is_its_answer(error: ProvisionerError) -> None:
    workers = Workers()
    begin(workers, 1, Scripted({"vm-1": [error]}))
    answer = answer_of(workers).answer
    assert (type(answer), str(answer)) == (type(error), str(error))
    workers.dismiss()


def test_anything_else_that_is_raised_is_an_error_that_is_not_retryable() -> None:
    workers = Workers()
    begin(workers, 1, Scripted({"vm-1": [ZeroDivisionError("by zero")]}))
    answer = answer_of(workers).answer
    assert isinstance(answer, ProvisionerError)
    assert "ZeroDivisionError: by zero" in str(answer)
    assert (answer.retryable, answer.timed_out, isinstance(answer, ProvisionerDown)) == (False, False, False)
    workers.dismiss()


def test_threads_are_started_as_they_are_needed_and_used_again() -> None:
    workers = Workers()
    provisioner = MemoryProvisioner()
    used: set[str] = set()
    provisioner._before = lambda _: used.add(threading.current_thread().name)
    for number in range(20):
        begin(workers, number, provisioner)
        answer_of(workers)
        workers.has_come_back()
    assert len(used) == 1
    workers.dismiss()


def test_calls_really_run_at_once() -> None:
    all_here = threading.Barrier(4, timeout=LONG)
    workers = Workers()
    provisioner = Scripted(before=lambda _: all_here.wait())
    for number in range(4):
        begin(workers, number, provisioner)
    assert {answer_of(workers).number for _ in range(4)} == {0, 1, 2, 3}
    workers.dismiss()


def test_a_call_that_takes_no_time_is_made_in_this_thread() -> None:
    workers = Workers()
    here: list[threading.Thread] = []
    provisioner = Scripted(before=lambda _: here.append(threading.current_thread()))
    for number in range(5):
        workers.answer_at_once(Call(number, provisioner, made_allocation()))
    assert [answer_of(workers).number for _ in range(5)] == [0, 1, 2, 3, 4]
    assert here == [threading.current_thread()] * 5


def test_waking_ends_a_wait() -> None:
    workers = Workers()
    timer = threading.Timer(0.05, workers.wake)
    started = time.monotonic()
    timer.start()
    assert workers.next_answer(LONG) is None
    assert time.monotonic() - started < LONG / 2
    timer.join()


def test_a_wait_ends_by_itself() -> None:
    assert Workers().next_answer(0.01) is None
    assert Workers().next_answer(0) is None
    assert Workers().next_answer(-1) is None


def test_another_thread_takes_the_place_of_a_lost_one() -> None:
    workers = Workers()
    wakes = threading.Event()
    begin(workers, 1, Scripted(before=lambda _: wakes.wait(LONG)))
    workers.abandon()
    begin(workers, 2, Scripted())
    assert answer_of(workers).number == 2
    workers.has_come_back()
    wakes.set()
    assert answer_of(workers).number == 1
    workers.dismiss()


def test_dismissed_threads_end() -> None:
    before = set(threading.enumerate())
    workers = Workers()
    together = threading.Barrier(3, timeout=LONG)
    for number in range(3):
        begin(workers, number, Scripted(before=lambda _: together.wait()))
    for _ in range(3):
        answer_of(workers)
        workers.has_come_back()
    threads = set(threading.enumerate()) - before
    assert len(threads) == 3
    assert all(thread.daemon for thread in threads)
    workers.dismiss()
    for thread in threads:
        thread.join(LONG)
        assert not thread.is_alive()


HANGS = """
import threading
from autorelease.sweep.edge.workers import Call, Workers
from tests.support.engine import Scripted, made_allocation
begun = threading.Event()
def hang(_):
    begun.set()
    threading.Event().wait()
Workers().begin(Call(1, Scripted(before=hang), made_allocation()))
begun.wait()
"""


def test_a_call_that_never_returns_does_not_keep_the_process() -> None:
    ended = subprocess.run([sys.executable, "-c", HANGS], timeout=LONG, check=False, capture_output=True)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_the_allocation_is_handed_over_as_it_is() -> None:
    seen: list[Allocation] = []
    allocation = made_allocation("vm-1", vm_uid="4711")
    workers = Workers()
    workers.begin(Call(1, Scripted(before=seen.append), allocation))
    answer_of(workers)
    assert seen == [allocation]
    workers.dismiss()
