"""What a program is fed and listened to by: two pipes, and the wait for whichever has something to say.

Knows nothing of processes.
"""

import os
import select
from collections.abc import Mapping, Sequence
from math import ceil

READ_BYTES = 65536


class Pipes:
    """The standard input and output of a program. rest: of the document, what its input has not taken yet.

    Plain descriptors and no files: nothing is to be buffered, and a file costs as much as starting the program.
    """

    def __init__(self, document: bytes) -> None:
        self.rest = document
        self.stdin: int | None = None
        self.stdout: int | None = None
        self._theirs: list[int] = []

    def open(self) -> tuple[int, int]:
        """Make both; returns the program's own ends."""
        their_stdin, self.stdin = os.pipe()
        self._theirs.append(their_stdin)
        self.stdout, their_stdout = os.pipe()
        self._theirs.append(their_stdout)
        os.set_blocking(self.stdout, False)
        # What a pipe has room for, however little that is (pipe(7)), is there before the program is.
        self._feed(select.PIPE_BUF)
        if self.stdin is not None:
            os.set_blocking(self.stdin, False)
        return their_stdin, their_stdout

    def feed(self) -> None:
        """Write what there is room for now."""
        try:
            self._feed(READ_BYTES)
        except BrokenPipeError:
            self.rest = b""
            self._end_input()

    def _feed(self, most: int) -> None:
        if self.stdin is not None:
            self.rest = self.rest[os.write(self.stdin, self.rest[:most]) :]
            if not self.rest:
                self._end_input()

    def _end_input(self) -> None:
        if self.stdin is not None:
            os.close(self.stdin)
            self.stdin = None

    def close_theirs(self) -> None:
        """Leave its ends to the program."""
        while self._theirs:
            os.close(self._theirs.pop())

    def close(self) -> None:
        """Give everything back."""
        self.close_theirs()
        self._end_input()
        if self.stdout is not None:
            os.close(self.stdout)
            self.stdout = None


def events(wanted: Mapping[int, int], seconds: float) -> Sequence[int]:
    """Which of these descriptors have something to say within this time.

    poll(2) and not epoll(7), which takes a file of its own and may not get one.
    """
    poll = select.poll()
    for descriptor, kinds in wanted.items():
        poll.register(descriptor, kinds)
    return [descriptor for descriptor, _ in poll.poll(max(0, ceil(seconds * 1000)))]
