"""SQL for what the words of a configuration say of a row: pieces of text, no database.

Each piece is exact and never NULL: it is true for the very rows of which `rows` says the same, whatever type, affinity
or collation the column has. `narrowing` has what errs to one side.
"""

from collections.abc import Callable, Collection, Iterator

from autorelease.ledger.narrowing import any_of, constant, folded_if_plain, literal
from autorelease.ledger.values import BLANK_BYTES, BLANK_NUMBERS, BLANK_TIMES, BLANK_WORDS, Vocabulary, Word


def constants(words: Collection[Word]) -> str:
    """SQL constants for some statuses, which are all of one type."""
    return ", ".join(constant(word) for word in sorted(words, key=lambda word: (isinstance(word, str), word)))


def is_one_of(column: str, words: Collection[Word]) -> str:
    """SQL: the value is one of these words, which are all of one type."""
    kind = "text" if all(isinstance(word, str) for word in words) else "integer"
    # The + keeps the column's affinity away, in which '3' would be 3; and typeof tells 3 from 3.0.
    return f"(typeof({column}) = '{kind}' AND +{column} COLLATE BINARY IN ({constants(words)}))"


def is_admitted(column: Callable[[str], str], words: Vocabulary) -> str:
    """SQL: the row is one of ours. column: the SQL for a column by its name."""
    return " AND ".join(is_one_of(column(name), (value,)) for name, value in words.where) or "1"


def may_be_admitted(column: Callable[[str], str], words: Vocabulary) -> Iterator[str]:
    """SQL, each to stand alone between ANDs: true for all rows of ours, and in a form that an index is chosen by.

    Most rows are ours, as far as SQLite can know: an index on such a column alone would be worse than one on the
    expiry.
    """
    return (f"likely({column(name)} = {constant(value)})" for name, value in words.where)


def is_not_set(column: str, words: Vocabulary) -> str:
    """SQL: no instant is stored there."""
    never = any_of(column, words.never)
    return f"({column} IS NULL OR {never})" if never else f"({column} IS NULL)"


def is_blank(column: str) -> str:
    """SQL: what is stored there looks like nothing."""
    text = folded_if_plain(column)
    zero_times = " OR ".join(f"{text} GLOB {literal(f'{time}*')}" for time in BLANK_TIMES)
    of_bytes = ", ".join(f"x'{value.hex()}'" for value in BLANK_BYTES)
    return (
        f"coalesce(CASE typeof({column}) WHEN 'text' THEN {text} IN ({constants(BLANK_WORDS)}) OR {zero_times} "
        f"WHEN 'blob' THEN +{column} IN ({of_bytes}) ELSE +{column} IN ({constants(BLANK_NUMBERS)}) END, 0)"
    )


def is_live(status: str, deleted_at: str | None, words: Vocabulary) -> str:
    """SQL: something may be left to release. deleted_at None: the table has no such column."""
    live = f"NOT {is_one_of(status, words.settled)}"
    # What looks like nothing may be nothing: such a row is invalid, and therefore live.
    return live if deleted_at is None else f"{live} AND ({is_not_set(deleted_at, words)} OR {is_blank(deleted_at)})"
