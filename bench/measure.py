"""measure.py OUTPUT PROGRAM ARGUMENTS...: run it; print its seconds, the processor's, its exit code and its peak.

The peak is in KiB. What the program writes to standard output goes to the file OUTPUT.

Small on purpose, and run with -I -S: the kernel counts a process's peak from the size of the one that started it.
"""

import os
import sys
import time


def main(output: str, command: list[str]) -> None:
    """Run, wait, print."""
    to_file = (os.POSIX_SPAWN_OPEN, 1, output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    from_nowhere = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
    started = time.perf_counter()
    process = os.posix_spawn(command[0], command, os.environ, file_actions=[to_file, from_nowhere])
    _, status, usage = os.wait4(process, 0)
    seconds = time.perf_counter() - started
    processor = usage.ru_utime + usage.ru_stime
    sys.stdout.write(f"{seconds} {processor} {os.waitstatus_to_exitcode(status)} {usage.ru_maxrss}\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
