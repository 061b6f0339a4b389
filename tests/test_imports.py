"""Who may import whom, as the contract draws it; and that `--help` loads neither a database nor a back end."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import autorelease
from tests.support.here import run_here
from tests.support.place import DAY, NOW, Place, allocation

ROOT = Path(autorelease.__file__).parent
# The house, from its ground up: a room may know what is on the floors below it, and beside it only what is named.
GROUND = {"model", "errors", "text", "limits", "structs", "identity", "backlog"}
FLOORS = [
    GROUND | {"sqliteadvice", "sqlitefile", "sqlitecheck", "processes", "trust", "stderr", "logs"},
    {"settings", "rules"},
    {"ledger", "journal", "provisioners"},
    {"deciding"},
    {"sweep", "inspect"},
    {"operate", "bootstrap", "testing", "render"},
    {"cli"},
    {"__main__"},
]
BESIDE = {
    "sqliteadvice": {"errors"},
    "sqlitefile": {"errors", "sqliteadvice", "text"},
    "sqlitecheck": {"errors", "sqliteadvice", "sqlitefile"},
    "processes": set[str](),
    "trust": {"errors", "text"},
    "stderr": {"backlog"},
    "logs": {"model", "stderr", "text"},
    "identity": {"model", "text"},
}
EFFECTS = {"sqlite3", "os", "subprocess", "typer", "rich", "sqlite_utils", "socket", "threading", "pathlib", "time"}


def name_of(path: Path) -> str:
    """The dotted name of a module's file."""
    parts = ["autorelease", *path.relative_to(ROOT).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}


def is_for_types_alone(node: ast.AST) -> bool:
    """Whether this is an `if TYPE_CHECKING:`, whose body never runs."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """Every node that can run, inside functions too."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and is_for_types_alone(child):
            for other in child.orelse:
                yield other
                yield from statements(other)
        else:
            yield child
            yield from statements(child)


