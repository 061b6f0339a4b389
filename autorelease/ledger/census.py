"""The census: all live rows counted, and those that look wrong judged."""

from collections.abc import Container

import msgspec

from autorelease.ledger.conditions import constants, is_blank, is_not_set, is_one_of
from autorelease.ledger.living import LivingRows
from autorelease.ledger.lookup import SHARED_SID
from autorelease.ledger.narrowing import certainly_readable, folded_if_plain, perhaps_not_plain
from autorelease.ledger.pace import Pace
from autorelease.ledger.rows import StoredRow, read_row
from autorelease.ledger.shared import Sharing
from autorelease.ledger.slices import Slice
from autorelease.model import Census, InvalidRow
from autorelease.text import folded

LISTED_INVALID = 1000
# The sids of so many are kept, to be compared with what an audit has found.
KNOWN_INVALID = 20_000


class _Counts(msgspec.Struct):
    """What a census has counted so far."""

    acknowledged: Container[str]
    live: int = 0
    invalid: int = 0
    known: int = 0
    unnamed: int = 0
    listed: list[InvalidRow] = msgspec.field(default_factory=list)
    sids: set[str] = msgspec.field(default_factory=set)

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

    def census(self, acknowledged: Container[str] = frozenset()) -> Census:
        """Count the live rows and judge those that look wrong; at most 1,000 of the invalid are listed."""
        counts = self._on_firm_ground(lambda pace: self._counted_by(pace, _Counts(acknowledged)))
        if not self._sid_is_unique:
            self._count_shared(counts)
        return Census(
            rows_examined=counts.live,
            rows_invalid=counts.invalid,
            invalid=tuple(counts.listed),
            rows_acknowledged=counts.known,
            truncated=counts.invalid > len(counts.listed),
            rows_unnamed=counts.unnamed,
            sids=frozenset(counts.sids) if len(counts.sids) <= KNOWN_INVALID else None,
        )

    def _counted_by(self, pace: Pace, counts: _Counts) -> _Counts:
        suspicious, living = self._suspicious, self._living(pace)
        for key in living.keys or (None,):
            pages = self._sliced(
                lambda page: (self._page_counts(page, suspicious), page.last), pace, key, living.version
            )
            for live, invalid in pages:
                counts.live += live
                for row in invalid:
                    counts.add(row)
        return counts

    def _page_counts(self, page: Slice, suspicious: str) -> tuple[int, list[InvalidRow]]:
        """How many live rows a page has, and those of them that are invalid by themselves."""
        of_page = f"FROM {self._table} {page.key.hint} WHERE {page.condition} AND {self._live}"
        live, doubtful = self.connection.execute(
            f"SELECT count(*), coalesce(sum({suspicious}), 0) {of_page}", page.values
        ).fetchone()
        if not doubtful:
            return live, []
        rows = self.connection.execute(f"SELECT {self._select} {of_page} AND {suspicious}", page.values)
        judged = (read_row(StoredRow(*values), self._words) for values in rows)
        return live, [row for row in judged if isinstance(row, InvalidRow)]

    def _count_shared(self, counts: _Counts) -> None:
        for row in self._rows_of_shared_sids():
            judged = self._judged(row, shared=True)
            # What is invalid by itself was counted by its page.
            if isinstance(judged, InvalidRow) and judged.reason == SHARED_SID:
                counts.add(judged)

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
