"""The release program of docs/provisioners.md is run against a real server on loopback; its exit statuses are those of
the table.
"""

import re
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.docs.documents import PROVISIONERS, fences, section, table
from tests.support.place import HOUR, NOW, PERMISSIVE, Place, allocation, command_provisioner, fresh_environment
from tests.support.tools import tool

API = "https://cloud.example.net/v1"
HEADER = "/etc/autorelease/api-header"


@dataclass(slots=True)
class Cloud:
    """A provider's API: the answers that are left for each method, and what was asked."""

    url: str = ""
    answers: dict[str, list[int]] = field(default_factory=dict)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    """A server of this test's own; its last answer of a method is repeated."""
    # The example program calls it.
    tool("curl", "curl")
    state = Cloud()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append((self.command, self.path, self.headers.get("Authorization")))
            left = state.answers[self.command]
            self.send_response(left.pop(0) if len(left) > 1 else left[0])
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_DELETE(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            """Stays quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}/v1"
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


def script(folder: Path, url: str, name: str = "release-vm") -> Path:
    """A program as the page shows it, for this API and with a header file of its own."""
    [fence] = fences(section(PROVISIONERS, '`kind = "command"`'), f"sh {name}")
    assert fence.body.count(API) == fence.body.count(HEADER) == 1
    header = folder / "api-header"
    header.write_text("Authorization: Bearer secret\n", encoding="utf-8")
    path = folder / name
    path.write_text(fence.body.replace(API, url).replace(HEADER, str(header)), encoding="utf-8")
    path.chmod(0o755)
    return path


def status(program: Path, *arguments: str) -> int:
    ended = subprocess.run(
        [program, *arguments],
        env=fresh_environment(program.parent),
        capture_output=True,
        check=False,
        timeout=60,
    )
    return ended.returncode


@pytest.mark.parametrize(
    ("delete", "get", "expected"),
    [
        (204, [404], 0),
        (202, [200, 404], 0),
        (404, [404], 3),
        (503, [200], 75),
        (429, [200], 75),
        (401, [200], 77),
        (409, [200], 1),
        (204, [403], 20),
        (202, [200, 503], 20),
    ],
)
def test_the_answers_of_the_api(delete: int, get: list[int], expected: int, cloud: Cloud, tmp_path: Path) -> None:
    cloud.answers = {"DELETE": [delete], "GET": get}
    assert status(script(tmp_path, cloud.url), "web-1") == expected
    assert cloud.asked[0] == ("DELETE", "/v1/servers/web-1", "Bearer secret")


@pytest.mark.parametrize(("get", "expected"), [(200, 0), (404, 3), (401, 77), (403, 77), (410, 1), (500, 1)])
def test_the_one_that_looks(get: int, expected: int, cloud: Cloud, tmp_path: Path) -> None:
    cloud.answers = {"GET": [get]}
    assert status(script(tmp_path, cloud.url, "look-for-vm"), "web-1") == expected
    assert cloud.asked == [("GET", "/v1/servers/web-1", "Bearer secret")]


def test_an_api_that_does_not_answer_is_down(cloud: Cloud, tmp_path: Path) -> None:
    # Port 1 of loopback is reserved for a service that nobody runs.
    for name in ("release-vm", "look-for-vm"):
        assert status(script(tmp_path, "http://127.0.0.1:1/v1", name), "web-1") == 77


@pytest.mark.parametrize("name", ["", "../other", "a b", "web-1/../web-2", "web?x"])
def test_a_name_that_could_mean_another_server_is_refused(name: str, cloud: Cloud, tmp_path: Path) -> None:
    for each in ("release-vm", "look-for-vm"):
        assert status(script(tmp_path, cloud.url, each), name) == 1
    assert cloud.asked == []


def test_without_its_credentials_it_is_down(cloud: Cloud, tmp_path: Path) -> None:
    program = script(tmp_path, cloud.url)
    (tmp_path / "api-header").unlink()
    assert status(program, "web-1") == 78
    assert cloud.asked == []


def test_its_statuses_are_those_of_the_table() -> None:
    told = section(PROVISIONERS, '`kind = "command"`')
    shown = [fence.body for name in ("release-vm", "look-for-vm") for fence in fences(told, f"sh {name}")]
    used = {int(number) for number in re.findall(r"exit ([0-9]+)", "".join(shown))}
    named = {int(number) for row in table(told) for number in re.findall(r"\b[0-9]+\b", row[0])}
    assert used - {1} <= named
    assert {0, 3, 20, 75, 77} <= used


def test_a_tick_releases_through_it(cloud: Cloud, place: Place, tmp_path: Path) -> None:
    place.configure(command_provisioner([script(tmp_path, cloud.url), "{vm_ref}"], "already = [3]"), PERMISSIVE)
    place.make_ledger([allocation("a", NOW - HOUR, vm_ref="web-1"), allocation("b", NOW + HOUR, vm_ref="web-2")])
    cloud.answers = {"DELETE": [202], "GET": [200, 404]}
    assert place.run("tick", "--once").code == 0
    assert place.released() == {"a"}
    assert {path for _, path, _ in cloud.asked} == {"/v1/servers/web-1"}


def test_what_was_accepted_and_cannot_be_followed_is_finished_by_the_next_tick(
    cloud: Cloud, place: Place, tmp_path: Path
) -> None:
    """A provider that takes the order and then fails for a while: its "not found" is then what was to be expected."""
    lines = ("already = [3]", "pending = [20]")
    place.configure(command_provisioner([script(tmp_path, cloud.url), "{vm_ref}"], *lines), PERMISSIVE)
    place.make_ledger([allocation("a", NOW - HOUR, vm_ref="web-1")])
    cloud.answers = {"DELETE": [202, 404], "GET": [200, 503]}
    first = place.run("tick", "--once", "--json").json()
    assert (first["rows_pending"], first["errors"], place.released()) == (1, [], set())
    [pending] = [event for event in events(place) if event["outcome"] == "pending"]
    assert pending["evidence"] == "exit 20: DELETE: HTTP 202\nGET: HTTP 503"
    second = place.run("tick", "--once", "--json").json()
    assert (second["exit_code"], second["rows_already_released"]) == (0, 1)
    assert place.released() == {"a"}
    assert events(place)[-1]["evidence"] == "exit 3: DELETE: HTTP 404"


def events(place: Place) -> list[dict[str, Any]]:
    """The history of the allocation `a`, in order."""
    found: list[dict[str, Any]] = place.run("history", "--sid", "a", "--format", "json").json()["events"]
    return sorted(found, key=lambda event: str(event["at"]))


def test_an_ended_call_is_finished_by_the_next_one(cloud: Cloud, place: Place, tmp_path: Path) -> None:
    """As the page says: what was ended by its time is unfinished work, and may be found gone. It has released before,
    and finds a VM that is paid for.
    """
    release = '[release]\ntimeout = "2s"\n'
    look = script(tmp_path, cloud.url, "look-for-vm")
    options = f'already = [3]\nexists = ["{look}", "{{vm_ref}}"]'
    argv = [script(tmp_path, cloud.url), "{vm_ref}"]
    place.configure(command_provisioner(argv, options), PERMISSIVE, release)
    place.make_ledger([allocation("first", NOW - HOUR, vm_ref="web-0"), allocation("paid", NOW + HOUR, vm_ref="web-2")])
    cloud.answers = {"DELETE": [204], "GET": [404]}
    assert place.run("tick", "--once", "--json").json()["rows_released"] == 1
    place.insert([allocation("a", NOW - HOUR, vm_ref="web-1")])
    cloud.answers = {"DELETE": [202, 404], "GET": [200]}
    report = place.run("tick", "--once", "--json").json()
    assert (report["exit_code"], report["rows_already_released"]) == (0, 1)
    assert place.released() == {"first", "a"}


def test_after_an_ended_call_not_found_is_like_any_other(cloud: Cloud, place: Place, tmp_path: Path) -> None:
    """As the page says: unfinished work is no proof of what comes after it. This one has never released anything."""
    release = '[release]\ntimeout = "2s"\n'
    argv = [script(tmp_path, cloud.url), "{vm_ref}"]
    place.configure(command_provisioner(argv, "already = [3]"), PERMISSIVE, release)
    place.make_ledger([allocation("a", NOW - HOUR, vm_ref="web-1")])
    cloud.answers = {"DELETE": [202, 404], "GET": [200]}
    report = place.run("tick", "--once", "--json").json()
    assert (report["exit_code"], [error["code"] for error in report["errors"]]) == (8, ["unproven"])
    assert place.released() == set()
