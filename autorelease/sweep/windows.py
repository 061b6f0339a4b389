"""The window of each provisioner: how many of its calls may be under way, and how soon its next one may begin.

Each has its own, so that none waits for another. Knows nothing of rows and lists.
"""

import msgspec

from autorelease.provisioners import Registered
from autorelease.sweep.acting import Means


class Window(msgspec.Struct):
    """One of them. size: calls at once, where they take time. gap: seconds from the beginning of one to the next.

    opens_at: the monotonic instant from which on the next one may begin.
    """

    size: int
    takes_time: bool
    gap: float
    opens_at: float = 0.0


class Windows:
    """Those of all provisioners of a run, by name."""

    def __init__(self, means: Means) -> None:
        self._monotonic = means.monotonic
        concurrency = means.options.concurrency
        self._of = {name: _window(registered, concurrency) for name, registered in means.provisioners.items()}

    def size(self, name: str) -> int:
        """How many calls of this one may be under way at once."""
        return self._of[name].size

    def has_room(self, name: str, called: int, chosen: int) -> bool:
        """Whether a further call may begin now. called: how many are under way; chosen: are about to begin."""
        window = self._of[name]
        if window.gap and (chosen or self._monotonic() < window.opens_at):
            return False
        return not window.takes_time or called + chosen < window.size

    def opens_at(self, name: str, called: int) -> float | None:
        """The monotonic instant from which on there is room for one; None: not before a call has come back."""
        window = self._of[name]
        return None if window.takes_time and called >= window.size else window.opens_at

    def has_begun(self, name: str) -> None:
        """A call has begun."""
        window = self._of[name]
        if window.gap:
            window.opens_at = self._monotonic() + window.gap


def _window(registered: Registered, concurrency: int) -> Window:
    pace = registered.pace
    gap = 1 / pace.max_per_second if pace.max_per_second else 0.0
    return Window(pace.concurrency or concurrency, not registered.immediate, gap)
