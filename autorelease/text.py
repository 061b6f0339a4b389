"""Text from outside, made safe to show: nothing of it can break a line or steer a terminal; and names of users."""

from pwd import getpwuid


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


def user_name(uid: int) -> str:
    """The name of a user, as a shell takes it; of one without a name, its number."""
    try:
        return getpwuid(uid).pw_name
    except KeyError:
        return f"'#{uid}'"
