"""Configuration files: of bytes at random, of TOML at random, and above all valid ones with something wrong in them."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Raw:
    """A value as it is to be written."""

    written: str


@dataclass(frozen=True, slots=True)
class Made:
    """A configuration file. at_fault: the one key that may be wrong, where there is no other."""

    content: bytes
    at_fault: str | None = None


DURATIONS = (
    "0s",
    "1ms",
    "1s",
    "30s",
    "36500d",
    "36501d",
    "-1s",
    "1 s",
    "999999999999999d",
    "9999999999999999s",
    "1w",
    "s",
    "\u0661s",
)
SCALARS = (
    *(
        "0",
        "1",
        "-1",
        "50",
        "100",
        "101",
        "255",
        "256",
        "65536",
        "1000000000000000000000000000000",
        "-9223372036854775808",
    ),
    *(
        "9223372036854775807",
        "9223372036854775808",
        "0x10",
        "0o7",
        "0b1",
        "1_000",
        "1" * 400,
        "9" * 5000,
        "0x" + "f" * 5000,
    ),
    *("1.5", "0.0", "-0.0", "1e400", "nan", "-nan", "inf", "-inf", "1e-400", "true", "false"),
    *(
        "1979-05-27T07:32:00Z",
        "1979-05-27T07:32:00-07:00",
        "1979-05-27T07:32:00",
        "1979-05-27",
        "07:32:00",
        "1979-02-30",
    ),
    *(
        "[]",
        "[[]]",
        "{}",
        "[{}]",
        "{a = 1}",
        "{a = {b = {c = []}}}",
        "[1, 'a', 1.5, true, 1979-05-27]",
        "[1, 1]",
        "['a', 'a']",
    ),
    *("[" * 50 + "]" * 50, "[" * 5000 + "]" * 5000, "{a=" * 40 + "1" + "}" * 40, "'''\n'''", '""', "''", "'x'", "' '"),
    *(
        "[0xffffffffffffffff]",
        "[0x" + "f" * 5000 + "]",
        "[1e400]",
        "[nan]",
        "[-1, '']",
        "[9223372036854775808]",
        "[true]",
    ),
)
WORDS = (
    *(
        "",
        " ",
        "x",
        "Released",
        "Active",
        "released",
        "epoch",
        "iso8601",
        "UTC",
        "Europe/Berlin",
        "Europe",
        "../etc/passwd",
    ),
    *(
        "default",
        "ledger",
        "command",
        "memory",
        "sid",
        "status",
        "expires_at",
        "rowid",
        "sqlite_master",
        "vm_allocations",
    ),
    *(
        "VM_ALLOCATIONS",
        "a\x00b",
        "\x00",
        "\n",
        "\x1b[31m",
        "'",
        '"',
        "ü",
        "🜂",
        "\u202e",
        "x" * 5000,
        "a b",
        "%s",
        "{sid}",
        "[x]",
    ),
    *(
        "-rf",
        "zone.tab",
        "posixrules",
        "/",
        ".",
        "..",
        "~",
        "1; DROP TABLE vm_allocations",
        "\ufeff",
        "SELECT",
        "*",
        "main.x",
    ),
)
URLS = (
    *(
        "sqlite:///allocations.db",
        "sqlite:///./allocations.db",
        "sqlite:///x/../allocations.db",
        "sqlite:///",
        "sqlite:////",
    ),
    *("sqlite://", "sqlite:", "", "postgresql://host/x", "sqlite:///allocations.db?mode=memory", "sqlite:///:memory:"),
    *(
        "sqlite:///" + "x" * 300,
        "sqlite:///" + "x/" * 5000,
        "sqlite:////dev/null",
        "sqlite:////dev/zero",
        "sqlite:////proc/self/mem",
    ),
    *(
        "sqlite:///config.toml",
        "sqlite:///journal.db",
        "sqlite:///allocations.db/",
        "sqlite:///a\nb",
        "sqlite:///ü",
        "sqlite:///.",
    ),
    *(
        "file:allocations.db",
        "sqlite:///%61llocations.db",
        "sqlite:///allocations.db#x",
        "SQLITE:///allocations.db",
        "sqlite:///nothing.db",
    ),
    *("sqlite:///a\x00b", "sqlite:///empty.db", "sqlite:///broken.db", "sqlite:///loop.db", "sqlite:///folder"),
)
ARGVS = (
    *(
        "['/bin/true']",
        "['true', '{sid}']",
        "['/bin/true', '{vm_ref}', '{token}', '{expires_at}', '{owner}', '{plan}', '{vm_uid}']",
    ),
    *(
        "[]",
        "['']",
        "['/nonexistent/program']",
        "['nonexistent-program']",
        "['./true']",
        "['bin/true']",
        "['/bin']",
        "['/etc/passwd']",
    ),
    *(
        "['/bin/true', '{nothing}']",
        "['/bin/true', '{sid} x']",
        "['/bin/true', '{{sid}}']",
        "['{sid}']",
        "['/bin/true', '}']",
    ),
    *(
        "'/bin/true'",
        "[1]",
        "['/bin/true', 1]",
        "[['/bin/true']]",
        '["/bin/true", "a\\u0000b"]',
        "['/bin/true', '']",
        "['/']",
        "['..']",
    ),
    *(
        "['true\\n']",
        "['/bin/true', '" + "x" * 200_000 + "']",
        "['" + "/x" * 3000 + "']",
        "['~/true']",
        "['$HOME/true']",
    ),
)
KNOWN: dict[str, tuple[str, ...]] = {
    "ledger": (
        *("url", "table", "released", "inactive", "live", "where", "never", "timestamps", "dates", "timezone"),
        *("stamp", "columns"),
    ),
    "ledger.columns": (
        *("sid", "status", "expires_at", "released_at", "owner", "plan", "vm_ref", "vm_uid", "provisioner"),
        "deleted_at",
    ),
    "journal": ("url", "keep"),
    "release": ("grace", "hold_grace", "concurrency", "timeout", "deadline", "attempts", "quarantine_after"),
    "guard": ("max_releases", "max_percent", "min_fleet", "max_gone_percent", "max_clock_gap"),
    "provisioners.default": ("kind", "argv", "exists", "already", "pending", "retry", "down", "allow_dash"),
}
LENGTHS = ("keep", "grace", "hold_grace", "timeout", "deadline", "max_clock_gap")
FITTING: dict[str, tuple[Any, ...]] = {
    "url": URLS,
    "argv": ARGVS,
    "exists": ARGVS,
    "timestamps": ("epoch", "epoch_ms", "iso8601", "EPOCH", ""),
    "kind": ("ledger", "command", "memory", "http", "Ledger", ""),
    "never": (
        "[0]",
        "[0, -1]",
        "['x']",
        "[1.5]",
        "[1e400]",
        "[9223372036854775808]",
        "[0x" + "f" * 300 + "]",
        "[true]",
    ),
    "live": ("['Active']", "['Released']", "[]", "['Cancelled', 'active']", "[1, 2]", "[3.0]", "['']"),
    "where": (
        *(
            "{owner = 'alma'}",
            "{OWNER = 'alma', plan = 1}",
            "{status = 'Active'}",
            "{nothing = 1}",
            "{}",
            "{plan = true}",
        ),
        *("{plan = 1.5}", "{'' = 1}", "{sid = 'a', SID = 'b'}", "{'a\"b' = \"a'b\"}", "{a.b = 1}", "[1]"),
    ),
    "dates": ("end", "start", "", "noon"),
    "deleted_at": ("", "plan", "released_at", "nothing"),
    "inactive": ("['Cancelled']", "['Released']", "['']", "[1]", '["a\\u0000"]', "['it''s']"),
    "table": (
        "vm_allocations",
        "VM_ALLOCATIONS",
        "view_of_it",
        "odd \" table'",
        "sqlite_sequence",
        "nothing",
        "sqlite_stat1",
    ),
    "already": ("[3]", "[0]", "[256]", "[75]", "[-1]", "[1e3]", "[]"),
    "pending": ("[20]", "[3]", "[]", "[0]"),
    "timezone": ("UTC", "Europe/Berlin", "America/New_York", "Europe", "../etc/passwd", "zone.tab", "x" * 5000),
    "released": (
        Raw("3"),
        Raw("true"),
        Raw("-9223372036854775808"),
        "Released",
        "Active",
        "Cancelled",
        "it's",
        "ü",
        " ",
        "RELEASED",
    ),
    "stamp": ("true", "false"),
    "owner": ("", "owner", "sid", "status", "nothing", "expires_at", "OWNER"),
    "plan": ("", "plan", "sid", "owner", "nothing"),
    "vm_ref": ("", "vm_ref", "sid", "expires_at", "owner"),
    "vm_uid": ("vm_uid", "vm_ref", "nothing"),
    "sid": ("sid", "SID", "vm_ref", "rowid", "owner", "status"),
    "status": ("status", "STATUS", "plan", "owner", "released_at"),
    "expires_at": ("expires_at", "released_at", "owner"),
    "released_at": ("", "released_at", "plan", "expires_at", "vm_uid", "nothing"),
    "provisioner": ("provisioner", "owner", "sid"),
    "concurrency": ("1", "8", "256", "257", "0"),
    "attempts": ("1", "2", "100", "101"),
    "quarantine_after": ("1", "1000", "0"),
    "min_fleet": ("0", "1", "1000000000000", "-1"),
    "max_gone_percent": ("0", "100", "101"),
    "allow_dash": ("true", "false"),
    "retry": ("[75]", "[1, 2]", "[77]", "[]"),
    "down": ("[77, 78]", "[1]", "[]", "[3]"),
    "max_percent": ("0", "1", "99", "100", "101", "50.0"),
    "max_releases": ("0", "1", "2", "0x" + "f" * 5000),
}


def valid(chance: random.Random) -> Document:
    """A configuration that works: sparse, or with much in it."""
    provisioner: Document = {"kind": "ledger"}
    if chance.random() < 0.3:
        provisioner = {"kind": "command", "argv": Raw("['/bin/true', '{sid}']"), "already": Raw("[3]")}
    made: Document = {"ledger": {"url": "sqlite:///allocations.db"}, "provisioners": {"default": provisioner}}
    made["guard"] = {"max_percent": Raw("100")}
    if chance.random() < 0.5:
        made["ledger"] |= {
            "table": "vm_allocations",
            "timestamps": "epoch",
            "released": "Released",
            "inactive": ["Cancelled"],
        }
        made["ledger"]["columns"] = {"sid": "sid", "status": "status", "owner": "owner"}
        made["journal"] = {"url": "sqlite:///journal.db", "keep": "400d"}
        made["release"] = {
            "grace": "0s",
            "concurrency": Raw("2"),
            "timeout": "10s",
            "attempts": Raw("1"),
            "deadline": "20s",
        }
    return made


def any_document(chance: random.Random) -> Made:
    """A file of one of the sorts."""
    choice = chance.random()
    if choice < 0.05:
        return Made(chance.randbytes(chance.randrange(300)))
    if choice < 0.12:
        return Made(_any_toml(chance).encode("utf-8", "replace"))
    if choice < 0.3:
        return Made(_damaged(chance, written(valid(chance)).encode()))
    return _changed(chance)


# --- valid but for something ------------------------------------------------------------------------------------------


def _changed(chance: random.Random) -> Made:
    document = valid(chance)
    count = chance.choice([1, 1, 1, 2, 3])
    keys = [chance.choice(CHANGES)(chance, document) for _ in range(count)]
    text = written(document)
    if chance.random() < 0.08:
        text += chance.choice(
            ["[ledger]\n", "[[ledger]]\n", "[ledger.url]\n", "[guard]\nmax_percent = 1\n", "x = 1\nx = 2\n"]
        )
        return Made(text.encode())
    return Made(text.encode(), keys[0] if count == 1 else None)


def _section(chance: random.Random, document: Document) -> tuple[str, Document]:
    name = chance.choice(list(KNOWN))
    found = document
    for word in name.split("."):
        found = found.setdefault(word, {})
        if not isinstance(found, dict):
            return "ledger", document.setdefault("ledger", {}) if isinstance(document.get("ledger"), dict) else {}
    return name, found


def _set_known(chance: random.Random, document: Document) -> str | None:
    name, section = _section(chance, document)
    key = chance.choice(KNOWN[name])
    section[key] = _value(chance, key)
    # Another kind may miss a key of its own, and names that.
    return key if key != "kind" else None


def _set_unknown(chance: random.Random, document: Document) -> str | None:
    _, section = _section(chance, document)
    key = chance.choice(
        ["x", "url_", "passwrd", "ünï", "a b", "", "max-percent", "Sid", "kind ", "dry_run", "x" * 2000]
    )
    section[key] = _value(chance, key)
    return key


def _misspell(chance: random.Random, document: Document) -> str | None:
    name, section = _section(chance, document)
    key = chance.choice(KNOWN[name])
    place = chance.randrange(len(key))
    wrong = key[:place] + chance.choice(["", "_", "x", "e", "s"]) + key[place + chance.choice([0, 1]) :]
    section[wrong] = section.pop(key, _value(chance, key))
    # Without a kind nobody knows what the other keys should be.
    return wrong if wrong not in KNOWN[name] and "provisioners" not in name else None


def _remove(chance: random.Random, document: Document) -> str | None:
    _, section = _section(chance, document)
    if section:
        del section[chance.choice(list(section))]
    return None


def _spoil_section(chance: random.Random, document: Document) -> str | None:
    name = chance.choice(["ledger", "journal", "release", "guard", "provisioners", "provisoners", "x"])
    document[name] = Raw(chance.choice(SCALARS))
    return None


def _nest_deeply(chance: random.Random, document: Document) -> str | None:
    _, section = _section(chance, document)
    section[Raw(".".join(["a"] * chance.choice([5, 30, 1000])))] = Raw("1")  # type: ignore[index]
    return None


def _add_provisioner(chance: random.Random, document: Document) -> str | None:
    provisioners = document.setdefault("provisioners", {})
    if isinstance(provisioners, dict):
        provisioners[chance.choice(WORDS)] = {"kind": chance.choice(FITTING["kind"])}
    return None


CHANGES: tuple[Callable[[random.Random, Document], str | None], ...] = (
    *(_set_known,) * 8,
    *(_set_unknown,) * 2,
    *(_misspell, _remove, _spoil_section, _nest_deeply, _add_provisioner),
)


def _value(chance: random.Random, key: str) -> Any:
    choice = chance.random()
    if key in FITTING and choice < 0.75:
        found = chance.choice(FITTING[key])
        is_word = key in (
            "url",
            "timestamps",
            "dates",
            "kind",
            "table",
            "timezone",
            "released",
            *KNOWN["ledger.columns"],
        )
        return found if is_word else Raw(found)
    if key in LENGTHS and choice < 0.75:
        return chance.choice(DURATIONS)
    if choice < 0.9:
        return Raw(chance.choice(SCALARS))
    return chance.choice([*WORDS, *DURATIONS])


# --- as text ----------------------------------------------------------------------------------------------------------


def written(document: Document) -> str:
    """As TOML: what is no table first, for it would belong to the table before it."""
    return "".join(_lines("", document))


def _lines(place: str, table: Document) -> list[str]:
    plain = [f"{_key(key)} = {_literal(value)}\n" for key, value in table.items() if not isinstance(value, dict)]
    found = [f"[{place}]\n" if place else "", *plain]
    for key, value in table.items():
        if isinstance(value, dict):
            found += _lines(f"{place}.{_key(key)}" if place else _key(key), value)
    return found


def _key(key: "str | Raw") -> str:
    if isinstance(key, Raw):
        return key.written
    return (
        key
        if key.isascii() and key.replace("_", "").replace("-", "").isalnum()
        else json.dumps(key, ensure_ascii=False)
    )


def _literal(value: Any) -> str:
    return value.written if isinstance(value, Raw) else json.dumps(value, ensure_ascii=False)


def _damaged(chance: random.Random, content: bytes) -> bytes:
    """With a few bytes or lines gone, twice, moved, or other ones."""
    for _ in range(chance.choice([1, 1, 2, 5])):
        lines = content.split(b"\n")
        place, other = chance.randrange(len(content) + 1), chance.randrange(len(lines))
        content = chance.choice(
            [
                content[:place] + chance.randbytes(1) + content[place + 1 :],
                content[:place] + bytes([chance.choice(b"[]{}=\"'.,#\n\\0 -")]) + content[place:],
                content[:place] + content[place + chance.randrange(1, 9) :],
                b"\n".join(lines[:other] + lines[other + 1 :]),
                b"\n".join([*lines, lines[other]]),
                content[:place],
            ]
        )
    return content


def _any_toml(chance: random.Random) -> str:
    lines = []
    for _ in range(chance.randrange(8)):
        key = chance.choice(
            ["a", "b.c", '"x y"', "ledger", "ledger.url", "guard.max_percent", "provisioners.default.kind", "''"]
        )
        value = chance.choice([chance.choice(SCALARS), json.dumps(chance.choice(WORDS), ensure_ascii=False)])
        head = chance.choice(["[t]", "[ledger]", "[[ledger]]", "[provisioners.x]", "[a.b.c]", "[journal]", "# comment"])
        lines.append(chance.choice([f"{key} = {value}", f"{key} = {value}", head]))
    return "\n".join(lines)
