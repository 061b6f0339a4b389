"""Completions for bash, zsh and fish, as text.

They are plain lists: nothing of the program runs while somebody types. Each knows which words are the value of an
option, so that the command is found behind `--config FILE` too.
"""

import re
from collections.abc import Iterator

from scripts.command_line import PROGRAM, Command, Completes, Parameter

MADE = "Made from the command line by `make docs`: do not edit."


def _with_value(command: Command) -> list[Parameter]:
    return [option for option in command.options if option.takes_value]


def _names(options: tuple[Parameter, ...] | list[Parameter]) -> list[str]:
    return [name for option in options for name in option.names]


def _offered(command: Command) -> Parameter | None:
    """The argument that a shell can offer something for."""
    arguments = (argument for argument in command.arguments if argument.completes is not Completes.NOTHING)
    return next(arguments, None)


def _quoted(text: str) -> str:
    """One word in single quotes, for bash and zsh."""
    return "'" + text.replace("'", "'\\''") + "'"


# --- bash -------------------------------------------------------------------------------------------------------------

BASH = """\
# bash completion for @PROGRAM@. @MADE@

_@PROGRAM@() {
    local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} command= kind= words= place
    # What is typed as --name=value arrives as three words.
    if [[ $word == = ]]; then
        word=
    elif [[ $previous == = ]]; then
        previous=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    for ((place = 1; place < COMP_CWORD; place++)); do
        case ${COMP_WORDS[place]} in
            @BEFORE@)
                ((place++))
                [[ ${COMP_WORDS[place]} == = ]] && ((place++))
                ;;
            -*) ;;
            *)
                command=${COMP_WORDS[place]}
                break
                ;;
        esac
    done
    case $command,$previous in
@VALUES@
    esac
    if [[ -z $kind ]]; then
        kind=words
        case $command in
@NAMES@
        esac
    fi
    case $kind in
        files | folders) compopt -o filenames 2>/dev/null ;;
    esac
    mapfile -t COMPREPLY < <(
        case $kind in
            files) compgen -f -- "$word" ;;
            folders) compgen -d -- "$word" ;;
            words) compgen -W "$words" -- "$word" ;;
        esac
    )
}

complete -F _@PROGRAM@ @PROGRAM@
"""


def bash(program: Command, commands: tuple[Command, ...]) -> str:
    """The completion for bash."""
    return _filled(
        BASH,
        BEFORE=" | ".join(_names(_with_value(program))),
        VALUES="\n".join(line for command in (program, *commands) for line in _bash_values(command)),
        NAMES="\n".join(_bash_names(command, commands) for command in (program, *commands)),
    )


def _bash_values(command: Command) -> Iterator[str]:
    for option in _with_value(command):
        patterns = " | ".join(f"{command.name},{name}" for name in option.names)
        yield f"        {patterns}) {_bash_offer(option)} ;;"


def _bash_offer(parameter: Parameter) -> str:
    kind = parameter.completes.value or "nothing"
    return f"kind={kind} words={_quoted(' '.join(parameter.words))}" if parameter.words else f"kind={kind}"


def _bash_names(command: Command, commands: tuple[Command, ...]) -> str:
    """Options where a dash is typed, and also where a command has no argument that can be offered."""
    line = f"            {command.name or _quoted('')}) words={_quoted(' '.join(_names(command.options)))}"
    offered = _offered(command)
    if not command.name:
        line += f"; [[ $word == -* ]] || words={_quoted(' '.join(each.name for each in commands))}"
    elif offered is not None:
        line += f"; [[ $word == -* ]] || {_bash_offer(offered)}"
    return f"{line} ;;"


def _filled(template: str, **texts: str) -> str:
    """A template with its @WORDS@ replaced; braces and dollars are the shells' own."""
    known = {"PROGRAM": PROGRAM, "MADE": MADE, **texts}
    return re.sub("@([A-Z]+)@", lambda match: known[match[1]], template)


# --- zsh --------------------------------------------------------------------------------------------------------------

