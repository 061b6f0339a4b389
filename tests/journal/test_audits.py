"""What audits leave in the journal: how far they have come, and which invalid rows are remembered."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from autorelease.journal import Audit, Audited, Journal, JournalReader
from autorelease.journal.empty import EmptyJournal
from autorelease.journal.sqlite import SQLiteJournal
from tests.support.journals import copy_journal

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
BEGUN = Audit(ground="7 rowid", started_at=NOW)
HALF = replace(
    BEGUN, position="[5]", rows=5, live=4, due=1, unnamed=1, examples=(("NULL", "sid is NULL"),), seconds=0.5
)
WHOLE = replace(HALF, position=None, rows=9, finished_at=NOW + timedelta(minutes=5), problem="the index is damaged")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A new one."""
    copy_journal(tmp_path / "journal.db")
    opened = SQLiteJournal(tmp_path / "journal.db", read_only=False)
    yield opened
    opened.close()


def test_where_none_was_made_nothing_is_known(journal: Journal) -> None:
    empty: JournalReader = EmptyJournal()
    assert journal.audited("one") == empty.audited("one") == Audited()


def test_one_that_is_under_way_is_noted_again_and_again(journal: Journal) -> None:
    journal.note_audit("one", BEGUN, {"a": "first"})
    journal.note_audit("one", HALF, {"b": "second"})
    assert journal.audited("one") == Audited(None, HALF, {"a": "first", "b": "second"})
    journal.note_audit("one", WHOLE, {"a": "third"})
    assert journal.audited("one") == Audited(WHOLE, None, {"a": "third", "b": "second"})


def test_what_the_next_one_does_not_find_again_is_remembered_until_its_end(journal: Journal) -> None:
    journal.note_audit("one", WHOLE, {"a": "old", "b": "old"})
    journal.note_audit("one", BEGUN, {"a": "new"})
    assert journal.audited("one") == Audited(WHOLE, BEGUN, {"a": "new", "b": "old"})
    journal.note_audit("one", WHOLE, {})
    assert journal.audited("one") == Audited(WHOLE, None, {"a": "new"})


def test_what_is_mended_is_forgotten(journal: Journal) -> None:
    journal.note_audit("one", WHOLE, {"a": "x", "b": "y"})
    journal.forget_invalid(["a", "nobody"])
    assert journal.audited("one").invalid == {"b": "y"}


def test_another_ledger_knows_nothing_of_it_and_takes_its_place_at_its_end(journal: Journal) -> None:
    journal.note_audit("one", WHOLE, {"a": "x"})
    assert journal.audited("other") == Audited()
    journal.note_audit("other", HALF, {"b": "y"})
    assert journal.audited("one") == Audited(WHOLE, None, {"a": "x"})
    journal.note_audit("other", WHOLE, {})
    assert (journal.audited("one"), journal.audited("other").invalid) == (Audited(), {"b": "y"})


def test_pruning_takes_nothing_of_it(journal: Journal) -> None:
    journal.note_audit("one", WHOLE, {"a": "x"})
    journal.prune(NOW + timedelta(days=1000))
    assert journal.audited("one") == Audited(WHOLE, None, {"a": "x"})
