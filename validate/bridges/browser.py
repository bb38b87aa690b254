"""A bridge to a browser: it answers the runner's requests (validate/runner) with what a page in Chromium computes.

    python -P -m edgeship.validate.bridges.browser [--chromium PATH] [--modules NODE_MODULES_FOLDER]

Runtimes: "onnxruntime-web" (ONNX Runtime Web) and "litert-web" (LiteRT.js), both WebAssembly on the CPU. The page
is `browser_page/`, `browser_server.py` is what it talks to, `browser_keeper.py` starts and ends Chromium.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgeship.core.signals import signal_name
from edgeship.validate.bridges.browser_server import Event, PageServer
from edgeship.validate.runner.protocol import AlteredInTransit, sha256_of
from edgeship.validate.runner.state import device_state
from edgeship.validate.targets.browser_files import (
    MODULES,
    find_chromium,
    find_modules,
    require_chromium,
    require_modules,
)

PIECE_BYTES = 4 * 1024 * 1024  # of images that the page holds at a time
PATIENCE_SECONDS = 2.0  # for Chromium's end to be told, after its page is gone
KEEPER_SECONDS = 10.0  # for the keeper to kill Chromium and remove its profile

MESSAGE_CHARACTERS = 500  # of a library's message: the cause comes early, a trace may follow

NO_PLAN = "a browser does not tell which operations ran as integers"

# What LiteRT.js says of inputs and outputs that it cannot take -> what to do.
_EXPORT = 'export with export.tflite_io = ["int8", "float32"] and run the file with float inputs and outputs'
ADVICE = {
    "Element type": f"LiteRT.js takes float32, int32 and uint8 only: {_EXPORT}",
    "does not match expected ranked tensor type": f"LiteRT.js takes a fixed batch of 1 only: {_EXPORT}",
}

Send = Callable[[dict[str, Any]], None]


class PageError(Exception):
    """The page answered an error; `kind` is its JavaScript name."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class BrowserEnded(Exception):
    """Chromium or its page ended while it was needed."""


class Browser:
    """A Chromium with one page. `close` it: nothing of it is left then, nor if this process is killed.

    Raises from `ask`: PageError, BrowserEnded; SystemExit when `events` has an ("end", None).
    """

    def __init__(self, *, chromium: Path, modules: Path, send: Send, events: queue.SimpleQueue[Event]) -> None:
        self._send, self._events = send, events
        self.server = PageServer(modules, events)
        self._keeper = subprocess.Popen(
            [sys.executable, "-P", "-m", "edgeship.validate.bridges.browser_keeper", str(chromium), self.server.url],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8", errors="replace",
            start_new_session=True,  # so that no signal to this process's group keeps it from its work
        )
        threading.Thread(target=self._hear_keeper, daemon=True).start()

    def ask(self, do: str, **content: Any) -> dict[str, Any]:
        """Have the page do something; its answer. Passes its progress on."""
        self.server.requests.put({"do": do, **content})
        while True:
            kind, answer = self._events.get()
            if kind == "ok" and isinstance(answer, dict):
                return answer
            if kind == "progress":
                self._send({"progress": answer})
            elif kind == "error" and isinstance(answer, dict):
                raise PageError(str(answer.get("type")), str(answer.get("message")))
            elif kind in ("gone", "ended"):
                raise BrowserEnded(self._ending(kind, answer))
            elif kind == "end":
                raise SystemExit(0)
            else:
                raise ValueError(f"expected an answer of the page, found {kind!r}")

    def close(self) -> None:
        """End Chromium and wait until its processes and its profile are gone. The server ends with this process."""
        assert self._keeper.stdin is not None
        with contextlib.suppress(OSError):
            self._keeper.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._keeper.wait(KEEPER_SECONDS)

    def _hear_keeper(self) -> None:
        assert self._keeper.stdout is not None
        self._events.put(("ended", self._keeper.stdout.readline()))

    def _ending(self, kind: str, answer: Any) -> str:
        """Why the page is gone: with all of Chromium, or alone."""
        while kind != "ended":
            try:
                kind, answer = self._events.get(timeout=PATIENCE_SECONDS)
            except queue.Empty:
                return "the page's process crashed or was killed, perhaps for memory; Chromium itself still runs"
        try:
            told = json.loads(answer)
            code, last_words = told["code"], told["last_words"]
        except (ValueError, KeyError, TypeError):
            return "Chromium's keeper was killed; end what is left of Chromium by hand"
        return f"Chromium {_how(code)}" + (f"; its last words: {last_words}" if last_words else "")