ZSH = """\
#compdef @PROGRAM@
# zsh completion for @PROGRAM@. @MADE@

_@PROGRAM@() {
    local curcontext=$curcontext state
    local -a line commands
    typeset -A opt_args
    commands=(
@COMMANDS@
    )
    _arguments -C \\
@OPTIONS@
        '1:command:->command' \\
        '*::argument:->argument' && return
    case $state in
        command) _describe -t commands command commands ;;
        argument)
            curcontext=${curcontext%:*}-$line[1]:
            case $line[1] in
@ARGUMENTS@
            esac
            ;;
    esac
}

_@PROGRAM@ "$@"
"""


def zsh(program: Command, commands: tuple[Command, ...]) -> str:
    """The completion for zsh, to be autoloaded as `_autorelease`."""
    described = (f"        {_quoted(f'{each.name}:{_without_stop(each.summary)}')}" for each in commands)
    return _filled(
        ZSH,
        COMMANDS="\n".join(described),
        OPTIONS="\n".join(f"        {spec} \\" for option in program.options for spec in _zsh_option(option)),
        ARGUMENTS="\n".join(_zsh_command(command) for command in commands),
    )


def _zsh_command(command: Command) -> str:
    specs = [spec for option in command.options for spec in _zsh_option(option)]
    specs += [_quoted(f"*:{argument.value}:{_zsh_action(argument)}") for argument in command.arguments]
    lines = " \\\n".join(f"                        {spec}" for spec in specs)
    return f"                {command.name})\n                    _arguments \\\n{lines}\n                    ;;"


def _zsh_option(option: Parameter) -> Iterator[str]:
    others = f"({' '.join(option.names)})" if len(option.names) > 1 else ""
    text = re.sub(r"([\[\]:\\])", r"\\\1", option.help)
    for name in option.names:
        value = f":{option.value if option.completes is not Completes.WORDS else 'value'}:{_zsh_action(option)}"
        equals = "=" if option.takes_value and name.startswith("--") else ""
        yield _quoted(f"{others}{name}{equals}[{text}]{value if option.takes_value else ''}")


def _zsh_action(parameter: Parameter) -> str:
    match parameter.completes:
        case Completes.WORDS:
            return f"({' '.join(parameter.words)})"
        case Completes.FILES:
            return "_files"
        case Completes.FOLDERS:
            return "_files -/"
        case Completes.NOTHING:
            return ""


def _without_stop(text: str) -> str:
    return text.removesuffix(".")


# --- fish -------------------------------------------------------------------------------------------------------------

FISH = """\
# fish completion for @PROGRAM@. @MADE@

function __@PROGRAM@_command --description 'The command on the line, if one is there'
    set -l words (commandline -opc)
    set -e words[1]
    while set -q words[1]
        switch $words[1]
            case @BEFORE@
                set -e words[1]
            case '-*'
            case '*'
                echo $words[1]
                return
        end
        set -e words[1]
    end
    echo none
end

complete -c @PROGRAM@ -f
@LINES@
"""


def fish(program: Command, commands: tuple[Command, ...]) -> str:
    """The completion for fish."""
    lines = [line for command in (program, *commands) for line in _fish_command(command)]
    names = [
        f"complete -c {PROGRAM} -n {_fish_where('none')} -a {each.name} -d {_fish_quoted(_without_stop(each.summary))}"
        for each in commands
    ]
    return _filled(FISH, BEFORE=" ".join(_names(_with_value(program))), LINES="\n".join([*names, *lines]))


def _fish_command(command: Command) -> Iterator[str]:
    head = f"complete -c {PROGRAM} -n {_fish_where(command.name or 'none')}"
    for option in command.options:
        names = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names)
        yield " ".join([head, names, *_fish_value(option), "-d", _fish_quoted(option.help)])
    offered = _offered(command)
    if offered is not None:
        yield " ".join([head, *_fish_offer(offered)])


def _fish_where(name: str) -> str:
    return f"'test (__{PROGRAM}_command) = {name}'"


def _fish_value(option: Parameter) -> list[str]:
    if not option.takes_value:
        return []
    # -x: a value follows, and it is no file.
    return ["-r" if option.completes is Completes.FILES else "-x", *_fish_offer(option)]


def _fish_offer(parameter: Parameter) -> list[str]:
    match parameter.completes:
        case Completes.WORDS:
            return ["-a", _fish_quoted(" ".join(parameter.words))]
        case Completes.FILES:
            return ["-F"]
        case Completes.FOLDERS:
            return ["-a", "'(__fish_complete_directories)'"]
        case Completes.NOTHING:
            return []


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
