"""Sweeps that call a program for each row: beside xargs, beside another who writes, and beside the bare waiting.

python bench/command.py
python bench/command.py --scale small
"""

import shutil
import subprocess
import sys
import time
from dataclasses import replace

from bench.beside import another_writes
from bench.part import main
from bench.place import LIVE, Fleets, Place
from bench.results import Part, Row, compared
from bench.running import Contestant, Run, environment, expect, run, take_turns
from bench.sizes import Sizes, words

CONCURRENCY, MANY = 8, 32
SECONDS = 0.05
TRUE, SLEEP = "/bin/true", "/bin/sleep"
# Another program commits ten times a second.
PAUSE = 0.1
NEEDED = ("sqlite3", "xargs")
PIPE = 'sqlite3 "$1" "$2" | xargs -P8 -n1 "$3"'
DUE = f"SELECT vm_ref FROM vm_allocations WHERE {LIVE} AND expires_at < {{now}} ORDER BY expires_at, sid"


def measure(fleets: Fleets, sizes: Sizes) -> Part:
    """Three comparisons, each on a ledger of its own."""
    parts = [_beside_xargs(fleets, sizes), _beside_another(fleets, sizes), _beside_waiting(fleets, sizes)]
    rows = [row for part in parts for row in part.rows]
    return Part(rows, {name: each for part in parts for name, each in part.measured.items()})


def _provisioner(*argv: str) -> str:
    return f'kind = "command"\nargv = [{", ".join(repr(word) for word in argv)}]'


# --- xargs ------------------------------------------------------------------------------------------------------------


def _beside_xargs(fleets: Fleets, sizes: Sizes) -> Part:
    calls = sizes.calls
    place = fleets.of(2 * calls, live=calls)
    place.save()
    place.configure(_provisioner(TRUE, "{vm_ref}"), concurrency=CONCURRENCY)
    ours = f"sweep, `command` `{TRUE}` for {words(calls)} rows, concurrency {CONCURRENCY}"
    theirs = "`xargs -P8 -n1 /bin/true` behind `sqlite3`"
    contestants: dict[str, Contestant] = {ours: lambda: _sweep(place, calls)}
    absent = [name for name in NEEDED if shutil.which(name) is None]
    if absent:
        sys.stderr.write(f"bench: {', '.join(absent)} NOT INSTALLED: nothing is compared with xargs\n")
    else:
        contestants[theirs] = lambda: _xargs(place, calls)
    measured = take_turns(contestants, sizes.turns)
    place.forget()
    rate = None if absent else measured[theirs].seconds / measured[ours].seconds
    return Part([Row(ours, theirs, rate, "{} of its rate", 0.7, is_least=True)], measured)


def _sweep(place: Place, due: int) -> Run:
    """All that is due, each by a call of its own."""
    _renew(place, due)
    ran = place.tick({"rows_expired": due, "rows_released": due})
    expect(place.live - due, place.count(LIVE), "live rows left")
    return ran


def _renew(place: Place, due: int) -> None:
    place.restore()
    place.make_due(due)


def _xargs(place: Place, due: int) -> Run:
    """It stamps nothing. Whether it was given all of them is seen by asking the same once more."""
    _renew(place, due)
    query = DUE.format(now=int(time.time()))
    ran = run(["/bin/sh", "-c", PIPE, "sh", place.ledger, query, TRUE], place.output)
    given = subprocess.run(
        ["sqlite3", place.ledger, query], capture_output=True, text=True, check=True, env=environment()
    )
    expect(due, len(given.stdout.splitlines()), "rows that xargs was given")
    return ran


# --- somebody else writes ---------------------------------------------------------------------------------------------


def _beside_another(fleets: Fleets, sizes: Sizes) -> Part:
    calls = sizes.calls
    place = fleets.of(sizes.middle)
    place.save()
    place.configure(_provisioner(TRUE, "{vm_ref}"), concurrency=CONCURRENCY)
    alone = f"sweep, `command` `{TRUE}` for {words(calls)} of {words(place.rows)} rows"
    beside = f"{alone}, while another program commits ten times a second"
    measured = take_turns(
        {alone: lambda: _sweep(place, calls), beside: lambda: _sweep_beside(place, calls)}, sizes.turns
    )
    place.forget()
    return Part([replace(compared(measured, beside, alone, 1.3), beside="the same alone")], measured)


def _sweep_beside(place: Place, due: int) -> Run:
    _renew(place, due)
    with another_writes(place.ledger, PAUSE):
        ran = place.tick({"rows_expired": due, "rows_released": due})
    expect(place.live - due, place.count(LIVE), "live rows left")
    return ran


# --- the bare waiting -------------------------------------------------------------------------------------------------


def _beside_waiting(fleets: Fleets, sizes: Sizes) -> Part:
    calls = sizes.waits
    place = fleets.of(2 * calls, live=calls)
    place.save()
    place.configure(_provisioner(SLEEP, str(SECONDS)), concurrency=MANY)
    name = f"sweep, `command` `{SLEEP} {SECONDS}` for {words(calls)} rows, concurrency {MANY}"
    measured = take_turns({name: lambda: _sweep(place, calls)}, sizes.turns)
    place.forget()
    ratio = measured[name].seconds / (calls * SECONDS / MANY)
    return Part(
        [Row(name, f"the waiting alone, {words(calls)} times {SECONDS} s / {MANY}", ratio, limit=1.3)], measured
    )


if __name__ == "__main__":
    main(measure, __doc__)
