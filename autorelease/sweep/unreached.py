"""What a run did not reach is left for the next tick: each row has its end in this one, too, and the log one line."""

import logging
from collections.abc import Iterator

from autorelease.model import Planned, SkipReason
from autorelease.sweep import verdicts
from autorelease.sweep.acting import Means
from autorelease.sweep.books import Books
from autorelease.sweep.outbox import GROUP
from autorelease.sweep.work import Work
from autorelease.sweep.worklist import Worklist

logger = logging.getLogger(__name__)


class Unreached:
    """How many rows were not reached, and the oldest of them. count: so many."""

    def __init__(self) -> None:
        self.count = 0
        self._oldest: Planned | None = None

    def add(self, planned: Planned) -> None:
        """This one was not."""
        self.count += 1
        if self._oldest is None or _is_older(planned, self._oldest):
            self._oldest = planned

    def log(self, why: str) -> None:
        """One line for all of them, where there are any. why: what kept them from being reached."""
        if self._oldest is not None:
            sid = self._oldest.allocation.sid
            logger.warning("%s. Rows left for the next tick: %d, the oldest is %s", why, self.count, sid)


def leave_all(worklist: Worklist, means: Means, books: Books) -> None:
    """Leave what is on its way, and all that is on the list. They were admitted, and need no second answer."""
    unreached = Unreached()
    for work in _rest(worklist, books):
        books.settle(work, verdicts.skipped(work, SkipReason.DEFERRED, means.clock()))
        unreached.add(work.planned)
        if len(books.outbox) >= GROUP:
            books.outbox.flush()
    unreached.log(f"stopped by {means.stop.by}" if means.stop.by else "the sweep could not go on")


def _rest(worklist: Worklist, books: Books) -> Iterator[Work]:
    yield from books.works.unsettled()
    for name in worklist.provisioners():
        while (planned := worklist.take(name)) is not None:
            yield books.works.add(planned)


def _is_older(planned: Planned, other: Planned) -> bool:
    expires_at, than = planned.allocation.expires_at, other.allocation.expires_at
    return expires_at is not None and (than is None or expires_at < than)
