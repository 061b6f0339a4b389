"""Reports of the installed command, checked as they come in: against their schemas, and that their counters add up."""

import json
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from tests.support.place import Place, Ran

SCHEMAS = Path(__file__).parents[2] / "docs" / "schema"
ENDS = ("released", "already_released", "pending", "skipped", "failed")
PATIENCE_SECONDS = 60


@cache
def _registry() -> Registry[Any]:
    # One schema may speak of another, by its name or by its $id.
    registry: Registry[Any] = Registry()
    for path in SCHEMAS.glob("*.json"):
        contents = json.loads(path.read_text(encoding="utf-8"))
        resource = Resource.from_contents(contents, default_specification=DRAFT202012)
        registry = registry.with_resource(path.name, resource)
        if "$id" in contents:
            registry = registry.with_resource(contents["$id"], resource)
    return registry


@cache
def schema(name: str) -> Validator:
    """The validator of docs/schema/NAME.json; fails where the file is missing or is no schema."""
    contents = json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))
    kind = validator_for(contents, default=jsonschema.Draft202012Validator)
    kind.check_schema(contents)
    return kind(contents, registry=_registry())


def check_tick(report: dict[str, Any], code: int) -> dict[str, Any]:
    """A tick's report as it must be: of its schema, with counters that add up, and the exit code that it says."""
    schema("tick").validate(report)
    assert report["exit_code"] == code
    check_identity(report)
    expected = "success" if code == 0 else "refused" if code == 7 else "stopped" if report["stopped_by"] else "partial"
    assert report["status"] == expected
    return report


def check_identity(report: dict[str, Any]) -> None:
    """Every expired row came to exactly one end, and every skipped one has a reason."""
    assert report["rows_expired"] == sum(report[f"rows_{end}"] for end in ENDS)
    assert report["rows_skipped"] == sum(report["skipped"].values())
    assert report["truncated"] or report["rows_failed"] == len(report["errors"])
    assert report["truncated"] or report["rows_invalid"] == len(report["invalid"])


def tick_report(ran: Ran, code: int) -> dict[str, Any]:
    """The one object on stdout of a `tick --json` that ended with this exit code."""
    assert ran.code == code, ran
    assert ran.out.endswith("}\n")
    assert ran.out.count("\n") == 1
    return check_tick(ran.json(), code)


def sweep(place: Place, *arguments: str, code: int = 0) -> dict[str, Any]:
    """Sweep once and give back the checked report."""
    return tick_report(place.run("tick", "--once", "--json", *arguments), code)


def error_report(ran: Ran, code: int) -> dict[str, Any]:
    """The one error object on stdout of a `tick --json` that came to no report."""
    assert ran.code == code, ran
    assert ran.out.count("\n") == 1
    found = ran.json()
    schema("error").validate(found)
    assert found["exit_code"] == code
    return found


def listed(place: Place, *arguments: str) -> dict[str, Any]:
    """The checked object of `list-expired --format json`."""
    ran = place.run("list-expired", "--format", "json", *arguments)
    assert ran.code == 0, ran.err
    found = ran.json()
    schema("list").validate(found)
    decisions = [row["decision"] for row in found["rows"]]
    assert decisions.count("release") == found["counts"]["release"]
    if "--all" in arguments:
        assert decisions.count("skip") == found["counts"]["skip"]
    return found


def sids(found: dict[str, Any], decision: str = "release") -> set[str]:
    """The sids of a listing with this decision."""
    return {row["sid"] for row in found["rows"] if row["decision"] == decision}


def history(place: Place, *arguments: str) -> dict[str, Any]:
    """The checked object of `history --format json`."""
    ran = place.run("history", "--format", "json", *arguments)
    assert ran.code == 0, ran.err
    found = ran.json()
    schema("history").validate(found)
    for tick in found["ticks"]:
        if "rows_expired" in tick:
            check_identity(tick)
    return found


def footprint(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes; the shared memory of a WAL database by its name alone."""
    return {
        str(path.relative_to(folder)): b"" if path.name.endswith("-shm") else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def wait_until(condition: Callable[[], bool]) -> None:
    """Return as soon as the condition holds; fails where it never does."""
    ends = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < ends, "what was waited for never came"
        time.sleep(0.01)


def python_program(folder: Path, interpreter: str, body: str, name: str = "release-vm") -> Path:
    """A release program in Python: a shell script that starts the interpreter, whose path may be long."""
    source = folder / f"{name}.py"
    source.write_text(body, encoding="utf-8")
    path = folder / name
    path.write_text(f"#!/bin/sh\nexec '{interpreter}' -I '{source}' \"$@\"\n", encoding="utf-8")
    path.chmod(0o755)
    return path
