"""The man page, the completions and the example configuration are those of the program, and work in their readers.

groff, bash, zsh and fish themselves judge them.
"""

import os
import re
import subprocess
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import autorelease
from autorelease.provisioners.command import VARIABLES
from autorelease.settings import File
from autorelease.structs import read_struct
from scripts.command_line import Command, Completes, Parameter, read_command_line
from scripts.completions import bash, fish, zsh
from scripts.make_docs import made
from scripts.man_page import man_page
from tests.docs.documents import COMMANDS_PAGE, ROOT, fences
from tests.support.tools import tool

PROGRAM, COMMANDS = read_command_line()
MADE = made()
HOSTILE = ".TH \\fBx\\fR 'single' \"double\" [square]: $(touch owned) `touch owned` back\\slash; 100 %"


@pytest.mark.parametrize("name", MADE)
def test_what_is_committed_is_what_the_program_says_of_itself(name: str) -> None:
    committed = (ROOT / name).read_text("utf-8")
    assert committed == MADE[name], f"{name} is out of date: make docs"


def shown_options() -> list[tuple[str, str]]:
    """(command, option) as the program's own help has them, which docs/commands.md shows."""
    found = []
    for fence in fences(COMMANDS_PAGE.read_text("utf-8"), "console"):
        command = re.match(r"\$ autorelease ?([a-z-]*) --help", fence.body)
        assert command
        found += [
            (command[1], option) for option in re.findall(r"^  (?:-[a-z], )?(--[a-z-]+)", fence.body, re.MULTILINE)
        ]
    return found


def test_nothing_that_the_help_shows_is_left_out() -> None:
    read = {
        (command.name, name) for command in (PROGRAM, *COMMANDS) for option in command.options for name in option.names
    }
    shown = set(shown_options())
    assert {name for name, _ in shown} == {"", *(command.name for command in COMMANDS)}
    assert {pair for pair in read if pair[1].startswith("--")} == shown


def test_what_may_be_a_value_is_known() -> None:
    options = {
        (command.name, option.names[0]): option for command in (PROGRAM, *COMMANDS) for option in command.options
    }
    assert options["", "--config"].completes is Completes.FILES
    assert options["", "--log-level"].words == ("debug", "info", "warning", "error")
    assert options["tick", "--at"].completes is Completes.NOTHING
    assert options["list-expired", "--format"].words == ("table", "plain", "json", "csv")
    assert not options["tick", "--once"].takes_value


# --- the man page -----------------------------------------------------------------------------------------------------


def rendered(page: str) -> str:
    """As `man` would show it; groff's warnings are errors."""
    command = [tool("groff", "groff-base"), "-man", "-ww", "-Tutf8", "-P-cbou", "-rLL=100n"]
    ended = subprocess.run(command, input=page, capture_output=True, text=True, check=True, timeout=60)
    assert ended.stderr == ""
    return ended.stdout


def test_the_man_page_has_its_parts_in_order() -> None:
    page = rendered(MADE["deploy/man/autorelease.1"])
    parts = re.findall(r"^([A-Z][A-Z ]+)$", page, re.MULTILINE)
    assert parts == [
        "NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "COMMANDS", "EXIT STATUS", "ENVIRONMENT", "FILES", "SEE ALSO",
    ]  # fmt: skip
    assert re.search(r"^ +autorelease - release virtual machines", page, re.MULTILINE), "whatis and apropos need it"
    for command in COMMANDS:
        assert command.summary in " ".join(page.split())
        assert command.paragraphs[-1].removeprefix("Example: ") in page


def test_the_man_page_names_every_variable_that_is_read() -> None:
    source = "".join(path.read_text("utf-8") for path in Path(autorelease.__file__).parent.rglob("*.py"))
    given = {f"AUTORELEASE_{name.upper()}" for name in VARIABLES}
    told = set(re.findall(r"^\.B \"(AUTORELEASE_[A-Z_]+)\"$", MADE["deploy/man/autorelease.1"], re.MULTILINE))
    assert told == set(re.findall(r"\"(AUTORELEASE_[A-Z_]+)\"", source)) - given


def hostile_command() -> Command:
    option = Parameter(("--evil",), "--evil TEXT", "TEXT", HOSTILE, Completes.WORDS, ("plain", "words"))
    return Command("tick", "[OPTIONS]", (HOSTILE,), (option,), ())


def test_text_is_literal_in_the_man_page() -> None:
    page = rendered(man_page(PROGRAM, (hostile_command(),), [("0", f"`x` {HOSTILE.replace('`', '')}")], "0"))
    words = " ".join(page.split())
    assert words.count(HOSTILE) == 2, "in the paragraph, and in the option"
    assert f"x {HOSTILE.replace('`', '')}" in words


# --- completions ------------------------------------------------------------------------------------------------------

Offers = dict[str, set[str]]


def in_bash(folder: Path, text: str, lines: tuple[str, ...]) -> Offers:
    """What bash offers at the end of each line."""
    script = 'source "$1"; shift; for line; do echo "= $line"; read -ra COMP_WORDS <<<"${line//=/ = }"\n'
    script += '[[ $line == *" " ]] && COMP_WORDS+=(""); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=()\n'
    script += 'function="$(complete -p autorelease)"; function=${function#*-F }; "${function% *}"\n'
    script += 'printf "%s\\n" "${COMPREPLY[@]}"; done'
    (folder / "completion").write_text(text, encoding="utf-8")
    return offered([tool("bash", "bash"), "--norc", "-c", script, "bash", "completion", *lines], folder)


