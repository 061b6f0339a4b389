"""Which rows a plan was about, small enough to be kept: a digest of each (sid, expires_at), sorted. Pure."""

from bisect import bisect_left
from collections.abc import Iterable
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import blake2b

DIGEST_BYTES = 16


def identity(sid: str, expires_at: datetime | None, *more: str) -> bytes:
    """The digest of one row; more: what else must be the same for it to be the same row."""
    parts = (sid, expires_at.isoformat() if expires_at else "", *more)
    # Lengths first: no two lists of parts are written alike.
    text = "".join([f"{len(part)}:{part}" for part in parts])
    return _digest()(text.encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES).digest()


@cache
def _digest() -> "type[blake2b]":
    # Imported where there is something to identify, and once: it loads a cryptographic library.
    from hashlib import blake2b

    return blake2b


def packed(identities: Iterable[bytes]) -> bytes:
    """Many of them as one value; sorted and each once."""
    # Sorted by their first byte before the rest: as objects, all at once, they would take four times the memory.
    heaps = [bytearray() for _ in range(256)]
    for each in identities:
        heaps[each[0]] += each
    # Each in its own place: beside all of them, sorted, there is room for one that is not.
    for number, heap in enumerate(heaps):
        heaps[number] = _sorted(heap)
    return b"".join(heaps)


def _sorted(heap: bytearray) -> bytearray:
    each = {bytes(heap[place : place + DIGEST_BYTES]) for place in range(0, len(heap), DIGEST_BYTES)}
    return bytearray().join(sorted(each))


class Identities:
    """A packed value that can be asked what is in it; costs no memory beside it."""

    def __init__(self, value: bytes) -> None:
        self._value = value

    def __len__(self) -> int:
        return len(self._value) // DIGEST_BYTES

    def __contains__(self, wanted: bytes) -> bool:
        place = bisect_left(self, wanted)
        return place < len(self) and self[place] == wanted

    def __getitem__(self, place: int) -> bytes:
        return self._value[place * DIGEST_BYTES : (place + 1) * DIGEST_BYTES]
