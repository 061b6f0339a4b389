"""Which pieces of work begin next: of each provisioner as many as its window has room for, in turn.

What cannot begin now is left on the list, or waits; what can never begin in this run is left for another one.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence

from autorelease.model import SkipReason
from autorelease.provisioners import Registered
from autorelease.sweep import verdicts
from autorelease.sweep.acting import Means
from autorelease.sweep.books import Books
from autorelease.sweep.crew import Crew
from autorelease.sweep.outbox import GROUP
from autorelease.sweep.trouble import Trouble
from autorelease.sweep.vms import VMs
from autorelease.sweep.windows import Windows
from autorelease.sweep.work import State, Work
from autorelease.sweep.worklist import Worklist

WAITING_PER_WORKER = 4
MOST_BLOCKED = 1000

Chosen = tuple[Work, Registered]


class Chooser:
    """Takes from the list of each provisioner no more than can be worked at soon."""

    def __init__(
        self, worklist: Worklist, means: Means, books: Books, crew: Crew, trouble: Trouble, windows: Windows, vms: VMs
    ) -> None:
        self._worklist = worklist
        self._means = means
        self._books = books
        self._works = books.works
        self._crew = crew
        self._trouble = trouble
        self._windows = windows
        self._vms = vms
        self._turn = deque(sorted(worklist.provisioners()))

    # --- what begins ------------------------------------------------------------------------------------------------

    def group(self) -> Sequence[Chosen]:
        """What begins now: one of each provisioner after the other, until no window has room."""
        chosen: list[Chosen] = []
        of_provisioner: Counter[str] = Counter()
        known, turn = self._known(), deque(self._turn)
        while turn and len(chosen) < GROUP and not self._is_over():
            name = turn.popleft()
            registered = self._crew.usable(name)
            if registered is None or (work := self._next(name, known[name], of_provisioner[name])) is None:
                continue
            turn.append(name)
            if self._vms.is_lost(work):
                self._defer(work)
            elif self._vms.take(work):
                chosen.append((work, registered))
                of_provisioner[name] += 1
            else:
                self._works.move(work, State.BLOCKED)
            # The ends of one group are written with the intents of the next one.
            if len(self._books.outbox) > GROUP and not self._books.outbox.flush():
                break
        # Whoever had no turn, because the group was full, is the first next time.
        self._turn.rotate(-len(chosen))
        return chosen

    def _is_over(self) -> bool:
        return self._means.stop.wished() or self._trouble.lost is not None

    def _known(self) -> Mapping[str, deque[Work]]:
        """What was begun before and can go on, by provisioner: what is ready, then what has waited long enough."""
        now = self._means.monotonic()
        waited = [work for work in self._works.of(State.WAITING) if work.due_at <= now]
        known: defaultdict[str, deque[Work]] = defaultdict(deque)
        for work in (*self._works.of(State.READY), *sorted(waited, key=lambda each: each.due_at)):
            known[work.allocation.provisioner].append(work)
        return known

    def _next(self, name: str, known: deque[Work], chosen: int) -> Work | None:
        """The next one that this provisioner has room for: one that is known, else the next of its list."""
        if not self._windows.has_room(name, self._works.count_of(name, State.CALLED), chosen):
            return None
        if known:
            work = known.popleft()
            if work.state is State.WAITING:
                self._works.move(work, State.READY)
            return work
        planned = self._worklist.take(name) if self._may_take(name) else None
        return None if planned is None else self._works.add(planned)

    def _may_take(self, name: str) -> bool:
        """Whether not too many of its rows are on their way already."""
        waiting = self._works.count_of(name, State.WAITING)
        is_too_much = waiting >= WAITING_PER_WORKER * self._windows.size(name)
        return not is_too_much and self._works.count_of(name, State.BLOCKED) < MOST_BLOCKED

    # --- what does not ----------------------------------------------------------------------------------------------

    def leave_down(self) -> None:
        """Leave some of the rows whose provisioner is down: page by page, so that nobody else waits for that."""
        for name in self._down():
            for work in self._some_of(name):
                self._defer(work)
            if not self._books.outbox.flush():
                return

    def _down(self) -> Sequence[str]:
        """Those that are down and have rows yet."""
        if self._is_over():
            return []
        return [name for name in self._turn if self._crew.usable(name) is None and self._has_any(name)]

    def _has_any(self, name: str) -> bool:
        return bool(self._works.count_of(name, State.READY, State.WAITING) or self._worklist.peek(name))

    def _some_of(self, name: str) -> Iterator[Work]:
        known = (*self._works.of(State.READY), *self._works.of(State.WAITING))
        yield from [work for work in known if work.allocation.provisioner == name]
        for _ in range(GROUP):
            if (planned := self._worklist.take(name)) is None:
                return
            yield self._works.add(planned)

    def _defer(self, work: Work) -> None:
        name = work.allocation.provisioner
        reason = SkipReason.DEFERRED if name in self._means.provisioners else SkipReason.NO_PROVISIONER
        if self._crew.usable(name) is None:
            self._crew.has_left(name)
        self._books.settle(work, verdicts.skipped(work, reason, self._means.clock()))
        self.let_go(work)

    def let_go(self, work: Work) -> None:
        """Its VM is free: who waited for that may go, one after the other."""
        waiting = self._vms.let_go(work, self._works.of(State.BLOCKED))
        if waiting is not None:
            self._works.move(waiting, State.READY)

    # --- what is left -----------------------------------------------------------------------------------------------

    def is_anything_left(self) -> bool:
        """Whether something is to be begun yet, now or later."""
        waiting = self._works.count(State.READY, State.BLOCKED, State.WAITING)
        return not self._is_over() and bool(waiting or any(map(self._worklist.peek, self._turn)))

    def next_at(self) -> float | None:
        """The monotonic instant from which on something can begin, or be left; None: not before a call is over."""
        if self._is_over():
            return None
        if self._down():
            return 0.0
        due = self._due()
        usable = [name for name in self._turn if self._crew.usable(name) is not None]
        instants = [at for name in usable if (at := self._next_of(name, due.get(name))) is not None]
        return min(instants, default=None)

    def _due(self) -> Mapping[str, float]:
        """When the first of those that wait is due, by provisioner."""
        due: dict[str, float] = {}
        for work in self._works.of(State.WAITING):
            name = work.allocation.provisioner
            due[name] = min(work.due_at, due.get(name, work.due_at))
        return due

    def _next_of(self, name: str, due: float | None) -> float | None:
        opens_at = self._windows.opens_at(name, self._works.count_of(name, State.CALLED))
        if opens_at is None:
            return None
        if self._works.count_of(name, State.READY) or (self._may_take(name) and self._worklist.peek(name)):
            return opens_at
        return None if due is None else max(due, opens_at)
