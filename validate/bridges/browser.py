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
import math
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
from edgeship.validate.bridges.signature import places_in_file
from edgeship.validate.runner.examples import fits, read_examples, select, write_examples
from edgeship.validate.runner.protocol import AlteredInTransit, sha256_of
from edgeship.validate.runner.state import device_state
from edgeship.validate.targets.browser_files import (
    MODULES,
    find_chromium,
    find_modules,
    require_chromium,
    require_modules,
)

PIECE_BYTES = 4 * 1024 * 1024  # of examples, and of outputs, that the page holds at a time
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
        # The library's first, second ... input and output -> its place in the file.
        self._input_places: list[int] = []
        self._output_places: list[int] = []

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
        names = {end: [item["name"] for item in answer[end]] for end in ("inputs", "outputs")}
        self._input_places, self._output_places = (
            places_in_file(model, **names) if runtime == "litert-web"
            else (list(range(len(names["inputs"]))), list(range(len(names["outputs"]))))
        )
        self._inputs = _in_file_order(answer["inputs"], self._input_places)
        self._outputs = _in_file_order(answer["outputs"], self._output_places)
        return {
            "load_ms": answer["load_ms"], "inputs": self._inputs, "outputs": self._outputs,
            "versions": {**versions, "chromium": answer["chromium"]}, "facts": answer["facts"],
        }

    def do_import(self, *, runtime: str) -> dict[str, Any]:
        """Nothing: the page imports the library when it loads the file."""
        return {}

    def do_run(
        self, *, inputs: list[str], outputs: list[str], sha256: list[str] | None = None
    ) -> dict[str, Any]:
        """Run all examples of the .npy files, one file per input; write one file per output and answer their hashes."""
        for path, digest in zip(inputs, sha256 or (), strict=sha256 is not None):
            _check_arrival(path, sha256_of(path), digest)
        arrays, shapes = self._read(inputs)
        browser, count = self._loaded(), len(arrays[0])
        browser.server.examples, browser.server.outputs = arrays, [[] for _ in self._outputs]
        fed, given = sum(array[:1].nbytes for array in arrays), sum(map(_bytes_of, self._outputs))
        answer = browser.ask("run", count=count, piece=max(1, PIECE_BYTES // max(1, fed, given)), shapes=shapes)
        found = [b"".join(pieces) for pieces in browser.server.outputs]
        joined = [
            _examples(found[number], self._outputs[place], answer["shapes"][number], count)
            for place, number in sorted((place, number) for number, place in enumerate(self._output_places))
        ]
        return {"sha256": write_examples(outputs, joined)}

    def do_time(self, *, inputs: list[str], runs: int, seconds: float, discarded: int) -> dict[str, Any]:
        """Time up to `runs` inferences of the files' first example, after `discarded` untimed ones."""
        arrays, shapes = self._read(inputs)
        browser = self._loaded()
        browser.server.examples = [array[:1] for array in arrays]
        return browser.ask("time", runs=runs, seconds=seconds, discarded=discarded, shapes=shapes)

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

    def _read(self, paths: list[str]) -> tuple[list[np.ndarray], list[list[int]]]:
        """Return the arrays in the library's order, and the shapes of one example as the model takes it.

        Raw bytes must fit: nobody else looks.
        """
        self._loaded()
        arrays = read_examples(paths, self._inputs)
        shapes = [list(values.shape) for values in select(arrays, self._inputs)]
        for path, array, shape, item in zip(paths, arrays, shapes, self._inputs, strict=True):
            if not fits(shape, item["shape"]) or array.dtype != np.dtype(item["dtype"]):
                raise ValueError(
                    f"{Path(path).name}: expected examples of {item['dtype']} for an input of shape "
                    f"{_described(item['shape'])}, found {array.dtype} with shape {array.shape}"
                )
        return [arrays[place] for place in self._input_places], [shapes[place] for place in self._input_places]


def _in_file_order(items: list[dict[str, Any]], places: list[int]) -> list[dict[str, Any]]:
    """Return the library's specifications in the file's order, as the runner gives them."""
    unknown = {"scale": None, "zero_point": None}  # neither library tells; the manifest does
    return [{**items[places.index(place)], **unknown} for place in range(len(items))]


def _bytes_of(item: dict[str, Any]) -> int:
    """Return how many bytes one example of an output has; open sizes count as 1."""
    sizes = [size for size in item["shape"] if isinstance(size, int) and size > 0]
    return math.prod(sizes) * int(np.dtype(item["dtype"]).itemsize)


def _examples(content: bytes, item: dict[str, Any], shape: list[int], count: int) -> np.ndarray:
    """Return an output's raw bytes as an array of `count` examples. Raises ValueError where their shapes differ."""
    values = np.frombuffer(content, item["dtype"])
    one = shape[1:] if shape[:1] == [1] else shape
    if values.size != count * math.prod(one):
        raise ValueError(
            f"output {item['name']}: expected {count} times the shape {shape}, found {values.size} numbers; export the "
            "model with outputs of a fixed size"
        )
    return values.reshape(count, *one)


def _described(shape: list[Any]) -> str:
    return f"({', '.join(str(size) if isinstance(size, int) and size > 0 else 'any' for size in shape)})"


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
