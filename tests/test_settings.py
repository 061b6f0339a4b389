"""Configuration: the defaults of the contract, what is refused and how it is said, and which source prevails."""

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from autorelease import settings as module
from autorelease.errors import ConfigurationError, UsageError
from autorelease.settings import (
    SYSTEM_CONFIG,
    SYSTEM_JOURNAL,
    Settings,
    load_settings,
    log_choice,
    parse_duration,
)

URL = '[ledger]\nurl = "sqlite:///allocations.db"\n'


def load(folder: Path, text: str | bytes, *, ledger: str | None = None, **environment: str) -> Settings:
    """The settings that this file gives."""
    path = folder / "config.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return load_settings(path, ledger, environment)


def refusal(folder: Path, text: str | bytes) -> str:
    """The message with which this file is refused; it names the file."""
    with pytest.raises(ConfigurationError) as caught:
        load(folder, text)
    assert str(folder / "config.toml") in str(caught.value)
    return str(caught.value)


# --- defaults ---------------------------------------------------------------------------------------------------------

# The contract's section 8, as far as its keys exist.
DEFAULTS = """
[ledger]
table = "vm_allocations"
released = "Released"
inactive = []
references = "folded"
never = []
timestamps = "epoch"
stamp = true

[ledger.columns]
sid = "sid"
status = "status"
expires_at = "expires_at"
released_at = "released_at"
owner = "owner"
plan = "plan"
vm_ref = "vm_ref"
vm_uid = "vm_uid"
provisioner = "provisioner"

[journal]
keep = "400d"

[release]
grace = "0s"
hold_grace = "24h"
concurrency = 8
timeout = "30s"
deadline = "45m"
attempts = 3
quarantine_after = 5

[guard]
max_releases = 1000
max_percent = 50
min_fleet = 20
max_gone_percent = 50
max_clock_gap = "7d"
"""


def test_the_defaults_are_those_of_the_contract(tmp_path: Path) -> None:
    plain = load(tmp_path, URL)
    written = load(tmp_path, DEFAULTS.replace("[ledger]\n", URL, 1))
    for section in ("ledger", "journal", "release", "guard", "provisioners"):
        assert getattr(plain, section) == getattr(written, section)
    assert plain.ledger.timezone is None


def test_every_key_that_exists_is_in_the_contracts_list() -> None:
    """A key that is not listed above has no default there that anybody could rely on."""
    assert set(module.LedgerSettings.__struct_fields__) == {
        *("url", "table", "released", "inactive", "live", "where", "references", "never"),
        *("timestamps", "dates", "timezone", "stamp", "columns"),
    }
    assert set(module.JournalSettings.__struct_fields__) == {"url", "keep"}
    assert set(module.Release.__struct_fields__) == {
        *("grace", "hold_grace", "concurrency", "timeout", "deadline", "attempts", "quarantine_after")
    }
    assert set(module.Guard.__struct_fields__) == {
        *("max_releases", "max_percent", "min_fleet", "max_gone_percent", "max_clock_gap")
    }
    assert set(module.File.__struct_fields__) == {"ledger", "journal", "release", "guard", "provisioners"}


def test_settings_are_frozen(tmp_path: Path) -> None:
    found = load(tmp_path, URL)
    with pytest.raises(AttributeError, match="immutable"):
        found.release.attempts = 1  # type: ignore[misc]


def test_only_columns_that_the_file_names_must_exist(tmp_path: Path) -> None:
    assert load(tmp_path, URL).named_columns() == frozenset()
    named = load(tmp_path, URL + '[ledger.columns]\nowner = "owner"\nsid = "id"\n')
    assert named.named_columns() == {"owner", "sid"}


def test_a_column_that_is_said_to_be_none_is_none(tmp_path: Path) -> None:
    optional = ("released_at", "owner", "plan", "vm_ref", "vm_uid", "provisioner", "deleted_at")
    found = load(tmp_path, URL + "[ledger.columns]\n" + "".join(f'{role} = ""\n' for role in optional))
    assert found.ledger.columns.by_role() == {role: role for role in ("sid", "status", "expires_at")}
    assert found.named_columns() == frozenset()
    assert "deleted_at" not in load(tmp_path, URL).ledger.columns.by_role()


def test_statuses_may_be_numbers(tmp_path: Path) -> None:
    found = load(tmp_path, URL + "released = 3\ninactive = [4, -5]\nlive = [0, 1]").ledger
    assert (found.released, found.inactive, found.live) == (3, (4, -5), (0, 1))


