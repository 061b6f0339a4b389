"""When to try again, within a tick and between ticks, and when to stop asking a provisioner. Knows no clock."""

from datetime import datetime, timedelta

import msgspec
from msgspec.structs import replace

from autorelease.model import Attempts

FIRST_BACKOFF = timedelta(hours=1)
LONGEST_BACKOFF = timedelta(hours=24)
# A next attempt further ahead than any backoff can put it was written under a wrong clock: it is void.
ABSURDLY_FAR = LONGEST_BACKOFF * 2
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 10.0
# Whoever asks for more is tried again by the next tick.
LONGEST_PAUSE_IN_RUN = timedelta(minutes=1)
IN_A_ROW = 5


def in_backoff(attempts: Attempts | None, now: datetime) -> bool:
    """Whether an earlier failure forbids a try at `now`."""
    if attempts is None or attempts.next_attempt_at is None:
        return False
    return timedelta(0) < attempts.next_attempt_at - now <= ABSURDLY_FAR


def after_failure(
    before: Attempts | None, now: datetime, message: str, *, quarantine_after: int, jitter: float
) -> Attempts:
    """What to remember after a tick that ended in an error.

    The pause is 1 h, doubled up to 24 h; one of `quarantine_after` failed ticks or more is always 24 h. jitter: 0 to 1,
    takes up to a tenth off: what failed together comes
    back apart, and the first pause does not sleep through the next hourly tick.
    """
    failed = (before.failed_ticks if before else 0) + 1
    quarantined = failed >= quarantine_after
    pause = LONGEST_BACKOFF if quarantined else min(FIRST_BACKOFF * 2 ** min(failed - 1, 10), LONGEST_BACKOFF)
    return Attempts(
        failed_ticks=failed,
        pending_ticks=before.pending_ticks if before else 0,
        next_attempt_at=now + pause * (1 - 0.1 * jitter),
        quarantined=quarantined,
        last_error=message,
    )


def after_pending(before: Attempts | None) -> Attempts:
    """What to remember after a tick in which the provisioner accepted, but the VM is not gone yet."""
    before = before or Attempts()
    return replace(before, pending_ticks=before.pending_ticks + 1, next_attempt_at=None)


def pause_seconds(attempt: int, jitter: float, asked: float | None) -> float:
    """How long to wait within a tick after the `attempt`-th failed call (1, 2, …). asked: the provisioner's wish."""
    if asked is not None:
        return asked
    return min(FIRST_PAUSE_SECONDS * 2.0 ** (attempt - 1), LONGEST_PAUSE_SECONDS) * (1 - 0.5 * jitter)


class Breaker(msgspec.Struct):
    """Stops the asking of one provisioner after five answers in a row that say that it is down, or five time-outs."""

    downs: int = 0
    timeouts: int = 0
    open: bool = False

    def answered(self) -> None:
        """It said something about an allocation."""
        self.downs = self.timeouts = 0

    def said_down(self) -> None:
        """A call found the provisioner as a whole unusable."""
        self.downs += 1
        self.open = self.open or self.downs >= IN_A_ROW

    def row_timed_out(self) -> None:
        """An allocation's last call came to no end."""
        self.timeouts += 1
        self.open = self.open or self.timeouts >= IN_A_ROW
