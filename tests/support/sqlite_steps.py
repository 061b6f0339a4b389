"""What is asked of an SQLite database, and how many steps of its machine that takes: the same on every computer."""

import sqlite3
from collections.abc import Callable

STEPS_AT_ONCE = 100


def statements_of(connection: sqlite3.Connection, use: Callable[[], object]) -> list[str]:
    """The statements that SQLite ran meanwhile, with the values that were bound."""
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    use()
    connection.set_trace_callback(None)
    return statements


def steps_of(connection: sqlite3.Connection, use: Callable[[], object]) -> int:
    """How many of SQLite's own steps this takes, in full hundreds."""
    hundreds = 0

    def one_more() -> int:
        nonlocal hundreds
        hundreds += 1
        return 0

    connection.set_progress_handler(one_more, STEPS_AT_ONCE)
    use()
    connection.set_progress_handler(None, 0)
    return hundreds * STEPS_AT_ONCE
