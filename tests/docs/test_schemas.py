"""The JSON Schemas are strict, agree with the code's own words, accept what the commands print and refuse the rest."""

import inspect
import json
import sqlite3
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from autorelease import errors
from autorelease.errors import AutoreleaseError, ExitCode
from autorelease.model import ErrorCode, Outcome, SkipReason
from autorelease.rules import guard
from autorelease.sweep import report
from autorelease.sweep.edge.stop import DEADLINE, SIGNALS
from tests.docs.documents import ROOT
from tests.support.place import DAY, HOUR, NOW, PERMISSIVE, Place, allocation, command_provisioner, program

NAMES = ("tick", "error", "list", "history", "upcoming", "health", "doctor", "holds")


def schema(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "docs" / "schema" / f"{name}.json").read_text("utf-8"))
    return found


def problems(value: Any) -> list[str]:
    """What the schema that the object names has against it."""
    name = value["schema"].removeprefix("autorelease.").removesuffix("/1")
    return [error.message for error in Draft202012Validator(schema(name)).iter_errors(value)]


def objects(node: Any) -> Iterator[dict[str, Any]]:
    """Every place of a schema that describes a whole object."""
    if isinstance(node, dict):
        if node.get("type") == "object":
            yield node
        for value in node.values():
            yield from objects(value)
    elif isinstance(node, list):
        for value in node:
            yield from objects(value)


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_is_valid_and_strict(name: str) -> None:
    found = schema(name)
    Draft202012Validator.check_schema(found)
    assert found["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert found["properties"]["schema"] == {"const": f"autorelease.{name}/1"}
    for part in objects(found):
        assert part["additionalProperties"] is False
        assert sorted(part["required"]) == sorted(part["properties"])


def test_the_schemas_speak_the_codes_own_words() -> None:
    tick, error = schema("tick"), schema("error")
    assert tick["properties"]["skipped"]["required"] == list(SkipReason)
    assert tick["$defs"]["error"]["properties"]["code"]["enum"] == list(ErrorCode)
    assert {f"rows_{outcome}" for outcome in Outcome} < set(tick["properties"])
    assert set(tick["properties"]["stopped_by"]["enum"]) == {None, DEADLINE, *(signal.name for signal in SIGNALS)}
    for name in ("errors", "invalid"):
        assert tick["properties"][name]["maxItems"] == report.LISTED
    classes = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, AutoreleaseError)]
    assert set(error["properties"]["error"]["enum"]) == {kind.error for kind in classes}
    assert set(error["properties"]["exit_code"]["enum"]) == {kind.exit_code for kind in classes}
    for reason in tick["$defs"]["refusal"]["properties"]["code"]["enum"]:
        assert f'"{reason}"' in inspect.getsource(guard)


def test_the_words_of_history_are_those_of_tick_and_error() -> None:
    tick, history = schema("tick"), schema("history")
    ended = deepcopy(history["$defs"]["ended"])
    who = {name: ended["properties"].pop(name) for name in ("kind", "reason", "host", "version", "actor")}
    assert set(who) == set(ended["required"]) - set(tick["required"])
    assert ended["properties"] == tick["properties"]
    assert ended["allOf"] == tick["allOf"]
    for name, definition in tick["$defs"].items():
        assert history["$defs"][name] == definition
    for name in set(schema("list")["$defs"]) - {"row"}:
        assert schema("list")["$defs"][name] == tick["$defs"][name]
    assert history["$defs"]["aborted"]["properties"]["error"] == schema("error")["properties"]["error"]


@pytest.fixture
def eventful(place: Place) -> Place:
    """A place whose program fails, misses and releases, with rows of every sort."""
    body = "case $1 in fail*) echo broken; exit 1 ;; gone*) exit 3 ;; slow*) exec sleep 60 ;; *) exit 0 ;; esac"
    place.configure(command_provisioner([program(place.folder, body), "{vm_ref}"], "already = [3]"), PERMISSIVE)
    place.make_ledger(
        [
            *(allocation(f"{kind}-{number}", NOW - DAY) for kind in ("fine", "fail", "gone") for number in range(2)),
            allocation("wrong", "tomorrow"),
            allocation("later", NOW + DAY),
        ]
    )
    return place


def test_what_the_commands_print_is_valid(eventful: Place) -> None:
    dry = eventful.run("tick", "--once", "--dry-run", "--json").json()
    listed = eventful.run("list-expired", "--format", "json").json()
    first = eventful.run("tick", "--once", "--json").json()
    second = eventful.run("tick", "--once", "--json").json()
    everything = eventful.run("list-expired", "--all", "--format", "json").json()
    history = eventful.run("history", "--format", "json").json()
    one = eventful.run("history", "--sid", "fail-0", "--format", "json").json()
    assert (first["rows_released"], first["rows_failed"], second["skipped"]["backoff"]) == (2, 2, 2)
    assert {row["decision"] for row in everything["rows"]} == {"skip", "invalid"}
    for printed in (dry, listed, first, second, everything, history, one):
        assert problems(printed) == []


