"""What a row of the ledger says: raw values become an `Allocation` or an `InvalidRow`. Pure, no database.

Everything ambiguous is invalid: not released, and reported with its reason.
"""

from collections.abc import Mapping
from functools import lru_cache

import msgspec

from autorelease.ledger.instants import read_instant
from autorelease.ledger.values import Unreadable, Vocabulary, shown
from autorelease.model import DEFAULT_PROVISIONER, Allocation, InvalidRow, RawRow, RawValue
from autorelease.text import folded


class StoredRow(msgspec.Struct, frozen=True):
    """One row as the database holds it; columns that the table lacks are None."""

    sid: RawValue
    status: RawValue
    expires_at: RawValue
    released_at: RawValue = None
    owner: RawValue = None
    plan: RawValue = None
    vm_ref: RawValue = None
    vm_uid: RawValue = None
    provisioner: RawValue = None


def read_row(row: StoredRow, words: Vocabulary) -> Allocation | InvalidRow:
    """Judge one row; an InvalidRow carries the reason in words."""
    raw = RawRow(row.sid, row.status, row.expires_at)
    try:
        sid = _sid(row.sid)
    except Unreadable as reason:
        return InvalidRow(shown(row.sid), str(reason), raw)
    try:
        return _allocation(row, sid, raw, words)
    except Unreadable as reason:
        return InvalidRow(sid, str(reason), raw)


def readable(value: RawValue) -> str | None:
    """A sid, or the name of something, as the text that it is judged by; None: nobody can say what it is."""
    try:
        return _decodable("it", str(value)) if isinstance(value, int | str) else None
    except Unreadable:
        return None


def _allocation(row: StoredRow, sid: str, raw: RawRow, words: Vocabulary) -> Allocation:
    status = _status(row.status, words)
    settled = status == words.released or status in words.inactive
    if not settled and row.released_at is not None:
        raise Unreadable(f"released_at is set ({shown(row.released_at, 40)}) while the status is {shown(status, 40)!r}")
    # Of a settled row nothing else matters: its expiry is not even looked at.
    expires_at = None if settled else read_instant(row.expires_at, words)
    return Allocation(
        sid=sid,
        status=status,
        expires_at=expires_at,
        settled=settled,
        vm_ref=_vm_ref(row.vm_ref, sid, words),
        raw=raw,
        released=status == words.released,
        provisioner=_reference("provisioner", row.provisioner) or DEFAULT_PROVISIONER,
        vm_uid=_reference("vm_uid", row.vm_uid),
        owner=_note(row.owner),
        plan=_note(row.plan),
    )


def _sid(value: RawValue) -> str:
    if value is None:
        raise Unreadable("sid is NULL")
    if not isinstance(value, int | str):
        raise Unreadable(f"sid is neither text nor an integer but {type(value).__name__}")
    text = _decodable("sid", str(value))
    if not text:
        raise Unreadable("sid is empty")
    return text


def _status(value: RawValue, words: Vocabulary) -> str:
    if value is None:
        raise Unreadable("status is NULL")
    if not isinstance(value, str):
        raise Unreadable(f"status is not text but {type(value).__name__}")
    if value == words.released or value in words.inactive:
        return value
    meant = _settled(words.released, words.inactive).get(folded(value))
    if meant is not None:
        raise Unreadable(_nearly(value, meant))
    return _decodable("status", value)


@lru_cache(maxsize=8)
def _settled(released: str, inactive: frozenset[str]) -> Mapping[str, str]:
    """The words for "settled", by what all their spellings have in common."""
    return {folded(word): word for word in (*sorted(inactive), released)}


def _nearly(status: str, meant: str) -> str:
    if status.strip().casefold() == meant.strip().casefold():
        return f"status {status!r} is {meant!r} but for case or space"
    # Both would look the same as they are.
    return f"status {status!a} is {meant!a} but for the form of its characters"


def _vm_ref(value: RawValue, sid: str, words: Vocabulary) -> str:
    """The name of the VM; '': it has none."""
    reference = _reference("vm_ref", value)
    if words.is_vm_ref_named:
        return reference if reference and reference.strip() else ""
    return reference or sid


def _decodable(name: str, value: str) -> str:
    # The ledger hands bytes that are no UTF-8 on as lone surrogates.
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise Unreadable(f"{name} is not valid UTF-8") from None
    return value


def _reference(name: str, value: RawValue) -> str | None:
    """An identity that decides which VM goes: as strict as the sid; NULL and '' mean that there is none."""
    if value is None or value == "":
        return None
    if not isinstance(value, int | str):
        raise Unreadable(f"{name} is neither text nor an integer but {type(value).__name__}")
    return _decodable(name, str(value))


def _note(value: RawValue) -> str | None:
    """A value that decides nothing and is only shown or passed on."""
    return None if value is None else shown(value, limit=2**31) if isinstance(value, bytes) else _replaced(value)


def _replaced(value: float | str) -> str:
    return str(value).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
