"""A process of its own whose kernel refuses it a system call, as the filter of a container does.

    python -P refusing.py ERRNO FILE.py WORD...

runs that file with pidfd_open refused. Nothing is imitated: it is seccomp(2) itself.
"""

import ctypes
import runpy
import struct
import sys

# seccomp(2), linux/seccomp.h, linux/filter.h. The number of pidfd_open is the same on every architecture.
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, FAIL_WITH = 0x7FFF0000, 0x00050000
PIDFD_OPEN = 434


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def refuse(call: int, error: int) -> None:
    """From now on this process and its children get this error from this system call."""
    steps = [(LOAD, 0, 0, 0), (JUMP_IF_EQUAL, 0, 1, call), (RETURN, 0, 0, FAIL_WITH | error), (RETURN, 0, 0, ALLOW)]
    code = b"".join(struct.pack("=HBBI", *step) for step in steps)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS")
    program = _Program(len(steps), code)
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_SECCOMP")


def main() -> None:
    """Be that file, with the call refused."""
    _, error, *sys.argv = sys.argv
    refuse(PIDFD_OPEN, int(error))
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
