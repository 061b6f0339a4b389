"""What befalls one run: at a step before or after a call on a collaborator, it dies, fails, or something else happens.

The product knows nothing of it: ledger, journal and provisioners are wrapped.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from types import GeneratorType
from typing import Any

from autorelease.errors import UnusableError
from autorelease.journal import TickKind
from tests.support.engine import Wrapper


class Collaborator(StrEnum):
    """Whom a run works with."""

    LEDGER = "ledger"
    JOURNAL = "journal"
    PROVISIONER = "provisioner"
    # Who is shown what an order would do, before it is carried out.
    OPERATOR = "operator"


class Side(StrEnum):
    """Just before a call is made, or just after it has come back."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True, slots=True)
class Point:
    """The `number`-th (1, 2, …) call on a collaborator, before or after it."""

    collaborator: Collaborator
    side: Side
    number: int


@dataclass(frozen=True, slots=True)
class Fault:
    """From its `first` call on, so many calls of a database fail."""

    collaborator: Collaborator
    first: int
    times: int


class Killed(BaseException):
    """Stands for the end of the process: nothing of ours runs after it."""


class Script:
    """What befalls one run, a tick or an operator's release. An act happens in whichever thread gets to its point.

    After it: `died` and `failed` say what came true; `over` lets the calls go that never came back.
    """

    def __init__(
        self,
        kind: TickKind = TickKind.TICK,
        *,
        death: Point | None = None,
        fault: Fault | None = None,
    ) -> None:
        self.kind = kind
        self.death = death
        self.died = False
        self.failed = False
        self.is_past_deadline = False
        self.over = threading.Event()
        self.wake: Callable[[], object] = lambda: None
        self._fault = fault
        self._acts: dict[Point, Callable[[], object]] = {}
        self._steps: Counter[tuple[Collaborator, Side]] = Counter()
        self._lock = threading.Lock()
        self._owner = threading.get_ident()
        self._calls = 0
        self._all_back = threading.Condition(self._lock)

    def add(self, point: Point, act: Callable[[], object]) -> None:
        """Let something happen at a point."""
        self._acts[point] = act

    def step(self, collaborator: Collaborator, side: Side) -> None:
        """One thing that the world can see is about to happen, or has just happened."""
        with self._lock:
            self._steps[collaborator, side] += 1
            point = Point(collaborator, side, self._steps[collaborator, side])
            self.died = self.died or point == self.death
            act = self._acts.pop(point, None)
        if self.died:
            self._die()
        if act is not None:
            act()
        if self._is_at_fault(point):
            self.failed = True
            raise UnusableError(f"made to fail: {collaborator}")

    def _is_at_fault(self, point: Point) -> bool:
        fault = self._fault
        if fault is None or (point.collaborator, point.side) != (fault.collaborator, Side.BEFORE):
            return False
        return fault.first <= point.number < fault.first + fault.times

    def _die(self) -> None:
        # Whatever a worker answers now, the run can do nothing with it: its own next step is its death, too.
        self.wake()
        raise Killed

    def deadline(self) -> bool:
        """For the run itself, which asks in every turn whether its time is over."""
        if self.died and threading.get_ident() == self._owner:
            raise Killed
        return self.is_past_deadline

    def begin_call(self) -> None:
        """A provisioner was called."""
        with self._lock:
            self._calls += 1

    def end_call(self) -> None:
        """It came back, in whatever way."""
        with self._all_back:
            self._calls -= 1
            self._all_back.notify_all()

    def finish(self) -> None:
        """The run is over: let go of what hangs, and wait until no thread of it does anything more."""
        self.over.set()
        with self._all_back:
            assert self._all_back.wait_for(lambda: self._calls == 0, timeout=60)


class Stepped(Wrapper):
    """A database whose every call is two steps of the script."""

    def __init__(self, inner: Any, collaborator: Collaborator, script: Script) -> None:
        super().__init__(inner)
        self._collaborator = collaborator
        self._script = script

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if not callable(value):
            return value

        def call(*arguments: Any, **named: Any) -> Any:
            self._script.step(self._collaborator, Side.BEFORE)
            result = self.made(name, value, *arguments, **named)
            if isinstance(result, GeneratorType):
                return self._stepped(result)
            self._script.step(self._collaborator, Side.AFTER)
            return result

        return call

    def made(self, name: str, method: Callable[..., Any], *arguments: Any, **named: Any) -> Any:  # noqa: ARG002
        """Make the call."""
        return method(*arguments, **named)

    def _stepped(self, items: Iterator[Any]) -> Iterator[Any]:
        yield from items
        self._script.step(self._collaborator, Side.AFTER)
