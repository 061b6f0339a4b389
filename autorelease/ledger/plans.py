"""How the database would find what is looked for: its own plans, read. Reads nothing of the table."""

import re
from collections.abc import Sequence

from autorelease.ledger import Look
from autorelease.ledger.binding import lowered
from autorelease.ledger.connection import LedgerConnection
from autorelease.model import RawValue

Values = Sequence[RawValue]


class Plans(LedgerConnection):
    """A plan is a few lines of text, of which SQLite promises no form: what is not understood counts as no index."""

    def _steps(self, statement: str, values: Values) -> list[str]:
        rows = self.connection.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()
        return [detail for *_, detail in rows]

    def _is_served(self, look: Look, statement: str, values: Values) -> bool:
        """Whether it goes by an index that leaves out nearly all rows."""
        return any(self._serves(look, step) for step in self._steps(statement, values))

    def _serves(self, look: Look, step: str) -> bool:
        """Whether this step of a plan goes by such an index."""
        found = re.fullmatch(
            r"(?P<how>SEARCH|SCAN) .*?USING (?:COVERING )?(?:INDEX )?(?P<index>.*?)(?: \((?P<terms>.*)\))?", step
        )
        if found is None or "AUTOMATIC" in step:
            return False
        if look is Look.ODD_VM:
            # Its rows are few because the index has no others.
            return self._is_partial(found["index"])
        terms = lowered(found["terms"] or "")
        names = ("<expr>",) if look is Look.VM else (lowered(self._columns["sid"]), "rowid")
        return found["how"] == "SEARCH" and any(f"{name}=?" in terms for name in names)

    def _is_in_order_of_expiry(self, steps: Sequence[str]) -> bool:
        """Whether what is due is found by an index, and comes in order."""
        # An index on the expiry alone leaves only rows of the very same expiry to be sorted ("RIGHT PART OF").
        if "USE TEMP B-TREE FOR ORDER BY" in steps:
            return False
        if self._is_view:
            # Its columns have other names in the tables that it is made of.
            return "<?)" in steps[0] and not any(step.startswith("SCAN") for step in steps)
        found = re.fullmatch(r"SEARCH .* USING .* \((?P<terms>.*)\)", steps[0])
        return found is not None and f"{lowered(self._columns['expires_at'])}<?" in lowered(found["terms"])

    def _is_partial(self, index: str | None) -> bool:
        rows = self.connection.execute(
            "SELECT l.partial FROM sqlite_master m, pragma_index_list(m.name) l WHERE m.type = 'table' AND l.name = ?",
            (index,),
        )
        return (1,) in rows


def index_of(step: str) -> str | None:
    """The index that this step goes by, and from there to the table's own rows; None: by none."""
    found = re.fullmatch(r"SEARCH .* USING INDEX (?P<index>.*) \(.*\)", step)
    return found["index"] if found else None
