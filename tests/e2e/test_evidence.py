"""What a program says is kept as the evidence of whatever it answers, and steers no terminal that shows it."""

import json

import pytest

from tests.e2e.reports import history
from tests.support.place import DAY, NOW, PERMISSIVE, Place, allocation, command_provisioner, program

# A line end, a colour, a tab, a quotation mark, a bell, a character that turns the text around, and what is no UTF-8.
SHOWN = 'HTTP 204\\n\\033[31mred\\tit says "x"\\007\\342\\200\\256\\377'
KEPT = 'HTTP 204\n\x1b[31mred\tit says "x"\x07\u202e\ufffd'
ENDS = {"gone": 0, "missed": 3, "taken": 20, "broken": 1, "busy": 75, "down": 77}
SAYS = (
    f"printf '{SHOWN}'; case $1 in gone) exit 0 ;; missed) exit 3 ;; taken) exit 20 ;; broken) exit 1 ;; "
    "busy) exit 75 ;; esac; exit 77"
)


@pytest.fixture
def answered(place: Place) -> Place:
    """A place where one tick has had every answer."""
    lines = ("already = [3]", "pending = [20]")
    place.configure(
        command_provisioner([program(place.folder, SAYS), "{sid}"], *lines),
        PERMISSIVE,
        "[release]\nattempts = 1\nconcurrency = 1\n",
    )
    place.make_ledger(allocation(sid, NOW - DAY + number) for number, sid in enumerate(ENDS))
    return place


def test_every_answer_has_its_evidence_in_log_history_and_explanation(answered: Place) -> None:
    ran = answered.run("--log-level", "info", "tick", "--once", "--json")
    assert ran.code == 8
    kept = {
        sid: next(event for event in reversed(history(answered, "--sid", sid)["events"]) if event["event"] != "skip")
        for sid in ENDS
        if sid != "down"
    }
    for sid, evidence in (("gone", "exit 0"), ("taken", "exit 20"), ("missed", "exit 3")):
        events = history(answered, "--sid", sid)["events"]
        assert f"{evidence}: {KEPT}" in [event["evidence"] for event in events], events
    assert kept["broken"]["error"] == f"the command failed (exit 1): {KEPT}"
    assert kept["busy"]["error"] == f"the command failed (exit 75): {KEPT}"
    assert ran.json()["down"][0]["message"].endswith(f"(exit 77): {KEPT}")
    shown = [ran.err, *(answered.run("history", "--sid", sid).out for sid in ENDS)]
    shown += [answered.run("explain", sid).out for sid in ENDS]
    for text in shown:
        assert not set("\x1b\x07\u202e") & set(text)
    for sid in ("gone", "taken", "broken", "busy"):
        [line] = [line for line in ran.err.splitlines() if f" sid={sid} " in line]
        assert f"{ENDS[sid]}" in line
        assert "HTTP 204\\n\\u001b[31mred\\tit says" in line
        plain = answered.run("history", "--sid", sid).out
        assert "HTTP 204\\n\\x1b[31mred\\tit says" in plain
        assert len({line.count("\t") for line in plain.splitlines()}) == 1


def test_every_call_that_was_tried_again_is_in_log_and_history(place: Place) -> None:
    body = f"echo >> {place.folder}/calls; printf '{SHOWN}'; [ $(wc -l < {place.folder}/calls) = 3 ] || exit 75"
    place.configure(command_provisioner([program(place.folder, body), "{sid}"]), PERMISSIVE)
    place.make_ledger([allocation("vm-1", NOW - DAY)])
    ran = place.run("--log-format", "json", "tick", "--once")
    assert ran.code == 0
    # What this returns keeps to the schema.
    events = history(place, "--sid", "vm-1")["events"]
    assert [event["event"] for event in events] == ["intent", "attempt", "intent", "attempt", "intent", "outcome"]
    attempts = [event for event in events if event["event"] == "attempt"]
    assert {event["error"] for event in attempts} == {f"the command failed (exit 75): {KEPT}"}
    assert all(isinstance(event["duration_ms"], int) for event in attempts)
    logged = [line for line in map(json.loads, ran.err.splitlines()) if "attempt" in line]
    assert [(line["level"], line["attempt"], line["error"]) for line in logged] == [
        ("info", number, attempts[0]["error"]) for number in (1, 2)
    ]
    assert "attempt" in place.run("explain", "vm-1").out
    assert not set("\x1b\x07") & set(place.run("history", "--sid", "vm-1").out)


def test_the_log_of_json_lines_has_it_as_it_is(answered: Place) -> None:
    ran = answered.run("--log-format", "json", "--log-level", "info", "tick", "--once")
    lines = [json.loads(line) for line in ran.err.splitlines()]
    assert {line["evidence"] for line in lines if line.get("sid") == "gone"} == {f"exit 0: {KEPT}"}
