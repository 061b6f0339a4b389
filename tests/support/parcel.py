"""A stand-in for the API of Parcel: servers are names in a set, behind HTTP on the loopback interface."""

import threading
from collections.abc import Iterable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ACCOUNT = "acme"
TOKEN = "hunter2"


class Parcel:
    """One account with these servers. locked: those that it refuses to delete. hangs: it takes calls, and is silent."""

    def __init__(self, servers: Iterable[str]) -> None:
        self.servers = set(servers)
        self.deleted: set[str] = set()
        self.locked: set[str] = set()
        self.hangs = threading.Event()
        self._stopped = threading.Event()
        self._http = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"parcel": self}))
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Go away; nobody is connected any more."""
        if not self._stopped.is_set():
            self._stopped.set()
            self._http.shutdown()
            self._http.server_close()

    def answer(self, method: str, path: str, token: str | None) -> tuple[int, str]:
        """The status and the text for one call."""
        if self.hangs.is_set():
            self._stopped.wait(60)
            return 503, ""
        if token != f"Bearer {TOKEN}":
            return 401, "who are you?"
        if (method, path) == ("GET", "/v1/account"):
            return 200, ACCOUNT
        name = path.removeprefix("/v1/servers/")
        if method == "DELETE" and name in self.locked:
            return 409, f"{name} is locked"
        if name in self.servers:
            return self._found(method, name)
        return (410, "it was deleted") if name in self.deleted else (404, "no such server")

    def _found(self, method: str, name: str) -> tuple[int, str]:
        if method == "GET":
            return 200, "running"
        self.servers.discard(name)
        self.deleted.add(name)
        return 204, ""


class _Server(ThreadingHTTPServer):
    request_queue_size = 64


class _Handler(BaseHTTPRequestHandler):
    parcel: Parcel

    def do_GET(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def _answer(self) -> None:
        status, text = self.parcel.answer(self.command, self.path, self.headers.get("Authorization"))
        # Who asked may have given up by then.
        with suppress(ConnectionError):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Silent."""
