"""Disks that can be full, in three ways: the one that needs no rights at all is a limit on the size of files."""

import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import pytest


class Disk(Protocol):
    """A folder for one database, whose disk can be full.

    folder: where the command finds it. seen: where this side finds it. before: words that the command is started with.
    before_when_full: the same, where the disk is full from its start.
    """

    folder: Path
    seen: Path
    before: Sequence[str]
    before_when_full: Sequence[str]

    def take(self, database: Path) -> None:
        """Move a database here, with what lies beside it."""
        ...

    def fill(self, pid: int | None = None) -> None:
        """Leave no room, also for this process, which runs already."""
        ...

    def make_room(self, pid: int | None = None) -> None:
        """Let there be room again."""
        ...


class Tmpfs:
    """A small file system in memory."""

    def __init__(self, folder: Path, *, seen: Path, before: Sequence[str] = ()) -> None:
        self.folder = folder
        self.seen = seen
        self.before = before
        self.before_when_full = before

    def take(self, database: Path) -> None:
        """Move a database here, with what lies beside it."""
        _move(database, self.seen)

    def fill(self, pid: int | None = None) -> None:  # noqa: ARG002
        """Write until there is no room."""
        dd = ["dd", "if=/dev/zero", f"of={self.seen / 'filler'}", "bs=4096"]
        ended = subprocess.run(dd, capture_output=True, text=True, check=False, env={"LC_ALL": "C"})
        assert "No space left on device" in ended.stderr

    def make_room(self, pid: int | None = None) -> None:  # noqa: ARG002
        """Remove what was written."""
        (self.seen / "filler").unlink()

    def remount(self, options: str) -> None:
        """Mount it anew, `ro` or `rw`: the mount alone, which an ordinary user may, too, in a namespace."""
        subprocess.run([*self.before, "mount", "-o", f"remount,bind,{options}", self.folder], check=True)


class Limit:
    """No disk of its own, but a limit on the size of files: of a process, and for all of them.

    It is the size of a page of the database that was taken, so that no page of that fits into its rollback journal. The
    other database must be smaller.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen = folder
        self.before: Sequence[str] = ()
        self.before_when_full: Sequence[str] = ()
        self._bytes = 0

    def take(self, database: Path) -> None:
        """Move a database here, with what lies beside it."""
        self.measure(database)
        _move(database, self.seen)

    def measure(self, database: Path) -> None:
        """Let the limit be that of this database."""
        # Bytes 16 and 17 of the header; 1 is written for 65536 (the file format, 1.3.2).
        stored = int.from_bytes(database.read_bytes()[16:18], "big")
        self._bytes = 65536 if stored == 1 else stored
        self.before_when_full = ["prlimit", f"--fsize={self._bytes}:", "--"]

    def fill(self, pid: int | None = None) -> None:
        """Limit this process."""
        self._limit(pid, self._bytes)

    def make_room(self, pid: int | None = None) -> None:
        """Take the limit away."""
        self._limit(pid, None)

    def _limit(self, pid: int | None, size: int | None) -> None:
        if pid is not None:
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard if size is None else size, hard))


@contextmanager
def tmpfs(folder: Path) -> Iterator[Tmpfs]:
    """A small tmpfs, which root may mount."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0755", "none", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"needs the right to mount a file system: {mounted.stderr.strip()}")
    try:
        yield Tmpfs(folder, seen=folder)
    finally:
        subprocess.run(["umount", folder], check=True)


@contextmanager
def namespace(folder: Path) -> Iterator[Tmpfs]:
    """A small tmpfs in a user namespace, which an ordinary user may mount where the kernel allows it."""
    folder.mkdir()
    script = 'mount -t tmpfs -o size=1m,mode=0755 none "$1" && echo mounted && read -r _'
    holder = subprocess.Popen(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh", folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stderr is not None
        if holder.stdout.readline() != "mounted\n":
            pytest.skip(f"needs user namespaces: {holder.stderr.read().strip()}")
        into = ["nsenter", f"--target={holder.pid}", "--user", "--mount", "--preserve-credentials", "--"]
        try:
            yield Tmpfs(folder, seen=Path(f"/proc/{holder.pid}/root{folder}"), before=into)
        finally:
            holder.stdin.close()


@contextmanager
def file_size_limit(folder: Path) -> Iterator[Limit]:
    """No disk of its own, but a limit: it needs no rights."""
    folder.mkdir()
    yield Limit(folder)


WAYS: dict[str, Callable[[Path], AbstractContextManager[Disk]]] = {
    "tmpfs": tmpfs,
    "namespace": namespace,
    "file size limit": file_size_limit,
}


def _move(database: Path, folder: Path) -> None:
    for path in database.parent.glob(f"{database.name}*"):
        shutil.move(path, folder / path.name)


def copy_back(database: Path, disk: Disk, folder: Path) -> Path:
    """A copy of a database on the disk, to look at: SQLite cannot open it by the way that this side sees it."""
    copies = folder / "copies"
    copies.mkdir(exist_ok=True)
    for path in disk.seen.glob(f"{database.name}*"):
        shutil.copy(path, copies / path.name)
    return copies / database.name
