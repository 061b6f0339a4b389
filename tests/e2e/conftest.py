"""Which of these processes are measured."""

import pytest

# Measuring makes a process half as slow again. These go through every command and every shape of its output; what the
# others find out about the same lines they find out by their results.
MEASURED = ("test_commands", "test_report", "test_running", "test_terminal")


@pytest.fixture(autouse=True)
def _measured(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not request.path.name.startswith(MEASURED):
        monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
