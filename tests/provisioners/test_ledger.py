"""The provisioner for which the stamp is the release."""

import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from autorelease.errors import ConfigurationError
from autorelease.provisioners import Registered, open_provisioners


def opened(*, stamps: bool = True, **options: Any) -> Registered:
    """Made from a section of the configuration."""
    sections = {"default": {"kind": "ledger", **options}}
    return open_provisioners(sections, Path("/etc/x.toml"), timedelta(seconds=1), stamps=stamps)["default"]


def test_it_takes_no_time_and_needs_no_thread() -> None:
    assert opened().immediate


def test_its_log_says_that_no_vm_is_stopped(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        opened().provisioner.preflight()
    assert "changes nothing but the ledger" in caplog.text


def test_a_ledger_that_we_do_not_stamp_would_be_released_by_nobody() -> None:
    with pytest.raises(ConfigurationError, match=r"x\.toml: \[provisioners\.default\].* stamp = false"):
        opened(stamps=False)


def test_it_has_no_options() -> None:
    with pytest.raises(ConfigurationError, match="unknown key 'argv'"):
        opened(argv=["true"])
