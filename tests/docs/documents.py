"""The documents as data: their fenced blocks, their tables, and the commands that they tell a reader to type."""

import re
import sqlite3
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
RUNBOOK = ROOT / "runbook.md"
COMMANDS_PAGE = ROOT / "docs" / "commands.md"
CONFIGURATION = ROOT / "docs" / "configuration.md"
EXIT_CODES = ROOT / "docs" / "exit-codes.md"
GUARD = ROOT / "docs" / "guard.md"
LEDGERS = ROOT / "docs" / "ledgers.md"
OPERATING = ROOT / "docs" / "operating.md"
PROVISIONERS = ROOT / "docs" / "provisioners.md"
SCALE = ROOT / "docs" / "scale.md"
WRITING_PROVISIONERS = ROOT / "docs" / "writing-provisioners.md"
DOCUMENTS = (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")))
FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
OURS = re.compile(r"(?:runuser -u autorelease -- )?autorelease ")
COMMENT = re.compile(r"(^|\s+)# .*")
WIDTH = "80"


@dataclass(frozen=True, slots=True)
class Fence:
    """One fenced block. info: what stands behind the backticks."""

    info: str
    body: str


def fences(text: str, info: str | None = None) -> list[Fence]:
    """The fenced blocks in their order; info: of this kind alone."""
    found = [Fence(match["info"], textwrap.dedent(match["body"])) for match in FENCE.finditer(text)]
    return [fence for fence in found if info is None or fence.info == info]


def section(path: Path, heading: str) -> str:
    """What stands under a heading, up to the next one of its rank. A # in a fenced block is no heading."""
    rank, is_fenced, wanted = 0, False, []
    for line in path.read_text("utf-8").splitlines():
        is_fenced ^= line.lstrip().startswith("```")
        match = None if is_fenced else re.match(r"(#+) (.*)", line)
        if rank and match and len(match[1]) <= rank:
            break
        if rank:
            wanted.append(line)
        elif match and match[2] == heading:
            rank = len(match[1])
    assert rank, f"{path.name} has no heading {heading!r}"
    return "\n".join([*wanted, ""])


def typed(text: str) -> list[str]:
    """Every line that the shell blocks of a text tell a reader to type, whole, with its pipes, each once."""
    shown = [line for fence in fences(text, "sh") for line in fence.body.splitlines()]
    lines = [COMMENT.sub("", line).strip() for line in shown]
    return list(dict.fromkeys(line for line in lines if line))


def is_ours(line: str) -> bool:
    """Whether a line begins with our command."""
    return OURS.match(line) is not None


def table(text: str) -> list[list[str]]:
    """The rows of the first table of a text, without its head."""
    rows = re.findall(r"^\|(.*)\|$", text, re.MULTILINE)
    return [[cell.strip() for cell in row.split("|")] for row in rows[2:]]


def run_sql(database: Path, statements: str) -> None:
    """Do as a reader would in the sqlite3 shell."""
    connection = sqlite3.connect(database)
    connection.executescript(statements)
    connection.close()
