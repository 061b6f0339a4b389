"""Every fact and decision about one allocation, as the sections say it, over real ledgers and journals."""

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from autorelease.deciding.single import decide_single
from autorelease.errors import ProvisionerError
from autorelease.inspect.explain import explain
from autorelease.inspect.subject import Subject, Terms, look_up
from autorelease.ledger.values import Vocabulary
from autorelease.model import Release, Result
from autorelease.settings import Columns
from tests.support.engine import EXPIRED, NOW, RENEWED, Engine, Scripted

HOUR = timedelta(hours=1)


class Witness(Engine):
    """Is asked about one sid."""

    columns = Columns().by_role()

    def subject(self, sid: str) -> Subject:
        """What is stored of it."""
        ledger, journal = self.open_ledger(read_only=True), self.open_journal()
        try:
            return look_up(sid, ledger, journal, self.words)
        finally:
            ledger.close()
            journal.close()

    def explained(self, sid: str) -> dict[str, dict[str, str]]:
        """The facts by title and name; of several of one name the last."""
        ledger, journal = self.open_ledger(read_only=True), self.open_journal()
        terms = Terms(self.words, self.columns, self.grace, self.hold_grace)
        subject = look_up(sid, ledger, journal, self.words)
        judge = self.judge(ledger, journal)
        single = decide_single(judge, self.ledger_name, sid, subject.rows, running=self.running)
        sections = list(explain(subject, single, journal.events(sid=sid), terms))
        ledger.close()
        journal.close()
        return {section.title: dict(section.facts) for section in sections}


@pytest.fixture
def witness(tmp_path: Path) -> Witness:
    """Over an empty ledger."""
    return Witness(tmp_path)


@pytest.fixture
def _in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("_in_berlin")
def test_a_row_that_is_due(witness: Witness) -> None:
    witness.add("a", owner="Eve")
    found = witness.explained("a")
    assert found["The ledger"] == {
        "sid": "'a' (text)",
        "status": "'Active' (text)",
        "expires_at": f"{EXPIRED} (integer)",
        "owner": "'Eve' (text)",
    }
    assert found["The rule"] == {
        "expires_at": "2026-12-01T11:00:00Z, 2026-12-01 12:00:00 CET here",
        "not settled": "yes: 'Active'",
        "expires_at known": "yes",
        "expires_at + grace < now": "yes: 2026-12-01T11:00:00Z + 0 s < 2026-12-01T12:00:00Z, by 60 min",
        "expired": "yes",
        "not held": "yes: it was never held",
        "not in backoff": "yes",
        "due": "yes",
    }
    assert found["The journal"] == {"releases": "none was ever tried"}
    assert found["The VM"] == {"named": "'a' of provisioner default", "also held by": "no other live row"}
    assert found["A tick now"] == {
        "would": "release it, for the first time",
        "admission": "not yet: it is a first try, which the guard counts",
        "the guard": "is asked by every tick; what it says of all that is due now: autorelease list-expired",
    }
    assert found["Events"] == {"none": ""}


def test_at_the_very_instant_and_within_the_grace_it_has_not_expired(witness: Witness) -> None:
    witness.configure(grace=HOUR)
    witness.add("a")
    found = witness.explained("a")
    assert found["The rule"]["expires_at + grace < now"].startswith("no: not 2026-12-01T11:00:00Z + 60 min < ")
    assert (found["The rule"]["expired"], found["The rule"]["due"]) == ("no", "no")
    assert found["A tick now"]["would"].endswith("the first tick after 2026-12-01T12:00:00Z tries it")
    witness.later(timedelta(microseconds=1))
    assert witness.explained("a")["The rule"]["expired"] == "yes"


def test_a_row_that_never_expires(witness: Witness) -> None:
    witness.place.insert([{"sid": "a", "status": "Active", "expires_at": None}])
    found = witness.explained("a")
    assert found["The ledger"]["expires_at"] == "NULL"
    assert found["The rule"]["expires_at"] == "never"
    assert found["The rule"]["expires_at known"] == "no: it never expires"
    assert found["A tick now"]["would"] == "do nothing: it never expires"


def test_settled_rows(witness: Witness) -> None:
    witness.words = Vocabulary(inactive=frozenset({"Gone"}))
    witness.add("a", "b")
    witness.mark_released("a")
    witness.place.execute("UPDATE vm_allocations SET status = 'Gone' WHERE sid = 'b'")
    released, gone = witness.explained("a"), witness.explained("b")
    assert released["The rule"]["not settled"] == "no: 'Released' is the released status"
    assert gone["The rule"]["not settled"] == "no: 'Gone' is one of inactive"
    for found in (released, gone):
        assert found["The rule"]["expires_at"].startswith("2026-12-01T11:00:0")
        assert found["A tick now"]["would"] == "do nothing: it is settled"


