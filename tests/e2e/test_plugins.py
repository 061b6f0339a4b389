"""The installed command with packages of third parties on its path: one that works, and some that do not."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.reports import check_tick, error_report, footprint, history, tick_report
from tests.support.package import install
from tests.support.parcel import ACCOUNT, TOKEN, Parcel
from tests.support.place import DAY, NOW, PERMISSIVE, Place, Ran, allocation

PLUGIN = Path(__file__).parents[1] / "plugin"
TICK = ("tick", "--once", "--json")


def run(place: Place, folder: Path, *arguments: str) -> Ran:
    """The command, with what is installed in this folder."""
    return place.run(*arguments, environment={"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"})


@pytest.fixture
def parcel() -> Iterator[Parcel]:
    """The cloud of the example."""
    made = Parcel(["web-1", "web-2", "db-1", "locked-1", "spare-1"])
    made.locked.add("locked-1")
    yield made
    made.stop()


@pytest.fixture
def rented(place: Place, parcel: Parcel) -> Place:
    """A place whose VMs are servers there."""
    keys = {"kind": "parcel", "api": parcel.url, "account": ACCOUNT, "token_file": "token"}
    place.configure(
        "[provisioners.default]", *(f"{key} = {json.dumps(value)}" for key, value in keys.items()), PERMISSIVE
    )
    (place.folder / "token").write_text(f"{TOKEN}\n", encoding="ascii")
    expired = [allocation(f"sid-{name}", NOW - DAY, vm_ref=name) for name in ("web-1", "web-2", "locked-1", "../../v1")]
    place.make_ledger([*expired, allocation("sid-db-1", NOW + DAY, vm_ref="db-1")])
    return place


def test_vms_are_released_through_a_plugin(rented: Place, parcel: Parcel) -> None:
    report = tick_report(run(rented, PLUGIN, *TICK), 3)
    assert (report["rows_released"], report["rows_failed"]) == (2, 2)
    assert {error["sid"]: error["message"] for error in report["errors"]} == {
        "sid-locked-1": "not deleted (HTTP 409): locked-1 is locked",
        "sid-../../v1": "'../../v1' is no name of a server",
    }
    assert rented.released() == {"sid-web-1", "sid-web-2"}
    assert parcel.servers == {"db-1", "locked-1", "spare-1"}
    events = history(rented, "--sid", "sid-web-1")["events"]
    assert [(event["event"], event["evidence"]) for event in events] == [("intent", None), ("outcome", "HTTP 204")]
    # Without the package the configuration cannot be used, and what is there is named.
    message = error_report(rented.run(*TICK), 4)["message"]
    assert message.endswith("[provisioners.default] has the unknown kind 'parcel': choose one of command, ledger")


def test_looking_asks_nobody(rented: Place, parcel: Parcel) -> None:
    """Not the cloud, and not for the token, which whoever looks may not be allowed to read."""
    parcel.stop()
    (rented.folder / "token").unlink()
    before = footprint(rented.folder)
    listed = run(rented, PLUGIN, "list-expired", "--format", "json")
    assert (listed.code, listed.json()["counts"]["release"]) == (0, 4)
    assert run(rented, PLUGIN, "tick", "--once", "--dry-run").code == 0
    assert footprint(rented.folder) == before


def test_a_plugin_whose_system_is_down_charges_nobody(rented: Place, parcel: Parcel) -> None:
    parcel.stop()
    report = tick_report(run(rented, PLUGIN, *TICK), 8)
    assert report["skipped"]["deferred"] == 4
    [down] = report["down"]
    assert "cannot be reached: [Errno 111]" in down["message"]
    assert TOKEN not in json.dumps(history(rented))


def test_a_plugin_that_is_broken_is_a_configuration_that_cannot_be_used(rented: Place, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    install(site, "acme-broken", {"parcel": "KIND"}, "import acme_sdk", version="2.0.1")
    before = footprint(rented.folder)
    ran = run(rented, site, *TICK)
    message = error_report(ran, 4)["message"]
    assert "kind 'parcel' of the package acme-broken 2.0.1 cannot be loaded: ModuleNotFoundError" in message
    assert "Traceback" not in ran.err
    listed = run(rented, site, "--log-level", "debug", "list-expired")
    assert listed.code == 4
    assert message in listed.err
    assert "Traceback" in listed.err
    assert footprint(rented.folder) == before


def test_a_plugin_that_takes_the_name_of_ours_is_not_even_loaded(place: Place, tmp_path: Path) -> None:
    trace = tmp_path / "loaded"
    install(tmp_path, "acme-shadow", {"ledger": "KIND"}, f"open({str(trace)!r}, 'w')\nraise SystemExit(0)")
    place.make_ledger([allocation("due", NOW - DAY)])
    report = tick_report(run(place, tmp_path, *TICK), 0)
    assert (report["rows_released"], place.released()) == (1, {"due"})
    assert not trace.exists()


UNRULY = """
    import sys
    from autorelease.model import Release, Result
    from autorelease.provisioners import Kind

    print("unruly 1.0, evaluation copy")

    class Unruly:
        def preflight(self):
            print("ready")

        def release(self, allocation):
            print("releasing", allocation.sid)
            if allocation.sid == "raises":
                raise ConnectionResetError("by peer")
            if allocation.sid == "exits":
                sys.exit(0)
            if allocation.sid == "forgets":
                return None
            if allocation.sid == "spells":
                return Release("released", evidence="204")
            return Release(Result.RELEASED, evidence="204")

        def close(self):
            print("closing")
            raise OSError("not open")

    KIND = Kind(lambda section: Unruly())
