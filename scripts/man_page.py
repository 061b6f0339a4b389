"""The man page of the command line, as text for man(7).

Owns the order of the page, and the little that the program cannot say of itself. The exit codes are
those of docs/exit-codes.md.
"""

import re
import textwrap
from collections.abc import Iterator

from scripts.command_line import PROGRAM, Command, Parameter

WIDTH = 76
HELP = "\\-\\-help"
ENVIRONMENT = (
    ("AUTORELEASE_CONFIG", "The configuration, where --config does not name one."),
    ("AUTORELEASE_LEDGER", "The ledger, where --ledger does not name one: sqlite:///PATH."),
    ("AUTORELEASE_LOG_LEVEL", "As --log-level."),
    ("AUTORELEASE_LOG_FORMAT", "As --log-format."),
    (
        "AUTORELEASE_BOOT_ID",
        "Which boot of the machine this is, for a confined service that cannot read it from /proc; its unit sets it.",
    ),
    ("NO_COLOR", "If set, no colours on a terminal."),
)
FILES = (
    ("/etc/autorelease/config.toml", "The configuration."),
    ("/var/lib/autorelease/journal.db", "The journal, unless the configuration names another. Only init makes it."),
    (
        "/usr/share/doc/autorelease",
        "README, the runbook (what to do, by exit status), docs/ (a page a subject), and a configuration to copy.",
    ),
)
SEE_ALSO = ("systemctl(1)", "journalctl(1)", "runuser(1)", "systemd.timer(5)", "crontab(5)")
HEAD = r""".\" Made from the command line by `make docs`: do not edit.
.TH AUTORELEASE 1 "" "autorelease {version}" "System administration"
.SH NAME
autorelease \- release virtual machines whose time is up
"""
DESCRIPTION = """\
A table, the ledger, says who holds which virtual machine and when it expires. Every one that has expired is made to go
away through a provisioner, and then its row is marked as released. The program runs once and ends; a timer starts it
every hour.

Nothing is released that has not expired. A row that is not certain is left alone and named in the report, and a plan
that looks wrong is refused before anything is touched."""


def man_page(program: Command, commands: tuple[Command, ...], exit_codes: list[tuple[str, str]], version: str) -> str:
    """The whole page. exit_codes: (code, its meaning in Markdown)."""
    return "\n".join(
        [
            HEAD.format(version=version).rstrip(),
            *_synopsis(program, commands),
            ".SH DESCRIPTION",
            *_paragraphs(tuple(DESCRIPTION.split("\n\n"))),
            ".SH OPTIONS",
            "These stand before the command.",
            *_parameters(program.options),
            ".SH COMMANDS",
            f"Each of them has {HELP} as well.",
            *(line for command in commands for line in _command(command, program)),
            '.SH "EXIT STATUS"',
            *_entries((code, _plain(meaning)) for code, meaning in exit_codes),
            ".SH ENVIRONMENT",
            "An option on the command line comes first, then the environment, then the configuration.",
            *_entries(ENVIRONMENT),
            ".SH FILES",
            *_entries(FILES),
            '.SH "SEE ALSO"',
            *_references(),
            "",
        ]
    )


def _synopsis(program: Command, commands: tuple[Command, ...]) -> Iterator[str]:
    yield ".SH SYNOPSIS"
    yield f".B {PROGRAM}"
    yield _text(program.usage)
    for command in commands:
        yield ".br"
        yield f".B {PROGRAM} {_text(command.name)}"
        yield _text(command.usage)


def _command(command: Command, program: Command) -> Iterator[str]:
    yield f'.SS "{_text(f"{command.name} {command.usage}")}"'
    yield from _paragraphs(command.paragraphs)
    own = tuple(option for option in command.options if option not in program.options)
    yield from _parameters((*command.arguments, *own))


def _paragraphs(paragraphs: tuple[str, ...]) -> Iterator[str]:
    for number, paragraph in enumerate(paragraphs):
        if number:
            yield ".PP"
        label, is_example, example = paragraph.partition(f": {PROGRAM} ")
        if is_example:
            yield from (f"{_text(label)}:", ".PP", ".RS 4", ".EX", _text(f"{PROGRAM} {example}"), ".EE", ".RE")
        else:
            yield from _lines(paragraph)


def _parameters(parameters: tuple[Parameter, ...]) -> Iterator[str]:
    yield from _entries((parameter.usage, parameter.help) for parameter in parameters)


def _entries(entries: "Iterator[tuple[str, str]] | tuple[tuple[str, str], ...]") -> Iterator[str]:
    for label, text in entries:
        yield from (".TP", f'.B "{_text(label)}"', *_lines(text))


def _references() -> Iterator[str]:
    for number, reference in enumerate(SEE_ALSO, start=1):
        name, section = reference.rstrip(")").split("(")
        yield f".BR {_text(name)} ({section}){',' if number < len(SEE_ALSO) else ''}"


def _plain(markdown: str) -> str:
    """A cell of a table without its marks."""
    return re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", markdown).replace("`", "")


def _lines(text: str) -> Iterator[str]:
    """A paragraph in lines that a person can compare, as roff folds them anew."""
    for line in textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False):
        yield _text(line)


def _text(text: str) -> str:
    """One literal line for roff: its own marks escaped, and none that begins with a control character."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq").replace("'", "\\(aq")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped
