"""Whether a configuration is to be believed: it names the program that is run, so whoever can write it decides that.

Judges what it is handed; knows no key of the file.
"""

import os
import stat
from pathlib import Path

from autorelease.errors import ConfigurationError
from autorelease.text import user_name


def refuse_untrusted(path: Path, opened: os.stat_result, user: int) -> None:
    """Raise ConfigurationError where somebody else could have written the file, with the command that mends it.

    opened: the state of the very file that is about to be read. user: who reads it (an effective uid). A file, or a
    folder without the sticky bit, that everybody can write is refused whoever reads it; root believes, beyond that,
    nobody but itself.
    """
    if stat.S_ISCHR(opened.st_mode):
        # /dev/null: everybody can write it, and it keeps nothing.
        return
    if opened.st_mode & stat.S_IWOTH:
        raise ConfigurationError(f"{path}: everybody can write it, and it names the program to run: chmod o-w {path}")
    _refuse_open_folders(path)
    if user == 0:
        _refuse_for_root(path, opened)


def _refuse_open_folders(path: Path) -> None:
    # A link can be replaced where it lies, and what it leads to where that lies.
    for folder in dict.fromkeys((path.parent, Path(os.path.realpath(path)).parent)):
        mode = folder.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise ConfigurationError(
                f"{path}: everybody can put another file in its place, because everybody can write in its folder: "
                f"chmod o-w {folder}"
            )


def _refuse_for_root(path: Path, opened: os.stat_result) -> None:
    if opened.st_uid != 0:
        name = user_name(opened.st_uid)
        raise ConfigurationError(
            f"{path}: belongs to {name}, and root would run the program that it names: chown root {path}, "
            f"or run as that user: runuser -u {name} -- autorelease …"
        )
    if opened.st_mode & stat.S_IWGRP and opened.st_gid != 0:
        raise ConfigurationError(
            f"{path}: its group can write it, and root would run the program that it names: chmod g-w {path}"
        )
