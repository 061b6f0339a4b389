"""README, the pages of docs/ and the runbook are held to the code: what they show happens, what they name is there."""

import inspect
import json
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec import NODEFAULT, Struct, convert
from msgspec.structs import fields

from autorelease.errors import ExitCode
from autorelease.inspect import health
from autorelease.model import Answer
from autorelease.provisioners import Pace, open_provisioners
from autorelease.provisioners.command import PLACES, VARIABLES, Options
from autorelease.rules import guard
from autorelease.rules.belief import Control, Standing, disbelief
from autorelease.settings import File, parse_duration
from autorelease.settings.sections import BaseTable
from autorelease.structs import read_struct
from tests.docs.documents import (
    COMMANDS_PAGE,
    CONFIGURATION,
    DOCUMENTS,
    EXIT_CODES,
    GUARD,
    LEDGERS,
    OPERATING,
    PROVISIONERS,
    README,
    ROOT,
    RUNBOOK,
    WIDTH,
    fences,
    is_ours,
    run_sql,
    section,
    table,
    typed,
)
from tests.support.here import run_here
from tests.support.place import COMMAND, Place, Ran, fresh_environment, program, run_in
from tests.support.thorough import is_thorough
from tests.support.tools import tool

EXISTING = (
    *("tick", "list-expired", "upcoming", "release", "hold", "unhold", "holds", "retry"),
    *("explain", "history", "health", "doctor", "init"),
)
CODES = {int(code) for code in ExitCode}
# What each command may say of a sample; that a tick finds broken rows there is the sample's purpose.
WELL = {
    "tick": {0, 3, 7},
    "list-expired": {0},
    "release": {0},
    "hold": {0},
    "unhold": {0},
    "holds": {0},
    "retry": {0},
    "history": {0},
    "upcoming": {0},
    "explain": {0},
    # A sample has neither a timer nor a rest from its first tick.
    "health": {0, 9},
    "doctor": {0, 9},
    "init": {0},
}
TICK_ID = re.compile(r"2[0-9]{7}T[0-9]{6}Z-[0-9a-f]{6}")
AS_SERVICE = "runuser -u autorelease -- "
OF_THE_SHELL = set("|&;<>()$`*?[#~=%!{}\\")
UNITS = ("autorelease.service", "autorelease.timer", "autorelease-failure@.service")


def run(folder: Path, *arguments: str) -> Ran:
    """The installed command in this folder, with lines as wide as the documents show them."""
    return run_in(folder, arguments, {"COLUMNS": WIDTH})


# --- commands ---------------------------------------------------------------------------------------------------------


def shown_help() -> list[str]:
    return [fence.body for fence in fences(COMMANDS_PAGE.read_text("utf-8"), "console")]


@pytest.mark.parametrize("command", [None, *EXISTING])
def test_the_page_shows_the_help_as_it_is(command: str | None, tmp_path: Path) -> None:
    words = [command, "--help"] if command else ["--help"]
    shown = f"$ autorelease {' '.join(words)}\n{run(tmp_path, *words).out}"
    assert shown in shown_help()


def test_the_page_shows_no_help_of_anything_else() -> None:
    assert len(shown_help()) == 1 + len(EXISTING)


def test_no_other_page_has_a_help_of_its_own_to_go_out_of_date() -> None:
    others = [path for path in DOCUMENTS if path != COMMANDS_PAGE]
    assert not [path.name for path in others if fences(path.read_text("utf-8"), "console")]


def test_the_commands_that_exist_are_those_that_the_documents_are_held_to(tmp_path: Path) -> None:
    listed = run(tmp_path, "--help").out.partition("Commands:\n")[2]
    assert tuple(sorted(re.findall(r"^  ([a-z-]+)  ", listed, re.MULTILINE))) == tuple(sorted(EXISTING))


