"""`kind = "ledger"`: the stamp is the release. For owners whose own application acts on the status."""

import logging

from autorelease.errors import ConfigurationError
from autorelease.model import Allocation, Release, Result
from autorelease.provisioners import Kind, Section, refuse_unknown

logger = logging.getLogger(__name__)


class LedgerProvisioner:
    """Agrees to every release; the executor's stamp is all that happens."""

    def preflight(self) -> None:
        """Say what a reader of the log must know."""
        logger.info('the provisioner of kind "ledger" changes nothing but the ledger: no VM is stopped by it')

    def fingerprint(self) -> None:
        """None: what a stamp says of VMs earns no belief."""

    def release(self, allocation: Allocation) -> Release:  # noqa: ARG002
        """Released, as soon as it is stamped."""
        return Release(Result.RELEASED, evidence="stamp")

    def close(self) -> None:
        """Nothing to give back."""


def _make(section: Section) -> LedgerProvisioner:
    _check(section)
    return LedgerProvisioner()


def _check(section: Section) -> None:
    refuse_unknown(section, ())
    if not section.stamps:
        raise ConfigurationError(
            f'{section.place} kind = "ledger" with [ledger] stamp = false would do nothing at all: '
            "choose another kind, or let us stamp"
        )


KIND = Kind(_make, immediate=True, check=_check)
