"""Many rows read one after the other: what is plain goes a short way, and all else goes to `rows`. Pure, no database.

The short way takes a row only where `rows` would find nothing to doubt in it, and makes of it what `rows` does. Its
reasons, and its words, stand there alone.
"""

from datetime import UTC, datetime
from typing import TypeGuard, cast

from autorelease.ledger.instants import read_instant
from autorelease.ledger.rows import StoredRow, read_row
from autorelease.ledger.values import EARLIEST, LATEST, Unreadable, Vocabulary, Word
from autorelease.model import DEFAULT_PROVISIONER, Allocation, InvalidRow, RawRow, RawValue

FIRST_SECOND = int(EARLIEST.timestamp())
LAST_SECOND = int(LATEST.timestamp())
# A column of statuses holds a few words. One in which every row has its own is no such column.
MOST_STATUSES = 1000


class Reader:
    """Judges rows by one vocabulary, and knows again the live statuses that it has judged before."""

    def __init__(self, words: Vocabulary) -> None:
        self._words = words
        self._kind = type(words.released)
        self._live: set[Word] = set()
        self._are_seconds = words.timestamps == "epoch" and not words.never

    def read(self, row: StoredRow) -> Allocation | InvalidRow:
        """What `read_row` makes of it."""
        if row.status in self._live and type(row.status) is self._kind and (plain := self._plain(row)) is not None:
            return plain
        judged = read_row(row, self._words)
        if isinstance(judged, Allocation) and not judged.settled and len(self._live) < MOST_STATUSES:
            self._live.add(cast("Word", row.status))
        return judged

    def _plain(self, row: StoredRow) -> Allocation | None:
        """Of a row whose status is live; None: it has to go the long way."""
        sid, vm_ref, provisioner = row.sid, row.vm_ref, row.provisioner
        vm_uid, owner, plan = row.vm_uid, row.owner, row.plan
        if row.released_at is not None or row.deleted_at is not None or not _is_name(sid):
            return None
        if vm_ref is None and not self._words.is_vm_ref_named:
            vm_ref = sid
        if provisioner is None:
            provisioner = DEFAULT_PROVISIONER
        # Of a row whose vm_ref is nothing but space the configuration may say that it has no VM.
        if not (_is_name(vm_ref) and vm_ref.strip() and _is_name(provisioner)):
            return None
        if not (_is_name_or_none(vm_uid) and _is_name_or_none(owner) and _is_name_or_none(plan)):
            return None
        instant = self._instant(row.expires_at)
        if instant is None:
            return None
        raw = RawRow(sid, row.status, row.expires_at)
        settled = released = False
        status = str(row.status)
        return Allocation(sid, status, instant, settled, vm_ref, raw, released, provisioner, vm_uid, owner, plan)

    def _instant(self, value: RawValue) -> datetime | None:
        if self._are_seconds and type(value) is int and FIRST_SECOND <= value < LAST_SECOND:
            return datetime.fromtimestamp(value, UTC)
        try:
            return read_instant(value, self._words)
        except Unreadable:
            return None


def _is_name(value: RawValue) -> TypeGuard[str]:
    """Whether it is a text that is what it says: bytes that are no UTF-8 came as characters that nobody can print."""
    return type(value) is str and (value.isascii() or value.isprintable()) and value != ""


def _is_name_or_none(value: RawValue) -> TypeGuard[str | None]:
    return value is None or _is_name(value)
