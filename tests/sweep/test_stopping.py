"""A plan hears the wish to stop: between its pages, and in the midst of one statement that takes long."""

import os
import signal
import sqlite3
from contextlib import closing
from itertools import count

import pytest

from autorelease.errors import ExitCode, StopReadingError, TerminatedError, UnusableError
from autorelease.sqlitefile import interrupted_when, speaking_of
from autorelease.sweep.edge.stop import Stop
from tests.e2e.reports import error_report, history, wait_until
from tests.support.engine import EXPIRED, RENEWED, Engine, Scripted
from tests.support.place import Place, Ran

MOST_LOOKS = 2_000
DUE = 3_000
HOLDERS = 3_000
# As many as a plan takes seconds for.
MANY = 200_000


def stopping_after(looks: int) -> Stop:
    """A deadline that passes when it has been asked about so often."""
    asked = count(1)
    return Stop(lambda: next(asked) > looks)


def test_wherever_a_plan_is_stopped_nothing_is_released(engine: Engine) -> None:
    engine.place.insert(
        {"sid": f"due-{number}", "status": "Active", "expires_at": EXPIRED, "vm_ref": "n/a"} for number in range(DUE)
    )
    engine.place.insert(
        {"sid": f"paid-{number}", "status": "Active", "expires_at": RENEWED, "vm_ref": "n/a"}
        for number in range(HOLDERS)
    )
    # The one that has a VM of its own: it is released as soon as a plan is not stopped.
    engine.add("alone", vm_ref="its own")
    messages: list[str] = []
    late: list[ExitCode] = []
    for looks in range(0, MOST_LOOKS, 5):
        engine.stop = stopping_after(looks)
        provisioner = Scripted()
        try:
            ticked = engine.tick(provisioner)
        except UnusableError as error:
            messages.append(str(error))
            assert (provisioner.calls, engine.place.released()) == ([], set())
            continue
        # All others share their VM with somebody who pays.
        assert ticked.report.rows_invalid == DUE
        if ticked.ends() == {"alone": "deferred"}:
            # The plan had just come to its end. Each SQLite asks in steps of its own.
            late.append(ticked.code)
            assert (provisioner.calls, engine.place.released()) == ([], set())
            continue
        assert ticked.ends() == {"alone": "released"}
        assert (provisioner.calls, engine.place.released()) == (["alone"], {"alone"})
        break
    assert len(messages) > 1
    assert all("release.deadline" in message for message in messages)
    with closing(engine.open_journal()) as journal:
        ends = [past.exit_code for past in journal.ticks()]
    assert ends == [ExitCode.NOT_ALL_WELL, *late[::-1], *[ExitCode.UNUSABLE] * len(messages)]


def test_one_long_statement_hears_it() -> None:
    stop = Stop()
    with closing(sqlite3.connect(":memory:")) as connection:
        long = (
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000) SELECT count(*) FROM n"
        )

        def is_stopped() -> bool:
            stop.wish("SIGTERM")
            return stop.wished()

        with pytest.raises(StopReadingError), speaking_of("here"), interrupted_when(connection, is_stopped):
            connection.execute(long)
        # Afterwards it does what it is asked for to the end.
        assert connection.execute("SELECT count(*) FROM (VALUES (1), (2))").fetchone() == (2,)


def test_a_signal_ends_a_tick_in_the_midst_of_its_plan(place: Place) -> None:
    place.make_ledger()
    with closing(sqlite3.connect(place.ledger)) as connection, connection:
        connection.execute(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) INSERT INTO vm_allocations "
            f"(sid, status, expires_at, vm_ref) SELECT 'vm-' || i, 'Active', {EXPIRED}, 'n/a' FROM n",
            (MANY,),
        )
    process = place.start("tick", "--once", "--json")
    wait_until(lambda: bool(place.query("SELECT 1 FROM ticks", database=place.journal)))
    os.kill(process.pid, signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    report = error_report(Ran(process.returncode, out, err), 143)
    assert (report["error"], report["message"]) == ("terminated", TerminatedError.__doc__)
    assert place.released() == set()
    [tick] = history(place)["ticks"]
    assert (tick["status"], tick["exit_code"]) == ("terminated", 143)
