"""What happens at every point of a group's way: before a look, between looks and intents, after them, between attempts.

A ledger and a journal that act before their n-th call, for every n there is. A provisioner's call that begins after the
databases were found unchanged, and before anything is looked at again, is the only one that may not know of it.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from autorelease.errors import ExitCode
from autorelease.ledger.values import Vocabulary
from autorelease.model import Allocation
from tests.support.engine import EXPIRED, RENEWED, Engine, Scripted, Ticked, Wrapper
from tests.support.sweeping import retryable, timed_out
from tests.support.thorough import stride

if TYPE_CHECKING:
    from autorelease.journal import Event

MOST_CALLS = 200
LEDGER, JOURNAL = "ledger", "journal"
Happening = Callable[[Engine], object]


def booked(engine: Engine) -> None:
    """A renewal, booked as a new row."""
    engine.add("b2", vm_ref=" WEB-2", expires_at=RENEWED)


def moved(engine: Engine) -> None:
    """The row of somebody who pays names this VM from now on."""
    engine.place.execute("UPDATE vm_allocations SET vm_ref = 'web-2' WHERE sid = 'paid'")


def renewed(engine: Engine) -> None:
    """The row itself is renewed."""
    engine.renew("b")


def moved_away(engine: Engine) -> None:
    """The row itself names another VM, which is paid for."""
    engine.place.execute("UPDATE vm_allocations SET vm_ref = 'web-9' WHERE sid = 'b'")


def cancelled(engine: Engine) -> None:
    """Its own application settles it."""
    engine.place.execute("UPDATE vm_allocations SET status = 'Cancelled' WHERE sid = 'b'")


def deleted(engine: Engine) -> None:
    """Its own application deletes it."""
    engine.place.execute("DELETE FROM vm_allocations WHERE sid = 'b'")


def held(engine: Engine) -> None:
    """An operator holds it."""
    engine.hold("b")


# With the database it happens in, and what may become of b: without a call, and after one that did not know of it.
HAPPENINGS: dict[str, tuple[Happening, str, set[str], set[str]]] = {
    "booked": (booked, LEDGER, {"changed"}, {"released"}),
    "moved": (moved, LEDGER, {"changed"}, {"released"}),
    "renewed": (renewed, LEDGER, {"renewed"}, {"conflict"}),
    "moved away": (moved_away, LEDGER, {"changed"}, {"conflict"}),
    "cancelled": (cancelled, LEDGER, {"changed"}, {"released"}),
    "deleted": (deleted, LEDGER, {"changed"}, {"released"}),
    "held": (held, JOURNAL, {"held"}, {"released"}),
}
# How the calls for b end before the last one, and what the run is like.
FIRST_ANSWERS = {"at once": [], "after another attempt": [retryable()], "after a time-out": [timed_out()]}


class Diary:
    """What happened, in its order: looks at the versions of the databases, calls, and the thing itself.

    is_point: whether it happens before this call of one of the databases.
    """

    def __init__(self, engine: Engine, happens: Happening, is_point: Callable[["Diary"], bool]) -> None:
        self.entries: list[str] = []
        self.asked = 0
        self._engine = engine
        self._happens = happens
        self._is_point = is_point
        self._is_sweeping = False

    def note(self, entry: str) -> None:
        """Write this down."""
        self.entries.append(entry)

    def called(self, what: str, name: str, arguments: tuple[Any, ...]) -> None:
        """One of the two databases is about to be asked for something."""
        # Before that it is the plan that is read: what happens then is the plan's own affair.
        self._is_sweeping = self._is_sweeping or name == "note_plan"
        if self._is_sweeping:
            self.asked += 1
            if not self.has_happened() and self._is_point(self):
                self.note("it happens")
                self._happens(self._engine)
        if name == "version":
            self.note(f"{what} is looked at")
        if name == "stamp":
            self.note("stamp")
        if name == "begin":
            intents: Sequence[Event] = arguments[2]
            self.entries.extend(f"intent {intent.sid}" for intent in intents)

    def has_happened(self) -> bool:
        """Whether the run had that many calls."""
        return "it happens" in self.entries

    def comes_unawares(self, entry: str, database: str) -> bool:
        """Whether this came after it happened, and before that database was looked at again."""
        return entry in self._after_it(database)[0]

    def comes_in_spite(self, entry: str, database: str) -> bool:
        """Whether this came although that could be known."""
        return entry in self._after_it(database)[1]

    def _after_it(self, database: str) -> tuple[list[str], list[str]]:
        """What came after it happened: before that database was looked at again, and since."""
        after = self.entries[self.entries.index("it happens") + 1 :]
        looked = f"{database} is looked at"
        place = after.index(looked) if looked in after else len(after)
        unawares, since = after[:place], after[place:]
        if self._is_handed_over(database) and "call b" in since:
            # A worker had it by then, and comes to note it when the main thread is ahead.
            since.remove("call b")
            unawares.append("call b")
        return unawares, since

    def _is_handed_over(self, database: str) -> bool:
        """Whether, when it happened, the last look at it before the call of b was over, and that call not noted yet."""
        before = self.entries[: self.entries.index("it happens")]
        if "intent b" not in before:
            return False
        last = before[len(before) - before[::-1].index("intent b") :]
        return f"{database} is looked at" in last and "call b" not in last

    def was_called(self) -> bool:
        """Whether b had been called for when it happened."""
        return "call b" in self.entries[: self.entries.index("it happens")]

    def may_have_been_stamped(self) -> bool:
        """Whether it may have come too late for anything."""
        return "stamp" in self.entries[: self.entries.index("it happens")]


class Acting(Wrapper):
    """A ledger or a journal that acts before its n-th call."""

    def __init__(self, inner: Any, what: str, diary: Diary) -> None:
        super().__init__(inner)
        self._what = what
        self._diary = diary

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **named: Any) -> Any:
            self._diary.called(self._what, name, arguments)
            return found(*arguments, **named)

        return call


def is_after_the_call(diary: Diary, number: int) -> bool:
    """Whether b has been called for so often."""
    return diary.entries.count("call b") == number


def is_asked(diary: Diary, number: int) -> bool:
    """Whether this is the databases' so manyeth call."""
    return diary.asked == number