SHIPPED = [*DOCUMENTS, *(path for path in sorted((ROOT / "deploy").rglob("*")) if path.is_file())]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_document_names_a_command_that_does_not_exist(path: Path) -> None:
    # In a man page a dash is written with a backslash.
    text = path.read_text("utf-8").replace("\\-", "-")
    told = re.findall(r"(?:`|-- |\$ |^ *)autorelease ([a-z][a-z-]*)", text, re.MULTILINE)
    assert set(told) <= set(EXISTING)


# For whoever changes it; and what an upgrade tells to type needs an old journal: tests/journal/test_upgrade.py.
NOT_TYPED = {"CHANGELOG.md", "CONTRIBUTING.md", "threat-model.md", "upgrade.md", "writing-provisioners.md"}
PAGES = [path for path in DOCUMENTS if path.name not in NOT_TYPED]
TYPED = [(path.name, line) for path in PAGES for line in typed(path.read_text("utf-8"))]
OURS = [(name, line) for name, line in TYPED if is_ours(line)]
# tests/host/ has hosts with systemd, where every line of these is typed; but for those that are typed in another way.
TYPED_ON_HOSTS = [
    RUNBOOK.read_text("utf-8"),
    section(OPERATING, "Running it every hour"),
    section(README, "Quick start"),
]
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
ELSEWHERE = ROOT / "tests" / "host" / "typed-elsewhere"


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sample that was swept once, to be copied."""
    folder = tmp_path_factory.mktemp("documents")
    assert run(folder, "init", "try", "--sample").code == 0
    assert run(folder, "--config", "try/config.toml", "tick", "--once").code == ExitCode.NOT_ALL_WELL
    return folder / "try"


def test_there_are_commands_to_be_typed() -> None:
    named = {re.search(r"autorelease (?:--config \S+ )?([a-z-]+)", line.removeprefix(AS_SERVICE)) for _, line in OURS}
    assert {match[1] for match in named if match} == set(EXISTING)


def test_every_other_command_of_the_documents_is_typed_on_a_host() -> None:
    """Ours are typed below."""
    others = {line for _, line in TYPED if not is_ours(line)}
    on_hosts = {line for text in TYPED_ON_HOSTS for line in typed(text)}
    assert others <= on_hosts
    for entry in ELSEWHERE.read_text("utf-8").splitlines():
        line, where, words = entry.split("\t")
        assert line in others
        assert words in (ROOT / where).read_text("utf-8")


def shell(folder: Path, line: str) -> "subprocess.CompletedProcess[str]":
    """Type a line, as the user that it names: here that is whoever runs the tests."""
    tools = folder / "tools"
    tools.mkdir(exist_ok=True)
    program(tools, 'shift 3\nexec "$@"', "runuser")
    environment = fresh_environment(folder)
    return subprocess.run(
        ["/bin/sh", "-c", line],
        cwd=folder,
        env=environment | {"PATH": f"{tools}:{COMMAND.parent}:{environment['PATH']}", "COLUMNS": WIDTH},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def type_in(folder: Path, line: str) -> "Ran | subprocess.CompletedProcess[str]":
    """Type a line. Where a shell would do nothing but begin the command, it is left out."""
    words = line.removeprefix(AS_SERVICE)
    if is_thorough() or not words.startswith("autorelease ") or set(words) & OF_THE_SHELL:
        return shell(folder, line)
    return run(folder, *shlex.split(words)[1:])


def in_place(line: str, config: Path, tick: str) -> str:
    """The line with what a reader would fill in, and with the configuration of a sample."""
    for word, known in {"SID": "later-001", "NAME": "default", "TEXT": "because", "N": "37", "TICK": tick}.items():
        line = re.sub(rf"(?<= ){word}(?= |$)", known, line)
    line = re.sub(r"autorelease --config \S+ ", "autorelease ", line)
    return re.sub(r"^((?:runuser -u autorelease -- )?)autorelease ", rf"\1autorelease --config '{config}' ", line)


# Several pages tell the same: it is typed once, as the last of them has it.
TO_TYPE = {in_place(line, Path("config.toml"), "TICK"): (name, line) for name, line in OURS}.values()


@pytest.mark.parametrize(("document", "line"), TO_TYPE, ids=[f"{name}: {line}" for name, line in TO_TYPE])
def test_what_the_documents_tell_to_type_works(document: str, line: str, sample: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    shutil.copytree(sample, place)
    config = place / "config.toml"
    words = re.sub(r"^(runuser -u autorelease -- )?autorelease (--config \S+ )?", "", line).split()
    [(newest,)] = Place(place).query("SELECT max(tick) FROM ticks", database=place / "journal.db")
    if words == ["init"]:
        (place / "journal.db").unlink()
    if words[0] == "unhold":
        what = {"--all": ["--all", "--until", "+1h"], "--provisioner": ["--provisioner", "default"]}
        assert run_here(Place(place), "hold", *what.get(words[1], ["later-001"]), "--reason", "x").code == 0
    ended = type_in(tmp_path, in_place(line, config, newest))
    code, err = (ended.code, ended.err) if isinstance(ended, Ran) else (ended.returncode, ended.stderr)
    piped = {0} if "|" in words else WELL[words[0]]
    assert code in piped, f"{document}: {err}"
    assert "Traceback" not in err
    assert "rror: " not in err or "error: broken" in err


def test_a_line_that_does_not_work_is_found(tmp_path: Path) -> None:
    assert shell(tmp_path, "autorelease no-such-command").returncode == ExitCode.USAGE
    assert shell(tmp_path, "runuser -u autorelease -- autorelease health --max-age soon").returncode == ExitCode.USAGE


# --- the worked example -----------------------------------------------------------------------------------------------


def shown_as(output: str, folder: Path) -> str:
    return TICK_ID.sub("TICK", output.replace(str(folder), "/home/you"))


def follow(told: str, folder: Path) -> list[int]:
    """Do all that an example tells, and see each output that it shows; returns the exit codes."""
    panel = folder / "panel"
    panel.mkdir()
    ended: list[Ran] = []
    compared = 0
    for fence in fences(told):
        if fence.info == "sql":
            run_sql(panel / "panel.db", fence.body)
        elif fence.info == "toml":
            (panel / "config.toml").write_text(fence.body, encoding="utf-8")
        elif fence.info == "sh":
            ended += [run(folder, *line.split()[1:]) for line in fence.body.splitlines()]
        else:
            assert fence.info == "text"
            assert shown_as(ended[-1].out, folder) == shown_as(fence.body, folder)
            compared += 1
    assert compared == len(ended)
    return [command.code for command in ended]


def example_of_readme() -> str:
    """Up to where the page goes on to the installed service."""
    told, _, hourly = section(README, "Your own table").partition("\n### Every hour\n")
    assert hourly
    return told


def test_the_example_of_readme_goes_as_it_is_told(tmp_path: Path) -> None:
    assert follow(example_of_readme(), tmp_path) == [0, 0, 0]
    place = Place(tmp_path / "panel")
    place.ledger = place.folder / "panel.db"
    assert place.query("SELECT id, state FROM servers ORDER BY id") == [(1, "Terminated"), (2, "running")]


def test_the_worked_example_goes_as_it_is_told(tmp_path: Path) -> None:
    told, _, _ = section(LEDGERS, "Your own table, by example").partition("\n## ")
    assert follow(told, tmp_path) == [0, 0, 3, 3, 0]
    place = Place(tmp_path / "panel")
    place.ledger = place.folder / "panel.db"
    rows = dict(place.query("SELECT id, state FROM servers"))
    assert {sid for sid, state in rows.items() if state == "Terminated"} == {1, 3, 5}
    stamped = dict(place.query("SELECT id, ended_at FROM servers WHERE id IN (1, 3)"))
    assert re.fullmatch(r"[0-9-]{10} [0-9:]{8}(\.[0-9]+)?\+02:00", stamped[1])
    assert re.fullmatch(r"[0-9-]{10}T[0-9:]{8}(\.[0-9]+)?\+02:00", stamped[3])
    again = run(tmp_path, "--config", "panel/config.toml", "tick", "--once")
    assert again.code == 0, "with the index that the reader was told to make"


def test_the_example_of_a_view_goes_as_it_is_told(tmp_path: Path) -> None:
    assert follow(section(LEDGERS, "A view over two tables"), tmp_path) == [0, 0, 0]
    place = Place(tmp_path / "panel")
    place.ledger = place.folder / "panel.db"
    assert place.query("SELECT vmid, state, destroyed_at IS NULL FROM vms ORDER BY vmid") == [
        (101, "destroyed", 0),
        (102, "stopped", 1),
        (103, "running", 1),
    ]
    again = run(tmp_path, "--config", "panel/config.toml", "tick", "--once")
    assert again.code == 0, "with the indexes that the reader was told to make"


def test_every_key_of_a_view_s_stamp_is_told() -> None:
    keys = [row[0].strip("`") for row in table(section(LEDGERS, "A view over two tables"))]
    assert keys == list(BaseTable.__struct_fields__)


def test_the_sql_of_the_runbook_fits_the_default_table(sample: Path, tmp_path: Path) -> None:
    ledger = tmp_path / "allocations.db"
    shutil.copyfile(sample / "allocations.db", ledger)
    place = Place(tmp_path)
    [resurrected, milliseconds] = fences(RUNBOOK.read_text("utf-8"), "sql")
    run_sql(ledger, resurrected.body.replace("SID", "later-000"))
    run_sql(ledger, milliseconds.body.replace("SID", "broken-milliseconds"))
    assert place.query("SELECT released_at > 0 FROM vm_allocations WHERE sid = 'later-000'") == [(1,)]
    assert place.query("SELECT expires_at < 1e11 FROM vm_allocations WHERE sid = 'broken-milliseconds'") == [(1,)]


def test_the_refusal_that_is_shown_is_the_one_of_the_sample(tmp_path: Path) -> None:
    assert run(tmp_path, "init", "try", "--sample").code == 0
    refused = run(tmp_path, "--config", "try/config.toml", "tick", "--once", "--dry-run", "--at", "+73h")
    assert refused.code == ExitCode.REFUSED
    [line] = [line for line in refused.out.splitlines() if line.startswith("refused: ")]
    [shown] = [fence.body for fence in fences(section(GUARD, "The guard"), "text")]
    assert shown.splitlines()[0] == line
    # The log has it on one line, the page in several.
    assert "Look: autorelease list-expired. If this is right: autorelease tick --once --confirm 218" in refused.err
    assert line in section(RUNBOOK, "Exit 7: the guard refused")


# --- configuration ----------------------------------------------------------------------------------------------------


def configuration_block() -> str:
    [fence] = fences(section(CONFIGURATION, "Configuration"), "toml")
    return fence.body


def shown_configuration() -> dict[str, Any]:
    """What the block says once the keys that have no default, and stand behind a #, are read too."""
    return tomllib.loads(re.sub(r"^# (?=[a-z_]+ = )", "", configuration_block(), flags=re.MULTILINE))


