"""Whether a configuration is to be believed: it names the program that is run, so whoever can write it decides that.

As sshd does it with its StrictModes: the file, and every folder on the way to it, is root's or the reader's own, and
nobody else can write it. Judges what it is handed; knows no key of the file.
"""

import grp
import os
import pwd
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from autorelease.errors import ConfigurationError
from autorelease.text import user_name

# As many links as the kernel follows (path_resolution(7)).
MOST_LINKS = 40


def refuse_untrusted(path: Path, opened: os.stat_result, user: int) -> None:
    """Raise ConfigurationError where somebody else could have written the file, with the command that mends it.

    opened: the state of the very file that is about to be read. user: who reads it (an effective uid).
    """
    if stat.S_ISCHR(opened.st_mode):
        # /dev/null: everybody can write it, and it keeps nothing.
        return
    _refuse_file(path, opened, user)
    for folder, name in _steps(path):
        _refuse_folder(path, folder, name, user)


def _refuse_file(path: Path, opened: os.stat_result, user: int) -> None:
    if opened.st_uid not in (0, user):
        owner = user_name(opened.st_uid)
        raise ConfigurationError(
            f"{path}: belongs to {owner}, and {user_name(user)} would run the program that it names: "
            f"{_take_it_or_be(owner, path)}"
        )
    whom = _who_else_can_write(path, opened, user)
    if whom and not _is_mounted_read_only(path):
        raise ConfigurationError(
            f"{path}: {NAMES[whom]} can write it, and it names the program to run: chmod {whom}-w "
            f"{shlex.quote(str(path))}"
        )


def _refuse_folder(path: Path, folder: Path, name: str, user: int) -> None:
    """Raise ConfigurationError where somebody else could put something else in the place of `name`."""
    state = folder.stat()
    if _is_mounted_read_only(folder):
        # As a ConfigMap of Kubernetes, whose folder everybody could write.
        return
    if state.st_uid not in (0, user) and not _is_unmapped(state.st_uid):
        owner = user_name(state.st_uid)
        raise ConfigurationError(
            f"{path}: {owner} can put another file in its place, because {folder} belongs to them: "
            f"{_take_it_or_be(owner, folder)}"
        )
    whom = _who_else_can_write(folder, state, user)
    if not whom:
        return
    if state.st_mode & stat.S_ISVTX:
        _refuse_entry(path, folder / name, user)
    else:
        raise ConfigurationError(
            f"{path}: {NAMES[whom]} can put another file in its place, because {NAMES[whom]} can write in {folder}: "
            f"chmod {whom}-w {shlex.quote(str(folder))}"
        )


def _refuse_entry(path: Path, entry: Path, user: int) -> None:
    # In a folder as /tmp, whoever owns an entry can replace it, and nobody else.
    found = entry.lstat().st_uid
    if found not in (0, user):
        owner = user_name(found)
        raise ConfigurationError(
            f"{path}: {owner} can put another file in its place, because {entry} belongs to them, and lies where "
            f"everybody can write: {_take_it_or_be(owner, entry)}"
        )


def _take_it_or_be(owner: str, what: Path) -> str:
    of_the_link_itself = "-h " if what.is_symlink() else ""
    return (
        f"chown {of_the_link_itself}root {shlex.quote(str(what))}, or run as that user: runuser -u {owner} -- "
        "autorelease …"
    )


def _steps(path: Path) -> Iterator[tuple[Path, str]]:
    """Each folder on the way from the root to the file, with the name that is looked up in it; through all links."""
    folder, names, links = Path("/"), list(reversed(_names(path))), 0
    while names:
        name = names.pop()
        if name == "..":
            folder = folder.parent
            continue
        yield folder, name
        entry = folder / name
        if entry.is_symlink() and links < MOST_LINKS:
            links += 1
            target = entry.readlink()
            folder = Path("/") if target.is_absolute() else folder
            names += reversed(_names(target))
        elif names and not entry.is_dir():
            # A link of /proc to what has no name (a pipe): it was opened, and is judged by itself.
            return
        else:
            folder = entry


def _names(path: Path) -> list[str]:
    return [name for name in path.parts if name != "/"]


# --- who can write ----------------------------------------------------------------------------------------------------

NAMES = {"o": "everybody", "g": "its group", "go": "everybody"}


def _who_else_can_write(path: Path, state: os.stat_result, user: int) -> str:
    """As chmod names them: `o` everybody, `g` the group, `go` both; empty: nobody."""
    by_group = state.st_mode & stat.S_IWGRP and not _is_private(path, state.st_gid, user)
    return ("g" if by_group else "") + ("o" if state.st_mode & stat.S_IWOTH else "")


def _is_private(path: Path, group: int, user: int) -> bool:
    """Whether a group is root's, or one that the reader alone is in: many systems give each user such a one.

    Where a list of further users is attached (acl(5)), the mode shows what these may do as the group's right.
    """
    if _has_list(path):
        return False
    if group == 0:
        return True
    try:
        members = grp.getgrgid(group).gr_mem
        own = pwd.getpwuid(user)
    except KeyError:
        return False
    if own.pw_gid != group or not set(members) <= {own.pw_name}:
        return False
    return all(other.pw_uid == user for other in pwd.getpwall() if other.pw_gid == group)


def _has_list(path: Path) -> bool:
    try:
        return "system.posix_acl_access" in os.listxattr(path)
    except OSError:
        # A file system that has no such lists.
        return False


def _is_mounted_read_only(path: Path) -> bool:
    """Whether nobody can write here, whatever the modes are.

    A unit of systemd sees nearly everything so (ProtectSystem=), and it alone: there that is no protection.
    """
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY) and "INVOCATION_ID" not in os.environ


def _is_unmapped(owner: int) -> bool:
    """Whether this may be the machine's root, who has no number in this user namespace: it shows as nobody there."""
    try:
        ranges = [line.split() for line in Path("/proc/self/uid_map").read_text("ascii").splitlines()]
        overflow = int(Path("/proc/sys/kernel/overflowuid").read_text("ascii"))
    except (OSError, ValueError):
        return False
    is_root_mapped = any(int(outside) == 0 for _, outside, _ in ranges)
    return owner == overflow and not is_root_mapped
