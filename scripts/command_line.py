"""The command line as data, asked of the program itself: what the man page, the completions and the page of all
commands are made from.

Owns the questions to typer. Knows no command by its name, so that a new one needs nothing here.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from typer.main import get_command

from autorelease.cli.app import app

PROGRAM = "autorelease"
# As on a terminal of 80 columns, of which click leaves two free.
HELP_WIDTH = 78


class Completes(Enum):
    """What a shell may offer for a value."""

    NOTHING = ""
    WORDS = "words"
    FILES = "files"
    FOLDERS = "folders"


@dataclass(frozen=True, slots=True)
class Parameter:
    """An option, or an argument (it has no names).

    names: `-h`, `--help`; usage: `--at TIME` as the help shows it; value: what it is called, empty for a flag;
    words: the values that there are, where they can be listed.
    """

    names: tuple[str, ...]
    usage: str
    value: str
    help: str
    completes: Completes
    words: tuple[str, ...]

    @property
    def takes_value(self) -> bool:
        """Whether a value follows the name."""
        return bool(self.names and self.value)


@dataclass(frozen=True, slots=True)
class Command:
    """One command, or the program itself, which has no name.

    usage: what follows the name; paragraphs: the whole help, its first line in front.
    """

    name: str
    usage: str
    paragraphs: tuple[str, ...]
    options: tuple[Parameter, ...]
    arguments: tuple[Parameter, ...]

    @property
    def summary(self) -> str:
        """The first sentence, as the list of commands shows it."""
        return self.paragraphs[0]


def read_command_line() -> tuple[Command, tuple[Command, ...]]:
    """The program itself with the options before the command; and the commands, in their order."""
    group: Any = get_command(app)
    context = group.make_context(PROGRAM, [], resilient_parsing=True)
    commands = [_command(name, group.get_command(context, name), context) for name in group.list_commands(context)]
    return _command("", group, context.parent), tuple(commands)


def read_help() -> tuple[tuple[str, str], ...]:
    """(command line, what it prints), of the program itself and of each command, in their order."""
    group: Any = get_command(app)
    context = group.make_context(PROGRAM, [], resilient_parsing=True, terminal_width=HELP_WIDTH)
    contexts = [context]
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        contexts.append(command.make_context(name, [], parent=context, resilient_parsing=True))
    return tuple((f"{each.command_path} --help", each.get_help()) for each in contexts)


def _command(name: str, command: Any, parent: Any) -> Command:
    context = command.make_context(name or PROGRAM, [], parent=parent, resilient_parsing=True)
    parameters = list(_parameters(command, context))
    return Command(
        name,
        " ".join(command.collect_usage_pieces(context)),
        tuple(" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", command.help.strip())),
        tuple(parameter for parameter in parameters if parameter.names),
        tuple(parameter for parameter in parameters if not parameter.names),
    )


def _parameters(command: Any, context: Any) -> Iterator[Parameter]:
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is None:
            continue
        is_option = parameter.param_type_name == "option"
        is_flag = is_option and parameter.is_flag
        words = tuple(item.value for item in parameter.shell_complete(context, "") if item.type == "plain")
        yield Parameter(
            _names(parameter) if is_option else (),
            record[0],
            "" if is_flag else _value(parameter, context),
            " ".join(record[1].split()),
            _completes(parameter, words),
            words,
        )


def _names(parameter: Any) -> tuple[str, ...]:
    """Short ones first: the order in which the program knows them is not the same in every run."""
    return tuple(sorted((*parameter.opts, *parameter.secondary_opts), key=lambda name: (len(name), name)))


def _value(parameter: Any, context: Any) -> str:
    """What the value is called: its metavar, else its type."""
    return str(parameter.metavar or parameter.make_metavar(context))


def _completes(parameter: Any, words: tuple[str, ...]) -> Completes:
    """A path is offered as what its metavar says it is: the type of a parameter that is read as text does not tell."""
    if words:
        return Completes.WORDS
    return {"FILE": Completes.FILES, "DIR": Completes.FOLDERS}.get(parameter.metavar, Completes.NOTHING)