def test_the_url_of_the_ledger_has_no_default(tmp_path: Path) -> None:
    assert "[ledger] url is missing" in refusal(tmp_path, "")
    assert "[ledger] url is missing" in refusal(tmp_path, '[ledger]\ntable = "t"\n')


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0s", timedelta(0)),
        ("250ms", timedelta(milliseconds=250)),
        ("30s", timedelta(seconds=30)),
        ("45m", timedelta(minutes=45)),
        ("72h", timedelta(hours=72)),
        ("400d", timedelta(days=400)),
        ("007s", timedelta(seconds=7)),
        ("36500d", timedelta(days=36_500)),
    ],
)
def test_a_duration(text: str, expected: timedelta) -> None:
    assert parse_duration(text) == expected


NO_DURATIONS: list[object] = ["", "5", "s", "5 s", "5s ", "5s\n", "-5s", "+5s", "1.5h", "5w", "5S", "1h30m", "\u0665s"]
NO_DURATIONS += ["36501d", "9" * 15 + "d", "9" * 16 + "ms", 5, 5.0, None, True, timedelta(seconds=5)]


@pytest.mark.parametrize("value", NO_DURATIONS, ids=repr)
def test_what_is_no_duration(value: object) -> None:
    with pytest.raises(ValueError, match="a duration is"):
        parse_duration(value)


@given(st.integers(0, 36_500 * 24), st.sampled_from(["h", "m", "s"]))
def test_a_duration_means_its_unit(amount: int, unit: str) -> None:
    seconds = {"h": 3600, "m": 60, "s": 1}[unit]
    assert parse_duration(f"{amount}{unit}") == timedelta(seconds=amount * seconds)


REFUSED = {
    "a duration without a unit": ("[release]\ntimeout = 30", "'release.timeout'", 'in quotes: "30s"'),
    "a duration of nothing": ('[release]\ndeadline = "0s"', "'release.deadline'", "longer than nothing"),
    "a negative number": ("[guard]\nmax_releases = -1", "'guard.max_releases'", "-1"),
    "more than all": ("[guard]\nmax_percent = 101", "'guard.max_percent'", "101"),
    "no concurrency": ("[release]\nconcurrency = 0", "'release.concurrency'", "0"),
    "a number in quotes": ('[guard]\nmin_fleet = "20"', "'guard.min_fleet'", "20"),
    "a truth for a number": ("[release]\nattempts = true", "'release.attempts'", "True"),
    "a number for a truth": (URL + "stamp = 1", "'ledger.stamp'", "1"),
    "an unknown kind of timestamps": (URL + 'timestamps = "unix"', "'ledger.timestamps'", "epoch"),
    "an unknown time zone": (URL + 'timezone = "Berlin"', "'ledger.timezone'", "Europe/Berlin"),
    "a time zone outside of its folder": (URL + 'timezone = "../passwd"', "'ledger.timezone'", "no such time zone"),
    "an empty table": (URL + 'table = ""', "'ledger.table'", ""),
    "a table with NUL": (URL + 'table = "a\\u0000b"', "'ledger.table'", ""),
    "a word for a list": (URL + 'inactive = "Cancelled"', "'ledger.inactive'", "Cancelled"),
    "a number among the inactive": (URL + "inactive = [1]", "'ledger'", "all text, or all integers"),
    "a word among the numbers": (URL + 'released = 3\nlive = ["Active"]', "'ledger'", "all text, or all integers"),
    "a word for released among numbers": (URL + "inactive = [4]\nlive = [1]", "'ledger'", "all text, or all integers"),
    "a truth for a status": (URL + "released = true", "'ledger.released'", "an integer"),
    "a real for a status": (URL + "released = 3.0", "'ledger.released'", "an integer"),
    "a released status of nothing": (URL + 'released = ""', "'ledger.released'", "not empty"),
    "released among the live": (URL + 'live = ["Active", "Released"]', "'ledger'", "the released status"),
    "nearly released among the live": (URL + 'live = ["released "]', "'ledger'", "taken for 'Released'"),
    "inactive among the live": (URL + 'inactive = ["Gone"]\nlive = ["Gone"]', "'ledger'", "one of inactive"),
    "a number that is released and live": (URL + "released = 3\nlive = [1, 3]", "'ledger'", "the released status"),
    "a number that is released and inactive": (URL + "released = 3\ninactive = [3]", "'ledger'", "inactive must not"),
    "a truth for never": (URL + "never = [true]", "'ledger.never.0", "True"),
    "an unknown way to compare references": (URL + 'references = "case"', "'ledger.references'", "folded"),
    "released among the inactive": (URL + 'inactive = ["Released"]', "'ledger'", "Released"),
    "one column for two things": (
        URL + '[ledger.columns]\nstatus = "SID"',
        "'ledger.columns'",
        "must be different columns",
    ),
    "one column for two instants": (
        URL + '[ledger.columns]\nreleased_at = "gone"\ndeleted_at = "Gone"',
        "'ledger.columns'",
        "must be different columns",
    ),
    "a table without a sid": (URL + '[ledger.columns]\nsid = ""', "'ledger.columns.sid'", "not empty"),
    "a table without a status": (URL + '[ledger.columns]\nstatus = ""', "'ledger.columns.status'", "not empty"),
    "a table without an expiry": (
        URL + '[ledger.columns]\nexpires_at = ""',
        "'ledger.columns.expires_at'",
        "not empty",
    ),
    "dates without a zone": (URL + 'timestamps = "iso8601"\ndates = "end"', "'ledger'", "needs timezone"),
    "dates among numbers": (URL + 'dates = "start"\ntimezone = "UTC"', "'ledger'", "timestamps"),
    "dates in the middle": (URL + 'dates = "noon"', "'ledger.dates'", "'end'"),
    "a where that is a word": (URL + 'where = "a = 1"', "'ledger.where'", "a table"),
    "a list for a value of where": (URL + "where = { kind = [1] }", "'ledger.where.kind'", "an integer"),
    "a real for a value of where": (URL + "where = { kind = 1.0 }", "'ledger.where.kind'", "an integer"),
    "a where of no column": (URL + 'where = { "" = 1 }', "'ledger.where.'", "not empty"),
    "a where that the stamp changes": (URL + 'where = { STATUS = "Active" }', "'ledger'", "inactive and live"),
    "a where of the release": (
        URL + "where = { gone = 0 }\n[ledger.columns]\nreleased_at = 'Gone'",
        "'ledger'",
        "changes the released_at",
    ),
    "a where of one column twice": (URL + "where = { kind = 1, KIND = 2 }", "'ledger'", "twice"),
    "a value for a section": ("release = 3", "'release'", "3"),
    "a provisioner that is no section": ("[provisioners]\ndefault = 3", "'provisioners.default'", "3"),
}


