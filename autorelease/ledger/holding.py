"""Which VM a row of the ledger holds, whatever else is wrong with the row. Pure, no database.

A live row that nobody can read is a customer all the same, so what it holds is read as generously as it can be.
"""

from autorelease.identity import Holder, vm_named
from autorelease.ledger.rows import readable
from autorelease.ledger.values import Vocabulary
from autorelease.model import DEFAULT_PROVISIONER, RawValue


def read_holder(
    sid: RawValue, provisioner: RawValue, vm_ref: RawValue, vm_uid: RawValue, words: Vocabulary
) -> Holder | None:
    """What such a row holds; None: it has no VM."""
    is_absent = vm_ref in (None, "")
    # A row that has no sid, either, names nothing.
    if is_absent and (words.is_vm_ref_named or sid in (None, "")):
        return None
    reference = _text(sid if is_absent else vm_ref)
    if words.is_vm_ref_named and not reference.strip():
        return None
    name = DEFAULT_PROVISIONER if provisioner in (None, "") else readable(provisioner)
    return Holder(readable(sid), vm_named(name, reference, readable(vm_uid), words.references))


def is_plain(value: RawValue) -> bool:
    """Whether SQL can fold it: an integer, or text of ASCII characters but NUL."""
    return isinstance(value, int) or (isinstance(value, str) and value.isascii() and "\0" not in value)


def _text(value: RawValue) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)
