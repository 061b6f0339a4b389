"""The log: one event is one line, whatever a row says, and its facts can be read by a program."""

import io
import json
import logging
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from autorelease import logs

HOSTILE = [
    "two\nlines",
    "carriage\rreturn",
    "\x1b[2J\x1b[31mred",
    "right to \u202e left",
    "zero\u200bwidth",
    "line\u2028separator",
    "nul\x00byte",
    "\x9b31m",
    "half a pair \udce9",
]


class Written:
    """All that was written to stderr so far."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._text = ""

    def getvalue(self) -> str:
        """From the start of the test."""
        self._text += self._capsys.readouterr().err
        return self._text


@pytest.fixture
def stderr(capsys: pytest.CaptureFixture[str]) -> Iterator[Written]:
    """What is written to stderr; the logger is given back as it was."""
    logger = logging.getLogger(logs.ROOT)
    before = (logger.handlers, logger.level, logger.propagate)
    yield Written(capsys)
    logger.handlers, logger.propagate = before[0], before[2]
    logger.setLevel(before[1])


def log(message: str, level: int = logging.INFO, **facts: Any) -> None:
    """One event of ours."""
    logging.getLogger("autorelease.somewhere").log(level, "%s", message, extra={"facts": facts})


def test_a_line_of_text(stderr: Written) -> None:
    logs.configure("info", "text")
    log("released", sid="vm-1", provisioner="default", duration_ms=12)
    at, level, rest = stderr.getvalue().split(" ", 2)
    assert datetime.fromisoformat(at).utcoffset() is not None
    assert at.endswith("Z")
    assert (level, rest) == ("INFO", "released sid=vm-1 provisioner=default duration_ms=12\n")


def test_a_line_of_json(stderr: Written) -> None:
    logs.configure("info", "json")
    log("released", logging.WARNING, sid="vm-1", duration_ms=12, reason=None, evidence="")
    line = json.loads(stderr.getvalue())
    assert line.pop("at").endswith("Z")
    assert line == {"level": "warning", "message": "released", "sid": "vm-1", "duration_ms": 12}


def test_facts_that_say_nothing_are_left_out_and_zero_is_not(stderr: Written) -> None:
    logs.configure("info", "text")
    log("x", nothing=None, empty="", zero=0, false=False)
    assert stderr.getvalue().endswith(" INFO x zero=0 false=False\n")


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_the_level_is_a_threshold(stderr: Written, level: str) -> None:
    logs.configure(level, "text")
    for each in ("debug", "info", "warning", "error"):
        log(each, getattr(logging, each.upper()))
    shown = [line.split(" ")[1].lower() for line in stderr.getvalue().splitlines()]
    every = ["debug", "info", "warning", "error"]
    assert shown == every[every.index(level) :]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("form", ["text", "json"])
def test_nothing_that_a_row_says_breaks_a_line_or_steers_a_terminal(stderr: Written, form: str, text: str) -> None:
    logs.configure("info", form)
    log(f"message {text}", sid=text)
    [line] = stderr.getvalue().splitlines()
    assert stderr.getvalue() == line + "\n"
    assert line.isprintable()
    # Such a line can be written to any terminal and any file.
    line.encode("utf-8")


@pytest.mark.parametrize("text", HOSTILE)
def test_json_carries_what_was_said_unchanged(stderr: Written, text: str) -> None:
    logs.configure("info", "json")
    log(text, sid=text)
    line = json.loads(stderr.getvalue())
    assert (line["message"], line["sid"]) == (text, text)


def test_a_value_cannot_pass_itself_off_as_further_facts(stderr: Written) -> None:
    logs.configure("info", "text")
    log("released", sid='vm-1" outcome=failed', vm_ref="a=b", owner="with space", plan="plain")
    line = stderr.getvalue()
    assert r'sid="vm-1\" outcome=failed"' in line
    assert 'vm_ref="a=b" owner="with space" plan=plain\n' in line


def fail_with(message: str) -> None:
    """A bug, with its traceback."""
    logging.getLogger("autorelease").error("this is a bug", exc_info=ZeroDivisionError(message))


def test_a_traceback_is_logged(stderr: Written) -> None:
    logs.configure("info", "text")
    fail_with("by zero")
    assert "ERROR this is a bug\n" in stderr.getvalue()
    assert stderr.getvalue().endswith("ZeroDivisionError: by zero\n")


def test_a_traceback_in_json_stays_on_its_line(stderr: Written) -> None:
    logs.configure("info", "json")
    fail_with("by\nzero")
    [line] = stderr.getvalue().splitlines()
    assert "ZeroDivisionError" in json.loads(line)["traceback"]


@pytest.mark.parametrize("text", ["\x1b[2Jgone", "right to \u202e left", "2026-12-01T00:00:00Z\rINFO released"])
def test_an_exceptions_words_steer_no_terminal_either(stderr: Written, text: str) -> None:
    """A provisioner's own exception may quote what its server, or a row, said."""
    logs.configure("info", "text")
    fail_with(text)
    assert stderr.getvalue().replace("\n", "").isprintable()


def test_a_replaced_stderr_is_written_to(stderr: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    logs.configure("info", "text")
    other = io.StringIO()
    monkeypatch.setattr(sys, "stderr", other)
    log("here")
    assert (stderr.getvalue(), other.getvalue()[-5:]) == ("", "here\n")


def test_a_stderr_that_is_gone_stops_nothing(stderr: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    logs.configure("info", "text")
    gone = io.StringIO()
    gone.close()
    monkeypatch.setattr(sys, "stderr", gone)
    log("nobody reads this")
    monkeypatch.undo()
    assert stderr.getvalue() == ""


def test_configuring_again_replaces(stderr: Written) -> None:
    logs.configure("info", "text")
    logs.configure("error", "json")
    log("unheard")
    log("heard", logging.ERROR)
    assert json.loads(stderr.getvalue())["message"] == "heard"


def test_only_our_own_log_is_written(stderr: Written) -> None:
    logs.configure("debug", "text")
    logging.getLogger("some.library").debug("chatter")
    assert stderr.getvalue() == ""
