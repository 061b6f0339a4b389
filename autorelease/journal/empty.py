"""The journal where there is none: what a command that only reads sees."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from autorelease.journal import Audited, OpenIntent, PastTick, TickStart
from autorelease.model import Allocation, Answer, Hold, Known


class EmptyJournal:
    """See `JournalReader`. Nothing was ever done."""

    def version(self) -> int | None:
        """Not known."""
        return None

    def newest_tick(self) -> PastTick | None:
        """None."""
        return None

    def newest_release(self) -> PastTick | None:
        """None."""
        return None

    def last_admitted_tick(self) -> PastTick | None:
        """None."""
        return None

    def last_swept_tick(self) -> PastTick | None:
        """None."""
        return None

    def last_counted_tick(self) -> PastTick | None:
        """None."""
        return None

    def remembered(self, sid: str) -> Sequence[tuple[datetime | None, Known]]:  # noqa: ARG002
        """Nothing."""
        return ()

    def recent_releases(self, limit: int) -> Sequence[tuple[str, datetime | None]]:  # noqa: ARG002
        """Nothing."""
        return ()

    def hold_of(self, sid: str) -> Hold | None:  # noqa: ARG002
        """None."""
        return None

    def holds_of(self, allocations: Sequence[Allocation]) -> Mapping[str, Hold]:  # noqa: ARG002
        """Nothing."""
        return {}

    def holds(self, ended_after: datetime) -> Sequence[Hold]:  # noqa: ARG002
        """Nothing."""
        return ()

    def audited(self, ledger: str) -> Audited:  # noqa: ARG002
        """Nothing."""
        return Audited()

    def ticks(self, tick: str | None = None) -> Iterator[PastTick]:  # noqa: ARG002
        """Nothing."""
        return iter(())

    def events(self, *, sid: str | None = None, tick: str | None = None) -> Iterator[Mapping[str, Any]]:  # noqa: ARG002
        """Nothing."""
        return iter(())

    def known(self, allocations: Sequence[Allocation]) -> Mapping[tuple[str, datetime | None], Known]:  # noqa: ARG002
        """Nothing."""
        return {}

    def recent_answers(self, fingerprint: str, limit: int, run: str | None = None) -> Sequence[Answer]:  # noqa: ARG002
        """Nothing."""
        return ()

    def credits(self) -> Sequence[tuple[str, datetime]]:
        """Nothing."""
        return ()

    def open_intents(self) -> Iterator[OpenIntent]:
        """Nothing."""
        return iter(())

    def unfinished_runs(self) -> Sequence[TickStart]:
        """Nothing."""
        return ()

    def close(self) -> None:
        """Nothing to do."""