def test_an_invalid_row_shows_its_reason_and_what_is_stored(witness: Witness) -> None:
    witness.columns = witness.columns | {"expires_at": "paid_until"}
    witness.place.insert([{"sid": "a", "status": "Active", "expires_at": "soon", "released_at": b"\x01"}])
    found = witness.explained("a")
    assert found["The ledger"]["expires_at (column paid_until)"] == "'soon' (text)"
    assert found["The ledger"]["released_at"] == "x'01' (blob)"
    assert found["The rule"]["expires_at"] == "cannot be read: expires_at is text ('soon') where epoch takes numbers"
    assert found["The rule"]["invalid"].startswith("released_at is set")
    assert found["A tick now"]["would"] == "report it as invalid"


def test_a_sid_that_several_rows_share(tmp_path: Path) -> None:
    witness = Witness(tmp_path, table="CREATE TABLE vm_allocations (sid, status TEXT, expires_at)")
    witness.add("a", "a")
    assert len(witness.subject("a").stored) == 2
    assert witness.explained("a")["The rule"] == {"invalid": "sid is shared by several rows: it is never released"}


def test_a_vm_that_another_row_holds_too(witness: Witness) -> None:
    witness.add("a", vm_ref="vm")
    witness.add("b", vm_ref="VM ", expires_at=RENEWED)
    found = witness.explained("a")
    assert found["The rule"]["due"] == "no: vm_ref 'vm' is also held by 'b'"
    assert "vm_ref 'vm' is also held by 'b'" in found["A tick now"]["would"]
    assert "admission" not in found["A tick now"]
    assert found["The VM"] == {
        "named": "'vm' of provisioner default",
        "also held by": "'b', which expires at 2026-12-31T12:00:00Z",
    }
    # Of the other one nothing is wrong yet, and it says what is coming.
    assert witness.explained("b")["The VM"]["also held by"] == "'a', which expired at 2026-12-01T11:00:00Z, too"


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"expires_at": None}, "'b', which never expires"),
        ({"expires_at": "soon"}, "'b', which is invalid: expires_at is text ('soon')"),
        ({"sid": None}, "a row without a readable sid, which nobody can read"),
        ({"vm_uid": "another"}, "no other live row"),
        ({"provisioner": "another"}, "no other live row"),
        ({"status": "Released"}, "no other live row"),
        ({"vm_ref": "another"}, "no other live row"),
    ],
)
def test_who_else_holds_the_vm(columns: dict[str, object], said: str, witness: Witness) -> None:
    witness.add("a", vm_ref="vm", vm_uid="one")
    row = {"sid": "b", "status": "Active", "expires_at": RENEWED, "vm_ref": "vm", **columns}
    witness.place.insert([row])
    assert witness.explained("a")["The VM"]["also held by"].startswith(said)


def test_an_invalid_row_has_a_vm_and_a_hold_as_well(witness: Witness) -> None:
    witness.place.insert([{"sid": "a", "status": "Active", "expires_at": "soon", "vm_ref": "vm"}])
    witness.add("b", vm_ref="vm")
    witness.hold("a")
    found = witness.explained("a")
    assert found["The VM"]["also held by"].startswith("'b', which expired at")
    assert found["The rule"]["its own hold"].endswith("without an end: because")


def test_whether_the_guard_counts_it(witness: Witness) -> None:
    witness.add("a", "b", "c")
    witness.tick(Scripted({"a": [ProvisionerError("broken")], "b": [Release(Result.PENDING)]}))
    witness.add("young")
    witness.later(25 * HOUR)
    assert witness.explained("young")["A tick now"]["admission"].startswith("not yet: it is a first try")
    assert witness.explained("b")["A tick now"]["admission"] == "it was tried before: the guard does not count it again"


def test_the_last_verdict_of_the_guard(witness: Witness) -> None:
    witness.add("a")
    assert "the last tick" not in witness.explained("a")["A tick now"]
    witness.limits = replace(witness.limits, max_releases=0)
    witness.tick(Scripted())
    last = witness.explained("a")["A tick now"]["the last tick"]
    assert last.startswith("tick-1, at 2026-12-01T12:00:00Z, was refused: max_releases: 1 first releases")
    witness.limits = replace(witness.limits, max_releases=1)
    witness.tick(Scripted())
    last = witness.explained("a")["A tick now"]["the last tick"]
    assert last.endswith("was not refused, and ended with exit code 0")


def test_a_hold_before_and_after_its_end(witness: Witness) -> None:
    witness.configure(hold_grace=24 * HOUR)
    witness.add("a")
    witness.hold("a", until=NOW + 2 * HOUR)
    found = witness.explained("a")
    held = "held at 2026-12-01T12:00:00Z by tests, until 2026-12-01T14:00:00Z: because"
    assert found["The rule"]["not held"] == f"no: {held}; and 24.0 h of grace after that"
    assert found["A tick now"]["would"] == "leave it alone: held"
    witness.later(3 * HOUR)
    found = witness.explained("a")
    assert found["The rule"]["not held"].startswith("no: held at")
    assert "which ended 2026-12-01T14:00:00Z" in found["The rule"]["not held"]
    witness.later(24 * HOUR)
    assert witness.explained("a")["The rule"]["not held"].startswith("yes: held at")


def test_a_hold_without_an_end(witness: Witness) -> None:
    witness.add("a")
    witness.hold("a")
    assert "without an end: because" in witness.explained("a")["The rule"]["not held"]


