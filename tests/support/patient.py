"""An installation that the doctor examines."""

from pathlib import Path

from msgspec.structs import replace

from autorelease.bootstrap import INDEXES
from autorelease.inspect import Check, State, has_failed
from autorelease.inspect.doctor import examine
from autorelease.journal import TickStart
from autorelease.rules.guard import Moment
from autorelease.settings import load_settings
from tests.support.engine import Engine
from tests.support.place import LEDGER_PROVISIONER

TYPED = (
    "CREATE TABLE vm_allocations (sid TEXT PRIMARY KEY, status TEXT, expires_at INTEGER, released_at INTEGER, "
    "owner TEXT, plan TEXT, vm_ref TEXT, vm_uid TEXT, provisioner TEXT)"
)
MANY = (
    "INSERT INTO vm_allocations (sid, status, expires_at) "
    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10001) SELECT 'n' || i, ?, ? FROM n"
)


class Patient(Engine):
    """An installation in a folder of its own. boot_seconds: that its ticks find. indexes: those of its table."""

    boot_seconds: float | None = None

    def __init__(self, folder: Path, table: str = TYPED, indexes: tuple[str, ...] = INDEXES) -> None:
        super().__init__(folder, table=table)
        for index in indexes:
            self.place.execute(index)
        self.configure_file(LEDGER_PROVISIONER)

    def configure_file(self, *sections: str, ledger: str = "") -> None:
        """Write another configuration."""
        self.place.configure(*sections, ledger=ledger)

    def start(self) -> TickStart:
        """See `Engine`: in the boot of this patient."""
        return replace(super().start(), boot_id="b", boot_seconds=self.boot_seconds)

    def examined(self, moment: Moment | None = None) -> dict[str, Check]:
        """Every line by its name."""
        settings = load_settings(self.place.config, None, {})
        checks = list(examine(settings, moment or Moment(self.now), self.limits))
        assert len({check.name for check in checks}) == len(checks)
        assert all(check.remedy for check in checks if check.state is not State.OK)
        assert has_failed(checks) == any(check.state is State.FAIL for check in checks)
        return {check.name: check for check in checks}
