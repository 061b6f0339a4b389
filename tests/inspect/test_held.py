"""Whether a hold is of the row that stands under its sid now. A sid may be given to somebody else."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from autorelease.identity import References
from autorelease.inspect.holds import check, difference, find_holds, how_to_end, in_a_sentence, made_for, releases_from
from autorelease.model import Hold, InvalidRow, MadeFor
from tests.support.engine import Engine, made_allocation

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
FOR = MadeFor("default", "vm-9", "uid-9", "ann")
FOLDED, EXACT = References.FOLDED, References.EXACT


def of(made: MadeFor | None) -> Hold:
    """A hold of the sid `a`."""
    return Hold("a", NOW, None, "because", "tests", made_for=made)


@pytest.mark.parametrize(
    ("fields", "references", "named"),
    [
        ({}, FOLDED, None),
        ({"vm_ref": "vm-10"}, FOLDED, "vm_ref 'vm-9', and the row says 'vm-10' now"),
        ({"vm_ref": " VM-9 "}, FOLDED, None),
        ({"vm_ref": "VM-9"}, EXACT, "vm_ref 'vm-9', and the row says 'VM-9' now"),
        ({"provisioner": "second"}, FOLDED, "provisioner 'default', and the row says 'second' now"),
        ({"vm_uid": "uid-10"}, FOLDED, "vm_uid 'uid-9', and the row says 'uid-10' now"),
        ({"vm_uid": None}, FOLDED, None),
        ({"owner": "bob"}, FOLDED, "owner 'ann', and the row says 'bob' now"),
        ({"owner": "Ann "}, FOLDED, None),
        ({"owner": None}, FOLDED, None),
    ],
)
def test_a_hold_that_was_made_for_another_vm_says_so(
    fields: dict[str, str | None], references: References, named: str | None
) -> None:
    row = made_allocation("a", **{"vm_ref": "vm-9", "vm_uid": "uid-9", "owner": "ann", **fields})
    assert difference(of(FOR), row, references) == (named and f"it was made for {named}")


def test_what_nobody_wrote_down_or_can_read_is_no_difference() -> None:
    row = made_allocation("a")
    assert difference(of(None), row, FOLDED) is None
    assert difference(of(FOR), InvalidRow("a", "strange"), FOLDED) is None
    assert made_for(InvalidRow("a", "strange")) is None
    assert made_for(row) == MadeFor("default", "a")


def test_how_each_is_named_and_ended() -> None:
    until = NOW + timedelta(hours=1, microseconds=5)
    sid, second, everything = (
        Hold("a b", NOW, until, "r", "eve"),
        Hold("", NOW, None, "r", "eve", provisioner="x y"),
        Hold("", NOW, until, "r", "eve"),
    )
    assert in_a_sentence(sid, NOW) == "a b is held since 2026-12-01T12:00:00Z by eve, until 2026-12-01T13:00:00Z: r"
    assert in_a_sentence(second, NOW) == "everything of x y is held since 2026-12-01T12:00:00Z by eve: r"
    assert in_a_sentence(sid, until).startswith("a b was held since ")
    assert [how_to_end(each).removeprefix("autorelease unhold ") for each in (sid, second, everything)] == [
        "'a b'",
        "--provisioner 'x y'",
        "--all",
    ]


def test_an_end_in_the_last_year_of_the_calendar() -> None:
    far = datetime(9999, 12, 31, 23, tzinfo=UTC)
    assert releases_from(Hold("a", NOW, far, "r", "eve"), timedelta(days=9)) == datetime.max.replace(tzinfo=UTC)


def test_what_is_listed_is_in_force_or_in_its_grace(engine: Engine) -> None:
    engine.add("a", "b", "c")
    for sid in ("a", "b", "gone"):
        engine.hold(sid)
    engine.hold("", provisioner="default")
    engine.unhold("b")
    ledger, journal = engine.open_ledger(), engine.open_journal()
    grace = timedelta(hours=1)
    found = find_holds(ledger, journal, engine.now + grace - timedelta(microseconds=1), grace)
    assert [each.hold.sid for each in found] == ["", "a", "b", "gone"]
    assert [each.mark for each in found] == [None, None, None, "row_gone"]
    later = find_holds(ledger, journal, engine.now + grace, grace)
    assert [each.hold.sid for each in later] == ["", "a", "gone"]
    assert len(find_holds(ledger, journal, engine.now, timedelta(days=999_999))) == 4
    line = check(found, engine.now)
    assert (line.state, line.remedy) == ("warn", "autorelease holds; then: autorelease unhold gone")
    assert "gone: no row has this sid any more" in line.message
    ledger.close()
    journal.close()


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """An empty ledger and an empty journal."""
    return Engine(tmp_path)