@pytest.mark.parametrize(("text", "key", "detail"), REFUSED.values(), ids=REFUSED.keys())
def test_a_wrong_value_is_refused_with_its_key(tmp_path: Path, text: str, key: str, detail: str) -> None:
    message = refusal(tmp_path, text)
    assert key in message
    assert detail in message


UNKNOWN = {
    "a slip": ("[release]\ngrase = '5s'", "'release.grase'", "'grace'"),
    "another word": ("[guard]\nmax_release = 5", "'guard.max_release'", "'max_releases'"),
    "a section": ("[relase]\ngrace = '5s'", "'relase'", "'release'"),
    "a column": (URL + "[ledger.columns]\nexpiry = 'e'", "'ledger.columns.expiry'", "'expires_at'"),
    "a key of the journal": ("[journal]\nkeeps = '5d'", "'journal.keeps'", "'keep'"),
    "a key in the wrong section": ("[ledger]\nmax_percent = 5", "'ledger.max_percent'", "'"),
    "a key of nothing": ("grace = '5s'", "'grace'", "'"),
}


@pytest.mark.parametrize(("text", "key", "nearest"), UNKNOWN.values(), ids=UNKNOWN.keys())
def test_an_unknown_key_is_named_with_the_nearest_known_one(tmp_path: Path, text: str, key: str, nearest: str) -> None:
    message = refusal(tmp_path, text)
    assert f"unknown key {key}" in message
    assert f"nearest known key there is {nearest}" in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("guard.max_releases = 0x" + "f" * 5000, "'guard.max_releases': an integer of TOML has at most 64 bits"),
        (URL + "never = [0, 9223372036854775808]", "'ledger.never.1': an integer of TOML has at most 64 bits"),
        ("ledger.timezone = [0x" + "f" * 5000 + "]", "'ledger.timezone.0': an integer"),
        (URL + "a." * 1000 + "b = 1", "'ledger.a.a': tables and lists are nested more than 20 deep"),
        ("[provisioners.default]\nkind = " + "[" * 30 + "]" * 30, "nested more than 20 deep"),
    ],
    ids=["an integer", "one that a row could hold as a real", "within a list", "tables", "lists"],
)
def test_what_nothing_behind_it_could_hold_is_refused_by_its_key(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in refusal(tmp_path, text)


def test_every_integer_of_64_bits_is_one(tmp_path: Path) -> None:
    ends = (-(2**63), 2**63 - 1)
    assert load(tmp_path, f"{URL}never = {list(ends)}").ledger.never == ends


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[ledger", "not valid TOML"),
        ("a = 1\na = 2", "not valid TOML"),
        ("a = " + "9" * 5000, "not valid TOML"),
        ("a = 2026-02-31", "not valid TOML"),
        ("a = " + "[" * 20_000, "not valid TOML"),
        (b"a = '\xff'", "not UTF-8"),
        (b"\xff\xfe[\x00", "not UTF-8"),
    ],
    ids=["broken", "a key twice", "a huge number", "no such day", "nested too deep", "latin-1", "utf-16"],
)
def test_what_is_no_toml_is_refused(tmp_path: Path, text: str | bytes, expected: str) -> None:
    assert expected in refusal(tmp_path, text)