@cache
def imports(module: str) -> frozenset[str]:
    """The dotted names that a module imports anywhere: of `from a import b` both a and, where b is a module, a.b."""
    found: set[str] = set()
    for node in statements(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative imports hide who is meant"
            assert node.module is not None
            found.add(node.module)
            found.update(name for alias in node.names if (name := f"{node.module}.{alias.name}") in MODULES)
        elif is_dynamic(node):
            assert module == "autorelease.provisioners", f"{module}: only the registry imports by a computed name"
    return frozenset(found)


def is_dynamic(node: ast.AST) -> bool:
    """Whether this names import_module or __import__."""
    return isinstance(node, ast.Name) and node.id in {"import_module", "__import__"}


def packages(module: str) -> set[str]:
    """The top-level packages that a module imports."""
    return {name.split(".")[0] for name in imports(module)}


def ours(module: str) -> set[str]:
    """What a module imports of ours, by its first name: `autorelease.ledger.rows` is `ledger`."""
    return {name.split(".")[1] for name in imports(module) if name.startswith("autorelease.")}


def within(package: str) -> list[str]:
    """The modules of a package."""
    whole = f"autorelease.{package}"
    return [name for name in MODULES if name == whole or name.startswith(f"{whole}.")]


def test_the_modules_are_found() -> None:
    assert {"autorelease", "autorelease.cli.sweep", "autorelease.ledger.sqlite"} <= set(MODULES)


def test_imports_inside_functions_are_found_and_those_for_types_are_not() -> None:
    """The parsing itself: a rule that sees nothing holds for everything."""
    assert "autorelease.ledger.sqlite" in imports("autorelease.ledger")
    assert "autorelease.settings" not in imports("autorelease.ledger")
    assert "sqlite3" in imports("autorelease.ledger.stamping")
    assert "autorelease.rules.guard" in imports("autorelease.sweep.run")


@pytest.mark.parametrize(
    "module", [*within("rules"), "autorelease.model", "autorelease.text", "autorelease.sweep.report"]
)
def test_pure_modules_touch_nothing(module: str) -> None:
    assert packages(module).isdisjoint(EFFECTS)


@pytest.mark.parametrize("name", ["model", "errors", "structs", "text", "limits"])
def test_the_lowest_modules_import_nothing_of_ours(name: str) -> None:
    assert ours(f"autorelease.{name}") == set()


def room_of(module: str) -> str:
    """The room of a module: its first name in the house."""
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("module", [name for name in MODULES if room_of(name)])
def test_every_import_points_downwards(module: str) -> None:
    room = room_of(module)
    allowed = {below for floor in FLOORS[: floor_of(room)] for below in floor} | {room} | BESIDE.get(room, set())
    assert ours(module) <= allowed, f"{room} may not know {sorted(ours(module) - allowed)}"


def floor_of(room: str) -> int:
    """On which floor a room is."""
    [found] = [number for number, floor in enumerate(FLOORS) if room in floor]
    return found


def test_every_room_is_on_one_floor() -> None:
    assert {room_of(name) for name in MODULES if room_of(name)} == {room for floor in FLOORS for room in floor}


def test_the_settings_know_what_a_file_is_and_nothing_that_is_done_with_it() -> None:
    for module in within("settings"):
        assert ours(module) <= {"settings", "errors", "structs", "text", "trust"}, module


@pytest.mark.parametrize("package", ["ledger", "journal", "provisioners"])
def test_ledger_journal_and_provisioners_never_know_what_stands_above(package: str) -> None:
    for module in within(package):
        assert ours(module) <= {package, *(room for room in FLOORS[0] if room not in {"logs", "trust"})}, module


@pytest.mark.parametrize("module", within("rules"))
def test_the_rules_know_the_model_alone(module: str) -> None:
    assert ours(module) <= {"rules", "model"}


@pytest.mark.parametrize("module", [*within("sweep"), *within("deciding")])
def test_what_decides_and_what_acts_know_protocols_and_no_database(module: str) -> None:
    found = imports(module)
    assert {each.split(".")[0] for each in found}.isdisjoint({"sqlite_utils", "typer", "rich"})
    assert "sqlite3" not in found or module == "autorelease.deciding.temporary"
    for package in ("ledger", "journal"):
        assert not [each for each in found if each.startswith(f"autorelease.{package}.")]
    kinds = [each for each in found if each.startswith("autorelease.provisioners.")]
    assert set(kinds) <= {"autorelease.provisioners.calls"}


@pytest.mark.parametrize(("package", "owner"), [("typer", "cli"), ("rich", "render"), ("pytest", "testing")])
def test_a_library_has_one_home(package: str, owner: str) -> None:
    homes = [module for module in MODULES if package in packages(module)]
    assert homes
    assert set(homes) <= set(within(owner))


def test_click_is_never_imported_because_typer_brings_its_own() -> None:
    assert not [module for module in MODULES if "click" in packages(module)]


def test_nobody_imports_the_command_line() -> None:
    importers = {module for module in MODULES if "cli" in ours(module)}
    assert importers <= {*within("cli"), "autorelease.__main__"}
    assert "autorelease.__main__" in importers


def test_nobody_imports_what_is_for_tests() -> None:
    importers = {module for module in MODULES if "testing" in ours(module)}
    assert importers
    assert importers <= set(within("testing"))


# --- what really is loaded --------------------------------------------------------------------------------------------

LOADED = """
import json, sys
from autorelease.cli import run
code = run(sys.argv[1:])
sys.stderr.write(json.dumps([code, sorted(sys.modules)]))
"""
# What costs as much at start as the whole of a small command, and whose names say what it would be needed for.
COSTLY = {"asyncio", "concurrent", "email", "hashlib", "http", "logging.handlers", "rich", "sqlite_utils"}
COSTLY |= {"importlib.metadata", "pydantic", "random", "secrets", "socket", "ssl", "tempfile", "zoneinfo"}
BACK_ENDS = [name for name in within("provisioners") if name != "autorelease.provisioners"]


def loaded(*arguments: str) -> set[str]:
    """The modules that a process of its own has loaded when this command ends well."""
    completed = subprocess.run(
        [sys.executable, "-c", LOADED, *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"PATH": "", "LANG": "C.UTF-8"},
    )
    code, modules = json.loads(completed.stderr)
    assert code == 0
    assert completed.stdout
    return set(modules)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["tick", "--help"],
        ["list-expired", "--help"],
        ["history", "--help"],
        ["init", "--help"],
        ["--version"],
    ],
    ids=" ".join,
)
def test_help_loads_neither_a_database_nor_a_back_end_nor_what_is_costly(arguments: list[str]) -> None:
    found = loaded(*arguments)
    assert "autorelease.cli.app" in found
    assert not found.intersection(
        ["sqlite3", "sqlite_utils", "autorelease.ledger.sqlite", "autorelease.journal.sqlite"]
    )
    assert BACK_ENDS
    assert not found.intersection(BACK_ENDS)
    assert not found & COSTLY


@pytest.mark.parametrize(("kind", "other"), [("ledger", "command"), ("command", "ledger")])
def test_a_tick_that_has_nothing_to_do_loads_nothing_for_what_it_does_not_do(
    kind: str, other: str, place: Place
) -> None:
    place.configure(f'[provisioners.default]\nkind = "{kind}"\n' + ('argv = ["true"]\n' if kind == "command" else ""))
    place.make_ledger([allocation("paid", NOW + DAY)])
    tick = ["--config", str(place.config), "--log-level", "error", "tick", "--once"]
    # The second has a tick before it.
    for _ in range(2):
        found = loaded(*tick)
        assert {"autorelease.ledger.sqlite", "autorelease.journal.sqlite", f"autorelease.provisioners.{kind}"} <= found
        assert f"autorelease.provisioners.{other}" not in found
        assert not found & COSTLY


def test_neither_does_a_look_at_its_health(place: Place) -> None:
    place.make_ledger([allocation("paid", NOW + DAY)])
    assert run_here(place, "tick", "--once").code == 0
    found = loaded("--config", str(place.config), "health")
    assert "autorelease.inspect.health" in found
    assert not found & COSTLY
