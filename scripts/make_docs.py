"""Write what is made from the program and from README: the man page, the completions, the example configuration.

`make docs` runs it; a test holds the files in deploy/ to it.
"""

import re
import sys
from pathlib import Path

from autorelease import __version__
from scripts.command_line import read_command_line
from scripts.completions import bash, fish, zsh
from scripts.man_page import man_page

ROOT = Path(__file__).parents[1]
CONFIGURATION_HEAD = """\
# An example: copy it to /etc/autorelease/config.toml, owner root, group autorelease, mode 0640, and change it there.
# Every key is shown, with its default where it has one. Paths are relative to the file; secrets do not belong in it.

"""


def made() -> dict[str, str]:
    """Every file that is made, by its path from the root, with its text."""
    program, commands = read_command_line()
    readme = (ROOT / "README.md").read_text("utf-8")
    return {
        "deploy/man/autorelease.1": man_page(program, commands, _exit_codes(readme), __version__),
        "deploy/completions/autorelease.bash": bash(program, commands),
        "deploy/completions/autorelease.fish": fish(program, commands),
        "deploy/completions/_autorelease": zsh(program, commands),
        "deploy/config.toml": CONFIGURATION_HEAD + _configuration(readme),
    }


def _section(readme: str, heading: str) -> str:
    return readme.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def _exit_codes(readme: str) -> list[tuple[str, str]]:
    return re.findall(r"^\| ([0-9]+) \| (.*) \|$", _section(readme, "Exit codes"), re.MULTILINE)


def _configuration(readme: str) -> str:
    return _section(readme, "Configuration").partition("```toml\n")[2].partition("```")[0]


def main() -> None:
    """Write them, where they belong or below the folder that is named."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT
    for name, text in made().items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
        sys.stdout.write(f"wrote {name}\n")


if __name__ == "__main__":
    main()
