"""`kind = "command"`: a program of the operator's own releases one VM. Never a shell.

The exit status is the answer: 0 released, `already` not there any more, `retry` try again soon, `down` and a program
that cannot be started: nothing can be released now; anything else, and a signal: failed.
"""

import errno
import json
import os
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO, Annotated

import msgspec

from autorelease.errors import ConfigurationError, ProvisionerDown, ProvisionerError
from autorelease.model import Allocation, Release, Result, rfc3339
from autorelease.provisioners import Kind, Section, refuse_unknown
from autorelease.structs import TableError, read_struct

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
KILL_AFTER = timedelta(seconds=5)
TAIL_BYTES = 4096
# MAX_ARG_STRLEN of Linux, for one argument or one variable with its name: 32 pages (execve(2)).
LONGEST_ARGUMENT = 131_072 - 1
PLACES = ("sid", "vm_ref", "vm_uid", "owner", "plan", "expires_at", "token")
VARIABLES = ("sid", "vm_ref", "vm_uid", "expires_at", "token")


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of the section."""

    argv: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    already: tuple[int, ...] = (3,)
    retry: tuple[int, ...] = (75,)
    down: tuple[int, ...] = (77, 78)
    allow_dash: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run of the program ended. status: negative for a signal; timed_out: we ended it."""

    status: int
    output: str
    timed_out: bool


class CommandProvisioner:
    """Runs one program for each allocation."""

    def __init__(self, options: Options, timeout: timedelta) -> None:
        self._options = options
        self._timeout = timeout

    def preflight(self) -> None:
        """Raise ProvisionerDown unless the program is there and may be executed."""
        self._program()

    def release(self, allocation: Allocation) -> Release:
        """Run the program for this allocation and read its exit status."""
        values = _values(allocation)
        argv = [self._program(), *(self._filled(word, values) for word in self._options.argv[1:])]
        ended = _run(argv, _environment(values), _document(allocation), self._timeout)
        return self._answer(ended)

    def close(self) -> None:
        """Nothing to give back."""

    def _program(self) -> str:
        name = self._options.argv[0]
        found = shutil.which(name, path=SEARCH_PATH)
        if found is None:
            kind = "is missing or not executable" if name.startswith("/") else f"is not in {SEARCH_PATH}"
            raise ProvisionerDown(f"the program {name!r} {kind}")
        return found

    def _filled(self, word: str, values: Mapping[str, str | None]) -> str:
        name = _place(word)
        if name is None:
            return word
        value = values[name]
        if value is None:
            raise ProvisionerError(f"the command wants {word}, which this row does not have")
        if value.startswith("-") and not self._options.allow_dash:
            raise ProvisionerError(
                f"{name} {value[:40]!r} begins with a dash and could be taken for an option (see allow_dash)"
            )
        if "\0" in value:
            raise ProvisionerError(f"{name} holds a NUL byte, which no argument can")
        if len(os.fsencode(value)) > LONGEST_ARGUMENT:
            raise ProvisionerError(f"{name} is too long for an argument ({len(value)} characters)")
        return value

    def _answer(self, ended: Ended) -> Release:
        status, said = ended.status, f": {ended.output}" if ended.output else ""
        if ended.timed_out:
            limit = f"{self._timeout.total_seconds():g} s"
            raise ProvisionerError(
                f"the command took longer than {limit} and was ended{said}", retryable=True, timed_out=True
            )
        if status == 0:
            return Release(Result.RELEASED, evidence="exit 0")
        if status in self._options.already:
            return Release(Result.ALREADY_RELEASED, evidence=f"exit {status}", proof=False)
        how = f"exit {status}" if status > 0 else f"killed by {_signal_name(-status)}"
        if status in self._options.down:
            raise ProvisionerDown(f"the command says that its system is down ({how}){said}")
        # A program that was killed said nothing: it may have come as far as the VM.
        raise ProvisionerError(
            f"the command failed ({how}){said}", retryable=status in self._options.retry, end_unknown=status < 0
        )


def _signal_name(number: int) -> str:
    # The real-time signals between the first and the last have no name.
    return next((known.name for known in signal.Signals if known == number), f"signal {number}")


def _place(word: str) -> str | None:
    name = word[1:-1]
    return name if word == f"{{{name}}}" and name in PLACES else None


def _values(allocation: Allocation) -> dict[str, str | None]:
    return {
        "sid": allocation.sid,
        "vm_ref": allocation.vm_ref,
        "vm_uid": allocation.vm_uid,
        "owner": allocation.owner,
        "plan": allocation.plan,
        "expires_at": rfc3339(allocation.expires_at, digits=6) if allocation.expires_at else None,
        "token": allocation.token,
    }


def _environment(values: Mapping[str, str | None]) -> dict[str, str]:
    environment = {"PATH": SEARCH_PATH, "LANG": "C.UTF-8", "HOME": os.environ.get("HOME", "/")}
    for name in VARIABLES:
        variable, value = f"AUTORELEASE_{name.upper()}", values[name]
        room = LONGEST_ARGUMENT - len(variable) - 1
        if value is not None and "\0" not in value and len(os.fsencode(value)) <= room:
            environment[variable] = value
    return environment


def _document(allocation: Allocation) -> bytes:
    return json.dumps(
        {**_values(allocation), "provisioner": allocation.provisioner, "status": allocation.status}
    ).encode()


