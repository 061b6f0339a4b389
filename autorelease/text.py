"""Text from outside: made safe to show, so that nothing of it breaks a line, steers a terminal or is a secret; and
folded, so that two spellings of one word are found to be one. And the names of users.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pwd import getpwuid
from unicodedata import normalize

import msgspec

HIDDEN = "***"
# Of what JSON leaves as it is, the one ASCII character that cannot be printed.
DELETE = "\x7f"
_ENCODER = msgspec.json.Encoder()
_LIKE_SECRETS = "secret|token|passw|passphrase|pwd|credential|authori[sz]ation|bearer|cookie"
_SECRET_NAME = re.compile(rf"(?i){_LIKE_SECRETS}|key([_-]file|[_-]path)?$")
# What ends so names the place of a secret, which is none.
_PLACE_NAME = re.compile(r"(?i)[_-](file|path|dir)$")
# Of an option or a file: what is there holds a secret. -H and -K are curl's.
_PLACE_OF_SECRET = re.compile(r"(?i)header|netrc|^-[HK]$")
# user:PASSWORD@host in a URL.
_USER_INFO = re.compile(r"(://[^/:\s]*:)[^/\s]+(?=@)")
# ?access_token=SECRET in a URL: what follows is not of it.
_QUERY = re.compile(rf"(?i)([?&](?:[\w.-]*(?:{_LIKE_SECRETS})[\w.-]*|[\w.-]*key)=)[^&#\s]+")
# --token=SECRET, token: SECRET, "Authorization: Bearer SECRET", wherever it stands.
_PAIR = re.compile(
    rf"(?i)((?:{_LIKE_SECRETS})[\w.-]*|key)(\s*[=:]\s*)(?!\*\*\*)"
    r"(\"[^\"]*\"|'[^']*'|(?:(?:bearer|basic|token|digest)\s+)?\S+)"
)
_WHOLE_PAIR = re.compile(r"([\w.-]+)(\s*[=:]\s*)(.+)", re.DOTALL)
# sh -c, bash -lc: what follows is a script.
_SCRIPT_OPTION = re.compile(r"-[a-z]*c")
# curl(1): what follows is user:PASSWORD.
_USER_OPTIONS = ("-u", "--user", "-U", "--proxy-user")


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


def plain(source: object, longest: int = 8192) -> str:
    """What anything says of itself, as text that can be stored: also where its `str` is broken.

    Lone surrogates, as in the name of a file, are written as their escape. longest: in characters; more is cut off.
    """
    try:
        text = str(source).encode("utf-8", "backslashreplace").decode("utf-8")
    except Exception:  # noqa: BLE001 - an exception whose own text raises, too
        return "(its text cannot be read)"
    return text if len(text) <= longest else f"{text[:longest]}…"


def reason(error: BaseException) -> str:
    """Why something failed; an exception without a text by its kind, because a message must not end in nothing."""
    return plain(error).strip() or type(error).__name__


def kind_and_reason(error: BaseException) -> str:
    """The same of an exception that is not ours, whose kind is half of what there is to know."""
    kind, text = type(error).__name__, reason(error)
    return kind if text == kind else f"{kind}: {text}"


def as_json(value: object) -> str:
    """JSON that every reader takes: lone surrogates, as in the name of a file, are written as their escape."""
    text = json.dumps(value)
    return json.dumps(_without_surrogates(value)) if "\\ud" in text else text


def as_json_row(row: msgspec.Struct | Mapping[str, object]) -> str:
    """The same of one of very many objects, in a third of the time; without spaces where all of it can be printed."""
    try:
        text = _ENCODER.encode(row).decode("ascii")
    except UnicodeError:
        text = DELETE
    # Beyond ASCII, and DEL, are escaped as everywhere.
    return as_json(msgspec.to_builtins(row)) if DELETE in text else text


def _without_surrogates(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, Mapping):
        return {_without_surrogates(key): _without_surrogates(each) for key, each in value.items()}
    return [_without_surrogates(each) for each in value] if isinstance(value, list | tuple) else value


def folded(text: str) -> str:
    """What all spellings of one word have in common: no case, no space around it, one form of each character.

    Folded again it stays as it is: what one of the steps leaves behind for another is taken up in the next round.
    """
    if text.isascii():
        return text.strip().lower()
    while (simpler := normalize("NFKC", text.strip()).casefold()) != text:
        text = simpler
    return text


def is_secret_name(name: str) -> bool:
    """Whether what goes by this name (of a key, an option, a header, a file) looks like a secret."""
    return bool(_SECRET_NAME.search(name)) and not _PLACE_NAME.search(name)


def is_place_of_secret(name: str) -> bool:
    """Whether what goes by this name (of an option, of a file) looks like a place that holds a secret."""
    return bool(_SECRET_NAME.search(name) or _PLACE_OF_SECRET.search(name))


def without_secrets(text: str) -> str:
    """The text with what looks like a secret in it hidden: a value by its name, a password in a URL."""
    whole = _WHOLE_PAIR.fullmatch(text)
    if whole and is_secret_name(whole[1]):
        return f"{whole[1]}{whole[2]}{HIDDEN}"
    return _parts_without_secrets(text)


def words_without_secrets(words: Iterable[str]) -> Iterator[str]:
    """The words of a command with what looks like a secret hidden, also where the option stands in the word before."""
    before = ""
    for word in words:
        if before in _USER_OPTIONS:
            yield re.sub(r"(?s):.*", f":{HIDDEN}", word)
        elif before.startswith("-") and is_secret_name(before) and "=" not in before:
            yield HIDDEN
        else:
            yield _parts_without_secrets(word) if _SCRIPT_OPTION.fullmatch(before) else without_secrets(word)
        before = word


def _parts_without_secrets(text: str) -> str:
    text = _USER_INFO.sub(lambda match: match[1] + HIDDEN, text)
    text = _QUERY.sub(lambda match: match[1] + HIDDEN, text)
    return _PAIR.sub(_hidden_pair, text)


def _hidden_pair(match: re.Match[str]) -> str:
    return f"{match[1]}{match[2]}{HIDDEN}" if is_secret_name(match[1]) else match[0]


def user_name(uid: int) -> str:
    """The name of a user, as a shell takes it; of one without a name, its number."""
    try:
        return getpwuid(uid).pw_name
    except KeyError:
        return f"'#{uid}'"
