"""The census: all live rows counted, and those that look wrong judged."""

from collections.abc import Container, Iterable, Iterator, Sequence
from datetime import datetime, timedelta

import msgspec
from msgspec.structs import replace

from autorelease.ledger import QuickCensus
from autorelease.ledger.conditions import constants, is_blank, is_not_set, is_one_of
from autorelease.ledger.due import in_pages
from autorelease.ledger.living import Living, LivingRows
from autorelease.ledger.lookup import SHARED_SID
from autorelease.ledger.narrowing import (
    certainly_invalid_from,
    certainly_readable,
    certainly_unexpired_from,
    constant,
    folded_if_plain,
    is_for_later,
    perhaps_not_plain,
)
from autorelease.ledger.pace import Pace
from autorelease.ledger.rows import StoredRow, read_row
from autorelease.ledger.shared import Sharing
from autorelease.ledger.slices import Key, Position, Slice
from autorelease.ledger.values import LATEST
from autorelease.model import Census, InvalidRow
from autorelease.text import folded

LISTED_INVALID = 1000
# The sids of so many are kept, to be compared with what an audit has found.
KNOWN_INVALID = 20_000
A_DAY = timedelta(days=1)


class _Counts(msgspec.Struct):
    """What a census has counted so far."""

    acknowledged: Container[str]
    is_quick: bool = False
    live: int = 0
    invalid: int = 0
    known: int = 0
    unnamed: int = 0
    listed: list[InvalidRow] = msgspec.field(default_factory=list)
    sids: set[str] = msgspec.field(default_factory=set)

    def add_page(self, live: int, invalid: Iterable[InvalidRow]) -> None:
        """Count the rows of one page."""
        self.live += live
        for row in invalid:
            self.add(row)

    def add(self, row: InvalidRow) -> None:
        """Count one invalid row."""
        self.invalid += 1
        self.known += row.sid in self.acknowledged
        self.unnamed += not row.has_sid
        if len(self.listed) < LISTED_INVALID:
            self.listed.append(row)
        if row.has_sid and len(self.sids) <= KNOWN_INVALID:
            self.sids.add(row.sid)


