"""The threat model is held to the tests: each one that it names exists, and it claims nothing without one."""

import ast
import re
from collections.abc import Iterator
from functools import cache

import pytest
from msgspec import Struct
from msgspec.structs import fields

from autorelease.provisioners.command import Options
from autorelease.settings import File
from tests.docs.documents import README, ROOT

DOCUMENT = ROOT / "docs" / "threat-model.md"
NAMED = re.compile(r"`(tests/[a-z0-9_/]+\.py)::(test_[a-z0-9_]+)(?:\[[^`]*\])?`")
TEXT = DOCUMENT.read_text("utf-8")
LEAST = 60
SECRET = re.compile(r"passw|secret|token|credential|api_?key|private|auth|_file$", re.IGNORECASE)
ACTORS = (
    *("customer", "application", "local user", "group", "provisioner", "configuration", "PATH", "clock", "backup"),
    *("Another tool", "Not stopped"),
)


@cache
def names_in(file: str) -> frozenset[str]:
    """The names of the tests of a file."""
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def test_every_test_that_is_named_exists() -> None:
    named = NAMED.findall(TEXT)
    assert len(set(named)) >= LEAST
    missing = [f"{file}::{test}" for file, test in named if test not in names_in(file)]
    assert not missing


def test_nothing_that_looks_like_a_test_is_overlooked() -> None:
    assert len(re.findall(r"::test_", TEXT)) == len(NAMED.findall(TEXT))


def test_every_line_of_a_table_names_a_test() -> None:
    rows = [line for line in TEXT.splitlines() if line.startswith("| ") and not line.startswith("| what ")]
    assert len(rows) > 30
    assert not [row for row in rows if not NAMED.search(row)]


@pytest.mark.parametrize("actor", ACTORS)
def test_every_actor_has_a_section(actor: str) -> None:
    assert [line for line in TEXT.splitlines() if line.startswith("## ") and actor in line]


def test_the_readme_leads_to_it() -> None:
    assert "(docs/threat-model.md)" in README.read_text("utf-8")


def keys_of(model: type[Struct]) -> Iterator[str]:
    """The keys of a section and of those within it."""
    for field in fields(model):
        yield field.name
        if isinstance(field.type, type) and issubclass(field.type, Struct):
            yield from keys_of(field.type)


def test_no_key_of_the_configuration_takes_a_secret() -> None:
    keys = [*keys_of(File), *keys_of(Options)]
    assert {"url", "sid", "timeout", "argv"} <= set(keys)
    assert not [key for key in keys if SECRET.search(key)]
