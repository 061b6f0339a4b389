"""Write what is made from the program and its pages: man page, completions, docs/commands.md, example configuration.

`make docs` runs it; a test holds the files to it.
"""

import re
import sys
from pathlib import Path

from autorelease import __version__
from scripts.command_line import read_command_line, read_help
from scripts.commands_page import commands_page
from scripts.completions import bash, fish, zsh
from scripts.man_page import man_page

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
CONFIGURATION_HEAD = """\
# An example: copy it to /etc/autorelease/config.toml, owner root, group autorelease, mode 0640, and change it there.
# Every key is shown, with its default where it has one. Paths are relative to the file; secrets do not belong in it.

"""


def made() -> dict[str, str]:
    """Every file that is made, by its path from the root, with its text."""
    program, commands = read_command_line()
    return {
        "docs/commands.md": commands_page(read_help()),
        "deploy/man/autorelease.1": man_page(program, commands, _exit_codes(), __version__),
        "deploy/completions/autorelease.bash": bash(program, commands),
        "deploy/completions/autorelease.fish": fish(program, commands),
        "deploy/completions/_autorelease": zsh(program, commands),
        "deploy/config.toml": CONFIGURATION_HEAD + _configuration(),
    }


def _exit_codes() -> list[tuple[str, str]]:
    page = (DOCS / "exit-codes.md").read_text("utf-8")
    return re.findall(r"^\| ([0-9]+) \| (.*) \|$", page, re.MULTILINE)


def _configuration() -> str:
    page = (DOCS / "configuration.md").read_text("utf-8")
    return page.partition("```toml\n")[2].partition("```")[0]


def main() -> None:
    """Write them, where they belong or below the folder that is named."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT
    for name, text in made().items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
        sys.stdout.write(f"wrote {name}\n")


if __name__ == "__main__":
    main()
