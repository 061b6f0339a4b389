"""Says which cases a run has, where somebody asked for others than the ordinary ones; and how many there were."""

import pytest

from tests.fuzz.cases import CASES, ROWS_A_LEDGER, SEED, asked_for, files, ledgers, lines, seed


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The seed and the counts."""
    if asked_for() is None:
        return
    counts = (
        f"{ledgers() * ROWS_A_LEDGER} rows in {ledgers()} ledgers, {files()} configurations, {lines()} command lines"
    )
    terminalreporter.write_line(f"fuzz: {counts}; the same again: {CASES}={asked_for()} {SEED}={seed()!r}")
