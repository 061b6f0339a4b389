"""What a row of the ledger says: raw values become an `Allocation` or an `InvalidRow`. Pure, no database.

Everything ambiguous is invalid: not released, and reported with its reason.
"""

from collections.abc import Mapping
from functools import lru_cache

import msgspec

from autorelease.ledger.instants import read_instant
from autorelease.ledger.values import Unreadable, Vocabulary, Word, is_blank, is_word, shown
from autorelease.model import DEFAULT_PROVISIONER, Allocation, InvalidRow, RawRow, RawValue
from autorelease.text import folded


class StoredRow(msgspec.Struct, frozen=True, gc=False):
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
    deleted_at: RawValue = None


def read_row(row: StoredRow, words: Vocabulary) -> Allocation | InvalidRow:
    """Judge one row; an InvalidRow carries the reason in words."""
    raw = RawRow(row.sid, row.status, row.expires_at)
    try:
        sid = _sid(row.sid)
    except Unreadable as reason:
        return InvalidRow(shown(row.sid), str(reason), raw, has_sid=False)
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
    deleted = _is_deleted(row.deleted_at, words)
    status = shown(row.status) if deleted else _status(row.status, words)
    settled = deleted or is_word(row.status, words.settled)
    if not settled and not words.is_not_set(row.released_at):
        raise Unreadable(_released_once(row.released_at, status))
    # Of a settled row nothing else matters: its expiry is not even looked at.
    expires_at = None if settled else read_instant(row.expires_at, words)
    return Allocation(
        sid=sid,
        status=status,
        expires_at=expires_at,
        settled=settled,
        vm_ref=_vm_ref(row.vm_ref, sid, words),
        raw=raw,
        released=is_word(row.status, (words.released,)),
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


def _is_deleted(value: RawValue, words: Vocabulary) -> bool:
    if words.is_not_set(value):
        return False
    if is_blank(value):
        raise Unreadable(
            f"deleted_at is {shown(value, 40)!r}: {_make_it_nothing(value)} if it means that it is not set"
        )
    return True


def _released_once(released_at: RawValue, status: str) -> str:
    reason = f"released_at is set ({shown(released_at, 40)}) while the status is {shown(status, 40)!r}"
    if not is_blank(released_at):
        return reason
    return f"{reason}; {_make_it_nothing(released_at)} if it means that it is not set"


def _make_it_nothing(value: RawValue) -> str:
    return "make it NULL" if isinstance(value, bytes) else "list it in ledger.never"


def _status(value: RawValue, words: Vocabulary) -> str:
    if value is None:
        raise Unreadable("status is NULL")
    if not isinstance(value, type(words.released)):
        wanted = "an integer" if words.has_numbers else "text"
        raise Unreadable(f"status is not {wanted} but {type(value).__name__} ({shown(value, 40)})")
    if not is_word(value, words.settled | words.live):
        _check_is_live(value, words)
    return _decodable("status", str(value))


def _check_is_live(status: Word, words: Vocabulary) -> None:
    """Raise Unreadable for a status that is none of the configured words, and cannot be taken for any other one."""
    if isinstance(status, str):
        meant = _words_by_form(words.settled, words.live).get(folded(status))
        if meant is not None:
            raise Unreadable(_nearly(status, meant))
        _decodable("status", status)
    if words.live:
        raise Unreadable(f"status {shown(status, 40)!r} is not one of ledger.live, nor released or inactive")


@lru_cache(maxsize=8)
def _words_by_form(settled: frozenset[str], live: frozenset[str]) -> Mapping[str, str]:
    """The configured words, by what all their spellings have in common."""
    return {folded(word): word for word in (*sorted(live), *sorted(settled))}


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
