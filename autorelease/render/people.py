"""Values as people read them: durations with a unit, times that end at the second, words of a state with their style.

Pure. Pipes and JSON never come by here: they have seconds, and full precision.
"""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from autorelease.inspect import in_words
from autorelease.text import escaped

Row = Mapping[str, Any]
FEW_MILLISECONDS = 2_000
# Of columns whose name does not end in _at, those that hold an instant.
INSTANTS = ("at", "now", "until")
FRACTION = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.\d+Z", re.ASCII)
WELL, LOOK, WRONG = "green", "yellow", "bold red"
STYLES = {
    **dict.fromkeys(("ok", "success", "release", "released", "already_released"), WELL),
    **dict.fromkeys(("warn", "partial", "stopped", "running", "skip", "skipped", "pending", "held"), LOOK),
    **dict.fromkeys(("fail", "failed", "refused", "crashed", "invalid"), WRONG),
}

SENTENCES = {
    **dict.fromkeys(("release it,", "try again to release", "would admit"), WELL),
    **dict.fromkeys(("leave it alone:", "do nothing:"), LOOK),
    **dict.fromkeys(("report it", "report the conflict", "would refuse"), WRONG),
}
HEALTHY = "healthy"


def cell(value: object) -> str:
    """A value as it is, with what is not printable in it escaped."""
    if value is None:
        return ""
    return escaped(value) if isinstance(value, str) else str(value)


def heading(name: str) -> str:
    """The name of a column without what only a program needs to know: its unit, and that it counts rows."""
    return name.removesuffix("_seconds").removesuffix("_ms").removeprefix("rows_")


def for_people(name: str, value: object) -> str:
    """The value of a column of this name."""
    if isinstance(value, int) and name.endswith("_seconds"):
        return in_words(timedelta(seconds=value))
    if isinstance(value, int) and name.endswith("_ms"):
        return in_words(timedelta(milliseconds=value)) if value >= FEW_MILLISECONDS else f"{value} ms"
    if isinstance(value, str) and (name.endswith("_at") or name in INSTANTS):
        found = FRACTION.fullmatch(value)
        return f"{found[1]}Z" if found else cell(value)
    return cell(value)


def is_nothing(value: object) -> bool:
    """Whether a column that has nothing but this in it tells a reader nothing."""
    return value is None or value == "" or value is False


def style_of(sentence: str) -> str:
    """How a sentence is drawn that begins with what would be done."""
    return next((drawn for beginning, drawn in SENTENCES.items() if sentence.startswith(beginning)), "")


def style(state: object) -> str:
    """How the word of a state is drawn; nothing is said by the colour alone."""
    return STYLES.get(str(state), "")
