"""The installed command and a provider of VMs in a folder: when its "not found" is believed, and what must be typed."""

import json
import signal
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from tests.e2e.reports import sweep
from tests.support.place import DAY, HOUR, LEDGER_PROVISIONER, NOW, PERMISSIVE, Place, allocation, program

# What is in `vms` is there. Where `lost` is, it looks in the wrong place; the files are not named in any argv. `shot`
# names the call that shoots the tick, when its VM is gone; a call that finds `slow` takes its time.
RELEASE = """
cd '{folder}' || exit 1
echo "$1" >> calls
[ -e lost ] && exit 3
[ -e slow ] && exec sleep 30
[ -e dies ] && kill -s KILL $$
rm "vms/$1" 2> /dev/null || exit 3
[ "$(cat shot 2> /dev/null)" != "$(wc -l < calls)" ] || {{ rm shot; kill -s KILL $PPID; }}
"""
LOOK = """
cd '{folder}' || exit 1
[ -e lost ] && exit 3
[ -e "vms/$1" ] || exit 3
"""


class Provider:
    """The VMs, and the two programs that know of them."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.folder = place.folder
        self.release = program(self.folder, RELEASE.format(folder=self.folder), "release-vm")
        self.look = program(self.folder, LOOK.format(folder=self.folder), "look-for-vm")
        (self.folder / "vms").mkdir()
        (self.folder / "calls").touch()

    def configure(
        self, *sections: str, argv: Iterable[object] = (), exists: bool = False, name: str = "default"
    ) -> None:
        """A section of kind command with this name, called with these words besides."""
        lines = [
            f"[provisioners.{name}]",
            'kind = "command"',
            f"argv = {json.dumps([str(self.release), '{vm_ref}', *map(str, argv)])}",
            f"exists = {json.dumps([str(self.look), '{vm_ref}'] if exists else [])}",
            "already = [3]",
        ]
        self.place.configure("\n".join(lines) + "\n", *(sections or (PERMISSIVE,)))

    def add(self, *sids: str, is_there: bool = True, expires_at: int = NOW - DAY, **columns: Any) -> None:
        """Rows, and their VMs."""
        self.place.insert(allocation(sid, expires_at, vm_ref=sid, **columns) for sid in sids)
        for sid in sids if is_there else ():
            (self.folder / "vms" / sid).touch()

    def standing(self) -> set[str]:
        """The VMs that are there."""
        return {path.name for path in (self.folder / "vms").iterdir()}

    def mark(self, name: str, text: str = "") -> None:
        """Something goes wrong from now on."""
        (self.folder / name).write_text(text, encoding="utf-8")

    def calls(self) -> int:
        """How often the program was run."""
        return len((self.folder / "calls").read_text(encoding="utf-8").splitlines())


@pytest.fixture
def provider(place: Place) -> Provider:
    """A provider of nothing yet, and an empty ledger."""
    made = Provider(place)
    made.configure()
    place.make_ledger()
    return made


def named(number: int, word: str) -> list[str]:
    """So many sids."""
    return [f"{word}-{each:02}" for each in range(number)]


def unproven(provider: Provider, sids: Iterable[str], *arguments: str) -> None:
    """A tick that misses these, believes nothing, leaves what stands as it is, and says what to type."""
    wanted, before = set(sids), provider.standing()
    ran = provider.place.run("tick", "--once", "--json", *arguments)
    report = ran.json()
    assert ran.code == report["exit_code"] == 8
    assert {error["sid"] for error in report["errors"] if error["code"] == "unproven"} == wanted
    assert not provider.place.released() & wanted
    assert provider.standing() <= before
    assert f"autorelease tick --once --confirm {len(wanted)}" in ran.err


# --- F2: belief belongs to what looks, not to its name ----------------------------------------------------------------


def test_thirty_stamps_are_no_history_of_a_program(provider: Provider) -> None:
    provider.place.configure(LEDGER_PROVISIONER, PERMISSIVE)
    provider.add(*named(30, "stamped"))
    assert sweep(provider.place)["rows_released"] == 30
    provider.configure()
    living = named(25, "living")
    provider.add(*living)
    provider.mark("lost")
    unproven(provider, living)


CHANGES: dict[str, tuple[Callable[[Provider], object], bool]] = {
    "nothing": (Provider.calls, True),
    "what asks whether they are there": (lambda provider: provider.look.write_text("#!/bin/sh\nexit 0\n"), True),
    "a word of argv": (lambda provider: provider.configure(argv=["--project=b"], exists=True), False),
    "the program": (lambda provider: provider.release.write_text("#!/bin/sh\nexit 3\n"), False),
    "a file that argv names": (lambda provider: (provider.folder / "cloud.conf").write_text("project = b"), False),
}


@pytest.mark.parametrize("name", CHANGES)
def test_whoever_looks_elsewhere_begins_without_credit(provider: Provider, name: str) -> None:
    change, is_kept = CHANGES[name]
    conf = provider.folder / "cloud.conf"
    conf.write_text("project = a", encoding="utf-8")
    conf.chmod(0o644)
    argv = [f"--config={conf}"]
    provider.configure(argv=argv, exists=True)
    provider.add("first")
    provider.add("paying", expires_at=NOW + DAY)
    assert sweep(provider.place)["rows_released"] == 1
    provider.add("a", "b", is_there=False)
    change(provider)
    if is_kept:
        assert sweep(provider.place)["rows_already_released"] == 2
    else:
        unproven(provider, ["a", "b"])


def test_a_section_that_was_renamed_keeps_its_credit(provider: Provider) -> None:
    provider.configure(exists=True)
    provider.add("first")
    assert sweep(provider.place)["rows_released"] == 1
    provider.configure(exists=True, name="cloud")
    provider.add("paying", expires_at=NOW + DAY, provisioner="cloud")
    provider.add("a", "b", is_there=False, provisioner="cloud")
    assert sweep(provider.place)["rows_already_released"] == 2


# --- F3: what was lost is no proof ------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", ["slow", "dies"])
def test_calls_that_were_lost_make_nothing_believed(provider: Provider, trouble: str) -> None:
    provider.configure(PERMISSIVE, '[release]\ntimeout = "500ms"\nconcurrency = 10\nattempts = 1\n')
    sids = named(10, "living")
    provider.add(*sids)
    provider.mark(trouble)
    assert provider.place.run("tick", "--once").code in (3, 8)
    (provider.folder / trouble).unlink()
    provider.mark("lost")
    for _ in range(2):
        assert provider.place.run("retry", "--all").code == 0
        unproven(provider, sids)
    assert provider.standing() == set(sids)


# --- F4: a token that goes wrong --------------------------------------------------------------------------------------


def test_after_fifty_releases_a_wrong_token_is_found_out_in_every_tick(provider: Provider) -> None:
    honest = named(50, "honest")
    provider.add(*honest)
    assert sweep(provider.place)["rows_released"] == 50
    provider.mark("lost")
    living: list[str] = []
    for hour in range(8):
        living += (due := named(3, f"due-{hour}"))
        provider.add(*due)
        unproven(provider, living)
    assert provider.place.released() == set(honest)


def test_whoever_does_not_find_a_paying_customer_is_named_him(provider: Provider) -> None:
    provider.configure(exists=True)
    provider.add("first")
    provider.add("paying", expires_at=NOW + DAY)
    assert sweep(provider.place)["rows_released"] == 1
    provider.add("a", "b")
    provider.mark("lost")
    report = sweep(provider.place, code=8)
    assert all("VM of paying" in error["message"] for error in report["errors"])
    assert provider.standing() == {"a", "b", "paying"}


# --- what a tick that was killed may expect ---------------------------------------------------------------------------


def killed(provider: Provider, at_call: int, *arguments: str) -> None:
    """A tick that is shot in that call, when its VM is gone and nobody knows yet."""
    provider.mark("shot", str(provider.calls() + at_call))
    assert provider.place.run("tick", "--once", *arguments).code == -signal.SIGKILL


def test_with_credit_the_tick_after_a_kill_converges_without_a_word(provider: Provider) -> None:
    provider.add("first")
    assert sweep(provider.place)["rows_released"] == 1
    provider.add("a")
    killed(provider, 1)
    ran = provider.place.run("tick", "--once", "--json")
    report = ran.json()
    assert (ran.code, report["rows_already_released"], report["errors"]) == (0, 1, [])
    assert "ERROR" not in ran.err.upper()
    assert provider.place.released() == {"first", "a"}


def test_without_credit_it_says_what_to_type_and_that_admits_these_alone(provider: Provider) -> None:
    provider.add("a")
    killed(provider, 1)
    unproven(provider, ["a"])
    provider.add("b", is_there=False)
    report = sweep(provider.place, "--confirm", "1", code=8)
    assert report["rows_already_released"] == 1
    assert [error["sid"] for error in report["errors"]] == ["b"]
    assert provider.place.released() == {"a"}


# --- F12: what was admitted stays admitted ----------------------------------------------------------------------------

SMALL = "[guard]\nmax_percent = 100\nmax_releases = 10\n[release]\nconcurrency = 1\n"


def test_a_confirmed_plan_survives_a_kill(provider: Provider) -> None:
    provider.configure(SMALL)
    sids = named(40, "due")
    provider.add(*sids)
    sweep(provider.place, code=7)
    killed(provider, 7, "--confirm", "40")
    assert provider.calls() == 7
    ran = provider.place.run("tick", "--once", "--json")
    # The seventh was begun by the tick that was killed; the six before it have earned the credit for that.
    assert (ran.code, ran.json()["refused"]) == (0, []), ran
    assert provider.place.released() == set(sids)


def test_a_confirmed_plan_survives_its_deadline_and_what_joins_it_is_asked_about(provider: Provider) -> None:
    provider.configure(SMALL + 'deadline = "1s"\n')
    provider.release.write_text(provider.release.read_text().replace("rm ", "sleep 0.2; rm ", 1))
    provider.add(*named(40, "due"))
    sweep(provider.place, code=7)
    report = sweep(provider.place, "--confirm", "40", code=3)
    assert 0 < report["rows_released"] < 40
    assert report["rows_released"] + report["skipped"]["deferred"] == 40
    again = sweep(provider.place, code=3)
    assert (again["refused"], again["rows_released"] > 0) == ([], True)
    provider.add(*named(11, "new"))
    assert [each["code"] for each in sweep(provider.place, code=7)["refused"]] == ["max_releases"]


# --- F13: whom a confirmation covers ----------------------------------------------------------------------------------


def test_a_confirmation_covers_what_was_refused_and_nothing_else(provider: Provider) -> None:
    provider.configure(SMALL)
    seen, new = named(60, "seen"), named(40, "new")
    provider.add(*seen)
    sweep(provider.place, code=7)
    provider.place.execute("UPDATE vm_allocations SET expires_at = ? WHERE sid < 'seen-40'", NOW + DAY)
    provider.add(*new, expires_at=NOW - HOUR)
    report = sweep(provider.place, "--confirm", "60", code=3)
    assert (report["rows_released"], report["skipped"]["refused"], report["refused"]) == (20, 40, [])
    assert provider.place.released() == set(seen[40:])
    assert provider.standing() == {*seen[:40], *new}
    assert sweep(provider.place, "--confirm", "60", code=7)["rows_released"] == 0


def test_a_confirmation_of_which_nothing_is_left_releases_nothing(provider: Provider) -> None:
    provider.configure(SMALL)
    provider.add(*named(11, "seen"))
    sweep(provider.place, code=7)
    provider.place.execute("UPDATE vm_allocations SET expires_at = ?", NOW + DAY)
    provider.add("new")
    report = sweep(provider.place, "--confirm", "11", code=7)
    assert [each["code"] for each in report["refused"]] == ["confirm"]
    assert "new" in provider.standing()


def test_the_history_shows_no_plan(provider: Provider) -> None:
    provider.configure(SMALL)
    provider.add(*named(11, "seen"))
    sweep(provider.place, code=7)
    shown = json.loads(provider.place.run("history", "--format", "json").out)
    [tick] = shown["ticks"]
    assert not {"admission", "unproven"} & set(tick)


def test_the_log_of_a_blind_confirmation_does_not_say_to_type_it_again(provider: Provider) -> None:
    provider.configure(SMALL)
    provider.add(*named(11, "seen"))
    for _ in range(2):
        ran = provider.place.run("tick", "--once", "--confirm", "11")
        assert ran.code == 7
        assert "--confirm 11" not in ran.err
    assert provider.standing() == set(named(11, "seen"))
