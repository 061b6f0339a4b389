"""What the journal says, read by plain SQL: the checks trust none of the product's own readers."""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

# (sid, expires_at in seconds since the epoch; None: never)
Pair = tuple[str, int | None]
# (name of the provisioner, vm_ref as it is written)
Ref = tuple[str, str]
ENDED = ("released", "already_released")
FAILED = ("pending", "failed")
Read = TypeVar("Read")


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered of one pair. run: the one that left its release open; None: it is not.

    is_missed: the last call of that was "not found", and its run ended before anybody had judged it.

    accepted, under: what the provisioner said of it, and by what it was known then.
    """

    pair: Pair
    ref: Ref
    run: str | None
    accepted: str | None
    under: str | None
    is_conflict: bool
    was_tried: bool
    is_missed: bool


@dataclass(frozen=True, slots=True)
class Anchor:
    """The last tick that was admitted."""

    tick: str
    now: datetime
    ledger: str | None
    boot_id: str | None
    boot_seconds: float | None


@dataclass(frozen=True, slots=True)
class Facts:
    """The journal at one moment.

    resting: when each pair may be tried again. released: those that ever ended so. begun: those that a release was ever
    begun of. releases: the last release of each sid, newest first. answers: of each fingerprint, newest first, as (run,
    answer). credits: the fingerprints that have shown that they can release. missed: (run, sid) of each "not found".
    crashed: the runs that were found to be killed; unfinished: those of which nobody has written an end.
    """

    memory: Mapping[Pair, Memory]
    resting: Mapping[Pair, datetime]
    released: frozenset[Pair]
    begun: frozenset[Pair]
    releases: Sequence[Pair]
    answers: Mapping[str, Sequence[tuple[str, str]]]
    credits: frozenset[str]
    missed: frozenset[tuple[str, str]]
    crashed: frozenset[str]
    unfinished: frozenset[str]
    anchor: Anchor | None
    newest_tick: str | None
    events: int

    @property
    def intents(self) -> Sequence[Memory]:
        """The releases that were begun and have no known end."""
        return [memory for memory in self.memory.values() if memory.run is not None]

    @property
    def conflicts(self) -> frozenset[Pair]:
        """The conflicts that nobody has acknowledged."""
        return frozenset(pair for pair, memory in self.memory.items() if memory.is_conflict)

    def is_open(self, pair: Pair) -> bool:
        """Whether a release of it was begun, and its end is not written down."""
        return pair in self.memory and self.memory[pair].run is not None

    def was_tried(self, pair: Pair) -> bool:
        """Whether a tick has tried it, so that it is no first try any more."""
        return pair in self.memory and (self.memory[pair].was_tried or self.is_open(pair))


class Reader(Generic[Read]):
    """A database that is read whole by one connection, again only where somebody has written meanwhile."""

    def __init__(self, database: Path, read: Callable[[sqlite3.Connection], Read]) -> None:
        self._database = database
        self._read = read
        self._connection: sqlite3.Connection | None = None
        self._version = 0
        self._found: Read | None = None

    def read(self) -> Read:
        """What it holds now."""
        if self._connection is None:
            self._found = None
            self._connection = sqlite3.connect(f"file:{self._database}?mode=ro", uri=True, check_same_thread=False)
            self._connection.row_factory = sqlite3.Row
        [version] = self._connection.execute("PRAGMA data_version").fetchone()
        if self._found is None or version != self._version:
            self._version, self._found = version, self._read(self._connection)
        return self._found

    def close(self) -> None:
        """Let go of the file: it is gone, or another one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def read_facts(connection: sqlite3.Connection) -> Facts:
    """Read all of a journal."""
    events = connection.execute("SELECT tick, sid, expires_at, event, outcome FROM events ORDER BY id DESC").fetchall()
    attempts = [(_pair(row), row) for row in connection.execute("SELECT * FROM attempts")]
    ends = [_pair(row) for row in events if row["outcome"] in ENDED]
    newest: dict[str, Pair] = {}
    for pair in ends:
        newest.setdefault(pair[0], pair)
    answers: dict[str, list[tuple[str, str]]] = {}
    for tick, fingerprint, answer in connection.execute(
        "SELECT tick, fingerprint, answer FROM given_answers ORDER BY id DESC"
    ):
        answers.setdefault(fingerprint, []).append((tick, answer))
    return Facts(
        memory={pair: _memory(pair, row) for pair, row in attempts},
        resting={
            pair: datetime.fromisoformat(row["next_attempt_at"]) for pair, row in attempts if row["next_attempt_at"]
        },
        # Events are dropped when they are old; the last outcome is kept.
        released=frozenset(ends) | {pair for pair, row in attempts if row["outcome"] in ENDED},
        begun=frozenset(_pair(row) for row in events if row["event"] == "intent")
        | {pair for pair, row in attempts if row["intent_at"] or row["outcome"] in (*ENDED, *FAILED)},
        releases=list(newest.values()),
        answers=answers,
        credits=frozenset(name for (name,) in connection.execute("SELECT fingerprint FROM credits")),
        missed=frozenset((row["tick"], row["sid"]) for row in events if row["event"] == "miss"),
        crashed=_ticks(connection, "status = 'crashed'"),
        unfinished=_ticks(connection, "status IS NULL"),
        anchor=_anchor(connection),
        newest_tick=_one(connection, "SELECT tick FROM ticks WHERE kind = 'tick' ORDER BY seq DESC LIMIT 1"),
        events=len(events),
    )


def _memory(pair: Pair, row: sqlite3.Row) -> Memory:
    return Memory(
        pair=pair,
        ref=(row["provisioner"], row["vm_ref"]),
        run=(row["intent_run"] or "") if row["intent_at"] is not None else None,
        accepted=row["accepted"],
        under=row["accepted_under"],
        is_conflict=row["conflict_at"] is not None,
        is_missed=row["intent_run"] == "",
        was_tried=bool(row["failed_ticks"] or row["pending_ticks"] or row["outcome"] in FAILED),
    )


def _ticks(connection: sqlite3.Connection, condition: str) -> frozenset[str]:
    return frozenset(tick for (tick,) in connection.execute(f"SELECT tick FROM ticks WHERE {condition}"))


def _anchor(connection: sqlite3.Connection) -> Anchor | None:
    row = connection.execute(
        "SELECT tick, now, ledger, boot_id, boot_seconds FROM ticks"
        " WHERE kind = 'tick' AND admitted ORDER BY seq DESC LIMIT 1"
    ).fetchone()
    return Anchor(row["tick"], datetime.fromisoformat(row["now"]), *row[2:]) if row is not None else None


def _one(connection: sqlite3.Connection, statement: str) -> Any:
    row = connection.execute(statement).fetchone()
    return row[0] if row is not None else None


def _pair(row: sqlite3.Row) -> Pair:
    expires_at = row["expires_at"]
    return (row["sid"], int(datetime.fromisoformat(expires_at).timestamp()) if expires_at else None)
