"""What was connected is closed, also where what it was connected for breaks off.

From Python 3.13 on a connection that is collected unclosed warns; before that nobody hears of it.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch


@contextmanager
def all_closed() -> Iterator[None]:
    """Something is connected in this block, and all of it is closed when the block ends."""
    made: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def connected(*arguments: Any, **more: Any) -> sqlite3.Connection:
        # Kept: a connection that nobody has any more is closed by being collected.
        made.append(connect(*arguments, **more))
        return made[-1]

    with patch("sqlite3.connect", connected):
        yield
    left = [connection for connection in made if is_open(connection)]
    for connection in left:
        connection.close()
    assert made
    assert not left


def is_open(connection: sqlite3.Connection) -> bool:
    """Whether this connection can still be used."""
    try:
        _ = connection.in_transaction
    except sqlite3.ProgrammingError:
        return False
    return True
