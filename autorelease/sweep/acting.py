"""What acts: the provisioners, the limits, the clocks, and the wish to stop. Handed down whole, changed by nobody."""

import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

import msgspec

from autorelease.journal import TickStart
from autorelease.model import Finding
from autorelease.provisioners import Registered
from autorelease.sweep.edge.stop import Stop


class Options(msgspec.Struct, frozen=True):
    """The configured limits of execution.

    timeout: of one call. attempts: calls for one allocation within one run. audit_every: how often a large ledger is
    looked at as a whole.
    """

    concurrency: int
    timeout: timedelta
    attempts: int
    quarantine_after: int
    max_gone_percent: int
    stamps: bool = True
    audit_every: timedelta = timedelta(hours=24)


class Means(msgspec.Struct, frozen=True):
    """What a run acts with.

    clock dates records, jitter gives 0 to 1, monotonic measures time limits, boottime how old a judgement is: it goes
    on while the machine sleeps. watch is called with every finding as it is made. is_running: whether the process of an
    earlier run is still alive.
    """

    provisioners: Mapping[str, Registered]
    options: Options
    stop: Stop
    clock: Callable[[], datetime]
    jitter: Callable[[], float]
    watch: Callable[[Finding], None] = lambda _: None
    is_running: Callable[[TickStart], bool] = lambda _: False
    monotonic: Callable[[], float] = time.monotonic
    boottime: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME)
