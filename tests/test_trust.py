"""Who may have written a configuration: real files with real modes, judged for root and for somebody else."""

import os
import stat
from pathlib import Path

import pytest

from autorelease.errors import ConfigurationError
from autorelease.trust import refuse_untrusted

ROOT = 0
SOMEBODY = 1000
STRANGER = 65534


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


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration in a folder of its own."""
    path = tmp_path / "etc" / "config.toml"
    path.parent.mkdir(mode=0o750)
    path.touch(mode=0o640)
    return path


@pytest.mark.parametrize("user", [ROOT, SOMEBODY])
@pytest.mark.parametrize("mode", [0o400, 0o600, 0o640, 0o644, 0o444])
def test_what_its_owner_alone_can_write_is_believed(config: Path, mode: int, user: int) -> None:
    config.chmod(mode)
    judge(config, user, st_gid=STRANGER)


@pytest.mark.parametrize("user", [ROOT, SOMEBODY])
@pytest.mark.parametrize("mode", [0o602, 0o646, 0o666, 0o777])
def test_what_everybody_can_write_is_believed_by_nobody(config: Path, mode: int, user: int) -> None:
    config.chmod(mode)
    assert refusal(config, user).endswith(f": chmod o-w {config}")


@pytest.mark.parametrize("user", [ROOT, SOMEBODY])
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
    judge(link, ROOT)
    config.parent.chmod(0o777)
    assert refusal(link, SOMEBODY).endswith(f": chmod o-w {config.parent}")
    config.parent.chmod(0o755)
    link.parent.chmod(0o777)
    assert refusal(link, SOMEBODY).endswith(f": chmod o-w {link.parent}")


def test_root_believes_no_file_of_another_user(config: Path) -> None:
    said = refusal(config, ROOT, st_uid=STRANGER)
    assert f"chown root {config}" in said
    assert "runuser -u " in said
    judge(config, SOMEBODY, st_uid=STRANGER)
    judge(config, SOMEBODY, st_uid=SOMEBODY)


def test_root_believes_no_file_that_a_group_other_than_its_own_can_write(config: Path) -> None:
    config.chmod(0o660)
    assert refusal(config, ROOT, st_gid=STRANGER).endswith(f": chmod g-w {config}")
    judge(config, ROOT, st_gid=0)
    judge(config, SOMEBODY, st_gid=STRANGER)


def test_a_device_that_keeps_nothing_is_no_file_that_was_written() -> None:
    refuse_untrusted(Path(os.devnull), Path(os.devnull).stat(), ROOT)
