"""measure.py PROGRAM ARGUMENTS...: run it; print its seconds, its exit code, and its peak memory in KiB.

Small on purpose, and run with -I -S: the kernel counts a process's peak from the size of the one that started it.
"""

import os
import sys
import time


def main(command: list[str]) -> None:
    """Run, wait, print. What the program prints goes nowhere."""
    quiet = (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)
    started = time.perf_counter()
    process = os.posix_spawn(command[0], command, os.environ, file_actions=[quiet])
    _, status, usage = os.wait4(process, 0)
    seconds = time.perf_counter() - started
    sys.stdout.write(f"{seconds} {os.waitstatus_to_exitcode(status)} {usage.ru_maxrss}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