def test_failures_and_the_next_try(witness: Witness) -> None:
    witness.configure(quarantine_after=1)
    witness.add("a")
    witness.tick(Scripted({"a": [ProvisionerError("broken")]}))
    found = witness.explained("a")
    next_try = "2026-12-02T10:48:00Z"
    assert found["The rule"]["not in backoff"] == f"no: next try at {next_try}, in 22.8 h"
    assert found["The rule"]["due"] == "no"
    assert found["The journal"]["for 2026-12-01T11:00:00Z"].startswith(
        f"1 failed ticks, 0 pending; in quarantine; next try at {next_try}; last error: broken"
    )
    assert found["A tick now"]["would"] == "leave it alone: backoff"
    assert "outcome failed failed broken (tick-1)" in found["Events"].values()
    witness.later(23 * HOUR)
    found = witness.explained("a")
    assert "next try with the next tick" in found["The journal"]["for 2026-12-01T11:00:00Z"]
    assert found["A tick now"]["would"] == "try again to release it"


def test_what_was_released(witness: Witness) -> None:
    witness.add("a")
    witness.tick(Scripted())
    assert witness.explained("a")["The journal"] == {"for 2026-12-01T11:00:00Z": "recorded as released"}
    witness.place.execute("UPDATE vm_allocations SET status = 'Active', released_at = NULL")
    found = witness.explained("a")
    assert found["A tick now"]["would"] == "leave it alone: resurrected"


def test_a_release_whose_end_is_unknown_and_a_conflict(witness: Witness) -> None:
    witness.add("a")
    witness.begin_and_lose("a")
    found = witness.explained("a")
    assert found["The journal"]["open intent"] == "a release of a by default was begun at 2026-12-01T11:30:00Z"
    assert found["A tick now"]["would"] == "try again to release it"
    witness.renew("a")
    witness.tick(Scripted())
    found = witness.explained("a")
    assert "conflict" in found["The journal"]
    assert found["A tick now"]["would"].startswith("report the conflict: a release was begun at")


def test_after_a_tick_that_the_guard_refused(witness: Witness) -> None:
    witness.add("a")
    witness.limits = replace(witness.limits, max_releases=0)
    assert witness.explained("a")["A tick now"]["would"] == "release it, for the first time"
    witness.tick(Scripted())
    found = witness.explained("a")
    assert found["The rule"]["due"] == "yes"
    assert found["A tick now"]["would"] == (
        "release it, for the first time, unless the guard refuses that tick as it refused the last one"
    )


def test_two_rows_of_one_vm_that_are_both_due_go_both(witness: Witness) -> None:
    witness.add("a", vm_ref="vm")
    witness.add("b", vm_ref="VM")
    assert witness.explained("a")["A tick now"]["would"] == "release it, for the first time"
    witness.hold("b")
    assert witness.explained("a")["A tick now"]["would"].startswith("report it as invalid: vm_ref 'vm' is also held by")


def test_what_is_said_of_a_row_is_what_a_plan_of_all_rows_makes_of_it(witness: Witness) -> None:
    witness.configure(hold_grace=HOUR)
    witness.add("a", "b", "c", "broken", "begun")
    witness.add("d", "e", vm_ref="vm")
    witness.add("renewed", expires_at=RENEWED)
    witness.place.insert([{"sid": "nothing", "status": "Active", "expires_at": "soon", "vm_ref": "b"}])
    witness.tick(Scripted({"broken": [ProvisionerError("broken")], "a": [Release(Result.PENDING)]}), at_most=3)
    witness.begin_and_lose("begun")
    witness.hold("c")
    witness.hold("e")
    ledger, journal = witness.open_ledger(read_only=True), witness.open_journal()
    judge, decision = witness.judge(ledger, journal), witness.decide(ledger, journal)
    for sid in ("a", "b", "c", "d", "e", "broken", "begun", "renewed", "nothing"):
        rows = look_up(sid, ledger, journal, witness.words).rows
        single = decide_single(judge, witness.ledger_name, sid, rows)
        found = None if single.planned is None else (single.planned, single.doubt)
        assert found == decision.spool.find(sid), sid
    for opened in (decision.spool, ledger, journal):
        opened.close()


def test_a_row_that_is_gone_and_one_that_never_was(witness: Witness) -> None:
    witness.add("a")
    witness.tick(Scripted())
    witness.place.execute("DELETE FROM vm_allocations")
    assert witness.subject("a").is_known
    found = witness.explained("a")
    assert found["The ledger"] == {"row": "none has the sid a"}
    assert found["A tick now"]["would"] == "do nothing: there is no row"
    assert not witness.subject("nobody").is_known


def test_a_sid_is_known_as_long_as_anything_is_remembered_of_it(witness: Witness) -> None:
    witness.add("a")
    witness.tick(Scripted({"a": [ProvisionerError("broken")]}))
    witness.place.execute("DELETE FROM vm_allocations")
    journal = witness.open_journal()
    journal.prune(NOW + 400 * 24 * HOUR)
    assert list(journal.events(sid="a")) == []
    journal.close()
    assert witness.subject("a").is_known