class Session:
    """The loaded model and the requests it answers; each `do_*` returns a JSON object, as the runner's do."""

    def __init__(
        self, send: Send, events: queue.SimpleQueue[Event], *, chromium: Path | None, modules: Path | None
    ) -> None:
        self._send, self._events = send, events
        self._chromium, self._modules = chromium, modules
        self._browser: Browser | None = None
        self._inputs: list[dict[str, Any]] = []
        self._outputs: list[dict[str, Any]] = []

    def do_load(
        self, *, runtime: str, path: str, options: dict[str, Any], sha256: str | None = None
    ) -> dict[str, Any]:
        """Open the file in a new browser. The page's clock of `load_ms` starts with the library and file there."""
        if runtime not in MODULES:
            raise ValueError(f"expected a runtime of {', '.join(MODULES)}; found {runtime!r}")
        model = Path(path).read_bytes()
        _check_arrival(path, hashlib.sha256(model).hexdigest(), sha256)
        chromium = require_chromium(self._chromium)
        modules, versions = require_modules(self._modules, runtime)
        self._browser = Browser(chromium=chromium, modules=modules, send=self._send, events=self._events)
        self._browser.server.model = model
        answer = self._browser.ask("load", runtime=runtime, threads=options["threads"])
        unknown = {"scale": None, "zero_point": None}  # neither library tells; the manifest does
        self._inputs = [{**item, **unknown} for item in answer["inputs"]]
        self._outputs = [{**item, **unknown} for item in answer["outputs"]]
        return {
            "load_ms": answer["load_ms"], "inputs": self._inputs, "outputs": self._outputs,
            "versions": {**versions, "chromium": answer["chromium"]}, "facts": answer["facts"],
        }

    def do_import(self, *, runtime: str) -> dict[str, Any]:
        """Nothing: the page imports the library when it loads the file."""
        return {}

    def do_run(self, *, inputs: str, outputs: str, sha256: str | None = None) -> dict[str, Any]:
        """Run all images of an .npy file, write all outputs to another; answer that one's hash."""
        if sha256 is not None:
            _check_arrival(inputs, sha256_of(inputs), sha256)
        images, shape = self._read(inputs)
        browser = self._loaded()
        browser.server.images, browser.server.outputs = images, []
        piece = max(1, PIECE_BYTES // max(1, images[:1].nbytes))
        browser.ask("run", images=len(images), piece=piece, shape=shape)
        content = b"".join(browser.server.outputs)
        sizes = self._outputs[0]["shape"][1:]
        np.save(
            outputs, np.frombuffer(content, self._outputs[0]["dtype"]).reshape(len(images), *sizes),
            allow_pickle=False,
        )
        return {"sha256": sha256_of(outputs)}

    def do_time(self, *, inputs: str, runs: int, seconds: float, discarded: int) -> dict[str, Any]:
        """Time up to `runs` inferences of the file's first image, after `discarded` untimed ones."""
        images, shape = self._read(inputs)
        browser = self._loaded()
        browser.server.images = images[:1]
        return browser.ask("time", runs=runs, seconds=seconds, discarded=discarded, shape=shape)

    def do_plan(self) -> dict[str, Any]:
        """Nothing, and why."""
        return {"plan": None, "notes": [NO_PLAN]}

    def do_memory(self) -> dict[str, Any]:
        """Nothing honest: Chromium's processes share memory, and hold a browser and a compiler beside the model."""
        return {"peak_memory_bytes": None}

    def do_state(self) -> dict[str, Any]:
        """This machine's temperature, clock and load: the browser runs on it."""
        return device_state()

    def close(self) -> None:
        """End the browser, if there is one."""
        if self._browser is not None:
            self._browser.close()

    def _loaded(self) -> Browser:
        if self._browser is None:
            raise ValueError("no file is loaded")
        return self._browser

    def _read(self, path: str) -> tuple[np.ndarray, list[int]]:
        """The images, and the shape of one of them with its batch of 1. Raw bytes must fit: nobody else looks."""
        self._loaded()
        images: np.ndarray = np.load(path, allow_pickle=False, mmap_mode="r")
        item = self._inputs[0]
        wanted = [size if isinstance(size, int) and size >= 0 else None for size in item["shape"][1:]]
        fits = len(images.shape) == len(wanted) + 1 and all(
            size is None or size == found for size, found in zip(wanted, images.shape[1:], strict=True)
        )
        if not fits or images.dtype != np.dtype(item["dtype"]) or len(images) == 0:
            raise ValueError(
                f"{Path(path).name}: expected images of {item['dtype']} with shape (n, {str(wanted)[1:-1]}), found "
                f"{images.dtype} with shape {images.shape}"
            )
        return images, [1, *images.shape[1:]]


def serve(session: Session, requests: queue.SimpleQueue[bytes | None], send: Send) -> None:
    """Answer requests until there are none (None)."""
    while (line := requests.get()) is not None:
        request = json.loads(line)
        try:
            answer = getattr(session, f"do_{request.pop('do')}")(**request)
        except Exception as error:
            kind = error.kind if isinstance(error, PageError) else type(error).__name__
            send({"error": {"type": kind, "message": _one_line(str(error))}})
            raise
        send({"ok": answer})


def main() -> None:
    """Serve standard input and output; end when the input closes, at once even while the page works."""
    parser = argparse.ArgumentParser(prog="python -P -m edgeship.validate.bridges.browser", description=__doc__)
    parser.add_argument("--chromium", type=Path, default=find_chromium(), help="the browser's program")
    parser.add_argument("--modules", type=Path, default=find_modules(), help="the node_modules folder")
    arguments = parser.parse_args()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # nothing else may write between the answers
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def send(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    def read() -> None:
        # Unbuffered: a thread that waits inside a buffered reader holds a lock that Python's end needs.
        with open(0, "rb", buffering=0, closefd=False) as lines:
            for line in lines:
                requests.put(line)
        requests.put(None)
        events.put(("end", None))

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    threading.Thread(target=read, daemon=True).start()
    session = Session(send, events, chromium=arguments.chromium, modules=arguments.modules)
    try:
        serve(session, requests, send)
    finally:
        session.close()


def _check_arrival(path: str, found: str, expected: str | None) -> None:
    if expected is not None and found != expected:
        raise AlteredInTransit(f"{Path(path).name}: arrived altered: expected SHA-256 {expected}, found {found}")


def _one_line(message: str) -> str:
    """The message with what to do, where that is known. LiteRT.js says on the second line what the first is about."""
    line = " ".join(message.split())[:MESSAGE_CHARACTERS]
    advice = next((advice for sign, advice in ADVICE.items() if sign in line), None)
    return line if advice is None else f"{line.rstrip('.')}; {advice}"


def _how(exit_code: int | None) -> str:
    """What an exit code says; None: there was no process."""
    if exit_code is None:
        return "could not run"
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    return f"was killed ({signal_name(-exit_code)})"


if __name__ == "__main__":
    main()