WITHOUT_DEFAULT = {("ledger", "url"), ("ledger", "dates"), ("ledger", "timezone"), ("journal", "url")}


def assert_shows_defaults(shown: dict[str, Any], model: type[Struct], place: tuple[str, ...]) -> None:
    assert set(shown) == set(model.__struct_fields__)
    for name in model.__struct_fields__:
        default = getattr(model(), name)
        if isinstance(default, Struct):
            assert_shows_defaults(shown[name], type(default), (*place, name))
        elif (*place, name) not in WITHOUT_DEFAULT:
            expected = list(default) if isinstance(default, tuple) else default
            value = parse_duration(shown[name]) if isinstance(default, timedelta) else shown[name]
            assert (place, name, value) == (place, name, expected)
        else:
            assert default is None


def test_the_configuration_block_shows_every_key_with_its_default() -> None:
    shown = shown_configuration()
    provisioner = shown.pop("provisioners")["default"]
    assert set(shown) == set(File.__struct_fields__) - {"provisioners"}
    for name, section_shown in shown.items():
        assert_shows_defaults(section_shown, type(getattr(File(), name)), (name,))
    assert provisioner.pop("kind") == "command"
    pace = Pace(**{name: provisioner.pop(name) for name in Pace.__struct_fields__})
    assert None not in (pace.concurrency, pace.max_per_second)
    assert Pace() == Pace(concurrency=None, max_per_second=None)
    assert set(provisioner) == set(Options.__struct_fields__)
    defaults = {field.name: field.default for field in fields(Options) if field.default is not NODEFAULT}
    assert convert({**provisioner, **defaults}, Options) == convert(provisioner, Options)


