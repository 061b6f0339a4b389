"""How often it is asked who else holds some VMs: each time where that is cheap, else for a tenth of the time."""

from collections.abc import Iterable, Sequence

from autorelease.identity import VM, Holder
from autorelease.sweep.looks import CHEAP_SECONDS, MOST_AT_ONCE, Looks


class Table:
    """A ledger whose looks take so long, and which notes what each was about."""

    def __init__(self, seconds: float, holders: Iterable[Holder] = ()) -> None:
        self.now = 100.0
        self.seconds = seconds
        self.rows = list(holders)
        self.asked: list[list[str]] = []

    def monotonic(self) -> float:
        """A clock that moves by looks alone, and when it is told to."""
        return self.now

    def holders(self, references: Sequence[str]) -> Iterable[Holder]:
        """One look."""
        self.asked.append(list(references))
        self.now += self.seconds
        return [holder for holder in self.rows if holder.vm.reference in references]


def looks_at(table: Table, plan: Sequence[str] = ()) -> Looks:
    """Looks of a run with this plan."""
    return Looks(table, lambda: [plan], table.monotonic)  # type: ignore[arg-type]


def holder(sid: str, reference: str) -> Holder:
    """A row that holds a VM."""
    return Holder(sid, VM("default", reference))


TWO_OF_B = [holder("a", "a"), holder("b", "b"), holder("b2", "b")]


def test_a_cheap_look_is_made_each_time_and_about_the_group_alone() -> None:
    table = Table(CHEAP_SECONDS / 2, TWO_OF_B)
    looks = looks_at(table, plan=["a", "b", "c"])
    for _ in range(50):
        assert [found.sid for found in looks.holders(["b"])] == ["b", "b2"]
    assert table.asked == [["b"]] * 50


def test_looks_that_cost_something_take_a_tenth_of_the_time() -> None:
    table = Table(1.0)
    looks = looks_at(table, plan=["a", "b"])
    began = table.now
    for _ in range(2_000):
        looks.holders(["a"])
        table.now += 0.05
    # Two more at most: the first, which shows the cost, and the one that is under way in the end.
    assert len(table.asked) <= 0.1 * (table.now - began) + 2
    assert len(table.asked) >= 0.09 * (table.now - began)


def test_a_look_that_costs_something_is_about_the_whole_plan_and_counts_until_the_next() -> None:
    table = Table(1.0, [holder("a", "a"), holder("b", "b")])
    looks = looks_at(table, plan=["a", "b", "c"])
    assert [found.sid for found in looks.holders(["a"])] == ["a"]
    assert table.asked == [["a"], ["a", "b", "c"]]
    table.rows = TWO_OF_B
    table.now += 21
    assert [found.sid for found in looks.holders(["a"])] == ["a"]
    assert table.asked[2:] == [["a", "b", "c"]]
    # Nobody looks again now; that b has two rows is known from the last look.
    assert [found.sid for found in looks.holders(["b"])] == ["b", "b2"]
    assert len(table.asked) == 3


def test_what_was_found_is_forgotten_with_the_next_look() -> None:
    table = Table(1.0, TWO_OF_B)
    looks = looks_at(table, plan=["a", "b"])
    assert len(looks.holders(["b"])) == 2
    table.rows = TWO_OF_B[:2]
    assert len(looks.holders(["b"])) == 2
    table.now += 21
    assert len(looks.holders(["b"])) == 1
    assert looks.holders(["a"]) == []


def test_a_ledger_that_has_become_quick_is_asked_each_time_again() -> None:
    table = Table(1.0)
    looks = looks_at(table, plan=["a", "b"])
    looks.holders(["a"])
    table.seconds = 0.001
    table.now += 21
    looks.holders(["a"])
    looks.holders(["b"])
    looks.holders(["a"])
    assert table.asked[2:] == [["a", "b"], ["b"], ["a"]]


def test_a_plan_that_is_too_large_for_one_look_is_looked_at_group_by_group() -> None:
    table = Table(1.0)
    looks = looks_at(table, plan=[f"vm-{number}" for number in range(MOST_AT_ONCE + 1)])
    looks.holders(["a"])
    assert table.asked == [["a"], ["a"]]
