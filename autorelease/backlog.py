"""What waits to be written: bounded, in its order, and the least important is left out first. No file, no thread."""

from collections import deque
from collections.abc import Sequence
from itertools import accumulate

MOST_BYTES = 4 * 2**20

# Some bytes, and how many lines they are.
Chunk = tuple[bytes, int]


class Backlog:
    """What waits, in its order. Where there is no room for more, what matters least is left out, and errors last.

    lost: how many lines were left out.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.lost = 0
        self._most_bytes = most_bytes
        self._bytes = 0
        self._numbers = 0
        self._by_level: dict[int, deque[tuple[int, bytes, int]]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._by_level.values()))

    def lines(self) -> int:
        """How many lines wait."""
        return sum(lines for chunks in self._by_level.values() for _, _, lines in chunks)

    def put(self, data: bytes, level: int, lines: int) -> None:
        """Add this, of so many lines, at the end."""
        if not self._has_room(len(data), level):
            self.lost += lines
            return
        self._numbers += 1
        self._bytes += len(data)
        self._by_level.setdefault(level, deque()).append((self._numbers, data, lines))

    def _has_room(self, size: int, level: int) -> bool:
        while self._bytes and self._bytes + size > self._most_bytes:
            lowest = min(each for each, chunks in self._by_level.items() if chunks)
            if lowest >= level:
                return False
            # The newest: what is left tells how it began.
            _, data, lines = self._by_level[lowest].pop()
            self._bytes -= len(data)
            self.lost += lines
        return True

    def take(self, most_bytes: int) -> Sequence[Chunk]:
        """Remove what has waited longest, up to this size, each with the number of its lines; one at least."""
        taken: list[Chunk] = []
        while len(self):
            chunks = min((chunks for chunks in self._by_level.values() if chunks), key=lambda each: each[0][0])
            _, data, lines = chunks[0]
            most_bytes -= len(data)
            if taken and most_bytes < 0:
                break
            chunks.popleft()
            self._bytes -= len(data)
            taken.append((data, lines))
        return taken


def lines_beyond(chunks: Sequence[Chunk], written: int) -> int:
    """How many lines of these are not among so many bytes, be it that a part of them is."""
    ends = accumulate(len(data) for data, _ in chunks)
    return sum(lines for (_, lines), end in zip(chunks, ends, strict=True) if end > written)
