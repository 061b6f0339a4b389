"""The log: lines on stderr, as text or as JSON. What a row says is escaped, so that one event is one line.

That nobody waits for who reads them is `stderr`'s part.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TextIO

from autorelease import stderr
from autorelease.model import rfc3339
from autorelease.text import escaped

ROOT = "autorelease"


def configure(level: str, form: str) -> None:
    """Send our log to stderr; level: debug, info, warning or error; form: text or json."""
    logger = logging.getLogger(ROOT)
    handler = _Stderr()
    handler.setFormatter(_JSONLines() if form == "json" else _TextLines())
    logger.handlers = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False
    stderr.describe_lost(lambda number: _lost_line(handler, number))


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to what sys.stderr is at that moment, which a progress bar may have replaced."""

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, _: TextIO) -> None:
        """Fixed."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, by whose level it is decided whether it may be left out."""
        with stderr.at_level(record.levelno):
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's own name
        """Stderr is gone: there is nobody left to tell, and the work is worth more than its log."""


def _lost_line(handler: logging.Handler, number: int) -> str:
    what = "log line was" if number == 1 else "log lines were"
    message = f"{number} {what} not taken: nobody read them in time. The journal has every outcome"
    return handler.format(logging.LogRecord(ROOT, logging.WARNING, "", 0, message, None, None)) + "\n"


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    facts = getattr(record, "facts", {})
    return {name: value for name, value in facts.items() if value is not None and value != ""}


def _at(record: logging.LogRecord) -> str:
    return _second(int(record.created))


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return rfc3339(datetime.fromtimestamp(seconds, UTC))


class _TextLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        facts = "".join(f" {name}={_value(value)}" for name, value in _facts(record).items())
        line = f"{_at(record)} {record.levelname} {escaped(record.getMessage())}{facts}"
        if not record.exc_info:
            return line
        # A traceback keeps its lines; what an exception says in them is escaped as everything else is.
        return "\n".join([line, *map(escaped, self.formatException(record.exc_info).split("\n"))])


class _JSONLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": _at(record),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        line |= _facts(record)
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def _value(value: object) -> str:
    text = str(value)
    is_plain = text.isprintable() and " " not in text and '"' not in text and "=" not in text
    return text if is_plain else json.dumps(text)
