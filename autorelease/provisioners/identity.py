"""By what a program finds VMs: the words it is called with, and the content of the files that these name.

Belief is earned under this text, which is kept in the journal and shown: nothing in it is a secret, or made from one.
"""

import errno
import json
import logging
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from autorelease.text import is_place_of_secret, words_without_secrets

logger = logging.getLogger(__name__)

# Of a larger file (an image, an archive) the beginning and the size must do: it is read in every tick.
MOST_BYTES = 256 * 1024 * 1024
CHUNK_BYTES = 1024 * 1024
EXECUTABLE = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH
OF_OTHERS = stat.S_IRWXG | stat.S_IRWXO
# What a word that names no file comes to, when it is taken for a path: a script after `sh -c`, say.
NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)
# By device and number of the file.
_descriptors: dict[tuple[int, int], int] = {}


def fingerprint_of(argv: Sequence[str], program: str | None) -> str | None:
    """A stable JSON text of the template of argv and of its files, by their place in it.

    program: where argv[0] was found. None, which earns no belief: the program is missing, or a file cannot be read, so
    that nobody would see it change.
    """
    shown = list(words_without_secrets(argv))
    paths = {"0": Path(program)} if program is not None else {}
    for number, word in enumerate(argv):
        if number > 0 and shown[number] == word:
            paths |= {f"{number}{mark}": path for mark, path in _named(word, argv[number - 1])}
    try:
        found = {name: _digest(path, is_program=name == "0") for name, path in paths.items()}
    except OSError as error:
        logger.warning("%s cannot be read, so no 'not found' is believed: %s", error.filename, error.strerror)
        return None
    files = {name: digest for name, digest in found.items() if digest is not None}
    return json.dumps({"kind": "command", "argv": shown, "files": files}, sort_keys=True) if "0" in files else None


def _named(word: str, before: str) -> Iterator[tuple[str, Path]]:
    """The files that a word may name, as a whole or behind its `=`, each with a mark; none that holds a secret.

    The program runs in /, so what is relative is so to that folder. before: the word before it, perhaps its option.
    """
    option, _, value = word.partition("=")
    if not is_place_of_secret(before):
        yield "", Path("/", word.removeprefix("@"))
    if value and not is_place_of_secret(option):
        yield "=", Path("/", value.removeprefix("@"))


def _digest(path: Path, *, is_program: bool) -> str | None:
    """The SHA-256 of a regular file; None: it is none, or holds a secret."""
    try:
        found = path.stat()
    except OSError as error:
        if error.errno in NO_FILE:
            return None
        raise
    if not stat.S_ISREG(found.st_mode) or (not is_program and _holds_secret(path, found.st_mode)):
        return None
    return _digest_of(_opened(path, found))


def _holds_secret(path: Path, mode: int) -> bool:
    # What nobody else may read is such a file, as a key ..._file names one; a program is none.
    return not mode & EXECUTABLE and (is_place_of_secret(path.stem) or not mode & OF_OTHERS)


def _opened(path: Path, found: os.stat_result) -> int:
    """A descriptor of this file, which stays open for as long as the process lives.

    Who closes a file gives back every lock that its process has on it (POSIX, see SQLite's "How To Corrupt", 2.2): the
    file may be the ledger itself, which another program would then take for one that nobody uses.
    """
    descriptor = _descriptors.get((found.st_dev, found.st_ino))
    if descriptor is None:
        descriptor = _without_waiting(path)
        state = os.fstat(descriptor)
        # By what it is, and not by what was found: it may have been replaced since. Each provisioner is asked in a
        # thread of its own: under a lock one whose disk hangs would hold up all. What two open at once stays twice.
        _descriptors.setdefault((state.st_dev, state.st_ino), descriptor)
    return descriptor


def _without_waiting(path: Path) -> int:
    # What has become a FIFO since must not be waited for.
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def _digest_of(descriptor: int) -> str:
    import hashlib

    digest = hashlib.sha256()
    place = 0
    while place < MOST_BYTES and (data := os.pread(descriptor, min(MOST_BYTES - place, CHUNK_BYTES), place)):
        digest.update(data)
        place += len(data)
    size = os.fstat(descriptor).st_size
    return digest.hexdigest() if size <= MOST_BYTES else f"{digest.hexdigest()} of the beginning of {size} bytes"
