"""Tables as other people's programs make them: their DDL, their spelling of instants, and how we are told about it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


@dataclass(frozen=True, slots=True)
class ForeignTable:
    """One program's table.

    spell: an instant as it stores it. read: what it stored, as an instant again; its precision is `precision`.
    row: the further columns of a row with this number, by name. wal: the program leaves its database in WAL mode.
    """

    table: str
    statements: Sequence[str]
    settings: str
    sid: str
    status: str
    expires_at: str
    released_at: str
    identity: Callable[[int], int | str]
    spell: Callable[[datetime], Any]
    read: Callable[[Any], datetime]
    precision: timedelta
    row: Callable[[int], Mapping[str, Any]] = lambda _: {}
    active: str = "active"
    released: str = "released"
    wal: bool = False


def _naive(form: str, zone: ZoneInfo | None = None) -> Callable[[datetime], str]:
    return lambda instant: instant.astimezone(zone or UTC).strftime(form)


def _read_naive(zone: ZoneInfo | None = None) -> Callable[[Any], datetime]:
    return lambda stored: datetime.fromisoformat(stored).replace(tzinfo=zone or UTC)


def _spell_go(instant: datetime) -> str:
    # time.Format with .999999999: the zeros at the end of the fraction are left out, and so is an empty fraction.
    fraction = f".{instant.microsecond:06d}".rstrip("0").rstrip(".")
    return f"{instant:%Y-%m-%d %H:%M:%S}{fraction}+00:00"


def _milliseconds(instant: datetime) -> int:
    return (instant - EPOCH) // timedelta(milliseconds=1)


# makemigrations of a model with DateTimeField, and the backend's adapter: naive UTC, str(datetime).
DJANGO = ForeignTable(
    table="billing_allocation",
    statements=(
        'CREATE TABLE "auth_user" ("id" integer NOT NULL PRIMARY KEY AUTOINCREMENT, "username" varchar(150) NOT NULL)',
        "INSERT INTO auth_user (username) VALUES ('alice')",
        (
            'CREATE TABLE "billing_allocation" ("id" integer NOT NULL PRIMARY KEY AUTOINCREMENT, '
            '"vm_name" varchar(64) NOT NULL UNIQUE, "status" varchar(16) NOT NULL, "expires_at" datetime NULL, '
            '"released_at" datetime NULL, "is_paid" bool NOT NULL, '
            '"meta" text NOT NULL CHECK ((JSON_VALID("meta") OR "meta" IS NULL)), '
            '"owner_id" integer NOT NULL REFERENCES "auth_user" ("id") DEFERRABLE INITIALLY DEFERRED)'
        ),
        'CREATE INDEX "billing_allocation_owner_id_0c5f" ON "billing_allocation" ("owner_id")',
        'CREATE INDEX "billing_allocation_expires_9a1b" ON "billing_allocation" ("expires_at")',
    ),
    settings=(
        'timestamps = "iso8601"\ntimezone = "UTC"\n'
        '[ledger.columns]\nsid = "id"\nvm_ref = "vm_name"\nowner = "owner_id"\n'
    ),
    sid="id",
    status="status",
    expires_at="expires_at",
    released_at="released_at",
    identity=lambda number: number + 1,
    spell=_naive("%Y-%m-%d %H:%M:%S.%f"),
    read=_read_naive(),
    precision=timedelta(microseconds=1),
    row=lambda number: {"vm_name": f"vm-{number}", "is_paid": True, "meta": '{"a": [1, 2]}', "owner_id": 1},
)

# ActiveRecord: datetime(6) is text of naive UTC with six digits.
RAILS = ForeignTable(
    table="allocations",
    statements=(
        'CREATE TABLE "schema_migrations" ("version" varchar NOT NULL PRIMARY KEY)',
        (
            'CREATE TABLE "allocations" ("id" integer PRIMARY KEY AUTOINCREMENT NOT NULL, "hostname" varchar, '
            '"state" varchar DEFAULT \'active\' NOT NULL, "ends_at" datetime(6), "released_at" datetime(6), '
            '"created_at" datetime(6) NOT NULL, "updated_at" datetime(6) NOT NULL)'
        ),
        'CREATE INDEX "index_allocations_on_state_and_ends_at" ON "allocations" ("state", "ends_at")',
        'CREATE UNIQUE INDEX "index_allocations_on_hostname" ON "allocations" ("hostname")',
    ),
    settings=(
        'timestamps = "iso8601"\ntimezone = "Etc/UTC"\n'
        '[ledger.columns]\nsid = "id"\nstatus = "state"\nexpires_at = "ends_at"\nvm_ref = "hostname"\n'
    ),
    sid="id",
    status="state",
    expires_at="ends_at",
    released_at="released_at",
    identity=lambda number: number + 1,
    spell=_naive("%Y-%m-%d %H:%M:%S.%f"),
    read=_read_naive(),
    precision=timedelta(microseconds=1),
    row=lambda number: {
        "hostname": f"web{number}.example.org",
        "created_at": "2020-01-01 00:00:00.000001",
        "updated_at": "2020-01-01 00:00:00.000001",
    },
    wal=True,
)

# Eloquent: whole seconds, in the application's own time zone.
LARAVEL = ForeignTable(
    table="vm_allocations",
    statements=(
        (
            'CREATE TABLE "vm_allocations" ("id" integer primary key autoincrement not null, "uuid" varchar not null, '
            "\"status\" varchar check (\"status\" in ('active', 'released')) not null default 'active', "
            '"expires_at" datetime, "released_at" datetime, "created_at" datetime, "updated_at" datetime)'
        ),
        'CREATE UNIQUE INDEX "vm_allocations_uuid_unique" on "vm_allocations" ("uuid")',
    ),
    settings='timestamps = "iso8601"\ntimezone = "UTC"\n[ledger.columns]\nsid = "uuid"\n',
    sid="uuid",
    status="status",
    expires_at="expires_at",
    released_at="released_at",
    identity=lambda number: f"9d8f6c1e-0000-4000-8000-{number:012d}",
    spell=_naive("%Y-%m-%d %H:%M:%S"),
    read=_read_naive(),
    precision=timedelta(seconds=1),
    row=lambda _: {"created_at": "2020-01-01 00:00:00", "updated_at": "2020-01-01 00:00:00"},
)

# Prisma's SQLite connector: milliseconds since 1970 in a column that calls itself DATETIME, which has NUMERIC affinity.
PRISMA = ForeignTable(
    table="Allocation",
    statements=(
        'CREATE TABLE "_prisma_migrations" ("id" TEXT PRIMARY KEY NOT NULL, "checksum" TEXT NOT NULL)',
        (
            'CREATE TABLE "Allocation" ("id" TEXT NOT NULL PRIMARY KEY, "vmName" TEXT NOT NULL, '
            '"status" TEXT NOT NULL DEFAULT \'ACTIVE\', "expiresAt" DATETIME, "releasedAt" DATETIME, '
            '"createdAt" DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP)'
        ),
        'CREATE INDEX "Allocation_expiresAt_idx" ON "Allocation"("expiresAt")',
    ),
    settings=(
        'timestamps = "epoch_ms"\n[ledger.columns]\nsid = "id"\nexpires_at = "expiresAt"\nreleased_at = "releasedAt"\n'
        'vm_ref = "vmName"\n'
    ),
    sid="id",
    status="status",
    expires_at="expiresAt",
    released_at="releasedAt",
    identity=lambda number: f"clm{number:022d}",
    spell=_milliseconds,
    read=lambda stored: EPOCH + timedelta(milliseconds=stored),
    precision=timedelta(milliseconds=1),
    row=lambda number: {"vmName": f"vm-{number}", "createdAt": 1577836800000},
    active="ACTIVE",
    released="RELEASED",
)

# database/sql with mattn/go-sqlite3, and a table whose author gave no column a type.
GO = ForeignTable(
    table="leases",
    statements=(
        "PRAGMA auto_vacuum = INCREMENTAL",
        "CREATE TABLE leases (name, vm, state, until, released, note)",
        "CREATE UNIQUE INDEX leases_name ON leases (name)",
    ),
    settings=(
        'timestamps = "iso8601"\n[ledger.columns]\n'
        'sid = "name"\nstatus = "state"\nexpires_at = "until"\nreleased_at = "released"\nvm_ref = "vm"\n'
    ),
    sid="name",
    status="state",
    expires_at="until",
    released_at="released",
    identity=lambda number: f"lease/{number}",
    spell=_spell_go,
    read=datetime.fromisoformat,
    precision=timedelta(seconds=1),
    row=lambda number: {"vm": number, "note": b"\x00\x01 raw"},
    wal=True,
)

# A program of the house that writes the wall clock of Berlin, and clusters its rows by their key.
BERLIN_WALL_CLOCK = ForeignTable(
    table="Zuteilungen",
    statements=(
        (
            'CREATE TABLE "Zuteilungen" ("Kürzel" TEXT NOT NULL PRIMARY KEY, "Zustand" TEXT NOT NULL, '
            '"gültig bis" TEXT, "beendet am" TEXT, "Bemerkung" TEXT COLLATE NOCASE) WITHOUT ROWID'
        ),
        'CREATE INDEX "nach Ende" ON "Zuteilungen" ("gültig bis") WHERE "Zustand" <> \'released\'',
        'CREATE VIEW "aktive" AS SELECT * FROM "Zuteilungen" WHERE "Zustand" <> \'released\'',
    ),
    settings=(
        'timestamps = "iso8601"\ntimezone = "Europe/Berlin"\n[ledger.columns]\n'
        'sid = "Kürzel"\nstatus = "Zustand"\nexpires_at = "gültig bis"\nreleased_at = "beendet am"\n'
    ),
    sid="Kürzel",
    status="Zustand",
    expires_at="gültig bis",
    released_at="beendet am",
    identity=lambda number: f"vm-ä-{number}",
    spell=_naive("%Y-%m-%dT%H:%M:%S", BERLIN),
    read=_read_naive(BERLIN),
    precision=timedelta(seconds=1),
    row=lambda number: {"Bemerkung": f"Nr. {number}"},
)

FOREIGN_TABLES: Mapping[str, ForeignTable] = {
    "Django": DJANGO,
    "Rails": RAILS,
    "Laravel": LARAVEL,
    "Prisma": PRISMA,
    "Go": GO,
    "Berlin wall clock": BERLIN_WALL_CLOCK,
}
