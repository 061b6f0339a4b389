"""Which VM a row means: the one comparison of identities, for the plan, an operator's order, and whoever looks again.

Pure. Most systems take their ids in any case and with any space around them, so two spellings of one id are one VM
until the configuration says otherwise.
"""

from collections.abc import Iterable, Set
from enum import StrEnum

import msgspec

from autorelease.model import DEFAULT_PROVISIONER, Allocation
from autorelease.text import folded

NO_VM = "vm_ref is NULL or empty, and the sid does not stand for it: the configuration names the column of vm_ref"


class References(StrEnum):
    """Whether ids that differ in case, in the space around them or in their form in Unicode alone are one VM."""

    FOLDED = "folded"
    EXACT = "exact"


class VM(msgspec.Struct, frozen=True):
    """A VM as a row names it, every part in the form that is compared.

    provisioner None: nobody can read it, so that it may be any. uid None: it is not known.
    """

    provisioner: str | None
    reference: str
    uid: str | None = None


class Holder(msgspec.Struct, frozen=True):
    """A live row that holds a VM, whatever else is wrong with the row. sid None: nobody can say for certain."""

    sid: str | None
    vm: VM

    @property
    def name(self) -> str:
        """What a reason calls it."""
        return "a row without a readable sid" if self.sid is None else repr(self.sid)


def vm_named(provisioner: str | None, vm_ref: str, vm_uid: str | None, references: References) -> VM:
    """The VM that these values name. They are as they are read, with an absent provisioner as the default one."""
    uid = (folded(vm_uid) or None) if vm_uid else None
    if references is References.EXACT:
        return VM(provisioner, vm_ref, uid)
    # A name that is nothing but space may be meant as none.
    return VM(None if provisioner is None else folded(provisioner) or DEFAULT_PROVISIONER, folded(vm_ref), uid)


def vm_of(allocation: Allocation, references: References) -> VM:
    """The VM that this allocation is of."""
    return vm_named(allocation.provisioner, allocation.vm_ref, allocation.vm_uid, references)


class Holders:
    """Rows that hold VMs, to be asked which of them holds a certain one; a question costs the same for any number.

    Two rows hold one VM where provisioner and reference are the same, unless both uids are known and differ.
    """

    def __init__(self, holders: Iterable[Holder]) -> None:
        self._by_uid: dict[tuple[str, str | None, str | None], Holder] = {}
        self._by_reference: dict[str, dict[str | None, Holder]] = {}
        for holder in holders:
            vm = holder.vm
            self._by_uid.setdefault((vm.reference, vm.provisioner, vm.uid), holder)
            self._by_reference.setdefault(vm.reference, {}).setdefault(vm.provisioner, holder)

    @property
    def references(self) -> Set[str]:
        """The references of all their VMs."""
        return self._by_reference.keys()

    def of(self, vm: VM) -> Holder | None:
        """One of those that hold this VM; None: nobody does."""
        holders = self._by_reference.get(vm.reference, {})
        provisioners = holders if vm.provisioner is None else (vm.provisioner, None)
        for provisioner in provisioners:
            found = holders.get(provisioner) if vm.uid is None else self._of_uid(vm, provisioner)
            if found is not None:
                return found
        return None

    def _of_uid(self, vm: VM, provisioner: str | None) -> Holder | None:
        key = (vm.reference, provisioner)
        return self._by_uid.get((*key, vm.uid)) or self._by_uid.get((*key, None))