def test_a_tick_of_a_version_that_knew_fewer_reasons_is_valid(eventful: Place) -> None:
    eventful.run("tick", "--once")
    with sqlite3.connect(eventful.journal) as journal:
        journal.execute("UPDATE ticks SET report = json_remove(report, '$.skipped.no_provisioner')")
        [(found,)] = journal.execute("SELECT report FROM ticks").fetchall()
    journal.close()
    assert "no_provisioner" not in found
    history = eventful.run("history", "--format", "json").json()
    assert problems(history) == []
    assert history["ticks"][0]["skipped"]["no_provisioner"] == 0


def test_a_refusal_is_valid(place: Place) -> None:
    place.configure('[guard]\nmax_percent = 10\n[provisioners.default]\nkind = "ledger"\n')
    place.make_ledger([allocation("a", NOW - HOUR), allocation("b", NOW + HOUR)])
    refused = place.run("tick", "--once", "--confirm", "5", "--json").json()
    assert {reason["code"] for reason in refused["refused"]} == {"max_percent", "confirm"}
    listed = place.run("list-expired", "--format", "json").json()
    assert listed["guard"]["admitted"] is False
    for printed in (refused, listed, place.run("history", "--format", "json").json()):
        assert problems(printed) == []


def test_ticks_without_an_end_are_valid(eventful: Place) -> None:
    eventful.insert([allocation("slow-0", NOW - DAY)])
    running = eventful.start("tick", "--once")
    try:
        # The tick tells when its last call but the slow one is over.
        assert running.stderr is not None
        while "sid=fine" not in (line := running.stderr.readline()):
            assert line, "the tick ended"
        during = eventful.run("history", "--format", "json").json()
        locked = eventful.run("tick", "--once", "--json")
    finally:
        running.kill()
        running.communicate()
    eventful.ledger.rename(eventful.folder / "away.db")
    aborted = eventful.run("tick", "--once", "--json")
    after = eventful.run("history", "--format", "json").json()
    usage = eventful.run("tick", "--json")
    assert [tick["status"] for tick in during["ticks"]] == ["running"]
    assert [tick["status"] for tick in after["ticks"]] == ["unusable", "crashed"]
    assert [ran.code for ran in (locked, aborted, usage)] == [6, 5, 2]
    for printed in (during, after, locked.json(), aborted.json(), usage.json()):
        assert problems(printed) == []


def test_a_conflict_is_valid(eventful: Place) -> None:
    eventful.insert([allocation("slow-0", NOW - DAY)])
    running = eventful.start("tick", "--once")
    try:
        assert running.stderr is not None
        while "sid=fine" not in (line := running.stderr.readline()):
            assert line, "the tick ended"
    finally:
        running.kill()
        running.communicate()
    eventful.execute("UPDATE vm_allocations SET expires_at = ? WHERE sid = 'slow-0'", NOW + DAY)
    tick = eventful.run("tick", "--once", "--json").json()
    listed = eventful.run("list-expired", "--all", "--format", "json").json()
    assert "conflict" in {error["code"] for error in tick["errors"]}
    assert any(row["reason"].startswith("conflict: ") for row in listed["rows"])
    for printed in (tick, listed, eventful.run("history", "--format", "json").json()):
        assert problems(printed) == []


VALID_ERROR = {"schema": "autorelease.error/1", "exit_code": 6, "error": "locked", "message": "another tick"}


@pytest.mark.parametrize(
    "change",
    [
        {"exit_code": ExitCode.UNUSABLE},
        {"error": "lost"},
        {"message": ""},
        {"schema": "autorelease.error/2"},
        {"more": 1},
    ],
)
def test_a_wrong_error_is_refused(change: dict[str, Any]) -> None:
    validator = Draft202012Validator(schema("error"))
    assert validator.is_valid(VALID_ERROR)
    assert not validator.is_valid(VALID_ERROR | change)


@pytest.mark.parametrize(
    "change",
    [
        {"exit_code": 0},
        {"status": "success"},
        {"status": "refused"},
        {"status": "stopped"},
        {"stopped_by": "SIGTERM"},
        {"rows_released": -1},
        {"now": "2026-12-01T00:00:00+01:00"},
        {"tick": "last"},
        {"exit_code": 9},
        {"dry_run": True},
        {"more": 1},
    ],
)
def test_a_wrong_tick_is_refused(change: dict[str, Any], eventful: Place) -> None:
    tick = eventful.run("tick", "--once", "--json").json()
    assert problems(tick) == []
    assert problems(tick | change)


@pytest.mark.parametrize("name", ["errors", "skipped", "rows_pending"])
def test_an_incomplete_tick_is_refused(name: str, eventful: Place) -> None:
    tick = eventful.run("tick", "--once", "--json").json()
    tick.pop(name)
    assert problems(tick)


def test_the_schemas_are_all_that_the_page_names() -> None:
    linked = set((ROOT / "docs" / "operating.md").read_text("utf-8").split("(schema/")[1:])
    assert {text.partition(".json")[0] for text in linked} == set(NAMES)
    assert {path.stem for path in (ROOT / "docs" / "schema").iterdir()} == set(NAMES)
    assert all(Path(ROOT / "docs" / "schema" / f"{name}.json").is_file() for name in NAMES)