def test_the_configuration_block_is_a_configuration(tmp_path: Path) -> None:
    shown = shown_configuration()
    # The one key that does not go with the default of another.
    read_struct(shown | {"ledger": shown["ledger"] | {"timestamps": "iso8601"}}, File)
    (tmp_path / "config.toml").write_text(configuration_block(), encoding="utf-8")
    ended = run(
        tmp_path, "--config", "config.toml", "--ledger", "sqlite:///none.db", "tick", "--once", "--dry-run", "--json"
    )
    assert json.loads(ended.out)["error"] == "unusable", "it was read, and only the ledger is missing"


def test_the_words_of_argv_and_the_variables_are_named() -> None:
    told = section(PROVISIONERS, '`kind = "command"`')
    assert set(re.findall(r"`\{([a-z_]+)\}`", told)) == set(PLACES)
    variables = re.findall(r"`(?:AUTORELEASE)?_([A-Z_]+)`", told)
    assert {name.lower() for name in variables} == set(VARIABLES)
    [toml] = fences(told, "toml")
    sections = tomllib.loads(toml.body)["provisioners"]
    assert list(open_provisioners(sections, PROVISIONERS, timedelta(seconds=1), stamps=True)) == ["default"]


# --- exit codes -------------------------------------------------------------------------------------------------------