def points(folder: Path, happens: Happening, first: list[Any], immediate: list[str]) -> Iterator[tuple[Diary, Ticked]]:
    """A tick of its own for every point there is."""
    seen: set[str] = set()
    # How many calls come before the one for b differs from tick to tick: by its number alone, what comes just after it
    # would be missed at times.
    after_the_call = partial(is_after_the_call, number=len(first) + 1)
    # Where there is more than one call for b, there are more points.
    counted = (partial(is_asked, number=number) for number in range(1, MOST_CALLS, stride(4 if first else 2)))
    for tick, is_point in enumerate(chain([after_the_call], counted)):
        place = folder / str(tick)
        place.mkdir()
        engine = Engine(place)
        engine.words = Vocabulary(inactive=frozenset({"Cancelled"}))
        engine.configure(concurrency=2)
        engine.add("a", vm_ref="web-1")
        engine.add("b", vm_ref="web-2", expires_at=EXPIRED + 1)
        engine.add("c", vm_ref="web-3", expires_at=EXPIRED + 2)
        engine.add("paid", vm_ref="web-9", expires_at=RENEWED)
        diary = Diary(engine, happens, is_point)

        def note(allocation: Allocation, diary: Diary = diary) -> None:
            diary.note(f"call {allocation.sid}")

        ticked = engine.tick(
            Scripted({"b": list(first)}, before=note),
            immediate=immediate,
            around_ledger=partial(Acting, what=LEDGER, diary=diary),
            around_journal=partial(Acting, what=JOURNAL, diary=diary),
        )
        if not diary.has_happened():
            return
        yield diary, ticked
        check_open(engine, ticked)
        if ticked.ends()["b"] not in seen:
            check_the_next_tick(engine, ticked)
        seen.add(ticked.ends()["b"])
    raise AssertionError("there are more points than this test goes to")


def check_open(engine: Engine, ticked: Ticked) -> None:
    """What is open is a conflict, or held after a call that came to no end."""
    end, is_open = ticked.ends()["b"], engine.open_intents()
    assert is_open == {"b"} if end == "conflict" else is_open in (set(), {"b"} if end == "held" else set())


def check_the_next_tick(engine: Engine, ticked: Ticked) -> None:
    """Whatever is open shows as a conflict."""
    engine.later()
    later = engine.tick(Scripted())
    assert later.code in (ExitCode.OK, ExitCode.NOT_ALL_WELL)
    assert (later.ends().get("b") == "conflict") == (ticked.ends()["b"] == "conflict")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("first", "kind"),
    [
        *(("at once", kind) for kind in HAPPENINGS),
        *(("after a time-out", kind) for kind in HAPPENINGS),
        *(("after another attempt", kind) for kind in ("booked", "renewed", "held")),
    ],
)
def test_whatever_happens_at_whatever_point_is_known_before_the_next_call(
    tmp_path: Path, first: str, kind: str
) -> None:
    happens, database, without_call, after_call = HAPPENINGS[kind]
    seen = set()
    for diary, ticked in points(tmp_path, happens, FIRST_ANSWERS[first], []):
        assert not diary.comes_in_spite("call b", database), " | ".join(diary.entries)
        assert {sid: end for sid, end in ticked.ends().items() if sid != "b"} == {"a": "released", "c": "released"}
        end = ticked.ends()["b"]
        allowed = set(without_call)
        if diary.was_called() or diary.comes_unawares("call b", database):
            allowed |= after_call
            # Nobody can say what a call without an end has done.
            allowed |= {"conflict", "held"} if first == "after a time-out" else set()
        assert end in allowed | ({"released"} if diary.may_have_been_stamped() else set()), diary.entries
        seen.add(end)
    # It was too early for a call at some of the points, and too late for anything at others.
    assert seen >= without_call
    assert seen & after_call


@pytest.mark.parametrize("kind", HAPPENINGS)
def test_and_so_where_the_stamp_is_the_release(tmp_path: Path, kind: str) -> None:
    happens, database, without_call, _ = HAPPENINGS[kind]
    seen = set()
    for diary, ticked in points(tmp_path, happens, [], ["default"]):
        # The call alone does nothing: what comes before the last look before the stamp comes in time.
        is_too_late = diary.may_have_been_stamped() or diary.comes_unawares("stamp", database)
        too_late = {"released"} if is_too_late else set()
        assert ticked.ends()["b"] in without_call | too_late, diary.entries
        seen.add(ticked.ends()["b"])
    assert seen == without_call | {"released"}
