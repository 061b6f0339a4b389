"""Text from outside: made safe to show, so that nothing of it can break a line or steer a terminal; and folded, so that
two spellings of one word are found to be one. And the names of users.
"""

from pwd import getpwuid
from unicodedata import normalize


def escaped(text: str) -> str:
    """Every character that is not printable as its Python escape: a newline as \\n, ESC as \\x1b.

    That includes the invisible ones that reorder or hide text (U+202E, U+200B).
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def plain(said: object, longest: int = 8192) -> str:
    """What anything says of itself, as text that can be stored: also where its `str` is broken.

    Lone surrogates, as in the name of a file, are written as their escape. longest: in characters; more is cut off.
    """
    try:
        text = str(said).encode("utf-8", "backslashreplace").decode("utf-8")
    except Exception:  # noqa: BLE001 - an exception whose own text raises, too
        return "(its text cannot be read)"
    return text if len(text) <= longest else f"{text[:longest]}…"


def folded(text: str) -> str:
    """What all spellings of one word have in common: no case, no space around it, one form of each character.

    Folded again it stays as it is: what one of the steps leaves behind for another is taken up in the next round.
    """
    if text.isascii():
        return text.strip().lower()
    while (simpler := normalize("NFKC", text.strip()).casefold()) != text:
        text = simpler
    return text


def user_name(uid: int) -> str:
    """The name of a user, as a shell takes it; of one without a name, its number."""
    try:
        return getpwuid(uid).pw_name
    except KeyError:
        return f"'#{uid}'"
