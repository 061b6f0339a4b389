"""Who may have written a configuration: real files with real modes and owners, judged for root and for others."""

import grp
import os
import pwd
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from autorelease.errors import ConfigurationError
from autorelease.trust import refuse_untrusted
from tests.e2e.unprivileged import OTHER_USER
from tests.support.place import DAY, LEDGER_PROVISIONER, NOW, PERMISSIVE, Place, allocation

IS_ROOT = os.geteuid() == 0
ROOT = 0
# Who runs the suite, or anybody.
SOMEBODY = 1000 if IS_ROOT else os.geteuid()
STRANGER = 65534
# What an ordinary user makes is no folder that root would believe.
READERS = [ROOT, SOMEBODY] if IS_ROOT else [SOMEBODY]
needs_root = pytest.mark.skipif(not IS_ROOT, reason="needs root: only root can give a file to another user")


def judge(path: Path, user: int, **state: int) -> None:
    """Judge a file as `user` would; state: what only root could make of it, as st_uid and st_gid."""
    found = list(path.stat())
    for name, value in {"st_uid": 0, "st_gid": 0, **state}.items():
        found[getattr(stat, name.upper())] = value
    refuse_untrusted(path, os.stat_result(found), user)


def refusal(path: Path, user: int, **state: int) -> str:
    with pytest.raises(ConfigurationError) as caught:
        judge(path, user, **state)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


