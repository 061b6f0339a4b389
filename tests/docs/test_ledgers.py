"""The page of ledgers: its short examples are understood, and its spellings are of one instant."""

import tomllib

import pytest

from autorelease.ledger.instants import read_instant
from autorelease.ledger.values import Vocabulary
from autorelease.settings import File
from autorelease.structs import read_struct
from tests.docs.documents import LEDGERS, fences, section

SUBJECTS = (
    *("Times as text", "Dates without a time", "Values that mean nothing", "Statuses"),
    *("Rows that are marked as deleted", "Which rows are ours"),
)
EXAMPLES_OF = {subject: [fence.body for fence in fences(section(LEDGERS, subject), "toml")] for subject in SUBJECTS}
EXAMPLES = [example for subject in SUBJECTS for example in EXAMPLES_OF[subject]]


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_a_configuration(example: str) -> None:
    assert read_struct(tomllib.loads(example), File) != File()


def test_all_that_is_new_has_its_example() -> None:
    # The spellings of instants need no key.
    assert [subject for subject, examples in EXAMPLES_OF.items() if not examples] == ["Times as text"]
    keys = {key for example in EXAMPLES for key in tomllib.loads(example)["ledger"]}
    assert keys >= {"dates", "never", "live", "where", "columns"}


def test_the_spellings_that_are_shown_are_of_one_instant() -> None:
    [_, spellings] = [fence.body for fence in fences(section(LEDGERS, "Times as text"), "text")]
    texts = [text.strip() for line in spellings.splitlines() for text in line.split("   ") if text.strip()]
    assert len(texts) == 7
    assert len({read_instant(text, Vocabulary(timestamps="iso8601")) for text in texts}) == 1
