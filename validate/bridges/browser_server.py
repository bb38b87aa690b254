"""The HTTP server between the bridge and its page: files, the model, examples, requests and answers.

    GET  /TOKEN/page/...  /TOKEN/modules/...   the page and the npm modules' files
    GET  /TOKEN/alive                          never ends: its end tells that the page is gone
    GET  /TOKEN/next                           the next request as JSON; 204 when there is none for a while
    GET  /TOKEN/model                          the artifact's bytes
    GET  /TOKEN/examples/INPUT/START/STOP      examples of an input, counted from 0, as raw bytes
    POST /TOKEN/outputs/OUTPUT                 an output, counted from 0, as raw bytes in the examples' order
    POST /TOKEN/answer                         {"ok": ...}, {"progress": ...} or {"error": ...} as JSON

It listens on 127.0.0.1. The token keeps out every other page of a browser on this machine; other users of the
machine could read it in the list of processes and are trusted.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import queue
import secrets
import sys
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np

from edgeship.validate.targets.browser_files import MODULES, PAGE_FOLDER

POLL_SECONDS = 20.0
MAX_BODY_BYTES = 64 * 1024 * 1024  # of one piece of outputs

# Only what a page loads; .map files and sources stay where they are.
CONTENT_TYPES = {".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm"}

HEADERS = {
    # These two make the page cross-origin isolated: without it there are no threads and only coarse clocks.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    # The libraries make code from strings and workers from blobs, but fetch nothing from elsewhere.
    "Content-Security-Policy": "default-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}

# ("ok" | "progress" | "error", content) from the page; ("gone", None): its connection closed; others put
# in more (see browser.py).
Event = tuple[str, Any]


class PageServer(ThreadingHTTPServer):
    """Serves one page and holds what it is to fetch: set `model` and `examples` before a request needs them."""

    daemon_threads = True

    def __init__(self, modules: Path, events: queue.SimpleQueue[Event]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.token = secrets.token_urlsafe(24)
        self.events = events
        self.requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.model = b""
        self.examples: list[np.ndarray] = []  # one array per input, in the library's order
        self.outputs: list[list[bytes]] = []  # one list per output
        self._modules = modules
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """The page's address."""
        return f"http://127.0.0.1:{self.server_port}/{self.token}/page/index.html"

    def served_file(self, area: str, relative: str) -> Path | None:
        """The file behind a path below `page/` or `modules/`; None for all that is not to be served."""
        root = PAGE_FOLDER
        if area == "modules":
            packages = [package for names in MODULES.values() for package in names]
            package = next((package for package in packages if relative.startswith(f"{package}/")), None)
            if package is None:
                return None
            root, relative = self._modules / package, relative.removeprefix(f"{package}/")
        root = root.resolve()
        try:
            path = (root / relative).resolve()
        except (OSError, ValueError):  # a NUL byte, a loop of links
            return None
        inside = path.is_relative_to(root) and path.is_file() and path.suffix in CONTENT_TYPES
        return path if inside else None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that the page cut is no news; the rest goes to standard error."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    protocol_version = "HTTP/1.1"  # connections are kept, for there is a request per piece of the examples

    def do_GET(self) -> None:
        area, rest = self._address()
        if area in ("page", "modules"):
            path = self.server.served_file(area, rest)
            if path is None:
                self._refuse(HTTPStatus.NOT_FOUND)
            else:
                self._answer(path.read_bytes(), CONTENT_TYPES[path.suffix])
        elif area == "alive":
            self._stay()
        elif area == "next":
            self._next()
        elif area == "model":
            self._answer(self.server.model)
        elif area == "examples":
            number, start, stop = (int(number) for number in rest.split("/"))
            self._answer(np.ascontiguousarray(self.server.examples[number][start:stop]).tobytes())
        else:
            self._refuse(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        area, rest = self._address()
        receive: dict[str, Callable[[bytes, str], None]] = {"outputs": self._keep, "answer": self._receive}
        if area not in receive:
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        length = int(self.headers.get("Content-Length", "-1"))
        if not 0 <= length <= MAX_BODY_BYTES:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return
        receive[area](self.rfile.read(length), rest)
        self._answer(b"")

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: standard error is for what explains a failure."""

    def _address(self) -> tuple[str, str]:
        """The path's area and what follows it; two empty strings without the token."""
        _, token, area, rest = (*unquote(urlsplit(self.path).path).split("/", 3), "", "", "")[:4]
        if not hmac.compare_digest(token.encode(), self.server.token.encode()):
            return "", ""
        return area, rest

    def _keep(self, body: bytes, output: str) -> None:
        self.server.outputs[int(output)].append(body)

    def _receive(self, body: bytes, _: str) -> None:
        (kind, content), = json.loads(body).items()
        self.server.events.put((kind, content))

    def _next(self) -> None:
        try:
            request = self.server.requests.get(timeout=POLL_SECONDS)
        except queue.Empty:
            self.send_response(HTTPStatus.NO_CONTENT)
            self._end_headers()
        else:
            self._answer(json.dumps(request).encode(), "application/json")

    def _stay(self) -> None:
        """Keep the connection until the page's end closes it: a renderer that is killed says nothing else."""
        self.close_connection = True
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/plain")
        self._end_headers()
        with contextlib.suppress(OSError):
            while self.connection.recv(1024):
                pass
        self.server.events.put(("gone", None))

    def _answer(self, body: bytes, content_type: str = "application/octet-stream") -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self._end_headers()
        self.wfile.write(body)

    def _refuse(self, status: HTTPStatus) -> None:
        self.close_connection = True  # a body may be unread
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self._end_headers()

    def _end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