def test_a_byte_order_mark_at_the_beginning_is_none_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_bytes(b'\xef\xbb\xbf[ledger]\nurl = "sqlite:///a.db"\n')
    assert load_settings(tmp_path / "c.toml", None, {}).ledger_path == tmp_path / "a.db"
    assert "not valid TOML" in refusal(tmp_path, b"\xef\xbb\xbf\xef\xbb\xbf[ledger]")


def test_a_file_that_is_missing_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nothing\.toml: there is no such configuration file.*init DIR"):
        load_settings(tmp_path / "nothing.toml", None, {})


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_settings(tmp_path, None, {})


# --- where things are -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:///allocations.db", "{folder}/allocations.db"),
        ("sqlite:///sub/a.db", "{folder}/sub/a.db"),
        ("sqlite:////abs/a.db", "/abs/a.db"),
        ("sqlite:///a%20b.db", "{folder}/a%20b.db"),
        ("sqlite:///a?mode=memory", "{folder}/a?mode=memory"),
        ("sqlite:///Müller.db", "{folder}/Müller.db"),
    ],
)
def test_paths_in_the_file_are_relative_to_the_file_and_taken_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, expected: str
) -> None:
    monkeypatch.chdir("/")
    wanted = Path(expected.format(folder=tmp_path))
    assert load(tmp_path, f'[ledger]\nurl = "{url}"').ledger_path == wanted
    assert load(tmp_path, URL + f'[journal]\nurl = "{url}"').journal_path == wanted


@pytest.mark.parametrize(
    "url", ["sqlite:///", "sqlite://a.db", "sqlite:a.db", "a.db", "/abs/a.db", "postgresql://h/d", "SQLITE:///a", " "]
)
def test_a_url_that_is_not_understood_is_refused(tmp_path: Path, url: str) -> None:
    assert "[ledger] url" in refusal(tmp_path, f'[ledger]\nurl = "{url}"')
    assert "[journal] url" in refusal(tmp_path, URL + f'[journal]\nurl = "{url}"')


def test_the_journal_is_beside_the_configuration_unless_that_is_the_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load(tmp_path, URL).journal_path == tmp_path / "journal.db"
    path = tmp_path / "system.toml"
    path.write_text(URL, encoding="utf-8")
    monkeypatch.setattr(module, "SYSTEM_CONFIG", path)
    assert load_settings(None, None, {}).journal_path == SYSTEM_JOURNAL
    assert (
        Path("/etc/autorelease/config.toml"),
        Path("/var/lib/autorelease/journal.db"),
    ) == (SYSTEM_CONFIG, SYSTEM_JOURNAL)


def test_flag_beats_environment_beats_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    environment = {"AUTORELEASE_LEDGER": "sqlite:///of-environment.db"}
    assert load(tmp_path, URL).ledger_path == tmp_path / "allocations.db"
    assert load(tmp_path, URL, **environment).ledger_path == elsewhere / "of-environment.db"
    both = load(tmp_path, URL, ledger="sqlite:///of-flag.db", **environment)
    assert both.ledger_path == elsewhere / "of-flag.db"
    assert load(tmp_path, "", **environment).ledger_path == elsewhere / "of-environment.db"


def test_an_empty_variable_is_none(tmp_path: Path) -> None:
    assert load(tmp_path, URL, AUTORELEASE_LEDGER="").ledger_path == tmp_path / "allocations.db"