def test_the_page_has_every_exit_code_and_no_other() -> None:
    assert [int(code) for code, _ in table(section(EXIT_CODES, "Exit codes"))] == sorted(CODES)


def test_runbook_has_a_page_for_every_exit_code_and_no_other() -> None:
    headings = re.findall(r"^### Exit ([0-9]+): ", RUNBOOK.read_text("utf-8"), re.MULTILINE)
    assert [int(code) for code in headings] == sorted(CODES)


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_page_says_what_it_means_and_what_to_do(code: int) -> None:
    [heading] = re.findall(rf"^### (Exit {code}: .*)$", RUNBOOK.read_text("utf-8"), re.MULTILINE)
    page = section(RUNBOOK, heading)
    places = [page.find(f"**{part}**") for part in ("Means", "In the log", "Do", "Then check")]
    assert places == sorted(places)
    assert -1 not in places
    assert [fence for fence in fences(page) if fence.info == "sh"], "no command to type"


def test_the_page_names_every_reason_of_the_guard() -> None:
    told = {re.sub("`", "", code) for code, _ in table(section(GUARD, "The guard"))}
    source = inspect.getsource(guard)
    named = set(re.findall(r'Refusal\(\s*"([a-z_]+)"', source)) | {guard.OTHER_LEDGER}
    assert told == named


def reasons_not_to_believe() -> list[str]:
    """Every one that there is, in the words of the program."""
    released, missed = Answer.RELEASED, Answer.MISS
    # Whether it has credit; its last answers; those of this tick; and whether it finds what must be there.
    judged: list[tuple[bool, list[Answer], list[Answer], Control | None]] = [
        (False, [missed], [missed], None),
        (True, [missed], [missed], Control(1, lost="vm-1", why="it says that there is no such VM")),
        (True, [released, missed], [missed], None),
        (True, [missed] * 5 + [released] * 45, [missed, released], None),
        (True, [missed, released] * 5 + [missed], [missed, released], None),
    ]
    standings = [
        Standing(has_credit=credit, answers=answers, of_this_tick=now, control=control)
        for credit, answers, now, control in judged
    ]
    standings.append(Standing(has_credit=False, answers=[missed], of_this_tick=[missed], is_known=False))
    return [reason for standing in standings if (reason := disbelief(standing, 50)) is not None]


