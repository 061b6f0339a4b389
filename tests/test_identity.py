"""Which VM a row means, and who holds it: two spellings are one VM, and what nobody can read may be any."""

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autorelease.identity import VM, Holder, Holders, References, vm_named
from autorelease.text import folded

ALIKE = {
    "case": ("WEB-1", "web-1"),
    "a space behind": ("web-1", "web-1 "),
    "all the space of ASCII": ("web-1", "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f web-1"),
    "a space without break": ("web-1", "web-1\u00a0"),
    "a space of no language": ("web-1", "\u3000\u2003web-1\u2029"),
    "composed and decomposed": ("Gel\u00f6scht", "Gelo\u0308scht"),
    "composed, decomposed and case": ("GEL\u00d6SCHT", "gelo\u0308scht"),
    "the Kelvin sign": ("\u212a8s", "k8s"),
    "sharp s": ("Stra\u00dfe", "STRASSE"),
    "capital sharp s": ("STRA\u1e9eE", "strasse"),
    "long s": ("Relea\u017fed", "Released"),
    "a ligature": ("\ufb01le", "FILE"),
    "full width": ("\uff37\uff25\uff22\uff0d\uff11", "web-1"),
    "final sigma": ("\u039f\u03a3", "\u03bf\u03c2"),
    "a superscript": ("vm\u00b2", "VM2"),
    "the Angstrom sign": ("\u212b", "a\u030a"),
    "a space that comes to light": ("\u00a8web", "\u0308web"),
}
DIFFERENT = {
    "a digit": ("web-1", "web-2"),
    "a zero in front": ("7", "07"),
    "a fraction": ("7", "7.0"),
    "a space within": ("web 1", "web1"),
    "a dotless i": ("\u0131d", "id"),
    "an accent": ("web-\u00e9", "web-e"),
    "another script": ("\u0430", "a"),
    "a NUL": ("web", "web\x00"),
    "a space without width": ("web", "w\u200beb"),
}


@pytest.mark.parametrize(("one", "other"), ALIKE.values(), ids=ALIKE.keys())
def test_these_are_one_word(one: str, other: str) -> None:
    assert folded(one) == folded(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT.values(), ids=DIFFERENT.keys())
def test_these_are_two(one: str, other: str) -> None:
    assert folded(one) != folded(other)


def test_every_character_folds_to_an_end_and_in_all_its_forms_to_the_same() -> None:
    for character in map(chr, range(sys.maxunicode + 1)):
        forms = {unicodedata.normalize(form, character) for form in ("NFC", "NFD", "NFKC", "NFKD")}
        if forms != {character} or character.casefold() != character:
            simple = folded(character)
            assert {folded(form) for form in (simple, *forms, character.upper(), f" {character}\n")} == {simple}


@given(st.text(st.characters(), max_size=6))
def test_what_is_folded_stays(text: str) -> None:
    simple = folded(text)
    assert folded(simple) == simple
    assert folded(unicodedata.normalize("NFD", text)) == folded(unicodedata.normalize("NFC", text)) == simple
    assert folded(f"\u2009{text}\t") == simple
    if text.isascii():
        assert simple == text.strip().lower()


# --- what is compared -------------------------------------------------------------------------------------------------


def test_every_part_of_an_identity_is_folded() -> None:
    assert vm_named("Ovh ", " WEB-1", "AB-CD ", References.FOLDED) == VM("ovh", "web-1", "ab-cd")


def test_exact_references_are_compared_as_they_are_and_uids_never() -> None:
    """No two systems of hosts have ever told two machines apart by the case of a uid."""
    assert vm_named("Ovh ", " WEB-1", "AB-CD ", References.EXACT) == VM("Ovh ", " WEB-1", "ab-cd")


@pytest.mark.parametrize("references", References)
def test_nothing_but_space_is_no_uid(references: References) -> None:
    assert {vm_named("p", "vm", uid, references).uid for uid in (None, "", " \u00a0")} == {None}


def test_a_provisioner_of_nothing_but_space_may_be_meant_as_none() -> None:
    assert vm_named(" ", "vm", None, References.FOLDED).provisioner == "default"
    assert vm_named(None, "vm", None, References.FOLDED).provisioner is None


# --- who holds it -----------------------------------------------------------------------------------------------------


def names_same_vm(one: VM, other: VM) -> bool:
    """What `Holders` must find, said without an index."""
    return (
        one.reference == other.reference
        and (None in (one.provisioner, other.provisioner) or one.provisioner == other.provisioner)
        and (None in (one.uid, other.uid) or one.uid == other.uid)
    )


vms = st.builds(VM, st.sampled_from([None, "default", "ovh"]), st.sampled_from("xy"), st.sampled_from([None, "1", "2"]))


@given(st.lists(vms, max_size=6), vms)
def test_a_holder_is_found_where_there_is_one(held: list[VM], wanted: VM) -> None:
    rows = [Holder(str(number), vm) for number, vm in enumerate(held)]
    holders = Holders(rows)
    found = holders.of(wanted)
    possible = [row for row in rows if names_same_vm(row.vm, wanted)]
    assert (found in possible) if possible else found is None
    assert holders.references == {vm.reference for vm in held}


def test_what_a_reason_calls_a_holder() -> None:
    vm = VM("default", "vm")
    assert [Holder(sid, vm).name for sid in ("b2", None, "it's")] == ["'b2'", "a row without a readable sid", '"it\'s"']
