"""What a provisioner is known by, as people read it: no secret, and what has changed since it earned its credit."""

import json
from datetime import timedelta
from typing import Any

import pytest

from autorelease.inspect.fingerprints import changes, spelled
from tests.support.engine import NOW

ARGV = ["/bin/release", "--", "{vm_ref}", "--url=/etc/url"]


def command(files: dict[str, str] | None = None, **parts: Any) -> str:
    """The fingerprint of a command."""
    return json.dumps({"kind": "command", "argv": ARGV, "files": files or {"0": "aa"}, **parts})


def test_each_part_has_its_name() -> None:
    assert spelled(command({"0": "aa", "3=": "bb", "9": "cc"})) == (
        'kind = command; argv = ["/bin/release", "--", "{vm_ref}", "--url=/etc/url"]; SHA-256 of /bin/release = aa; '
        "SHA-256 of --url=/etc/url = bb; files.9 = cc"
    )


@pytest.mark.parametrize("text", ["project 7", "[1, 2]", "null", "7", ""])
def test_a_text_of_another_form_is_shown_as_it_is(text: str) -> None:
    assert spelled(text) == text
    assert changes(text, [("project 8", NOW)]) == ""


@pytest.mark.parametrize("text", ["token=hunter2", '{"token": "hunter2"}', '{"at": {"password": "hunter2"}}'])
def test_no_secret_is_shown_whoever_wrote_it(text: str) -> None:
    assert "hunter2" not in spelled(text)
    assert "hunter2" not in changes('{"kind": 1}', [('{"kind": 1, "token": "hunter2"}', NOW)])


def test_what_changed_is_named() -> None:
    earlier = [
        (command({"0": "zz"}, argv=["/bin/other"]), NOW),
        (command({"0": "bb", "3=": "cc"}), NOW - timedelta(days=1)),
        (json.dumps({"kind": "http", "project": 7}), NOW),
    ]
    assert changes(command({"0": "aa"}), earlier) == (
        "what has credit since 2026-11-30T12:00:00Z was known by something else: "
        "SHA-256 of /bin/release was bb, and is aa; SHA-256 of --url=/etc/url is gone"
    )


def test_nothing_that_could_be_the_same_has_credit() -> None:
    assert changes(command(), []) == ""
    assert changes(command(), [(command(argv=["/bin/other"]), NOW), ("text", NOW)]) == ""
