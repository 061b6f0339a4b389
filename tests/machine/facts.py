"""What the journal says, read by plain SQL: the checks trust none of the product's own readers."""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

# (sid, expires_at in seconds since the epoch; None: never)
Pair = tuple[str, int | None]
ENDED = ("released", "already_released")
TRIED = (*ENDED, "pending", "failed")


@dataclass(frozen=True, slots=True)
class Intent:
    """An open intent."""

    pair: Pair
    provisioner: str
    vm_ref: str


@dataclass(frozen=True, slots=True)
class Anchor:
    """The last tick that was admitted."""

    now: datetime
    ledger: str | None
    boot_id: str | None
    boot_seconds: float | None


@dataclass(frozen=True, slots=True)
class Facts:
    """The journal at one moment.

    resting: when each pair may be tried again. released: those that ever ended so. begun: those that a release was ever
    begun of. releases: the last release of each sid, newest first.
    """

    intents: frozenset[Intent]
    resting: Mapping[Pair, datetime]
    released: frozenset[Pair]
    begun: frozenset[Pair]
    releases: Sequence[Pair]
    answers: Mapping[str, Sequence[str]]
    anchor: Anchor | None
    newest_tick: str | None
    events: int

    def is_open(self, pair: Pair) -> bool:
        """Whether a release of it was begun, and its end is not written down."""
        return any(intent.pair == pair for intent in self.intents)


def read_facts(journal: Path) -> Facts:
    """Read it all."""
    connection = sqlite3.connect(f"file:{journal}?mode=ro", uri=True)
    try:
        return _read(connection)
    finally:
        connection.close()


def _read(connection: sqlite3.Connection) -> Facts:
    events = connection.execute(
        "SELECT sid, expires_at, event, outcome, provisioner, answer FROM events ORDER BY id DESC"
    ).fetchall()
    attempts = connection.execute(
        "SELECT sid, expires_at, provisioner, vm_ref, intent_at, next_attempt_at, outcome FROM attempts"
    ).fetchall()
    ends = [_pair(sid, expires_at) for sid, expires_at, _, outcome, _, _ in events if outcome in ENDED]
    newest: dict[str, Pair] = {}
    for pair in ends:
        newest.setdefault(pair[0], pair)
    answers: dict[str, list[str]] = {}
    for _, _, _, _, provisioner, answer in events:
        if answer is not None:
            answers.setdefault(provisioner, []).append(answer)
    return Facts(
        intents=frozenset(
            Intent(_pair(sid, expires_at), provisioner, vm_ref)
            for sid, expires_at, provisioner, vm_ref, intent_at, _, _ in attempts
            if intent_at is not None
        ),
        resting={_pair(row[0], row[1]): datetime.fromisoformat(row[5]) for row in attempts if row[5] is not None},
        # Events are dropped when they are old; the last outcome is kept.
        released=frozenset(ends) | {_pair(row[0], row[1]) for row in attempts if row[6] in ENDED},
        begun=frozenset(_pair(row[0], row[1]) for row in events if row[2] == "intent")
        | {_pair(row[0], row[1]) for row in attempts if row[4] is not None or row[6] in TRIED},
        releases=list(newest.values()),
        answers=answers,
        anchor=_anchor(connection),
        newest_tick=_one(connection, "SELECT tick FROM ticks WHERE kind = 'tick' ORDER BY seq DESC LIMIT 1"),
        events=len(events),
    )


def _anchor(connection: sqlite3.Connection) -> Anchor | None:
    row = connection.execute(
        "SELECT now, ledger, boot_id, boot_seconds FROM ticks"
        " WHERE kind = 'tick' AND admitted ORDER BY seq DESC LIMIT 1"
    ).fetchone()
    return Anchor(datetime.fromisoformat(row[0]), *row[1:]) if row is not None else None


def _one(connection: sqlite3.Connection, statement: str) -> Any:
    row = connection.execute(statement).fetchone()
    return row[0] if row is not None else None


def _pair(sid: str, expires_at: str | None) -> Pair:
    return (sid, int(datetime.fromisoformat(expires_at).timestamp()) if expires_at else None)
