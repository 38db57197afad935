"""The REST side of the proxy: HTTP/1.1 with keep-alive, a thread for each connection."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

REFUSALS = {
    "unavailable": (503, "backendError", "Error encountered during execution. Retrying may solve the problem."),
    "quota": (429, "rateLimitExceeded", "Exceeded rate limits: too many api requests per user per method."),
    "rate_403": (403, "rateLimitExceeded", "Exceeded rate limits: too many concurrent queries for this project."),
    "quota_403": (403, "quotaExceeded", "Quota exceeded: Your project exceeded quota for free query bytes scanned."),
}
#: Status, headers and body.
Answer = tuple[int, list[tuple[str, str]], bytes]
Forward = Callable[[bytes], Answer]
#: Answers a request, of which it is given method, path and body, and what forwards a body with this method and path.
Between = Callable[[str, str, bytes, Forward], Answer]
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}
VERBS = {"POST queries": "POST query", "POST jobs": "POST query", "GET query": "GET getQueryResults"}


def name(method: str, path: str) -> str:
    """What a request is counted as.

    A job that is inserted and a query that is run are both ``"POST query"``. Otherwise a path that ends in an id is
    named for the resource (``"GET table"``) and any other for its last part (``"POST insertAll"``, ``"GET tables"``).
    """
    path = urlsplit(path).path
    if path.startswith(("/upload/", "/resumable/")):
        return f"{method} upload"
    # .../projects/<project>/<collection>/<id>/<collection>/<id>/<verb>
    _, _, rest = path.partition("/projects/")
    parts = rest.rstrip("/").split("/")[1:]
    if not parts:
        return f"{method} projects"
    plain = f"{method} {parts[-1] if len(parts) % 2 else _one(parts[-2])}"
    return VERBS.get(plain, plain)


def _one(collection: str) -> str:
    return f"{collection[:-3]}y" if collection.endswith("ies") else collection.removesuffix("s")


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # server_close() waits for the threads: none outlives the proxy

    def __init__(self, upstream: str, admit: Callable[[str], str | None], between: Between, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.upstream, self.admit, self.between = urlsplit(upstream).netloc, admit, between
        self.open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        # Here and not in the connection's thread, which may begin after cut().
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.open.discard(request)
        super().shutdown_request(request)

    def cut(self) -> None:
        """Wake the threads that read from a client or from the emulator."""
        for it in list(self.open):
            with contextlib.suppress(OSError):
                it.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that either end has cut is no error here; anything else is printed."""
        if not isinstance(sys.exception(), OSError | http.client.HTTPException):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # an answer leaves as one packet and not as one for each header

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 the base class's name
        pass

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        kind = self.server.admit(name(self.command, self.path))
        if kind in REFUSALS:
            self._refuse(*REFUSALS[kind])
        elif kind == "reset_before":
            self._reset()
        else:
            status, headers, content = self.server.between(self.command, self.path, body, self._forward)
            if kind == "lost_answer":
                self._reset()
            else:
                self._answer(status, headers, content, cut=kind == "cut_answer")

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on  # noqa: N815 the base class's names

    def _forward(self, body: bytes) -> Answer:
        # A connection each: a kept one might be closed by the emulator just as a request is sent on it. The client's
        # Host header is kept as well, so that the addresses the emulator hands out lead through the proxy.
        connection = http.client.HTTPConnection(self.server.upstream)
        connection.connect()
        used = connection.sock  # kept, because the connection may drop it once the answer has come
        self.server.open.add(used)
        try:
            headers = {key: value for key, value in self.headers.items() if key.lower() not in HOP_BY_HOP}
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            self.server.open.discard(used)
            connection.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes, *, cut: bool = False) -> None:
        self.send_response(status)
        for key, value in headers:
            if key.lower() not in HOP_BY_HOP:
                self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection |= cut

    def _refuse(self, status: int, reason: str, message: str) -> None:
        domain = "global" if status == 503 else "usageLimits"
        errors = [{"message": message, "domain": domain, "reason": reason}]
        body = json.dumps({"error": {"code": status, "message": message, "errors": errors}}).encode()
        self._answer(status, [("Content-Type", "application/json; charset=UTF-8")], body)

    def _reset(self) -> None:
        # Lingering for no time turns a close into a reset. The descriptor is closed by itself because the socket's own
        # close() waits for its files, and socketserver would send an orderly end first.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())
        self.close_connection = True


def _forwarded(method: str, path: str, body: bytes, forward: Forward) -> Answer:
    return forward(body)


@contextlib.contextmanager
def serve(
    upstream: str, admit: Callable[[str], str | None], port: int = 0, between: Between = _forwarded
) -> Iterator[str]:
    """Forward to the emulator at this URL, and yield the proxy's own.

    Args:
        upstream: http://host:port
        admit: Called once for each request; the kind of fault it gets.
        port: The proxy's own; 0 for any.
        between: Answers each request that was admitted.
    """
    server = _Server(upstream, admit, between, port)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="proxy-rest")
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.cut()
        server.server_close()
