"""The window of each provisioner: how many of its calls may be under way, and how soon its next one may begin.

Each has its own, so that none waits for another. Knows nothing of rows and lists.

Where calls are short, a worker would stand idle for as long as the next group is judged and written down. There some
calls may be ready beside those under way: no more than begin within a moment, and no more than are under way.
"""

import msgspec

from autorelease.provisioners import Registered
from autorelease.sweep.acting import Means

# In so short a time whatever is ready should have begun.
AHEAD_SECONDS = 0.1
SHORTEST_SECONDS = 1e-6
# What one more duration counts in the average of the last ones.
NEWS = 0.25


class Window(msgspec.Struct):
    """One of them. size: calls at once, where they take time. gap: seconds from the beginning of one to the next.

    opens_at: the monotonic instant from which on the next one may begin. seconds: how long its calls take of late;
    None: none has come back.
    """

    size: int
    takes_time: bool
    gap: float
    opens_at: float = 0.0
    seconds: float | None = None


class Windows:
    """Those of all provisioners of a run, by name. may_be_ahead: whether calls may be ready before a worker is free."""

    def __init__(self, means: Means, *, may_be_ahead: bool = False) -> None:
        self._monotonic = means.monotonic
        self._may_be_ahead = may_be_ahead
        concurrency = means.options.concurrency
        self._of = {name: _window(registered, concurrency) for name, registered in means.provisioners.items()}

    def note_duration(self, name: str, seconds: float) -> None:
        """A call took so long."""
        window = self._of[name]
        before = seconds if window.seconds is None else window.seconds
        window.seconds = before + (seconds - before) * NEWS

    def size(self, name: str) -> int:
        """How many calls of this one may be under way at once."""
        return self._of[name].size

    def has_room(self, name: str, called: int, chosen: int) -> bool:
        """Whether a further call may begin now. called: how many are under way; chosen: are about to begin."""
        window = self._of[name]
        if window.gap and (chosen or self._monotonic() < window.opens_at):
            return False
        return not window.takes_time or called + chosen < window.size + self._ahead(window)

    def is_full(self, name: str, called: int) -> bool:
        """Whether a further call would be ready before a worker is free."""
        window = self._of[name]
        return window.takes_time and called >= window.size

    def opens_at(self, name: str, called: int) -> float | None:
        """The monotonic instant from which on there is room for one; None: not before a call has come back."""
        window = self._of[name]
        is_full = window.takes_time and called >= window.size + self._ahead(window)
        return None if is_full else window.opens_at

    def _ahead(self, window: Window) -> int:
        """How many may be ready while as many as there may be at once are under way."""
        if window.gap or window.seconds is None or not self._may_be_ahead:
            return 0
        return min(window.size, int(window.size * AHEAD_SECONDS / max(window.seconds, SHORTEST_SECONDS)))

    def has_begun(self, name: str) -> None:
        """A call has begun."""
        window = self._of[name]
        if window.gap:
            window.opens_at = self._monotonic() + window.gap


def _window(registered: Registered, concurrency: int) -> Window:
    pace = registered.pace
    gap = 1 / pace.max_per_second if pace.max_per_second else 0.0
    return Window(pace.concurrency or concurrency, not registered.immediate, gap)
