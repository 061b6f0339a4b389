"""What is to be written into the journal, kept until a whole group of it is written at once."""

from collections.abc import Callable, Sequence

from autorelease.errors import UnusableError
from autorelease.journal import Event, GivenAnswer, Journal
from autorelease.model import Answer, Hold
from autorelease.sweep.trouble import JOURNAL, Trouble

# Of what is written in one transaction: for as long as it lasts, nobody else can write.
GROUP = 500


class Outbox:
    """Events and answers of one run, in the order in which they came."""

    def __init__(self, journal: Journal, run: str, trouble: Trouble) -> None:
        self._journal = journal
        self._run = run
        self._trouble = trouble
        self._events: list[Event] = []
        self._with_others = 0
        self._answers: list[GivenAnswer] = []

    def __len__(self) -> int:
        return len(self._events) - self._with_others + len(self._answers)

    def put(self, event: Event) -> None:
        """Write this with the next group."""
        self._events.append(event)

    def put_with_others(self, event: Event) -> None:
        """Write this when anything else is written; more will follow of its row."""
        self._events.append(event)
        self._with_others += 1

    def put_answer(self, fingerprint: str | None, answer: Answer) -> None:
        """Write what a provisioner said with the next group; what is said under no fingerprint earns nothing."""
        if fingerprint is not None:
            self._answers.append(GivenAnswer(fingerprint, answer))

    def flush(self) -> bool:
        """Write all that is waiting; False: it could not be written."""
        if not len(self):
            return True
        return self._wrote(lambda: self._journal.record(self._run, self._events, self._answers))

    def begin(self, intents: Sequence[Event], is_held: Callable[[Hold], bool]) -> frozenset[str] | None:
        """Write that these are about to be released, but for those that are held, whose sids it returns.

        The holds are read in the transaction that writes the intents: a hold is either seen here, or whoever makes it
        sees the intent. None: it could not be written.
        """
        held: list[frozenset[str]] = []

        def write() -> None:
            held.append(self._journal.begin(self._run, self._events, intents, is_held=is_held, answers=self._answers))

        return held[0] if self._wrote(write) else None

    def _wrote(self, write: Callable[[], object]) -> bool:
        try:
            write()
        except UnusableError as error:
            self._trouble.met(JOURNAL, error)
            return False
        self._trouble.over(JOURNAL)
        self._events.clear()
        self._with_others = 0
        self._answers.clear()
        return True
