"""Arbitrary command lines: understood, or exit 2 with a word about it; never a bug, and nothing raw comes out."""

import random
from collections import Counter
from collections.abc import Callable

import pytest

from tests.e2e.test_garbage import LOG_LINE, RAW
from tests.fuzz.cases import ORDINARY_LINES, are_plenty, lines, numbers, told
from tests.fuzz.values import NULL, any_text, statement, text
from tests.support.here import run_here
from tests.support.place import DAY, NOW, Place

# Thousands of cases of lines that others measure: they would take twice as long.
pytestmark = pytest.mark.no_cover

PARTS = 2
# Of what the process can end with, all but that it is a bug, was stopped, or cannot use its configuration.
ENDS = (0, 2, 3, 5, 6, 7, 8, 9)

TIMES = (
    *(
        "2026-12-01T00:00:00Z",
        "2026-12-01 00:00+02:00",
        "2200-12-31T23:59:59Z",
        "2000-01-01T00:00:00Z",
        "1999-12-31T00:00:00Z",
    ),
    *(
        "+72h",
        "+0s",
        "+36500d",
        "+36501d",
        "+999999999999999999d",
        "+",
        "-1h",
        "+1w",
        "+1 h",
        "+-1h",
        "++1h",
        "now",
        "tomorrow",
        "",
    ),
    *("2026-12-01", "2026-12-01T00:00:00", "0000-00-00T00:00:00Z", "9999-12-31T23:59:59Z", "2026-02-30T00:00:00Z"),
    *(
        "2026-12-01T24:00:00Z",
        "2026-12-01T00:00:60Z",
        "2026-12-01T00:00:00+24:00",
        "2026-12-01T00:00:00.9999999999Z",
        "20261201T000000Z",
    ),
    *(
        "1796126400",
        "1e400",
        "nan",
        "\uff12\uff10\uff12\uff16-12-01T00:00:00Z",
        "2026-12-01T00:00:00Z\n",
        " 2026-12-01T00:00:00Z",
        "2026-12-01T00:00:00\u221201:00",
    ),
)
DURATIONS = (
    "72h",
    "0s",
    "1ms",
    "36500d",
    "36501d",
    "366d",
    "367d",
    "-1h",
    "",
    "h",
    "1",
    "1w",
    "1.5h",
    "999999999999999d",
    "\u0661h",
    "1h\n",
    "1 h",
)
KNOWN_SIDS = (
    "due",
    "paid",
    "odd\x1b[31m",
    "a b",
    "-dash",
    "--help",
    "ünï",
    "7",
    "a\nb",
    "'",
    "\u202e",
    "%s",
    "x" * 5000,
    "[b]x[/b]",
)
STRAY = (
    "",
    "-",
    "--",
    "-h",
    "--version",
    "-x",
    "--nothing",
    "--format",
    "=",
    "\x1b[31m",
    "\udcff",
    "\ud800x",
    "a\x1bb",
    "x" * 10_000,
    "--json=1",
)
FORMS = (*("table", "plain", "json") * 4, "plain", "json", "csv", "yaml", "", "JSON", "\x1b")
NUMBERS = (
    "0",
    "1",
    "2",
    "-1",
    "99999999999999999999999",
    "9" * 5000,
    "1.5",
    "x",
    "",
    "\u0661",
    "1_0",
    " 1",
    "+1",
    "0x1",
)


def any_sid(chance: random.Random) -> str:
    """A sid that is there, or one of any characters, or of bytes that are no text (as Python hands them on)."""
    if chance.random() < 0.5:
        return chance.choice(KNOWN_SIDS)
    drawn = any_text(chance).value
    assert isinstance(drawn, bytes)
    # No argument holds a NUL.
    return drawn.replace(b"\0", b"0").decode("utf-8", "surrogateescape")


def _sids(chance: random.Random) -> list[str]:
    return [any_sid(chance) for _ in range(chance.choice([0, 1, 1, 1, 1, 2]))]


def _options(chance: random.Random, **values: Callable[[], str] | None) -> list[str]:
    """Some of these options, mostly once each; None: a flag."""
    found = []
    for name, draw in values.items():
        option = f"--{name.replace('_', '-')}"
        for _ in range(chance.choice([0, 0, 1, 1, 1, 2])):
            if draw is None:
                found.append(option)
            else:
                found += chance.choice([*[[option, draw()]] * 6, *[[f"{option}={draw()}"]] * 6, [option]])
    return found


