"""The configuration as it takes effect: every key, its value, its origin, and no secret."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from autorelease.inspect.configuration import effective
from autorelease.settings import Columns, File, Guard, JournalSettings, LedgerSettings, Release, load_settings
from autorelease.text import HIDDEN

if TYPE_CHECKING:
    from msgspec import Struct

FILE = """
[ledger]
url = "sqlite:///a.db"
inactive = ["Gone"]
never = [0, "9999-12-31"]
[ledger.columns]
sid = "id"
[release]
deadline = "90s"
[provisioners.default]
kind = "command"
argv = ["/bin/release", "--token=hunter2", "https://user:hunter2@host/", "{vm_ref}"]
down = [77]
[provisioners.other]
kind = "http"
api_key = "hunter2"
password_file = "/etc/secret"
headers = {Authorization = "hunter2", Accept = "text"}
words = ["--token", "hunter2", "-H", "X-Token: hunter2", "--token-file", "/etc/secret", "TOKEN=hunter2 run"]
"""


@pytest.fixture
def values(tmp_path: Path) -> dict[str, tuple[str, str]]:
    """Value and origin of each key."""
    path = tmp_path / "config.toml"
    path.write_text(FILE, encoding="utf-8")
    settings = load_settings(path, None, {})
    found = list(effective(settings, config_from="flag", ledger_from="file"))
    assert len({each.key for each in found}) == len(found)
    return {each.key: (each.value, each.origin) for each in found}


def test_every_key_is_there(values: dict[str, Any]) -> None:
    sections: dict[str, type[Struct]] = {
        "ledger.columns": Columns,
        "ledger": LedgerSettings,
        "journal": JournalSettings,
        "release": Release,
        "guard": Guard,
    }
    expected = {f"{name}.{key}" for name, section in sections.items() for key in section.__struct_fields__}
    assert set(File.__struct_fields__) == {"ledger", "journal", "release", "guard", "provisioners"}
    others = {key for key in values if not key.startswith("provisioners.")} - {"config"}
    assert others == expected - {"ledger.columns"}


@pytest.mark.parametrize(
    ("key", "value", "origin"),
    [
        ("ledger.inactive", '["Gone"]', "file"),
        ("ledger.never", '[0, "9999-12-31"]', "file"),
        ("ledger.released", '"Released"', "default"),
        ("ledger.timezone", "(unset)", "default"),
        ("ledger.stamp", "true", "default"),
        ("ledger.columns.sid", '"id"', "file"),
        ("ledger.columns.status", '"status"', "default"),
        ("release.deadline", '"90s"', "file"),
        ("release.grace", '"0s"', "default"),
        ("journal.keep", '"400d"', "default"),
        ("guard.max_releases", "1000", "default"),
        ("provisioners.default.down", "[77]", "file"),
    ],
)
def test_values_are_spelt_as_in_the_file(key: str, value: str, origin: str, values: dict[str, Any]) -> None:
    assert values[key] == (value, origin)


def test_paths_are_those_that_are_used(values: dict[str, Any], tmp_path: Path) -> None:
    assert values["config"] == (f'"{tmp_path}/config.toml"', "flag")
    assert values["ledger.url"] == (f'"sqlite:///{tmp_path}/a.db"', "file")
    assert values["journal.url"] == (f'"sqlite:///{tmp_path}/journal.db"', "default")


def test_no_secret_is_told(values: dict[str, Any]) -> None:
    assert "hunter2" not in str(values)
    assert values["provisioners.other.api_key"] == (HIDDEN, "file")
    assert values["provisioners.other.headers"] == (f'{{Authorization = {HIDDEN}, Accept = "text"}}', "file")
    assert values["provisioners.default.argv"][0] == (
        f'["/bin/release", "--token={HIDDEN}", "https://user:{HIDDEN}@host/", "{{vm_ref}}"]'
    )
    assert values["provisioners.other.words"][0] == (
        f'["--token", "{HIDDEN}", "-H", "X-Token: {HIDDEN}", "--token-file", "/etc/secret", "TOKEN={HIDDEN}"]'
    )
    # Where a secret lies is none.
    assert values["provisioners.other.password_file"] == ('"/etc/secret"', "file")
