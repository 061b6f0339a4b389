"""Release programs that misbehave: each harms its own row alone, and the next tick puts it right."""

import os

from tests.e2e.reports import error_report, history, sweep, tick_report
from tests.support.measured import run_measured
from tests.support.place import (
    DAY,
    NOW,
    PERMISSIVE,
    Place,
    allocation,
    command_provisioner,
    program,
)

TAIL_BYTES = 4096
# A command alone has some 40 MB.
BOUNDED_KIB = 120 * 1024
# The grandchild is out of our reach, in a session of its own, and has our pipe open. It lives until it is told to end,
# or for a minute where a test fails.
ESCAPES = """
setsid sh -c 'echo $$ > escaped-'"$1"'; left=3000; while test ! -e end && test $left -gt 0; do
    sleep 0.02; left=$((left - 1)); done' &
while test ! -s "escaped-$1"; do sleep 0.01; done
"""
# What is called a second time finds its VM gone, as far as the first call had come.
MISBEHAVES = """
cd '{folder}' || exit 1
echo "$1" >> calls
test -e "gone-$1" && exit 3
case $1 in
    flood) head -c 200000000 /dev/zero | tr '\\0' x; exit 1 ;;
    flood-and-release) true > "gone-$1"; head -c 50000000 /dev/zero ;;
    killed) true > "gone-$1"; kill -s KILL $$ ;;
    killed-too-early) kill -s KILL $$ ;;
    escapes) true > "gone-$1"; {escapes} exit 0 ;;
    *) true > "gone-$1" ;;
esac
"""
HANGS = """
cd '{folder}' || exit 1
echo "$1" >> calls
test -e "gone-$1" && exit 3
case $1 in
    hangs) exec sleep 60 ;;
    hangs-afterwards) true > "gone-$1"; exec sleep 60 ;;
    escapes-and-hangs) {escapes} exec sleep 60 ;;
    *) true > "gone-$1" ;;
esac
"""


def prepare(place: Place, script: str, *sids: str, release: str = "") -> None:
    """Rows that are due, one that is not, and a program of which each row gets its own fault."""
    path = program(place.folder, script.format(folder=place.folder, escapes=ESCAPES))
    place.configure(command_provisioner([path, "{sid}"], "already = [3]"), PERMISSIVE, f"[release]\n{release}\n")
    place.make_ledger(allocation(sid, NOW - DAY + number) for number, sid in enumerate(sids))
    place.insert([allocation("later", NOW + DAY)])


def mend(place: Place) -> None:
    """From now on the program says of each VM whether it was there."""
    body = f'cd "{place.folder}" || exit 1; echo "$1" >> calls; test -e "gone-$1" && exit 3; true > "gone-$1"'
    program(place.folder, body)


def check_converged(place: Place, *sids: str) -> None:
    """All are released and gone, nothing else is, and the journal knows how each ended."""
    assert place.released() == set(sids)
    assert {path.name.removeprefix("gone-") for path in place.folder.glob("gone-*")} == set(sids)
    ends = place.query(
        "SELECT sid, outcome FROM events WHERE id IN (SELECT max(id) FROM events GROUP BY sid) AND sid IS NOT NULL",
        database=place.journal,
    )
    assert {sid for sid, outcome in ends if outcome in ("released", "already_released")} == set(sids)
    assert place.query("SELECT sid FROM attempts WHERE intent_at > ''", database=place.journal) == []


def calls(place: Place) -> list[str]:
    """What the program was called for, in order."""
    return (place.folder / "calls").read_text(encoding="utf-8").split()


def test_a_flood_a_kill_and_an_escape_harm_their_own_rows_alone(place: Place) -> None:
    sids = ("flood", "flood-and-release", "killed", "killed-too-early", "escapes", "good", "good-too")
    prepare(place, MISBEHAVES, *sids, release="attempts = 1")
    ran, peak_kib = run_measured(place, "tick", "--once", "--json")
    report = tick_report(ran, 3)
    assert peak_kib < BOUNDED_KIB
    escaped = int((place.folder / "escaped-escapes").read_text(encoding="ascii"))
    # It was neither waited for nor ended.
    os.kill(escaped, 0)
    (place.folder / "end").touch()
    assert place.released() == {"flood-and-release", "escapes", "good", "good-too"}
    errors = {error["sid"]: error for error in report["errors"]}
    assert errors.keys() == {"flood", "killed", "killed-too-early"}
    assert 1000 < len(errors["flood"]["message"].encode()) <= TAIL_BYTES + 100
    assert errors["flood"]["message"].endswith("xxx")
    for sid in ("killed", "killed-too-early"):
        assert "killed by SIGKILL" in errors[sid]["message"]
        assert [event["event"] for event in history(place, "--sid", sid)["events"]] == ["intent", "outcome"]
    mend(place)
    assert place.run("retry", "--all").code == 0
    after = sweep(place)
    # That it is gone is what was to be expected of one that was killed in its work.
    assert (after["rows_released"], after["rows_already_released"]) == (2, 1)
    check_converged(place, *sids)


def test_programs_that_hang_end_with_their_time(place: Place) -> None:
    sids = ("hangs", "hangs-afterwards", "escapes-and-hangs", "good", "good-too")
    prepare(place, HANGS, *sids, release='attempts = 1\ntimeout = "3s"')
    report = sweep(place, code=3)
    os.kill(int((place.folder / "escaped-escapes-and-hangs").read_text(encoding="ascii")), 0)
    (place.folder / "end").touch()
    assert place.released() == {"good", "good-too"}
    assert {error["sid"] for error in report["errors"]} == set(sids) - place.released()
    for error in report["errors"]:
        assert error["retryable"]
        assert "took longer than 3 s" in error["message"]
    mend(place)
    assert place.run("retry", "--all").code == 0
    after = sweep(place)
    assert (after["rows_released"], after["rows_already_released"]) == (2, 1)
    check_converged(place, *sids)


def test_a_journal_that_is_removed_between_two_ticks(place: Place) -> None:
    """With it every hold is forgotten: so nothing is released, and none is silently made anew."""
    prepare(place, MISBEHAVES, "first")
    assert sweep(place)["rows_released"] == 1
    place.insert([allocation("due", NOW - DAY), allocation("held", NOW - DAY)])
    assert place.run("hold", "held", "--reason", "an operator's wish").code == 0
    away = place.journal.rename(place.folder / "away.db")
    before = place.ledger.read_bytes()
    for _ in range(2):
        message = error_report(place.run("tick", "--once", "--json"), 5)["message"]
        assert str(place.journal) in message
        assert "autorelease init" in message
    assert (place.ledger.read_bytes(), place.journal.exists()) == (before, False)
    assert calls(place) == ["first"]
    away.rename(place.journal)
    report = sweep(place)
    assert (report["rows_released"], report["skipped"]["held"]) == (1, 1)
    assert calls(place) == ["first", "due"]
    check_converged(place, "first", "due")