def told_of_a_provisioner() -> tuple[list[str], list[str]]:
    """The phrases in the first cells of the runbook's tables: of one that is down, and of one that is not believed."""
    of_down, _, of_unproven = section(RUNBOOK, "Exit 8: a provisioner is down").partition("\nFor `unproven`: ")
    down, unproven = (
        [phrase for first, _ in table(part) for phrase in re.findall(r"`([^`]+)`", first)]
        for part in (of_down, of_unproven)
    )
    return [phrase for phrase in down if phrase != "#!"], unproven


def test_the_runbook_quotes_of_a_provisioner_that_is_down_what_the_program_says() -> None:
    phrases, _ = told_of_a_provisioner()
    names = ("provisioners/command.py", "provisioners/processes.py", "sweep/edge/workers.py", "sweep/crew.py")
    source = "".join((ROOT / "autorelease" / name).read_text("utf-8") for name in names)
    assert len(phrases) > 5
    for part in [part.strip() for phrase in phrases for part in re.split(r"\.\.\.|[0-9]+", phrase)]:
        assert part in source, part


def test_the_runbook_has_every_reason_not_to_believe_a_provisioner() -> None:
    _, shown = told_of_a_provisioner()
    patterns = [".*".join(map(re.escape, phrase.split("..."))) for phrase in shown]
    reasons = reasons_not_to_believe()
    assert len(set(reasons)) == len(patterns) == 6
    for reason in reasons:
        assert [pattern for pattern in patterns if re.search(pattern, reason)], reason


def test_the_runbook_leads_from_each_problem_of_health_to_a_page() -> None:
    shown = {
        name for row in table(section(RUNBOOK, "From the message to the page")) for name in codes_of_health(row[0])
    }
    assert shown == set(re.findall(r'Problem\(\s*"([a-z]+)"', inspect.getsource(health)))


def codes_of_health(cell: str) -> list[str]:
    """What a cell names behind `health`."""
    return re.findall(r"`([a-z]+)`", cell.partition("`health`:")[2])


def test_the_runbook_leads_from_each_exit_code_but_success_to_its_page() -> None:
    rows = table(section(RUNBOOK, "From the message to the page"))
    shown = {int(code): page for seen, page, _ in rows for code in re.findall(r"`exited/([0-9]+)`", seen)}
    # 0 and 6 raise no alarm, and 9 is no tick's.
    assert set(shown) == CODES - {ExitCode.OK, ExitCode.LOCKED, ExitCode.UNHEALTHY}
    assert all(f"#exit-{code}-" in page for code, page in shown.items())


# --- links and units --------------------------------------------------------------------------------------------------


