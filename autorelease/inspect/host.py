"""The doctor's look at the host: what sets its clock, and what starts the sweep. Asks the kernel and systemd, changes
nothing.
"""

import ctypes
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from autorelease.inspect import Check, State, in_words, page
from autorelease.limits import ABANDONED_AFTER, STAMP_RESCUE

# systemd-timesyncd(8): made once the clock is set.
SYNCHRONIZED = Path("/run/systemd/timesync/synchronized")
# adjtimex(2), linux/timex.h.
STA_UNSYNC = 0x0040
TIMER = "autorelease.timer"
SERVICE = "autorelease.service"
LONGEST_ANSWER_SECONDS = 10
# systemd.exec(5): what decides where a service can write, and below what StateDirectory= is.
CONFINEMENT = ("ProtectSystem", "ReadWritePaths", "StateDirectory")
STATE = Path("/var/lib")
# systemd.time(7), as `systemctl show` prints a span of time.
UNITS = {
    "us": timedelta(microseconds=1),
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "min": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
    "month": timedelta(days=30.44),
    "y": timedelta(days=365.25),
}


class _Timex(ctypes.Structure):
    """`struct timex` up to its status; the rest is room for what the kernel writes behind it."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


def kernel_status() -> int | None:
    """The kernel's own word on its clock (STA_* bits of adjtimex(2)), asked without a change; None: we may not ask."""
    try:
        library = ctypes.CDLL(None, use_errno=True)
        asked = _Timex()
        answer = library.adjtimex(ctypes.byref(asked))
    except (OSError, AttributeError):
        return None
    return None if answer < 0 else int(asked.status)


def synchronisation(marker: Path = SYNCHRONIZED, ask: Callable[[], int | None] = kernel_status) -> Check:
    """Whether something keeps this machine's clock right; ok where that cannot be asked (as under ProtectClock=)."""
    name = "clock synchronisation"
    if marker.exists():
        return Check(name, State.OK, "systemd-timesyncd has set the clock")
    status = ask()
    if status is None:
        return Check(name, State.OK, "not known: this process may not ask the kernel")
    if status & STA_UNSYNC:
        message = "the kernel says that nothing keeps its clock right"
        return Check(name, State.WARN, message, "timedatectl set-ntp true")
    return Check(name, State.OK, "the kernel says that its clock is kept right")


# --- what starts the sweep -------------------------------------------------------------------------------------------


def units(timeout: timedelta, deadline: timedelta, databases: Sequence[Path] = ()) -> Iterator[Check]:
    """Whether the timer starts the service, and whether that leaves a tick its time and lets it write its databases."""
    timer = _shown(TIMER, "LoadState", "UnitFileState", "ActiveState", "NextElapseUSecRealtime")
    if timer is None:
        message = "systemd does not answer here: something else must start a tick every hour"
        yield Check("timer", State.WARN, message, f"cron, as in docs/operating.md; {page('Is it healthy?')}")
        return
    yield _timer(timer)
    service = _shown(SERVICE, "LoadState", "TimeoutStartUSec", "TimeoutStopUSec", *CONFINEMENT) or {}
    if service.get("LoadState") == "loaded":
        yield _time_outs(service, timeout, deadline)
        if databases:
            yield _folders(service, databases)


def _shown(unit: str, *properties: str) -> Mapping[str, str] | None:
    """What systemd says of a unit; None where there is no systemd."""
    program = shutil.which("systemctl")
    if program is None:
        return None
    try:
        ended = subprocess.run(  # noqa: S603 - names of ours alone
            [program, "show", unit, f"--property={','.join(properties)}"],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=LONGEST_ANSWER_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if ended.returncode != 0:
        return None
    return dict(line.split("=", 1) for line in ended.stdout.splitlines() if "=" in line)


def _timer(shown: Mapping[str, str]) -> Check:
    if shown.get("LoadState") != "loaded":
        message = f"{TIMER} is not installed ({shown.get('LoadState')}): something else must start a tick every hour"
        return Check("timer", State.WARN, message, "install the units, as in docs/operating.md, or let cron start it")
    enabled, active = shown.get("UnitFileState"), shown.get("ActiveState")
    following = shown.get("NextElapseUSecRealtime")
    values = f"{TIMER} is {enabled} and {active}, next run {following or 'never'}"
    if enabled != "enabled" or active != "active":
        return Check("timer", State.FAIL, values, f"systemctl enable --now {TIMER}")
    if not following:
        return Check("timer", State.FAIL, values, f"systemctl cat {TIMER}")
    return Check("timer", State.OK, values)


def _time_outs(shown: Mapping[str, str], timeout: timedelta, deadline: timedelta) -> Check:
    """A last call may begin just before the deadline, and what was released then is still to be written down."""
    ends = timeout + ABANDONED_AFTER + STAMP_RESCUE
    start, stop = shown.get("TimeoutStartUSec", ""), shown.get("TimeoutStopUSec", "")
    values = f"TimeoutStartSec={start}, TimeoutStopSec={stop}"
    remedy = f"systemctl edit {SERVICE}"
    longest, stopping = span(start), span(stop)
    if stopping is not None and stopping < ends:
        message = f"{values}: the stop takes up to {in_words(ends)}, and would be killed in mid-release"
        return Check("time-outs", State.FAIL, message, remedy)
    if longest is None:
        return Check("time-outs", State.WARN, f"{values}: a tick that hangs would keep the timer from starting", remedy)
    if longest < deadline + ends:
        message = f"{values}: a tick takes up to {in_words(deadline + ends)}, and would be ended before its deadline"
        return Check("time-outs", State.WARN, message, remedy)
    return Check("time-outs", State.OK, f"{values}, enough for a deadline of {in_words(deadline)}")


def _folders(shown: Mapping[str, str], databases: Sequence[Path]) -> Check:
    """Rights alone do not say it: under ProtectSystem=strict the service sees all but a few folders read-only."""
    if shown.get("ProtectSystem") != "strict":
        return Check("unit's folders", State.OK, f"ProtectSystem={shown.get('ProtectSystem') or 'no'}: rights decide")
    open_to_it = [Path(path.lstrip("-+")) for path in shlex.split(shown.get("ReadWritePaths", ""))]
    open_to_it += [STATE / name for name in shown.get("StateDirectory", "").split()]
    needed = dict.fromkeys(path.resolve().parent for path in databases)
    closed = [str(folder) for folder in needed if not any(folder.is_relative_to(place) for place in open_to_it)]
    if closed:
        message = f"the unit lets the service write nothing in {', '.join(closed)}, whatever the rights are"
        remedy = f"systemctl edit {SERVICE}: [Service] ReadWritePaths={' '.join(map(shlex.quote, closed))}"
        return Check("unit's folders", State.FAIL, message, remedy)
    return Check("unit's folders", State.OK, f"the service may write in {', '.join(map(str, needed))}")


def span(text: str) -> timedelta | None:
    """A span of time as systemd prints it (`1h 30min`); None: without a limit (`infinity`), or not understood."""
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)([a-z]+)", text)
    if not parts or any(unit not in UNITS for _, unit in parts):
        return None
    return sum((float(number) * UNITS[unit] for number, unit in parts), timedelta(0))
