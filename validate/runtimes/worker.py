"""The child process: `python -P -m validate.runtimes.worker`. One model, one request at a time.

A request is one line of JSON on standard input, `{"do": "load" | "run" | "time" | ..., ...}`. Each answer is
one line on standard output: `{"ok": {...}}`, `{"progress": images_done}`, or `{"error": {"type",
"message"}}`, after which the process ends: a runtime that failed once is not asked again. Arrays travel as
.npy files.
"""

from __future__ import annotations

import dataclasses
import gc
import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from validate.runtimes.memory import peak_memory_bytes
from validate.runtimes.table import PROBES, RUNTIMES

PROGRESS_EVERY_SECONDS = 1.0


class Session:
    """The loaded model and the requests it answers; each `do_*` returns a JSON object."""

    def __init__(self, send: Callable[[dict[str, Any]], None]) -> None:
        self._send = send
        self._runtime: Any = None
        self._first_ms: float | None = None

    def do_load(self, *, runtime: str, path: str, options: dict[str, Any]) -> dict[str, Any]:
        """Open the file. The clock of `load_ms` starts after the library has been imported."""
        opener = PROBES[runtime] if runtime in PROBES else RUNTIMES[runtime].opener
        module, function = opener.split(":")
        open_file = getattr(importlib.import_module(module), function)
        start_ns = time.perf_counter_ns()
        self._runtime = open_file(path, **options)
        load_ms = (time.perf_counter_ns() - start_ns) / 1e6
        return {"load_ms": load_ms, "inputs": self._runtime.inputs, "outputs": self._runtime.outputs}

    def do_run(self, *, inputs: str, outputs: str) -> dict[str, Any]:
        """Run all images of an .npy file, write all outputs to another."""
        images = np.load(inputs, allow_pickle=False, mmap_mode="r")
        batch, answers = self._runtime.batch, []
        told_s = time.monotonic()
        for start in range(0, len(images), batch):
            answers.append(self._runtime.infer(np.ascontiguousarray(images[start : start + batch])))
            if time.monotonic() - told_s >= PROGRESS_EVERY_SECONDS:
                told_s = time.monotonic()
                self._send({"progress": start + batch})
        np.save(outputs, np.concatenate(answers), allow_pickle=False)
        return {}

    def do_time(self, *, inputs: str, runs: int, seconds: float, discarded: int) -> dict[str, Any]:
        """Time up to `runs` inferences of the file's first image, after `discarded` untimed ones."""
        image = np.load(inputs, allow_pickle=False)[:1]
        infer = self._runtime.infer
        if self._first_ms is None:
            start_ns = time.perf_counter_ns()
            infer(image)
            self._first_ms = (time.perf_counter_ns() - start_ns) / 1e6
            discarded -= 1
        for _ in range(discarded):
            infer(image)
        gc.disable()  # a collection of Python's is none of the runtime's time
        samples_ns: list[int] = []
        end_ns = time.perf_counter_ns() + int(seconds * 1e9)
        while len(samples_ns) < runs:
            start_ns = time.perf_counter_ns()
            infer(image)
            stop_ns = time.perf_counter_ns()
            samples_ns.append(stop_ns - start_ns)
            if stop_ns >= end_ns:
                break
        gc.enable()
        return {"samples_ns": samples_ns, "first_ms": self._first_ms}

    def do_coverage(self) -> dict[str, Any]:
        """What the runtime really executes."""
        coverage, notes = self._runtime.coverage()
        return {"coverage": dataclasses.asdict(coverage), "notes": notes}

    def do_memory(self) -> dict[str, Any]:
        """The most memory this process has held."""
        return {"peak_memory_bytes": peak_memory_bytes()}

    def do_tensors(self, *, inputs: str, outputs: str) -> dict[str, Any]:
        """Write every integer tensor of every image: (images, ...) arrays `0`, `1` ... of an .npz."""
        images = np.load(inputs, allow_pickle=False)
        kept = [self._runtime.tensors(image[None]) for image in images]
        names = list(kept[0])
        # One list of names beside the arrays, since tensor names are no safe file names inside an archive.
        arrays = {str(index): np.stack([item[name] for item in kept]) for index, name in enumerate(names)}
        np.savez(outputs, **arrays)  # type: ignore[arg-type]
        return {"names": names}

    def do_layers(self, *, tensors: str, names: list[str]) -> dict[str, Any]:
        """Run each layer of an .onnx file on the integers that another runtime gave it."""
        with np.load(tensors, allow_pickle=False) as arrays:
            known = {name: arrays[str(index)] for index, name in enumerate(names)}
        answer: dict[str, Any] = self._runtime.compare(
            known, progress=lambda done: self._send({"progress": done})
        )
        return answer


def serve(requests: TextIO, answers: TextIO) -> None:
    """Answer requests until there are none."""

    def send(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    session = Session(send)
    for line in requests:
        request = json.loads(line)
        try:
            answer = getattr(session, f"do_{request.pop('do')}")(**request)
        except BaseException as error:
            first_line = str(error).strip().split("\n", 1)[0]
            send({"error": {"type": type(error).__name__, "message": first_line}})
            raise  # the whole traceback goes to standard error, and the process ends
        send({"ok": answer})


def main() -> None:
    """Keep the two pipes for the protocol: native runtimes print wherever they like."""
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    serve(requests, answers)


if __name__ == "__main__":
    main()
