"""What provisioners answered, by their fingerprint, and which have shown that they can release."""

from collections.abc import Sequence
from datetime import UTC, datetime

from autorelease.journal import GivenAnswer, Step
from autorelease.journal.connection import SIDS_AT_ONCE, JournalConnection
from autorelease.model import Answer


class Answers(JournalConnection):
    """The tables `given_answers` and `credits`, and the misses of a run."""

    def recent_answers(self, fingerprint: str, limit: int, run: str | None = None) -> Sequence[Answer]:
        """What was answered under this fingerprint last, newest first; run: in this run alone."""
        rows = self._rows(
            "SELECT answer FROM given_answers WHERE fingerprint = ?1 AND tick = coalesce(?2, tick) "
            "ORDER BY id DESC LIMIT ?3",
            fingerprint,
            run,
            limit,
        )
        return [Answer(row["answer"]) for row in rows]

    def kinds_of_answers(self, fingerprint: str, run: str) -> frozenset[Answer]:
        """Which of the answers there are were given under this fingerprint in this run."""
        statement = "SELECT DISTINCT answer FROM given_answers WHERE fingerprint = ? AND tick = ?"
        return frozenset(Answer(row["answer"]) for row in self._rows(statement, fingerprint, run))

    def has_credit(self, fingerprint: str) -> bool:
        """Whether under this fingerprint something was ever released, or proven to be gone."""
        return bool(self._rows("SELECT 1 FROM credits WHERE fingerprint = ?", fingerprint))

    def credits(self) -> Sequence[tuple[str, datetime]]:
        """The fingerprints that have credit, each with the start of the tick that it was earned in; newest first."""
        rows = self._rows("SELECT fingerprint, since FROM credits ORDER BY since DESC, fingerprint")
        return [(row["fingerprint"], datetime.fromisoformat(row["since"]).astimezone(UTC)) for row in rows]

    def has_missed(self, run: str, sids: Sequence[str]) -> frozenset[str]:
        """Those of these sids that this run has written down a "not found" for."""
        found: set[str] = set()
        for start in range(0, len(sids), SIDS_AT_ONCE):
            chunk = sids[start : start + SIDS_AT_ONCE]
            places = ", ".join("?" for _ in chunk)
            rows = self._rows(
                f"SELECT sid FROM events WHERE tick = ? AND event = '{Step.MISS}' AND sid IN ({places})", run, *chunk
            )
            found.update(row["sid"] for row in rows)
        return frozenset(found)

    def _write_answers(self, run: str, answers: Sequence[GivenAnswer]) -> None:
        """Write what was said in this run, in its order; one that released something has credit from now on."""
        self.connection.executemany(
            "INSERT INTO given_answers (fingerprint, tick, answer) VALUES (?, ?, ?)",
            [(given.fingerprint, run, given.answer) for given in answers],
        )
        earning = {given.fingerprint for given in answers if given.answer in (Answer.RELEASED, Answer.PROOF)}
        self.connection.executemany(
            "INSERT OR IGNORE INTO credits (fingerprint, since) SELECT ?, started_at FROM ticks WHERE tick = ?",
            [(fingerprint, run) for fingerprint in sorted(earning)],
        )