def test_a_wrong_url_on_the_command_line_does_not_blame_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^the ledger's URL = 'nonsense'"):
        load(tmp_path, URL, ledger="nonsense")


def test_the_configuration_is_named_by_flag_before_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("flag", "environment"):
        (tmp_path / f"{name}.toml").write_text(URL, encoding="utf-8")
    environment = {"AUTORELEASE_CONFIG": str(tmp_path / "environment.toml")}
    assert load_settings(None, None, environment).config == tmp_path / "environment.toml"
    assert load_settings(tmp_path / "flag.toml", None, environment).config == tmp_path / "flag.toml"
    monkeypatch.chdir(tmp_path)
    assert load_settings(Path("flag.toml"), None, {}).config == tmp_path / "flag.toml"


def test_the_current_folder_is_never_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Timer and operator must read the same file, whatever folder either of them stands in."""
    (tmp_path / "config.toml").write_text(URL, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(module, "SYSTEM_CONFIG", tmp_path / "absent" / "config.toml")
    with pytest.raises(ConfigurationError, match="absent"):
        load_settings(None, None, {})


def test_how_to_log_is_said_by_flag_before_environment_before_default(monkeypatch: pytest.MonkeyPatch) -> None:
    choices = ("text", "json")
    monkeypatch.delenv("AUTORELEASE_LOG_FORMAT", raising=False)
    assert log_choice(None, "AUTORELEASE_LOG_FORMAT", choices, "text") == "text"
    monkeypatch.setenv("AUTORELEASE_LOG_FORMAT", "json")
    assert log_choice(None, "AUTORELEASE_LOG_FORMAT", choices, "text") == "json"
    assert log_choice("text", "AUTORELEASE_LOG_FORMAT", choices, "json") == "text"
    monkeypatch.setenv("AUTORELEASE_LOG_FORMAT", "xml")
    with pytest.raises(UsageError, match="AUTORELEASE_LOG_FORMAT says 'xml': choose one of text, json"):
        log_choice(None, "AUTORELEASE_LOG_FORMAT", choices, "text")
    with pytest.raises(UsageError, match="the flag says 'yaml'"):
        log_choice("yaml", "AUTORELEASE_LOG_FORMAT", choices, "text")


# --- whatever is in the file ------------------------------------------------------------------------------------------

KNOWN = ["ledger", "journal", "release", "guard", "provisioners", "columns", "url", "table", "never", "inactive"]
KNOWN += ["timestamps", "timezone", "grace", "timeout", "attempts", "max_percent", "keep", "default", "kind", "stamp"]
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
keys = st.sampled_from(KNOWN) | text
words = st.sampled_from(["epoch", "Europe/Berlin", "30s", "99999999999d", "sqlite:///a.db", "Released", "."]) | text
scalars = st.one_of(st.booleans(), st.integers(), st.floats(), words)
values: st.SearchStrategy[Any] = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=6
)


def toml(value: Any) -> str:
    """A value as TOML writes it inline."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, float):
        return {"inf": "inf", "-inf": "-inf", "nan": "nan"}.get(repr(value), repr(value))
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for files that each example writes anew."""
    return tmp_path_factory.mktemp("settings")


def is_read_or_refused(folder: Path, content: bytes) -> None:
    """Any other exception ends the test."""
    try:
        load(folder, content)
    except ConfigurationError as error:
        assert str(folder / "config.toml") in str(error)  # noqa: PT017 - both ends are right


@given(content=st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(folder: Path, content: bytes) -> None:
    is_read_or_refused(folder, content)


@given(lines=st.lists(st.sampled_from([*KNOWN, "[", "]", "[[", "]]", "=", "'", '"', ".", "{", "}", "1", "\n", "#"])))
def test_any_text_in_the_manner_of_toml_is_read_or_refused(folder: Path, lines: list[str]) -> None:
    is_read_or_refused(folder, " ".join(lines).encode())


@given(tables=st.dictionaries(keys, values, max_size=4))
@example(tables={"ledger": {"never": [2**70, float("inf"), "x"]}})
@example(tables={"ledger": {"timezone": "."}})
@example(tables={"provisioners": {"": {}}})
def test_any_toml_is_read_or_refused(folder: Path, tables: dict[str, Any]) -> None:
    lines = (f"{json.dumps(key, ensure_ascii=False)} = {toml(value)}\n" for key, value in tables.items())
    is_read_or_refused(folder, "".join(lines).replace("\x7f", "\\u007f").encode())
