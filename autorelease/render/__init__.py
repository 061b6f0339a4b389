"""What commands show: a table on a terminal, plain lines in a pipe, JSON, CSV.

Plain: a header line, then one line a row, tab-separated, never truncated; what is not printable is escaped.
"""

import csv
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from enum import StrEnum
from itertools import islice
from typing import Any, TextIO

from msgspec import Struct

from autorelease.errors import OutputError, ReaderGoneError
from autorelease.inspect import in_words
from autorelease.model import Outcome
from autorelease.render.people import Row, cell
from autorelease.sweep.report import TickReport, exit_code, status
from autorelease.text import as_json, as_json_row, escaped

LINES_OF_DETAIL = 20
LONGEST_BAR = 40
ROWS_AT_ONCE = 200
LOST = "ledger or journal could not be used to the end, or hides rows"


class Form(StrEnum):
    """The shapes of output."""

    TABLE = "table"
    PLAIN = "plain"
    JSON = "json"
    CSV = "csv"


class TextForm(StrEnum):
    """The shapes of output of a command without CSV."""

    TABLE = "table"
    PLAIN = "plain"
    JSON = "json"


class LineForm(StrEnum):
    """The shapes of output of a command that has a line or a few to say."""

    PLAIN = "plain"
    JSON = "json"


def is_terminal() -> bool:
    """Whether a person reads."""
    return sys.stdout.isatty()


def default_form() -> Form:
    """A table on a terminal, plain lines elsewhere."""
    return Form.TABLE if is_terminal() else Form.PLAIN


