"""`doctor`: the whole installation, or one provisioner, checked part by part. It only reads."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from autorelease.cli.decided import limits
from autorelease.cli.shared import FORMAT, check_section, clock, moment, shared
from autorelease.errors import ConfigurationError, ExitCode, UsageError
from autorelease.model import rfc3339
from autorelease.render import Form, TextForm, default_form, progress, show_checks, show_json, show_lines, show_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from autorelease.cli.shared import Shared
    from autorelease.inspect import Check
    from autorelease.inspect.configuration import Value
    from autorelease.settings import Settings

COLUMNS = ("state", "check", "message", "remedy")
ALL = "autorelease doctor --settings"


def doctor(
    context: typer.Context,
    *,
    every: Annotated[bool, typer.Option("--settings", help="Also the settings that have their default.")] = False,
    deep: Annotated[
        bool,
        typer.Option(
            "--deep",
            help="Also read all of ledger and journal for damage. Without WAL nobody can write to them meanwhile.",
        ),
    ] = False,
    provisioner: Annotated[
        str | None, typer.Option(metavar="NAME", help="This provisioner alone, with what its answers are worth.")
    ] = None,
    form: Annotated[TextForm | None, FORMAT] = None,
) -> None:
    """Check the whole installation, each part with its remedy: exit code 0, or 9 where one of them fails.

    Example: autorelease doctor
    """
    from autorelease.inspect import has_failed, worst_first

    now, options = clock(), shared(context)
    values, checks = _looked(options, now, provisioner, every=every, deep=deep)
    code, shape = ExitCode.UNHEALTHY if has_failed(checks) else ExitCode.OK, Form(form) if form else default_form()
    if shape is Form.JSON or options.shows(code):
        _show(shape, now, values, worst_first(checks), is_all=every or provisioner is not None)
    raise typer.Exit(code)


def _looked(
    options: "Shared", now: datetime, provisioner: str | None, *, every: bool, deep: bool
) -> "tuple[Sequence[Value], Sequence[Check]]":
    from autorelease.inspect.doctor import examine_without

    try:
        settings = options.settings()
    except ConfigurationError as error:
        return (), list(examine_without(error))
    checks = _examined(settings, now, provisioner, deep=deep)
    return list(_values(options, settings, provisioner, every=every)), checks


def _values(options: "Shared", settings: "Settings", provisioner: str | None, *, every: bool) -> "Iterator[Value]":
    from autorelease.inspect.configuration import effective

    for value in effective(settings, config_from=options.config_from, ledger_from=options.ledger_from):
        is_of_it = provisioner is None or value.key.startswith(f"provisioners.{provisioner}.")
        if is_of_it and (every or value.origin != "default"):
            yield value


def _examined(settings: "Settings", now: datetime, provisioner: str | None, *, deep: bool) -> "list[Check]":
    from autorelease.inspect.doctor import examine
    from autorelease.inspect.integrity import examine_integrity
    from autorelease.inspect.provisioners import examine_provisioner

    if deep and provisioner is not None:
        raise UsageError("--deep is about ledger and journal, --provisioner about one provisioner: give one of them")
    here = moment(settings, now)
    if provisioner is not None:
        check_section(settings, provisioner)
        return list(examine_provisioner(settings, here, provisioner))
    checks = list(examine(settings, here, limits(settings)))
    if deep:
        with progress(None, "reading all of ledger and journal (Ctrl-C ends it)"):
            checks += examine_integrity(settings, now)
    return checks


def _show(form: Form, now: datetime, values: "Sequence[Value]", checks: "Sequence[Check]", *, is_all: bool) -> None:
    from autorelease.inspect import has_failed

    rows = [
        {"state": check.state, "check": check.name, "message": check.message, "remedy": check.remedy or None}
        for check in checks
    ]
    if form is Form.JSON:
        settings = [{"key": each.key, "value": each.value, "from": each.origin} for each in values]
        head = {"schema": "autorelease.doctor/1", "now": rfc3339(now), "failed": has_failed(checks)}
        show_json(head, {"settings": settings, "checks": rows})
    elif form is Form.TABLE:
        show_checks(rows)
        if values:
            title = "Settings" if is_all else f"Settings that are written down (all of them: {ALL})"
            show_lines(["", title, *(f"  {_setting(each)}" for each in values)])
    else:
        lines = [{"state": "ok", "check": "setting", "message": _setting(each), "remedy": None} for each in values]
        show_rows(form, COLUMNS, [*rows, *lines])


def _setting(value: "Value") -> str:
    return f"{value.key} = {value.value} ({value.origin})"
