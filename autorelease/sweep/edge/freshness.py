"""Whether what was judged still holds, asked by a worker right before a call that has waited for it.

A call that a worker is free for begins as soon as it was judged. One that waits until a worker is free was judged a
moment before, and in that moment its row may be renewed. So the worker looks whether anybody else has written since.
What we write ourselves meanwhile does not count, and is what makes this more than one comparison.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from autorelease.deciding.judging import UNKNOWN, Judge, Versions
from autorelease.errors import UnusableError
from autorelease.journal import Journal

# For what we are writing to be written; a judgement that is older than this counts for nothing anyhow.
LONGEST_WAIT_SECONDS = 2.0
# We may have written, and have said so, between the look of a worker and its comparison.
LOOKS = 2


class Freshness:
    """Owned by the thread that judges and writes; `holds` is for every thread.

    seen: versions of ledger and journal, on connections of their own, which change with whatever anybody writes, also
    ourselves. known: the versions that judgements are made by, which change with what others write; None in one of
    them: nobody can tell, and nothing holds.
    """

    def __init__(self, seen: Callable[[], Versions], known: Callable[[], Versions]) -> None:
        self._seen = seen
        self._known = known
        self._changed = threading.Condition()
        self._is_writing = False
        self._last: tuple[Versions, Versions] | None = None

    @contextmanager
    def ours(self) -> Iterator[None]:
        """What is written within this block is written by us."""
        with self._changed:
            self._is_writing = True
        try:
            yield
        finally:
            self.look()

    def look(self) -> None:
        """Take down what is there now, with all that we have written."""
        # In this order: what others write between the two is in the second one, and differs from what was judged.
        seen = _or_unknown(self._seen)
        last = (_or_unknown(self._known), seen)
        with self._changed:
            self._last = None if None in (*last[0], *seen) else last
            self._is_writing = False
            self._changed.notify_all()

    def holds(self, known: Versions) -> bool:
        """Whether nobody else has written since somebody judged by these versions."""
        ends, looks = time.monotonic() + LONGEST_WAIT_SECONDS, 0
        while looks < LOOKS:
            seen = _or_unknown(self._seen)
            with self._changed:
                if (known, seen) == self._last:
                    return True
                if not self._is_writing:
                    looks += 1
                elif not self._changed.wait(ends - time.monotonic()):
                    return False
        return False


@contextmanager
def freshness_of(judge: Judge[Journal]) -> Iterator[Freshness]:
    """That of the ledger and the journal of a judge. Raises UnusableError where they cannot be watched."""
    with closing(judge.ledger.watch()) as ledger, closing(judge.journal.watch()) as journal:
        yield Freshness(lambda: (ledger.version(), journal.version()), judge.versions)


def _or_unknown(versions: Callable[[], Versions]) -> Versions:
    try:
        return versions()
    except UnusableError:
        return UNKNOWN
