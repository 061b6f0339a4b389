"""SQL that narrows what is fetched from a ledger: pieces of text, no database.

Each piece errs to one side, which its name says; what a value means is decided in `rows` alone.
"""

import math
from collections.abc import Iterable
from datetime import datetime, timedelta

from autorelease.ledger.values import EARLIEST, EPOCH, LATEST, UNITS_PER_SECOND, Vocabulary
from autorelease.sqlitefile import quoted

# Offsets reach to 24 hours either way, so a text that is two days ahead by its own date is ahead by any offset.
FURTHEST_OFFSET = timedelta(days=2)
DIGIT = "[0-9]"
ZERO_OFFSETS = "'Z', 'z', 'UTC', 'utc', '+0000 UTC'"
OFFSETS = tuple(f"[+-][01]{DIGIT}{minutes}" for minutes in (f":[0-5]{DIGIT}", f"[0-5]{DIGIT}", ""))
# The ASCII part of what Python takes for space; SQLite's own `trim` takes spaces alone.
SPACE = "' ' || char(9, 10, 11, 12, 13, 28, 29, 30, 31)"
BEYOND_ASCII = "'*[^' || char(1) || '-' || char(127) || ']*'"
LONG_MONTHS = "'01', '03', '05', '07', '08', '10', '12'"


def literal(text: str) -> str:
    """An SQL string constant; a bound value would hide it from the planner, which then cannot use a partial index."""
    return "'" + text.replace("'", "''") + "'"


def constant(value: int | str) -> str:
    """An SQL constant for a status or an instant; a bound value would hide it from the planner."""
    return literal(value) if isinstance(value, str) else str(value)


def folded_if_plain(value: str) -> str:
    """SQL: what `folded` makes of a value, where it is an integer or text of ASCII characters."""
    return f"lower(trim({value}, {SPACE}))"


def perhaps_not_plain(value: str) -> str:
    """SQL: false only for an integer, for text of ASCII characters, and for NULL; it may be true for those, too.

    GLOB finds anything beyond ASCII, broken UTF-8 too, but only up to a NUL; that one shows in the lengths.
    """
    return (
        f"typeof({value}) IN ('blob', 'real') OR {value} GLOB {BEYOND_ASCII} "
        f"OR length({value}) <> length(CAST({value} AS BLOB))"
    )


def reference_of(sid: str, vm_ref: str | None) -> str:
    """SQL: what a row names its VM by. vm_ref None: the table has no such column.

    Every ledger is asked in this one way, also where a row without a vm_ref has no VM, so that one index serves.
    """
    return sid if vm_ref is None else f"coalesce(nullif({vm_ref} COLLATE BINARY, ''), {sid})"


def indexes_of_holders(table: str, sid: str, vm_ref: str | None) -> tuple[str, str]:
    """The two statements that make the look for the holders of a VM one by index."""
    reference = reference_of(quoted(sid), None if vm_ref is None else quoted(vm_ref))
    of_plain = f"CREATE INDEX {quoted(f'{table}_vms')} ON {quoted(table)} ({folded_if_plain(reference)})"
    of_others = f"CREATE INDEX {quoted(f'{table}_odd_vms')} ON {quoted(table)} ({quoted(sid)})"
    return f"{of_plain};", f"{of_others} WHERE {perhaps_not_plain(reference)};"


