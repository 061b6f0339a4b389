"""By what a command finds VMs: the same text as long as it does so in the same way, another one else, and no secret."""

import hashlib
import json
import logging
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from autorelease.ledger import open_ledger
from autorelease.provisioners import Identifying, open_provisioners
from autorelease.provisioners import identity as module
from autorelease.settings import load_settings
from tests.support.locks import own_locks
from tests.support.place import LEDGER_PROVISIONER, NOW, Place, allocation, program

SECRET = "hunter2"
LONG_SECONDS = 20


def fingerprint(argv: Sequence[object], **options: Any) -> str | None:
    """Of a section of the configuration, as a tick asks for it."""
    sections = {"default": {"kind": "command", "argv": [str(word) for word in argv], **options}}
    opened = open_provisioners(sections, Path("/etc/x.toml"), timedelta(seconds=1), stamps=True)["default"]
    assert isinstance(opened.provisioner, Identifying)
    return opened.provisioner.fingerprint()


def known(argv: Sequence[object], **options: Any) -> str:
    """The same, where there is one."""
    found = fingerprint(argv, **options)
    assert found is not None
    return found


def test_it_is_the_template_and_the_files_that_it_names(tmp_path: Path) -> None:
    script, region = program(tmp_path, "exit 0"), tmp_path / "region.conf"
    region.write_text("north")
    assert json.loads(known([script, "--region", region, "{vm_ref}"])) == {
        "kind": "command",
        "argv": [str(script), "--region", str(region), "{vm_ref}"],
        "files": {
            "0": hashlib.sha256(script.read_bytes()).hexdigest(),
            "2": hashlib.sha256(b"north").hexdigest(),
        },
    }
    assert known(["true", "{sid}"]) == known(["true", "{sid}"])


def test_what_does_not_change_where_it_looks_changes_nothing(tmp_path: Path) -> None:
    script, look = program(tmp_path, "exit 0"), program(tmp_path, "exit 1", name="look")
    before = known([script, "{sid}"])
    assert known([script, "{sid}"], exists=[str(look), "{sid}"], already=[3], pending=[4], retry=[], down=[9]) == before
    os.utime(script, (1, 1))
    script.chmod(0o700)
    assert known([script, "{sid}"]) == before


@pytest.mark.parametrize("spelling", ["{0}", "--config={0}", "@{0}", "--data=@{0}", "{1}"])
def test_another_content_of_a_file_is_another_place(tmp_path: Path, spelling: str) -> None:
    """Also where it is named behind an option, or relative to the folder that programs are started in."""
    region = tmp_path / "region.conf"
    region.write_text("north")
    argv = ["true", spelling.format(region, region.relative_to("/"))]
    before = known(argv)
    region.write_text("south")
    after = known(argv)
    assert (before == after, before.replace("{", "")[:9] == after.replace("{", "")[:9]) == (False, True)
    region.unlink()
    assert known(argv) not in (before, after)


def test_another_program_or_word_is_another_place(tmp_path: Path) -> None:
    script = program(tmp_path, "exit 0")
    found = {known([script, "{sid}"]), known([script, "{vm_ref}"]), known([script, "--region=south", "{sid}"])}
    program(tmp_path, "exit 3")
    found |= {known([script, "{sid}"]), known(["true", "{sid}"]), known(["false", "{sid}"])}
    assert len(found) == 6


def test_a_link_to_another_file_is_another_place(tmp_path: Path) -> None:
    for name in ("north", "south"):
        (tmp_path / name).write_text(name)
    link = tmp_path / "current"
    link.symlink_to("north")
    before = known(["true", link])
    link.unlink()
    link.symlink_to("south")
    assert known(["true", link]) != before


SECRETS = [
    [f"--token={SECRET}"],
    ["--token", SECRET],
    ["--api-key", SECRET],
    ["-password", SECRET],
    [f"PGPASSWORD={SECRET}"],
    [f"--secret-id={SECRET} with a space"],
    [f"--passphrase={SECRET}"],
    ["-u", f"admin:{SECRET}"],
    ["--user", f"admin:{SECRET}"],
    ["-H", f"Authorization: Bearer {SECRET}"],
    [f"--header=Authorization: Basic {SECRET}"],
    [f"X-Auth-Token: {SECRET}"],
    [f"https://admin:{SECRET}@api.example.net/v1"],
    [f"https://admin:p@{SECRET}@api.example.net/v1"],
    [f"https://api.example.net/v1?access_token={SECRET}&region=north"],
    [f"https://api.example.net/v1?region=north&apikey={SECRET}"],
    ["-lc", f"TOKEN='{SECRET} with a space' exec release-vm"],
    ["-lc", f'export API_TOKEN="{SECRET} with a space"; exec release-vm'],
    ["-c", f'curl -H "Authorization: Bearer {SECRET}" "https://api/$1"'],
    ["-c", f"TOKEN={SECRET} exec release-vm"],
]


@pytest.mark.parametrize("words", SECRETS, ids=" ".join)
def test_no_secret_is_in_it_and_a_new_one_changes_nothing(words: Sequence[str]) -> None:
    found = known(["true", *words, "{sid}"])
    assert SECRET not in found
    assert hashlib.sha256(SECRET.encode()).hexdigest() not in found
    assert known(["true", *(word.replace(SECRET, "hunter3") for word in words), "{sid}"]) == found
    assert known(["true", *words, "{vm_ref}"]) != found