def in_fish(folder: Path, text: str, lines: tuple[str, ...]) -> Offers:
    """What fish offers at the end of each line."""
    script = (
        "source completion; for line in $argv; echo \"= $line\"; complete -C $line | string replace -r '\\t.*' ''; end"
    )
    (folder / "completion").write_text(text, encoding="utf-8")
    return offered([tool("fish", "fish"), "--no-config", "-c", script, *lines], folder)


# The editor says when it begins to read a line: what is typed before that is no completion.
ZSH = """
zmodload zsh/zpty
zpty child zsh -f -i
zpty -w child "PS1= PS2= PROMPT_EOL_MARK=; stty columns 200; unset zle_bracketed_paste; LISTMAX=0; setopt nolistbeep
fpath=($PWD \\$fpath); autoload -Uz compinit; compinit -u -D; zstyle ':completion:*' verbose no
bindkey '^I' list-choices; zle-line-init() { print -r -- EDITS-\\$((1+1)) }; zle -N zle-line-init"
zpty -r child out '*EDITS-2*'
for line; do
    zpty -w -n child "$line"$'\\t\\C-a\\C-k\\n'
    zpty -r child out '*EDITS-2*'
    print -r -- "= $line"
    print -r -- $out | tr '\\r ' '\\n\\n'
done
zpty -d child
"""


def in_zsh(folder: Path, text: str, lines: tuple[str, ...]) -> Offers:
    """What zsh lists at the end of each line, at a terminal."""
    (folder / "_autorelease").write_text(text, encoding="utf-8")
    (folder / "driver").write_text(ZSH, encoding="utf-8")
    found = offered([tool("zsh", "zsh"), "-f", "driver", *lines], folder)
    # The line itself is drawn, too.
    return {line: words - {"EDITS-2", "\a"} - set(line.split()) for line, words in found.items()}


def offered(command: list[str], folder: Path) -> Offers:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8", "TERM": "dumb"}
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert ended.stderr == ""
    found: Offers = {}
    line = ""
    for answer in ended.stdout.splitlines():
        if answer.startswith("= "):
            line = answer.removeprefix("= ")
            found[line] = set()
        elif answer:
            found[line].add(answer)
    return found


Shell = Callable[[Path, str, tuple[str, ...]], Offers]
SHELLS = [
    pytest.param(in_bash, bash, id="bash"),
    pytest.param(in_zsh, zsh, id="zsh"),
    pytest.param(in_fish, fish, id="fish"),
]
Maker = Callable[[Command, tuple[Command, ...]], str]


@pytest.mark.parametrize(("ask", "make"), SHELLS)
def test_the_shell_offers_what_there_is(ask: Shell, make: Maker, tmp_path: Path) -> None:
    (tmp_path / "some-folder").mkdir()
    (tmp_path / "some-file").touch()
    names = {command.name for command in COMMANDS}
    folders, files = {"some-folder/"}, {"some-folder/", "some-file"}
    if ask is in_bash:
        # Readline adds the slash.
        folders, files = {"some-folder"}, {"some-folder", "some-file"}
    expected: dict[str, set[str]] = {
        "autorelease ": names,
        "autorelease --log-level ": {"debug", "info", "warning", "error"},
        "autorelease --config some-": files,
        "autorelease --config some-file ": names,
        "autorelease --config=some-file ": names,
        "autorelease --config tick list-expired --format ": {"table", "plain", "json", "csv"},
        "autorelease history --format ": {"table", "plain", "json"},
        "autorelease tick --at ": set(),
        "autorelease init some-": folders,
    }
    for command in COMMANDS:
        long = {name for option in command.options for name in option.names if name.startswith("--")}
        expected[f"autorelease {command.name} --"] = long
    assert ask(tmp_path, make(PROGRAM, COMMANDS), tuple(expected)) == expected


@pytest.mark.parametrize(("ask", "make"), SHELLS)
def test_text_is_literal_in_a_completion(ask: Shell, make: Maker, tmp_path: Path) -> None:
    program = replace(PROGRAM, options=(*PROGRAM.options, replace(PROGRAM.options[0], help=HOSTILE)))
    lines = ("autorelease ", "autorelease tick --evil ")
    offers = ask(tmp_path, make(program, (hostile_command(),)), lines)
    assert offers == {lines[0]: {"tick"}, lines[1]: {"plain", "words"}}
    assert not (tmp_path / "owned").exists()


# --- the example configuration ----------------------------------------------------------------------------------------


def test_the_example_configuration_is_one_that_releases_nothing_as_it_is() -> None:
    """It names a ledger and a program that a new host does not have."""
    example = tomllib.loads(MADE["deploy/config.toml"])
    read_struct(example, File)
    assert example["ledger"]["url"] == "sqlite:////var/lib/autorelease/allocations.db"
    assert example["provisioners"]["default"]["kind"] == "command"
