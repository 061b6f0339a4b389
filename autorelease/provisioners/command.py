"""`kind = "command"`: a program of the operator's own releases one VM, and another may tell whether it is there.

Never a shell. The exit status is the answer: 0 released, `already` not there any more, `pending` accepted and not gone
yet, `retry` try again soon, `down` and a program that cannot be started: nothing can be released now; anything else,
and a signal: failed. 126 and 127 are `down`, unless a call that began later shows that it was one row alone. What the
program wrote last is the evidence of each.
"""

import json
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import msgspec

from autorelease.errors import ConfigurationError, ProvisionerDown, ProvisionerError, ProvisionerSeemsDown
from autorelease.model import Allocation, Release, Result, rfc3339
from autorelease.provisioners import Kind, Section, refuse_unknown
from autorelease.provisioners.identity import fingerprint_of
from autorelease.provisioners.processes import Ended, ProgramMissing, check_ends_can_be_known, run
from autorelease.structs import TableError, read_struct

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
KILL_AFTER = timedelta(seconds=5)
# MAX_ARG_STRLEN of Linux, for one argument or one variable with its name: 32 pages (execve(2)).
LONGEST_ARGUMENT = 131_072 - 1
PLACES = ("sid", "vm_ref", "vm_uid", "owner", "plan", "expires_at", "token")
VARIABLES = ("sid", "vm_ref", "vm_uid", "expires_at", "token")
# "URL malformed" of curl(1), "file I/O error" of wget(1): what many take for "not there" is a call never made.
ONCE_ALREADY = 3
# Of a shell: a command was found but cannot be run, or was not found (POSIX, 2.8.2). That is most likely so for all
# rows, and may be so for one alone, whose values name the command.
OF_SHELLS = (126, 127)


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of the section."""

    argv: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    exists: tuple[str, ...] = ()
    already: tuple[int, ...] = ()
    pending: tuple[int, ...] = ()
    retry: tuple[int, ...] = (75,)
    down: tuple[int, ...] = (77, 78, *OF_SHELLS)
    allow_dash: bool = False


class CommandProvisioner:
    """Runs one program for each allocation."""

    def __init__(self, options: Options, timeout: timedelta) -> None:
        self._options = options
        self._timeout = timeout
        self._programs: dict[str, str] = {}

    def preflight(self) -> None:
        """Raise ProvisionerDown unless the programs are there and may be executed."""
        check_ends_can_be_known()
        for argv in (self._options.argv, self._options.exists):
            if argv:
                _program(argv[0])

    def fingerprint(self) -> str | None:
        """The words of argv and the content of the files that they name."""
        return fingerprint_of(self._options.argv, _found(self._options.argv[0]))

    def release(self, allocation: Allocation) -> Release:
        """Run the program for this allocation and read its exit status."""
        ended = self._run(self._options.argv, allocation)
        result = None if ended.timed_out else self._result(ended.status)
        if result is None:
            raise self._error(ended, "the command")
        return Release(result, evidence=_evidence(ended), proof=result is not Result.ALREADY_RELEASED)

    def close(self) -> None:
        """Nothing to give back."""

    def _run(self, argv: Sequence[str], allocation: Allocation) -> Ended:
        program = self._programs.get(argv[0]) or self._looked_up(argv[0])
        values = _values(allocation)
        words = [self._filled(word, values) for word in argv[1:]]
        environment, document = _environment(values), _document(values, allocation)
        try:
            return run([program, *words], environment, document, self._timeout, KILL_AFTER)
        except ProgramMissing:
            if (elsewhere := self._looked_up(argv[0])) == program:
                raise
            return run([elsewhere, *words], environment, document, self._timeout, KILL_AFTER)

    def _looked_up(self, name: str) -> str:
        # Once, and again when it is not there any more: to look before each call costs as much as feeding the program.
        self._programs[name] = found = _program(name)
        return found

    def _filled(self, word: str, values: Mapping[str, str | None]) -> str:
        name = _place(word)
        if name is None:
            return word
        value = values[name]
        if value is None:
            raise _unfit(f"the command wants {word}, which this row does not have")
        if value.startswith("-") and not self._options.allow_dash:
            raise _unfit(f"{name} {value[:40]!r} begins with a dash and could be taken for an option (see allow_dash)")
        if "\0" in value:
            raise _unfit(f"{name} holds a NUL byte, which no argument can")
        if len(os.fsencode(value)) > LONGEST_ARGUMENT:
            raise _unfit(f"{name} is too long for an argument ({len(value)} characters)")
        return value

    def _result(self, status: int) -> Result | None:
        if status == 0:
            return Result.RELEASED
        if status in self._options.already:
            return Result.ALREADY_RELEASED
        return Result.PENDING if status in self._options.pending else None

    def _error(self, ended: Ended, what: str) -> ProvisionerError:
        """What a run that gave no result comes to. what: which of the two programs."""
        tail = f": {ended.output}" if ended.output else ""
        if ended.timed_out:
            limit = f"{self._timeout.total_seconds():g} s"
            return ProvisionerError(
                f"{what} took longer than {limit} and was ended{tail}", retryable=True, timed_out=True
            )
        how = _how(ended.status)
        if ended.status in self._options.down:
            if ended.status in OF_SHELLS:
                return ProvisionerSeemsDown(f"{what} did not find what it runs, or could not run it ({how}){tail}")
            return ProvisionerDown(f"{what} says that its system is down ({how}){tail}")
        if ended.status == ONCE_ALREADY and not self._options.already:
            how += (
                "; if that means 'not there any more', write already = [3] in the section; "
                "of curl and wget it means that there was no call at all"
            )
        # A program that was killed answered nothing: it may have come as far as the VM.
        return ProvisionerError(
            f"{what} failed ({how}){tail}",
            retryable=ended.status in self._options.retry,
            end_unknown=ended.status < 0,
        )


class ProbingCommandProvisioner(CommandProvisioner):
    """Has, besides, a program that tells whether a VM is there."""

    def exists(self, allocation: Allocation) -> bool:
        """Run the program of `exists` for this allocation; only an exit status that was named says that it is gone."""
        ended = self._run(self._options.exists, allocation)
        result = None if ended.timed_out else self._result(ended.status)
        if result is None or result is Result.PENDING:
            raise self._error(ended, "the command of exists")
        return result is Result.RELEASED


def _unfit(why: str) -> ProvisionerError:
    """What is wrong with a value of this row; no program is run for it."""
    return ProvisionerError(why, not_called=True)


def _program(name: str) -> str:
    found = _found(name)
    if found is None:
        kind = "is missing or not executable" if name.startswith("/") else f"is not in {SEARCH_PATH}"
        raise ProvisionerDown(f"the program {name!r} {kind}")
    return found


def _found(name: str) -> str | None:
    return shutil.which(name, path=SEARCH_PATH)


def _how(status: int) -> str:
    return f"exit {status}" if status >= 0 else f"killed by {_signal_name(-status)}"


def _evidence(ended: Ended) -> str:
    return f"{_how(ended.status)}: {ended.output}" if ended.output else _how(ended.status)


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


def _document(values: Mapping[str, str | None], allocation: Allocation) -> bytes:
    return json.dumps({**values, "provisioner": allocation.provisioner, "status": allocation.status}).encode()


def _make(section: Section) -> CommandProvisioner:
    options = _options(section)
    kind = ProbingCommandProvisioner if options.exists else CommandProvisioner
    return kind(options, section.timeout)


def _options(section: Section) -> Options:
    refuse_unknown(section, Options.__struct_fields__)
    try:
        options = read_struct(section.options, Options)
    except TableError as problem:
        raise ConfigurationError(f"{section.place} {problem}") from problem
    _check_argv(options.argv, f"{section.place} argv")
    _check_statuses(options, section.place)
    if options.exists:
        _check_argv(options.exists, f"{section.place} exists")
        _check_question(options, section.place)
    return options


def _check_argv(argv: Sequence[str], place: str) -> None:
    program, *words = argv
    if not program or "\0" in "".join(argv) or ("/" in program and not Path(program).is_absolute()):
        raise ConfigurationError(
            f"{place}: {program!r} must be an absolute path, or a name to be found in {SEARCH_PATH}"
        )
    for word in (program, *words):
        if ("{" in word or "}" in word) and (word == program or _place(word) is None):
            places = " ".join(f"{{{name}}}" for name in PLACES)
            raise ConfigurationError(
                f"{place}: {word!r}: braces stand only for a whole element that is one of {places}; "
                "the program finds the same values in its environment and as JSON on its standard input"
            )


def _check_statuses(options: Options, place: str) -> None:
    statuses = [*options.already, *options.pending, *options.retry, *options.down]
    wrong = [status for status in statuses if not 1 <= status <= 255]  # noqa: PLR2004 - what a process can exit with
    if wrong or len(set(statuses)) < len(statuses):
        raise ConfigurationError(
            f"{place}: already, pending, retry and down must be exit statuses from 1 to 255, "
            "each in one of the lists only"
        )


def _check_question(options: Options, place: str) -> None:
    if not options.already:
        raise ConfigurationError(
            f"{place} exists: no exit status could ever mean that a VM is not there: "
            "name those that do, for argv and for exists, as already = [...]"
        )
    if options.argv[1:] == options.exists[1:] and _is_same_program(options.argv[0], options.exists[0]):
        raise ConfigurationError(
            f"{place} exists: is the same as argv, and would release the VMs of those who have paid: "
            "it is run for VMs that must not go, and may only look"
        )


def _is_same_program(name: str, other: str) -> bool:
    # By its own name, too: some programs act by the name that they are called by.
    paths = [_found(each) or each for each in (name, other)]
    return Path(name).name == Path(other).name and os.path.realpath(paths[0]) == os.path.realpath(paths[1])


KIND = Kind(_make, check=_options)
