"""The wish to stop: the first reason stays, a signal beats the deadline, and handlers are given back."""

import signal
import subprocess
import sys

import pytest

from autorelease.errors import ExitCode
from autorelease.sweep.edge.stop import SIGNALS, Stop, stopped_by_signals


def test_nobody_wished() -> None:
    stop = Stop()
    assert (stop.wished(), stop.by) == (False, None)


def test_the_first_signal_stays() -> None:
    stop = Stop()
    stop.wish("SIGTERM")
    stop.wish("SIGINT")
    assert (stop.wished(), stop.by) == (True, "SIGTERM")


def test_the_deadline_stays() -> None:
    past = iter([False, True, False])
    stop = Stop(lambda: next(past))
    assert not stop.wished()
    assert stop.wished()
    assert (stop.wished(), stop.by) == (True, "deadline")


def test_a_signal_after_the_deadline_is_what_ended_it() -> None:
    stop = Stop(lambda: True)
    assert stop.wished()
    stop.wish("SIGTERM")
    assert stop.by == "SIGTERM"


def test_whoever_waits_is_told_at_every_wish() -> None:
    stop = Stop()
    told: list[str | None] = []
    stop.on_wish = lambda: told.append(stop.by)
    stop.wish("SIGTERM")
    stop.wish("SIGTERM")
    assert told == ["SIGTERM", "SIGTERM"]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_a_wish_and_the_handlers_are_given_back(number: signal.Signals) -> None:
    def before(*_: object) -> None:
        """Somebody's own."""

    kept = {each: signal.signal(each, before) for each in SIGNALS}
    try:
        stop = Stop()
        with stopped_by_signals(stop):
            signal.raise_signal(number)
        assert stop.by == number.name
        assert all(signal.getsignal(each) is before for each in SIGNALS)
    finally:
        for each, handler in kept.items():
            signal.signal(each, handler)


def test_an_ignored_signal_stays_ignored() -> None:
    """As nohup means it."""
    kept = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        stop = Stop()
        with stopped_by_signals(stop):
            signal.raise_signal(signal.SIGHUP)
        assert not stop.wished()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, kept)


IMPATIENT = """
import signal
from autorelease.sweep.edge.stop import SIGNALS, Stop, stopped_by_signals
# Whoever runs the tests may have had some of them ignored.
for number in SIGNALS:
    signal.signal(number, signal.SIG_DFL)
stop = Stop()
with stopped_by_signals(stop):
    for name in {names}:
        signal.raise_signal(getattr(signal, name))
    print(stop.by)
"""


@pytest.mark.parametrize(
    ("names", "code", "said"),
    [
        (["SIGINT", "SIGINT"], ExitCode.INTERRUPTED, b""),
        (["SIGINT"], 0, b"SIGINT\n"),
        (["SIGTERM", "SIGTERM"], 0, b"SIGTERM\n"),
        (["SIGTERM", "SIGINT"], 0, b"SIGTERM\n"),
    ],
)
def test_only_a_second_interrupt_ends_the_process_at_once(names: list[str], code: int, said: bytes) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", IMPATIENT.format(names=names)], timeout=30, check=False, capture_output=True
    )
    assert (ended.returncode, ended.stdout) == (code, said)
