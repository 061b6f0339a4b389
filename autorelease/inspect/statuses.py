"""The doctor's look at the statuses: how many rows have each, what it means to a tick, and which look like another."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from unicodedata import normalize

from autorelease.inspect import Check, State
from autorelease.ledger.rows import StoredRow, read_row
from autorelease.ledger.values import Vocabulary, shown
from autorelease.model import InvalidRow, RawValue
from autorelease.text import folded

# More than these, and the column is hardly one of statuses.
MOST_STATUSES = 20
# So many different ones are compared with each other.
COMPARED = 1_000
MOST_PAIRS = 5
Counted = Sequence[tuple[RawValue, int]]


def statuses(found: Counted, words: Vocabulary, *, shows_released: bool) -> Check:
    """Each status with how many rows have it, and what it means to a tick. found: the most frequent ones first.

    shows_released: released rows must be among them. A view may leave them out.
    """
    alike = {spelling for spellings in _alike(found, words) for spelling in spellings}
    listed = ", ".join(
        f"{_named(status, alike)} {rows} ({_meaning(status, words)})" for status, rows in found[:MOST_STATUSES]
    )
    if len(found) > MOST_STATUSES:
        message = f"more than {MOST_STATUSES} different ones; is this the right column? {listed}"
        return Check("statuses", State.WARN, message, "[ledger.columns] status in the configuration")
    if shows_released and found and words.released not in [status for status, _ in found]:
        message = f"no row says {words.released!r}, which is right only before the first release: {listed}"
        return Check("statuses", State.WARN, message, "[ledger] released in the configuration")
    if not found and words.where:
        message = "no row of the table is one that [ledger] where admits"
        return Check("statuses", State.WARN, message, "[ledger] where in the configuration")
    return Check("statuses", State.OK, listed or "the table is empty")


def spellings(found: Counted, words: Vocabulary) -> Check:
    """The statuses that a reader takes for one, and a tick does not."""
    name = "spellings"
    groups = list(_alike(found, words))
    if not groups:
        return Check(name, State.OK, "no two statuses differ in case, space or Unicode form alone")
    counts = {status: rows for status, rows in found if isinstance(status, str)}
    pairs = [_pair(group[0], other, counts, words) for group in groups for other in group[1:]]
    message = "; ".join(pairs[:MOST_PAIRS]) + ("; …" if len(pairs) > MOST_PAIRS else "")
    configured = _configured(words)
    if not any(spelling in configured for group in groups for spelling in group):
        return Check(name, State.OK, f"all of these are live: {message}")
    remedy = "write one spelling in all rows, or add the other one to [ledger] inactive in the configuration"
    return Check(name, State.WARN, message, remedy)


def _named(status: RawValue, alike: set[str]) -> str:
    if isinstance(status, str) and status in alike and (not status.isascii() or status != status.strip()):
        return ascii(status)
    return shown(status, 40)


def _meaning(status: RawValue, words: Vocabulary) -> str:
    row = read_row(StoredRow("1", status, None), words)
    if isinstance(row, InvalidRow):
        return f"not understood: {row.reason}"
    if row.released:
        return "released"
    return "inactive: nothing to release" if row.settled else "live: released when its time is up"


def _configured(words: Vocabulary) -> Mapping[str, str]:
    """The words of the configuration, and the key of each."""
    keys = {
        **dict.fromkeys(words.live, "live"),
        **dict.fromkeys(words.inactive, "inactive"),
        words.released: "released",
    }
    # Numbers have one spelling.
    return {word: keys[word] for word in sorted(word for word in keys if isinstance(word, str))}


def _alike(found: Counted, words: Vocabulary) -> Iterator[Sequence[str]]:
    """The texts that fold to one, those of the configuration first."""
    by_folded: defaultdict[str, list[str]] = defaultdict(list)
    texts = [status for status, _ in found if isinstance(status, str)]
    for text in dict.fromkeys([*_configured(words), *texts]):
        by_folded[folded(text)].append(text)
    # What nobody wrote into the table differs from nothing there.
    yield from (group for group in by_folded.values() if len(group) > 1 and any(text in texts for text in group))


def _pair(one: str, other: str, counts: Mapping[str, int], words: Vocabulary) -> str:
    configured = _configured(words)
    both = " and ".join(_described(text, counts.get(text, 0), configured.get(text)) for text in (one, other))
    return f"{both} differ in {' and '.join(_differences(one, other))}"


def _described(text: str, rows: int, key: str | None) -> str:
    return f"{text!a} ({rows} {'row' if rows == 1 else 'rows'}, {f'configured as {key}' if key else 'not configured'})"


def _differences(one: str, other: str) -> Iterator[str]:
    """In what two texts that fold to one are not the same."""
    if _space(one) != _space(other):
        yield "the space around it"
    one, other = one.strip(), other.strip()
    if one.casefold() != other.casefold():
        yield "the Unicode form of a character"
    if normalize("NFKC", one) != normalize("NFKC", other):
        yield "case"


def _space(text: str) -> tuple[str, str]:
    return text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
