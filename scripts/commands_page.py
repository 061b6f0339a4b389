"""The page of all commands, docs/commands.md: the help of each one as it is, under a heading of its own.

Owns the little that the program cannot say of itself. Knows no command by its name.
"""

HEAD = """\
<!-- Made from the command line by `make docs`: do not edit. -->

# Commands

This is what `--help` shows. What the commands are for is in [operating.md](operating.md), what their exit codes mean in
[exit-codes.md](exit-codes.md).

A TIME is RFC 3339 with an offset or `Z`, or a duration from now (`+72h`). A duration is an integer and `ms`, `s`,
`m`, `h` or `d`.
"""


def commands_page(helps: tuple[tuple[str, str], ...]) -> str:
    """The whole page. helps: (command line, what it prints)."""
    return "\n".join([HEAD, *(_command(line, printed) for line, printed in helps)])


def _command(line: str, printed: str) -> str:
    heading = line.removesuffix(" --help")
    return f"## {heading}\n\n```console\n$ {line}\n{printed}\n```\n"