def _run(argv: Sequence[str], environment: Mapping[str, str], document: bytes, timeout: timedelta) -> Ended:
    try:
        # Its own process group, so that its children end with it; in /, so that it holds no mount busy.
        process = subprocess.Popen(  # noqa: S603 - a list, no shell; only whole elements come from a row
            argv,
            env=environment,
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
    except (PermissionError, FileNotFoundError, NotADirectoryError) as error:
        raise ProvisionerDown(f"the program {argv[0]!r} cannot be started: {error.strerror}") from error
    except OSError as error:
        if error.errno == errno.ENOEXEC:
            raise ProvisionerDown(
                f"the program {argv[0]!r} is none that the kernel can run: does it begin with #!?"
            ) from error
        # E2BIG is about this row's values; anything else (no memory, no process) may be over in a moment.
        raise ProvisionerError(
            f"the command cannot be started: {error.strerror}", retryable=error.errno != errno.E2BIG
        ) from error
    return _Conversation(process, document).until(time.monotonic() + timeout.total_seconds())


class _Conversation:
    """Feeds a child its input and keeps the tail of its output until it ends, or is ended.

    It waits for the child and not for the end of its output: a grandchild may hold the pipe open for ever.
    """

    def __init__(self, process: subprocess.Popen[bytes], document: bytes) -> None:
        self._process = process
        self._document = document
        self._tail = b""
        self._selector = selectors.DefaultSelector()
        self._child = os.pidfd_open(process.pid)
        assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - both are PIPE
        self._stdin: IO[bytes] = process.stdin
        self._stdout: IO[bytes] = process.stdout
        os.set_blocking(self._stdin.fileno(), False)
        os.set_blocking(self._stdout.fileno(), False)
        self._selector.register(self._child, selectors.EVENT_READ)
        self._selector.register(self._stdout, selectors.EVENT_READ)
        self._selector.register(self._stdin, selectors.EVENT_WRITE)

    def until(self, deadline: float) -> Ended:
        """Wait for the end; past the deadline (of the monotonic clock) end the child: TERM, 5 s, KILL."""
        try:
            timed_out = not self._ended_by(deadline)
            if timed_out:
                self._signal(signal.SIGTERM)
                self._ended_by(time.monotonic() + KILL_AFTER.total_seconds())
                # The child may have ended by now, and its own children not.
                self._signal(signal.SIGKILL)
            status = self._process.wait()
            self._read()
        finally:
            self._close()
        output = self._tail[-TAIL_BYTES:].decode("utf-8", "replace").strip()
        return Ended(status, output, timed_out)

    def _ended_by(self, deadline: float) -> bool:
        while (left := deadline - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                if key.fileobj is self._stdin:
                    self._write()
                elif key.fileobj is self._stdout:
                    self._read_some()
                else:
                    return True
        return False

    def _write(self) -> None:
        try:
            written = os.write(self._stdin.fileno(), self._document[:65536])
            self._document = self._document[written:]
        except BrokenPipeError:
            self._document = b""
        if not self._document:
            self._selector.unregister(self._stdin)
            self._stdin.close()

    def _read_some(self) -> bool:
        """Keep the tail of what is there; False: there is no more for now."""
        try:
            data = os.read(self._stdout.fileno(), 65536)
        except BlockingIOError:
            return False
        if not data and self._stdout in [key.fileobj for key in self._selector.get_map().values()]:
            self._selector.unregister(self._stdout)
        self._tail = (self._tail + data)[-TAIL_BYTES:]
        return bool(data)

    def _read(self) -> None:
        # Bounded: a grandchild that escaped the group could write for ever.
        for _ in range(64):
            if not self._read_some():
                return

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return
        except PermissionError:
            self._process.send_signal(number)

    def _close(self) -> None:
        self._selector.close()
        os.close(self._child)
        for stream in (self._stdin, self._stdout):
            if not stream.closed:
                stream.close()


def _make(section: Section) -> CommandProvisioner:
    return CommandProvisioner(_options(section), section.timeout)


def _options(section: Section) -> Options:
    refuse_unknown(section, Options.__struct_fields__)
    try:
        options = read_struct(section.options, Options)
    except TableError as problem:
        raise ConfigurationError(f"{section.place} {problem}") from problem
    _check_argv(options.argv, section.place)
    _check_statuses(options, section.place)
    return options


def _check_argv(argv: Sequence[str], place: str) -> None:
    program, *words = argv
    if not program or "\0" in "".join(argv) or ("/" in program and not Path(program).is_absolute()):
        raise ConfigurationError(
            f"{place} argv: {program!r} must be an absolute path, or a name to be found in {SEARCH_PATH}"
        )
    for word in (program, *words):
        if ("{" in word or "}" in word) and (word == program or _place(word) is None):
            places = " ".join(f"{{{name}}}" for name in PLACES)
            raise ConfigurationError(
                f"{place} argv: {word!r}: braces stand only for a whole element that is one of {places}; "
                "the program finds the same values in its environment and as JSON on its standard input"
            )


def _check_statuses(options: Options, place: str) -> None:
    statuses = [*options.already, *options.retry, *options.down]
    wrong = [status for status in statuses if not 1 <= status <= 255]  # noqa: PLR2004 - what a process can exit with
    if wrong or len(set(statuses)) < len(statuses):
        raise ConfigurationError(
            f"{place}: already, retry and down must be exit statuses from 1 to 255, each in one of the lists only"
        )


KIND = Kind(_make, check=_options)