@pytest.mark.parametrize(
    "words",
    [
        ["-c", "TOKEN=hunter2 exec release-vm --region=%s"],
        ["-c", 'curl -H "Authorization: Bearer hunter2" "https://%s.example.net/$1"'],
        ["https://api.example.net/v1?access_token=hunter2&region=%s"],
        ["https://admin:hunter2@%s.example.net/v1"],
        ["--token=hunter2", "--region=%s"],
        ["--token", "hunter2", "%s"],
        ["-u", "%s:hunter2"],
        ["--token-file", "/etc/%s"],
    ],
    ids=" ".join,
)
def test_what_stands_beside_a_secret_is_told_apart(words: Sequence[str]) -> None:
    """Another region, host or account is another place, with whatever secret."""
    north, south = (known(["true", *(word.replace("%s", each) for word in words)]) for each in ("north", "south"))
    assert north != south
    assert "hunter2" not in north + south


@pytest.mark.parametrize(
    ("before", "name", "mode"),
    [
        ("", "token", 0o644),
        ("", "api-key.txt", 0o644),
        ("", "password.conf", 0o640),
        ("", "plain.conf", 0o600),
        ("", "plain.conf", 0o400),
        ("--token-file", "plain.conf", 0o644),
        ("--private-key", "plain.pem", 0o644),
        ("--token-file=", "plain.conf", 0o644),
        ("--header", "@plain.conf", 0o644),
    ],
)
def test_a_file_with_a_secret_is_left_out(tmp_path: Path, before: str, name: str, mode: int) -> None:
    path = tmp_path / name.removeprefix("@")
    words = [f"{before}{path}"] if before.endswith("=") else [before, name.replace(path.name, str(path))]

    def found(content: str) -> str:
        path.unlink(missing_ok=True)
        path.write_text(content)
        path.chmod(mode)
        return known(["true", *words])

    assert found(SECRET) == found("hunter3")
    assert hashlib.sha256(SECRET.encode()).hexdigest() not in found(SECRET)


def test_a_program_is_no_secret_whatever_its_name(tmp_path: Path) -> None:
    script = program(tmp_path, "exit 0", name="release-by-token")
    script.chmod(0o700)
    before = known(["env", script])
    program(tmp_path, "exit 3", name="release-by-token").chmod(0o700)
    assert known(["env", script]) != before


def test_what_is_no_regular_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    words = [tmp_path / "fifo", tmp_path, "/dev/zero", "/", ".", "x" * 5000, "/x" * 5000, "a\nb"]
    assert json.loads(known(["true", *words]))["files"].keys() == {"0"}


def test_of_a_huge_file_the_beginning_and_the_size_must_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 1000)
    image = tmp_path / "image"
    found = set()
    for content in (b"x" * 1000, b"x" * 1001, b"x" * 1002, b"y" + b"x" * 1001):
        image.write_bytes(content)
        found.add(known(["true", image]))
    assert len(found) == 4
    assert any("of the beginning of 1002 bytes" in text for text in found)


def test_a_ledger_that_is_named_keeps_the_locks_of_its_connection(tmp_path: Path) -> None:
    """Without them another program takes itself for the last one, and removes the -wal with our stamps in it."""
    place = Place(tmp_path)
    place.configure(LEDGER_PROVISIONER)
    place.make_ledger([allocation("a", NOW)], wal=True)
    ledger = open_ledger(load_settings(place.config, None), read_only=False)
    ledger.version()
    locks = own_locks(place.ledger)
    assert locks
    before = known(["true", "--db", place.ledger, "{sid}"])
    assert own_locks(place.ledger) == locks
    assert known(["true", f"--db={place.ledger}", "{sid}"]) != before
    assert own_locks(place.ledger) == locks
    ledger.close()
    place.execute("PRAGMA user_version = 7")
    assert known(["true", "--db", place.ledger, "{sid}"]) != before


def test_a_file_on_a_disk_that_hangs_holds_up_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hung, well = tmp_path / "hung.conf", tmp_path / "well.conf"
    for path in (hung, well):
        path.write_text("north")
    opened, is_waiting, may_go_on = module._without_waiting, threading.Event(), threading.Event()

    def hang(path: Path) -> int:
        if path == hung:
            is_waiting.set()
            may_go_on.wait(LONG_SECONDS)
        return opened(path)

    monkeypatch.setattr(module, "_without_waiting", hang)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(known, ["true", hung])
        assert is_waiting.wait(LONG_SECONDS)
        try:
            assert str(well) in threads.submit(known, ["true", well]).result(LONG_SECONDS)
            assert not first.done()
        finally:
            may_go_on.set()
        assert str(hung) in first.result(LONG_SECONDS)


def test_a_program_that_is_missing_is_nothing_to_believe(tmp_path: Path) -> None:
    assert fingerprint([tmp_path / "missing"]) is None
    assert fingerprint(["no-program-has-this-name"]) is None


def test_a_file_that_cannot_be_read_is_nothing_to_believe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody would see it change. Root may read all, so that the refusal is made here."""
    region = tmp_path / "region.conf"
    region.write_text("north")

    def refuse(path: Path) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(module, "_without_waiting", refuse)
    with caplog.at_level(logging.WARNING):
        assert fingerprint(["true", region]) is None
    assert "cannot be read, so no 'not found' is believed: Permission denied" in caplog.text


def test_a_stamp_earns_nothing() -> None:
    sections = {"default": {"kind": "ledger"}}
    opened = open_provisioners(sections, Path("/etc/x.toml"), timedelta(seconds=1), stamps=True)["default"]
    assert isinstance(opened.provisioner, Identifying)
    assert opened.provisioner.fingerprint() is None