"""


def test_a_plugin_that_does_what_it_must_not_ends_nothing_and_releases_nothing(place: Place, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    install(site, "acme-unruly", {"unruly": "KIND"}, UNRULY)
    place.configure('[provisioners.default]\nkind = "unruly"\n', PERMISSIVE)
    bad = ("raises", "exits", "forgets", "spells")
    place.make_ledger([allocation(sid, NOW - DAY) for sid in (*bad, "fine-1", "fine-2")])
    ran = run(place, site, *TICK)
    # One object on standard output, whatever the plugin prints.
    report = tick_report(ran, 3)
    assert "releasing fine-1" in ran.err
    assert (report["rows_released"], place.released()) == (2, {"fine-1", "fine-2"})
    messages = {error["sid"]: error["message"] for error in report["errors"]}
    assert set(messages) == set(bad)
    assert messages["raises"] == "the provisioner broke: ConnectionResetError: by peer"
    assert "a provisioner could not be closed: the provisioner broke: OSError: not open" in ran.err
    # Each may be gone: if its owner renews now, that must be known.
    place.execute("UPDATE vm_allocations SET expires_at = ? WHERE sid = 'raises'", NOW + DAY)
    report = check_tick(run(place, site, *TICK).json(), 3)
    assert [(error["sid"], error["code"]) for error in report["errors"]] == [("raises", "conflict")]


PARTING = """
    import atexit
    import pathlib
    import threading
    import time

    from autorelease.model import Release, Result
    from autorelease.provisioners import Kind

    TRACES = pathlib.Path(__file__).parent

    def linger():
        threading.main_thread().join(0.2)
        (TRACES / "lingered").touch()

    class Parting:
        def preflight(self):
            if (TRACES / "lingers").exists():
                threading.Thread(target=linger, daemon=False).start()

        def release(self, allocation):
            return Release(Result.RELEASED, evidence="204")

        def close(self):
            pass

    def part():
        print("parting words")
        (TRACES / "parted").touch()

    atexit.register(part)
    KIND = Kind(lambda section: Parting())
"""


@pytest.mark.parametrize("lingers", [False, True], ids=["at once", "after its thread"])
def test_what_a_plugin_has_registered_for_the_end_is_run(place: Place, tmp_path: Path, *, lingers: bool) -> None:
    site = tmp_path / "site"
    site.mkdir()
    install(site, "acme-parting", {"parting": "KIND"}, PARTING)
    place.configure('[provisioners.default]\nkind = "parting"\n', PERMISSIVE)
    place.make_ledger([allocation("due", NOW - DAY)])
    if lingers:
        (site / "lingers").touch()
    ran = run(place, site, "tick", "--once")
    assert ran.code == 0
    assert ran.out.endswith("parting words\n")
    assert (site / "parted").exists()
    assert (site / "lingered").exists() == lingers
