"""A ledger or a journal that cannot be used for a while: begin nothing new, try every second, give up in the end."""

import logging
from collections.abc import Callable

from autorelease import limits
from autorelease.errors import UnusableError

logger = logging.getLogger(__name__)

LEDGER = "ledger"
JOURNAL = "journal"
PAUSE_SECONDS = 1.0


class Trouble:
    """Since when which database fails. lost: why it was given up; None: it was not."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.lost: str | None = None
        self.resume_at = 0.0
        self._monotonic = monotonic
        self._since: dict[str, float] = {}

    def met(self, what: str, error: UnusableError) -> None:
        """It failed. what: the database, and what for."""
        now = self._monotonic()
        if what not in self._since:
            logger.error("nothing new is begun while the %s cannot be used: %s", what, error)
        since = self._since.setdefault(what, now)
        self.resume_at = now + PAUSE_SECONDS
        if now - since >= limits.STAMP_RESCUE.total_seconds():
            self.lost = str(error)

    def over(self, what: str) -> None:
        """It works."""
        self._since.pop(what, None)

    def is_resting(self) -> bool:
        """Whether the next try is still to come."""
        return self._monotonic() < self.resume_at
