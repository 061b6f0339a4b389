"""A tick of the installed command that stands still in its first call, so that something can break around it."""

import sqlite3
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.reports import tick_report, wait_until
from tests.support.journals import copy_journal
from tests.support.place import (
    COMMAND,
    DAY,
    NOW,
    PERMISSIVE,
    Place,
    Ran,
    allocation,
    command_provisioner,
    fresh_environment,
    program,
)
from tests.support.started import wait_for_end

SIDS = ("a", "b", "c", "d")
TICK = ("tick", "--once", "--json")
# What it is called for it destroys, once, and then waits until it may go on. Not for ever: a test that fails must leave
# nothing behind that runs.
WAITS = """
cd '{folder}' || exit 1
echo "$1" >> calls
test -e "gone-$1" && exit 3
true > "gone-$1"
left=3000
while ! test -e go && test $left -gt 0; do sleep 0.02; left=$((left - 1)); done
"""


def made_place(folder: Path) -> Place:
    """A place of its own, where a test needs more than one; its configuration is made by `Underway.prepare`."""
    folder.mkdir()
    place = Place(folder)
    copy_journal(place.journal)
    return place


@dataclass(slots=True)
class Underway:
    """A place whose ledger and journal may lie anywhere; books of the release program are kept in the place's folder.

    before: words that the command is started with. page_size: of the ledger, in bytes.
    """

    place: Place
    before: Sequence[str] = ()
    page_size: int = 4096
    _process: "subprocess.Popen[str] | None" = None

    def prepare(self, *sections: str, ledger: Path | None = None, journal: Path | None = None) -> None:
        """Make the configuration, with these paths, and the ledger, with the rows SIDS, due in this order."""
        place = self.place
        connection = sqlite3.connect(place.ledger)
        connection.execute(f"PRAGMA page_size = {self.page_size}")
        connection.execute("VACUUM")
        connection.close()
        place.make_ledger(allocation(sid, NOW - DAY + number) for number, sid in enumerate(SIDS))
        script = program(place.folder, WAITS.format(folder=place.folder))
        place.config.write_text(
            "\n".join(
                [
                    f'[ledger]\nurl = "sqlite:///{ledger or place.ledger}"',
                    f'[journal]\nurl = "sqlite:///{journal or place.journal}"',
                    command_provisioner([script, "{sid}"], "already = [3]"),
                    PERMISSIVE,
                    "[release]\nconcurrency = 1",
                    *sections,
                ]
            ),
            encoding="utf-8",
        )

    def run(self, *arguments: str) -> Ran:
        """Run the command to its end."""
        if self.before:
            self.start(*arguments)
            return self.finish()
        ran = self.place.run(*(arguments or TICK))
        self._log_file.write_text(ran.err, encoding="utf-8")
        return ran

    def start(self, *arguments: str) -> None:
        """Start the command; what it logs can be read while it runs."""
        with self._log_file.open("w") as log:
            words = arguments or TICK
            if not self.before:
                self._process = self.place.start(*words, stderr=log.fileno())
                return
            self._process = subprocess.Popen(
                [*self.before, COMMAND, "--config", self.place.config, *words],
                env=fresh_environment(self.place.folder),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def start_and_stop_in_the_first_call(self) -> None:
        """Start a tick, and wait until the first VM is destroyed and the call has not come back."""
        self.start()
        wait_until(lambda: self.calls() == [SIDS[0]])

    def go_on(self) -> None:
        """Let the release program answer, now and from now on."""
        (self.place.folder / "go").touch()

    def wait_for_log(self, *words: str) -> str:
        """Wait until one line of the log says all of this; returns that line."""
        found: list[str] = []

        def is_there() -> bool:
            lines = self.log().splitlines()
            found[:] = [line for line in lines if all(word in line for word in words)]
            return bool(found)

        wait_until(is_there)
        return found[0]

    def wait_for_end(self) -> None:
        """Wait until it has ended; it is a zombie until `finish`."""
        assert self._process is not None
        wait_for_end(self._process)

    def finish(self) -> Ran:
        """Wait for the end of the command."""
        assert self._process is not None
        out, _ = self._process.communicate(timeout=150)
        return Ran(self._process.returncode, out, self.log())

    @property
    def pid(self) -> int:
        """The process that was started last."""
        assert self._process is not None
        return self._process.pid

    def log(self) -> str:
        """What it has said so far."""
        return self._log_file.read_text(encoding="utf-8")

    @property
    def _log_file(self) -> Path:
        return self.place.folder / "err"

    def calls(self) -> list[str]:
        """What the release program was called for, in order."""
        path = self.place.folder / "calls"
        return path.read_text(encoding="utf-8").split() if path.exists() else []

    def begun(self) -> set[str]:
        """The sids whose release was begun, and whose end the journal does not know."""
        found = self.place.query("SELECT sid FROM attempts WHERE intent_at > ''", database=self.place.journal)
        return {sid for (sid,) in found}

    def check_books(self, sids: Sequence[str]) -> None:
        """These are Released and nothing else is; each was destroyed, by one call; and the journal explains each."""
        assert self.place.released() == set(sids)
        assert sorted(self.calls()) == sorted(sids)
        steps: dict[str, list[tuple[str, str | None]]] = {}
        statement = "SELECT sid, event, outcome FROM events WHERE event IN ('intent', 'outcome') ORDER BY id"
        for sid, event, outcome in self.place.query(statement, database=self.place.journal):
            steps.setdefault(sid, []).append((event, outcome))
        assert steps == {sid: [("intent", None), ("outcome", "released")] for sid in sids}
        assert self.begun() == set()

    def check_recovered(self) -> None:
        """Its end, once what broke is mended: all is released, each by one call, and nothing is left open."""
        report = tick_report(self.finish(), 0)
        assert report["rows_released"] == len(SIDS)
        assert self.calls() == list(SIDS)
