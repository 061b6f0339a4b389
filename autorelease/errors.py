"""Every exception of ours and the exit code it ends the program with. Imports nothing of ours.

The first line of a class's docstring is its default message. An exit code belongs to exactly one class.
"""

from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """What the process says with its exit status."""

    OK = 0
    BUG = 1
    USAGE = 2
    NOT_ALL_WELL = 3
    CONFIGURATION = 4
    UNUSABLE = 5
    LOCKED = 6
    REFUSED = 7
    PROVISIONER_DOWN = 8
    UNHEALTHY = 9
    HUNG_UP = 129
    INTERRUPTED = 130
    TERMINATED = 143


class AutoreleaseError(Exception):
    """Something went wrong."""

    exit_code: ClassVar[ExitCode] = ExitCode.BUG
    error: ClassVar[str] = "bug"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__)


class UsageError(AutoreleaseError):
    """The command was called in a way that it does not understand."""

    exit_code = ExitCode.USAGE
    error = "usage"


class ConfigurationError(AutoreleaseError):
    """The configuration cannot be used."""

    exit_code = ExitCode.CONFIGURATION
    error = "configuration"


class UnusableError(AutoreleaseError):
    """The ledger or the journal cannot be used."""

    exit_code = ExitCode.UNUSABLE
    error = "unusable"


class OutputError(UnusableError):
    """The output cannot be written."""

    error = "output"


class ReaderGoneError(Exception):
    """Whoever read the output has closed it."""

    def __init__(self) -> None:
        super().__init__(type(self).__doc__)


class LockedError(AutoreleaseError):
    """Another tick is running."""

    exit_code = ExitCode.LOCKED
    error = "locked"


class HungUpError(AutoreleaseError):
    """SIGHUP came before anything was decided: nothing was released. The next tick does it, or: tick --once."""

    exit_code = ExitCode.HUNG_UP
    error = "hung_up"


class InterruptedTickError(AutoreleaseError):
    """SIGINT came before anything was decided: nothing was released. The next tick does it, or: tick --once."""

    exit_code = ExitCode.INTERRUPTED
    error = "interrupted"


class TerminatedError(AutoreleaseError):
    """SIGTERM came before anything was decided: nothing was released. The next tick does it, or: tick --once."""

    exit_code = ExitCode.TERMINATED
    error = "terminated"


class StopReadingError(Exception):
    """Somebody asked to stop while something long was read."""


class IdentityError(AutoreleaseError):
    """The counters of a tick do not add up: this is a bug, please report it."""


class ProvisionerError(Exception):
    """One allocation could not be released.

    retryable: whether the same call may succeed a moment later.
    retry_after_seconds: what the provisioner asked us to wait, where it did.
    timed_out: the call came to no end within its time.
    end_unknown: the VM may be gone all the same, as where the connection broke after the request was sent; a call that
    timed out is always such a one.
    still_running: the call could not be ended, and goes on: until the end of this run no other may begin for its VM.
    not_called: its system was not called at all, so that this says nothing of whether it works.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        retryable: bool = False,
        retry_after_seconds: float | None = None,
        timed_out: bool = False,
        end_unknown: bool = False,
        still_running: bool = False,
        not_called: bool = False,
    ) -> None:
        super().__init__(message or (type(self).__doc__ or "").partition("\n")[0])
        self.retryable = retryable
        self.retry_after_seconds = retry_after_seconds
        self.timed_out = timed_out
        self.end_unknown = end_unknown or timed_out or still_running
        self.still_running = still_running
        self.not_called = not_called


class ProvisionerDown(ProvisionerError):  # noqa: N818 - the field's word for it
    """The provisioner as a whole cannot release anything now: unreachable, or refuses our credentials."""


class ProvisionerSeemsDown(ProvisionerDown):
    """The provisioner seems to be down. If a call that began after this one gets an answer, it was this row alone."""