def anchors(path: Path) -> set[str]:
    """As GitHub makes them."""
    prose = re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_relative_link_leads_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)]+)\)", path.read_text("utf-8"))
    assert links
    for link in links:
        if re.match(r"https?:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name) if name else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_target_of_make_that_is_named_is_there(path: Path) -> None:
    named = re.findall(r"(?:`|^)(?:sudo )?make ([a-z-]+)", path.read_text("utf-8"), re.MULTILINE)
    there = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert set(named) <= set(there)


def test_the_places_that_contributors_are_sent_to_are_there() -> None:
    text = CONTRIBUTING.read_text("utf-8")
    [layout] = fences(text, "text")
    named = re.findall(r"[a-z0-9_./]+(?:/|\.py|\.toml|\.txt)(?![a-z])", text.replace(".venv", ""))
    assert len(named) > 20
    for name in named:
        assert any((ROOT / part / name).exists() for part in ("", "autorelease", "tests")), name
    packages = {path.parent.name for path in (ROOT / "autorelease").glob("*/__init__.py")}
    assert packages <= set(re.findall(r"([a-z]+)/", layout.body)), "a part that nobody is told of"


def drop_ins() -> list[tuple[str, str]]:
    """(the unit's drop-in as a path below /etc/systemd/system, its text) of all documents."""
    found = [fence.body for path in DOCUMENTS for fence in fences(path.read_text("utf-8"), "ini")]
    places = [re.match(r"# /etc/systemd/system/(\S+)\n", body) for body in found]
    assert all(places), "a drop-in begins with a comment that names its file"
    return [(place[1], body) for place, body in zip(places, found, strict=True) if place]


def verify(folder: Path, swap: tuple[str, str] = ("", "")) -> "subprocess.CompletedProcess[str]":
    """Ask systemd about the shipped units with every drop-in that is shown."""
    analyze = tool("systemd-analyze", "systemd")
    programs = re.compile(r"^ExecStart=(/usr|/opt/autorelease)/bin/autorelease", re.MULTILINE)
    for name in UNITS:
        text = (ROOT / "deploy" / "systemd" / name).read_text("utf-8")
        (folder / name).write_text(programs.sub("ExecStart=/bin/true", text), encoding="utf-8")
    for name, text in drop_ins():
        (folder / name).parent.mkdir(exist_ok=True)
        changed = text.replace(*swap) if swap[0] else text
        (folder / name).write_text(programs.sub("ExecStart=/bin/true", changed), encoding="utf-8")
    return subprocess.run(
        [analyze, "verify", "--man=no", "--recursive-errors=yes", *(folder / name for name in UNITS)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ | {"LC_ALL": "C.UTF-8"},
    )


def test_systemd_accepts_the_drop_ins(tmp_path: Path) -> None:
    assert {name.partition(".d/")[0] for name, _ in drop_ins()} == {"autorelease.timer", "autorelease.service"}
    ended = verify(tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize(
    "swap", [("RandomizedDelaySec", "RandomisedDelaySec"), ("ReadWritePaths=/srv", "ReadWritePaths=srv")]
)
def test_a_wrong_drop_in_is_found(swap: tuple[str, str], tmp_path: Path) -> None:
    assert any(swap[0] in text for _, text in drop_ins())
    ended = verify(tmp_path, swap)
    assert ended.returncode != 0 or ended.stderr


@pytest.mark.parametrize("setting", ["OnCalendar"])
def test_a_drop_in_empties_what_it_replaces(setting: str) -> None:
    """A timer takes several calendars, and a oneshot service several programs: the shipped one would stay as well."""
    texts = [text for _, text in drop_ins() if f"{setting}=" in text]
    assert texts
    for text in texts:
        values = re.findall(rf"^{setting}=(.*)$", text, re.MULTILINE)
        assert values[0] == ""
        assert len(values) == 2


def test_readme_is_what_a_newcomer_reads_to_the_end() -> None:
    assert len(README.read_text("utf-8").splitlines()) <= 300


def test_readme_leads_to_every_page_and_says_what_it_has() -> None:
    rows = table(section(README, "Where the rest stands"))
    named = {name for page, contents in rows if contents for name in re.findall(r"\]\(([^)]+)\)", page)}
    assert named == {str(path.relative_to(ROOT)) for path in DOCUMENTS if path != README}


def test_every_page_begins_with_its_one_heading_of_the_first_rank() -> None:
    """What is read by its heading is the whole page then."""
    for path in DOCUMENTS:
        prose = re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL)
        assert len(re.findall(r"^# ", prose, re.MULTILINE)) == 1, path.name


def test_the_documents_read_as_plain_text() -> None:
    for path in DOCUMENTS:
        text = path.read_text("utf-8")
        assert not re.search(r"[\U0001F000-\U0001FAFF\u2600-\u27BF]", text), f"{path.name}: a pictogram"
        assert "img.shields.io" not in text
        assert len(re.findall(r"^ *```", text, re.MULTILINE)) == 2 * len(fences(text)), f"{path.name}: an open fence"
