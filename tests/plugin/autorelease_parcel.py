"""Releases the servers of Parcel, a cloud that exists in this example alone."""

import http.client
import re
from datetime import timedelta
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from autorelease.errors import ConfigurationError, ProvisionerDown, ProvisionerError
from autorelease.model import Allocation, Release, Result
from autorelease.provisioners import Kind, Section, refuse_unknown

KEYS = ("api", "account", "token_file")


class ParcelProvisioner:
    """Deletes servers. Every call has a connection of its own, so that threads share nothing."""

    def __init__(self, api: SplitResult, account: str, token_file: Path, timeout: timedelta) -> None:
        self._api = api
        self._account = account
        self._token_file = token_file
        self._timeout = timeout.total_seconds()

    def preflight(self) -> None:
        """The API is there, and our token is one of the account that is meant."""
        status, said = self._call("GET", "/v1/account")
        if status != 200:
            raise ProvisionerDown(f"the API does not know us (HTTP {status}): {said}")
        if said != self._account:
            raise ProvisionerDown(f"the token is of the account {said!r}, not of {self._account!r}")

    def release(self, allocation: Allocation) -> Release:
        """Delete the server that the row names."""
        status, said = self._call("DELETE", _path(allocation.vm_ref))
        evidence = f"HTTP {status}"
        if status == 204:
            return Release(Result.RELEASED, evidence)
        if status == 202:
            return Release(Result.PENDING, evidence)
        if status == 410:
            return Release(Result.ALREADY_RELEASED, evidence)
        if status == 404:
            return Release(Result.ALREADY_RELEASED, evidence, proof=False)
        raise _error(f"not deleted ({evidence}): {said}", status)

    def exists(self, allocation: Allocation) -> bool:
        """Whether the account has the server that the row names."""
        status, said = self._call("GET", _path(allocation.vm_ref))
        if status not in (200, 404, 410):
            raise _error(f"not looked up (HTTP {status}): {said}", status)
        return status == 200

    def fingerprint(self) -> str:
        """The account at this API, as `preflight` has seen it."""
        return f"parcel: {self._account} at {self._api.netloc}"

    def close(self) -> None:
        """Nothing to give back."""

    def _call(self, method: str, path: str) -> tuple[int, str]:
        """The status of the answer, and its text."""
        is_secure = self._api.scheme == "https"
        kind = http.client.HTTPSConnection if is_secure else http.client.HTTPConnection
        connection = kind(self._api.hostname or "", self._api.port, timeout=self._timeout)
        headers = {"Authorization": f"Bearer {self._token()}"}
        try:
            connection.connect()
        except OSError as error:
            # Nothing was sent.
            raise ProvisionerDown(f"{self._api.netloc} cannot be reached: {error}") from error
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read(4096).decode("utf-8", "replace").strip()
        except TimeoutError as error:
            raise ProvisionerError(f"no answer in {self._timeout:g} s", retryable=True, timed_out=True) from error
        except (OSError, http.client.HTTPException) as error:
            # It was sent, and may have been heard.
            raise ProvisionerError(f"cut off: {error!r}", retryable=True, end_unknown=True) from error
        finally:
            connection.close()

    def _token(self) -> str:
        try:
            return self._token_file.read_text("ascii").strip()
        except (OSError, ValueError) as error:
            raise ProvisionerDown(f"{self._token_file} cannot be read: {type(error).__name__}") from error


def _path(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9-]{1,63}", name):
        raise ProvisionerError(f"{name[:80]!r} is no name of a server")
    return f"/v1/servers/{name}"


def _error(words: str, status: int) -> ProvisionerError:
    if status in (401, 403):
        return ProvisionerDown(f"the API refuses our token: {words}")
    return ProvisionerError(words, retryable=status == 429 or status >= 500)


def _make(section: Section) -> ParcelProvisioner:
    refuse_unknown(section, KEYS)
    api, account, token_file = (_text(section, key) for key in KEYS)
    try:
        parts = urlsplit(api)
        is_complete = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_complete = False
    if not is_complete:
        raise ConfigurationError(f"{section.place} api: {api!r} is not like https://api.parcel.example")
    return ParcelProvisioner(parts, account, section.folder / token_file, section.timeout)


def _text(section: Section, key: str) -> str:
    value = section.options.get(key)
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ConfigurationError(f"{section.place} {key}: a text is required")
    return value


KIND = Kind(_make)