def show_rows(
    form: Form, columns: Sequence[str], rows: Iterable[Row], *, state: str | None = None, spare: Sequence[str] = ()
) -> None:
    """Write rows to stdout as a table, as plain lines or as CSV.

    state, spare: of a table, the column whose words have colours, and those that are left out first, in this order,
    where the terminal is too narrow for all.
    """
    if form is Form.TABLE:
        from autorelease.render import terminal

        _write(terminal.table(columns, list(rows), state, spare))
    elif form is Form.CSV:
        writer = csv.writer(_Stdout(), lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([cell(row.get(name)) for name in columns] for row in rows)
    else:
        _write("\t".join(columns) + "\n")
        for row in rows:
            _write("\t".join(cell(row.get(name)) for name in columns) + "\n")


def show_json(head: Mapping[str, Any], lists: Mapping[str, Iterable[Row | Struct]]) -> None:
    """Write one object to stdout: `head`, then each list under its name, some rows at a time, so that none is held."""
    _write(as_json(head)[:-1])
    for name, rows in lists.items():
        _write(f', "{name}": [')
        texts, before = map(as_json_row, rows), "\n "
        while some := list(islice(texts, ROWS_AT_ONCE)):
            _write(before + ",\n ".join(some))
            before = ",\n "
        _write("]")
    _write("}\n")


def show_object(value: Mapping[str, Any]) -> None:
    """Write one JSON object to stdout, on one line."""
    _write(as_json(value) + "\n")


def show_lines(lines: Iterable[str]) -> None:
    """Write lines to stdout; nothing in them is taken for markup."""
    for line in lines:
        _write(escaped(line) + "\n")


def show_tick(report: TickReport, *, log_lines_lost: int) -> None:
    """Write what a tick came to; on a terminal its state has a colour, and how long it all took stands there, too."""
    if not is_terminal():
        show_lines(tick_lines(report, log_lines_lost=log_lines_lost))
        return
    from autorelease.render import terminal

    head, *others = tick_lines(report, log_lines_lost=log_lines_lost)
    _write(terminal.coloured(head, status(report)))
    show_lines([*others, *_durations(report)])


def _durations(report: TickReport) -> Iterator[str]:
    if report.oldest_overdue_seconds:
        yield f"oldest overdue    {in_words(timedelta(seconds=report.oldest_overdue_seconds))}"
    yield f"took              {in_words(report.finished_at - report.started_at)}"


def show_facts(title: str, facts: Sequence[tuple[str, str]]) -> None:
    """Write a title, and under it what is said of each name; on a terminal, what is well or wrong in its colour."""
    width = max((len(name) for name, _ in facts), default=0)
    if not is_terminal():
        show_lines([title, *(f"  {name.ljust(width)}  {text}".rstrip() for name, text in facts)])
        return
    from autorelease.render import terminal

    _write(terminal.facts(title, facts, width))


def show_states(lines: Iterable[str]) -> None:
    """Write lines of which each begins with its state and a colon; on a terminal, that state in its colour."""
    if not is_terminal():
        show_lines(lines)
        return
    from autorelease.render import terminal

    for line in lines:
        _write(terminal.state_line(line))


def bars(counts: Mapping[str, int]) -> Iterator[str]:
    """A line for each name: its count, and a bar of that length beside those of the others."""
    most = max(counts.values(), default=0)
    width = len(str(most))
    for name, count in counts.items():
        # Drawn with a character that every terminal has; what is not nothing has one of them at least.
        yield f"{name}  {count:>{width}}  {'#' * -(-count * LONGEST_BAR // most)}"


def tick_lines(report: TickReport, *, log_lines_lost: int = 0) -> Iterator[str]:
    """A tick for people: its end, its counters, and what is wrong."""
    counts = report.outcomes
    kind = "dry run" if report.dry_run else "release" if report.is_ordered else "tick"
    yield f"{kind} {report.tick}: {status(report)} (exit {int(exit_code(report))})"
    yield f"examined          {report.rows_examined}"
    yield f"invalid           {report.rows_invalid}"
    yield f"expired           {report.rows_expired}"
    yield f"released          {counts.get(Outcome.RELEASED, 0)}"
    yield f"already released  {counts.get(Outcome.ALREADY_RELEASED, 0)}"
    yield f"pending           {counts.get(Outcome.PENDING, 0)}"
    reasons = ", ".join(f"{reason} {count}" for reason, count in report.skipped.items())
    yield f"skipped           {counts.get(Outcome.SKIPPED, 0)}" + (f"  ({reasons})" if reasons else "")
    yield f"errors            {counts.get(Outcome.FAILED, 0)}"
    yield from _details("error", [f"{error.sid}: {error.code}: {error.message}" for error in report.errors])
    yield from _details("invalid", [f"{row.sid}: {row.reason}" for row in report.invalid])
    yield from (f"down: {name}: {message}" for name, message in report.down.items())
    yield from (f"refused: {refusal.code}: {refusal.message}" for refusal in report.refused)
    if report.lost is not None:
        yield f"{LOST}: {report.lost}"
    if log_lines_lost:
        yield f"log lines that nobody took: {log_lines_lost}. The journal has every outcome: autorelease history"
    if report.stopped_by is not None:
        yield f"stopped by {report.stopped_by}: what was not reached is left for the next tick"


def _details(title: str, lines: Sequence[str]) -> Iterator[str]:
    yield from (f"{title}: {line}" for line in lines[:LINES_OF_DETAIL])
    if len(lines) > LINES_OF_DETAIL:
        yield f"{title}: … and more: see tick --json, or autorelease history"


def show_checks(rows: Sequence[Row]) -> None:
    """Write the checks of the doctor for a person."""
    from autorelease.render import terminal

    _write(terminal.checks(rows))


def let_go_of(stream: TextIO) -> None:
    """Send what is still to be written nowhere: Python flushes once more when it ends, and would complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


class _Stdout:
    """The one method of a file that csv asks for."""

    def write(self, text: str) -> int:
        """Write, or raise OutputError."""
        _write(text)
        return len(text)


def _write(text: str) -> None:
    try:
        sys.stdout.write(text)
    except BrokenPipeError as error:
        raise ReaderGoneError from error
    except OSError as error:
        raise OutputError(f"the output cannot be written: {error.strerror}") from error


@contextmanager
def progress(total: int | None, what: str) -> Iterator[Callable[[], None]]:
    """A bar on stderr where that is a terminal and there is work; yields the function that moves it on.

    total None: nobody knows how much there is.
    """
    if total == 0 or not sys.stderr.isatty():
        yield lambda: None
        return
    from autorelease.render import terminal

    with terminal.progress(total, what) as advance:
        yield advance