class Counting(Sharing, LivingRows):
    """SQL finds a superset of the invalid rows; `rows` says which are. It goes by pages: no writer waits for all."""

    def census(self, acknowledged: Container[str] = frozenset(), quick: QuickCensus | None = None) -> Census:
        """Count the live rows and judge those that look wrong; at most 1,000 of the invalid are listed."""
        counts = self._on_firm_ground(lambda pace: self._counts_of(pace, acknowledged, quick))
        return Census(
            rows_examined=counts.live,
            rows_invalid=counts.invalid,
            invalid=tuple(counts.listed),
            rows_acknowledged=counts.known,
            truncated=counts.invalid > len(counts.listed),
            rows_unnamed=counts.unnamed,
            sids=frozenset(counts.sids) if len(counts.sids) <= KNOWN_INVALID else None,
            is_quick=counts.is_quick,
        )

    def _counts_of(self, pace: Pace, acknowledged: Container[str], quick: QuickCensus | None) -> _Counts:
        living, counts = self._living(pace), _Counts(acknowledged)
        if quick is None:
            self._count_all(pace, living, counts)
            return counts
        is_large = living.rows > quick.live or living.span > quick.rows
        if not is_large and self._count_all(pace, living, counts, quick):
            return counts
        counts = _Counts(acknowledged, is_quick=True)
        self._count_quickly(pace, living, counts, quick.now)
        return counts

    def _count_all(self, pace: Pace, living: Living, counts: _Counts, quick: QuickCensus | None = None) -> bool:
        """Count and judge all live rows; False: it was given up, because there are too many for that."""
        rows = 0
        for key in living.keys or (None,):
            for size, live, invalid in self._counted_pages(pace, living, key, self._suspicious):
                counts.add_page(live, invalid)
                rows += size
                if quick is not None and (counts.live > quick.live or rows > quick.rows):
                    return False
        counts.add_page(0, self.sharing())
        return True

    def _counted_pages(
        self, pace: Pace, living: Living, key: Key | None, suspicious: str
    ) -> Iterator[tuple[int, int, list[InvalidRow]]]:
        """For each page how many rows it has, how many live ones, and those of them that are invalid by themselves."""

        def read(page: Slice) -> tuple[tuple[int, int, list[InvalidRow]], Position | None]:
            return (self._count(page), *self._page_counts(page, suspicious)), page.last

        return self._sliced(read, pace, key, living.version)

    def _page_counts(self, page: Slice, suspicious: str) -> tuple[int, list[InvalidRow]]:
        of_page = f"FROM {self._table} {page.key.hint} WHERE {page.condition} AND {self._live}"
        live, doubtful = self.connection.execute(
            f"SELECT count(*), coalesce(sum({suspicious}), 0) {of_page}", page.values
        ).fetchone()
        if not doubtful:
            return live, []
        rows = self.connection.execute(f"SELECT {self._select} {of_page} AND {suspicious}", page.values)
        judged = (read_row(StoredRow(*values), self._words) for values in rows)
        return live, [row for row in judged if isinstance(row, InvalidRow)]

    def sharing(self) -> Iterator[InvalidRow]:
        """The live rows that are invalid because another row has the same sid, and not by themselves."""
        if not self._sid_is_unique:
            yield from self._invalid_for_their_sid(self._rows_of_shared_sids())

    def _invalid_for_their_sid(self, rows: Iterable[StoredRow]) -> Iterator[InvalidRow]:
        for row in rows:
            judged = self._judged(row, shared=True)
            # What is invalid by itself was counted by its page.
            if isinstance(judged, InvalidRow) and judged.reason == SHARED_SID:
                yield judged

    # --- what matters now -------------------------------------------------------------------------------------------

    def _count_quickly(self, pace: Pace, living: Living, counts: _Counts, now: datetime) -> None:
        """Count all live rows, and judge those whose time has come."""
        later = is_for_later(self._column("expires_at"), now, self._words)
        ends = self._ends_of_expiry(living.by_expiry, now, self._all_handed_on_below(pace, living))
        suspicious = f"CASE WHEN {later} THEN 0 ELSE {self._suspicious} END"
        for key in ends or living.keys or (None,):
            for _, live, invalid in self._counted_pages(pace, living, key, suspicious):
                counts.add_page(live, invalid)
            if not self._sid_is_unique:
                rows = self._shared_rows(pace, living, key, f"NOT {later}")
                counts.add_page(0, self._invalid_for_their_sid(rows))
        if ends:
            counts.live = living.rows

    def _all_handed_on_below(self, pace: Pace, living: Living) -> int | str | None:
        """The stored expiry below which `due` has just handed on every live row, so that none of these is invalid.

        None: there may be one that it has not. Its rows are among those of the index, each once: where there are as
        many of either, and nobody has written since it began, they are the same.
        """
        handed_on, key = self._handed_on, living.by_expiry
        if handed_on is None or key is None:
            return None
        within = replace(key, end=f"{self._column('expires_at')} < {constant(handed_on.below)}")
        rows = sum(self._sliced(self._entries, pace, within, living.version))
        return handed_on.below if (rows, self._state()) == (handed_on.rows, handed_on.state) else None

    def _ends_of_expiry(self, by_expiry: Key | None, now: datetime, judged: int | str | None) -> Sequence[Key]:
        """Both ends of an index of the live rows: what has expired, and what never can; none where there is none.

        judged: below which none is invalid.
        """
        if by_expiry is None:
            return ()
        expires_at = self._column("expires_at")
        last = certainly_invalid_from(self._words)
        # By a clock of the year 2200 the two would have rows in common.
        first = last if now > LATEST - A_DAY else certainly_unexpired_from(now, self._words)
        begin = by_expiry.begin if judged is None else f"{expires_at} >= {constant(judged)}"
        return (
            replace(by_expiry, begin=begin, end=f"{expires_at} < {constant(first)}"),
            replace(by_expiry, begin=f"{expires_at} >= {constant(last)}"),
        )

    def _shared_rows(self, pace: Pace, living: Living, key: Key | None, among: str) -> Iterator[StoredRow]:
        """Those of the live rows that share their sid with another one. among: SQL, which of them are wanted."""

        def read(page: Slice) -> tuple[list[StoredRow], Position | None]:
            rows = self.connection.execute(
                f"SELECT {self._select} FROM {self._table} {page.key.hint} "
                f"WHERE {page.condition} AND {self._live} AND {among}",
                page.values,
            )
            return [StoredRow(*values) for values in rows], page.last

        # Of few slices much is wanted, and each look for the others may be a walk through the table.
        for rows in in_pages(self._sliced(read, pace, key, living.version)):
            with self._file.in_use():
                shared = self._shared_among([row.sid for row in rows])
            yield from (row for row in rows if row.sid in shared)

    # --- what looks wrong -------------------------------------------------------------------------------------------

    @property
    def _suspicious(self) -> str:
        """SQL for a superset of the rows that are invalid by themselves, among the live ones (1, 0, never NULL)."""
        sid = self._column("sid")
        readable = certainly_readable(self._column("expires_at"), self._words)
        doubts = [
            f"{sid} IS NULL OR {sid} = ''",
            self._doubtful_status,
            *(self._undecodable(role) for role in ("sid", "status", "vm_ref", "vm_uid", "provisioner")),
            f"{self._column('expires_at')} IS NOT NULL AND NOT ({readable})",
        ]
        if self._has("released_at"):
            doubts.append(f"NOT {is_not_set(self._column('released_at'), self._words)}")
        if self._has("deleted_at"):
            doubts.append(is_blank(self._column("deleted_at")))
        return f"coalesce({' OR '.join(f'({doubt})' for doubt in doubts if doubt)}, 0)"

    @property
    def _doubtful_status(self) -> str:
        """SQL: a status that is not certainly live."""
        status = self._column("status")
        if self._words.live:
            return f"NOT {is_one_of(status, self._words.live)}"
        if self._words.has_numbers:
            return f"typeof({status}) <> 'integer'"
        settled = constants({folded(str(word)) for word in self._words.settled})
        return f"typeof({status}) <> 'text' OR {folded_if_plain(status)} IN ({settled})"

    def _undecodable(self, role: str) -> str:
        return perhaps_not_plain(self._column(role)) if self._has(role) else ""
