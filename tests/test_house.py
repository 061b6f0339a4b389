"""How large a part of the house may be: whoever reads it should see the whole of it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import autorelease

ROOT = Path(autorelease.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
MODULE_LINES = 300
CLASS_LINES = 200
FUNCTION_LINES = 40
# A step of the schema is a list of columns, and is never changed once released.
SCHEMAS = {"journal/schema.py"}


def name_of(path: Path) -> str:
    """Where a module is in the house."""
    return path.relative_to(ROOT).as_posix()


def too_long(source: str, kinds: type[ast.stmt] | tuple[type[ast.stmt], ...], most: int) -> Iterator[str]:
    """The classes or functions of a module, wherever they stand in it, that have more lines than this."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and isinstance(node, kinds):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > most:
                yield f"{node.name} has {lines} lines"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_is_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MODULE_LINES


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_class_is_short(path: Path) -> None:
    assert list(too_long(path.read_text(encoding="utf-8"), ast.ClassDef, CLASS_LINES)) == []


@pytest.mark.parametrize("path", [path for path in MODULES if name_of(path) not in SCHEMAS], ids=name_of)
def test_every_function_is_short(path: Path) -> None:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    assert list(too_long(path.read_text(encoding="utf-8"), functions, FUNCTION_LINES)) == []


def test_the_modules_and_the_schemas_are_found() -> None:
    assert len(MODULES) > 50
    assert {name_of(path) for path in MODULES} >= SCHEMAS


def test_what_is_too_long_is_found_wherever_it_stands() -> None:
    """The measuring itself: a rule that sees nothing holds for everything."""
    source = (
        "class A:\n    def f(self):\n        async def g():\n            1\n            2\n\n\nclass B:\n    pass\n"
    )
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    assert list(too_long(source, ast.ClassDef, 4)) == ["A has 5 lines"]
    assert list(too_long(source, functions, 2)) == ["f has 4 lines", "g has 3 lines"]
    assert list(too_long(source, (ast.ClassDef, *functions), 5)) == []
