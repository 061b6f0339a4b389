"""The command line: the door through which every error leaves, with its exit code.

Imports neither a database nor a provisioner: `--help` is quick.
"""

import atexit
import gc
import io
import logging
import os
import sys
import threading
from collections.abc import Sequence
from typing import NoReturn

from autorelease import stderr
from autorelease.errors import AutoreleaseError, ExitCode, OutputError, ReaderGoneError, UsageError
from autorelease.text import plain

logger = logging.getLogger("autorelease")
STDERR = 2
# What we make in masses is free of cycles: to look for some after every 700 objects, as Python does, takes a twentieth.
# A whole start makes some 27,000 of them.
OBJECTS_BETWEEN_COLLECTIONS = 50_000


def main() -> None:
    """The installed command."""
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    _prepare_streams()
    _end(run(sys.argv[1:]))


def _end(code: int) -> NoReturn:
    """End without taking the interpreter to pieces, which costs a tenth of a tick that has nothing to do."""
    code = _flush(code)
    stderr.not_taken_at_end()
    others = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    # A provisioner's call that never came back: nothing is to wait for it. Both databases are closed.
    if not any(thread.daemon and thread.name.startswith("release-") for thread in others):
        if any(not thread.daemon for thread in others):
            # A provisioner of another package has begun what wants to be waited for, and may have more to say.
            stderr.wait_from_now_on()
            sys.exit(code)
        atexit._run_exitfuncs()  # noqa: SLF001 - what sys.exit would run
        code = _flush(code)
        stderr.not_taken_at_end()
    os._exit(code)


def _prepare_streams() -> None:
    _open_closed()
    # Python sets a stream that was closed by the caller to None, and every use of it would be a crash.
    sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")  # noqa: PTH123, SIM115
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    for stream in (sys.stdout, sys.stderr):
        # A terminal of a narrower character set gets escapes, not a crash.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    stderr.take_over()


def _open_closed() -> None:
    """Give the three descriptors that were closed by the caller a place: else a database of ours would get one."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        os.set_inheritable(descriptor, True)  # noqa: FBT003 - it takes no name
    os.close(descriptor)


def run(arguments: Sequence[str]) -> int:
    """Run one command; returns its exit code, whatever happens."""
    try:
        return _run(arguments)
    except ReaderGoneError:
        from autorelease.render import let_go_of

        let_go_of(sys.stdout)
        return ExitCode.OK
    except AutoreleaseError as error:
        return _complain(error, arguments)
    except Exception as error:  # noqa: BLE001 - what nobody foresaw ends in one place, too
        return _complain(_bug(error), arguments)


def _bug(error: Exception) -> AutoreleaseError:
    found = AutoreleaseError(f"this is a bug, please report it: {type(error).__name__}: {plain(error, 500)}")
    found.__cause__ = error
    return found


def _run(arguments: Sequence[str]) -> int:
    import typer
    from typer.main import get_command

    from autorelease import logs
    from autorelease.cli.app import app

    logs.configure("info", "text")
    try:
        return int(get_command(app).main(list(arguments), prog_name="autorelease", standalone_mode=False) or 0)
    except typer.Abort:
        return ExitCode.INTERRUPTED
    except OSError as error:
        # Of a command's own output and files nothing comes as far as this: what cannot be written is the help.
        if not {"--help", "--version"} & set(arguments):
            raise
        from autorelease.render import let_go_of

        let_go_of(sys.stdout)
        raise OutputError(f"the output cannot be written: {error.strerror}") from error
    except SystemExit as end:
        # What becomes there of a reader of the help who has seen enough.
        if isinstance(end.__context__, BrokenPipeError):
            raise ReaderGoneError from end
        raise
    except typer.TyperException as error:
        if error.exit_code != ExitCode.USAGE:
            raise
        raise UsageError(error.format_message() or _no_command()) from error


def _no_command() -> str:
    return "a command is missing: see autorelease --help"


def _complain(error: AutoreleaseError, arguments: Sequence[str]) -> int:
    if error.exit_code is ExitCode.BUG:
        logger.critical("this is a bug of autorelease, please report it", exc_info=error)
    else:
        logger.error("%s", error)
    if "--json" in arguments:
        _show_as_json(error)
    return error.exit_code


def _show_as_json(error: AutoreleaseError) -> None:
    from autorelease.render import let_go_of, show_object
    from autorelease.sweep.report import error_object

    try:
        show_object(error_object(error))
        sys.stdout.flush()
    except (OutputError, ReaderGoneError, OSError):
        # The exit code says it, too, and so does the log.
        let_go_of(sys.stdout)


def _flush(code: int) -> int:
    from autorelease.render import let_go_of

    try:
        sys.stdout.flush()
    except BrokenPipeError:
        let_go_of(sys.stdout)
    except OSError as error:
        logger.error("the output could not be written: %s", error.strerror)
        let_go_of(sys.stdout)
        code = code or ExitCode.UNUSABLE
    return code