def certainly_unexpired_from(moment: datetime, words: Vocabulary) -> int | str:
    """The stored value from which on nothing can have expired before `moment`, in the ledger's own kind."""
    if words.timestamps == "iso8601":
        return f"{(moment + FURTHEST_OFFSET).date().isoformat()}"
    units = UNITS_PER_SECOND[words.timestamps]
    return -((EPOCH - moment) * units // timedelta(seconds=1))


def certainly_invalid_from(words: Vocabulary) -> int | str:
    """The stored value from which on no expiry is one that can be read, in the ledger's own kind."""
    if words.timestamps == "iso8601":
        return f"{(LATEST + FURTHEST_OFFSET).date().isoformat()}"
    return _first_and_last(words)[1]


def is_for_later(column: str, moment: datetime, words: Vocabulary) -> str:
    """SQL: true only where no reading of this expiry has passed at `moment`, and where it never comes."""
    never = any_of(column, words.never)
    kinds = "'text'" if words.timestamps == "iso8601" else "'integer', 'real'"
    first, last = certainly_unexpired_from(moment, words), certainly_invalid_from(words)
    ahead = f"typeof({column}) IN ({kinds}) AND {column} >= {constant(first)} AND {column} < {constant(last)}"
    return f"({column} IS NULL{f' OR {never}' if never else ''} OR {ahead})"


def certainly_readable(column: str, words: Vocabulary) -> str:
    """SQL: true only for values that `read_instant` understands; it may be false for some that it does, too."""
    never = any_of(column, words.never)
    readable = _readable_text(column, words) if words.timestamps == "iso8601" else _readable_number(column, words)
    return f"{never} OR {readable}" if never else readable


def any_of(column: str, values: Iterable[float | str]) -> str:
    """SQL: the value is exactly one of these; '' where there are none. NULL for NULL alone."""
    # The + strips the column's affinity, so that '0' is not the number 0.
    return " OR ".join(f"+{column} COLLATE BINARY = {_constant(word)}" for word in values)


def certainly_invalid_below(words: Vocabulary) -> int | str:
    """The stored value below which no expiry is one that can be read, in the ledger's own kind."""
    if words.timestamps == "iso8601":
        return f"{(EARLIEST - FURTHEST_OFFSET).date().isoformat()}"
    # What is just before the first instant is rounded up to it.
    return (int((EARLIEST - EPOCH) / timedelta(seconds=1)) - 1) * UNITS_PER_SECOND[words.timestamps]


def _constant(word: float | str) -> str:
    # CAST keeps the written form of a number out of the statement: Python and SQL write some of them differently.
    if isinstance(word, float) and math.isinf(word):
        return "9e999" if word > 0 else "-9e999"
    # The + strips the affinity that CAST would lend to the other side.
    return literal(word) if isinstance(word, str) else f"+CAST({literal(repr(word))} AS NUMERIC)"


def _readable_number(column: str, words: Vocabulary) -> str:
    first, last = _first_and_last(words)
    return f"(typeof({column}) IN ('integer', 'real') AND {column} >= {first} AND {column} < {last})"


def _first_and_last(words: Vocabulary) -> tuple[int, int]:
    """Between them, without the second, all numbers can be read."""
    first, last = (
        int((instant - EPOCH) / timedelta(seconds=1)) * UNITS_PER_SECOND[words.timestamps]
        for instant in (EARLIEST, LATEST)
    )
    return first, last - 1


def _readable_text(column: str, words: Vocabulary) -> str:
    """The common spellings; the rare ones and the last days of months of unusual length go the long way."""
    time = f"[Tt ]{DIGIT * 2}:[0-5]{DIGIT}:[0-5]{DIGIT}"
    times = (
        f"substr({column}, 11, 9) GLOB {literal(time)} AND substr({column}, 12, 2) <= '23'"
        f" AND ({_readable_offset(column, words)})"
    )
    rest = f"({times} OR length({column}) = 10)" if words.dates else times
    return (
        f"(typeof({column}) = 'text' AND length({column}) = length(CAST({column} AS BLOB))"
        f" AND {_readable_day(column)} AND {rest})"
    )


def _readable_day(column: str) -> str:
    month, day = f"substr({column}, 6, 2)", f"substr({column}, 9, 2)"
    return (
        f"substr({column}, 1, 10) GLOB {literal(f'{DIGIT * 4}-{DIGIT * 2}-{DIGIT * 2}')}"
        f" AND substr({column}, 1, 4) BETWEEN '2001' AND '2198' AND {month} BETWEEN '01' AND '12'"
        f" AND ({day} BETWEEN '01' AND '28' OR {day} IN ('29', '30') AND {month} <> '02'"
        f" OR {day} = '31' AND {month} IN ({LONG_MONTHS}))"
    )


def _readable_offset(column: str, words: Vocabulary) -> str:
    """What stands behind the seconds: any fraction, at most one space, and an offset."""
    has_fraction = f"substr({column}, 20, 2) GLOB '[.,]{DIGIT}'"
    rest = f"CASE WHEN {has_fraction} THEN ltrim(substr({column}, 21), '0123456789') ELSE substr({column}, 20) END"
    offset = f"substr({rest}, 1 + ({rest} GLOB ' *'))"
    listed = f"{ZERO_OFFSETS}, ''" if words.timezone else ZERO_OFFSETS
    # What needs no taking apart is looked at first: it is most of what there is.
    whole = f"substr({column}, 20) IN ({listed})"
    return " OR ".join([whole, f"{offset} IN ({listed})", *(f"{offset} GLOB {literal(form)}" for form in OFFSETS)])