def is_alone_in(group: int, user: int) -> bool:
    """Whether nobody but root and this user is in a group, which is the user's own: it takes nothing away then."""
    if group == ROOT:
        return True
    names = {other.pw_name for other in pwd.getpwall() if other.pw_uid == user}
    users = {other.pw_uid for other in pwd.getpwall() if other.pw_gid == group}
    return users == {user} and any(each.gr_gid == group and set(each.gr_mem) <= names for each in grp.getgrall())


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration in a folder of its own."""
    path = tmp_path / "etc" / "config.toml"
    path.parent.mkdir(mode=0o750)
    path.touch(mode=0o640)
    return path


@pytest.mark.parametrize("user", READERS)
@pytest.mark.parametrize("mode", [0o400, 0o600, 0o640, 0o644, 0o444])
def test_what_its_owner_alone_can_write_is_believed(config: Path, mode: int, user: int) -> None:
    config.chmod(mode)
    judge(config, user, st_gid=STRANGER)


@pytest.mark.parametrize("user", READERS)
@pytest.mark.parametrize("mode", [0o602, 0o646, 0o666, 0o777])
def test_what_everybody_can_write_is_believed_by_nobody(config: Path, mode: int, user: int) -> None:
    config.chmod(mode)
    assert refusal(config, user).endswith(f": chmod o-w {config}")


@pytest.mark.parametrize("user", READERS)
def test_what_everybody_can_replace_is_believed_by_nobody(config: Path, user: int) -> None:
    config.parent.chmod(0o777)
    assert refusal(config, user).endswith(f": chmod o-w {config.parent}")
    # In /tmp, nobody removes what is another's.
    config.parent.chmod(0o1777)
    judge(config, user)


def test_a_link_is_as_good_as_what_it_leads_to_and_as_where_it_lies(config: Path, tmp_path: Path) -> None:
    link = tmp_path / "here" / "config.toml"
    link.parent.mkdir()
    link.symlink_to(config)
    judge(link, READERS[0])
    config.parent.chmod(0o777)
    assert refusal(link, SOMEBODY).endswith(f": chmod o-w {config.parent}")
    config.parent.chmod(0o755)
    link.parent.chmod(0o777)
    assert refusal(link, SOMEBODY).endswith(f": chmod o-w {link.parent}")


@pytest.mark.parametrize("user", READERS)
@pytest.mark.parametrize("mode", [0o777, 0o757, 0o733])
def test_each_folder_on_the_way_counts(tmp_path: Path, mode: int, user: int) -> None:
    """Whoever can rename one of them puts another file in the place of the configuration."""
    path = tmp_path / "far" / "up there" / "etc" / "config.toml"
    path.parent.mkdir(parents=True)
    path.touch()
    judge(path, user)
    for folder in (tmp_path / "far", tmp_path / "far" / "up there"):
        folder.chmod(mode)
        letters = "go" if mode & 0o020 and not is_alone_in(folder.stat().st_gid, user) else "o"
        assert refusal(path, user).endswith(f": chmod {letters}-w {shlex.quote(str(folder))}")
        folder.chmod(0o755)


def test_each_link_on_the_way_counts(tmp_path: Path) -> None:
    """One that is in the midst of the path, one that leads to another, one that goes up again."""
    real = tmp_path / "real" / "etc"
    real.mkdir(parents=True)
    (real / "config.toml").touch()
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "link").symlink_to(tmp_path / "b" / "link")
    (tmp_path / "b" / "link").symlink_to("../c/../real")
    path = tmp_path / "a" / "link" / "etc" / ".." / "etc" / "config.toml"
    judge(path, READERS[0])
    for folder in (tmp_path / "a", tmp_path / "b", tmp_path / "real", real, tmp_path):
        folder.chmod(0o757)
        assert refusal(path, READERS[0]).endswith(f": chmod o-w {folder}")
        folder.chmod(0o755)


@needs_root
@pytest.mark.parametrize("user", [ROOT, SOMEBODY])
def test_a_file_of_anybody_but_root_and_the_reader_is_not_believed(config: Path, user: int) -> None:
    message = refusal(config, user, st_uid=STRANGER)
    assert f"chown root {config}" in message
    assert "runuser -u " in message
    judge(config, SOMEBODY, st_uid=SOMEBODY)
    judge(config, user, st_uid=0)


@needs_root
@pytest.mark.parametrize("user", [ROOT, SOMEBODY])
def test_a_folder_of_anybody_but_root_and_the_reader_is_not_believed(tmp_path: Path, user: int) -> None:
    """Also where its owner has no right to write in it by now: they can take it."""
    path = tmp_path / "home" / "etc" / "config.toml"
    path.parent.mkdir(parents=True)
    path.touch()
    for folder in (path.parent, path.parent.parent):
        os.chown(folder, STRANGER, STRANGER)
        folder.chmod(0o555)
        message = refusal(path, user)
        assert f"because {folder} belongs to them: chown root {folder}, or run as that user: runuser -u " in message
        os.chown(folder, user, STRANGER)
        judge(path, user)


@pytest.mark.parametrize("user", READERS)
def test_what_a_group_can_write_is_believed_by_nobody(config: Path, user: int) -> None:
    config.chmod(0o660)
    assert refusal(config, user, st_gid=STRANGER).endswith(f": chmod g-w {config}")
    # Of root's own group nobody is but who may be root.
    judge(config, user, st_gid=0)


@needs_root
@pytest.mark.parametrize("mode", [0o770, 0o2770, 0o775])
def test_a_folder_that_a_group_can_write_is_believed_by_nobody(config: Path, mode: int) -> None:
    os.chown(config.parent, 0, STRANGER)
    config.parent.chmod(mode)
    for user in (ROOT, SOMEBODY):
        assert refusal(config, user).endswith(f"its group can write in {config.parent}: chmod g-w {config.parent}")


@needs_root
def test_a_group_of_the_reader_alone_is_the_reader(config: Path, private_user: tuple[int, int]) -> None:
    """Many systems give each user such a group, and make everything so that it can write."""
    user, group = private_user
    os.chown(config.parent, user, group)
    config.parent.chmod(0o775)
    config.chmod(0o664)
    judge(config, user, st_uid=user, st_gid=group)
    # To anybody else it is a group as any other.
    assert "chmod g-w" in refusal(config, ROOT, st_gid=group)
    # A list that is attached shows as the group's right, and is of others.
    if shutil.which("setfacl"):
        subprocess.run(["setfacl", "-m", "u:daemon:rwx", config.parent], check=True)
        assert "chmod g-w" in refusal(config, user, st_uid=user, st_gid=group)


@pytest.fixture
def private_user() -> tuple[int, int]:
    """A user who is alone in their group, of those that are here."""
    everybody = pwd.getpwall()
    for user in everybody:
        alone = sum(other.pw_gid == user.pw_gid for other in everybody) == 1
        if user.pw_uid not in (ROOT, STRANGER) and alone and not grp.getgrgid(user.pw_gid).gr_mem:
            return user.pw_uid, user.pw_gid
    pytest.skip("NOT CHECKED: no user here is alone in a group")


@needs_root
def test_where_everybody_may_make_files_each_belongs_to_its_owner(config: Path, tmp_path: Path) -> None:
    """As in /tmp: who owns what lies there can replace it."""
    shared = tmp_path / "tmp"
    shared.mkdir()
    shared.chmod(0o1777)
    shutil.move(config.parent, shared / "etc")
    path = shared / "etc" / "config.toml"
    judge(path, SOMEBODY)
    (tmp_path / "etc").symlink_to(shared / "link")
    (shared / "link").symlink_to("etc")
    linked = tmp_path / "etc" / "config.toml"
    judge(linked, SOMEBODY)
    os.chown(shared / "link", STRANGER, STRANGER, follow_symlinks=False)
    assert refusal(linked, SOMEBODY).find(f": chown -h root {shared / 'link'}, or run as") > 0
    judge(path, SOMEBODY)
    os.chown(shared, STRANGER, STRANGER)
    assert f"chown root {shared}" in refusal(path, SOMEBODY)


def test_a_device_that_keeps_nothing_is_no_file_that_was_written() -> None:
    refuse_untrusted(Path(os.devnull), Path(os.devnull).stat(), ROOT)


@pytest.mark.parametrize("user", READERS)
def test_a_pipe_of_the_shell_is_believed(user: int) -> None:
    """As in `--config <(generate)`: /dev/fd/63, which leads to what has no name."""
    reading, writing = os.pipe()
    try:
        refuse_untrusted(Path(f"/dev/fd/{reading}"), os.fstat(reading), user)
    finally:
        os.close(reading)
        os.close(writing)


# --- a mount that nobody can write -----------------------------------------------------------------------------------


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, which becomes read-only; as a ConfigMap of Kubernetes lies in a container."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    tried = subprocess.run(["mount", "-t", "tmpfs", "none", folder], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f"NOT CHECKED: no file system can be mounted here: {tried.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_config_map_is_believed(mounted: Path, place: Place) -> None:
    data = mounted / "..2026_11_27_12_00_00.123456789"
    data.mkdir(mode=0o777)
    place.make_ledger([allocation("due", NOW - DAY)])
    text = place.config.read_text("utf-8").replace("sqlite:///allocations.db", f"sqlite:///{place.ledger}")
    (data / "config.toml").write_text(f'{text}\n[journal]\nurl = "sqlite:///{place.journal}"\n', "utf-8")
    (mounted / "..data").symlink_to(data.name)
    (mounted / "config.toml").symlink_to("..data/config.toml")
    for folder in (mounted, data):
        folder.chmod(0o777)
    place.config = mounted / "config.toml"
    assert f"o-w {mounted}" in place.run("list-expired").err
    subprocess.run(["mount", "-o", "remount,bind,ro", mounted], check=True)
    ran = place.run("tick", "--once")
    assert ran.code == 0, ran.err
    # A unit of systemd sees nearly everything so, and others see it otherwise.
    ran = place.run("list-expired", environment={"INVOCATION_ID": "0" * 32})
    assert ran.code == 4
    assert f"o-w {mounted}" in ran.err


# --- the command ------------------------------------------------------------------------------------------------------


@needs_root
def test_every_command_refuses_and_what_is_told_to_type_mends_it(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="autorelease test ") as name:
        folder = Path(name)
        folder.chmod(0o755)
        inner = folder / "an etc"
        inner.mkdir()
        place = Place(inner)
        place.configure(LEDGER_PROVISIONER, PERMISSIVE)
        place.make_ledger([allocation("due", NOW - DAY)])
        assert place.run("init").code == 0
        os.chown(folder, OTHER_USER, OTHER_USER)
        for words in (("tick", "--once"), ("list-expired",), ("health",), ("hold", "due", "--reason", "a ticket")):
            ran = place.run(*words)
            assert ran.code == 4
            assert f"chown root '{folder}', or run as" in ran.err
        assert place.released() == set()
        subprocess.run(["sh", "-c", f"chown root '{folder}'"], check=True)
        assert place.run("tick", "--once").code == 0
        assert place.released() == {"due"}
