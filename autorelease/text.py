"""Text from outside, made safe to show: nothing of it can break a line or steer a terminal. Pure."""


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