def any_line(chance: random.Random) -> list[str]:
    """A command with arguments of its own sorts, and sometimes with others."""
    pick = chance.choice
    sids, reason = _sids(chance), lambda: pick(["because", any_sid(chance), " "])
    form = lambda: pick(FORMS)  # noqa: E731 - handed on
    time, length = (
        lambda: pick(chance.choice([TIMES, TIMES[:4]])),
        lambda: pick(chance.choice([DURATIONS, DURATIONS[:4]])),
    )
    commands: dict[str, list[str]] = {
        "tick": [
            *pick([["--once"], ["--once"], []]),
            *_options(chance, dry_run=None, at=time, json=None, confirm=lambda: pick(NUMBERS)),
        ],
        "list-expired": _options(chance, at=time, all=None, format=form),
        "upcoming": _options(chance, within=length, format=form),
        "release": [
            *_options(chance, reason=reason, yes=None, json=None),
            *(_options(chance, confirm=lambda: pick(NUMBERS)) if chance.random() < 0.2 else []),
            *_end(chance),
            *sids,
        ],
        "hold": [*_options(chance, until=time, reason=reason), *_of_many(chance, sids), *_end(chance), *sids],
        "unhold": [*_of_many(chance, sids), *_end(chance), *sids],
        "holds": _options(chance, format=form),
        "retry": [
            *_options(chance, all=None, provisioner=lambda: pick(["default", any_sid(chance)])),
            *_end(chance),
            *sids,
        ],
        "explain": [*_end(chance), *sids[:1]],
        "history": _options(chance, sid=lambda: any_sid(chance), tick=lambda: any_sid(chance), format=form),
        "health": _options(chance, max_age=length, max_overdue=length, format=form),
    }
    command = pick(list(commands))
    arguments = commands[command]
    if chance.random() < 0.15:
        arguments.insert(chance.randrange(len(arguments) + 1), pick(STRAY))
    before = _options(
        chance, log_level=lambda: pick(["debug", "info", "x", ""]), log_format=lambda: pick(["text", "x"])
    )
    return [*(before if chance.random() < 0.1 else []), command, *arguments]


def _of_many(chance: random.Random, sids: list[str]) -> list[str]:
    # With SIDs beside it, it is refused.
    if sids and chance.random() < 0.9:
        return []
    return _options(chance, all=None, provisioner=lambda: chance.choice(["default", any_sid(chance)]))


def _end(chance: random.Random) -> list[str]:
    return chance.choice([["--"], ["--"], []])


@pytest.fixture
def filled(place: Place) -> Place:
    """A ledger with what is asked for in it; nothing of it was ever released."""
    place.make_ledger()
    insert, bound = statement(
        [
            (
                text(sid),
                text("alma"),
                NULL,
                NULL,
                NULL,
                NULL,
                text("Active"),
                text(str(NOW + DAY * (-1) ** number)),
                NULL,
            )
            for number, sid in enumerate(KNOWN_SIDS)
        ]
    )
    for values in bound:
        place.execute(insert, *values)
    place.execute("UPDATE vm_allocations SET expires_at = CAST(expires_at AS INTEGER) WHERE sid <> 'paid'")
    # Whose hold can be ended.
    for sid in KNOWN_SIDS:
        assert run_here(place, "hold", "--reason", "seen to", "--", sid).code == 0
    return place


def test_there_are_enough_command_lines() -> None:
    assert ORDINARY_LINES >= 500
    assert lines() >= 500 or not are_plenty()


@pytest.mark.parametrize("part", range(PARTS))
def test_a_command_line_is_understood_or_refused(part: int, filled: Place) -> None:
    ended: Counter[tuple[str, int]] = Counter()
    for case in numbers("lines", lines(), part, PARTS):
        arguments = any_line(case.random())
        with told(case):
            before = filled.released()
            ran = run_here(filled, *arguments)
            assert ran.code in ENDS, (arguments, ran.err)
            assert "Traceback" not in ran.err, arguments
            assert not RAW.search(ran.out + ran.err), arguments
            for line in ran.err.split("\n")[:-1]:
                assert LOG_LINE.match(line), (arguments, line[:200])
            if ran.code == 2:
                assert ran.err, arguments
                assert filled.released() == before, arguments
            ended[next(word for word in arguments if word in COMMANDS), ran.code] += 1
    if are_plenty():
        assert ended.total() == len(range(part, lines(), PARTS))
        assert {command for command, code in ended if code == 2} == COMMANDS
        assert {command for command, code in ended if code != 2} == COMMANDS


COMMANDS = {
    *("tick", "list-expired", "upcoming", "release", "hold", "unhold", "holds", "retry"),
    *("explain", "history", "health"),
}
